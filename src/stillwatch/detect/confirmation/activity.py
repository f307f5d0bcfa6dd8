"""Activity: when the members of a group asked, beside when everybody asks.

What the tests of timing read. From the exchanges that profiles keep it is a sample; from the list
of all exchanges of a campaign it is whole, which some tests need.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stillwatch.detect.facts import Facts
from stillwatch.detect.profiles.profile import Floats, Ints, Profiles

DAY = 86_400.0
#: Draws of a null: the smallest p-value is 1 / (draws + 1).
DRAWS = 499
#: Members and exchanges a null is drawn for, at most: a seeded sample stands for the rest.
_MOST_MEMBERS, _MOST_EVENTS = 200, 40_000
#: Bins of the log's curve at most: four years of hours.
_MOST_BINS = 35_000


class TimingTest(NamedTuple):
    """One test of a group's timing.

    Attributes:
        name: even load, co-activity, joint pauses, births after closures, joint switch, think time.
        statistic: what was measured, in the unit that the text names; NaN when it was not.
        score: how far it lies from its null, in standard deviations; higher = more like one party;
            NaN when it was not measured.
        p_value: one-sided; None when it could not be tested.
        n: exchanges, bins or accounts that it rests on (count).
        text: what was found or why nothing was, one sentence.
    """

    name: str
    statistic: float
    score: float
    p_value: float | None
    n: int
    text: str


def untested(name: str, reason: str) -> TimingTest:
    """Say why a test was not made.

    Args:
        name: of the test.
        reason: a clause.

    Returns:
        A test without a p-value.
    """
    return TimingTest(name, np.nan, np.nan, None, 0, f"{name}: not tested, {reason}.")


class Activity(NamedTuple):
    """Exchanges of the members of a group, sorted by account, then time.

    Attributes:
        account: member numbered from 0, shape (n,).
        started_at: epoch seconds.
        output_tokens: tokens of the answer (count).
        n_accounts: members (count).
        whole: whether every exchange of the members is here, not a sample.
    """

    account: Ints
    started_at: Floats
    output_tokens: Ints
    n_accounts: int
    whole: bool

    @classmethod
    def of(cls, account: Ints, started_at: Floats, output_tokens: Ints) -> Activity:
        """Take the whole list of a group's exchanges.

        Args:
            account: any numbers, one an exchange.
            started_at: epoch seconds.
            output_tokens: counts.

        Returns:
            The activity, accounts renumbered in their order.
        """
        members, number = np.unique(account, return_inverse=True)
        return _sorted(number, started_at, output_tokens, n_accounts=len(members), whole=True)


class Background(NamedTuple):
    """When a whole log asks.

    Attributes:
        start: beginning of the first bin, midnight UTC, epoch seconds.
        bin_s: seconds a bin.
        share: share of the log's exchanges in each bin, shape (n_bins,), whole days.
        end: the log's last exchange, epoch seconds.
    """

    start: float
    bin_s: float
    share: Floats
    end: float

    @property
    def bins_a_day(self) -> int:
        """Bins in a day (count)."""
        return round(DAY / self.bin_s)


class Lives(NamedTuple):
    """When accounts were born and died; NaN where not known.

    Attributes:
        born: first seen, of each member, shape (n_accounts,).
        died: closed, or silent since; NaN for those still active.
        others_born: the same as `born` for the other accounts of the log.
    """

    born: Floats
    died: Floats
    others_born: Floats


def activity_of(profiles: Profiles, accounts: Ints) -> Activity:
    """Read a group's activity from the exchanges that profiles keep.

    Args:
        profiles: the log.
        accounts: account numbers of the group.

    Returns:
        The activity, a sample where accounts have more exchanges than are kept.
    """
    group = np.unique(accounts)
    digests = profiles.digests
    rows = np.flatnonzero(np.isin(digests.account, group))
    number = np.searchsorted(group, digests.account[rows])
    whole = int(profiles.totals.exchanges[group].sum()) == len(rows)
    tokens = digests.output_tokens[rows]
    n = len(group)
    return _sorted(number, digests.started_at[rows], tokens, n_accounts=n, whole=whole)


def background_of(profiles: Profiles, *, bin_s: float = 3600.0) -> Background:
    """Draw the log's own curve, so that the hours everybody keeps are nobody's secret.

    Args:
        profiles: the log.
        bin_s: seconds a bin; a day is cut into whole bins.

    Returns:
        Share of exchanges in each bin; an account's sample counts for all its exchanges.
    """
    times = profiles.digests.started_at
    known = np.isfinite(times)
    if not known.any():
        return Background(0.0, bin_s, np.ones(round(DAY / bin_s)), 0.0)
    account = profiles.digests.account
    kept = np.maximum(np.bincount(account, minlength=profiles.n_accounts), 1)
    weight = (profiles.totals.exchanges / kept)[account]
    start = float(np.floor(times[known].min() / DAY) * DAY)
    end = float(times[known].max())
    # A few wild times must not ask for a million years of bins.
    n_bins = min(int((end - start) // DAY + 1) * round(DAY / bin_s), _MOST_BINS)
    place = np.minimum(((times[known] - start) // bin_s).astype(np.int64), n_bins - 1)
    counts = np.bincount(place, weight[known], minlength=n_bins)
    return Background(start, bin_s, counts / max(float(counts.sum()), 1.0), end)


def lives_of(
    profiles: Profiles, facts: Facts | None, accounts: Ints, *, silent_s: float = 2 * DAY
) -> Lives:
    """Read when accounts were born and died.

    Args:
        profiles: the log.
        facts: of its accounts, or None.
        accounts: account numbers of the group.
        silent_s: an account that was silent for so long at the end of the log is taken for dead.

    Returns:
        First use, and closing times where the table knows them, else the last use of accounts that
        fell silent. An account that is there within the log's first hour is not said to be born.
        When the table says an account was opened does not count: accounts are opened for stock.
    """
    first, last = profiles.totals.first_seen, profiles.totals.last_seen
    born = np.where(first > first.min(initial=np.inf) + 3600.0, first, np.nan)
    died = np.where(last < last.max(initial=-np.inf) - silent_s, last, np.nan)
    if facts is not None:
        died = np.where(np.isfinite(facts.closed_at), facts.closed_at, died)
    inside = np.zeros(profiles.n_accounts, dtype=bool)
    inside[accounts] = True
    return Lives(born[inside], died[inside], born[~inside & np.isfinite(born)])


def sample(activity: Activity, rng: np.random.Generator) -> Activity:
    """Keep few enough members and exchanges to draw nulls from.

    Args:
        activity: of the group.
        rng: draws.

    Returns:
        Whole members of it.
    """
    members = rng.permutation(activity.n_accounts)[:_MOST_MEMBERS]
    counts = np.bincount(activity.account, minlength=activity.n_accounts)[members]
    members = members[np.cumsum(counts) - counts < _MOST_EVENTS]
    kept = np.isin(activity.account, members)
    members, number = np.unique(activity.account[kept], return_inverse=True)
    return activity._replace(
        account=number,
        started_at=activity.started_at[kept],
        output_tokens=activity.output_tokens[kept],
        n_accounts=len(members),
    )


def _sorted(
    account: Ints, started_at: Floats, tokens: Ints, *, n_accounts: int, whole: bool
) -> Activity:
    known = np.flatnonzero(np.isfinite(started_at))
    order = known[np.lexsort((started_at[known], account[known]))]
    return Activity(account[order], started_at[order], tokens[order], n_accounts, whole)
