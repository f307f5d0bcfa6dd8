"""The policy of a running gateway: judges, and is read again when its files change.

A file that is refused changes nothing: the policy that runs stays, and who asks is told the file,
the line and the reason.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stillwatch.errors import ConfigError
from stillwatch.guard.policy.cases import check_cases
from stillwatch.guard.policy.document import PolicyFile, load_policy
from stillwatch.guard.policy.engine import NOTHING_FIRES, Engine, Judged, Ruling
from stillwatch.guard.policy.facts import Asking, FactSource
from stillwatch.guard.policy.lists import day_of
from stillwatch.guard.policy.trail import Tally, Trail
from stillwatch.guard.recording.audit import AuditEvent
from stillwatch.guard.telling.metrics import Metrics
from stillwatch.record.privacy import KeyedHash

if TYPE_CHECKING:
    from stillwatch.logs.accounts import AccountRow

_log = logging.getLogger("stillwatch.guard")
_Stamps = dict[Path, tuple[int, int, int] | None]
_MARKING = frozenset({"watermark", "canary"})


class Settings(NamedTuple):
    """Where a live policy comes from.

    Attributes:
        path: the policy file.
        accounts: the accounts table, or None.
        hasher: the deployment's keyed hash, for what the table holds in plain.
        master_key: marks are derived from it; None cannot mark.
        can_challenge: there is a page that challenged people can be sent to.
    """

    path: Path
    accounts: Path | None
    hasher: KeyedHash
    master_key: bytes | None = None
    can_challenge: bool = False


class Mark(NamedTuple):
    """The key that a rule's answers are marked by where the account has no campaign.

    Attributes:
        campaign_id: stands for the rule in the order to mark.
        mark_key_id: of its key.
    """

    campaign_id: str
    mark_key_id: str


class _Running(NamedTuple):
    engine: Engine
    source: FactSource
    marks: Mapping[str, Mark]


class LivePolicy:
    """Judges requests by a policy that may change under way.

    Args:
        settings: where it comes from.
        metrics: counts.

    Attributes:
        trail: what is to be written to the audit log.
        refused: why the newest file does not run, or None when it does.

    Raises:
        ConfigError: a file breaks a rule, or an inline test fails; names file, line and reason.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._turn = asyncio.Lock()
        self._tally = Tally()
        self._failed = False
        self.trail = Trail()
        self.refused: str | None = None
        self._accounts_stamps = self._stamp_accounts()
        self._accounts = _accounts(settings)
        self._stamps = _stamps([settings.path])
        policy = self._checked()
        self._running = self._run(policy)

    @property
    def engine(self) -> Engine:
        """What judges now."""
        return self._running.engine

    def judge(self, asking: Asking, now: float) -> Judged:
        """Judge one request; no I/O.

        Args:
            asking: the request.
            now: UTC epoch seconds.

        Returns:
            What is done, what would be, and why. When judging itself fails, the policy fails closed
            if a legal or identity rule is in force, and open otherwise.
        """
        engine, source, _ = self._running
        try:
            facts = source.facts(asking, now)
            judged = engine.judge(facts, now, remember=True)
        except Exception:
            # Whatever went wrong, a question must not pass a legal rule for it, nor stop the rest.
            return self._failing(now)
        if judged.fired:
            self.trail.note(engine, judged, facts=facts, now=now)
            self._tally.note(judged, asking.account)
            _count(self._metrics, judged)
        return judged

    def mark(self, rule: str) -> Mark:
        """Give the mark of a watermark or canary rule.

        Args:
            rule: its id.

        Returns:
            The mark.
        """
        return self._running.marks[rule]

    def answered(self, account: str, now: float, output_tokens: int) -> None:
        """Count what was given out to an account.

        Args:
            account: to whom.
            now: UTC epoch seconds.
            output_tokens: tokens (count).
        """
        self._running.source.volumes.answered(account, now, output_tokens=output_tokens)

    async def reload(self, now: float) -> list[AuditEvent]:
        """Read the files again if they changed, or if the newest ones were refused.

        Args:
            now: UTC epoch seconds.

        Returns:
            What happened, for the audit log; nothing when nothing did. A refusal is in `refused`.
        """
        async with self._turn:
            before = self._running.engine.policy, self._accounts, self.refused
            try:
                found = await asyncio.to_thread(self._read_again)
            except Exception as error:
                # A table can be broken in ways that its library alone knows; none may end the
                # watch over the files, nor the policy that runs.
                self._refuse(error)
            else:
                if found is not None:
                    self._running = found
                self.refused = None
            return self._news(before, now)

    def status(self, now: float) -> Mapping[str, Any]:
        """Describe the policy and what its rules did, for the admin.

        Args:
            now: UTC epoch seconds.

        Returns:
            Plain data.
        """
        policy = self.engine.policy
        return {
            "path": str(policy.path),
            "sha256": policy.sha256,
            "refused": self.refused,
            "accounts_known": len(self._accounts),
            "lists": {
                s.name: {"sha256": s.sha256, "date": s.day, "stale": now >= s.stale_at}
                for s in policy.sources
            },
            "rules": [
                {
                    "id": rule.id, "owner": rule.owner, "action": rule.effect,
                    "shadow": rule.shadow, "in_force": rule.holds_at(now),
                    "review_by": day_of(rule.review_by), "overdue": now >= rule.review_by,
                    **self._tally.of(rule.id),
                }
                for rule in policy.rules
            ],
        }  # fmt: skip

    def _read_again(self) -> _Running | None:
        policy: PolicyFile | None = None
        stamps = _stamps(self._stamps)
        if self.refused is not None or stamps != self._stamps:
            self._stamps = stamps
            policy = self._checked()
        stamps = self._stamp_accounts()
        if stamps != self._accounts_stamps:
            self._accounts = _accounts(self._settings)
            self._accounts_stamps = stamps
        elif policy is None:
            return None
        return self._run(policy or self.engine.policy, self._running)

    def _checked(self) -> PolicyFile:
        """Load the policy; stamps are older than what was read, so that no change is missed."""
        policy = load_policy(self._settings.path)
        before = self._stamps
        self._stamps = {p: before.get(p) or s for p, s in _stamps(policy.files).items()}
        check_cases(policy)
        _check_means(policy, self._settings)
        return policy

    def _stamp_accounts(self) -> _Stamps:
        accounts = self._settings.accounts
        return _stamps([accounts] if accounts is not None else [])

    def _run(self, policy: PolicyFile, before: _Running | None = None) -> _Running:
        engine = Engine(policy)
        source = FactSource(policy, self._accounts)
        if before is not None:
            engine.buckets = before.engine.buckets
            source.volumes.carry(before.source.volumes)
        return _Running(engine, source, _marks(policy, self._settings.master_key))

    def _refuse(self, error: Exception) -> None:
        reason = str(error) or type(error).__name__
        if reason != self.refused:
            _log.error("the policy that runs stays: %s", reason)
        self.refused = reason

    def _news(self, before: tuple[PolicyFile, object, str | None], now: float) -> list[AuditEvent]:
        policy, accounts, refused = before
        events = []
        engine = self.engine
        if self.refused is not None and self.refused != refused:
            self._metrics.count("policy_reloads", result="refused")
            detail = {"reason": self.refused, "policy": engine.policy.sha256}
            events.append(AuditEvent("policy-refused", now, detail))
        elif engine.policy is not policy or self._accounts is not accounts:
            self._metrics.count("policy_reloads", result="done")
            events.append(AuditEvent("policy-loaded", now, dict(engine.stamp)))
        return events

    def _failing(self, now: float) -> Judged:
        self._metrics.count("policy_errors")
        if not self._failed:
            _log.exception("the policy cannot judge; legal and identity rules fail closed")
        self._failed = True
        rules = self.engine.policy.rules
        strict = (r for r in rules if r.is_strict and not r.shadow and r.holds_at(now))
        rule = next(strict, None)
        return NOTHING_FIRES if rule is None else Judged(Ruling("block", rule))


