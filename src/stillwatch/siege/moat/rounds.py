"""What happened in a round, counted from the gateway's record and the truth."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from stillwatch.guard.learning.learned import Learned
from stillwatch.record.exchange import Exchange, total_output_tokens
from stillwatch.record.store import read_store
from stillwatch.siege.folder import read_json
from stillwatch.siege.round import read_learned
from stillwatch.siege.settings import DAY_S, FIRST_DAY, Prices

CAMPAIGN = "campaign"
#: The world's honest groups in words; single persons are no group.
_GROUPS = {
    "agent": "users of two popular agents, each with its fixed system prompt",
    "class": "a class that works through one worksheet",
    "company": "a company behind one address with one system prompt",
    "harness": "an evaluation harness that asks the same list every night",
    "labeller": "batch labellers, each with a catalogue of its own",
    "template": "unrelated users of one prompt template",
    "viral": "people who try one viral prompt",
}
_ACTIONS = ("throttle", "watermark", "block")


@dataclass(frozen=True)
class RoundRecord:
    """A round as its files hold it.

    Attributes:
        exchanges: the gateway's record, in calendar order.
        roles: account -> campaign, or its honest role.
        kinds: exchange id -> harvest, dilution or honest.
        retired: accounts that the campaign gave up.
        learned: what the learner found, day by day.
        findings: `campaigns.json` of `detect` on the whole record.
        copier: how many answers of each skill the campaign kept.
    """

    exchanges: tuple[Exchange, ...]
    roles: Mapping[str, str]
    kinds: Mapping[str, str]
    retired: tuple[str, ...]
    learned: tuple[Learned, ...]
    findings: Mapping[str, Any]
    copier: Mapping[str, int]

    @classmethod
    def read(cls, folder: Path, kept: Iterable[Exchange]) -> RoundRecord:
        """Read a round's files.

        Args:
            folder: the round's.
            kept: what the campaign kept.

        Returns:
            The round.
        """
        truth = read_json(folder / "truth.json")
        exchanges = sorted(
            read_store(folder / "store"), key=lambda x: (x.started_at, x.exchange_id)
        )
        return cls(
            exchanges=tuple(exchanges),
            roles=truth["accounts"],
            kinds=truth["requests"],
            retired=tuple(truth["retired"]),
            learned=tuple(read_learned(folder)),
            findings=read_json(folder / "findings" / "campaigns.json"),
            copier=Counter(x.tags.get("skill", "") for x in kept),
        )

    @cached_property
    def guilty(self) -> frozenset[str]:
        """The campaign's accounts that asked anything in this round."""
        return frozenset(x.account for x in self.exchanges if self.is_campaign(x))

    def is_campaign(self, exchange: Exchange) -> bool:
        """Say whether an exchange is the campaign's.

        Args:
            exchange: of this round.

        Returns:
            True for harvest and dilution.
        """
        return self.roles.get(exchange.account) == CAMPAIGN


def describe_round(record: RoundRecord, *, prices: Prices, days: int) -> dict[str, Any]:
    """Compute one of the moat report's `runs`.

    Args:
        record: the round.
        prices: what an answer costs.
        days: simulated days.

    Returns:
        Plain data; `share_kept` is added by whoever knows the scores.
    """
    return {
        "campaign": _campaign(record, prices),
        "honest": _honest(record),
        "days": _days(record, days),
        "events": _events(record),
        "detection": _detection(record),
    }


def honest_groups(record: RoundRecord) -> list[dict[str, Any]]:
    """List the honest groups of accounts and how many of each were named.

    Args:
        record: the round with the wall off.

    Returns:
        One entry a group, the largest first.
    """
    named = named_accounts(record.findings)
    present = {x.account for x in record.exchanges}
    members: dict[str, set[str]] = defaultdict(set)
    for account, role in record.roles.items():
        if role in _GROUPS and account in present:
            members[role].add(account)
    return [
        {"name": _GROUPS[role], "accounts": len(own), "accounts_named": len(own & named)}
        for role, own in sorted(members.items(), key=lambda entry: -len(entry[1]))
    ]


def named_accounts(findings: Mapping[str, Any]) -> frozenset[str]:
    """Collect every account that some campaign names.

    Args:
        findings: `campaigns.json`.

    Returns:
        Account ids.
    """
    return frozenset(a for campaign in findings["campaigns"] for a in campaign["accounts"])


def day_of(at: float) -> float:
    """Tell the simulated day.

    Args:
        at: UTC epoch seconds.

    Returns:
        Days since the first live midnight.
    """
    return (at - FIRST_DAY) / DAY_S


def _is_answered(exchange: Exchange) -> bool:
    return exchange.status == 200


def _campaign(record: RoundRecord, prices: Prices) -> dict[str, Any]:
    own = [x for x in record.exchanges if record.is_campaign(x)]
    answered = [x for x in own if _is_answered(x)]
    n_in = sum(x.input_tokens or 0 for x in answered)
    n_out = total_output_tokens(answered)
    prose = record.copier.get("prose", 0)
    return {
        "accounts": len(record.guilty),
        "accounts_retired": len(record.retired),
        "asked": len(own),
        "answered": len(answered),
        "refused": sum(x.status == 403 for x in own),
        "throttled": sum(x.status == 429 for x in own),
        "marked": sum(x.mark_key_id is not None for x in answered),
        "skill_answers": sum(record.copier.values()) - prose,
        "prose_answers": prose,
        "dilution_answers": sum(record.kinds.get(x.exchange_id) == "dilution" for x in answered),
        "input_tokens": n_in,
        "output_tokens": n_out,
        "usd": prices.usd(n_in, n_out),
    }


