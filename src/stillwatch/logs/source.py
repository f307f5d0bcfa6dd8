"""Files of logs as blocks of undecoded records: compression, arrays, rows and lines, bounded.

Knows nothing of formats. Whatever cannot be read becomes a `Fault` with its file and line, so that
nothing is left out in silence.
"""

from __future__ import annotations

import glob
import io
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from stillwatch.errors import InvalidInputError
from stillwatch.logs.pieces import Pieces
from stillwatch.logs.table import csv_blocks, looks_like_csv
from stillwatch.logs.unit import LONGEST, Block, Fault
from stillwatch.record.segments import segment_numbers

__all__ = ["LONGEST", "Block", "Fault", "Source", "blocks", "find_sources"]

STDIN = "-"
_STORE_MARKER = "stillwatch-store.json"
_CHUNK = 2**20  # bytes read at once
_SMALL = 4096
_ROWS = 2048  # Parquet rows of a block
_HEAD = 2**16  # bytes looked at to tell the layout
_GZIP, _ZSTD, _PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
#: What a folder is searched for; other files in it are not logs unless named.
SUFFIXES = (".jsonl", ".ndjson", ".json", ".log", ".csv", ".tsv", ".parquet", ".txt", ".har")
_PACKED = ("", ".gz", ".zst", ".zstd")


class Source(NamedTuple):
    """Something to read.

    Attributes:
        name: as the user gave it or as it was found; "-" for standard input.
        kind: file, store (a folder of Parquet in the house's schema) or journal (the gateway's).
    """

    name: str
    kind: Literal["file", "store", "journal"] = "file"


def find_sources(names: Iterable[str]) -> list[Source]:
    """Say what there is to read.

    Args:
        names: files, folders (searched through for logs; a store or journal is taken whole), glob
            patterns, or "-" for standard input.

    Returns:
        Sources, in the order given; the files of a folder or pattern in the order of their names.

    Raises:
        InvalidInputError: a name or pattern fits nothing.
    """
    found: list[Source] = []
    for name in names:
        fitting = (
            [name]
            if name == STDIN or Path(name).exists()
            else sorted(glob.glob(name, recursive=True))
        )
        sources = [source for one in fitting for source in _sources(one)]
        if not sources:
            message = f"{name}: no log there"
            hint = f"a folder is searched for {', '.join(SUFFIXES)}, plain, .gz or .zst"
            raise InvalidInputError(message, hint=hint)
        found += sources
    return list(dict.fromkeys(found))


def blocks(source: Source, *, stream: BinaryIO | None = None) -> Iterator[Block | Fault]:
    """Read one file in bounded memory.

    Args:
        source: of kind file.
        stream: read this instead of opening the file; standard input by default for "-".

    Yields:
        Blocks of records in the file's order, and what could not be read where it stood.

    Raises:
        OSError: the file cannot be opened.
    """
    if stream is not None:
        yield from _stream_blocks(source.name, stream)
    elif source.name == STDIN:
        yield from _stream_blocks(STDIN, sys.stdin.buffer)
    else:
        with Path(source.name).open("rb") as file:
            yield from _stream_blocks(source.name, file)


def _sources(name: str) -> list[Source]:
    path = Path(name)
    if name == STDIN or not path.is_dir():
        return [Source(name)]
    if segment_numbers(path):
        return [Source(name, "journal")]
    if (path / _STORE_MARKER).exists() or any(path.glob("day=*/[!.]*.parquet")):
        return [Source(name, "store")]
    endings = tuple(suffix + packed for suffix in SUFFIXES for packed in _PACKED)
    # What earlier conversions wrote is read only when it is named itself.
    stores = {marker.parent for marker in path.rglob(_STORE_MARKER)}
    files = [file for file in sorted(path.rglob("*")) if stores.isdisjoint(file.parents)]
    return [
        Source(str(file))
        for file in files
        if file.is_file() and not file.name.startswith(".") and file.name.endswith(endings)
    ]


