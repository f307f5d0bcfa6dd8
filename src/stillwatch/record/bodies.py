"""Which parts of an exchange are body, in Arrow: whether rows still have one, and rows without."""

from __future__ import annotations

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.record.exchange import canonical_json

#: Column -> the parts of its items that are body: the first becomes "", the others null.
_PARTS = {"messages": ("content", "extra"), "answers": ("text", "reasoning", "extra")}
_PARAMETERS = "parameters"
#: What holds bodies.
BODY_COLUMNS = (*_PARTS, _PARAMETERS)
#: A longer text among the parameters is a body (characters): a schema, a stop sequence.
LONGEST_PARAMETER = 32


def has_body(batch: pa.RecordBatch) -> pa.BooleanArray:
    """Tell which rows hold anything of a body.

    Args:
        batch: columns of the store, any of `BODY_COLUMNS` among them.

    Returns:
        One truth a row.
    """
    rows = _all_false(batch.num_rows)
    for column in _PARTS.keys() & set(batch.schema.names):
        items = batch.column(column)
        flat = items.flatten()
        full = _all_false(len(flat))
        for part in _PARTS[column]:
            if flat.type.get_field_index(part) >= 0:
                text = pc.fill_null(pc.struct_field(flat, part), "")
                full = pc.or_(full, pc.not_equal(text, ""))
        hit = pc.unique(pc.list_parent_indices(items).filter(full))
        mask = pc.is_in(pa.array(range(batch.num_rows), hit.type), value_set=hit)
        rows = pc.or_(rows, mask)
    if _PARAMETERS in batch.schema.names:
        texts = batch.column(_PARAMETERS)
        full = [text for text in pc.unique(texts).to_pylist() if text != _bare(text)]
        rows = pc.or_(rows, pc.is_in(texts, value_set=pa.array(full, texts.type)))
    return rows


def without_bodies(batch: pa.RecordBatch, rows: pa.BooleanArray) -> pa.RecordBatch:
    """Empty the bodies of some rows; roles, turns, finish reasons and short parameters stay.

    Args:
        batch: columns of the store.
        rows: one truth a row.

    Returns:
        A batch of the same shape.
    """
    if not rows.true_count:
        return batch
    for column in set(BODY_COLUMNS) & set(batch.schema.names):
        values = batch.column(column)
        emptied = (
            _bare_parameters(values)
            if column == _PARAMETERS
            else _emptied(values, parts=_PARTS[column])
        )
        index = batch.schema.get_field_index(column)
        kept = pc.if_else(rows, emptied, values)
        batch = batch.set_column(index, batch.schema.field(index), kept)
    return batch


def _all_false(n: int) -> pa.BooleanArray:
    return pa.nulls(n, pa.bool_()).fill_null(False)


def _emptied(items: pa.ListArray, *, parts: tuple[str, ...]) -> pa.ListArray:
    flat = items.flatten()
    columns = []
    for field in flat.type:
        values = pc.struct_field(flat, field.name)
        if field.name in parts:
            absent = pa.scalar("" if field.name == parts[0] else None, field.type)
            values = pa.repeat(absent, len(flat)) if len(flat) else values
        columns.append(values)
    structs = pa.StructArray.from_arrays(columns, fields=list(flat.type))
    # Lengths, not offsets: a sliced batch keeps the offsets of what it was cut from.
    lengths = pc.fill_null(pc.list_value_length(items), 0)
    ends = pc.cumulative_sum(lengths).cast(pa.int32())
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
    return pa.ListArray.from_arrays(offsets, structs, type=items.type, mask=pc.is_null(items))


def _bare_parameters(texts: pa.StringArray) -> pa.StringArray:
    encoded = texts.dictionary_encode()  # few accounts set parameters of their own
    bare = pa.array([_bare(text) for text in encoded.dictionary.to_pylist()], texts.type)
    return bare.take(encoded.indices)


def _bare(text: str | None) -> str | None:
    if text is None:
        return None
    return canonical_json({
        name: value
        for name, value in msgspec.json.decode(text).items()
        if value is None
        or isinstance(value, bool | int | float)
        or (isinstance(value, str) and len(value) <= LONGEST_PARAMETER)
    })
