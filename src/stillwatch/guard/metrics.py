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
    "stillwatch_upstream_failures_total": "Questions that the model server failed, by code.",
    "stillwatch_client_gone_total": "Clients that left before their answer ended.",
    "stillwatch_recorded_total": "Exchanges made durable in the journal.",
    "stillwatch_record_failures_total": "Exchanges that could not be recorded.",
    "stillwatch_marks_unconfirmed_total": "Answers that should carry a mark and do not say so.",
    "stillwatch_output_tokens_total": "Tokens answered, as the model server counted them.",
    "stillwatch_policy_decided_total": "Questions that a rule of the policy decided, by rule.",
    "stillwatch_policy_would_have_total": "What shadow rules had changed, by rule.",
    "stillwatch_policy_reloads_total": "Changes of the policy's files by result.",
    "stillwatch_policy_errors_total": "Questions that the policy could not judge.",
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
