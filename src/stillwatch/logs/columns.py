"""Exchanges to Arrow columns, quickly: column by column instead of row by row.

Gives the batch that `record.exchange.to_batch` gives, for half of its time; at a million lines
the difference is a fifth of the conversion.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, chain
from operator import attrgetter
from typing import Any

import pyarrow as pa

from stillwatch.record.exchange import ARROW_SCHEMA, Exchange, canonical_json

_NESTED = ("messages", "answers")
_SPECIAL = frozenset({*_NESTED, "parameters", "tags"})
_READ = {name: attrgetter(name) for name in ARROW_SCHEMA.names}


def batch_of(exchanges: Sequence[Exchange]) -> pa.RecordBatch:
    """Turn exchanges into one Arrow batch of the store's schema, in the order given.

    Args:
        exchanges: any number, held in memory at once.

    Returns:
        One row an exchange, equal to `to_batch(exchanges)`.
    """
    arrays = []
    for field in ARROW_SCHEMA:
        values = map(_READ[field.name], exchanges)
        if field.name not in _SPECIAL:
            arrays.append(pa.array(values, field.type, size=len(exchanges)))
        elif field.name in _NESTED:
            arrays.append(_structs(list(values), field.type))
        elif field.name == "parameters":
            arrays.append(pa.array([canonical_json(p) if p else "{}" for p in values], field.type))
        else:
            arrays.append(_tags(values, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=ARROW_SCHEMA)


def _tags(rows: Iterable[dict[str, str]], kind: pa.MapType) -> pa.Array:
    """Few sets of tags are different: each is laid out once, and taken as often as it comes."""
    numbers: dict[tuple[tuple[str, str], ...], int] = {}
    taken = [numbers.setdefault(tuple(tags.items()), len(numbers)) for tags in rows]
    different = pa.array([sorted(items) for items in numbers], kind)
    return different if len(numbers) == len(taken) else different.take(pa.array(taken, pa.int32()))


def _structs(rows: list[tuple[Any, ...]], kind: pa.ListType) -> pa.ListArray:
    flat = list(chain.from_iterable(rows))
    offsets = list(accumulate(map(len, rows), initial=0))
    fields = list(kind.value_type)
    columns = [_column(flat, field) for field in fields]
    inner = pa.StructArray.from_arrays(columns, fields=fields)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), inner, type=kind)


def _column(items: Iterable[Any], field: pa.Field) -> pa.Array:
    return pa.array(list(map(attrgetter(field.name), items)), field.type)
