"""What a file of logs is cut into: blocks of records, and faults."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

#: Bytes of a record at most; a longer one is a fault, and is skipped without being held.
LONGEST = 64 * 2**20
#: Bytes of a block at least, unless the file ends: large enough that handing it over costs nothing.
BLOCK_BYTES = 2 * 2**20


class Block(NamedTuple):
    """Records in a row, not yet decoded.

    Attributes:
        file: the file's name.
        first: line of the first record, from 1; its row in CSV and Parquet, its place in an array.
        kind: lines (bytes each), rows (dictionaries) or batch (an Arrow record batch).
        records: by kind; empty lines are kept, so that counting goes on from `first`.
    """

    file: str
    first: int
    kind: Literal["lines", "rows", "batch"]
    records: Any


class Fault(NamedTuple):
    """Something that could not be read.

    Attributes:
        file: the file's name.
        line: where, counted as in `Block.first`; 0 for its end.
        reason: in words, never with the content.
    """

    file: str
    line: int
    reason: str
