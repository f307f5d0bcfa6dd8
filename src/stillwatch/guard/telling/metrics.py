"""Counters of the gateway, written as Prometheus text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

_HELP: Final = {
    "stillwatch_requests_total": "Questions by what the wall did and the status sent.",
    "stillwatch_would_have_total": "In observe mode: what enforce mode had done.",
    "stillwatch_passed_through_total": "Requests on routes that are passed without reading.",
    "stillwatch_auth_failures_total": "Requests without a known key.",
    "stillwatch_admin_refused_total": "Calls of the admin from elsewhere or by another name.",
    "stillwatch_upstream_failures_total": "Questions that the model server failed, by code.",
    "stillwatch_client_gone_total": "Clients that left before their answer ended.",
    "stillwatch_recorded_total": "Exchanges written to the journal.",
    "stillwatch_record_bodies_dropped_total": "Exchanges recorded without texts, for want of room.",
    "stillwatch_record_rows_dropped_total": "Exchanges not recorded, for want of room in memory.",
    "stillwatch_record_late_total": "Ends of answers that did not wait for the record any longer.",
    "stillwatch_record_failures_total": "Exchanges that could not be recorded.",
    "stillwatch_marks_unconfirmed_total": "Answers that should carry a mark and do not say so.",
    "stillwatch_canaries_unconfirmed_total": "The same of answers that should carry canaries.",
    "stillwatch_challenge_tokens_total": "Tokens of verified accounts by what came of them.",
    "stillwatch_output_tokens_total": "Tokens answered, as the model server counted them.",
    "stillwatch_policy_decided_total": "Questions that a rule of the policy decided, by rule.",
    "stillwatch_policy_would_have_total": "What shadow rules had changed, by rule.",
    "stillwatch_policy_reloads_total": "Changes of the policy's files by result.",
    "stillwatch_policy_errors_total": "Questions that the policy could not judge.",
    "stillwatch_unread_total": "Questions whose body could not be read.",
    "stillwatch_stored_refused_total": "Uses of others' stored answers, by fault.",
    "stillwatch_owner_failures_total": "Times that the owners of stored answers could not be kept.",
    "stillwatch_refused_at_door_total": "Requests refused before they were read, by reason.",
    "stillwatch_reloads_total": "Reloads of the configuration by result.",
    "stillwatch_shared_failures_total": "Times that Redis was away or slow, by what was asked.",
    "stillwatch_out_of_reach_total": "Actions that the place of decision cannot do, by action.",
    "stillwatch_batch_requests_total": "Requests about files and batches, by what was done.",
    "stillwatch_batch_rows_total": "Rows of batches that were asked for, by what was done.",
    "stillwatch_batch_rows_unread_total": "Rows of results that were too long to be read.",
    "stillwatch_batch_results_unread_total": "Downloads whose results could not be read.",
    "stillwatch_batch_copies_failed_total": "Inputs of batches that could not be kept, by reason.",
    "stillwatch_batch_inputs_fetched_total": "Inputs read again from the model server.",
    "stillwatch_batch_failures_total": "Requests about files and batches that failed here.",
    "stillwatch_telemetry_failures_total": "Sendings that the telemetry collector did not take.",
    "stillwatch_telemetry_dropped_total": "Spans that were not sent.",
    "stillwatch_learnings_total": "Learner runs by result.",
}


class Metrics:
    """Counts by name and labels; one event loop, so no lock."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()

    def count(self, name: str, amount: int = 1, /, **labels: str) -> None:
        """Add to a counter.

        Args:
            name: without the prefix `stillwatch_` and the suffix `_total`.
            amount: how much.
            **labels: label values; few different ones, never account ids.
        """
        key = (f"stillwatch_{name}_total", tuple(sorted(labels.items())))
        self._counts[key] += amount

    def value(self, name: str, **labels: str) -> float:
        """Read one counter.

        Args:
            name: as for `count`.
            **labels: all its labels.

        Returns:
            The count, 0 when it never moved.
        """
        return self._counts[f"stillwatch_{name}_total", tuple(sorted(labels.items()))]

    def counts(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], int]:
        """Give every counter.

        Returns:
            (full name, labels) -> count.
        """
        return dict(self._counts)

    def text(self, gauges: Mapping[str, float]) -> str:
        """Write everything in Prometheus' text format 0.0.4.

        Args:
            gauges: further values of the moment, by full name.

        Returns:
            The text.
        """
        lines: list[str] = []
        for name, what in _HELP.items():
            lines += [f"# HELP {name} {what}", f"# TYPE {name} counter"]
            found = sorted((k[1], v) for k, v in self._counts.items() if k[0] == name)
            lines += [f"{name}{_labels(labels)} {value}" for labels, value in found or [((), 0)]]
        for name, value in sorted(gauges.items()):
            lines += [f"# TYPE {name} gauge", f"{name} {value!r}"]
        return "\n".join(lines) + "\n"


def _labels(labels: tuple[tuple[str, str], ...]) -> str:
    if not labels:
        return ""
    escaped = (
        (name, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n"))
        for name, value in labels
    )
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"