def _honest(record: RoundRecord) -> dict[str, Any]:
    own = [x for x in record.exchanges if not record.is_campaign(x)]
    touched = {x.account for x in own if x.status in {403, 429} or x.mark_key_id is not None}
    return {
        "accounts": len({x.account for x in own}),
        "asked": len(own),
        "answered": sum(_is_answered(x) for x in own),
        "refused": sum(x.status == 403 for x in own),
        "throttled": sum(x.status == 429 for x in own),
        "marked": sum(x.mark_key_id is not None for x in own),
        "accounts_touched": len(touched),
        "added_delay_s_p50": None,
        "added_delay_s_p99": None,
    }


def _days(record: RoundRecord, days: int) -> list[dict[str, int]]:
    names = ("honest", "harvest", "dilution", "throttled", "blocked", "marked")
    rows = [{"day": day, **dict.fromkeys(names, 0)} for day in range(days)]
    for x in record.exchanges:
        row = rows[min(days - 1, max(0, int(day_of(x.started_at))))]
        if _is_answered(x):
            row[record.kinds.get(x.exchange_id, "honest")] += 1
        if record.is_campaign(x):
            row["throttled"] += x.status == 429
            row["blocked"] += x.status == 403
            row["marked"] += x.mark_key_id is not None
    return rows


def _events(record: RoundRecord) -> list[dict[str, Any]]:
    events = []
    first = next((x for x in record.exchanges if record.is_campaign(x)), None)
    if first is not None:
        text = "the campaign's first question"
        events.append({"day": day_of(first.started_at), "kind": "start", "text": text})
    seen: set[str] = set()
    for learned in record.learned:
        for found in learned.campaigns:
            if found.campaign_id not in seen:
                seen.add(found.campaign_id)
                text = f"{found.campaign_id} named: {len(found.accounts)} accounts"
                text += f", p = {found.p_value:.1g}"
                events.append({"day": day_of(learned.at), "kind": "alarm", "text": text})
    for action in _ACTIONS:
        hit = next((x for x in record.exchanges if x.action == action), None)
        if hit is not None:
            text = {
                "throttle": "first question throttled",
                "watermark": "first answer watermarked",
                "block": "first question blocked",
            }[action]
            events.append({"day": day_of(hit.started_at), "kind": action, "text": text})
    return sorted(events, key=lambda event: event["day"])


def _detection(record: RoundRecord) -> dict[str, Any]:
    guilty = record.guilty
    campaigns = [_describe_campaign(c, guilty) for c in record.findings["campaigns"]]
    return {
        **_scores(named_accounts(record.findings), guilty),
        "honest_groups_named": sum(2 * c["true_accounts"] < c["accounts"] for c in campaigns),
        "first_alarm": _first_alarm(record),
        "by_day": [_by_day(record, learned) for learned in record.learned],
        "campaigns": campaigns,
    }


def _scores(named: frozenset[str], guilty: frozenset[str]) -> dict[str, Any]:
    hits = len(named & guilty)
    return {
        "precision": hits / len(named) if named else None,
        "recall": hits / len(guilty) if guilty else None,
        "accounts_named": len(named),
        "honest_accounts_named": len(named - guilty),
    }


def _by_day(record: RoundRecord, learned: Learned) -> dict[str, Any]:
    named = frozenset(a for c in learned.campaigns for a in c.accounts)
    active = frozenset(
        x.account for x in record.exchanges if record.is_campaign(x) and x.started_at < learned.at
    )
    scores = _scores(named, active)
    kept = ("precision", "recall", "accounts_named")
    return {"day": round(day_of(learned.at)), **{name: scores[name] for name in kept}}


def _first_alarm(record: RoundRecord) -> dict[str, Any] | None:
    guilty = record.guilty
    right = (
        learned.at
        for learned in record.learned
        if any(guilty.intersection(c.accounts) for c in learned.campaigns)
    )
    at = next(right, None)
    if at is None:
        return None
    own = [x for x in record.exchanges if record.is_campaign(x) and _is_answered(x)]
    before = [x for x in own if x.started_at < at]
    harvest = [x for x in before if record.kinds.get(x.exchange_id) == "harvest"]
    return {
        "day": day_of(at),
        "days_after_start": day_of(at) - day_of(own[0].started_at) if own else None,
        "exchanges_before": len(before),
        "skill_answers_before": sum(x.model == "house-skills" for x in harvest),
        "output_tokens_before": total_output_tokens(before),
        "share_of_all_answers": len(before) / len(own) if own else None,
    }


def _describe_campaign(found: Mapping[str, Any], guilty: frozenset[str]) -> dict[str, Any]:
    accounts: Sequence[str] = found["accounts"]
    p_value = float(found["p_value"])
    return {
        "campaign_id": found["campaign_id"],
        "accounts": len(accounts),
        "true_accounts": len(guilty.intersection(accounts)),
        "p_value": p_value,
        "log10_p": _log10(p_value),
        "e_value": found["e_value"],
        "exchanges": found["exchanges"],
        "output_tokens": found["output_tokens"],
        "first_seen_day": day_of(found["first_seen"]),
        "last_seen_day": day_of(found["last_seen"]),
        "evidence": [
            {
                "kind": evidence["kind"],
                "text": evidence["text"],
                "accounts": evidence.get("figures", {}).get("accounts"),
                "p_value": None,
            }
            for evidence in found["evidence"]
        ],
    }


def _log10(p_value: float) -> float | None:
    return math.log10(p_value) if p_value > 0 else None
