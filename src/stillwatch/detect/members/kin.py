"""Kin: further exchanges of a named campaign's members, by wording too rare to found a family.

A paraphrased template falls into variants, each used by a few accounts: too few to be looked at
in a log of thousands, but not among the members of a campaign. Wording that several members use
and hardly anybody else is the campaign's, however few.
"""

from __future__ import annotations

import numpy as np

from stillwatch.detect.profiles.counting import distinct, look_up, numbered
from stillwatch.detect.profiles.profile import Digests, Ints
from stillwatch.text.ragged import Ragged

#: Members that must use a shingle, and the share of its users who are members.
_USERS, _OURS = 3, 0.8
#: Shingles of such wording that an exchange must carry: one may be a chance phrase.
_CARRIED = 2


def find_kin(digests: Digests, members: Ints, rows: Ints, *, n_accounts: int) -> Ints:
    """Find exchanges of members that carry the campaign's own wording.

    Args:
        digests: the log.
        members: accounts of the campaign.
        rows: its digests, known already.
        n_accounts: accounts of the log.

    Returns:
        Further digests of its members, sorted.
    """
    ours = np.zeros(n_accounts, dtype=bool)
    ours[members] = True
    mine = np.flatnonzero(ours[digests.account])
    shingles = digests.shingles.take(mine)
    shared = _used_by(shingles, digests.account[mine], least=_USERS)
    row, place = look_up(shared, digests.shingles)
    pair = distinct(place * np.int64(n_accounts) + digests.account[row])
    users = np.bincount(pair // n_accounts, minlength=len(shared))
    inside = np.bincount(pair // n_accounts, ours[pair % n_accounts], minlength=len(shared))
    own = shared[inside >= _OURS * users]
    carried = np.bincount(look_up(own, shingles)[0], minlength=len(mine))
    return np.setdiff1d(mine[carried >= _CARRIED], rows)


def _used_by(shingles: Ragged, account: Ints, *, least: int) -> Ints:
    """Give the shingles that at least so many accounts use, sorted."""
    values, number = numbered(shingles.values)
    width = np.int64(account.max(initial=0) + 1)
    pair = distinct(number * width + account[shingles.rows])
    users = np.bincount(pair // width, minlength=len(values))
    return np.asarray(values[users >= least])
