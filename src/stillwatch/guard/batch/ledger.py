"""The batches that were made, and which of their rows are on record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from stillwatch.guard.batch.copies import Place
from stillwatch.guard.batch.database import Database
from stillwatch.guard.batch.rows import Vendor
from stillwatch.guard.wall.decide import ALLOWED, Decision


class Submission(msgspec.Struct, frozen=True):
    """Who made a batch, and what was decided.

    Attributes:
        account: whose.
        key_hash: of the key that made it.
        org: of the account, or None.
        vendor: whose interface it speaks.
        endpoint: that all rows go to; "" where each row says.
        asked_at: UTC epoch seconds.
        user_agent: the client's, or None.
        decision: the wall's, as plain data.
        tags: what the client's library says of itself, and the like.
    """

    account: str
    key_hash: str
    vendor: Vendor
    asked_at: float
    org: str | None = None
    endpoint: str = ""
    user_agent: str | None = None
    decision: dict[str, Any] = {}
    tags: dict[str, str] = {}


class Known(NamedTuple):
    """A batch as the store has it.

    Attributes:
        batch_id: its id.
        submission: who made it, and what was decided.
        copy: number of the copy of its input, or None when its questions are not known.
        is_closed: everything of it is on record.
        ended: how it ended at the model server, or None while it runs or nothing was heard.
    """

    batch_id: str
    submission: Submission
    copy: int | None
    is_closed: bool
    ended: str | None


class Ledger:
    """The table of batches.

    Args:
        database: the open file.
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    def begin(self, batch_id: str, submission: Submission, copy: int | None) -> None:
        """Remember a batch that was made; an id that is known already stays as it is.

        Args:
            batch_id: the batch.
            submission: who made it, and what was decided.
            copy: its number.
        """
        who, at = submission.account, submission.asked_at
        told = msgspec.json.encode(submission)
        self._db.do(
            "INSERT OR IGNORE INTO batches VALUES (?, ?, ?, ?, ?, NULL, 0)",
            batch_id, who, at, copy, told,
        )  # fmt: skip

    def find(self, batch_id: str) -> Known | None:
        """Find a batch, or None.

        Args:
            batch_id: the batch.

        Returns:
            The batch.
        """
        row = self._db.one(
            "SELECT batch, submission, copy, closed, ended FROM batches WHERE batch = ?", batch_id
        )
        return _known(row) if row else None

    def of_file(self, file_id: str) -> Known | None:
        """Find the batch whose results a file holds, or None.

        Args:
            file_id: the file.

        Returns:
            The batch.
        """
        row = self._db.one("SELECT batch FROM ids WHERE id = ?", file_id)
        return self.find(row[0]) if row and row[0] else None

    def with_row(self, account: str, key: int) -> Known | None:
        """Find the account's oldest open batch that asks a row, or None.

        Args:
            account: whose batches.
            key: of the row.

        Returns:
            The batch.
        """
        row = self._db.one(
            "SELECT batch, submission, copy, closed, ended FROM batches JOIN rows USING (copy) "
            "WHERE account = ? AND key = ? AND closed = 0 ORDER BY asked_at LIMIT 1", account, key,
        )  # fmt: skip
        return _known(row) if row else None

    def end(self, batch_id: str, how: str) -> None:
        """Remember that a batch has ended at the model server.

        Args:
            batch_id: the batch.
            how: status at the model server.
        """
        self._db.do("UPDATE batches SET ended = ? WHERE batch = ?", how, batch_id)

    def given(self, batch_id: str, keys: Iterable[int]) -> frozenset[int]:
        """Tell which of some rows are on record.

        Args:
            batch_id: the batch.
            keys: of the rows.

        Returns:
            Those that are.
        """
        asked = "SELECT key FROM given WHERE batch = ? AND key = ?"
        return frozenset(row[0] for key in keys if (row := self._db.one(asked, batch_id, key)))

    def mark_given(self, batch_id: str, keys: Iterable[int]) -> None:
        """Remember that rows are on record.

        Args:
            batch_id: the batch.
            keys: of the rows.
        """
        with self._db.changing() as changes:
            changes.executemany(
                "INSERT OR IGNORE INTO given VALUES (?, ?)", [(batch_id, key) for key in keys]
            )

    def rest(self, batch_id: str, *, most: int) -> list[Place]:
        """Find rows of a batch that are not on record yet.

        Args:
            batch_id: the batch.
            most: how many at once (count).

        Returns:
            Where they lie.
        """
        found = self._db.all(
            "SELECT key, place, length FROM rows WHERE copy = "
            "(SELECT copy FROM batches WHERE batch = ?) AND NOT EXISTS (SELECT 1 FROM given "
            "WHERE given.batch = ? AND given.key = rows.key) LIMIT ?", batch_id, batch_id, most,
        )  # fmt: skip
        return [Place(*row) for row in found]

    def close_batch(self, batch_id: str) -> None:
        """Remember that everything of a batch is on record; its rows' marks are not needed now.

        Args:
            batch_id: the batch.
        """
        with self._db.changing() as changes:
            changes.execute("UPDATE batches SET closed = 1 WHERE batch = ?", (batch_id,))
            changes.execute("DELETE FROM given WHERE batch = ?", (batch_id,))

    def due(self, before: float) -> list[str]:
        """List the open batches that were made before a time or have ended.

        Args:
            before: UTC epoch seconds.

        Returns:
            Their ids.
        """
        found = self._db.all(
            "SELECT batch FROM batches WHERE closed = 0 AND (asked_at < ? OR ended IS NOT NULL)",
            before,
        )
        return [row[0] for row in found]

    def prune(self, before: float) -> None:
        """Forget the batches that are on record and were made before a time.

        Args:
            before: UTC epoch seconds.
        """
        self._db.do("DELETE FROM batches WHERE closed = 1 AND asked_at < ?", before)


def _known(row: tuple[Any, ...]) -> Known:
    batch_id, submission, copy, closed, ended = row
    told = msgspec.json.decode(submission, type=Submission)
    return Known(batch_id, told, copy, bool(closed), ended)


def plain(decision: Decision) -> dict[str, Any]:
    """Write a decision as plain data, for the rows that are recorded later.

    Args:
        decision: the batch's.

    Returns:
        Its fields that say what was done and why.
    """
    return {
        "action": decision.action,
        "campaign_id": decision.campaign_id,
        "reason": decision.reason,
        "mark_key_id": decision.mark_key_id,
        "would_have": decision.would_have,
        "tags": dict(decision.tags or {}),
        "effects": sorted(decision.effects),
    }


def restored(told: Mapping[str, Any]) -> Decision:
    """Read back what `plain` wrote.

    Args:
        told: its fields.

    Returns:
        The decision.
    """
    if not told:
        return ALLOWED
    return Decision(**{**told, "effects": frozenset(told["effects"])})
