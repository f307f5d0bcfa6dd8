"""What holds for a campaign now, why, until when, and what comes next; for people to read."""

from __future__ import annotations

from dataclasses import dataclass

from stillwatch.guard.wall.ladder import Ladder
from stillwatch.guard.wall.orders import FOREVER, held_for, ruling_order
from stillwatch.guard.wall.verdict import Board


@dataclass(frozen=True, slots=True)
class Standing:
    """How a campaign stands on one model.

    Attributes:
        action: what the rung does that holds; "observe" when none does.
        effects: what is done quietly besides, in the order of its strength.
        since: from when on (UTC epoch seconds).
        reason: the finding or the order behind it, in one line.
        expires_at: when it ends unless the campaign is found again, or the order is renewed.
        next_action: the rung whose time comes next, or None.
        next_at: when.
        waits_for_approval: the rung whose time has come and that nobody has approved, or None.
        n_accounts: accounts whose verdict holds (count).
        n_verified: those of them that have shown who they are (count).
    """

    action: str
    effects: tuple[str, ...]
    since: float
    reason: str
    expires_at: float | None
    next_action: str | None = None
    next_at: float | None = None
    waits_for_approval: str | None = None
    n_accounts: int = 0
    n_verified: int = 0


def standing(
    board: Board, ladder: Ladder, *, campaign_id: str, model: str, now: float
) -> Standing | None:
    """Say how a campaign stands on one model.

    Args:
        board: the verdicts, orders and clearances known.
        ladder: what is done to campaigns.
        campaign_id: which.
        model: a model's name.
        now: UTC epoch seconds.

    Returns:
        What holds, the same that `decide` goes by; None for a campaign that has no accounts.
    """
    members = [v for v in board.verdicts.values() if v.campaign.campaign_id == campaign_id]
    if not members:
        return None
    campaign = members[0].campaign
    ends = max(verdict.expires_at for verdict in members)
    orders = board.orders.get(campaign_id, ())
    n_verified, n_accounts = board.n_verified(campaign_id, now)
    held = held_for(ladder, orders, model, age_s=campaign.age_s(now), now=now)
    order = ruling_order(orders, now)
    effects = tuple(sorted(held.effects))
    if order is not None:
        reason = f"{order.kind} by {order.by}: {order.why}" if order.by else order.kind
        until = min(ends, order.until if order.until is not None else FOREVER)
        action = held.rung.action if held.rung is not None else "observe"
        return Standing(
            action, effects, order.at, reason, until, n_accounts=n_accounts, n_verified=n_verified
        )
    upcoming = next((r for r in ladder.rungs(model) if r.after_s > campaign.age_s(now)), None)
    return Standing(
        action=held.rung.action if held.rung is not None else "observe",
        effects=effects,
        since=campaign.since + (held.rung.after_s if held.rung is not None else 0.0),
        reason=campaign.summary,
        expires_at=ends,
        next_action=upcoming.action if upcoming is not None else None,
        next_at=campaign.since + upcoming.after_s if upcoming is not None else None,
        waits_for_approval=held.waiting.action if held.waiting is not None else None,
        n_accounts=n_accounts,
        n_verified=n_verified,
    )
