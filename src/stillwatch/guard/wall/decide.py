"""The decision on one question, from what is already known; microseconds, no I/O.

Whatever takes longer than a look-up belongs to the learner, in another process.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from stillwatch.guard.wall.ladder import NOBODY, QUIET, Buckets, Held, Ladder, Rung
from stillwatch.guard.wall.orders import held_anywhere, held_for
from stillwatch.guard.wall.verdict import Board, CampaignVerdict

#: From weak to strong.
Action = Literal[
    "allow", "observe", "log_full", "strip", "throttle", "challenge", "watermark", "canary", "block"
]
#: Such a question is not forwarded.
REFUSALS: Final = frozenset({"throttle", "challenge", "block"})
_LOGGED: Final = frozenset({"log_full"})


class Decision(NamedTuple):
    """What to do with one question.

    Attributes:
        action: the strongest thing that is done: allow, observe (known campaign, left alone),
            log_full, strip, watermark, canary (forwarded), throttle, challenge, block (refused).
        campaign_id: the campaign that the account belongs to, or None.
        reason: a short constant for records and metrics.
        retry_after_s: for throttle, seconds until a token will be there; None where there will
            never be enough, and otherwise.
        mark_key_id: for watermark, the campaign's own key; else None.
        would_have: in observe mode, the action that enforce mode had taken; else None.
        message: one sentence for a client that a policy's rule refuses; None for the usual one.
        tags: what the record says about the policy; None without one.
        effects: everything that is done quietly: log_full, strip, watermark, canary.
        took: the throttle rung whose bucket gave tokens, or None.
        n_took: how many (count).
    """

    action: Action
    campaign_id: str | None = None
    reason: str = "no verdict"
    retry_after_s: float | None = None
    mark_key_id: str | None = None
    would_have: Action | None = None
    message: str | None = None
    tags: Mapping[str, str] | None = None
    effects: frozenset[str] = NOBODY
    took: Rung | None = None
    n_took: int = 1

    @property
    def is_refusal(self) -> bool:
        """Whether the question is not forwarded."""
        return self.action in REFUSALS


ALLOWED: Final = Decision("allow")


def decide(
    account: str, model: str, now: float, *, board: Board, ladder: Ladder, buckets: Buckets
) -> Decision:
    """Decide on one question of an account.

    In observe mode the same path is walked, buckets included, and ends as action "observe" with
    `would_have`: what is counted before the wall is switched on is what the wall will do.

    Args:
        account: who asks.
        model: the model asked for.
        now: UTC epoch seconds.
        board: the verdicts, orders and clearances known.
        ladder: what to do to campaigns.
        buckets: the campaigns' token buckets; a throttle rung takes one token.

    Returns:
        The decision.
    """
    verdict = board.verdict(account, now)
    if verdict is None:
        return ALLOWED
    campaign = verdict.campaign
    orders = board.orders.get(campaign.campaign_id, ())
    held = held_for(ladder, orders, model, age_s=campaign.age_s(now), now=now)
    if held.rung is None:
        decision = Decision("observe", campaign.campaign_id, "campaign, no rung yet")
    elif held.rung.action == "throttle" and not board.is_verified(account, now):
        decision = _throttle(campaign, held, now, buckets=buckets)
    else:
        decision = _climb(campaign, held, is_verified=board.is_verified(account, now))
    return decision if ladder.mode == "enforce" else _only_observe(decision)


def decide_posed(
    account: str, model: str, now: float, *, board: Board, ladder: Ladder, buckets: Buckets
) -> Decision:
    """Decide on a question that may leave the model to the server.

    No rule for the empty name must be a way round the others: such a question is treated as one
    that cannot be read.

    Args:
        account: as for `decide`.
        model: the model asked for; "" where the server chooses.
        now: as for `decide`.
        board: as for `decide`.
        ladder: as for `decide`.
        buckets: as for `decide`.

    Returns:
        The decision.
    """
    if not (model or ladder.rung("", math.inf)):
        return decide_unread(account, now, board=board, ladder=ladder, is_chat=True)
    return decide(account, model, now, board=board, ladder=ladder, buckets=buckets)


def decide_unread(
    account: str, now: float, *, board: Board, ladder: Ladder, is_chat: bool = False
) -> Decision:
    """Decide on a question that the gateway cannot read.

    On a route that it passes without reading, a question names no model and cannot be marked, so
    what is asked is whether the campaign is blocked or challenged anywhere. On a route that it
    reads, a body that only the model server can read would be a way round throttle and mark: a
    campaign's is refused.

    Args:
        account: who asks.
        now: UTC epoch seconds.
        board: the verdicts, orders and clearances known.
        ladder: what to do to campaigns.
        is_chat: it came on a route that is read.

    Returns:
        allow, observe, challenge or block.
    """
    verdict = board.verdict(account, now)
    if verdict is None:
        return ALLOWED
    campaign = verdict.campaign
    name = campaign.campaign_id
    orders = board.orders.get(name, ())
    helds = held_anywhere(ladder, orders, age_s=campaign.age_s(now), now=now)
    actions = {held.rung.action for held in helds if held.rung is not None}
    if "block" in actions:
        decision = Decision("block", name, "campaign blocked")
    elif is_chat:
        decision = Decision("block", name, "campaign's question not readable")
    elif "challenge" in actions and not board.is_verified(account, now):
        decision = Decision("challenge", name, "campaign challenged")
    else:
        return Decision("observe", name, "campaign, route not read")
    return decision if ladder.mode == "enforce" else _only_observe(decision)


def strongest(effects: frozenset[str], otherwise: Action) -> Action:
    """Name the strongest of several quiet effects.

    Args:
        effects: some of log_full, strip, watermark, canary.
        otherwise: what to say when there is none.

    Returns:
        The action.
    """
    action = otherwise
    for effect in QUIET:
        if effect in effects:
            action = effect
    return action


def _throttle(campaign: CampaignVerdict, held: Held, now: float, *, buckets: Buckets) -> Decision:
    rung, name = held.rung, campaign.campaign_id
    assert rung is not None, "held"
    wait_s = buckets.take(name, now, rung=rung)
    if wait_s > 0:
        retry_after_s = wait_s if math.isfinite(wait_s) else None
        reason = "campaign over its limit"
        return Decision("throttle", name, reason, retry_after_s, effects=held.effects & _LOGGED)
    return _quiet(campaign, held, "campaign within its limit", idle="allow")._replace(took=rung)


def _climb(campaign: CampaignVerdict, held: Held, *, is_verified: bool) -> Decision:
    assert held.rung is not None, "held"
    name, action = campaign.campaign_id, held.rung.action
    if action == "block":
        return Decision("block", name, "campaign blocked", effects=held.effects & _LOGGED)
    if action == "challenge" and not is_verified:
        return Decision("challenge", name, "campaign challenged", effects=held.effects & _LOGGED)
    reason = "campaign, account verified" if is_verified else _REASONS[action]
    # To strip a person's answers who has shown who they are would be the wrong thanks for it.
    effects = held.effects - {"strip"} if is_verified else held.effects
    return _quiet(campaign, held._replace(effects=effects), reason, idle="observe")


_REASONS: Final[Mapping[str, str]] = {
    "observe": "campaign, no rung yet",
    "log_full": "campaign logged in full",
    "strip": "campaign stripped",
    "watermark": "campaign marked",
    "canary": "campaign gets canaries",
}


def _quiet(campaign: CampaignVerdict, held: Held, reason: str, *, idle: Action) -> Decision:
    effects = held.effects
    if campaign.mark_key_id is None and not effects.isdisjoint({"watermark", "canary"}):
        # The same secrets make both keys.
        effects -= {"watermark", "canary"}
        reason = "campaign has no mark key"
    return Decision(
        strongest(effects, idle),
        campaign.campaign_id,
        reason,
        mark_key_id=campaign.mark_key_id if "watermark" in effects else None,
        effects=effects,
    )


def _only_observe(decision: Decision) -> Decision:
    would_have = decision.action if decision.action not in {"allow", "observe"} else None
    return decision._replace(
        action="observe",
        retry_after_s=None,
        mark_key_id=None,
        would_have=would_have,
        effects=NOBODY,
    )
