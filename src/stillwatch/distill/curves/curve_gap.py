"""The gap closed: how far a student has come from where it began to its teacher.

The plain ratio S(n) / T flatters a student that could do much before it was taught. The gap closed,
(S(n) - S(0)) / (T - S(0)), counts only what it gained; it is refused where the teacher is not
clearly ahead of the untouched student, because it would divide by noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillwatch.distill.curves.curve_draws import ClusterSums, Items
from stillwatch.distill.curves.curve_fit import Fitted
from stillwatch.distill.curves.curve_point import CurvePoint
from stillwatch.distill.curves.curve_reach import Reach, gap_closed, reach_share
from stillwatch.stats.intervals import percentile_interval

Floats = NDArray[np.float64]

_Z = 1.96


@dataclass(frozen=True)
class Gap:
    """The gap from the untouched student to the teacher, and how much of it was closed.

    Attributes:
        teacher: share of the teacher.
        untouched: share of the untouched student, or None where none was scored (then 0 stands
            for it, and the gap is the teacher's whole share).
        ahead: teacher minus untouched, with the ends of its 95 % interval.
        is_clear: whether the teacher is clearly ahead: the interval lies above 0.
        closed: for each budget: questions, plain ratio and gap closed, each with its interval.
        reaches: questions to shares of the gap; empty where it is not clear or nothing was fitted.
        notes: what a reader must know, in sentences.
    """

    teacher: float
    untouched: float | None
    ahead: tuple[float, float, float]
    is_clear: bool
    closed: tuple[dict[str, Any], ...]
    reaches: tuple[Reach, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain JSON data."""
        return {
            "teacher": self.teacher,
            "untouched": self.untouched,
            "ahead": list(self.ahead),
            "is_clear": self.is_clear,
            "closed": [dict(row) for row in self.closed],
        }


def measure_gap(
    points: Sequence[CurvePoint],
    items: Items,
    fitted: Fitted | None,
    *,
    shares: Sequence[float],
) -> Gap:
    """Measure the gap and what was closed of it.

    Args:
        points: the students of the curve, the untouched one (0 questions) among them if scored.
        items: the held-out items, and the teacher on them.
        fitted: the fit, or None.
        shares: shares of the gap to answer for.

    Returns:
        The gap.
    """
    untouched = [p.correct.astype(np.float64) for p in points if p.n_questions == 0]
    models = np.stack([items.teacher_correct, *untouched])
    sums = ClusterSums(models, items)
    all_shares = sums.shares()
    teacher = float(all_shares[0])
    start = float(all_shares[1:].mean()) if untouched else None
    weights = np.concatenate([[1.0], np.full(len(untouched), -1 / max(len(untouched), 1))])
    half = _Z * float(np.sqrt(sums.variance(weights)))
    value = teacher - (start or 0.0)
    ahead = (value, value - half, value + half)
    is_clear = ahead[1] > 0
    notes = []
    if not is_clear:
        notes.append(
            f"The teacher ({teacher:.1%}) is not clearly ahead of the untouched student "
            f"({start or 0.0:.1%}): there is no gap to speak of, and none is divided by."
        )
    reaches: tuple[Reach, ...] = ()
    if fitted is not None and is_clear:
        floor, top = fitted.resamples.floor, fitted.resamples.teacher
        reaches = tuple(
            reach_share(share, floor + share * (top - floor), fitted, of="gap") for share in shares
        )
    closed = _closed(fitted, is_clear=is_clear)
    return Gap(teacher, start, ahead, is_clear, closed, reaches, tuple(notes))


def _closed(fitted: Fitted | None, *, is_clear: bool) -> tuple[dict[str, Any], ...]:
    if fitted is None:
        return ()
    rows = fitted.resamples
    ratio = rows.shares / np.maximum(rows.teacher, 1e-9)[:, None]
    gaps = gap_closed(rows.shares, fitted)
    return tuple(
        {
            "n_questions": float(n),
            "ratio": _with_ends(ratio[:, i]),
            "gap_closed": _with_ends(gaps[:, i]) if is_clear else None,
        }
        for i, n in enumerate(rows.budgets)
    )


def _with_ends(values: Floats) -> list[float]:
    return [float(values[0]), *map(float, percentile_interval(values[1:]))]
