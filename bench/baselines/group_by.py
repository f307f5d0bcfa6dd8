"""`GROUP BY` one trait, `HAVING count(DISTINCT account) >= n`: what an analyst asks SQL first.

Values that more than 2 % of the history's accounts used are everybody's and left out: without
that, every popular client library would come first.
"""

from __future__ import annotations

import numpy as np

from yardstick.observed import Bools, Ints, Observed
from yardstick.score import Group

PUBLISHED = "12 accounts"
_EVERYBODYS = 0.02


def find_groups(observed: Observed, trait: str, *, min_accounts: int = 12) -> list[Group]:
    """Group by one trait.

    Args:
        observed: the log.
        trait: one of `observed.traits`.
        min_accounts: values with fewer accounts are left out.

    Returns:
        One group a value, scored by its number of accounts, with the exchanges that carry it.
    """
    codes, live = observed.traits[trait], observed.live
    before = _count_accounts(observed, codes, ~live)
    n_before = max(len(np.unique(observed.account[~live])), 1)
    now = _count_accounts(observed, codes, live)
    wanted = np.flatnonzero((now >= min_accounts) & (before <= _EVERYBODYS * n_before))
    rows = np.flatnonzero(live & np.isin(codes, wanted))
    rows = rows[np.argsort(codes[rows], kind="stable")]
    ends = np.searchsorted(codes[rows], wanted, side="right")
    parts = np.split(rows, ends)[: len(wanted)]
    return [
        Group(np.unique(observed.account[part]), part, float(now[value]))
        for value, part in zip(wanted, parts, strict=True)
    ]


def _count_accounts(observed: Observed, codes: Ints, chosen: Bools) -> Ints:
    """Count the distinct accounts of each value among the chosen rows."""
    rows = np.flatnonzero(chosen & (codes >= 0))
    pairs = np.unique(codes[rows] * observed.n_accounts + observed.account[rows])
    n_values = int(codes.max(initial=-1)) + 1
    counts: Ints = np.bincount(pairs // observed.n_accounts, minlength=n_values).astype(np.int64)
    return counts
