"""A log as every method of the benchmark sees it: rows, accounts, and traits as small integers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

#: Columns that say who asked and when.
WHO_AND_WHEN = ("exchange_id", "account", "started_at", "output_tokens")
#: Columns read of a log.
COLUMNS = (
    *WHO_AND_WHEN, "model", "messages", "parameters", "tools_hash", "network_hash", "user_agent",
)  # fmt: skip
#: Traits that the accounts table gives, by its column.
ACCOUNT_TRAITS = {
    "payment": "payment_hash",
    "signup_network": "signup_network_hash",
    "email_domain": "email_domain",
    "org": "org",
}
_WORDS = r"\S+(?:\s+\S+){0,7}"


class Observed(NamedTuple):
    """History and live log together, so that one value has one code in both.

    Attributes:
        accounts: names, sorted.
        account: number of the asking account a row, shape (n,).
        live: whether a row belongs to the log under test; the rest is honest history.
        exchange_id: of each row.
        started_at: UTC epoch seconds.
        output_tokens: count.
        question: the last user turn.
        traits: codes by trait, shape (n,) each, -1 where a row has none.
    """

    accounts: pa.Array
    account: Ints
    live: Bools
    exchange_id: pa.Array
    started_at: Floats
    output_tokens: Ints
    question: pa.Array
    traits: dict[str, Ints]

    @property
    def n_accounts(self) -> int:
        """Accounts of both parts (count)."""
        return len(self.accounts)

    def rows_of(self, accounts: Ints) -> Ints:
        """List the live rows of some accounts.

        Args:
            accounts: numbers.

        Returns:
            Row numbers, ascending.
        """
        chosen = np.zeros(self.n_accounts, dtype=bool)
        chosen[accounts] = True
        return np.flatnonzero(chosen[self.account] & self.live)


def observe(
    live: Iterable[pa.RecordBatch],
    history: Iterable[pa.RecordBatch] = (),
    *,
    accounts: pa.Table | None = None,
    has_traits: bool = True,
) -> Observed:
    """Read both parts of a log into codes.

    Args:
        live: rows of the store's schema, under test.
        history: rows known to be honest.
        accounts: the accounts side table, with a column `account`.
        has_traits: read questions and traits too, which baselines need; large logs go without.

    Returns:
        The log, history first.
    """
    columns = COLUMNS if has_traits else WHO_AND_WHEN
    parts = [[_slim(batch, columns) for batch in batches] for batches in (history, live)]
    n_history = sum(len(batch) for batch in parts[0])
    table = pa.Table.from_batches([*parts[0], *parts[1]])
    names, account = _codes(table["account"])
    order = pc.sort_indices(names)
    rank = np.empty(len(names), dtype=np.int64)
    rank[order.to_numpy()] = np.arange(len(names))
    account, names = rank[account], names.take(order)
    question, traits = pa.nulls(len(table), pa.large_string()), dict[str, Ints]()
    if has_traits:
        question, system = _texts(table["messages"])
        traits = _traits(table, question, system=system)
        traits |= _account_traits(accounts, names, account=account)
    return Observed(
        accounts=names,
        account=account,
        live=np.arange(len(table)) >= n_history,
        exchange_id=table["exchange_id"].combine_chunks(),
        started_at=table["started_at"].to_numpy(),
        output_tokens=table["output_tokens"].fill_null(0).to_numpy().astype(np.int64),
        question=question,
        traits=traits,
    )


def _slim(batch: pa.RecordBatch, columns: tuple[str, ...]) -> pa.RecordBatch:
    """Keep some columns, text as large strings: a world's texts may pass 2 GiB."""
    batch = batch.select(list(columns))
    for place, field in enumerate(batch.schema):
        if pa.types.is_string(field.type):
            column = batch.column(place).cast(pa.large_string())
            batch = batch.set_column(place, field.name, column)
    return batch


def _traits(table: pa.Table, question: pa.Array, *, system: pa.Array) -> dict[str, Ints]:
    masked = pc.replace_substring_regex(pc.utf8_lower(question), r"\d+", "0")
    opening = pc.extract_regex(masked, rf"^\s*(?P<w>{_WORDS})").field("w")
    closing = pc.extract_regex(masked, rf"(?P<w>{_WORDS})\s*$").field("w")
    setup = pc.binary_join_element_wise(
        table["model"].fill_null(""),
        table["parameters"].fill_null(""),
        pa.scalar(" ", pa.large_string()),
    )
    columns = {
        "system": system,
        "tools": table["tools_hash"],
        "parameters": setup,
        "user_agent": table["user_agent"],
        "network": table["network_hash"],
        "opening": opening,
        "closing": closing,
        "question": question,
    }
    return {name: _codes(column, absent="")[1] for name, column in columns.items()}


def _account_traits(
    accounts: pa.Table | None, names: pa.Array, *, account: Ints
) -> dict[str, Ints]:
    if accounts is None:
        return {}
    place = pc.index_in(names, value_set=accounts["account"].cast(names.type).combine_chunks())
    return {
        trait: _codes(accounts[column].combine_chunks().take(place), absent="")[1][account]
        for trait, column in ACCOUNT_TRAITS.items()
        if column in accounts.column_names
    }


def _codes(column: pa.Array, *, absent: str | None = None) -> tuple[pa.Array, Ints]:
    """Number the distinct values; null and `absent` get -1."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if absent is not None:
        column = pc.if_else(pc.fill_null(pc.equal(column, absent), True), None, column)
    encoded = column.dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return encoded.dictionary, codes


def _texts(messages: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """Give the last user turn and the last system turn of each row."""
    turns = messages.combine_chunks()
    if isinstance(turns, pa.ChunkedArray):
        turns = pa.concat_arrays(turns.chunks)
    parents = pc.list_parent_indices(turns).to_numpy()
    flat = turns.flatten()
    contents = flat.field("content").cast(pa.large_string())
    found = []
    for role in ("user", "system"):
        last = np.full(len(turns), -1, dtype=np.int64)
        spoken = pc.fill_null(pc.equal(flat.field("role"), role), False)
        places = np.flatnonzero(spoken.to_numpy(zero_copy_only=False))
        last[parents[places]] = places
        found.append(contents.take(pa.array(last, mask=last < 0)).fill_null(""))
    return found[0], found[1]
