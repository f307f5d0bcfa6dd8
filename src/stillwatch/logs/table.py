"""CSV and TSV as blocks of rows."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterable, Iterator
from typing import Any

from stillwatch.logs.unit import LONGEST, Block, Fault

_ROWS = 1000
_HEADER = re.compile(r'\ufeff?"?[A-Za-z_][\w .]*"?([,\t;]"?[A-Za-z_][\w .]*"?){2,}\r?')


def looks_like_csv(name: str, head: bytes) -> bool:
    """Tell a table from lines of JSON or text.

    Args:
        name: the file's name; `.csv` and `.tsv` count, packed or not.
        head: its first bytes, unpacked.

    Returns:
        Whether the first line is a header: three names or more between commas, tabs or semicolons.
    """
    first = head.split(b"\n", 1)[0].decode("utf-8", "replace")
    bare = name.removesuffix(".gz").removesuffix(".zst").removesuffix(".zstd").lower()
    return bare.endswith((".csv", ".tsv")) or _HEADER.fullmatch(first) is not None


def csv_blocks(name: str, chunks: Iterable[bytes]) -> Iterator[Block | Fault]:
    """Read a table.

    Args:
        name: the file's name.
        chunks: its bytes.

    Yields:
        Blocks of kind rows: column -> text, "" left out; rows that do not fit the header as faults.
    """
    lines = _text_lines(chunks)
    try:
        first = next(lines)
    except StopIteration:
        return
    csv.field_size_limit(LONGEST)
    delimiter = max(",\t;", key=first.count)
    header = next(csv.reader([first.removeprefix("\ufeff")], delimiter=delimiter))
    rows: list[dict[str, Any]] = []
    start = 1
    for number, row in enumerate(_rows(csv.reader(lines, delimiter=delimiter), header), start=1):
        if isinstance(row, dict):
            rows.append(row)
        if rows and (isinstance(row, str) or len(rows) == _ROWS):
            yield Block(name, start, "rows", rows)
            rows = []
        if isinstance(row, str):
            yield Fault(name, number, row)
        if not rows:
            start = number + 1
    if rows:
        yield Block(name, start, "rows", rows)


def _rows(reader: Iterator[list[str]], header: list[str]) -> Iterator[dict[str, Any] | str]:
    """Rows, or for what is none the reason."""
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield f"the row is no CSV: {error}"
            continue
        if not cells:  # a blank line
            continue
        if (reason := _misfit(cells, header)) is not None:
            yield reason
        else:
            yield {name: cell for name, cell in zip(header, cells, strict=True) if cell != ""}


def _misfit(cells: list[str], header: list[str]) -> str | None:
    if len(cells) != len(header):
        return f"the row has {len(cells)} cells, the header {len(header)}"
    if any("\udc80" <= c <= "\udcff" for cell in cells if not cell.isascii() for c in cell):
        return "the row is not UTF-8"
    return None


def _text_lines(chunks: Iterable[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    rest = ""
    for chunk in chunks:
        *whole, rest = (rest + decoder.decode(chunk)).split("\n")
        for line in whole:
            yield line + "\n"
    rest += decoder.decode(b"", final=True)
    if rest:
        yield rest
