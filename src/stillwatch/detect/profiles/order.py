"""Compiled loops of folding: adding to the totals of accounts, and choosing whose digest stays.

Importing this module imports numba.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stillwatch.detect.profiles.profile import Floats, Ints, Totals
from stillwatch.text.ragged import Hashes
from stillwatch.text.runs import compiled

#: Up to so many rows are sorted by insertion, more by Shell's method.
_FEW = 48


def smallest_keys(account: Ints, key: Hashes, limit: int) -> tuple[Ints, bool]:
    """Sort rows by account and key, and keep the first of each account.

    Args:
        account: shape (n,), 0 or more.
        key: shape (n,), uint64.
        limit: rows kept of an account.

    Returns:
        Row numbers; and whether two rows of one account have one key, so that their order is
        still to be decided.
    """
    n_accounts = int(account.max(initial=-1)) + 1
    starts = np.zeros(n_accounts + 1, np.int64)
    np.cumsum(np.bincount(account, minlength=n_accounts), out=starts[1:])
    order = np.empty(len(account), np.int64)
    tied = _sort_by_key(account, key, starts, order)
    lengths = np.minimum(np.diff(starts), limit)
    ends = np.cumsum(lengths)
    kept = np.empty(int(ends[-1]) if len(ends) else 0, np.int64)
    _heads(order, starts, ends, kept)
    return kept, tied


def add_exchanges(
    totals: Totals, account: Ints, started_at: Floats, *, counts: Ints, limits: Ints
) -> Ints:
    """Add exchanges to the totals of their accounts, in place; flags and kernel apart.

    Args:
        totals: of all accounts.
        account: of each exchange, shape (n,).
        started_at: epoch seconds, NaN when not known, shape (n,).
        counts: input tokens, output tokens and whether refused, shape (3, n).
        limits: digests of an account, one number a level.

    Returns:
        By how many digests each level has grown.
    """
    grown = np.zeros(len(limits), np.int64)
    _add(totals, account, started_at, counts, limits, grown)
    return grown


@compiled
def _sort_by_key(  # noqa: PLR0917 - a compiled loop takes flat arrays
    account: Any, key: Any, starts: Any, order: Any
) -> Any:
    filled = starts[:-1].copy()
    for row in range(len(account)):
        order[filled[account[row]]] = row
        filled[account[row]] += 1
    tied = False
    for number in range(len(starts) - 1):
        begin, end = starts[number], starts[number + 1]
        _sort_rows(key, order[begin:end])
        for place in range(begin + 1, end):
            tied |= key[order[place]] == key[order[place - 1]]
    return tied


@compiled
def _sort_rows(key: Any, mine: Any) -> None:
    gap: Any = len(mine) // 2 if len(mine) > _FEW else 1
    while gap:
        for place in range(gap, len(mine)):
            row, back = mine[place], place
            while back >= gap and key[mine[back - gap]] > key[row]:
                mine[back] = mine[back - gap]
                back -= gap
            mine[back] = row
        gap = max(np.int64(gap / 2.25), 1) if gap > 1 else 0


@compiled
def _heads(  # noqa: PLR0917 - a compiled loop takes flat arrays
    order: Any, starts: Any, ends: Any, kept: Any
) -> None:
    begin = np.int64(0)
    for number in range(len(ends)):
        for place in range(ends[number] - begin):
            kept[begin + place] = order[starts[number] + place]
        begin = ends[number]


@compiled
def _add(  # noqa: PLR0917 - a compiled loop takes flat arrays
    totals: Any, account: Any, started_at: Any, counts: Any, limits: Any, grown: Any
) -> None:
    for row in range(len(account)):
        mine, start = account[row], started_at[row]
        for level in range(len(limits)):
            grown[level] += totals.exchanges[mine] < limits[level]
        totals.exchanges[mine] += 1
        totals.input_tokens[mine] += counts[0, row]
        totals.output_tokens[mine] += counts[1, row]
        totals.refused[mine] += counts[2, row]
        if np.isfinite(start):
            totals.first_seen[mine] = min(totals.first_seen[mine], start)
            totals.last_seen[mine] = max(totals.last_seen[mine], start)
            totals.hours[mine, np.int64(np.floor(start / 3600.0)) % 24] += 1
