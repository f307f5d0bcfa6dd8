"""What a policy did, for the audit log and for the person who watches shadow rules.

An account that meets the same rules again and again would fill the log with one sentence, so the
first time is a line at once and the rest of the hour is a count. Every exchange carries its own
rule and hashes in the record besides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from stillwatch.guard.policy.engine import Engine, Judged, facts_asked
from stillwatch.guard.policy.limits import HOUR_S
from stillwatch.guard.policy.vocabulary import PLACES, Facts
from stillwatch.guard.recording.audit import AuditEvent

_MOST_ENTRIES: Final = 10_000  # different outcomes an hour that get a line each
_MOST_ACCOUNTS: Final = 10_000  # accounts told apart per rule
_ACCOUNT: Final = PLACES["account"]


@dataclass(slots=True)
class _Entry:
    detail: dict[str, Any]
    at: float
    count: int = 0
    written: int = 0


class Trail:
    """Collects outcomes until they are written."""

    def __init__(self) -> None:
        self._entries: dict[tuple[object, ...], _Entry] = {}
        self._hour = -1.0
        self._overflow = 0
        self._finished: list[_Entry] = []

    def note(self, engine: Engine, judged: Judged, *, facts: Facts, now: float) -> None:
        """Take note of one outcome.

        Args:
            engine: that judged.
            judged: with rules that fired.
            facts: of the request.
            now: UTC epoch seconds.
        """
        if now // HOUR_S != self._hour:
            self._turn(now)
        names = tuple(found.rule.id for found in judged.fired)
        key = (facts[_ACCOUNT], engine.policy.sha256, judged.ruling.effect, names)
        entry = self._entries.get(key)
        if entry is None:
            if len(self._entries) >= _MOST_ENTRIES:
                self._overflow += 1
                return
            detail = _detail(engine, judged, facts)
            entry = self._entries[key] = _Entry(detail, now)
        entry.count += 1

    def take(self, now: float, *, whole: bool = False) -> list[AuditEvent]:
        """Take the lines that are due.

        Args:
            now: UTC epoch seconds.
            whole: take the counts of the running hour too (at the end of the process).

        Returns:
            Events for the audit log.
        """
        if now // HOUR_S != self._hour or whole:
            self._turn(now)
        fresh = [entry for entry in self._entries.values() if entry.written == 0]
        due, self._finished = [*self._finished, *fresh], []
        events = [
            AuditEvent("policy", entry.at, entry.detail | {"requests": entry.count - entry.written})
            for entry in due
        ]
        for entry in due:
            entry.written = entry.count
        if self._overflow:
            detail = {"requests": self._overflow, "note": "too many different outcomes this hour"}
            events.append(AuditEvent("policy", now, detail))
            self._overflow = 0
        return events

    def _turn(self, now: float) -> None:
        self._finished += [e for e in self._entries.values() if e.count > e.written]
        self._entries = {}
        self._hour = now // HOUR_S


def _detail(engine: Engine, judged: Judged, facts: Facts) -> dict[str, Any]:
    ruling, would = judged.ruling, judged.would
    detail: dict[str, Any] = {
        "account": facts[_ACCOUNT],
        "action": ruling.action,
        "effects": sorted(ruling.effects),
        "rule": ruling.rule_id,
        "fired": [f.rule.id for f in judged.fired],
        "shadow": [f.rule.id for f in judged.fired if f.rule.shadow],
        "missing": [f.rule.id for f in judged.fired if f.is_missing],
        "facts": facts_asked(judged.fired, facts),
        "policy": engine.policy.sha256,
        "lists": {s.name: {"sha256": s.sha256, "date": s.day} for s in engine.policy.sources},
    }
    if would is not None:
        detail["would"] = {"action": would.action, "rule": would.rule_id}
    return detail


class Tally:
    """Counts by rule: how often it fired, decided, would have decided, and on how many accounts."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._accounts: dict[str, set[str]] = {}

    def note(self, judged: Judged, account: str) -> None:
        """Count one outcome.

        Args:
            judged: with rules that fired.
            account: whom it met.
        """
        for found in judged.fired:
            name = found.rule.id
            self._counts[name, "fired"] += 1
            if found.is_missing:
                self._counts[name, "missing"] += 1
            accounts = self._accounts.setdefault(name, set())
            if len(accounts) < _MOST_ACCOUNTS:
                accounts.add(account)
        for what, ruling in (("decided", judged.ruling), ("would_have", judged.would)):
            if ruling is not None and ruling.rule is not None:
                self._counts[ruling.rule.id, what] += 1

    def of(self, rule: str) -> Mapping[str, int]:
        """Give the counts of one rule.

        Args:
            rule: its id.

        Returns:
            fired, missing, decided, would_have, accounts (the last at most 10,000).
        """
        names = ("fired", "missing", "decided", "would_have")
        counts = {name: self._counts[rule, name] for name in names}
        return counts | {"accounts": len(self._accounts.get(rule, ()))}
