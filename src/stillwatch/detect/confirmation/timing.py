"""Timing: does a group work like one party with many hands?

Each test has a null of its own, and none of them is "honest": people of one school keep the same
hours too. A p-value here says that the members are not independent in this respect; whether honest
groups are is told by ranking the same score among theirs (`rank_timing`).
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from stillwatch.detect.confirmation.activity import (
    DAY,
    DRAWS,
    Activity,
    Background,
    Lives,
    TimingTest,
    untested,
)
from stillwatch.detect.confirmation.lifetimes import births_after_closures
from stillwatch.detect.confirmation.rhythm import measure_rhythm
from stillwatch.detect.profiles.profile import Floats, Ints
from stillwatch.stats.pvalues import conformal_p

#: Gaps looked at, at most.
_MOST_GAPS = 40_000
#: Fewer exchanges or members than this tell nothing.
_LEAST_EVENTS, _LEAST_MEMBERS = 30, 5
#: With so many degrees of freedom the sum of chi-squares is as good as normal.
_NORMAL = 1_000
#: Gaps above this (seconds) are pauses, not thinking.
_LONGEST_GAP = 900.0


def measure_timing(
    activity: Activity, background: Background, *, lives: Lives | None = None, seed: int = 0
) -> tuple[TimingTest, ...]:
    """Make every test that a group's activity allows.

    Args:
        activity: of the group.
        background: of the log.
        lives: births and deaths of its accounts, or None.
        seed: of the draws.

    Returns:
        Even load, co-activity, joint pauses, think time, and births after closures.
    """
    tests = [
        even_load(activity, seed=seed),
        *measure_rhythm(activity, background, seed=seed),
        think_time(activity, seed=seed),
    ]
    if lives is not None:
        tests.append(births_after_closures(lives))
    return tuple(tests)


def timing_p_value(tests: tuple[TimingTest, ...]) -> float:
    """Take all tests of one group together.

    Args:
        tests: of the group.

    Returns:
        The smallest p-value times the number of tests made (Bonferroni), at most 1; 1 when none
        was made.
    """
    made = [test.p_value for test in tests if test.p_value is not None]
    return min(1.0, len(made) * min(made)) if made else 1.0


def rank_timing(
    tests: tuple[TimingTest, ...], honest: list[tuple[TimingTest, ...]]
) -> dict[str, float]:
    """Rank a group's scores among those of honest groups.

    Args:
        tests: of the group.
        honest: of honest groups formed alike, of the same size.

    Returns:
        Conformal p-value by name of the test, for tests that were made on the group and on at
        least one honest group.
    """
    ranks = {}
    for test in tests:
        null = [t.score for group in honest for t in group if t.name == test.name]
        null = [score for score in null if np.isfinite(score)]
        if np.isfinite(test.score) and null:
            ranks[test.name] = float(conformal_p([test.score], null)[0])
    return ranks


def even_load(activity: Activity, *, seed: int = 0) -> TimingTest:
    """Test whether the work is shared out more evenly than chance would.

    A balancer deals questions out in turn: on each day the members' counts differ less than those
    of independent callers with the same rate, and callers of unequal rates differ more. A day
    counts for the members whose first and last day lie around it.

    Args:
        activity: of the group; must be whole, because samples are even by construction.
        seed: of the draws.

    Returns:
        The test; statistic = variance over mean within days, 1 = independent callers of one rate,
        lower = more even. Null: each question of a day falls on any member present alike.
    """
    name = "even load"
    if not activity.whole:
        return untested(name, "only a sample of the exchanges is kept")
    totals, present = _by_day(activity)
    kept = (present >= _LEAST_MEMBERS) & (totals >= 1)
    if totals[kept].sum() < _LEAST_EVENTS:
        return untested(name, "too few members work on the same days")
    freedom = float((present[kept] - 1).sum())
    seen = _even_chi2(activity)[kept].sum()
    totals, present = totals[kept], present[kept]
    spread = float(np.sqrt((2.0 * (present - 1) * (1.0 - 1.0 / totals)).sum()))
    score = (freedom - seen) / max(spread, 1e-9)
    if freedom >= _NORMAL:
        p_value = float(stats.norm.sf(score))
    else:
        rng = np.random.default_rng([seed, 5])
        null = np.zeros(DRAWS)
        for n, k in zip(totals.tolist(), present.tolist(), strict=True):
            drawn = rng.multinomial(n, np.full(k, 1.0 / k), size=DRAWS)
            null += ((drawn - n / k) ** 2).sum(axis=1) * k / n
        p_value = float((1 + np.count_nonzero(null <= seen)) / (DRAWS + 1))
    ratio = float(seen / freedom)
    text = (
        f"Within days the members' loads differ {ratio:.2f} times as much as those of independent "
        f"callers with one rate would (1 = chance, people are far above; p = {p_value:.2g})."
    )
    return TimingTest(name, ratio, float(score), p_value, int(totals.sum()), text)


def _days(activity: Activity) -> tuple[Ints, Ints, Ints]:
    """Give the day of each exchange from 0, and each member's first and last."""
    day = np.floor(activity.started_at / DAY).astype(np.int64)
    day = day - (day.min() if len(day) else 0)
    first = np.full(activity.n_accounts, np.iinfo(np.int64).max)
    last = np.full(activity.n_accounts, -1)
    np.minimum.at(first, activity.account, day)
    np.maximum.at(last, activity.account, day)
    return day, first, last


