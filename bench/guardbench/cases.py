"""What is measured: all subjects take turns, so that a busy minute strikes them alike."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from guardbench.load import Kind, Sample, Stream, closed, opened
from guardbench.mock import N_EVENTS, SLOW_MODEL
from guardbench.process import await_rest, family_cpu_s
from guardbench.subjects import Subject

WHOLE = Kind()
LONG = Kind(n_bytes=100_000)
LARGE = Kind(n_bytes=1_000_000)
HUGE = Kind(n_bytes=8_000_000)
STREAMED = Kind(streamed=True)
_AT_ONCE = 16
BOUNDS_MS = (1.0, 5.0, 10.0, 50.0, 100.0)


@dataclass(frozen=True)
class Effort:
    """How long measuring may take.

    Attributes:
        n: questions of a CPU case for the fastest subject (count).
        repeats: of everything (count); medians are told.
        span_s: seconds of each open load.
    """

    n: int = 3000
    repeats: int = 5
    span_s: float = 5.0

    def n_for(self, subject: Subject, kind: Kind) -> int:
        """Ask a slow subject less, a stream or a long question too."""
        n = self.n // (10 if kind.streamed else 3 if kind.n_bytes > 10_000 else 1)
        return max(n // (8 if subject.name == "LiteLLM" else 1), 3 * _AT_ONCE)


def cpu_us(subjects: Sequence[Subject], kind: Kind, effort: Effort) -> dict[str, list[float]]:
    """Measure the processor time that subjects spend on a question.

    Args:
        subjects: with a process.
        kind: of question.
        effort: how long.

    Returns:
        Microseconds by subject, one a repeat.
    """
    found: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    for subject in subjects:
        assert subject.pid is not None
        closed(subject.target, kind, n=4 * _AT_ONCE, at_once=_AT_ONCE)
        await_rest(subject.pid)
    for _ in range(effort.repeats):
        for subject in subjects:
            assert subject.pid is not None
            before = family_cpu_s(subject.pid)
            n = effort.n_for(subject, kind)
            sample = closed(subject.target, kind, n=n, at_once=_AT_ONCE)
            assert not sample.n_failed, f"{subject.name}: {sample.n_failed} failed"
            used_s = family_cpu_s(subject.pid) - before
            found[subject.name].append(1e6 * used_s / len(sample.whole_s))
    return found


def a_frame_us(streamed_us: float) -> float:
    """Divide the cost of a stream by its events, head and record included.

    Args:
        streamed_us: microseconds of a whole stream.

    Returns:
        Microseconds an event.
    """
    return streamed_us / N_EVENTS


@dataclass(frozen=True)
class Added:
    """Milliseconds that a subject adds, medians over repeats.

    Attributes:
        p50: to the median answer.
        p99: to the slowest hundredth.
        n_failed: answers that were none (count).
        lateness_p99: how late the sender itself was.
    """

    p50: float
    p99: float
    n_failed: int
    lateness_p99: float


def added_ms(
    subject: Subject, direct: Subject, kind: Kind, *, rate_hz: float, effort: Effort
) -> Added:
    """Measure what a subject adds to the time to the last byte, or of a stream to the first.

    Args:
        subject: who.
        direct: the model server itself.
        kind: of question.
        rate_hz: questions a second (open load).
        effort: how long.

    Returns:
        The differences of the quantiles, of interleaved runs with the same moments.
    """
    p50, p99, late, n_failed = [], [], [], 0
    for repeat in range(effort.repeats):
        with_it, without = (
            opened(one.target, [Stream(kind, rate_hz)], span_s=effort.span_s, seed=repeat)
            for one in (subject, direct)
        )
        first = kind.streamed
        p50.append(with_it.quantile_ms(0.5, first=first) - without.quantile_ms(0.5, first=first))
        p99.append(with_it.quantile_ms(0.99, first=first) - without.quantile_ms(0.99, first=first))
        late.append(_late_ms(with_it))
        n_failed += with_it.n_failed
    middle = statistics.median
    return Added(middle(p50), middle(p99), n_failed, middle(late))


def blocked_ms(subject: Subject, company: Stream | None, effort: Effort) -> tuple[float, float]:
    """Measure small questions beside others.

    Args:
        subject: who.
        company: what disturbs, or None.
        effort: how long.

    Returns:
        Median and 99th percentile of the small ones (ms), medians over repeats.
    """
    streams = [Stream(WHOLE, 200.0), *([company] if company else [])]
    samples = [
        opened(subject.target, streams, span_s=effort.span_s, seed=repeat)
        for repeat in range(effort.repeats)
    ]
    p50 = statistics.median(sample.quantile_ms(0.5) for sample in samples)
    return p50, statistics.median(sample.quantile_ms(0.99) for sample in samples)


COMPANY = {
    "alone": None,
    "20 a second that take the model server 1 s": Stream(Kind(model=SLOW_MODEL), 20.0, False),
    "5 a second of 1 MB": Stream(LARGE, 5.0, False),
    "1 a second of 8 MB": Stream(HUGE, 1.0, False),
    "20 streams a second": Stream(STREAMED, 20.0, False),
}


def frontier(
    subject: Subject, rates_hz: Sequence[float], effort: Effort
) -> tuple[dict[float, float], dict[float, float]]:
    """Find the highest rate that keeps the 99th percentile below each bound.

    Args:
        subject: who.
        rates_hz: to try, ascending; trying ends where half of the questions take too long.
        effort: how long; the better of two runs counts, since a neighbour's burst is not ours.

    Returns:
        99th percentile (ms) by rate, and the highest good rate by bound.
    """
    p99: dict[float, float] = {}
    for rate_hz in rates_hz:
        runs = [
            opened(subject.target, [Stream(WHOLE, rate_hz)], span_s=effort.span_s / 2, seed=seed)
            for seed in (1, 2)
        ]
        best = min(runs, key=lambda sample: sample.quantile_ms(0.99))
        p99[rate_hz] = best.quantile_ms(0.99) if not best.n_failed else float("inf")
        if p99[rate_hz] > 4 * BOUNDS_MS[-1]:
            break
    reached = {
        bound: max((rate for rate, value in p99.items() if value <= bound), default=0.0)
        for bound in BOUNDS_MS
    }
    return p99, reached


def _late_ms(sample: Sample) -> float:
    late = sorted(sample.lateness_s)
    return 1000 * late[int(0.99 * (len(late) - 1))] if late else 0.0
