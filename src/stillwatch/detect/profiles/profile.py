"""Profiles: what `detect` remembers of exchanges, in bounded memory per account.

A profile is a row of sums per account and a uniform sample of digests of its exchanges, the
smallest by a hash of the exchange id. Sums add, extremes compare, bottom-k samples unite: so
merging is associative and commutative, and folding in any order or on any number of machines gives
the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stillwatch.detect.evidence.flags import FLAGS
from stillwatch.text.features import WIDTH
from stillwatch.text.ragged import Hashes, Ragged

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Counts = NDArray[np.int32]

#: What decides the order of digests, the last first; all but two matter only should a log have two
#: exchanges of one id.
_ORDERED_BY = (
    "org", "agent", "network", "tools", "setup", "system", "output_tokens", "text", "started_at",
    "key", "account",
)  # fmt: skip


class Totals(NamedTuple):
    """Sums and extremes per account, shape (n_accounts,) unless said otherwise.

    Whatever is added is an integer, so that sums do not depend on the order of adding.

    Attributes:
        exchanges: exchanges seen (count).
        input_tokens: tokens of all questions (count), unknown ones as 0.
        output_tokens: tokens of all answers (count), unknown ones as 0.
        refused: exchanges without an answer, status 400 or above (count).
        first_seen: start of the first exchange, epoch seconds.
        last_seen: start of the last exchange, epoch seconds.
        hours: exchanges by hour of the day, UTC (count), shape (n_accounts, 24), int32.
        flags: questions that show each of `flags.FLAGS` (count), shape (n_accounts, n), int32.
        kernel: sum of the questions' `text.features`, shape (n_accounts, 256), int32.
    """

    exchanges: Ints
    input_tokens: Ints
    output_tokens: Ints
    refused: Ints
    first_seen: Floats
    last_seen: Floats
    hours: Counts
    flags: Counts
    kernel: Counts


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
        shingles: skeleton shingles, numbers masked: the question's smallest in order, then the
            system prompt's smallest that the question does not have, in order; uint32.
        words: words and word pairs, numbers masked, the smallest in order; uint32.
        lines: hashes of whole lines, numbers kept, the smallest in order; uint32.
        n_asked: how many of `shingles` are the question's, int16.
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
    n_asked: NDArray[np.int16]

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
        level: how finely, see `levels`: 0 is everything, at 2 there is no text.
    """

    accounts: pa.Array
    totals: Totals
    digests: Digests
    level: int = 0

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
            self.level,
        )


def no_totals(n_accounts: int) -> Totals:
    """Give the totals of accounts that asked nothing: where adding starts.

    Args:
        n_accounts: how many.

    Returns:
        Zeros, and no first or last exchange.
    """
    zeros: list[Any] = [np.zeros(n_accounts, np.int64) for _ in range(4)]
    widths = (24, len(FLAGS), WIDTH)
    wide: list[Any] = [np.zeros((n_accounts, width), np.int32) for width in widths]
    seen = np.full(n_accounts, np.inf), np.full(n_accounts, -np.inf)
    return Totals._make([*zeros, *seen, *wide])


def no_digests() -> Digests:
    """Give the digests of an empty log.

    Returns:
        No rows.
    """
    ints, floats, hashes = np.empty(0, np.int64), np.empty(0), np.empty(0, np.uint64)
    text, ragged = pa.array([], pa.large_string()), Ragged.empty(0, bits=32)
    columns: list[Any] = [ints, hashes, floats, ints, *([hashes] * 7), text, text, *([ragged] * 3)]
    return Digests._make([*columns, np.empty(0, np.int16)])


def no_profiles() -> Profiles:
    """Give the profiles of an empty log: merging them changes nothing.

    Returns:
        Profiles of no account.
    """
    return Profiles(pa.array([], pa.large_string()), no_totals(0), no_digests())


def bound_digests(digests: Digests, limit: int) -> Digests:
    """Sort digests and keep at most `limit` of an account, the smallest keys.

    Args:
        digests: rows in any order.
        limit: rows kept of an account.

    Returns:
        Rows sorted by account and key; ties are broken by content, so the order of the input does
        not show.
    """
    return digests.take(_order_of(lambda name: getattr(digests, name), limit))


def unite_digests(parts: list[Digests], limit: int) -> Digests:
    """Unite digests, sorted and bounded as by `bound_digests`, one column at a time.

    The list is emptied, and every column of the parts given up as soon as it is copied, so that
    memory peaks at little more than one copy.

    Args:
        parts: at least one, with accounts numbered alike; not to be used afterwards.
        limit: rows kept of an account.

    Returns:
        All that is kept.
    """
    if len(parts) == 1:
        return bound_digests(parts.pop(), limit)
    columns: list[Any] = [list(column) for column in zip(*parts, strict=True)]
    parts.clear()
    order = _order_of(lambda name: _join(columns[Digests._fields.index(name)]), limit)
    taken: list[Any] = []
    for number, column in enumerate(columns):
        columns[number] = None
        whole = _join(column)
        column.clear()
        taken.append(_take(whole, order))
    return Digests(*taken)


def _order_of(column: Callable[[str], Any], limit: int) -> Ints:
    from stillwatch.detect.profiles.order import smallest_keys

    account: Ints = column("account")
    order, tied = smallest_keys(account, column("key"), limit)
    if not tied:
        return order
    order = np.lexsort([column(name) for name in _ORDERED_BY])
    account = account[order]
    first = np.searchsorted(account, account, side="left")
    return order[np.arange(len(order)) - first < limit]


def _join(columns: list[Any]) -> Any:
    if len(columns) == 1:
        return columns[0]
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
