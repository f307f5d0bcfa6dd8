"""Joins what the policy says to what the ladder of campaigns says."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stillwatch.guard.policy.engine import Judged, Ruling
from stillwatch.guard.policy.facts import Asking
from stillwatch.guard.policy.live import LivePolicy, Mark
from stillwatch.guard.wall.decide import Decision, strongest
from stillwatch.guard.wall.verdict import Verdict


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
            ruling.action,
            campaign_id,
            f"rule {ruling.rule.id}",
            ruling.retry_after_s,
            message=ruling.rule.message,
            tags=tags,
            effects=ruling.effects,
        )
    decision = ladder()._replace(tags=tags)
    if ruling.rule is None:
        return decision
    if decision.is_refusal:
        logged = ruling.effects & {"log_full"}
        return decision._replace(effects=decision.effects | logged)
    return _joined(decision, ruling, policy=policy, verdict=verdict)


def _joined(
    decision: Decision, ruling: Ruling, *, policy: LivePolicy, verdict: Verdict | None
) -> Decision:
    """Do what ladder and rule do quietly, both; the stronger gives its name to it."""
    assert ruling.rule is not None, "a rule decides"
    effects = decision.effects | ruling.effects
    action = strongest(effects, "observe" if ruling.effect == "observe" else decision.action)
    if action not in decision.effects and action == ruling.action:
        decision = decision._replace(action=action, reason=f"rule {ruling.rule.id}")
    decision = decision._replace(effects=effects)
    if decision.mark_key_id is not None or not effects & {"watermark", "canary"}:
        return decision
    campaign_id, mark_key_id = _mark_of(policy, ruling.rule.id, verdict)
    marked = mark_key_id if "watermark" in effects else None
    return decision._replace(campaign_id=campaign_id, mark_key_id=marked)


def record_tags(policy: LivePolicy, judged: Judged) -> Mapping[str, str]:
    """Write what the record of a request says about the policy.

    Args:
        policy: that judged.
        judged: what it said.

    Returns:
        Tags: hashes and dates always, rules where some fired.
    """
    stamp = policy.engine.stamp
    if not judged.fired:
        return stamp
    tags = dict(stamp)
    ruling, would = judged.ruling, judged.would_have
    if ruling.rule is not None:
        tags["rule"] = ruling.rule.id
    tags["rules_fired"] = ",".join(found.rule.id for found in judged.fired)
    missing = ",".join(found.rule.id for found in judged.fired if found.is_missing)
    if missing:
        tags["rules_missing_facts"] = missing
    if would is not None:
        tags["policy_would_have"] = f"{would.action} by {would.rule_id}"
    return tags


def _mark_of(policy: LivePolicy, rule: str, verdict: Verdict | None) -> Mark:
    """Give the campaign's own mark; nobody's campaign gets the rule's own name and key."""
    campaign = verdict.campaign if verdict is not None else None
    if campaign is None or campaign.mark_key_id is None:
        return policy.mark(rule)
    return Mark(campaign.campaign_id, campaign.mark_key_id)
