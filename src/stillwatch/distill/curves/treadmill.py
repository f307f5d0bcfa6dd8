"""The treadmill: how long a teacher's lead lasts, given its successors and the copier's purse.

A copier asks so much a day. The copy curve says what that has bought by any day, so it says on
which day the copy stands at 50, 80 or 90 % of the gap, and whether the teacher's successor was out
by then. Each successor is assumed to be copied anew, from the start and by the same curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillwatch.distill.curves.curve import MAX_EXTRAPOLATION, CopyCurve
from stillwatch.distill.curves.curve_axes import Axis
from stillwatch.distill.curves.curve_reach import Reach, gap_closed
from stillwatch.distill.curves.curve_table import TreadmillTable
from stillwatch.errors import reject
from stillwatch.stats.intervals import percentile_interval

Floats = NDArray[np.float64]

_LINE_POINTS = 80
_AXIS_OF = {"output_tokens": "output_tokens", "usd": "usd_asked"}


@dataclass(frozen=True)
class Overtaken:
    """When a copy stands at one share of the gap.

    Attributes:
        share: of the gap, 0..1.
        days: days from the teacher's release, or None when the curve never gets there within 4
            times its largest budget.
        low: lower end of the 95 % interval, or None.
        high: upper end, or None for "no bound".
        extrapolated: whether the copier then asks more than any student was trained on.
        per_day_needed: what a copier must ask a day to be there at the first successor's release,
            in the treadmill's unit; None where that is not told or too late for any purse.
        lead: for each reign (release to successor) the share of its days without such a copy.
        is_least: for each reign, whether that share is only a lower bound, because by its end the
            copier has asked more than may be spoken of.
    """

    share: float
    days: float | None
    low: float | None
    high: float | None
    extrapolated: bool
    per_day_needed: float | None
    lead: tuple[float, ...]
    is_least: tuple[bool, ...]


@dataclass(frozen=True)
class Lead:
    """One purse against the successors.

    Attributes:
        table: dates, unit and delays.
        per_day: the purse a day, in the table's unit.
        capability: the curve that it rests on.
        reigns: days of each reign, from a release to the next.
        overtaken: one for each share asked for.
        at_successor: for each reign, the gap closed on its last day, with its 95 % interval and
            whether it is beyond what may be said.
        line: days since release and the gap closed then, with its band, over the longest reign;
            it ends where the curve may not be asked further.
        sentences: what it comes to, in words.
    """

    table: TreadmillTable
    per_day: float
    capability: str
    reigns: tuple[float, ...]
    overtaken: tuple[Overtaken, ...]
    at_successor: tuple[dict[str, Any], ...]
    line: tuple[tuple[float, float, float, float], ...]
    sentences: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain JSON data."""
        return {
            "capability": self.capability,
            "released": self.table.released.isoformat(),
            "successors": [day.isoformat() for day in self.table.successors],
            "unit": self.table.unit,
            "per_day": self.per_day,
            "delay_days": self.table.delay_days,
            "training_days": self.table.training_days,
            "reigns": list(self.reigns),
            "overtaken": [
                {
                    "share": o.share,
                    "days": o.days,
                    "low": o.low,
                    "high": o.high,
                    "extrapolated": o.extrapolated,
                    "per_day_needed": o.per_day_needed,
                    "lead": list(o.lead),
                    "is_least": list(o.is_least),
                }
                for o in self.overtaken
            ],
            "at_successor": [dict(row) for row in self.at_successor],
            "line": [list(row) for row in self.line],
            "sentences": list(self.sentences),
        }


@dataclass(frozen=True)
class _Purse:
    """Questions against days: what a purse buys, on the curve's own axis."""

    table: TreadmillTable
    per_day: float
    axis: Axis | None

    def questions(self, days: Floats) -> Floats:
        """Questions answered and trained on, for a copy that is out on these days."""
        asking = np.maximum(days - self.table.delay_days - self.table.training_days, 0.0)
        amount = asking * self.per_day
        return amount if self.axis is None else self.axis.questions_for(amount)

    def days(self, questions: Floats) -> Floats:
        """Days from the release until a copy of so many questions is out; inf stays inf."""
        amount = questions if self.axis is None else self.axis.at(questions)
        return amount / self.per_day + self.table.delay_days + self.table.training_days

    def needed(self, questions: float, reign: float) -> float | None:
        """The purse a day that buys these questions in time for the end of a reign."""
        asking = reign - self.table.delay_days - self.table.training_days
        amount = questions if self.axis is None else float(self.axis.at(questions))
        return amount / asking if asking > 0 else None


