"""Profiles: what `detect` remembers of exchanges, in bounded memory per account.

A profile is a row of sums per account and a uniform sample of digests of its exchanges, the
smallest by a hash of the exchange id. Sums add, extremes compare, bottom-k samples unite: so
`merge` is associative and commutative, and folding in any order or on any number of machines gives
the same.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stillwatch.text.ragged import Hashes, Ragged

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Totals(NamedTuple):
    """Sums and extremes per account, shape (n_accounts,) each.

    Attributes:
        exchanges: exchanges seen (count).
        output_tokens: tokens of all answers (count), unknown ones as 0.
        refused: exchanges without an answer, status 400 or above (count).
        first_seen: start of the first exchange, epoch seconds.
        last_seen: start of the last exchange, epoch seconds.
    """

    exchanges: Ints
    output_tokens: Ints
    refused: Ints
    first_seen: Floats
    last_seen: Floats


class Digests(NamedTuple):
    """One row an exchange kept, sorted by account, then key.

    Attributes:
        account: index into `Profiles.accounts`, shape (n,).
        key: hash of the exchange id, which decides what is kept.
        started_at: epoch seconds.
        output_tokens: tokens of the answer (count).
        text: hash of the whole question.
        system: hash of the system prompt, 0 when there is none.
        setup: hash of the model and the sampling parameters.
        tools: hash of the tool definitions, 0 when there are none.
        network: hash of the network, 0 when not known.
        agent: hash of the user agent, 0 when not known.
        org: hash of the organisation, 0 when not known.
        exchange_id: as the log gave it.
        excerpt: beginning of the question.
        shingles: skeleton shingles, numbers masked.
        words: words and word pairs, numbers masked.
        lines: hashes of whole lines, numbers kept.
    """

    account: Ints
    key: Hashes
    started_at: Floats
    output_tokens: Ints
    text: Hashes
    system: Hashes
    setup: Hashes
    tools: Hashes
    network: Hashes
    agent: Hashes
    org: Hashes
    exchange_id: pa.Array
    excerpt: pa.Array
    shingles: Ragged
    words: Ragged
    lines: Ragged

    def take(self, rows: NDArray[np.int64]) -> Digests:
        """Pick rows.

        Args:
            rows: row numbers, shape (n,).

        Returns:
            The rows picked, in the order asked for.
        """
        columns: list[Any] = [_take(column, rows) for column in self]
        return Digests(*columns)


class Profiles(NamedTuple):
    """What is remembered of a log; see the module's head.

    Attributes:
        accounts: account ids, sorted, unique.
        totals: sums per account.
        digests: exchanges kept.
    """

    accounts: pa.Array
    totals: Totals
    digests: Digests

    @property
    def n_accounts(self) -> int:
        """How many accounts."""
        return len(self.accounts)

    @property
    def n_exchanges(self) -> int:
        """How many exchanges were folded, kept or not."""
        return int(self.totals.exchanges.sum())

    def select(self, mask: NDArray[np.bool_]) -> Profiles:
        """Keep some accounts only.

        Args:
            mask: which, shape (n_accounts,).

        Returns:
            Their profiles.
        """
        kept = np.flatnonzero(mask)
        number = np.cumsum(mask) - 1
        columns: list[Any] = [column[kept] for column in self.totals]
        digests = self.digests.take(np.flatnonzero(mask[self.digests.account]))
        return Profiles(
            self.accounts.take(pa.array(kept)),
            Totals(*columns),
            digests._replace(account=number[digests.account]),
        )


def no_profiles() -> Profiles:
    """Give the profiles of an empty log: merging them changes nothing.

    Returns:
        Profiles of no account.
    """
    ints, floats, hashes = np.empty(0, np.int64), np.empty(0), np.empty(0, np.uint64)
    text = pa.array([], pa.large_string())
    ragged = Ragged.empty(0)
    columns: list[Any] = [ints, hashes, floats, ints, *([hashes] * 7), text, text, *([ragged] * 3)]
    return Profiles(text, Totals(ints, ints, ints, floats, floats), Digests(*columns))


def merge(first: Profiles, second: Profiles, *, digests_per_account: int = 256) -> Profiles:
    """Unite the profiles of two logs that share no exchange.

    Args:
        first: profiles folded with the same configuration.
        second: as `first`.
        digests_per_account: the bound of `FoldConfig`.

    Returns:
        What folding both logs at once would have given.
    """
    return merge_all([first, second], digests_per_account=digests_per_account)


def merge_all(parts: list[Profiles], *, digests_per_account: int = 256) -> Profiles:
    """Unite the profiles of any number of logs at the price of one merge.

    Args:
        parts: profiles folded with the same configuration.
        digests_per_account: the bound of `FoldConfig`.

    Returns:
        What folding all logs at once would have given.
    """
    parts = [part for part in parts if part.n_accounts]
    if not parts:
        return no_profiles()
    every = pa.concat_arrays([part.accounts for part in parts])
    accounts = pc.unique(every)
    accounts = accounts.take(pc.sort_indices(accounts))
    number = pc.index_in(every, value_set=accounts).to_numpy(zero_copy_only=False).astype(np.int64)
    bounds = np.cumsum([0] + [part.n_accounts for part in parts])
    totals = _sum_totals(parts, number, n_accounts=len(accounts))
    digests = _concatenate([
        part.digests._replace(account=number[start:][part.digests.account])
        for part, start in zip(parts, bounds, strict=False)
    ])
    return Profiles(accounts, totals, bound_digests(digests, digests_per_account))


def bound_digests(digests: Digests, limit: int) -> Digests:
    """Sort digests and keep at most `limit` of an account, the smallest keys.

    Args:
        digests: rows in any order.
        limit: rows kept of an account.

    Returns:
        Rows sorted by account and key; ties in all that matters are broken by content, so the
        order of the input does not show.
    """
    order = np.lexsort((
        digests.output_tokens, digests.text, digests.started_at, digests.key, digests.account,
    ))  # fmt: skip
    account = digests.account[order]
    first = np.searchsorted(account, account, side="left")
    return digests.take(order[np.arange(len(order)) - first < limit])


def _sum_totals(parts: list[Profiles], number: Ints, *, n_accounts: int) -> Totals:
    def added(name: str) -> Ints:
        total = np.zeros(n_accounts, dtype=np.int64)
        np.add.at(total, number, np.concatenate([getattr(p.totals, name) for p in parts]))
        return total

    first, last = np.full(n_accounts, np.inf), np.full(n_accounts, -np.inf)
    np.minimum.at(first, number, np.concatenate([p.totals.first_seen for p in parts]))
    np.maximum.at(last, number, np.concatenate([p.totals.last_seen for p in parts]))
    return Totals(added("exchanges"), added("output_tokens"), added("refused"), first, last)


def _concatenate(parts: list[Digests]) -> Digests:
    joined: list[Any] = [_join(list(columns)) for columns in zip(*parts, strict=True)]
    return Digests(*joined)


def _join(columns: list[Any]) -> object:
    if isinstance(columns[0], Ragged):
        return Ragged.concatenate(columns)
    if isinstance(columns[0], np.ndarray):
        return np.concatenate(columns)
    return pa.concat_arrays(columns)


def _take(column: Any, rows: Ints) -> object:
    if isinstance(column, Ragged):
        return column.take(rows)
    if isinstance(column, np.ndarray):
        return column[rows]
    return column.take(pa.array(rows))
