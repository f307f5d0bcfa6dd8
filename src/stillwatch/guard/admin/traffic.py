"""What passed the gateway of late: for the admin's pages, the histograms and the spans.

A question costs one tuple; it is folded in batches, when somebody looks or a batch is full. The
record is the truth and lasts; this is a window that a restart empties.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np

from stillwatch.guard.connections.relay import Relayed
from stillwatch.guard.recording.recorder import Asked
from stillwatch.model.protocol import Reply

_BATCH: Final = 256
_RECENT: Final = 300
_MINUTES: Final = 1_440  # a day
_MOST_MODELS: Final = 8
_MOST_ACCOUNTS: Final = 5_000  # a generation; two are kept

#: Upper bounds in seconds, from what a decision costs to what a long answer takes.
_BOUNDS: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0, 60.0, 300.0,
)  # fmt: skip


class Extra(NamedTuple):
    """What a sampled exchange's span says besides.

    Attributes:
        wire: that it came on.
        model_returned: the model that the answer names.
        input_tokens: of the question (count), or None.
        finish_reasons: of the answers.
        traceparent: the client's own trace, or None.
        parameters: sampling parameters, by the wire's names.
    """

    wire: str
    model_returned: str
    input_tokens: int | None
    finish_reasons: tuple[str, ...]
    traceparent: bytes | None
    parameters: Mapping[str, Any]


class Passed(NamedTuple):
    """One exchange, without a word of it.

    Attributes:
        at: when the question came (UTC epoch seconds).
        exchange_id: names it in the record.
        account: who asked.
        model: asked for; "" when the body could not be read.
        action: what was done.
        would_have: what enforce mode had done, or None.
        campaign_id: why, or None.
        reason: why, in words.
        rule: the policy's rule that decided, or None.
        status: HTTP status sent.
        error: short code of a failure, or None.
        streamed: the answer came as events.
        output_tokens: given out (count).
        own_s: the gateway's own time (seconds), or None when not measured.
        upstream_s: the model server's time to its last byte, or None.
        first_s: time to the first byte of an answer, or None.
        whole_s: time to its last byte, or None.
        more: for its span, or None when it gets none.
    """

    at: float
    exchange_id: str
    account: str
    model: str
    action: str
    would_have: str | None
    campaign_id: str | None
    reason: str
    rule: str | None
    status: int
    error: str | None
    streamed: bool
    output_tokens: int
    own_s: float | None
    upstream_s: float | None
    first_s: float | None
    whole_s: float | None
    more: Extra | None = None


@dataclass
class Histogram:
    """Counts of durations by size.

    Attributes:
        help: one line for whoever reads the metrics.
        counts: by bound, the last one above all bounds.
        sum_s: of all (seconds).
    """

    help: str
    counts: list[int] = field(default_factory=lambda: [0] * (len(_BOUNDS) + 1))
    sum_s: float = 0.0

    def add(self, durations: Sequence[float]) -> None:
        """Count durations.

        Args:
            durations: seconds, any number.
        """
        if not durations:
            return
        found = np.bincount(
            np.searchsorted(_BOUNDS, durations, side="left"), minlength=len(self.counts)
        )
        self.counts = [count + int(more) for count, more in zip(self.counts, found, strict=True)]
        self.sum_s += float(np.sum(durations))

    def cumulated(self) -> Iterator[tuple[float, int]]:
        """Give the count of durations up to each bound.

        Yields:
            (bound in seconds, count); the last bound is infinite.
        """
        total = 0
        for bound, count in zip((*_BOUNDS, float("inf")), self.counts, strict=True):
            total += count
            yield bound, total

    def quantile(self, share: float) -> float | None:
        """Estimate a quantile by the bound that it lies under.

        Args:
            share: 0..1.

        Returns:
            Seconds, at most the true value's bound; None without durations.
        """
        total = sum(self.counts)
        if not total:
            return None
        return next(bound for bound, n in self.cumulated() if n >= share * total)


@dataclass(slots=True)
class Seen:
    """What one account did since it was first seen here.

    Attributes:
        questions: (count).
        refused: by the wall (count).
        would_have: questions that enforce mode had touched (count).
        output_tokens: given out to it (count).
        first_at: UTC epoch seconds.
        last_at: UTC epoch seconds.
        models: how often it asked for each, the first eight.
    """

    questions: int = 0
    refused: int = 0
    would_have: int = 0
    output_tokens: int = 0
    first_at: float = 0.0
    last_at: float = 0.0
    models: dict[str, int] = field(default_factory=dict)


class Traffic:
    """The window.

    Attributes:
        histograms: by metric name without the prefix.
        on_batch: told every batch as it is folded, for telemetry; or None.
        describe: chooses the exchanges that get a span, for telemetry; or None.
    """

    bounds = _BOUNDS

    def __init__(self) -> None:
        self._new: list[tuple[Any, ...]] = []
        self._recent: deque[Passed] = deque(maxlen=_RECENT)
        self._minutes: dict[int, Counter[str]] = {}
        self._accounts: dict[str, Seen] = {}
        self._before: dict[str, Seen] = {}
        self.histograms = {
            "added_seconds": Histogram("The gateway's own time: deciding, and handing on."),
            "upstream_seconds": Histogram("The model server's time to its last byte."),
            "first_byte_seconds": Histogram("Time to the first byte of an answer."),
            "answer_seconds": Histogram("Time to the last byte of an answer."),
        }
        self.on_batch: Callable[[Sequence[Passed]], None] | None = None
        self.describe: Callable[[Asked, Relayed, Reply], Extra | None] | None = None

    def note(self, asked: Asked, relayed: Relayed, reply: Reply) -> None:
        """Take note of one exchange.

        Args:
            asked: the question and its decision.
            relayed: what came of it.
            reply: as read.
        """
        decision, question = asked.decision, asked.question
        went = relayed.whole_s > 0.0
        upstream_s = relayed.upstream_s or relayed.whole_s
        self._new.append((
            asked.started_at, asked.exchange_id, asked.principal.account,
            question.model if question is not None else "",
            decision.action, decision.would_have, decision.campaign_id, decision.reason,
            asked.tags.get("rule"), relayed.status, relayed.error, relayed.is_streamed,
            reply.output_tokens or 0,
            asked.decision_s + relayed.whole_s - upstream_s if asked.decision_s else None,
            upstream_s if went else None,
            relayed.first_s if went and relayed.first_s else None,
            relayed.whole_s if went else None,
            self.describe(asked, relayed, reply) if self.describe is not None else None,
        ))  # fmt: skip
        if len(self._new) >= _BATCH:
            self.fold()

    def fold(self) -> None:
        """Take everything noted into the window."""
        if not self._new:
            return
        rows, self._new = [Passed(*row) for row in self._new], []
        self._recent.extend(rows)
        for row in rows:
            self._count(row)
        for name, durations in (
            ("added_seconds", [r.own_s for r in rows if r.own_s is not None]),
            ("upstream_seconds", [r.upstream_s for r in rows if r.upstream_s is not None]),
            ("first_byte_seconds", [r.first_s for r in rows if r.first_s is not None]),
            ("answer_seconds", [r.whole_s for r in rows if r.whole_s is not None]),
        ):
            self.histograms[name].add(durations)
        if self.on_batch is not None:
            self.on_batch(rows)

    def _count(self, row: Passed) -> None:
        minute = int(row.at // 60)
        counts = self._minutes.get(minute)
        if counts is None:
            counts = self._minutes[minute] = Counter()
            if len(self._minutes) > _MINUTES:
                del self._minutes[min(self._minutes)]
        counts[row.action] += 1
        counts["questions"] += 1
        counts["output_tokens"] += row.output_tokens
        if row.would_have is not None:
            counts[f"would {row.would_have}"] += 1
        if row.status >= 500 or row.status == 0:
            counts["failed"] += 1
        self._count_account(row)

    def _count_account(self, row: Passed) -> None:
        seen = self._accounts.get(row.account)
        if seen is None:
            if len(self._accounts) >= _MOST_ACCOUNTS:
                # Who is still asking moves over; who is not is forgotten after two turns.
                self._before, self._accounts = self._accounts, {}
            seen = self._before.pop(row.account, None) or Seen(first_at=row.at)
            self._accounts[row.account] = seen
        seen.questions += 1
        seen.refused += row.action in REFUSALS
        seen.would_have += row.would_have is not None
        seen.output_tokens += row.output_tokens
        seen.last_at = row.at
        models = seen.models
        if row.model in models or len(models) < _MOST_MODELS:
            models[row.model] = models.get(row.model, 0) + 1

    def recent(self) -> list[Passed]:
        """List the latest exchanges.

        Returns:
            Newest first, at most 300.
        """
        self.fold()
        return list(reversed(self._recent))

    def accounts(self) -> dict[str, Seen]:
        """List the accounts that asked of late.

        Returns:
            account -> what it did since it was first seen here; at most 10,000.
        """
        self.fold()
        return {**self._before, **self._accounts}

    def minutes(self, now: float, *, span_s: float) -> list[tuple[float, Counter[str]]]:
        """List the minutes of a span that had questions.

        Args:
            now: UTC epoch seconds, the span's end.
            span_s: its length (seconds).

        Returns:
            (beginning of the minute, counts), oldest first.
        """
        self.fold()
        after = (now - span_s) / 60
        return [(60.0 * m, counts) for m, counts in sorted(self._minutes.items()) if m > after]

    def totals(self, now: float, *, span_s: float) -> Counter[str]:
        """Count a span.

        Args:
            now: UTC epoch seconds, the span's end.
            span_s: its length (seconds).

        Returns:
            questions, each action, `would ACTION`, failed, output_tokens.
        """
        total: Counter[str] = Counter()
        for _, counts in self.minutes(now, span_s=span_s):
            total.update(counts)
        return total

    def text(self) -> str:
        """Write the histograms in Prometheus' text format.

        Returns:
            The text.
        """
        self.fold()
        lines: list[str] = []
        for short, histogram in self.histograms.items():
            name = f"stillwatch_{short}"
            lines += [f"# HELP {name} {histogram.help}", f"# TYPE {name} histogram"]
            total = 0
            for bound, total in histogram.cumulated():
                mark = "+Inf" if bound == float("inf") else repr(bound)
                lines.append(f'{name}_bucket{{le="{mark}"}} {total}')
            lines += [f"{name}_sum {histogram.sum_s!r}", f"{name}_count {total}"]
        return "\n".join(lines) + "\n"


#: Actions that leave a question without an answer.
REFUSALS: Final = frozenset({"throttle", "challenge", "block"})
