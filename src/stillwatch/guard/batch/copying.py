"""Copies an input as it passes by, and finds out what its rows ask."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from stillwatch.errors import InvalidInputError, StillwatchError
from stillwatch.guard.batch.copies import Copies, Copy, Place, Tally
from stillwatch.guard.batch.elements import elements
from stillwatch.guard.batch.lines import Line, LineReader
from stillwatch.guard.batch.rows import RowFacts, Vendor, read_row, row_facts, row_key
from stillwatch.guard.batch.settings import BatchConfig

_GROUP: Final = 1000  # rows written to the table at once
_MOST_MODELS: Final = 64  # told apart in one input
_MAPPED: Final = 8 * 2**20  # bytes of a file that are looked at and still mapped
_MOST_REFERENCES: Final = 10_000
#: Seconds of work after which the worker lets the interpreter go, and for how long: an event loop
#: that waits for it would otherwise wait five milliseconds, every time.
_SPELL_S, _PAUSE_S = 0.0003, 0.0001


class Breath:
    """Lets others have the interpreter now and then during long work in a thread."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    def take(self) -> None:
        """Pause when it is time."""
        if time.perf_counter() - self._since > _SPELL_S:
            time.sleep(_PAUSE_S)
            self._since = time.perf_counter()


def copy_path(folder: Path, number: int) -> Path:
    """Name a copy's file.

    Args:
        folder: of all copies.
        number: the copy's.

    Returns:
        The path.
    """
    return folder / f"{number}.rows"


class CopyWriter:
    """Writes one copy; lives in the worker thread.

    Args:
        copies: the table.
        folder: where copies lie.
        config: bounds.
        vendor: whose rows.
        now: UTC epoch seconds.

    Attributes:
        size: bytes written.
        fault: why there is no copy any more, or None.
    """

    def __init__(
        self, copies: Copies, folder: Path, *, config: BatchConfig, vendor: Vendor, now: float
    ) -> None:
        self._copies = copies
        self._config = config
        self._vendor = vendor
        self._breath = Breath()
        self._tally = Tally()
        self._asks: dict[str, set[str]] = {}
        self._rows: list[Place] = []
        self._lines = LineReader(config.row_bytes)
        self._room = config.disk_bytes - copies.size()
        self._number = copies.begin(now)
        self._path = copy_path(folder, self._number)
        self._file: BinaryIO | None = None
        self.size = 0
        self.fault: str | None = None

    def write(self, block: bytes) -> None:
        """Write on; a disk that fails ends the copy, and nothing else.

        Args:
            block: the next bytes.
        """
        if self.fault is not None or not block:
            return
        size = self.size + len(block)
        if size > min(self._room, self._config.file_bytes):
            self.drop("too long" if size > self._config.file_bytes else "no room")
            return
        try:
            if self._file is None:
                self._file = private(self._path)
            self._file.write(block)
            if self._vendor == "openai":
                self._index(self._lines.feed(block))
        except (OSError, StillwatchError):
            self.drop("disk failed")
            return
        self.size += len(block)

    def end(self) -> Copy | None:
        """End the copy.

        Returns:
            The copy, or None when there is none.
        """
        if self.fault is not None or self._file is None:
            self.drop(self.fault or "empty")
            return None
        try:
            self._file.close()
            if self._vendor == "openai":
                self._index([self._lines.rest()])
            else:
                self._index_elements()
            self._copies.add_rows(self._number, self._rows)
            self._tally.asks = {model: sorted(asks) for model, asks in self._asks.items()}
            return self._copies.end(self._number, self.size, self._tally)
        except (OSError, ValueError, StillwatchError):
            self.drop("disk failed")
            return None

    def drop(self, why: str) -> None:
        """Give the copy up.

        Args:
            why: a short reason.
        """
        self.fault = why
        try:
            if self._file is not None:
                self._file.close()
            self._path.unlink(missing_ok=True)
            self._copies.drop(self._number)
        except (OSError, StillwatchError):
            # The sweep removes what is left; the request goes on.
            return

    def _index(self, lines: Iterable[Line]) -> None:
        for place, text, length in lines:
            if text is None or text.strip():
                self._add(text, Place(0, place, length))
            self._breath.take()

    def _index_elements(self) -> None:
        with mapped(self._path) as body:
            passed = 0
            for place, length in elements(body, "requests"):
                is_short = length <= self._config.row_bytes
                text = body[place : place + length] if is_short else None
                self._add(text, Place(0, place, length))
                passed = let_go(body, passed, place)
                self._breath.take()

    def _add(self, text: bytes | None, place: Place) -> None:
        tally = self._tally
        tally.n_rows += 1
        row = read_row(self._vendor, text) if text is not None else None
        facts = row_facts(row) if row is not None else None
        if row is None or facts is None or not self._count(facts):
            tally.n_unread += 1
        if row is None:
            return
        self._rows.append(place._replace(key=row_key(row.custom_id)))
        if len(self._rows) >= _GROUP:
            self._copies.add_rows(self._number, self._rows)
            self._rows = []

    def _count(self, facts: RowFacts) -> bool:
        """Count a row's facts; says whether there was room for them."""
        tally = self._tally
        if not facts.is_question:
            return True
        if facts.model not in tally.models and len(tally.models) >= _MOST_MODELS:
            return False
        if len(tally.refers_to) + len(facts.refers_to) > _MOST_REFERENCES:
            return False
        tally.models[facts.model] = tally.models.get(facts.model, 0) + 1
        tally.answers[facts.model] = tally.answers.get(facts.model, 0) + facts.n_answers
        self._asks.setdefault(facts.model, set()).update(facts.asks)
        tally.refers_to.extend(facts.refers_to)
        return True


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """Look at a file without holding it in memory.

    Args:
        path: the file, not empty.

    Yields:
        Its bytes.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as body:
        yield body


def let_go(body: mmap.mmap, passed: int, place: int) -> int:
    """Give back the memory behind the place that a long file has been read to.

    Args:
        body: the file's bytes.
        passed: where memory was given back to before.
        place: where reading is.

    Returns:
        Where memory is given back to now.
    """
    if place - passed < _MAPPED:
        return passed
    place -= place % mmap.ALLOCATIONGRANULARITY
    body.madvise(mmap.MADV_DONTNEED, passed, place - passed)
    return place


def read_places(path: Path, places: list[Place]) -> Iterator[bytes]:
    """Read rows of a copy.

    Args:
        path: the copy's file.
        places: where they lie.

    Yields:
        Their bytes, in order.

    Raises:
        InvalidInputError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            for place in places:
                yield os.pread(file.fileno(), place.length, place.place)
    except OSError as error:
        message = f"{path.name}: the copy of a batch's input cannot be read: {error.strerror}"
        raise InvalidInputError(message) from error


def private(path: Path) -> BinaryIO:
    """Make a file that nobody else may read.

    Args:
        path: the file's; it must not be there.

    Returns:
        The file, to be written.

    Raises:
        OSError: it cannot be made.
    """
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def remove_copy(copies: Copies, folder: Path, number: int) -> None:
    """Remove a copy and what is known of it; blocks.

    Args:
        copies: the table.
        folder: where copies lie.
        number: the copy's.
    """
    copy_path(folder, number).unlink(missing_ok=True)
    copies.drop(number)
