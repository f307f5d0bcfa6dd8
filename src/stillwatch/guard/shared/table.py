"""The verdict table of a gateway that shares: a replica in SQLite, led by the log in Redis.

Reads are as without Redis: from the file, which a gateway also starts with when Redis is away.
Writes go to the log first; a table changes only by what stands in the log.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from stillwatch.errors import EnvironmentUnfitError, RecordError
from stillwatch.guard.shared.changes import MOST_CHANGES, ChangeLog, Known
from stillwatch.guard.sqlite_file import one_step
from stillwatch.guard.wall.table import Steps
from stillwatch.guard.wall.verdict import VerdictTable

_SCHEMA: Final = "CREATE TABLE IF NOT EXISTS shared_log (log_id TEXT NOT NULL)"
#: Tries at a change while other gateways write too.
_TRIES: Final = 16
_WRITE_VERSION_AT, _READ_VERSION_AT = 18, 19  # of SQLite's header; 1 is a journal, 2 a WAL


class SharedVerdictTable(VerdictTable):
    """A verdict table that follows the log.

    Args:
        path: the SQLite file; its folder must exist.
        log: the log in Redis.
        on_failure: told when Redis was away and the replica served instead.

    Raises:
        RecordError: the file cannot be opened as a verdict table.
    """

    def __init__(
        self, path: Path, log: ChangeLog, *, on_failure: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(path)
        self._log = log
        self._on_failure = on_failure
        self.lease = ""
        self.synced_at: float | None = None
        with self._translated("opened"):
            self._db.execute(_SCHEMA)

    def generation(self) -> int:
        """Read the generation number, after what the log holds was applied.

        Returns:
            The replica's own when Redis is away.

        Raises:
            RecordError: the file cannot be read, or the log holds what these gateways did not
                write.
        """
        try:
            self.pull()
        except EnvironmentUnfitError:
            self._on_failure()
        return super().generation()

    def pull(self) -> int:
        """Apply what the log holds.

        Returns:
            The generation number.

        Raises:
            EnvironmentUnfitError: Redis is away.
            RecordError: the file cannot be written, or the log holds what these gateways did not
                write.
        """
        while True:
            place = super().generation()
            known = self._log.read(place)
            if known.log_id is None:
                self._begin(place)
            elif known.log_id != self._log_id() or known.changes is None:
                self._replace(known, place)
            else:
                self._apply(known, place)
                if place + len(known.changes) >= known.last:
                    self.synced_at = time.time()
                    return known.last

    def _change(self, steps: Steps) -> int:
        for _ in range(_TRIES):
            place = self.pull()
            log_id = self._log_id()
            with self._translated("written"):
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    # Tried here first: a change that fails must not stand in the log.
                    done = self._generation() == place and log_id is not None
                    if done:
                        self._carry_out(steps)
                        done = self._log.append(log_id or "", place, steps, lease=self.lease)
                    self._db.execute("COMMIT" if done else "ROLLBACK")
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
            if done:
                self._shorten(place + 1)
                return place + 1
        message = f"{self._path}: the verdict table cannot be written: others write all the time"
        raise RecordError(message, hint="try again")

    def _apply(self, known: Known, place: int) -> None:
        for steps in known.changes or ():
            with self._translated("written"), one_step(self._db):
                # The learner's process may have applied it meanwhile.
                if self._generation() == place:
                    self._carry_out(steps)
            place += 1

    def _begin(self, place: int) -> None:
        """Found the log on this table: the first gateway's verdicts become everybody's."""
        log_id = self._log.begin(place, self._image())
        if log_id is not None:
            self._set_log_id(log_id)

    def _replace(self, known: Known, place: int) -> None:
        """Take the snapshot, unless this replica knows more than Redis, which lost something.

        A table that was never shared gives way: its number counts something else.
        """
        assert known.log_id is not None, "there is a log"
        if self._log_id() is not None and place > known.last:
            if self._log.shorten(known.log_id, place, self._image()):
                self._set_log_id(known.log_id)
            return
        _, image = self._log.snapshot(known.log_id)
        with self._translated("written"):
            # An image never says WAL, or it could not be opened in memory.
            source = sqlite3.connect(":memory:")
            try:
                source.deserialize(image)
                source.backup(self._db)
            finally:
                source.close()
            self._db.executescript(_SCHEMA)
        self._set_log_id(known.log_id)

    def _shorten(self, place: int) -> None:
        log_id = self._log_id()
        try:
            known = self._log.read(place)
            if log_id is not None and known.last - known.base > MOST_CHANGES:
                self._log.shorten(log_id, place, self._image())
        except EnvironmentUnfitError:
            self._on_failure()  # the change itself is in; a long log does no harm

    def _image(self) -> bytes:
        with self._translated("read"):
            copy = sqlite3.connect(":memory:")
            try:
                self._db.backup(copy)
                image = bytearray(copy.serialize())
            finally:
                copy.close()
        image[_WRITE_VERSION_AT] = image[_READ_VERSION_AT] = 1
        return bytes(image)

    def _log_id(self) -> str | None:
        with self._translated("read"):
            row = self._db.execute("SELECT log_id FROM shared_log").fetchone()
        return None if row is None else str(row[0])

    def _set_log_id(self, log_id: str) -> None:
        with self._translated("written"), one_step(self._db):
            self._db.execute("DELETE FROM shared_log")
            self._db.execute("INSERT INTO shared_log VALUES (?)", (log_id,))
