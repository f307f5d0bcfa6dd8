"""Lifetimes: are members born when others die, and do they change over together?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from stillwatch.detect.confirmation.activity import DRAWS, Lives, TimingTest, untested
from stillwatch.detect.profiles.profile import Floats, Ints, Profiles

#: Fewer births, closures or accounts that changed over tell nothing.
_LEAST = 5
#: The others that a null is drawn from must be so many times the group.
_CROWD = 3
#: Share of a group that must have changed over for its pace to be measured.
_MOST = 0.8


def births_after_closures(lives: Lives) -> TimingTest:
    """Test whether accounts are opened when others of the group are closed.

    Args:
        lives: births and deaths of the members, births of the other accounts of the log.

    Returns:
        The test; statistic = median hours from the last closure before a member's birth to it.
        Null: between the group's first closure and its last birth, members are born when others of
        the log are (Mann-Whitney).
    """
    name = "births after closures"
    died = np.sort(lives.died[np.isfinite(lives.died)])
    born = lives.born[np.isfinite(lives.born)]
    if len(died) < _LEAST:
        return untested(name, f"{len(died)} of its accounts are known to have ended")
    born = born[born > died[0]]
    if len(born) < _LEAST:
        return untested(name, f"{len(born)} of its accounts were born after the first closure")
    others = lives.others_born
    others = others[(others > died[0]) & (others <= born.max())]
    if len(others) < _LEAST:
        return untested(name, "too few other accounts were born in that time")
    waited, usual = _since(born, died), _since(others, died)
    ranked = stats.mannwhitneyu(waited, usual, alternative="less")
    p_value, n, m = float(ranked.pvalue), len(waited), len(usual)
    score = (n * m / 2.0 - float(ranked.statistic)) / np.sqrt(n * m * (n + m + 1) / 12.0)
    statistic = float(np.median(waited)) / 3600.0
    text = (
        f"{n} members were born a median of {statistic:.1f} hours after one of {len(died)} "
        f"closures; {m:,} other accounts {np.median(usual) / 3600.0:.1f} hours after (p = "
        f"{p_value:.2g})."
    )
    return TimingTest(name, statistic, float(score), p_value, n, text)


def joint_switch(profiles: Profiles, accounts: Ints, *, seed: int = 0) -> TimingTest:
    """Test whether members changed over to a new model or new parameters together.

    Args:
        profiles: the log.
        accounts: account numbers of the group.
        seed: of the draws.

    Returns:
        The test; statistic = hours in which the middle four fifths of the members that changed
        over did so. Null: as many of the log's other accounts that changed over to the same.
    """
    name = "joint switch"
    digests = profiles.digests
    inside = np.zeros(profiles.n_accounts, dtype=bool)
    inside[accounts] = True
    target = _newcomer(profiles, inside)
    if target is None:
        return untested(name, "most of its accounts did not change over to anything")
    taken = _first_use(profiles, digests.setup == target)
    before = _first_use(profiles, digests.setup != target)
    moved = np.isfinite(taken) & (before < taken)
    mine, others = taken[moved & inside], taken[moved & ~inside]
    if len(mine) < _LEAST or len(others) < _CROWD * len(mine):
        return untested(name, "too few other accounts changed over to the same")
    rng = np.random.default_rng([seed, 9])
    seen = _width(mine)
    null = np.array([
        _width(others[rng.permutation(len(others))[: len(mine)]]) for _ in range(DRAWS)
    ])
    p_value = float((1 + np.count_nonzero(null <= seen)) / (DRAWS + 1))
    logs = np.log(np.maximum(null, 1e-3))
    score = (float(logs.mean()) - np.log(max(seen, 1e-3))) / max(float(logs.std()), 1e-9)
    text = (
        f"Four fifths of the {len(mine)} members that changed over to a new model or new "
        f"parameters did so within {seen:.1f} hours; as many others took {np.median(null):.0f} "
        f"(p = {p_value:.2g})."
    )
    return TimingTest(name, seen, float(score), p_value, len(mine), text)


def _since(born: Floats, died: Floats) -> Floats:
    """Give the seconds from the last closure before each birth; all births follow the first."""
    return born - died[np.searchsorted(died, born, side="left") - 1]


def _newcomer(profiles: Profiles, inside: NDArray[np.bool_]) -> np.uint64 | None:
    """Find the setup that most members came to use after another one."""
    digests = profiles.digests
    rows = np.flatnonzero(inside[digests.account])
    if not len(rows):
        return None
    values, number = np.unique(digests.setup[rows], return_inverse=True)
    account, time = digests.account[rows], digests.started_at[rows]
    order = np.lexsort((time, account))
    first_of_account = np.ones(len(order), dtype=bool)
    first_of_account[1:] = np.diff(account[order]) != 0
    started_with = np.empty(profiles.n_accounts, dtype=np.int64)
    started_with[account[order][first_of_account]] = number[order][first_of_account]
    later = number != started_with[account]
    pair = np.unique(number[later] * np.int64(profiles.n_accounts) + account[later])
    users = np.bincount(pair // max(profiles.n_accounts, 1), minlength=len(values))
    best = int(users.argmax())
    if users[best] < max(_LEAST, 0.5 * len(np.unique(account))):
        return None
    return np.uint64(values[best])


def _first_use(profiles: Profiles, wanted: NDArray[np.bool_]) -> Floats:
    first = np.full(profiles.n_accounts, np.inf)
    digests = profiles.digests
    np.minimum.at(first, digests.account[wanted], digests.started_at[wanted])
    return first


def _width(times: Floats) -> float:
    """Give the hours of the shortest span that holds four fifths of some times."""
    ordered = np.sort(times)
    n = max(2, int(np.ceil(_MOST * len(ordered))))
    return float((ordered[n - 1 :] - ordered[: len(ordered) - n + 1]).min() / 3600.0)
