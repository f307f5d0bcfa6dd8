"""SQLite files of the gateway: opened alike, changed as one step."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def open_sqlite(path: Path, schema: str) -> sqlite3.Connection:
    """Open a file in WAL mode, which readers and a writer share.

    Args:
        path: the file; its folder must exist.
        schema: statements that make what is absent.

    Returns:
        The connection; it commits by itself outside of `one_step`, and any thread may use it, one
        at a time.

    Raises:
        sqlite3.Error: the file cannot be opened.
    """
    db = sqlite3.connect(path, timeout=10.0, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=NORMAL")
    db.executescript(schema)
    return db


@contextmanager
def one_step(db: sqlite3.Connection) -> Iterator[None]:
    """Make all statements within one change, which happens whole or not at all.

    Args:
        db: as opened.

    Yields:
        Nothing.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
