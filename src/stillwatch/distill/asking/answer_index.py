"""Where answers rest in a journal: one place each in memory, never a body."""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, Self

import numpy as np

from stillwatch.record.exchange import Exchange
from stillwatch.record.segments import (
    Position,
    decode_line,
    read_journal,
    segment_numbers,
    segment_path,
)

#: What became of an attempt. The first five are final: they were bought, and are not asked again.
Outcome = Literal["answered", "truncated", "refused", "filtered", "empty", "failed"]
FINAL: tuple[Outcome, ...] = ("answered", "truncated", "refused", "filtered", "empty")
#: A place is one number: the segment, and the bytes from its start (below 2^40).
_SEGMENT = 2**40


class Place(NamedTuple):
    """Where an exchange rests in a journal.

    Attributes:
        segment: number of the segment.
        begin: bytes from the segment's start to before its line, or to before forgotten lines that
            stand in front of it.
        end: bytes from the segment's start to behind its line.
    """

    segment: int
    begin: int
    end: int


class AnswerIndex:
    """Where the latest final answer to each request key lies; 33 bytes an answer.

    Build it with `AnswerIndex.of(folder)`, or let it read along with `reading`.

    Args:
        folder: the journal; an absent one has no answers.

    Attributes:
        counts: attempts on record by outcome.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.counts: Counter[str] = Counter()
        self._rows = tuple(array("Q") for _ in range(4))
        self._outcomes = array("B")
        self._columns: _Columns | None = None
        self._read = Position(0, 0)

    @classmethod
    def of(cls, folder: Path) -> AnswerIndex:
        """Read a journal.

        Args:
            folder: the journal; an absent one has no answers.

        Returns:
            The index.

        Raises:
            RecordError: a line is damaged.
        """
        index = cls(folder)
        index.catch_up()
        return index

    def reading(self) -> Iterator[Exchange]:
        """Read the journal, giving every attempt on while indexing it.

        A later call reads on from where this one stopped: what was appended meanwhile.

        Yields:
            Each exchange, in the order in which it was appended.

        Raises:
            RecordError: a line is damaged.
        """
        if not segment_numbers(self.folder):
            return
        for position, exchange in read_journal(self.folder, after=self._read):
            before = self._read
            begin = before.offset if position.segment == before.segment else 0
            self._add(Place(position.segment, begin, position.offset), exchange)
            self._read = position
            yield exchange

    def catch_up(self) -> None:
        """Index what was appended since the last reading.

        Raises:
            RecordError: a line is damaged.
        """
        for _ in self.reading():
            pass

    def __len__(self) -> int:
        return len(self._sorted().high)

    def outcome(self, key: str) -> Outcome | None:
        """Say what the latest final attempt at a request came to.

        Args:
            key: as `request_key` gave it.

        Returns:
            The outcome, or None when it has none yet.
        """
        columns, row = self._find(key)
        return None if row is None else FINAL[columns.outcome[row]]

    def place(self, key: str) -> Place | None:
        """Say where the latest final answer lies.

        Args:
            key: as `request_key` gave it.

        Returns:
            The place, or None when there is no answer yet.
        """
        columns, row = self._find(key)
        if row is None:
            return None
        segment, begin = divmod(int(columns.place[row]), _SEGMENT)
        return Place(segment, begin, begin + int(columns.size[row]))

    def _add(self, place: Place, exchange: Exchange) -> None:
        outcome = exchange.tags.get("outcome", "failed")
        self.counts[outcome] += 1
        key = exchange.tags.get("request_key", "")
        if outcome not in FINAL or len(key) != 64:
            return
        at = place.segment * _SEGMENT + place.begin
        row = (int(key[:16], 16), int(key[16:32], 16), at, place.end - place.begin)
        for column, value in zip(self._rows, row, strict=True):
            column.append(value)
        self._outcomes.append(FINAL.index(outcome))
        self._columns = None

    def _sorted(self) -> _Columns:
        if self._columns is None:
            high, low, place, size = (np.array(column, dtype=np.uint64) for column in self._rows)
            order = np.lexsort((place, low, high))
            high, low = high[order], low[order]
            last = np.ones(len(order), dtype=bool)
            last[:-1] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
            order = order[last]
            outcome = np.array(self._outcomes, dtype=np.uint8)[order]
            self._columns = _Columns(high[last], low[last], place[order], size[order], outcome)
        return self._columns

    def _find(self, key: str) -> tuple[_Columns, int | None]:
        columns = self._sorted()
        wanted, low = np.uint64(int(key[:16], 16)), np.uint64(int(key[16:32], 16))
        row = int(np.searchsorted(columns.high, wanted))
        while row < len(columns.high) and columns.high[row] == wanted:
            if columns.low[row] == low:
                return columns, row
            row += 1
        return columns, None


class _Columns(NamedTuple):
    """The latest final answer of each key, sorted by key."""

    high: np.ndarray
    low: np.ndarray
    place: np.ndarray
    size: np.ndarray
    outcome: np.ndarray


class AnswerReader:
    """Reads single lines of a journal by their places; keeps its segments open. Use it with `with`.

    Args:
        folder: the journal.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = Path(folder)
        self._files: dict[int, BinaryIO] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def read(self, place: Place | None, key: str) -> Exchange | None:
        """Read the exchange at a place.

        Args:
            place: as the index gave it; None reads nothing.
            key: the request key that it must have.

        Returns:
            The exchange; None without a place, or when it was forgotten meanwhile.
        """
        if place is None:
            return None
        file = self._files.get(place.segment)
        if file is None:
            file = segment_path(self._folder, place.segment).open("rb")
            self._files[place.segment] = file
        data = os.pread(file.fileno(), place.end - place.begin, place.begin)
        exchange = decode_line(data[data.rfind(b"\n", 0, -1) + 1 :])
        return exchange if exchange and exchange.tags.get("request_key") == key else None
