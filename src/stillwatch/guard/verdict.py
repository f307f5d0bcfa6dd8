"""Verdicts: which account belongs to which campaign, since when and until when.

The table is SQLite in WAL mode: the learner writes, any number of gateways read. A gateway never
asks it while a client waits; it holds a `Board`, an immutable snapshot, and swaps it when the
table's generation number moves.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from stillwatch.errors import RecordError

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
"""


@dataclass(frozen=True, slots=True)
class CampaignVerdict:
    """What is known of one campaign.

    Attributes:
        campaign_id: stable over the days.
        since: when it was first named (UTC epoch seconds); dwell times count from here.
        renewed_at: when it was last found.
        p_value: of the last finding, or None.
        mark_key_id: id of the watermark key that is the campaign's own, or None.
        summary: one line of evidence for a human.
    """

    campaign_id: str
    since: float
    renewed_at: float
    p_value: float | None = None
    mark_key_id: str | None = None
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is held against one account.

    Attributes:
        account: the account.
        campaign: the campaign that it belongs to.
        named_at: when the account was first named.
        expires_at: when the verdict lapses unless it is found again (UTC epoch seconds).
    """

    account: str
    campaign: CampaignVerdict
    named_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class Board:
    """A snapshot of the table that a gateway decides from.

    Attributes:
        generation: the table's generation number when it was read.
        verdicts: account -> verdict; lapsed ones are still here and judged by their time.
    """

    generation: int = 0
    verdicts: Mapping[str, Verdict] = field(default_factory=lambda: MappingProxyType({}))

    def verdict(self, account: str, now: float) -> Verdict | None:
        """Look up what is held against an account.

        Args:
            account: the account.
            now: UTC epoch seconds.

        Returns:
            The verdict, or None when there is none or it has lapsed.
        """
        found = self.verdicts.get(account)
        return found if found is not None and now < found.expires_at else None

    def campaigns(self) -> dict[str, CampaignVerdict]:
        """List the campaigns that have accounts.

        Returns:
            campaign id -> what is known of it.
        """
        found = (verdict.campaign for verdict in self.verdicts.values())
        return {campaign.campaign_id: campaign for campaign in found}

    def members(self) -> dict[str, frozenset[str]]:
        """Group the accounts by campaign.

        Returns:
            campaign id -> its accounts, lapsed verdicts included.
        """
        groups: dict[str, set[str]] = {}
        for account, verdict in self.verdicts.items():
            groups.setdefault(verdict.campaign.campaign_id, set()).add(account)
        return {campaign_id: frozenset(accounts) for campaign_id, accounts in groups.items()}


class VerdictTable:
    """The table on disk.

    Args:
        path: the SQLite file; its folder must exist.

    Raises:
        RecordError: the file cannot be opened as a verdict table.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._translated("opened"):
            # The gateway reads it from worker threads, one at a time.
            self._db = sqlite3.connect(
                path, timeout=10.0, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_SCHEMA)

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
            row = self._db.execute("SELECT generation FROM meta").fetchone()
        return int(row[0])

    def load(self) -> Board:
        """Read everything at one moment.

        Returns:
            The snapshot.

        Raises:
            RecordError: the file cannot be read.
        """
        with self._translated("read"):
            self._db.execute("BEGIN")
            try:
                return self._load()
            finally:
                self._db.execute("COMMIT")

    def _load(self) -> Board:
        campaigns = {
            row[0]: CampaignVerdict(*row)
            for row in self._db.execute(
                "SELECT campaign_id, since, renewed_at, p_value, mark_key_id, summary "
                "FROM campaigns"
            )
        }
        verdicts = {
            account: Verdict(account, campaigns[campaign_id], named_at, expires_at)
            for account, campaign_id, named_at, expires_at in self._db.execute(
                "SELECT account, campaign_id, named_at, expires_at FROM members ORDER BY account"
            )
        }
        return Board(self.generation(), MappingProxyType(verdicts))

    def write(self, verdicts: Iterable[Verdict]) -> int:
        """Add or renew verdicts, all or none.

        `since` of a campaign and `named_at` of an account keep their first values.

        Args:
            verdicts: any number, of any number of campaigns.

        Returns:
            The new generation number.

        Raises:
            RecordError: the file cannot be written.
        """
        rows = list(verdicts)
        campaigns = {verdict.campaign.campaign_id: verdict.campaign for verdict in rows}
        return self._change([
            (
                "INSERT INTO campaigns VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (campaign_id) DO UPDATE SET "
                "renewed_at = excluded.renewed_at, p_value = excluded.p_value, "
                "mark_key_id = excluded.mark_key_id, summary = excluded.summary",
                [
                    (c.campaign_id, c.since, c.renewed_at, c.p_value, c.mark_key_id, c.summary)
                    for c in campaigns.values()
                ],
            ),
            (
                "INSERT INTO members VALUES (?, ?, ?, ?) ON CONFLICT (account) DO UPDATE "
                "SET campaign_id = excluded.campaign_id, expires_at = excluded.expires_at",
                [(v.account, v.campaign.campaign_id, v.named_at, v.expires_at) for v in rows],
            ),
        ])

    def clear(self, account: str, *, until: float) -> int:
        """Lift the verdict on an account and hold off new ones for a time.

        Args:
            account: the account.
            until: UTC epoch seconds up to which the learner must not name it again.

        Returns:
            The new generation number.

        Raises:
            RecordError: the file cannot be written.
        """
        return self._change([
            ("DELETE FROM members WHERE account = ?", [(account,)]),
            (
                "INSERT INTO cleared VALUES (?, ?) ON CONFLICT (account) DO UPDATE "
                "SET until = excluded.until",
                [(account, until)],
            ),
        ])

    def cleared(self, now: float) -> frozenset[str]:
        """List the accounts that must not be named now.

        Args:
            now: UTC epoch seconds.

        Returns:
            Accounts.

        Raises:
            RecordError: the file cannot be read.
        """
        with self._translated("read"):
            rows = self._db.execute("SELECT account FROM cleared WHERE until > ?", (now,))
            return frozenset(account for (account,) in rows)

    def _change(self, steps: list[tuple[str, list[tuple[object, ...]]]]) -> int:
        with self._translated("written"):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                for statement, rows in steps:
                    self._db.executemany(statement, rows)
                self._db.execute("UPDATE meta SET generation = generation + 1")
                generation = self.generation()
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
        return generation

    @contextmanager
    def _translated(self, verb: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            message = f"{self._path}: the verdict table cannot be {verb}: {error}"
            hint = "check the disk, and that the file is a verdict table"
            raise RecordError(message, hint=hint) from error
