"""The learner: a second process that reads the journal, finds campaigns and writes verdicts.

It is a process and not a thread because folding and finding hold the interpreter for seconds, and
a gateway's slowest answers would pay for that. It starts from the journal's beginning, so a new
one knows what the old one knew; profiles are mergeable, so a day is folded once.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Sequence
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any, Final

import msgspec
import pyarrow as pa

from stillwatch import __version__
from stillwatch.detect import (
    Campaign,
    DetectConfig,
    Findings,
    Profiles,
    find_campaigns,
    fold,
    merge,
)
from stillwatch.errors import StillwatchError
from stillwatch.guard.audit import AuditEvent, append_audit
from stillwatch.guard.config import GuardConfig
from stillwatch.guard.learned import FoundCampaign, Learned
from stillwatch.guard.naming import keep_names
from stillwatch.guard.verdict import Board, CampaignVerdict, Verdict, VerdictTable
from stillwatch.record.exchange import Exchange, to_batch
from stillwatch.record.journal import Position, read_journal
from stillwatch.record.store import scan_store
from stillwatch.trace.watermark import campaign_mark

_BATCH: Final = 8192  # rows folded at once
_REFUSALS: Final = frozenset({"throttle", "block"})
_EVENT_ACCOUNTS: Final = 500  # accounts named in one line of the audit log


class Learner:
    """Learns; lives in the second process, and works without it in a test or a notebook.

    Args:
        config: the gateway's.
    """

    def __init__(self, config: GuardConfig) -> None:
        self._config = config
        self._detect = DetectConfig(fdr=config.learner.fdr)
        self._table = VerdictTable(config.verdict_path)
        self._position: Position | None = None
        self._waiting: list[Exchange] = []
        self._profiles: Profiles = fold((), self._detect.fold)
        self._reference: Profiles | None = None

    def close(self) -> None:
        """Close the verdict table."""
        self._table.close()

    def learn(self, until: float) -> Learned:
        """Fold what began before a time, find campaigns and write their verdicts.

        Args:
            until: UTC epoch seconds; later exchanges wait for the next learning.

        Returns:
            What was found.

        Raises:
            RecordError: the journal, the reference, the verdict table or the audit log fails.
        """
        n_folded = self._fold(until)
        findings = find_campaigns(self._profiles, self._load_reference(), self._detect)
        return self._judge(findings, at=until, n_folded=n_folded)

    def _fold(self, until: float) -> int:
        # One rotten line must not end all learning; the journal's own check reports it.
        lines = read_journal(self._config.journal_path, after=self._position, on_damage="skip")
        for position, exchange in lines:
            self._position = position
            self._waiting.append(exchange)
        ready = [exchange for exchange in self._waiting if exchange.started_at < until]
        # Answers end in any order; what is learned must not depend on it.
        ready.sort(key=lambda exchange: (exchange.started_at, exchange.exchange_id))
        self._waiting = [exchange for exchange in self._waiting if exchange.started_at >= until]
        # What the wall refused is asked again, by whoever: the wall's doing, not the askers' habit,
        # and it would make a web look like people who repeat each other.
        ready = [exchange for exchange in ready if exchange.action not in _REFUSALS]
        day = fold(_batches(ready), self._detect.fold)
        self._profiles = merge(self._profiles, day, self._detect.fold)
        return len(ready)

    def _load_reference(self) -> Profiles | None:
        path = self._config.learner.reference
        if self._reference is None and path is not None:
            self._reference = fold(scan_store(path), self._detect.fold)
        return self._reference

    def _judge(self, findings: Findings, *, at: float, n_folded: int) -> Learned:
        board = self._table.load()
        cleared = self._table.cleared(at)
        groups = [frozenset(campaign.accounts) - cleared for campaign in findings.campaigns]
        names = keep_names(
            groups,
            board.members(),
            proposed=[campaign.campaign_id for campaign in findings.campaigns],
        )
        found = [
            _describe(campaign, name, board=board, accounts=group, at=at)
            for campaign, name, group in zip(findings.campaigns, names, groups, strict=True)
            if group
        ]
        verdicts = [v for campaign in found for v in self._verdicts(campaign, board, at)]
        generation = self._table.write(verdicts) if verdicts else board.generation
        append_audit(self._config.audit_path, _events(found, at=at, generation=generation))
        return Learned(at=at, generation=generation, n_folded=n_folded, campaigns=tuple(found))

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


def learner_main(pipe: Connection, config: GuardConfig) -> None:
    """Run a learner as a process: answers each time sent over the pipe until the pipe ends.

    Args:
        pipe: receives floats (until when to learn), sends back `Learned` as bytes or a
            `StillwatchError`; its end is the order to stop, also when the gateway was killed.
        config: the gateway's.
    """
    # Ctrl-C goes to the whole group: the gateway stops us in order by closing the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    learner: Learner | None = None
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError), pipe:
        while True:
            until = pipe.recv()
            try:
                learner = learner or Learner(config)
                answer: Any = msgspec.msgpack.encode(learner.learn(until))
            except StillwatchError as error:
                answer = error
            pipe.send(answer)
    if learner is not None:
        learner.close()


def _batches(exchanges: Sequence[Exchange]) -> Iterator[pa.RecordBatch]:
    rows = iter(exchanges)
    while chunk := list(islice(rows, _BATCH)):
        yield to_batch(chunk)


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
