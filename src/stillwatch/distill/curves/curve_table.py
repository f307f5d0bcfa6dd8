"""The `[curve]` table of a run: how the copy curve is fitted, and the treadmill beside it."""

from __future__ import annotations

from datetime import date
from itertools import pairwise
from typing import Literal

import msgspec

from stillwatch.errors import reject

#: What a copier can be short of.
Unit = Literal["questions", "output_tokens", "usd"]


class TreadmillTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[curve.treadmill]`: the teacher's successors against a copier's purse.

    Attributes:
        released: the day the teacher came out.
        successors: the days its successors come out, rising; at least one.
        per_day: what the copier may ask or spend a day; several to compare.
        unit: of what: questions, output_tokens, or usd (asking alone).
        delay_days: days from a release until the copier asks its first question.
        training_days: days from the last answer until the copy is out.
    """

    released: date
    successors: tuple[date, ...]
    per_day: tuple[float, ...]
    unit: Unit = "questions"
    delay_days: float = 0.0
    training_days: float = 0.0

    def __post_init__(self) -> None:
        where = "[curve.treadmill]"
        days = [self.released, *self.successors]
        if len(days) < 2 or any(later <= earlier for earlier, later in pairwise(days)):
            told = [str(day) for day in self.successors]
            rule = f"at least one day, rising, after released ({self.released})"
            reject(where, "successors", rule, got=told)
        if not self.per_day or min(self.per_day) <= 0:
            reject(where, "per_day", "at least one number above 0", got=list(self.per_day))
        for name in ("delay_days", "training_days"):
            if not getattr(self, name) >= 0:
                reject(where, name, "at least 0", got=getattr(self, name))


class CurveTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[curve]`: the fit.

    Attributes:
        shares: shares of the teacher's skill, and of the gap to it, that are answered for, 0..1.
        draws: resamples (count) behind bands and intervals.
        treadmill: the teacher's successors and the copier's purse, or None.
    """

    shares: tuple[float, ...] = (0.5, 0.8, 0.9)
    draws: int = 400
    treadmill: TreadmillTable | None = None

    def __post_init__(self) -> None:
        shares = list(self.shares)
        if not shares or shares != sorted(set(shares)) or not 0 < shares[0] <= shares[-1] <= 1:
            reject("[curve]", "shares", "rising numbers above 0, at most 1", got=shares)
        if not 40 <= self.draws <= 10_000:
            reject("[curve]", "draws", "40 to 10,000", got=self.draws)
