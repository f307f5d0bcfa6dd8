"""What a change of the policy would change: two policies over the exchanges of one log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from stillwatch.guard.policy.document import PolicyFile
from stillwatch.guard.policy.engine import Engine, Ruling
from stillwatch.guard.policy.facts import Asking, FactSource, capabilities
from stillwatch.guard.wall.verdict import Board
from stillwatch.logs.accounts import AccountRow
from stillwatch.record.exchange import Exchange

_MOST_IDS: Final = 20  # exchanges named per account


class Change(NamedTuple):
    """One way in which exchanges are treated differently.

    Attributes:
        old: what the old policy does, with the rule that decides.
        new: what the new one does.
    """

    old: str
    new: str


@dataclass
class AccountChange:
    """What changes for one account.

    Attributes:
        n_exchanges: of the account, in the log (count).
        changes: change -> exchanges (count).
        exchange_ids: the first of them.
    """

    n_exchanges: int = 0
    changes: Counter[Change] = field(default_factory=Counter)
    exchange_ids: list[str] = field(default_factory=list)

    @property
    def n_changed(self) -> int:
        """Exchanges treated differently (count)."""
        return self.changes.total()


@dataclass
class Difference:
    """What changes in a log.

    Attributes:
        n_exchanges: read (count).
        accounts: account -> what changes, those of whom something does.
        n_accounts: read (count).
    """

    n_exchanges: int
    n_accounts: int
    accounts: dict[str, AccountChange]

    @property
    def n_changed(self) -> int:
        """Exchanges treated differently (count)."""
        return sum(change.n_changed for change in self.accounts.values())


class _Side:
    def __init__(
        self, policy: PolicyFile, accounts: Mapping[str, AccountRow], *, as_if_live: bool
    ) -> None:
        self._engine = Engine(policy)
        self._source = FactSource(policy, accounts)
        self._as_if_live = as_if_live

    def treat(self, asking: Asking, exchange: Exchange) -> str:
        now = exchange.started_at
        facts = self._source.facts(asking, now)
        judged = self._engine.judge(facts, now, remember=True)
        ruling = judged.ruling
        if self._as_if_live and judged.would is not None:
            ruling = judged.would
        if not ruling.is_refusal:
            tokens = exchange.output_tokens or 0
            self._source.volumes.answered(asking.account, now, output_tokens=tokens)
        return _described(ruling)


def compare(
    old: PolicyFile,
    new: PolicyFile,
    exchanges: Iterable[Exchange],
    *,
    accounts: Mapping[str, AccountRow],
    board: Board | None = None,
    as_if_live: bool = False,
) -> Difference:
    """Treat a log by two policies.

    The log is taken in its order, buckets and volumes run along on both sides. Addresses are hashed
    in a log, so `network_country` is not known; risk and age of campaigns are known with a board
    only, and without one the campaign is the one that the log names.

    Args:
        old: the policy before.
        new: the policy after.
        exchanges: the log.
        accounts: rows of the accounts table.
        board: verdicts, or None.
        as_if_live: treat shadow rules as if they were not.

    Returns:
        Which accounts and exchanges are treated differently, and how.
    """
    sides = [_Side(policy, accounts, as_if_live=as_if_live) for policy in (old, new)]
    seen: dict[str, AccountChange] = {}
    n_exchanges = 0
    for exchange in exchanges:
        n_exchanges += 1
        asking = _asking(exchange, board)
        before, after = (side.treat(asking, exchange) for side in sides)
        account = seen.setdefault(exchange.account, AccountChange())
        account.n_exchanges += 1
        if before != after:
            account.changes[Change(before, after)] += 1
            if len(account.exchange_ids) < _MOST_IDS:
                account.exchange_ids.append(exchange.exchange_id)
    changed = {name: found for name, found in seen.items() if found.changes}
    return Difference(n_exchanges, len(seen), changed)


def _asking(exchange: Exchange, board: Board | None) -> Asking:
    account, now = exchange.account, exchange.started_at
    return Asking(
        account=account,
        org=exchange.org,
        model=exchange.model,
        asks=capabilities(
            exchange.parameters,
            has_tools=exchange.tools_hash is not None,
            streamed=exchange.streamed,
        ),
        verdict=board.verdict(account, now) if board is not None else None,
        campaign_id=exchange.campaign_id or "" if board is None else "",
        is_verified=board.is_verified(account, now) if board is not None else None,
    )


def _described(ruling: Ruling) -> str:
    rule = f" by {ruling.rule.id}" if ruling.rule is not None else ""
    beside = "".join(f" + {effect}" for effect in sorted(ruling.effects - {ruling.action}))
    return f"{ruling.action}{beside}{rule}"
