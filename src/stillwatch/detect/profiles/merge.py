"""Merge: the profiles of several logs as one, in any order, with the same result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.detect.config import FoldConfig
from stillwatch.detect.profiles.levels import coarsen, level_of, levels_of
from stillwatch.detect.profiles.profile import (
    Ints,
    Profiles,
    Totals,
    no_profiles,
    no_totals,
    unite_digests,
)


def merge(first: Profiles, second: Profiles, config: FoldConfig | None = None) -> Profiles:
    """Unite the profiles of two logs that share no exchange.

    Args:
        first: profiles folded with `config`.
        second: as `first`.
        config: how they were folded.

    Returns:
        What folding both logs at once would have given.
    """
    return merge_all([first, second], config)


def merge_all(parts: Sequence[Profiles], config: FoldConfig | None = None) -> Profiles:
    """Unite the profiles of any number of logs at the price of one merge.

    Args:
        parts: profiles folded with `config`, of logs that share no exchange.
        config: how they were folded.

    Returns:
        What folding all logs at once would have given.
    """
    config = config or FoldConfig()
    parts = [part for part in parts if part.n_accounts]
    if not parts:
        return no_profiles()
    every = pa.concat_arrays([part.accounts for part in parts])
    accounts = pc.unique(every)
    accounts = accounts.take(pc.sort_indices(accounts))
    number = pc.index_in(every, value_set=accounts).to_numpy(zero_copy_only=False).astype(np.int64)
    numbers = np.split(number, np.cumsum([part.n_accounts for part in parts])[:-1])
    totals = no_totals(len(accounts))
    for part, mine in zip(parts, numbers, strict=True):
        add_totals(totals, part.totals, mine)
    level = max(level_of(totals.exchanges, config), *(part.level for part in parts))
    wanted = levels_of(config)[level]
    digests = []
    for part, mine in zip(parts, numbers, strict=True):
        renumbered = part.digests._replace(account=mine[part.digests.account])
        digests.append(renumbered if part.level == level else coarsen(renumbered, wanted))
    return Profiles(accounts, totals, unite_digests(digests, wanted.digests), level)


def add_totals(into: Totals, part: Totals, number: Ints) -> None:
    """Add the totals of some accounts to those of all, in place.

    Args:
        into: totals of all accounts.
        part: totals of some.
        number: which they are, shape (n,), no account twice.
    """
    columns: Any = zip(Totals._fields, into, part, strict=True)
    for name, total, mine in columns:
        if name == "first_seen":
            total[number] = np.fmin(total[number], mine)
        elif name == "last_seen":
            total[number] = np.fmax(total[number], mine)
        else:
            total[number] += mine
