"""Profiles as Arrow tables and back, for every place where they rest or travel.

Columns are told apart by their Arrow types alone, so a field that is added to `Totals` or
`Digests` needs no line here. What comes back is what went in, byte for byte, in arrays of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from stillwatch.detect.profiles.profile import Digests, Profiles, Totals
from stillwatch.text.ragged import Ragged, starts_of

#: Rows of a batch at rest or on the way: what must be compressed or sent at once.
BATCH_ROWS = 65_536
#: Where the schema of the accounts says how finely the profiles are kept.
_LEVEL = b"level"


class ProfileTables(NamedTuple):
    """Profiles as two tables.

    Attributes:
        accounts: one row an account: `account`, then the fields of `Totals`; the level of the
            profiles is in the metadata of its schema.
        digests: one row an exchange kept: the fields of `Digests`.
    """

    accounts: pa.Table
    digests: pa.Table


def to_tables(profiles: Profiles) -> ProfileTables:
    """Lay profiles out as tables; nothing is copied.

    Args:
        profiles: any.

    Returns:
        The tables, which share the memory of the profiles.
    """
    totals = {name: _to_arrow(column) for name, column in profiles.totals._asdict().items()}
    digests = {name: _to_arrow(column) for name, column in profiles.digests._asdict().items()}
    accounts = pa.table({"account": profiles.accounts, **totals})
    level = {_LEVEL: str(profiles.level)}
    return ProfileTables(accounts.replace_schema_metadata(level), pa.table(digests))


def from_tables(accounts: pa.Table, digests: pa.Table) -> Profiles:
    """Read profiles back from their tables.

    Args:
        accounts: as `ProfileTables.accounts`.
        digests: as `ProfileTables.digests`.

    Returns:
        Profiles in memory of their own.

    Raises:
        KeyError: a column is absent.
    """
    level = int((accounts.schema.metadata or {})[_LEVEL])
    totals: list[Any] = [_from_arrow(accounts.column(name)) for name in Totals._fields]
    columns: list[Any] = [_from_arrow(digests.column(name)) for name in Digests._fields]
    names = _from_arrow(accounts.column("account"))
    return Profiles(names, Totals(*totals), Digests(*columns), level)


def pack(profiles: Profiles) -> bytes:
    """Put profiles into one piece of bytes, to be sent.

    Args:
        profiles: any.

    Returns:
        Two Arrow IPC streams, each behind its length.
    """
    parts = []
    for table in to_tables(profiles):
        sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=BATCH_ROWS)
        body = sink.getvalue().to_pybytes()
        parts += [len(body).to_bytes(8, "little"), body]
    return b"".join(parts)


def unpack(payload: Any) -> Profiles:
    """Take profiles out of the bytes that `pack` made.

    Args:
        payload: the bytes, or a buffer of them.

    Returns:
        The profiles.
    """
    view, tables = memoryview(payload), []
    while view:
        size = int.from_bytes(view[:8], "little")
        with pa.ipc.open_stream(pa.py_buffer(view[8 : 8 + size])) as reader:
            tables.append(reader.read_all())
        view = view[8 + size :]
    accounts, digests = tables
    return from_tables(accounts, digests)


def _to_arrow(column: Any) -> pa.Array:
    if isinstance(column, Ragged):
        values = pa.array(column.values)
        return pa.LargeListArray.from_arrays(pa.array(column.offsets), values)
    if not isinstance(column, np.ndarray):
        return column
    if column.ndim == 1:
        return pa.array(column)
    flat = pa.array(np.ascontiguousarray(column).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, column.shape[1])


def _from_arrow(column: pa.ChunkedArray) -> Any:
    kind, chunks = column.type, column.chunks
    if pa.types.is_large_list(kind):
        flat = _joined([chunk.flatten() for chunk in chunks], kind.value_type)
        lengths = [np.diff(chunk.offsets.to_numpy()) for chunk in chunks]
        return Ragged(flat, starts_of(np.concatenate([np.empty(0, np.int64), *lengths])))
    if pa.types.is_fixed_size_list(kind):
        flat = _joined([chunk.flatten() for chunk in chunks], kind.value_type)
        return flat.reshape(len(column), kind.list_size)
    if pa.types.is_primitive(kind):
        return _joined(chunks, kind)
    # concatenation of none or one shares memory with the file that it was read from
    return pa.concat_arrays([*chunks, pa.array([], kind)])


def _joined(chunks: Sequence[pa.Array], kind: pa.DataType) -> np.ndarray[Any, Any]:
    empty = np.empty(0, dtype=kind.to_pandas_dtype())
    return np.concatenate([empty, *(chunk.to_numpy() for chunk in chunks)])
