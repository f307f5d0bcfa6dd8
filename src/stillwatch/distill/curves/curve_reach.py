"""What a share of the skill takes: questions, tokens, dollars, or that it was not reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stillwatch.distill.curves.curve_axes import Axis
from stillwatch.distill.curves.curve_fit import MAX_EXTRAPOLATION, Fitted
from stillwatch.report.numbers import rough
from stillwatch.stats.intervals import Interval, percentile_interval

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reach:
    """Questions needed for a share.

    Attributes:
        share: the share asked for, 0..1.
        of: of what: the teacher's share, or the gap from the untouched student to it.
        n_questions: the estimate, or None when it is not reached within 4 times the largest budget.
        low: lower end of its 95 % interval, or None when that is not reached either.
        high: upper end, or None for "no upper bound".
        extrapolated: whether the estimate lies beyond the largest budget that was trained.
        sentence: the same in words.
    """

    share: float
    of: Literal["teacher", "gap"]
    n_questions: float | None
    low: float | None
    high: float | None
    extrapolated: bool
    sentence: str

    @property
    def reached(self) -> bool:
        """Whether there is an estimate."""
        return self.n_questions is not None

    @property
    def of_teacher(self) -> float:
        """The share asked for, 0..1."""
        return self.share

    def as_dict(self, axes: Sequence[Axis] = ()) -> dict[str, Any]:
        """Give it as plain JSON data.

        Args:
            axes: units to tell it in beside questions.

        Returns:
            The figures; those of an axis under its name, as estimate, low and high.
        """
        ends = (self.n_questions, self.low, self.high)
        return {
            "share": self.share,
            "of": self.of,
            "reached": self.reached,
            "n_questions": self.n_questions,
            "low": self.low,
            "high": self.high,
            "extrapolated": self.extrapolated,
            "sentence": self.sentence,
            "on_axes": {
                axis.name: [None if n is None else float(axis.at(n)) for n in ends] for axis in axes
            },
        }


def reach_share(
    share: float, targets: Floats, fitted: Fitted, *, of: Literal["teacher", "gap"]
) -> Reach:
    """Read the questions to a share off the fit and each of its resamples.

    Args:
        share: as asked for, for the report.
        targets: the share of right answers that it comes to in each row, shape (1 + draws,).
        fitted: the fit.
        of: what the share is of.

    Returns:
        The estimate with its interval, or that it is not reached.
    """
    largest = float(fitted.resamples.budgets[-1])
    limit = MAX_EXTRAPOLATION * largest
    rows = fitted.questions_at(targets)
    central, ends = float(rows[0]), percentile_interval(rows[1:])
    low = ends.low if ends.low <= limit else None
    high = ends.high if ends.high <= limit else None
    if central > limit:
        within = largest if fitted.trial is None else limit
        sentence = f"not reached within {within:,.0f} questions{_level(fitted, of=of)}"
        return Reach(share, of, None, low, high, False, sentence)
    sentence = f"about {rough(central)} questions [{_end(low)}, {_end(high)}]"
    extrapolated = central > largest
    if extrapolated:
        sentence += f", beyond the largest budget trained ({largest:,.0f}): an extrapolation"
    return Reach(share, of, central, low, high, extrapolated, sentence)


def _end(value: float | None) -> str:
    return "no bound" if value is None else rough(value)


def _level(fitted: Fitted, *, of: Literal["teacher", "gap"]) -> str:
    """Say where the curve ends, in the measure that was asked for."""
    if fitted.ceiling is None or fitted.ceilings is None:
        return ""
    top, ends = fitted.ceiling
    if of == "teacher":
        return f"; the curve levels off at {top:.0%} [{ends.low:.0%}, {ends.high:.0%}]"
    tops = gap_closed(fitted.ceilings, fitted)
    ends = Interval(*percentile_interval(tops[1:]))
    return f"; the curve levels off at {tops[0]:.0%} of the gap [{ends.low:.0%}, {ends.high:.0%}]"


def gap_closed(shares: Floats, fitted: Fitted) -> Floats:
    """Turn shares of right answers into shares of the gap, row by row.

    Args:
        shares: shape (1 + draws,) or (1 + draws, k).
        fitted: the fit, whose rows hold floor and teacher.

    Returns:
        Of the same shape: 0 at the untouched student, 1 at the teacher.
    """
    floor, teacher = fitted.resamples.floor, fitted.resamples.teacher
    gap = np.maximum(teacher - floor, 1e-9)
    if shares.ndim == 2:
        floor, gap = floor[:, None], gap[:, None]
    return np.asarray((shares - floor) / gap)
