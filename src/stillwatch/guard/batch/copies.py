"""Copies of inputs: where each row lies, so that its question is at hand when its answer comes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from stillwatch.guard.batch.database import Database


class Tally(msgspec.Struct):
    """What the rows of an input ask, summed.

    Attributes:
        n_rows: rows (count).
        n_unread: rows that cannot be read (count).
        models: rows that are questions, by the model they ask (count).
        answers: answers that they ask for, by model (count).
        asks: capabilities asked for, by model.
        refers_to: ids of stored answers and conversations that rows build on.
    """

    n_rows: int = 0
    n_unread: int = 0
    models: dict[str, int] = {}
    answers: dict[str, int] = {}
    asks: dict[str, list[str]] = {}
    refers_to: list[str] = []


class Copy(NamedTuple):
    """A copy of an input.

    Attributes:
        number: its id here.
        size: bytes.
        tally: what its rows ask.
    """

    number: int
    size: int
    tally: Tally


class Place(NamedTuple):
    """Where a row's question lies in a copy.

    Attributes:
        key: of the row.
        place: of its first byte.
        length: bytes.
    """

    key: int
    place: int
    length: int


class Copies:
    """The table of copies; the bytes themselves lie in files beside it.

    Args:
        database: the open file.
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    def begin(self, now: float) -> int:
        """Begin a copy; gives its number.

        Args:
            now: UTC epoch seconds.

        Returns:
            The number.
        """
        return self._db.insert("INSERT INTO copies (made_at) VALUES (?)", now)

    def add_rows(self, copy: int, rows: Sequence[Place]) -> None:
        """Remember where rows lie; of two with one key the first counts.

        Args:
            copy: its number.
            rows: where they lie.
        """
        with self._db.changing() as changes:
            changes.executemany(
                "INSERT OR IGNORE INTO rows VALUES (?, ?, ?, ?)", [(copy, *row) for row in rows]
            )

    def end(self, copy: int, size: int, tally: Tally) -> Copy:
        """End a copy that is whole.

        Args:
            copy: its number.
            size: bytes.
            tally: what its rows ask.

        Returns:
            The copy.
        """
        told = msgspec.json.encode(tally)
        self._db.do("UPDATE copies SET size = ?, tally = ? WHERE copy = ?", size, told, copy)
        return Copy(copy, size, tally)

    def drop(self, copy: int) -> None:
        """Forget a copy and its rows.

        Args:
            copy: its number.
        """
        with self._db.changing() as changes:
            changes.execute("DELETE FROM rows WHERE copy = ?", (copy,))
            changes.execute("DELETE FROM copies WHERE copy = ?", (copy,))
            changes.execute("UPDATE ids SET copy = NULL WHERE copy = ?", (copy,))
            changes.execute("UPDATE batches SET copy = NULL WHERE copy = ?", (copy,))

    def of_file(self, file_id: str) -> Copy | None:
        """Find the copy of an input file, or None.

        Args:
            file_id: the file.

        Returns:
            The copy, if it is whole.
        """
        row = self._db.one(
            "SELECT copy, size, tally FROM ids JOIN copies USING (copy) "
            "WHERE id = ? AND tally IS NOT NULL", file_id,
        )  # fmt: skip
        return Copy(row[0], row[1], msgspec.json.decode(row[2], type=Tally)) if row else None

    def models(self, number: int | None) -> list[str]:
        """List the models that the rows of a copy ask; none for no copy.

        Args:
            number: the copy's, or None.

        Returns:
            Their names.
        """
        row = self._db.one("SELECT tally FROM copies WHERE copy = ?", number)
        return list(msgspec.json.decode(row[0], type=Tally).models) if row and row[0] else []

    def size(self) -> int:
        """Tell how much all copies take up (bytes).

        Returns:
            Bytes.
        """
        row = self._db.one("SELECT coalesce(sum(size), 0) FROM copies")
        return int(row[0]) if row else 0

    def places(self, copy: int, keys: Iterable[int]) -> dict[int, Place]:
        """Find where rows lie.

        Args:
            copy: its number.
            keys: of the rows.

        Returns:
            Places by key, of those that are known.
        """
        asked = "SELECT key, place, length FROM rows WHERE copy = ? AND key = ?"
        found = (self._db.one(asked, copy, key) for key in keys)
        return {row[0]: Place(*row) for row in found if row}

    def keep_whole(self) -> frozenset[int]:
        """Forget copies that were never ended, and tell the others.

        Returns:
            Numbers of the copies that are whole.
        """
        for (number,) in self._db.all("SELECT copy FROM copies WHERE tally IS NULL"):
            self.drop(number)
        return frozenset(row[0] for row in self._db.all("SELECT copy FROM copies"))

    def idle(self, before: float, *, unused: float) -> list[int]:
        """List the copies that no open batch needs.

        Args:
            before: UTC epoch seconds; every such copy made before is listed,
            unused: and those of no file that were made before this, or whose batches are closed.

        Returns:
            Numbers of copies.
        """
        found = self._db.all(
            "SELECT copy FROM copies WHERE NOT EXISTS (SELECT 1 FROM batches "
            "WHERE batches.copy = copies.copy AND closed = 0) AND (made_at < ? OR (NOT EXISTS "
            "(SELECT 1 FROM ids WHERE ids.copy = copies.copy) AND (made_at < ? OR EXISTS "
            "(SELECT 1 FROM batches WHERE batches.copy = copies.copy))))",
            before, unused,
        )  # fmt: skip
        return [row[0] for row in found]