def lead_of(
    curve: CopyCurve, table: TreadmillTable, *, per_day: float, shares: Sequence[float]
) -> Lead:
    """Say how long the lead lasts against one purse.

    Args:
        curve: a fitted copy curve with a clear gap.
        table: dates, unit and delays.
        per_day: the purse, in the table's unit a day.
        shares: shares of the gap to answer for; those that the curve was fitted with.

    Returns:
        The lead.

    Raises:
        InvalidInputError: the curve was not fitted, has no gap, or lacks the axis of the unit.
    """
    where = "treadmill"
    if curve.fitted is None or not curve.gap.reaches:
        hint = "train at 2 budgets or more, and score the untouched student"
        reject(where, "curve", "fitted, with a clear gap", got=curve.capability, hint=hint)
    axis = next((a for a in curve.axes if a.name == _AXIS_OF.get(table.unit)), None)
    if axis is None and table.unit != "questions":
        told = ["questions", *(a.name for a in curve.axes if a.name in _AXIS_OF.values())]
        reject(where, "unit", f"one that the points tell of: {', '.join(told)}", got=table.unit)
    purse = _Purse(table, per_day, axis)
    days = [table.released, *table.successors]
    reigns = tuple(float((b - a).days) for a, b in pairwise(days))
    wanted = [reach for reach in curve.gap.reaches if reach.share in shares]
    sight = float(purse.days(np.array(MAX_EXTRAPOLATION * _largest(curve))))
    overtaken = tuple(_overtaken(reach, purse, reigns, sight=sight) for reach in wanted)
    ends = tuple(_at_end(curve, purse, reign) for reign in reigns)
    return Lead(
        table,
        per_day,
        curve.capability,
        reigns,
        overtaken,
        ends,
        _line(curve, purse, max(reigns)),
        _sentences(overtaken, ends, reigns),
    )


def _overtaken(reach: Reach, purse: _Purse, reigns: Sequence[float], *, sight: float) -> Overtaken:
    """Place one share on the calendar; `sight` is the last day that the curve may speak of."""
    low, high = (
        None if n is None else float(purse.days(np.array(n))) for n in (reach.low, reach.high)
    )
    if reach.n_questions is None:
        lead = tuple(min(sight / reign, 1.0) for reign in reigns)
        least = tuple(share < 1 for share in lead)
        return Overtaken(reach.share, None, low, high, False, None, lead, least)
    days = float(purse.days(np.array(reach.n_questions)))
    lead = tuple(min(days / reign, 1.0) for reign in reigns)
    needed = purse.needed(reach.n_questions, reigns[0])
    certain = tuple(False for _ in reigns)
    return Overtaken(reach.share, days, low, high, reach.extrapolated, needed, lead, certain)


def _at_end(curve: CopyCurve, purse: _Purse, reign: float) -> dict[str, Any]:
    """Say where the copy stands on a reign's last day, or that it cannot be said."""
    n = float(purse.questions(np.array(reign)))
    largest = _largest(curve)
    row: dict[str, Any] = {"days": reign, "n_questions": n, "extrapolated": n > largest}
    if n > MAX_EXTRAPOLATION * largest:
        # More questions than may be spoken of: the largest that may be is a lower bound.
        closed = _closed_at(curve, np.array([MAX_EXTRAPOLATION * largest]))[0]
        return row | {"gap_closed": None, "low": closed[1], "high": None, "at_least": closed[0]}
    if n < 1:
        return row | {"gap_closed": 0.0, "low": 0.0, "high": 0.0, "at_least": None}
    value, low, high = _closed_at(curve, np.array([n]))[0]
    return row | {"gap_closed": value, "low": low, "high": high, "at_least": None}


def _line(
    curve: CopyCurve, purse: _Purse, longest: float
) -> tuple[tuple[float, float, float, float], ...]:
    days = np.linspace(0.0, longest, _LINE_POINTS)
    questions = purse.questions(days)
    seen = (questions >= 1) & (questions <= MAX_EXTRAPOLATION * _largest(curve))
    if not seen.any():
        return ()
    rows = zip(days[seen], _closed_at(curve, questions[seen]), strict=True)
    return tuple((float(day), *ends) for day, ends in rows)


def _closed_at(curve: CopyCurve, n: Floats) -> list[tuple[float, float, float]]:
    assert curve.fitted is not None  # checked by lead_of
    closed = gap_closed(curve.fitted.shares_at(n), curve.fitted)
    ends = [percentile_interval(column[1:]) for column in closed.T]
    return [(float(value), e.low, e.high) for value, e in zip(closed[0], ends, strict=True)]


def _largest(curve: CopyCurve) -> float:
    return float(max(point.n_questions for point in curve.points))


def _sentences(
    overtaken: Sequence[Overtaken], ends: Sequence[dict[str, Any]], reigns: Sequence[float]
) -> tuple[str, ...]:
    told = []
    for o in overtaken:
        if o.days is None:
            told.append(
                f"{o.share:.0%} of the gap is not reached within 4 times the largest budget, "
                "however fast the copier asks."
            )
            continue
        high = "no bound" if o.high is None else f"{o.high:,.0f}"
        low = "no bound" if o.low is None else f"{o.low:,.0f}"
        when = (
            f"{o.share:.0%} of the gap is closed {o.days:,.0f} days after release [{low}, {high}]"
        )
        reign = reigns[0]
        if o.days >= reign:
            told.append(f"{when}: the successor, out after {reign:,.0f}, is there first.")
        else:
            told.append(
                f"{when}: {reign - o.days:,.0f} of the {reign:,.0f} days until the successor are "
                "spent beside such a copy."
            )
    first = ends[0]
    if first["gap_closed"] is None:
        told.append(
            "By the successor's day the copier has asked more than 4 times the largest budget: the "
            f"copy has closed at least {first['at_least']:.0%} of the gap; more is not said."
        )
    else:
        told.append(
            f"On the successor's day the copy has closed {first['gap_closed']:.0%} of the gap "
            f"[{first['low']:.0%}, {first['high']:.0%}]."
        )
    return tuple(told)
