"""The SQLite file that verdicts live in: opening it, reading it, changing it as one step.

WAL mode: one process writes at a time, any number read. Every change raises the generation number,
by which a gateway sees that its snapshot is old.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from stillwatch.errors import RecordError
from stillwatch.guard.sqlite_file import one_step, open_sqlite

Row = tuple[object, ...]
#: Statements with the rows that each is run for; plain values only, so that they can be replayed.
Steps = list[tuple[str, list[Row]]]

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS meta (
  only INTEGER PRIMARY KEY CHECK (only = 1), generation INTEGER NOT NULL);
INSERT OR IGNORE INTO meta VALUES (1, 0);
CREATE TABLE IF NOT EXISTS campaigns (
  campaign_id TEXT PRIMARY KEY, since REAL NOT NULL, renewed_at REAL NOT NULL,
  p_value REAL, mark_key_id TEXT, summary TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS members (
  account TEXT PRIMARY KEY, campaign_id TEXT NOT NULL,
  named_at REAL NOT NULL, expires_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS cleared (account TEXT PRIMARY KEY, until REAL NOT NULL);
CREATE TABLE IF NOT EXISTS campaign_orders (
  campaign_id TEXT NOT NULL, kind TEXT NOT NULL, action TEXT NOT NULL, until REAL,
  at REAL NOT NULL, given_by TEXT NOT NULL, why TEXT NOT NULL, limit_per_day REAL,
  PRIMARY KEY (campaign_id, kind, action));
CREATE TABLE IF NOT EXISTS clearances (
  account TEXT PRIMARY KEY, until REAL NOT NULL, at REAL NOT NULL,
  given_by TEXT NOT NULL, nonce TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS nonces (nonce TEXT PRIMARY KEY, until REAL NOT NULL);
CREATE TABLE IF NOT EXISTS false_positives (
  account TEXT PRIMARY KEY, campaign_id TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS memory (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class StateTable:
    """The file.

    Args:
        path: the SQLite file; its folder must exist.

    Raises:
        RecordError: the file cannot be opened as a verdict table.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._translated("opened"):
            # The gateway reads it from worker threads, one at a time.
            self._db = open_sqlite(path, _SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def generation(self) -> int:
        """Read the generation number, which every change raises by one.

        Returns:
            0 for a new table.

        Raises:
            RecordError: the file cannot be read.
        """
        with self._translated("read"):
            return self._generation()

    def _generation(self) -> int:
        """Read it inside a transaction that is open already."""
        return int(self._db.execute("SELECT generation FROM meta").fetchone()[0])

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._translated("read"):
            return self._db.execute(query, values).fetchall()

    def _change(self, steps: Steps) -> int:
        """Run statements as one step, and raise the generation."""
        with self._translated("written"), one_step(self._db):
            self._carry_out(steps)
            return self._generation()

    def _carry_out(self, steps: Steps) -> None:
        """Run statements inside a transaction that is open already."""
        for statement, rows in steps:
            self._db.executemany(statement, rows)
        self._db.execute("UPDATE meta SET generation = generation + 1")

    @contextmanager
    def _translated(self, verb: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            message = f"{self._path}: the verdict table cannot be {verb}: {error}"
            hint = "check the disk, and that the file is a verdict table"
            raise RecordError(message, hint=hint) from error
