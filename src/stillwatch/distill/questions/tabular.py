"""Lines of text, and tables of separated values, as rows."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

from stillwatch.distill.questions.files import (
    Place,
    Record,
    ending_of,
    opened,
    refuse_row,
    text_lines,
)
from stillwatch.errors import InvalidInputError

_LONGEST_CELL = 64 * 2**20


def text_records(place: Place, pattern: str) -> Iterator[Record]:
    """Read lines of text; blank ones are none.

    Args:
        place: the file.
        pattern: an expression whose named groups are columns, or "".

    Yields:
        Texts, or columns.

    Raises:
        InvalidInputError: a line does not fit the pattern, or the pattern is none.
    """
    try:
        compiled = re.compile(pattern) if pattern else None
    except re.error as error:
        message = f"[questions.files]: pattern must be a regular expression: {error}"
        raise InvalidInputError(message) from error
    for number, line in text_lines(place):
        origin = f"{place.name}:{number}"
        if not line.strip():
            continue
        if compiled is None:
            yield Record(origin, line.strip())
            continue
        match = compiled.search(line)
        if match is None:
            refuse_row(origin, "the line must match `pattern`")
        yield Record(origin, {k: v for k, v in match.groupdict().items() if v is not None})


def csv_records(place: Place, *, has_header: bool) -> Iterator[Record]:
    """Read a table of comma-, semicolon- or tab-separated values.

    Args:
        place: the file.
        has_header: whether the first row names the columns; else they are "0", "1", ...

    Yields:
        Rows by column, with the line that they begin at.

    Raises:
        InvalidInputError: a row does not fit the header, or the file is not UTF-8.
    """
    csv.field_size_limit(_LONGEST_CELL)
    is_tabbed = ending_of(place.path) == ".tsv"
    with opened(place) as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        try:
            first = text.readline()
            delimiter = "\t" if is_tabbed else max(",\t;", key=first.count)
            # Tab-separated values know no quotes: a cell may begin with one.
            lines = chain([first], text)
            reader = (
                csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
                if is_tabbed
                else csv.reader(lines, delimiter=delimiter)
            )
            yield from _csv_rows(reader, place, has_header=has_header)
        except UnicodeDecodeError as error:
            refuse_row(place.name, f"the file is not UTF-8 (byte {error.start} of a block)")


def _csv_rows(reader: Any, place: Place, *, has_header: bool) -> Iterator[Record]:
    header: list[str] | None = None
    line = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            refuse_row(f"{place.name}:{reader.line_num}", f"the row is no CSV: {error}")
        start, line = line, reader.line_num + 1
        if not cells:
            continue
        if header is None:
            header = cells if has_header else [str(n) for n in range(len(cells))]
            if has_header:
                continue
        if len(cells) != len(header):
            rule = f"the row has {len(cells)} cells, the first {len(header)}"
            refuse_row(f"{place.name}:{start}", rule, hint="a comma in a text needs quotes")
        yield Record(f"{place.name}:{start}", dict(zip(header, cells, strict=True)))
