"""Rows of question files: lines, documents, tables, Parquet and Arrow, one at a time.

Knows nothing of what a row means. A row comes with the file and line that it stood at; what cannot
be read is an error that names both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from stillwatch.distill.questions.files import (
    ENDINGS,
    Place,
    Record,
    ending_of,
    find_files,
    opened,
    refuse_row,
    text_lines,
    value_at,
)
from stillwatch.distill.questions.hub import label_names
from stillwatch.distill.questions.table import FileTable, Formats
from stillwatch.distill.questions.tabular import csv_records, text_records
from stillwatch.logs.read import decode_line
from stillwatch.logs.reader import Origin
from stillwatch.logs.source import Source, blocks
from stillwatch.logs.unit import Fault
from stillwatch.record.disk import from_os_error

_decode = msgspec.json.Decoder().decode
#: A document is held whole to find its list of rows; larger arrays are read element by element.
_LARGEST_DOCUMENT = 64 * 2**20
_ROWS = 1024


def read_records(table: FileTable, base: Path) -> Iterator[Record]:
    """Read the rows of files.

    Args:
        table: which files, and how.
        base: what paths are relative to.

    Yields:
        Rows, file after file in the order of their names.

    Raises:
        InvalidInputError: nothing there, or a row that cannot be read.
        EnvironmentUnfitError: a file cannot be opened.
    """
    for place in find_files(table.path, base, split=table.split):
        rows = _with_beside(_rows(place, table), table, base)
        end = None if table.limit is None else table.skip + table.limit
        for record in islice(rows, table.skip, end):
            if all(_is_wanted(record.fields, name, want) for name, want in table.where.items()):
                yield record


def format_of(place: Place, table: FileTable) -> Formats:
    """Say how a file is read.

    Args:
        place: the file.
        table: what was asked for.

    Returns:
        A format, never auto.
    """
    if table.format != "auto":
        return table.format
    if table.pattern:
        return "text"
    ending = ENDINGS.get(ending_of(place.path), "text")
    return "json" if table.at and ending != "text" else ending


def _rows(place: Place, table: FileTable) -> Iterator[Record]:
    how = format_of(place, table)
    if how == "text":
        yield from text_records(place, table.pattern)
    elif how == "whole":
        lines = [line for _, line in text_lines(place)]
        yield Record(f"{place.name}:1", "\n".join(lines).strip())
    elif how == "csv":
        yield from csv_records(place, has_header=table.header)
    elif how in {"parquet", "arrow"}:
        yield from _arrow(place, how)
    elif how == "json" and (document := _document(place, must=bool(table.at))) is not None:
        yield from _in_document(place, document, table.at)
    else:
        yield from _json_lines(place)


def _json_lines(place: Place) -> Iterator[Record]:
    try:
        for block in blocks(Source(str(place.path))):
            if isinstance(block, Fault):
                refuse_row(f"{place.name}:{block.line}", block.reason)
            if block.kind != "lines":
                hint = 'set format = "csv" or "parquet"'
                refuse_row(place.name, "the file is no JSON", hint=hint)
            for number, line in enumerate(block.records, start=block.first):
                if line and not line.isspace():
                    found = decode_line(line, Origin(place.name, number))
                    if isinstance(found, Fault):
                        refuse_row(f"{place.name}:{number}", found.reason)
                    yield Record(f"{place.name}:{number}", found)
    except OSError as error:
        raise from_os_error(error, path=place.path, doing="read") from error


def _document(place: Place, *, must: bool) -> Any:
    """Hold a file as one document; None for what is none, or too large to be held."""
    if not must and place.path.stat().st_size > _LARGEST_DOCUMENT:
        return None
    with opened(place) as file:
        raw = file.read()
    try:
        return _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        if must:
            refuse_row(place.name, "`at` needs one JSON document", hint="the file holds lines")
        return None


def _in_document(place: Place, document: Any, at: str) -> Iterator[Record]:
    rows = value_at(document, at) if at else document
    if not at and isinstance(document, dict):
        lists = [value for value in document.values() if isinstance(value, list)]
        rows = lists[0] if len(lists) == 1 and not _says_something(document) else [document]
        if len(lists) > 1 and not _says_something(document):
            names = ", ".join(str(k) for k, v in document.items() if isinstance(v, list))
            rule = "the document holds several lists"
            refuse_row(place.name, rule, hint=f'say which: at = "..." ({names[:200]})')
    if not isinstance(rows, list):
        lists_at = [k for k, v in document.items() if isinstance(v, list)] if at else []
        hint = f"lists stand at {', '.join(lists_at)}" if lists_at else None
        refuse_row(place.name, f"at = {at!r} must lead to a list", hint=hint)
    for number, row in enumerate(rows, start=1):
        yield Record(f"{place.name}:{number}", row)


def _says_something(document: Mapping[str, Any]) -> bool:
    """Whether a document is itself one row: a conversation, or a question with its turns."""
    return any(
        name in document
        for name in ("messages", "conversations", "conversation", "turns", "question", "prompt")
    )


def _arrow(place: Place, how: str) -> Iterator[Record]:
    names: dict[str, list[str]] | None = None
    number = 0
    try:
        for batch in _batches(place, how):
            if names is None:
                names = label_names(place.path, batch.schema.metadata)
            for row in map(_without_nulls, batch.to_pylist(maps_as_pydicts="lossy")):
                number += 1
                for name, labels in names.items():
                    if isinstance(row.get(name), int) and 0 <= row[name] < len(labels):
                        row[name] = labels[row[name]]
                yield Record(f"{place.name}:{number}", row)
    except (pa.ArrowException, OSError) as error:
        kind = type(error).__name__
        refuse_row(f"{place.name}:{number + 1}", f"the file cannot be read on from here ({kind})")


def _without_nulls(value: Any) -> Any:
    """Leave out what the columns' common type has added: each struct has the fields of all."""
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_nulls(part) for part in value]
    return value


def _batches(place: Place, how: str) -> Iterator[pa.RecordBatch]:
    if how == "parquet":
        with pq.ParquetFile(place.path) as file:
            yield from file.iter_batches(_ROWS)
        return
    with pa.memory_map(str(place.path)) as source:
        try:
            reader = pa.ipc.open_stream(source)
        except pa.ArrowInvalid:  # the file form, which some tools write
            source.seek(0)
            whole = pa.ipc.open_file(source)
            yield from (whole.get_batch(n) for n in range(whole.num_record_batches))
            return
        yield from reader


def _with_beside(rows: Iterator[Record], table: FileTable, base: Path) -> Iterator[Record]:
    """Add the columns that stand line by line in other files."""
    if not table.beside:
        yield from rows
        return
    sides = {}
    for name, path in table.beside.items():
        (place,) = find_files(path, base)[:1]
        sides[name] = (place, text_lines(place))
    for record in rows:
        line = int(record.origin.rpartition(":")[2])
        fields = record.fields
        if not isinstance(fields, dict):
            fields = {"text": fields}
        found = {name: _line(side, line) for name, side in sides.items()}
        yield Record(record.origin, {**fields, **found})


def _line(side: tuple[Place, Iterator[tuple[int, str]]], wanted: int) -> str:
    place, lines = side
    for number, line in lines:
        if number == wanted:
            return line.strip()
    return refuse_row(f"{place.name}:{wanted}", "the file beside ends before this line")


def _is_wanted(fields: Any, name: str, want: Any) -> bool:
    value = value_at(fields, name)
    return value in want if isinstance(want, list) else value == want
