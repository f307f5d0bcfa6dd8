"""Profiles by day, on disk: what a new learner knows without reading the record again.

Every day is a folder as `detect` keeps profiles; `book.json` names the folders that count, and the
place in the journal up to which they speak. It is replaced as a whole, after the folders that it
names are durable: a learner that is killed at any moment finds the book as it was, and reads the
tail of the journal from there.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from stillwatch.detect.config import FoldConfig
from stillwatch.detect.profiles.keep import load_profiles, save_profiles
from stillwatch.detect.profiles.merge import merge, merge_all
from stillwatch.detect.profiles.profile import Profiles, no_profiles
from stillwatch.errors import InvalidInputError, RecordError
from stillwatch.record.disk import from_os_error, replace_file
from stillwatch.record.exchange import Exchange
from stillwatch.record.segments import Position
from stillwatch.text.ragged import Ragged

_log = logging.getLogger("stillwatch.guard")
_BOOK: Final = "book.json"
_VERSION: Final = 1


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What `book.json` says.

    Attributes:
        book: version of the form.
        journal_id: of the journal that was read.
        segment: of the place up to which it was read.
        offset: of that place.
        days: day (days since 1970-01-01) -> its folder.
        waiting: the file of exchanges that were read and not folded yet, or None.
    """

    book: int = _VERSION
    journal_id: str
    segment: int
    offset: int
    days: dict[int, str]
    waiting: str | None = None


class DayBook:
    """The profiles of one gateway's record.

    Args:
        folder: of the book; made when first saved.
        fold: how exchanges become profiles.

    Attributes:
        position: up to where the journal was read, or None.
        waiting: exchanges read and not folded yet, as the last save left them.
    """

    def __init__(self, folder: Path, fold: FoldConfig) -> None:
        self._folder, self._fold = folder, fold
        self._days: dict[int, str] = {}
        self._fresh: dict[int, Profiles] = {}
        self._whole: tuple[int, Profiles] | None = None
        self._journal_id = ""
        self.position: Position | None = None
        self.waiting: list[Exchange] = []

    def open(self, journal_id: str) -> bool:
        """Read the book.

        Args:
            journal_id: of the journal that is there now.

        Returns:
            False when there is no book of this journal that this version can use: everything is
            then to be folded from the beginning.
        """
        self._journal_id = journal_id
        try:
            entry = msgspec.json.decode((self._folder / _BOOK).read_bytes(), type=Entry)
            if entry.book != _VERSION or entry.journal_id != journal_id:
                return False
            # Folded otherwise, or damaged: found out now, not in the midst of a learning.
            for name in entry.days.values():
                load_profiles(self._folder / name, config=self._fold)
            waiting = self._read_waiting(entry.waiting)
        except FileNotFoundError:
            return False
        except (OSError, msgspec.MsgspecError, RecordError, InvalidInputError) as error:
            _log.warning("%s: folding everything again: %s", self._folder, type(error).__name__)
            return False
        self._days = dict(entry.days)
        self.position = Position(entry.segment, entry.offset)
        self.waiting = waiting
        return True

    def add(self, parts: Mapping[int, Profiles]) -> None:
        """Take in what was folded now.

        Args:
            parts: day -> profiles of exchanges that were not folded before.
        """
        for day, part in parts.items():
            self._fresh[day] = merge(self._fresh.get(day, no_profiles()), part, self._fold)
        if self._whole is not None:
            oldest, whole = self._whole
            young = [part for day, part in parts.items() if day >= oldest]
            self._whole = oldest, merge_all([whole, *young], self._fold)

    def whole(self, oldest: int) -> Profiles:
        """Give all that is known since a day; kept in memory until `rest`.

        Args:
            oldest: days before this one are left out.

        Returns:
            Profiles, merged.

        Raises:
            RecordError: the book is damaged.
        """
        if self._whole is None or self._whole[0] != oldest:
            self._whole = None
            days = [day for day in self.days() if day >= oldest]
            self._whole = oldest, self.merged(days)
        return self._whole[1]

    def rest(self, *, most_bytes: int) -> None:
        """Give memory back until the next learning, which reads the days again.

        Args:
            most_bytes: what may stay.
        """
        if self._whole is not None and _size_of(self._whole[1]) > most_bytes:
            self._whole = None

    def days(self) -> list[int]:
        """List the days that the book speaks of.

        Returns:
            Days since 1970-01-01, ascending.
        """
        return sorted(self._days.keys() | self._fresh.keys())

    def day(self, day: int) -> Profiles:
        """Give all that is known of a day.

        Args:
            day: days since 1970-01-01.

        Returns:
            Profiles.

        Raises:
            RecordError: the book is damaged.
        """
        return self.merged([day])

    def merged(self, days: Iterable[int]) -> Profiles:
        """Give all that is known of some days.

        Args:
            days: which.

        Returns:
            Profiles, merged.

        Raises:
            RecordError: the book is damaged.
        """
        parts = []
        for day in days:
            if day in self._days:
                parts.append(load_profiles(self._folder / self._days[day], config=self._fold))
            if day in self._fresh:
                parts.append(self._fresh[day])
        return merge_all(parts, self._fold)

    def save(self, position: Position, waiting: list[Exchange], *, oldest: int) -> None:
        """Make durable what was taken in.

        Args:
            position: up to where the journal was read.
            waiting: exchanges before that place that were not folded yet.
            oldest: days before this one go.

        Raises:
            EnvironmentUnfitError: the disk is full or the folder cannot be written.
            RecordError: the disk failed, or the book is damaged.
        """
        days = {day: name for day, name in self._days.items() if day >= oldest}
        for day in self._fresh:
            if day >= oldest:
                name = f"{day}-{secrets.token_hex(6)}"
                save_profiles(self.day(day), self._folder / name, config=self._fold)
                days[day] = name
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            entry = Entry(
                journal_id=self._journal_id,
                segment=position.segment,
                offset=position.offset,
                days=days,
                waiting=self._write_waiting(waiting),
            )
            replace_file(self._folder / _BOOK, msgspec.json.encode(entry))
        except OSError as error:
            raise from_os_error(error, path=self._folder, doing="write the book") from error
        self._days, self._fresh = days, {}
        self.position = position
        self._remove_others({*days.values(), entry.waiting})

    def _write_waiting(self, waiting: list[Exchange]) -> str | None:
        if not waiting:
            return None
        name = f"waiting-{secrets.token_hex(6)}.msgpack"
        # It holds texts, as the journal does.
        replace_file(self._folder / name, msgspec.msgpack.encode(waiting), mode=0o600)
        return name

    def _read_waiting(self, name: str | None) -> list[Exchange]:
        if name is None:
            return []
        content = (self._folder / name).read_bytes()
        return msgspec.msgpack.decode(content, type=list[Exchange])

    def _remove_others(self, names: set[str | None]) -> None:
        for path in self._folder.iterdir():
            if path.name in names or path.name == _BOOK:
                continue
            with contextlib.suppress(OSError):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()


def _size_of(profiles: Profiles) -> int:
    """Tell what profiles take in memory (bytes), texts not counted."""
    columns = [*profiles.totals, *profiles.digests]
    return sum(
        column.nbytes if isinstance(column, np.ndarray) else column.values.nbytes
        for column in columns
        if isinstance(column, np.ndarray | Ragged)
    )