def _by_day(activity: Activity) -> tuple[Ints, Ints]:
    """Count, for each day, the exchanges of members within their first and last day, and them."""
    day, first, last = _days(activity)
    n_days = int(day.max(initial=-1)) + 1
    inner = (day > first[activity.account]) & (day < last[activity.account])
    totals = np.bincount(day[inner], minlength=n_days)
    seen = last - first >= 2
    present = np.zeros(n_days + 1, dtype=np.int64)
    np.add.at(present, first[seen] + 1, 1)
    np.add.at(present, last[seen], -1)
    return totals, np.cumsum(present)[:n_days]


def _even_chi2(activity: Activity) -> Floats:
    """Compute chi-square of the members' counts within each day; absent members count as 0."""
    day, first, last = _days(activity)
    totals, present = _by_day(activity)
    n_days = len(totals)
    inner = (day > first[activity.account]) & (day < last[activity.account])
    code = activity.account[inner] * np.int64(max(n_days, 1)) + day[inner]
    cell, count = np.unique(code, return_counts=True)
    squares = np.bincount(cell % max(n_days, 1), count.astype(np.float64) ** 2, minlength=n_days)
    mean = totals / np.maximum(present, 1)
    return np.where(totals > 0, squares / np.maximum(mean, 1e-9) - totals, 0.0)


def think_time(activity: Activity, *, seed: int = 0) -> TimingTest:
    """Test whether the next question waits for the last answer and nothing else.

    A program asks again as soon as an answer is complete: the gap between two starts follows the
    length of the first answer. People who read before they ask do so too, but loosely; rank the
    statistic among honest groups before it is believed.

    Args:
        activity: of the group; must be whole, because a sample has lost the next question.
        seed: of the draws.

    Returns:
        The test; statistic = rank correlation, within members, of gaps under a quarter of an hour
        with the tokens of the answer before. Null: a member's gaps take no notice of its answers.
    """
    name = "think time"
    if not activity.whole:
        return untested(name, "only a sample of the exchanges is kept")
    gap = np.diff(activity.started_at)
    usable = (np.diff(activity.account) == 0) & (gap > 0) & (gap <= _LONGEST_GAP)
    usable &= activity.output_tokens[:-1] > 0
    account, gap = activity.account[:-1][usable], gap[usable]
    tokens = activity.output_tokens[:-1][usable]
    counts = np.bincount(account, minlength=activity.n_accounts)
    kept = np.flatnonzero(counts[account] >= 5)[:_MOST_GAPS]
    if len(kept) < _LEAST_EVENTS:
        return untested(name, "too few questions follow each other closely")
    account, gap, tokens = account[kept], gap[kept], tokens[kept]
    gap_rank, token_rank = _ranks(account, gap), _ranks(account, tokens.astype(np.float64))
    scale = float(np.sqrt((gap_rank @ gap_rank) * (token_rank @ token_rank)))
    if scale <= 0.0:
        return untested(name, "all answers are of one length")
    seen = float(gap_rank @ token_rank) / scale
    rng = np.random.default_rng([seed, 6])
    null = np.empty(DRAWS)
    for i in range(DRAWS):
        null[i] = gap_rank @ token_rank[np.lexsort((rng.random(len(account)), account))] / scale
    p_value = float((1 + np.count_nonzero(null >= seen)) / (DRAWS + 1))
    score = (seen - float(null.mean())) / max(float(null.std()), 1e-9)
    text = (
        f"Gaps to the next question follow the length of the answer with a rank correlation of "
        f"{seen:.2f} ({len(account):,} gaps; p = {p_value:.2g} against gaps that take no notice)."
    )
    return TimingTest(name, seen, score, p_value, len(account), text)


def _ranks(account: Ints, values: Floats) -> Floats:
    """Rank values within accounts (sorted), mean ranks for ties, centred on 0."""
    order = np.lexsort((values, account))
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = (np.diff(account[order]) != 0) | (np.diff(values[order]) != 0)
    run = np.cumsum(fresh) - 1
    position = np.arange(len(order), dtype=np.float64)
    mean = np.bincount(run, position) / np.bincount(run)
    ranks = np.empty(len(order))
    ranks[order] = mean[run]
    centre = np.bincount(account, ranks) / np.maximum(np.bincount(account), 1)
    return np.asarray(ranks - centre[account], dtype=np.float64)