def _count(metrics: Metrics, judged: Judged) -> None:
    ruling, would = judged.ruling, judged.would_have
    if ruling.rule is not None:
        metrics.count("policy_decided", rule=ruling.rule.id, action=ruling.action)
    if would is not None and would.rule is not None:
        metrics.count("policy_would_have", rule=would.rule.id, action=would.action)


def _check_means(policy: PolicyFile, settings: Settings) -> None:
    for rule in policy.rules:
        where = f"{policy.path}:{rule.line}: rule {rule.id!r}"
        if rule.effect in _MARKING and settings.master_key is None:
            message = f"{where} marks, and there is no mark secret"
            hint = "set STILLWATCH_MARK_SECRET and STILLWATCH_MARK_MASTER_KEY"
            raise ConfigError(message, hint=hint)
        if rule.effect == "challenge" and not settings.can_challenge:
            message = f"{where} challenges, and there is no page to send people to"
            raise ConfigError(message, hint="give url in the [challenge] table of the gateway")


def _accounts(settings: Settings) -> Mapping[str, AccountRow]:
    if settings.accounts is None:
        return {}
    # The readers of tables, which a gateway without one has no use for.
    from stillwatch.logs.accounts import load_accounts
    from stillwatch.logs.reader import ReadOptions

    faults: list[str] = []
    table = load_accounts(
        str(settings.accounts),
        ReadOptions(settings.hasher, bodies="drop"),
        on_fault=lambda fault: faults.append(f"{fault.file}:{fault.line}: {fault.reason}"),
    )
    if faults:
        _log.error("%d rows of the accounts table are left out; first %s", len(faults), faults[0])
    return table.rows


def _marks(policy: PolicyFile, master_key: bytes | None) -> Mapping[str, Mark]:
    rules = [rule for rule in policy.rules if rule.effect in _MARKING]
    if not rules or master_key is None:
        return {}
    # Loads the statistics, which a gateway that marks nobody has no use for.
    from stillwatch.trace.watermark import campaign_mark

    names = {rule.id: f"policy-{rule.id}" for rule in rules}
    return {
        rule: Mark(name, campaign_mark(master_key, name).key_id) for rule, name in names.items()
    }


def _stamps(paths: Iterable[Path]) -> _Stamps:
    return {path: _stat(path) for path in paths}


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
