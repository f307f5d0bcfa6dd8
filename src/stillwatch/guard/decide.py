"""The decision on one question, from what is already known; microseconds, no I/O.

Whatever takes longer than a look-up belongs to the learner, in another process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from stillwatch.guard.ladder import Ladder, Rung, TokenBuckets
from stillwatch.guard.verdict import Board, Verdict

Action = Literal["allow", "observe", "throttle", "watermark", "block"]


class Decision(NamedTuple):
    """What to do with one question.

    Attributes:
        action: allow, observe (known campaign, left alone), throttle or block (refuse), watermark.
        campaign_id: the campaign that the account belongs to, or None.
        reason: a short constant for records and metrics.
        retry_after_s: for throttle, seconds until a token will be there; else None.
        mark_key_id: for watermark, the campaign's own key; else None.
        would_have: in observe mode, the action that enforce mode had taken; else None.
        message: one sentence for a client that a policy's rule refuses; None for the usual one.
        tags: what the record says about the policy; None without one.
    """

    action: Action
    campaign_id: str | None = None
    reason: str = "no verdict"
    retry_after_s: float | None = None
    mark_key_id: str | None = None
    would_have: Action | None = None
    message: str | None = None
    tags: Mapping[str, str] | None = None


ALLOWED: Final = Decision("allow")


def decide(
    account: str, model: str, now: float, *, board: Board, ladder: Ladder, buckets: TokenBuckets
) -> Decision:
    """Decide on one question of an account.

    In observe mode the same path is walked, buckets included, and ends as action "observe" with
    `would_have`: what is counted before the wall is switched on is what the wall will do.

    Args:
        account: who asks.
        model: the model asked for.
        now: UTC epoch seconds.
        board: the verdicts known.
        ladder: what to do to campaigns.
        buckets: the campaigns' token buckets; a throttle rung takes one token.

    Returns:
        The decision.
    """
    verdict = board.verdict(account, now)
    if verdict is None:
        return ALLOWED
    rung = ladder.rung(model, now - verdict.campaign.since)
    decision = _climb(verdict, rung, now, buckets=buckets)
    return decision if ladder.mode == "enforce" else _only_observe(decision)


def decide_unread(
    account: str, now: float, *, board: Board, ladder: Ladder, is_chat: bool = False
) -> Decision:
    """Decide on a question that the gateway cannot read.

    On a route that it passes without reading, a question names no model and cannot be marked, so
    the one thing asked is whether the campaign is blocked anywhere. On the chat route a body that
    only the model server can read would be a way round throttle and mark: a campaign's is refused.

    Args:
        account: who asks.
        now: UTC epoch seconds.
        board: the verdicts known.
        ladder: what to do to campaigns.
        is_chat: it came on the chat route.

    Returns:
        allow, observe or block.
    """
    verdict = board.verdict(account, now)
    if verdict is None:
        return ALLOWED
    campaign = verdict.campaign
    if ladder.blocks_somewhere(now - campaign.since):
        decision = Decision("block", campaign.campaign_id, "campaign blocked")
    elif is_chat:
        decision = Decision("block", campaign.campaign_id, "campaign's question not readable")
    else:
        return Decision("observe", campaign.campaign_id, "campaign, route not read")
    return decision if ladder.mode == "enforce" else _only_observe(decision)


def _climb(verdict: Verdict, rung: Rung | None, now: float, *, buckets: TokenBuckets) -> Decision:
    campaign = verdict.campaign
    name = campaign.campaign_id
    if rung is None or rung.action == "observe":
        return Decision("observe", name, "campaign, no rung yet")
    if rung.action == "block":
        return Decision("block", name, "campaign blocked")
    if rung.action == "watermark":
        if campaign.mark_key_id is None:
            return Decision("observe", name, "campaign has no mark key")
        return Decision("watermark", name, "campaign marked", mark_key_id=campaign.mark_key_id)
    wait_s = buckets.take(name, now, rung=rung)
    if wait_s > 0:
        return Decision("throttle", name, "campaign over its limit", retry_after_s=wait_s)
    return Decision("allow", name, "campaign within its limit")


def _only_observe(decision: Decision) -> Decision:
    would_have = decision.action if decision.action not in {"allow", "observe"} else None
    return Decision("observe", decision.campaign_id, decision.reason, would_have=would_have)
