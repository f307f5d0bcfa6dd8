"""The campaign as a picture: which accounts sent the same opening lines."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from stillwatch.record.exchange import Exchange
from stillwatch.siege.moat.rounds import CAMPAIGN, RoundRecord

_NUMBER = re.compile(r"\d+")
_MOST_WORDINGS, _MOST_ACCOUNTS = 48, 400
_FEWEST_ACCOUNTS = 3
_LABEL_CHARS = 60


def wording_of(exchange: Exchange) -> str:
    """Take what stands around a question, digits masked: the part that a pipeline repeats.

    Args:
        exchange: any.

    Returns:
        System prompt and all lines but the last, or "" when there is nothing around the question.
    """
    around = "\n".join([exchange.system, *exchange.question.splitlines()[:-1]]).strip()
    return _NUMBER.sub("#", around)


def describe_web(record: RoundRecord) -> dict[str, Any]:
    """Compute the moat report's `graph`.

    Args:
        record: the round with the wall off.

    Returns:
        Accounts and the wordings that at least three of them sent, as nodes and edges.
    """
    users, volume = _count(record)
    shared = sorted(
        (wording for wording in users if len(users[wording]) >= _FEWEST_ACCOUNTS),
        key=lambda wording: (-len(users[wording]), wording),
    )[:_MOST_WORDINGS]
    linked = {account for wording in shared for account in users[wording]}
    kept = sorted(linked, key=lambda account: (-volume[account], account))[:_MOST_ACCOUNTS]
    nodes = _account_nodes(record, kept, volume)
    nodes += [
        {"id": f"w{number}", "kind": "trait", "label": wording[:_LABEL_CHARS]}
        for number, wording in enumerate(shared)
    ]
    drawn = set(kept)
    edges = [
        {"a": account, "b": f"w{number}", "weight": float(times)}
        for number, wording in enumerate(shared)
        for account, times in sorted(users[wording].items())
        if account in drawn
    ]
    note = (
        "A line joins an account to a wording that it put around its questions and that at least "
        f"{_FEWEST_ACCOUNTS} accounts sent, digits masked."
    )
    return {"run": "off", "note": note, "nodes": nodes, "edges": edges}


def _count(record: RoundRecord) -> tuple[dict[str, Counter[str]], Counter[str]]:
    """Count accounts by wording, and exchanges by account."""
    users: dict[str, Counter[str]] = defaultdict(Counter)
    volume: Counter[str] = Counter()
    for exchange in record.exchanges:
        volume[exchange.account] += 1
        wording = wording_of(exchange)
        if wording:
            users[wording][exchange.account] += 1
    return users, volume


def _account_nodes(
    record: RoundRecord, accounts: Sequence[str], volume: Counter[str]
) -> list[dict[str, Any]]:
    named = {
        account: campaign["campaign_id"]
        for campaign in record.findings["campaigns"]
        for account in campaign["accounts"]
    }
    return [
        {
            "id": account,
            "kind": "account",
            "role": "campaign" if record.roles.get(account) == CAMPAIGN else "honest",
            "group": record.roles.get(account),
            "named": named.get(account),
            "exchanges": volume[account],
        }
        for account in accounts
    ]
