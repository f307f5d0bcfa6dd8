"""Joins what the policy says to what the ladder of campaigns says."""

from __future__ import annotations

from collections.abc import Callable

from stillwatch.guard.decide import Action, Decision
from stillwatch.guard.policy.engine import Judged, Ruling
from stillwatch.guard.policy.facts import Asking
from stillwatch.guard.policy.live import LivePolicy


def decide_by_policy(
    policy: LivePolicy, asking: Asking, now: float, *, ladder: Callable[[], Decision]
) -> Decision:
    """Decide on a request by the policy and, if that lets it pass, by the ladder.

    The ladder is asked only when the policy neither refuses nor exempts, so that no token of a
    campaign's bucket is spent on a question that is not answered.

    Args:
        policy: judges.
        asking: the request.
        now: UTC epoch seconds.
        ladder: gives the ladder's decision.

    Returns:
        The stricter of the two, with the names of the rules and the hashes of policy and lists.
    """
    judged = policy.judge(asking, now)
    ruling, tags = judged.ruling, record_tags(policy, judged)
    verdict = asking.verdict
    campaign_id = verdict.campaign.campaign_id if verdict is not None else None
    if ruling.rule is not None and (ruling.is_refusal or ruling.effect == "allow"):
        return Decision(
            "allow" if ruling.effect == "allow" else _refusing(ruling),
            campaign_id,
            f"rule {ruling.rule.id}",
            ruling.retry_after_s,
            message=ruling.rule.message,
            tags=tags,
        )
    decision = ladder()._replace(tags=tags)
    if ruling.rule is None or decision.action not in {"allow", "observe"}:
        return decision
    if ruling.effect == "watermark":
        return _marked(policy, decision, ruling.rule.id, mark_key_id=_own_mark(asking))
    return decision._replace(action="observe", reason=f"rule {ruling.rule.id}")


def record_tags(policy: LivePolicy, judged: Judged) -> dict[str, str]:
    """Write what the record of a request says about the policy.

    Args:
        policy: that judged.
        judged: what it said.

    Returns:
        Tags: hashes and dates always, rules where some fired.
    """
    tags = dict(policy.engine.stamp)
    if not judged.fired:
        return tags
    ruling, would = judged.ruling, judged.would
    if ruling.rule is not None:
        tags["rule"] = ruling.rule.id
    tags["rules_fired"] = ",".join(found.rule.id for found in judged.fired)
    missing = ",".join(found.rule.id for found in judged.fired if found.is_missing)
    if missing:
        tags["rules_missing_facts"] = missing
    if would is not None and would.rule is not None and would.effect != ruling.effect:
        tags["policy_would_have"] = f"{would.effect} by {would.rule.id}"
    return tags


def _refusing(ruling: Ruling) -> Action:
    return "block" if ruling.effect == "block" else "throttle"


def _own_mark(asking: Asking) -> str | None:
    return asking.verdict.campaign.mark_key_id if asking.verdict is not None else None


def _marked(
    policy: LivePolicy, decision: Decision, rule: str, *, mark_key_id: str | None
) -> Decision:
    mark = policy.mark(rule)
    campaign_id = decision.campaign_id
    if campaign_id is None or mark_key_id is None:
        # Nobody's campaign: the rule's own name and key stand in the order to mark.
        campaign_id, mark_key_id = mark
    return decision._replace(
        action="watermark",
        campaign_id=campaign_id,
        mark_key_id=mark_key_id,
        reason=f"rule {rule}",
    )
