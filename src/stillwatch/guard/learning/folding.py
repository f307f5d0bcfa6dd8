"""Reads what a gateway has recorded and folds it, day by day, in bounded memory."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from stillwatch.detect.config import FoldConfig
from stillwatch.detect.profiles.fold import COLUMNS, Folding
from stillwatch.guard.learning.daybook import DayBook
from stillwatch.record.exchange import Exchange, to_batch
from stillwatch.record.segments import (
    Position,
    load_removed,
    read_head,
    read_journal,
    segment_numbers,
    segment_path,
)
from stillwatch.record.store import compacted_until, exclusive, scan_store

_log = logging.getLogger("stillwatch.guard")
DAY_S: Final = 86_400
_LOT: Final = 4096  # exchanges folded at once
_LOT_BYTES: Final = 32 * 2**20  # of journal; long conversations must not multiply the bound
#: Exchanges folded before they must be made durable, and before it is worth it: writing a day of
#: 100,000 accounts takes seconds, folding 5,000 exchanges again takes one.
_SAVE_AFTER, _SAVE_LEAST = 100_000, 5_000
_SAVE_EVERY_S: Final = 900.0
#: Exchanges that may wait because they began after the time that is learned of. More are read
#: with a later learning; nothing is lost, and the memory is bounded.
MOST_WAITING: Final = 20_000


class Folded(NamedTuple):
    """What one reading came to.

    Attributes:
        n_exchanges: exchanges folded (count), without those that the wall refused.
        days: days since 1970-01-01 that they lie in.
        oldest_end: end of the answer that waited longest, UTC epoch seconds; None without any.
    """

    n_exchanges: int
    days: frozenset[int]
    oldest_end: float | None


class RecordFolder:
    """Folds one gateway's record into its book.

    Args:
        journal: the journal.
        book: where profiles go.
        fold: how.
        store: where the journal is brought before its old segments are removed, or None.
    """

    def __init__(
        self, journal: Path, book: DayBook, *, fold: FoldConfig, store: Path | None
    ) -> None:
        self._journal, self._book, self._fold, self._store = journal, book, fold, store
        self._is_open = False
        self._position: Position | None = None
        self._waiting: list[Exchange] = []
        self._foldings: dict[int, Folding] = {}
        self._n_unsaved = self._n_seen = 0
        self._saved_at = time.monotonic()

    @property
    def n_waiting(self) -> int:
        """Exchanges read that began after the time learned of (count)."""
        return len(self._waiting)

    def update(self, until: float, *, oldest: int) -> Folded:
        """Fold what was recorded since the last time.

        Args:
            until: UTC epoch seconds; what began later waits.
            oldest: days before this one are left out.

        Returns:
            What it came to.

        Raises:
            RecordError: the journal, the store or the book cannot be read.
            EnvironmentUnfitError: the book cannot be written.
        """
        n, days, oldest_end = 0, frozenset[int](), math.inf
        for ended_at in self._read(until, oldest):
            oldest_end = min(oldest_end, ended_at)
            if self._n_seen >= _SAVE_AFTER:
                count, touched = self._settle()
                n, days = n + count, days | touched
                self.save(oldest=oldest)
        count, touched = self._settle()
        if self._n_unsaved >= _SAVE_LEAST or time.monotonic() - self._saved_at > _SAVE_EVERY_S:
            self.save(oldest=oldest)
        ended = oldest_end if math.isfinite(oldest_end) else None
        return Folded(n + count, days | touched, ended)

    def save(self, *, oldest: int) -> None:
        """Make durable what was folded.

        Args:
            oldest: days before this one go.

        Raises:
            RecordError: the book is damaged, or the disk failed.
            EnvironmentUnfitError: the book cannot be written.
        """
        if self._n_unsaved and self._position is not None:
            self._book.save(self._position, self._waiting, oldest=oldest)
            self._n_unsaved = 0
            self._saved_at = time.monotonic()

    def _settle(self) -> tuple[int, frozenset[int]]:
        """Put what was folded into the book; tell how much, and of which days."""
        parts = {day: folding.profiles() for day, folding in self._foldings.items()}
        self._foldings, self._n_seen = {}, 0
        self._book.add(parts)
        n = sum(part.n_exchanges for part in parts.values())
        self._n_unsaved += n
        return n, frozenset(parts)

    def _read(self, until: float, oldest: int) -> Iterator[float]:
        """Fold lot by lot; gives the end of the answer in each that waited longest."""
        if not self._is_open:
            yield from self._open(oldest)
        ready = [e for e in self._waiting if e.started_at < until]
        waiting = [e for e in self._waiting if e.started_at >= until]
        begin = end = self._position
        # One rotten line must not end all learning; the journal's own check reports it.
        for place, exchange in read_journal(self._journal, after=begin, on_damage="skip"):
            if exchange.started_at < until:
                ready.append(exchange)
            elif len(waiting) < MOST_WAITING:
                waiting.append(exchange)
            else:
                break
            end = place
            if len(ready) >= _LOT or _bytes_between(begin, end) > _LOT_BYTES:
                yield self._take_in(ready, waiting, end=end, oldest=oldest)
                ready, begin = [], end
        yield self._take_in(ready, waiting, end=end, oldest=oldest)

    def _open(self, oldest: int) -> Iterator[float]:
        """Begin where the book ends; without a book at the store, and without one at the start."""
        self._is_open = True
        numbers = segment_numbers(self._journal)
        if self._book.open(_journal_id(self._journal, numbers)):
            self._position, self._waiting = self._book.position, self._book.waiting
        elif self._store is not None and self._store.exists():
            # Held, so that nothing is brought from the journal into the store meanwhile.
            with exclusive(self._store):
                place = compacted_until(self._journal, self._store)
                for batch in scan_store(self._store, columns=COLUMNS):
                    self._fold_batch(batch, oldest=oldest)
                    yield math.inf
                self._position = place
        elif load_removed(self._journal).segment:
            message = "%s: old segments are gone and learner.store is not set: what was, is unknown"
            _log.warning(message, self._journal)

    def _take_in(
        self,
        ready: list[Exchange],
        waiting: list[Exchange],
        *,
        end: Position | None,
        oldest: int,
    ) -> float:
        """Fold, and only then stand at the place behind: what fails is read again."""
        if ready:
            self._fold_batch(to_batch(ready), oldest=oldest)
        self._position, self._waiting = end, list(waiting)
        return min((e.ended_at for e in ready if e.ended_at is not None), default=math.inf)

    def _fold_batch(self, batch: pa.RecordBatch, *, oldest: int) -> None:
        """Fold a batch, every day apart; days that are too old are left out."""
        started = batch["started_at"].to_numpy(zero_copy_only=False)
        days = np.floor(started / DAY_S).astype(np.int64)
        for day in np.unique(days).tolist():
            if day >= oldest:
                folding = self._foldings.get(day) or Folding(self._fold)
                self._foldings[day] = folding
                folding.update(batch.filter(pa.array(days == day)))
        self._n_seen += batch.num_rows


def _journal_id(folder: Path, numbers: list[int]) -> str:
    for number in numbers:
        with segment_path(folder, number).open("rb") as file:
            head = read_head(file.readline())
        if head is not None:
            return head.journal_id
    return ""


def _bytes_between(begin: Position | None, end: Position) -> int:
    if begin is None or begin.segment != end.segment:
        return end.offset
    return end.offset - begin.offset
