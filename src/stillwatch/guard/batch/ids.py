"""Whose a file or a batch is: ids as the model server gave them out, and to which account."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from stillwatch.guard.batch.database import Database

#: Ids beyond this number are forgotten, the oldest first: clients make as many as they like.
_MOST_IDS: Final = 1_000_000


class Ids:
    """The table of ids.

    Args:
        database: the open file.
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    def account_of(self, object_id: str) -> str | None:
        """Tell whose a file or a batch is, or None when it is not known here.

        Args:
            object_id: the file's, the upload's or the batch's id.

        Returns:
            The account, "" for a file of the gateway's own, or None.
        """
        row = self._db.one("SELECT account FROM ids WHERE id = ?", object_id)
        return row[0] if row else None

    def note(
        self, object_id: str, account: str, *, now: float, copy: int | None = None,
        batch: str | None = None, shown: str | None = None,
    ) -> None:  # fmt: skip
        """Remember whose a file or a batch is; the first word counts.

        Args:
            object_id: the file's or the batch's.
            account: whose; "" for the gateway's own, which no client is shown.
            now: UTC epoch seconds.
            copy: of an input file's content.
            batch: whose results a file holds.
            shown: the id that clients see instead of the gateway's own.
        """
        self._db.do(
            "INSERT INTO ids VALUES (?, ?, ?, ?, ?, ?, 0) ON CONFLICT (id) DO UPDATE SET "
            "copy = coalesce(ids.copy, excluded.copy), batch = coalesce(ids.batch, excluded.batch)",
            object_id, account, now, copy, batch, shown,
        )  # fmt: skip

    def stand_ins(self, object_id: str) -> list[str]:
        """List the gateway's own files that stand in for a client's.

        Args:
            object_id: the file's, the upload's or the batch's id.

        Returns:
            Their ids.
        """
        return [row[0] for row in self._db.all("SELECT id FROM ids WHERE shown = ?", object_id)]

    def shown(self, object_ids: Iterable[str]) -> dict[str, str]:
        """Tell by which ids clients know files of the gateway's own.

        Args:
            object_ids: any number of ids.

        Returns:
            The clients' ids by the gateway's own, of those that are.
        """
        found = {one: self._db.one("SELECT shown FROM ids WHERE id = ?", one) for one in object_ids}
        return {one: row[0] for one, row in found.items() if row and row[0]}

    def fetched(self, object_id: str) -> None:
        """Remember that a file of results was given out to its end.

        Args:
            object_id: the file's, the upload's or the batch's id.
        """
        self._db.do("UPDATE ids SET fetched = 1 WHERE id = ?", object_id)

    def is_fetched(self, batch_id: str) -> bool:
        """Say whether every file of results that is known of a batch was given out to its end.

        Args:
            batch_id: the batch.

        Returns:
            False while one is missing.
        """
        return self._db.one("SELECT 1 FROM ids WHERE batch = ? AND fetched = 0", batch_id) is None

    def prune(self) -> None:
        """Forget the oldest ids beyond the bound."""
        self._db.do(
            "DELETE FROM ids WHERE id IN (SELECT id FROM ids ORDER BY made_at LIMIT "
            "max(0, (SELECT count(*) FROM ids) - ?))",
            _MOST_IDS,
        )
