"""The batches of a run on disk: what was meant to be sent, what was sent, what came of it.

An event is written, and is on the disk, before the next thing happens: the intent before a batch
is sent, its id before it is awaited, its end before its files go. So a run that is killed at any
moment knows of every batch that the vendor may have taken, and sends none of them twice.
"""

from __future__ import annotations

import os
import secrets
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal, Self

import msgspec

from stillwatch.distill.items import Item
from stillwatch.errors import RecordError

#: What may happen to a chunk, in this order; `refused` and `recorded` are ends.
Event = Literal["intent", "submitted", "refused", "recorded"]
_LOG = "batches.jsonl"


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One question of a batch.

    Attributes:
        key: its request key.
        item: what is asked.
        n_input: input tokens, at most (count).
        tries: attempts at it before this one (count).
        failures: failed ones among them (count).
    """

    key: str
    item: Item
    n_input: int
    tries: int = 0
    failures: int = 0


class LogLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event.

    Attributes:
        event: what happened.
        tag: to which chunk.
        at: when (UTC epoch seconds).
        n_rows: questions of the chunk (count), with its intent.
        batch_id: the vendor's id, once submitted.
        code: why it was refused.
    """

    event: Event
    tag: str
    at: float
    n_rows: int = 0
    batch_id: str = ""
    code: str = ""


_encode = msgspec.json.Encoder().encode
_decode_line = msgspec.json.Decoder(LogLine).decode
_decode_row = msgspec.json.Decoder(Row).decode


class BatchLog:
    """The log of one run's batches and the files of those under way.

    Args:
        folder: where they lie; made if absent. The run's journal keeps other writers out.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / _LOG
        self._lines = list(self._read())

    def note(self, line: LogLine) -> None:
        """Write an event, and return once it is on the disk.

        Args:
            line: the event.
        """
        with self._path.open("ab") as file:
            file.write(_encode(line) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._lines.append(line)

    def open_chunks(self) -> list[tuple[LogLine, LogLine | None]]:
        """List what was begun and has not ended.

        Returns:
            Each chunk's intent, and its submission or None when nobody knows of one.
        """
        begun = {line.tag: line for line in self._lines if line.event == "intent"}
        sent = {line.tag: line for line in self._lines if line.event == "submitted"}
        ended = {line.tag for line in self._lines if line.event in {"refused", "recorded"}}
        return [(line, sent.get(tag)) for tag, line in begun.items() if tag not in ended]

    def batch_ids(self) -> frozenset[str]:
        """Ids of all batches that this run knows as its own."""
        return frozenset(line.batch_id for line in self._lines if line.batch_id)

    def sent_path(self, tag: str) -> Path:
        """Where a chunk lies as it is sent."""
        return self.folder / f"{tag}.send"

    def rows_path(self, tag: str) -> Path:
        """Where a chunk's rows lie."""
        return self.folder / f"{tag}.rows"

    def result_path(self, tag: str, n: int) -> Path:
        """Where the n-th file of a chunk's results lies."""
        return self.folder / f"{tag}.result{n}"

    def forget(self, tag: str) -> None:
        """Remove the files of a chunk that has ended."""
        for path in self.folder.glob(f"{tag}.*"):
            path.unlink()

    def tidy(self) -> None:
        """Remove files of chunks that were never meant to be sent, or have ended."""
        kept = {begun.tag for begun, _ in self.open_chunks()}
        for path in self.folder.iterdir():
            if path.name != _LOG and path.name.partition(".")[0] not in kept:
                path.unlink()

    def _read(self) -> Iterator[LogLine]:
        if not self._path.exists():
            return
        content = self._path.read_bytes()
        whole, newline, torn = content.rpartition(b"\n")
        if torn:  # its writer was killed before the event counted
            os.truncate(self._path, len(whole) + len(newline))
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                yield _decode_line(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                message = f"{self._path}:{number}: not an event of a batch"
                hint = "batches that are under way are listed by the vendor"
                raise RecordError(message, hint=hint) from error


class ChunkWriter:
    """Writes one chunk: its rows, and the bytes to send. Use it with `with`.

    Args:
        log: where its files go.
        opening: bytes before the first row of what is sent.
        between: bytes between two rows.

    Attributes:
        tag: what it is found by, 16 hex digits of its own.
        n_rows: rows written (count).
        n_bytes: of what is sent.
    """

    def __init__(self, log: BatchLog, *, opening: bytes, between: bytes) -> None:
        self.tag = secrets.token_hex(8)
        self.n_rows = 0
        self.n_bytes = len(opening)
        self._between = between
        self._rows: BinaryIO = log.rows_path(self.tag).open("wb")
        self._send: BinaryIO = log.sent_path(self.tag).open("wb")
        self._send.write(opening)

    def add(self, row: Row, sent: bytes) -> None:
        """Write one row.

        Args:
            row: it.
            sent: its bytes as they are sent, with the id `TAG-n`.
        """
        if self.n_rows:
            self._send.write(self._between)
        self._send.write(sent)
        self._rows.write(_encode(row) + b"\n")
        self.n_rows += 1
        self.n_bytes += len(sent) + len(self._between)

    def finish(self, closing: bytes) -> None:
        """Bring both files to the disk.

        Args:
            closing: bytes after the last row of what is sent.
        """
        self._send.write(closing)
        for file in (self._rows, self._send):
            file.flush()
            os.fsync(file.fileno())
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()
        self._send.close()


class Rows:
    """The rows of a chunk, read one at a time by their number. Use it with `with`.

    Args:
        path: their file.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._places = array("Q", _places(self._file))

    def __len__(self) -> int:
        return len(self._places) - 1

    def __getitem__(self, n: int) -> Row:
        begin, end = self._places[n], self._places[n + 1]
        return _decode_row(os.pread(self._file.fileno(), end - begin, begin))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _places(lines: Iterable[bytes]) -> Iterator[int]:
    place = 0
    yield place
    for line in lines:
        place += len(line)
        yield place
