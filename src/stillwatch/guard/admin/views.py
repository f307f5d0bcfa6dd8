"""What the admin is shown, as plain data: the JSON API gives it out, the pages lay it out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec

from stillwatch import __version__
from stillwatch.guard.admin.account_views import decisions, seen_data
from stillwatch.guard.recording.audit import AuditLine, tail_audit
from stillwatch.guard.state import GuardState
from stillwatch.guard.wall.ladder import DAY_S
from stillwatch.guard.wall.standing import standing
from stillwatch.guard.wall.verdict import Board, CampaignVerdict, Verdict

Data = dict[str, Any]
_HOUR_S: Final = 3600.0
#: Lines of the audit log that are shown unless more are asked for.
_ABOUT: Final = 100


def overview(state: GuardState) -> Data:
    """Show the state of everything in a few figures.

    Args:
        state: shared.

    Returns:
        mode, health, traffic of the last hour and day, campaigns and what waits for approval.
    """
    now = state.clock.now()
    return {
        "at": now,
        "version": __version__,
        "mode": state.config.ladder.mode,
        "health": health(state),
        "hour": dict(state.traffic.totals(now, span_s=_HOUR_S)),
        "day": dict(state.traffic.totals(now, span_s=DAY_S)),
        "campaigns": len(state.board.campaigns()),
        "accounts": len(state.board.verdicts),
        "waiting": waiting(state),
        "times": {
            name: {"p50": found.quantile(0.5), "p99": found.quantile(0.99)}
            for name, found in state.traffic.histograms.items()
        },
    }


def health(state: GuardState) -> Data:
    """Show whether it serves, scores and records.

    Args:
        state: shared.

    Returns:
        Plain data; `problems` says in words what is wrong.
    """
    learner, policy, recorder = state.link.state, state.policy, state.recorder
    problems = []
    if learner == "dead":
        problems.append(
            "The learner is dead: new exchanges are not scored until the next learning."
        )
    if recorder.is_failing:
        problems.append(
            "The record cannot be written: exchanges are served and lost to the record."
        )
    if policy is not None and policy.refused is not None:
        problems.append("The newest policy is refused; the one before it runs.")
    last = state.link.last
    return {
        "status": "degraded" if problems else "ok",
        "problems": problems,
        "learner": learner,
        "learner_pid": state.link.pid,
        "last_learning": msgspec.to_builtins(_learning(last)) if last is not None else None,
        "recording": not recorder.is_failing,
        "recorded": state.metrics.value("recorded"),
        "record_failures": state.metrics.value("record_failures"),
        "bodies_dropped": state.metrics.value("record_bodies_dropped"),
        "rows_dropped": state.metrics.value("record_rows_dropped"),
        "generation": state.board.generation,
        "policy": policy.engine.policy.sha256 if policy is not None else None,
        "policy_refused": policy.refused if policy is not None else None,
    }


async def whole_health(state: GuardState) -> Data:
    """Show what `health` does, and how the state that gateways share is; asks Redis.

    Args:
        state: shared.

    Returns:
        Plain data.
    """
    shared = await state.shared.status() if state.shared is not None else None
    return health(state) | {"shared": shared}


def _learning(last: Any) -> Data:
    plain: Data = msgspec.to_builtins(last)
    return {name: value for name, value in plain.items() if name != "campaigns"} | {
        "campaigns": [found["campaign_id"] for found in plain["campaigns"]]
    }


def verdicts(state: GuardState) -> Data:
    """Show every campaign with its accounts.

    Args:
        state: shared.

    Returns:
        Plain data.
    """
    now, board = state.clock.now(), state.board
    members = board.members()
    return {
        "generation": board.generation,
        "mode": state.config.ladder.mode,
        "campaigns": [
            _campaign_row(state, campaign) | {
                "accounts": [
                    {
                        "account": account,
                        "named_at": board.verdicts[account].named_at,
                        "expires_at": board.verdicts[account].expires_at,
                        "lapsed": board.verdict(account, now) is None,
                    }
                    for account in sorted(members[campaign.campaign_id])
                ],
            }
            for campaign in sorted(board.campaigns().values(), key=lambda c: c.campaign_id)
        ],
    }  # fmt: skip


def _campaign_row(state: GuardState, campaign: CampaignVerdict) -> Data:
    return {
        "campaign_id": campaign.campaign_id,
        "since": campaign.since,
        "renewed_at": campaign.renewed_at,
        "p_value": campaign.p_value,
        "mark_key_id": campaign.mark_key_id,
        "summary": campaign.summary,
        "bucket": state.buckets.levels().get(campaign.campaign_id),
    }


def campaigns(state: GuardState) -> list[Data]:
    """List the campaigns, what is done to each and what comes next.

    Args:
        state: shared.

    Returns:
        One entry a campaign, the newest first.
    """
    found = [_campaign(state, small) for small in _apart(state.board)]
    return sorted(found, key=lambda entry: (-entry["since"], entry["campaign_id"]))


def _apart(board: Board) -> list[Board]:
    """Take a board apart, one a campaign: whoever looks at one must not walk the others' members.

    Returns:
        Boards with accounts, by campaign id.
    """
    groups: dict[str, dict[str, Verdict]] = {}
    for account, verdict in board.verdicts.items():
        groups.setdefault(verdict.campaign.campaign_id, {})[account] = verdict
    return [replace(board, verdicts=members) for _, members in sorted(groups.items())]


def _campaign(state: GuardState, small: Board) -> Data:
    verdicts = small.verdicts.values()
    campaign = next(iter(verdicts)).campaign
    return _campaign_row(state, campaign) | {
        "n_accounts": len(verdicts),
        "expires_at": max(verdict.expires_at for verdict in verdicts),
        "standing": _standings(state, small, campaign.campaign_id),
        "orders": _orders(state, campaign.campaign_id),
    }


def campaign(state: GuardState, campaign_id: str) -> Data | None:
    """Show one campaign with its evidence.

    Args:
        state: shared.
        campaign_id: which.

    Returns:
        Plain data, or None when there is no such campaign.
    """
    board = state.board
    members = {
        account: verdict
        for account, verdict in sorted(board.verdicts.items())
        if verdict.campaign.campaign_id == campaign_id
    }
    if not members:
        return None
    now, seen = state.clock.now(), state.traffic.accounts()
    found = _campaign(state, replace(board, verdicts=members))
    return found | {
        "evidence": _evidence(state, campaign_id, summary=found["summary"]),
        "accounts": [
            {
                "account": account,
                "named_at": verdict.named_at,
                "expires_at": verdict.expires_at,
                "lapsed": board.verdict(account, now) is None,
                "verified": board.is_verified(account, now),
                "seen": seen_data(seen[account]) if account in seen else None,
            }
            for account, verdict in members.items()
        ],
        "decisions": decisions(state, campaign_id=campaign_id, most=20),
    }


def _evidence(state: GuardState, campaign_id: str, *, summary: str) -> list[str]:
    last = state.link.last
    for found in last.campaigns if last is not None else ():
        if found.campaign_id == campaign_id:
            return list(found.evidence)
    # The table keeps the three strongest, as one line.
    return [line for line in summary.split("; ") if line]


def _standings(state: GuardState, small: Board, campaign_id: str) -> list[Data]:
    now, ladder = state.clock.now(), state.config.ladder
    return [
        {"model": rule.model}
        | msgspec.to_builtins(
            standing(small, ladder, campaign_id=campaign_id, model=rule.model, now=now)
        )
        for rule in ladder.rules
    ]


def waiting(state: GuardState) -> list[Data]:
    """List the rungs that wait for a person's word.

    Args:
        state: shared.

    Returns:
        campaign_id, model and action.
    """
    rungs = (rung for rule in state.config.ladder.rules for rung in rule.rungs)
    if not any(rung.needs_approval for rung in rungs):
        return []
    return [
        {
            "campaign_id": entry["campaign_id"],
            "model": held["model"],
            "action": held["waits_for_approval"],
        }
        for entry in campaigns(state)
        for held in entry["standing"]
        if held["waits_for_approval"]
    ]


def _orders(state: GuardState, campaign_id: str) -> list[Data]:
    now = state.clock.now()
    return [
        msgspec.to_builtins(order) | {"holds": order.holds_at(now)}
        for order in state.board.orders.get(campaign_id, ())
    ]


def policy(state: GuardState) -> Mapping[str, Any] | None:
    """Show the policy and what each of its rules did or would have done.

    Args:
        state: shared.

    Returns:
        Plain data, or None without a policy.
    """
    return state.policy.status(state.clock.now()) if state.policy is not None else None


async def audit(state: GuardState, *, most: int = _ABOUT) -> list[Data]:
    """List the newest lines of the audit log.

    Args:
        state: shared.
        most: entries at most.

    Returns:
        Newest first; the first one's hash is what to note elsewhere.

    Raises:
        RecordError: the log cannot be read.
    """
    lines: list[AuditLine] = await asyncio.to_thread(tail_audit, state.config.audit_path, most)
    return [
        {
            "seq": line.seq,
            "at": line.event.at,
            "kind": line.event.kind,
            "detail": dict(line.event.detail),
            "hash": line.hash,
        }
        for line in lines
    ]
