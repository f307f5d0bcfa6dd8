"""What a learner makes of its findings: names that last, verdicts, and a line in the audit log.

Finding knows nothing of yesterday. Here a finding meets what is known: a campaign keeps its name,
its first day and its accounts' first days, and it is named only when it was found often enough, and
let go when it was missed often enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from stillwatch import __version__
from stillwatch.detect import Campaign, Findings
from stillwatch.guard.config import GuardConfig
from stillwatch.guard.learning.learned import FoundCampaign, Learned
from stillwatch.guard.learning.naming import keep_names
from stillwatch.guard.recording.audit import AuditEvent, append_audit
from stillwatch.guard.wall.ladder import Hysteresis
from stillwatch.guard.wall.verdict import Board, CampaignVerdict, Verdict, VerdictTable
from stillwatch.trace.watermark import campaign_mark

_EVENT_ACCOUNTS: Final = 500  # accounts named in one line of the audit log
_MEMORY: Final = "sightings"


class Sighting(msgspec.Struct):
    """What the learnings of late have seen of one campaign.

    Attributes:
        accounts: of the last time that it was found.
        seen: one digit a learning, the newest last: 1 found, 0 missed.
    """

    accounts: list[str]
    seen: str


class Judge:
    """Turns findings into verdicts.

    Args:
        config: the gateway's.
        table: where verdicts are written.
    """

    def __init__(self, config: GuardConfig, table: VerdictTable) -> None:
        self._config = config
        self._table = table

    def judge(self, findings: Findings, *, at: float, n_folded: int) -> Learned:
        """Write the verdicts that findings come to, and what happened to the audit log.

        Args:
            findings: of this learning.
            at: the time it speaks for (UTC epoch seconds).
            n_folded: exchanges folded by this learning (count).

        Returns:
            What holds now of what was found, under the names that last; a campaign that was not
            found often enough yet is not among it.

        Raises:
            RecordError: the verdict table or the audit log fails.
        """
        board = self._table.load()
        memory = self._recall()
        known = {name: frozenset(sighting.accounts) for name, sighting in memory.items()}
        found = self._found(findings, board, {**known, **board.members()}, at=at)
        live = _live(board, at)
        events = list(self._remember(memory, found, live=live, at=at))
        held = [c for c in found if c.campaign_id in live or self._enters(memory, c.campaign_id)]
        lapsed = board.members().keys() & {c.campaign_id for c in held} - live
        for name in sorted(lapsed):
            # No verdict of it holds: what is found now is a new accusation, with its own dwell.
            self._table.leave(name)
        fresh = self._table.load() if lapsed else board
        verdicts = [v for campaign in held for v in self._verdicts(campaign, fresh, at)]
        if verdicts:
            self._table.write(verdicts)
        generation = self._table.generation()
        events += _events(held, at=at, generation=generation)
        append_audit(self._config.audit_path, events)
        return Learned(at=at, generation=generation, n_folded=n_folded, campaigns=tuple(held))

    def _found(
        self, findings: Findings, board: Board, known: Mapping[str, frozenset[str]], *, at: float
    ) -> list[FoundCampaign]:
        cleared = self._table.cleared(at)
        groups = [frozenset(campaign.accounts) - cleared for campaign in findings.campaigns]
        proposed = [campaign.campaign_id for campaign in findings.campaigns]
        names = keep_names(groups, known, proposed=proposed)
        return [
            _describe(campaign, name, board=board, accounts=group, at=at)
            for campaign, name, group in zip(findings.campaigns, names, groups, strict=True)
            if group
        ]

    def _recall(self) -> dict[str, Sighting]:
        text = self._table.recalled(_MEMORY) if not self._config.hysteresis.is_trivial else ""
        return msgspec.json.decode(text, type=dict[str, Sighting]) if text else {}

    def _remember(
        self,
        memory: dict[str, Sighting],
        found: Sequence[FoundCampaign],
        *,
        live: frozenset[str],
        at: float,
    ) -> Iterator[AuditEvent]:
        """Note who was found and who was missed, and let go who was missed too often."""
        rule = self._config.hysteresis
        if rule.is_trivial:
            return
        before = msgspec.json.encode(memory)
        _note(memory, found, live=live, rule=rule)
        for name, sighting in list(memory.items()):
            missed = rule.missed > 0 and sighting.seen.endswith("0" * rule.missed)
            if name in live and missed:
                self._table.leave(name)
                yield AuditEvent("left", at, {"campaign_id": name, "missed": rule.missed})
            if "1" not in sighting.seen:
                del memory[name]
        for campaign in found:
            name = campaign.campaign_id
            if name not in live and not self._enters(memory, name):
                yield AuditEvent("sighted", at, {
                    "campaign_id": name,
                    "n_accounts": len(campaign.accounts),
                    "p_value": campaign.p_value,
                    "found": memory[name].seen[-rule.of :].count("1"),
                    "needed": rule.found,
                })  # fmt: skip
        after = msgspec.json.encode(memory)
        if after != before:
            self._table.remember(_MEMORY, after.decode())

    def _enters(self, memory: Mapping[str, Sighting], name: str) -> bool:
        rule = self._config.hysteresis
        return rule.is_trivial or memory[name].seen[-rule.of :].count("1") >= rule.found

    def _verdicts(self, found: FoundCampaign, board: Board, at: float) -> Iterator[Verdict]:
        master_key = self._config.secrets.mark_master_key
        mark = campaign_mark(master_key, found.campaign_id) if master_key else None
        before = board.campaigns().get(found.campaign_id)
        verdict = CampaignVerdict(
            campaign_id=found.campaign_id,
            since=before.since if before else at,
            renewed_at=at,
            p_value=found.p_value,
            mark_key_id=mark.key_id if mark else None,
            summary="; ".join(found.evidence[:3]),
        )
        expires_at = at + self._config.learner.verdict_ttl_s
        for account in found.accounts:
            known = board.verdicts.get(account)
            named_at = known.named_at if known else at
            yield Verdict(account, verdict, named_at, expires_at)


def _live(board: Board, at: float) -> frozenset[str]:
    """List the campaigns of which a verdict holds."""
    verdicts = board.verdicts.values()
    return frozenset(v.campaign.campaign_id for v in verdicts if at < v.expires_at)


def _note(
    memory: dict[str, Sighting],
    found: Sequence[FoundCampaign],
    *,
    live: frozenset[str],
    rule: Hysteresis,
) -> None:
    span = max(rule.of, rule.missed)
    now = {campaign.campaign_id: campaign for campaign in found}
    for name in live - memory.keys():
        # Named before anybody counted: as if found every time.
        memory[name] = Sighting([], "1" * span)
    for name, campaign in now.items():
        sighting = memory.setdefault(name, Sighting([], ""))
        sighting.accounts = list(campaign.accounts)
    for name, sighting in memory.items():
        sighting.seen = (sighting.seen + ("1" if name in now else "0"))[-span:]


def _describe(
    campaign: Campaign, name: str, *, board: Board, accounts: frozenset[str], at: float
) -> FoundCampaign:
    return FoundCampaign(
        campaign_id=name,
        accounts=tuple(sorted(accounts)),
        new_accounts=tuple(sorted(a for a in accounts if board.verdict(a, at) is None)),
        p_value=campaign.p_value,
        e_value=campaign.e_value,
        exchanges=campaign.exchanges,
        output_tokens=campaign.output_tokens,
        first_seen=campaign.first_seen,
        last_seen=campaign.last_seen,
        evidence=tuple(evidence.text for evidence in campaign.evidence),
    )


def _events(found: Sequence[FoundCampaign], *, at: float, generation: int) -> Iterator[AuditEvent]:
    for campaign in found:
        for start in range(0, len(campaign.new_accounts), _EVENT_ACCOUNTS):
            yield AuditEvent("named", at, {
                "campaign_id": campaign.campaign_id,
                "accounts": list(campaign.new_accounts[start : start + _EVENT_ACCOUNTS]),
                "p_value": campaign.p_value,
                "evidence": list(campaign.evidence[:3]),
            })  # fmt: skip
    yield AuditEvent("learned", at, {
        "campaigns": [campaign.campaign_id for campaign in found],
        "n_accounts": sum(len(campaign.accounts) for campaign in found),
        "generation": generation,
        "version": __version__,
    })  # fmt: skip
