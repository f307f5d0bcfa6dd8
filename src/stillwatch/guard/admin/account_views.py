"""What accounts did of late, and what was decided, as plain data."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from stillwatch.guard.admin.traffic import Seen
from stillwatch.guard.state import GuardState

Data = dict[str, Any]
_MOST: Final = 200


def accounts(state: GuardState, *, most: int = _MOST, like: str = "") -> list[Data]:
    """List the accounts that asked of late.

    Args:
        state: shared.
        most: entries at most.
        like: only names that hold this text.

    Returns:
        The busiest first.
    """
    seen = state.traffic.accounts()
    found = [(name, counts) for name, counts in seen.items() if like in name]
    found.sort(key=lambda item: (-item[1].questions, item[0]))
    return [_account_row(state, name, counts) for name, counts in found[:most]]


def account(state: GuardState, name: str) -> Data | None:
    """Show one account.

    Args:
        state: shared.
        name: the account.

    Returns:
        Plain data, or None when nothing is known of it.
    """
    counts, verdict = state.traffic.accounts().get(name), state.board.verdicts.get(name)
    clearance = state.board.clearances.get(name)
    if counts is None and verdict is None and clearance is None:
        return None
    return _account_row(state, name, counts) | {
        "named_at": verdict.named_at if verdict is not None else None,
        "expires_at": verdict.expires_at if verdict is not None else None,
        "clearance": msgspec.to_builtins(clearance) if clearance is not None else None,
        "decisions": decisions(state, account=name, most=50),
    }


def _account_row(state: GuardState, name: str, counts: Seen | None) -> Data:
    now = state.clock.now()
    verdict = state.board.verdict(name, now)
    return {
        "account": name,
        "campaign_id": verdict.campaign.campaign_id if verdict is not None else None,
        "verified": state.board.is_verified(name, now),
        "seen": seen_data(counts) if counts is not None else None,
    }


def seen_data(counts: Seen) -> Data:
    """Show what an account did of late.

    Args:
        counts: its.

    Returns:
        Plain data.
    """
    return {
        "questions": counts.questions,
        "refused": counts.refused,
        "would_have": counts.would_have,
        "output_tokens": counts.output_tokens,
        "first_at": counts.first_at,
        "last_at": counts.last_at,
        "models": dict(sorted(counts.models.items(), key=lambda item: -item[1])),
    }


def decisions(
    state: GuardState, *, account: str = "", campaign_id: str = "", most: int = _MOST
) -> list[Data]:
    """List the latest decisions.

    Args:
        state: shared.
        account: only this one's.
        campaign_id: only this one's.
        most: entries at most.

    Returns:
        Newest first, of the last 300 exchanges.
    """
    found = [
        row
        for row in state.traffic.recent()
        if account in {"", row.account} and campaign_id in {"", row.campaign_id}
    ]
    return [{k: v for k, v in row._asdict().items() if k != "more"} for row in found[:most]]
