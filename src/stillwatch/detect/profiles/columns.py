"""Columns of a log as flat arrays: texts where they lie in Arrow's memory, hashes, numbers."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from stillwatch.detect.profiles.profile import Floats, Ints
from stillwatch.text.kernels import Texts
from stillwatch.text.ragged import Hashes, Offsets
from stillwatch.text.runs import compiled

_USER, _SYSTEM = (np.frombuffer(role, np.uint8) for role in (b"user", b"system"))


class Turns(NamedTuple):
    """Who said what in the conversations of a batch.

    Attributes:
        question: the last user turn of each row, empty when there is none.
        system: the system turns of each row, joined by newlines when there are several.
    """

    question: Texts
    system: Texts


def texts_of(column: pa.Array) -> Texts:
    """Point at the texts of a column; nothing is copied unless it has to be.

    Args:
        column: strings of any kind; nulls read as empty.

    Returns:
        One text a row.
    """
    if pa.types.is_dictionary(column.type) or pa.types.is_null(column.type):
        column = column.cast(pa.large_string())
    if column.null_count:
        column = column.fill_null("")
    large = column.type in (pa.large_string(), pa.large_binary())
    if not large and column.type not in (pa.string(), pa.binary()):
        column, large = column.cast(pa.large_string()), True
    _, offsets, data = column.buffers()
    if not len(column) or offsets is None:
        return no_texts(len(column))
    read: Any = np.frombuffer(offsets, np.int64 if large else np.int32)
    places: Offsets = read[column.offset :][: len(column) + 1].astype(np.int64)
    return Texts(_read_only(data), places[:-1].copy(), places[1:].copy())


def no_texts(n_rows: int) -> Texts:
    """Make empty texts.

    Args:
        n_rows: how many.

    Returns:
        They.
    """
    return Texts(_read_only(None), np.zeros(n_rows, np.int64), np.zeros(n_rows, np.int64))


def take_texts(texts: Texts, rows: Ints) -> Texts:
    """Pick texts.

    Args:
        texts: any.
        rows: which, shape (n,).

    Returns:
        They, in the order asked for.
    """
    return Texts(texts.data, texts.begins[rows], texts.ends[rows])


def column_of(data: NDArray[np.uint8], offsets: Offsets) -> pa.Array:
    """Make a column of texts that lie end to end.

    Args:
        data: UTF-8.
        offsets: shape (n_texts + 1,).

    Returns:
        Large strings.
    """
    buffers = pa.py_buffer(offsets), pa.py_buffer(data)
    return pa.LargeStringArray.from_buffers(len(offsets) - 1, *buffers)


def turns_of(batch: pa.RecordBatch) -> Turns:
    """Find the question and the system prompt of each row.

    Args:
        batch: rows of the store's schema, messages or not.

    Returns:
        The turns.
    """
    n_rows = batch.num_rows
    if "messages" not in batch.schema.names:
        return Turns(no_texts(n_rows), no_texts(n_rows))
    messages = batch["messages"]
    if messages.null_count:
        messages = messages.fill_null([])
    flat = messages.values
    roles, contents = texts_of(flat.field("role")), texts_of(flat.field("content"))
    lists = messages.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
    places = np.zeros((5, n_rows), np.int64)
    _find_turns(lists, roles, contents, places)
    question = Texts(contents.data, places[0], places[1])
    system = Texts(contents.data, places[2], places[3])
    if n_rows and places[4].max() > 1:
        system = _join_turns(contents, roles, lists)
    return Turns(question, system)


def hash_column(batch: pa.RecordBatch, name: str, rows: Ints) -> Hashes:
    """Hash the strings of a column, each distinct one once.

    Args:
        batch: any.
        name: of the column; it may be absent.
        rows: rows asked for, shape (n,).

    Returns:
        One hash a row asked for; 0 for null, empty and absent.
    """
    if name not in batch.schema.names:
        return np.zeros(len(rows), np.uint64)
    column = batch[name].take(pa.array(rows))
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    texts = column.dictionary.cast(pa.large_binary()).to_pylist()
    values = [xxhash.xxh3_64_intdigest(text) if text else 0 for text in texts]
    hashes = np.array([*values, 0], dtype=np.uint64)
    indices = column.indices.fill_null(len(values)).to_numpy(zero_copy_only=False)
    return np.asarray(hashes[indices], dtype=np.uint64)


def integers(batch: pa.RecordBatch, name: str, missing: int) -> Ints:
    """Read a column of whole numbers.

    Args:
        batch: any.
        name: of the column; it may be absent.
        missing: what null and absent are read as.

    Returns:
        Shape (n_rows,), int64.
    """
    if name not in batch.schema.names:
        return np.full(batch.num_rows, missing, dtype=np.int64)
    column = batch[name].cast(pa.int64()).fill_null(missing)
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.int64)


def floats(batch: pa.RecordBatch, name: str) -> Floats:
    """Read a column of numbers.

    Args:
        batch: any.
        name: of the column.

    Returns:
        Shape (n_rows,), float64; null is NaN.
    """
    return np.asarray(batch[name].cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=float)


def _read_only(data: pa.Buffer | None) -> NDArray[np.uint8]:
    # One kind of array, or every kernel would be compiled once for each.
    view = np.zeros(1, np.uint8) if data is None else np.frombuffer(data, np.uint8)
    view.flags.writeable = False
    return view


@compiled
def _is(  # noqa: PLR0917 - a compiled loop takes flat arrays
    data: Any, begin: Any, end: Any, wanted: Any
) -> Any:
    if end - begin != len(wanted):
        return False
    same = True
    for place in range(len(wanted)):
        same &= data[begin + place] == wanted[place]
    return same


@compiled
def _find_turns(  # noqa: PLR0917 - a compiled loop takes flat arrays
    lists: Any, roles: Any, contents: Any, places: Any
) -> None:
    """Note where question and system prompt begin and end, and how many system turns there are."""
    for row in range(len(lists) - 1):
        for turn in range(lists[row], lists[row + 1]):
            begin, end = roles.begins[turn], roles.ends[turn]
            if _is(roles.data, begin, end, _USER):
                places[0, row], places[1, row] = contents.begins[turn], contents.ends[turn]
            elif _is(roles.data, begin, end, _SYSTEM):
                places[2, row], places[3, row] = contents.begins[turn], contents.ends[turn]
                places[4, row] += 1


def _join_turns(contents: Texts, roles: Texts, lists: Offsets) -> Texts:
    """Join the system turns of each row; slow, and rarely needed."""
    told: list[bytes] = []
    data, named = contents.data.tobytes(), roles.data.tobytes()
    spans, names = np.stack(contents[1:], axis=1).tolist(), np.stack(roles[1:], axis=1).tolist()
    for first, last in itertools.pairwise(lists.tolist()):
        turns = (
            turn for turn in range(first, last) if named[slice(*names[turn])] == _SYSTEM.tobytes()
        )
        told.append(b"\n".join(data[slice(*spans[turn])] for turn in turns))
    return texts_of(pa.array(told, pa.large_binary()))
