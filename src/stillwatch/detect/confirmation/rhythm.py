"""Rhythm: do members work and rest together, beyond the hours that everybody keeps?

The null moves every member by a random number of whole days within its own life, so that its own
hours, its bursts and its life span stay, and only the agreement between members goes. A week that
members and log have in common is moved away too, which makes the null wider than it need be: the
tests are careful rather than sharp. (Moving the expectation along made them sharp and wrong: groups
that differ from the log by their week alone were rejected three times too often.)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stillwatch.detect.confirmation.activity import (
    DAY,
    DRAWS,
    Activity,
    Background,
    TimingTest,
    sample,
    untested,
)
from stillwatch.detect.profiles.profile import Floats, Ints

#: Members with a life shorter than this (inner days) cannot be moved and are left out.
_LEAST_DAYS = 4
_LEAST_MEMBERS, _LEAST_EVENTS = 5, 30


class _Moves(NamedTuple):
    """Exchanges of the members that can be moved, with the room that each has.

    Attributes:
        account: member from 0, of each exchange.
        day: of each exchange, from the first of its member's inner days.
        base: bin in which the member's inner days begin, and the hour on top, of each exchange.
        length: inner days of each member.
        rate: exchanges of a member over the log's share of its inner days.
        share: the log's curve.
        slots: bins a day.
        expected: what the log's curve gives the group in each bin.
        fixed: the part of the sum of squared residuals that moving does not change.
    """

    account: Ints
    day: Ints
    base: Ints
    length: Ints
    rate: Floats
    share: Floats
    slots: int
    expected: Floats
    fixed: float

    def measure(self, shift: NDArray[np.int64]) -> tuple[float, float]:
        """Move each member by whole days within its life, then measure both statistics."""
        moved = (self.day + shift[self.account]) % self.length[self.account]
        bins = self.base + moved * self.slots
        seen = np.bincount(bins, minlength=len(self.share))
        # |sum of residuals|^2 less the sum of |residual|^2 is what pairs of members have in common.
        own = self.fixed - 2.0 * float((self.rate[self.account] * self.share[bins]).sum())
        common = float(((seen - self.expected) ** 2).sum()) - own
        pairs = max(len(self.rate) - 1, 1) * max(own, 1e-12)
        return common / pairs, float(self.expected[seen == 0].sum())


def measure_rhythm(
    activity: Activity, background: Background, *, seed: int = 0
) -> tuple[TimingTest, TimingTest]:
    """Test whether members are active, and silent, together.

    Args:
        activity: of the group; a sample will do.
        background: of the log; its curve is taken off first.
        seed: of the draws and of the members looked at in large groups.

    Returns:
        Co-activity: statistic = mean correlation of two members' hourly counts after the log's
        curve is taken off. Joint pauses: statistic = exchanges that the log's curve would have
        given in hours in which no member asked. Null of both: members move by whole days within
        their own lives.
    """
    rng = np.random.default_rng([seed, 7])
    moves = _moves(sample(activity, rng), background)
    if moves is None:
        reason = "too few members are there for a week"
        return untested("co-activity", reason), untested("joint pauses", reason)
    seen = moves.measure(np.zeros(len(moves.length), dtype=np.int64))
    null = np.array([moves.measure(rng.integers(0, moves.length)) for _ in range(DRAWS)])
    found = []
    words = (
        ("co-activity", "members' hours agree with a mean correlation of {:.3f} beyond the log's"),
        ("joint pauses", "no member asked in hours that would have brought {:.1f} exchanges"),
    )
    for i, (name, sentence) in enumerate(words):
        p_value = float((1 + np.count_nonzero(null[:, i] >= seen[i])) / (DRAWS + 1))
        middle, spread = float(null[:, i].mean()), float(null[:, i].std())
        score = (seen[i] - middle) / max(spread, 1e-12)
        text = f"{name}: {sentence.format(seen[i])} (chance {middle:.3f}; p = {p_value:.2g})."
        n = len(moves.account)
        found.append(TimingTest(name, float(seen[i]), float(score), p_value, n, text))
    return found[0], found[1]


def _moves(activity: Activity, background: Background) -> _Moves | None:
    """Cut off each member's first and last day, which are active by what they are."""
    offset = activity.started_at - background.start
    day = np.floor(offset / DAY).astype(np.int64)
    slot = ((offset - day * DAY) // background.bin_s).astype(np.int64)
    n_days = len(background.share) // background.bins_a_day
    first = np.full(activity.n_accounts, n_days)
    last = np.full(activity.n_accounts, -1)
    np.minimum.at(first, activity.account, day)
    np.maximum.at(last, activity.account, day)
    length = last - first - 1
    kept = (day > first[activity.account]) & (day < last[activity.account])
    kept &= (length >= _LEAST_DAYS)[activity.account] & (day < n_days) & (day >= 0)
    members, number = np.unique(activity.account[kept], return_inverse=True)
    if len(members) < _LEAST_MEMBERS or len(number) < _LEAST_EVENTS:
        return None
    share, slots = background.share, background.bins_a_day
    begin = (first[members] + 1) * slots
    end = begin + length[members] * slots
    until = np.concatenate(([0.0], np.cumsum(share)))
    counts = np.bincount(number, minlength=len(members))
    rate = counts / np.maximum(until[end] - until[begin], 1e-12)
    edges = np.bincount(begin, rate, minlength=len(share) + 1)
    edges -= np.bincount(end, rate, minlength=len(share) + 1)
    squares = np.concatenate(([0.0], np.cumsum(share**2)))
    bins = day[kept] * slots + slot[kept]
    _, together = np.unique(bins * np.int64(len(members)) + number, return_counts=True)
    return _Moves(
        account=number,
        day=day[kept] - first[members][number] - 1,
        base=begin[number] + slot[kept],
        length=length[members],
        rate=rate,
        share=share,
        slots=slots,
        expected=np.cumsum(edges)[:-1] * share,
        fixed=float((together.astype(np.float64) ** 2).sum())
        + float((rate**2 * (squares[end] - squares[begin])).sum()),
    )