def _stream_blocks(name: str, raw: BinaryIO) -> Iterator[Block | Fault]:
    buffered = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(raw)  # type: ignore[type-var]
    magic = buffered.peek(4)[:4]
    if magic == _PARQUET:
        yield from _parquet_blocks(name, buffered)
        return
    chunks = _Chunks(name, buffered, magic)
    head = chunks.peek(_HEAD)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        yield Fault(name, 1, "the file is UTF-16; write it as UTF-8")
        return
    if looks_like_csv(name, head):
        yield from csv_blocks(name, iter(chunks))
    else:
        yield from Pieces(name, head).blocks(iter(chunks))
    if chunks.fault is not None:
        yield chunks.fault


class _Chunks:
    """The bytes of a stream, unpacked; what breaks is remembered, what came before is kept."""

    def __init__(self, name: str, stream: BinaryIO, magic: bytes) -> None:
        self.fault: Fault | None = None
        self._name = name
        self._waiting: list[bytes] = []
        if magic[:2] == _GZIP:
            self._inner = self._gzip(stream)
        elif magic == _ZSTD:
            self._inner = self._zstd(stream)
        else:
            self._inner = iter(lambda: stream.read(_CHUNK), b"")

    def peek(self, size: int) -> bytes:
        """Look at the first bytes without taking them."""
        while sum(map(len, self._waiting)) < size and (chunk := next(self._inner, None)):
            self._waiting.append(chunk)
        return b"".join(self._waiting)[:size]

    def __iter__(self) -> Iterator[bytes]:
        first = True
        while self._waiting or (chunk := next(self._inner, b"")):
            taken = self._waiting.pop(0) if self._waiting else chunk
            yield taken.removeprefix(b"\xef\xbb\xbf") if first else taken
            first = False

    def _gzip(self, stream: BinaryIO) -> Iterator[bytes]:
        unpack = zlib.decompressobj(wbits=31)
        try:
            while data := stream.read(_CHUNK // 4):
                while data:
                    if unpack.eof:  # another member follows, or padding
                        data = data.lstrip(b"\0")
                        if data:
                            unpack = zlib.decompressobj(wbits=31)
                        continue
                    # Bounded, because a packed megabyte can hold a gigabyte.
                    yield unpack.decompress(data, _CHUNK)
                    data = unpack.unconsumed_tail or unpack.unused_data
        except zlib.error:
            self.fault = Fault(self._name, 0, "the gzip data are damaged from here on")
            return
        if not unpack.eof:
            self.fault = Fault(self._name, 0, "the gzip file is cut off")

    def _zstd(self, stream: BinaryIO) -> Iterator[bytes]:
        held: list[bytes] = []
        try:
            with pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd") as unpacked:
                # Small reads, because what a failing one had unpacked is lost.
                while piece := unpacked.read(_SMALL):
                    held.append(piece)
                    if len(held) == _CHUNK // _SMALL:
                        yield b"".join(held)
                        held = []
        except (OSError, pa.ArrowException):
            self.fault = Fault(self._name, 0, "the zstd data are damaged or cut off from here on")
        yield b"".join(held)


def _parquet_blocks(name: str, stream: BinaryIO) -> Iterator[Block | Fault]:
    if not stream.seekable():
        yield Fault(name, 1, "Parquet needs a file, not a pipe")
        return
    row = 1
    try:
        with pq.ParquetFile(stream) as file:
            for batch in file.iter_batches(_ROWS):
                yield Block(name, row, "batch", batch)
                row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        yield Fault(
            name, row, f"the Parquet file cannot be read on from here ({type(error).__name__})"
        )


def records_of(batch: Any) -> list[dict[str, Any]]:
    """Turn a Parquet block into records.

    Args:
        batch: an Arrow record batch.

    Returns:
        One mapping a row, maps as dictionaries.
    """
    rows: list[dict[str, Any]] = batch.to_pylist(maps_as_pydicts="lossy")
    return rows
