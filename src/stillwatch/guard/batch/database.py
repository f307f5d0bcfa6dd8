"""The SQLite file behind files and batches; used by one thread at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from stillwatch.errors import RecordError
from stillwatch.guard.sqlite_file import one_step, open_sqlite

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS ids (
  id TEXT PRIMARY KEY, account TEXT NOT NULL, made_at REAL NOT NULL,
  copy INTEGER, batch TEXT, shown TEXT, fetched INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ids_batch ON ids (batch) WHERE batch IS NOT NULL;
CREATE INDEX IF NOT EXISTS ids_shown ON ids (shown) WHERE shown IS NOT NULL;
CREATE INDEX IF NOT EXISTS ids_age ON ids (made_at);
CREATE TABLE IF NOT EXISTS copies (
  copy INTEGER PRIMARY KEY AUTOINCREMENT, made_at REAL NOT NULL,
  size INTEGER NOT NULL DEFAULT 0, tally BLOB);
CREATE TABLE IF NOT EXISTS rows (
  copy INTEGER NOT NULL, key INTEGER NOT NULL, place INTEGER NOT NULL, length INTEGER NOT NULL,
  PRIMARY KEY (copy, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batches (
  batch TEXT PRIMARY KEY, account TEXT NOT NULL, asked_at REAL NOT NULL, copy INTEGER,
  submission BLOB NOT NULL, ended TEXT, closed INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS batches_account ON batches (account, asked_at);
CREATE TABLE IF NOT EXISTS given (
  batch TEXT NOT NULL, key INTEGER NOT NULL, PRIMARY KEY (batch, key)) WITHOUT ROWID;
"""


class Database:
    """The open file.

    Args:
        path: the SQLite file; its folder must exist.

    Raises:
        RecordError: the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._translated():
            self._db = open_sqlite(path, _SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def one(self, statement: str, *values: object) -> tuple[Any, ...] | None:
        """Read one row.

        Args:
            statement: SQL.
            *values: for its question marks.

        Returns:
            The first row, or None.

        Raises:
            RecordError: the file failed.
        """
        with self._translated():
            found: tuple[Any, ...] | None = self._db.execute(statement, values).fetchone()
        return found

    def all(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Read all rows.

        Args:
            statement: SQL.
            *values: for its question marks.

        Returns:
            The rows.

        Raises:
            RecordError: the file failed.
        """
        with self._translated():
            return self._db.execute(statement, values).fetchall()

    def do(self, statement: str, *values: object) -> None:
        """Make one change.

        Args:
            statement: SQL.
            *values: for its question marks.

        Raises:
            RecordError: the file failed; nothing was changed.
        """
        with self._translated():
            self._db.execute(statement, values)

    def insert(self, statement: str, *values: object) -> int:
        """Insert a row.

        Args:
            statement: SQL.
            *values: for its question marks.

        Returns:
            The new row's number.

        Raises:
            RecordError: the file failed; nothing was changed.
        """
        with self._translated():
            number = self._db.execute(statement, values).lastrowid
        assert number is not None, "a row was inserted"
        return number

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """Make several changes as one.

        Yields:
            The connection, within a transaction.

        Raises:
            RecordError: the file failed; nothing was changed.
        """
        with self._translated(), one_step(self._db):
            yield self._db

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            message = f"{self._path}: the table of batches failed: {error}"
            raise RecordError(message, hint="check the disk and the state folder") from error
