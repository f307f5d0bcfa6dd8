"""Verdicts: which account belongs to which campaign, since when and until when.

The table is SQLite in WAL mode: the learner writes, any number of gateways read. A gateway never
asks it while a client waits; it holds a `Board`, an immutable snapshot, and swaps it when the
table's generation number moves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from stillwatch.guard.wall.orders import Clearance, Order, OrderTable


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

    def age_s(self, now: float) -> float:
        """Tell how long it has been named.

        Args:
            now: UTC epoch seconds.

        Returns:
            Seconds; 0 under a clock that was set back, which must set nobody free.
        """
        return max(0.0, now - self.since)


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
        orders: campaign id -> what people ordered about it; ended ones are still here.
        clearances: account -> until when it has shown who it is; ended ones are still here.
    """

    generation: int = 0
    verdicts: Mapping[str, Verdict] = field(default_factory=lambda: MappingProxyType({}))
    orders: Mapping[str, tuple[Order, ...]] = field(default_factory=lambda: MappingProxyType({}))
    clearances: Mapping[str, Clearance] = field(default_factory=lambda: MappingProxyType({}))

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

    def is_verified(self, account: str, now: float) -> bool:
        """Say whether an account has shown who it is.

        Args:
            account: the account.
            now: UTC epoch seconds.

        Returns:
            True while its clearance lasts.
        """
        found = self.clearances.get(account)
        return found is not None and now < found.until

    def n_verified(self, campaign_id: str, now: float) -> tuple[int, int]:
        """Count the accounts of a campaign.

        Args:
            campaign_id: which.
            now: UTC epoch seconds.

        Returns:
            Those that have shown who they are, and all whose verdict holds (counts).
        """
        members = [
            account
            for account, verdict in self.verdicts.items()
            if verdict.campaign.campaign_id == campaign_id and now < verdict.expires_at
        ]
        return sum(self.is_verified(account, now) for account in members), len(members)

    def with_clearance(self, clearance: Clearance, *, generation: int) -> Board | None:
        """Add a clearance without reading the table again.

        Args:
            clearance: as it was written.
            generation: of the table afterwards.

        Returns:
            The new snapshot; None when something else was written meanwhile.
        """
        if generation != self.generation + 1:
            return None
        clearances = MappingProxyType({**self.clearances, clearance.account: clearance})
        return replace(self, generation=generation, clearances=clearances)

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


class VerdictTable(OrderTable):
    """The table on disk: verdicts, and what `OrderTable` holds."""

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
        return Board(
            self._generation(),
            MappingProxyType(verdicts),
            MappingProxyType(self._orders()),
            MappingProxyType(self._clearances()),
        )

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
        rows = self._rows("SELECT account FROM cleared WHERE until > ?", (now,))
        return frozenset(account for (account,) in rows)

    def leave(self, campaign_id: str) -> int:
        """End the verdicts on a campaign; found again, it begins anew.

        Args:
            campaign_id: which; its orders stay, approvals go.

        Returns:
            The new generation number.

        Raises:
            RecordError: the file cannot be written.
        """
        approvals = "DELETE FROM campaign_orders WHERE campaign_id = ? AND kind = 'approve'"
        return self._change([
            ("DELETE FROM members WHERE campaign_id = ?", [(campaign_id,)]),
            ("DELETE FROM campaigns WHERE campaign_id = ?", [(campaign_id,)]),
            (approvals, [(campaign_id,)]),
        ])

    def recalled(self, name: str) -> str:
        """Read what a learner has noted for the next learning.

        Args:
            name: of the note.

        Returns:
            Its text; "" when there is none.

        Raises:
            RecordError: the file cannot be read.
        """
        rows = self._rows("SELECT value FROM memory WHERE name = ?", (name,))
        return str(rows[0][0]) if rows else ""

    def remember(self, name: str, value: str) -> int:
        """Note something for the next learning.

        Args:
            name: of the note.
            value: its text.

        Returns:
            The new generation number.

        Raises:
            RecordError: the file cannot be written.
        """
        return self._change([("INSERT OR REPLACE INTO memory VALUES (?, ?)", [(name, value)])])
