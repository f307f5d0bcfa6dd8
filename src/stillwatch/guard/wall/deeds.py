"""What the wall began to do, for the audit log: each action on each campaign, the first time.

A rung's time comes without anybody touching a table, so the log would not show when it first took
hold. The question that meets it first says so, with what stands behind it.
"""

from __future__ import annotations

from typing import Any, Final

from stillwatch.guard.recording.audit import AuditEvent
from stillwatch.guard.wall.decide import Decision
from stillwatch.guard.wall.verdict import Verdict

_MOST: Final = 10_000  # campaigns and actions told apart


class Deeds:
    """Collects actions that are new until they are written."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, float], None] = {}
        self._events: list[AuditEvent] = []

    def note(self, decision: Decision, verdict: Verdict | None, now: float) -> None:
        """Take note of a decision on a campaign's question.

        Args:
            decision: names a campaign.
            verdict: what is held against the account, or None where a rule alone acts.
            now: UTC epoch seconds.
        """
        action = decision.would_have or decision.action
        since = verdict.campaign.since if verdict is not None else 0.0
        key = (decision.campaign_id or "", action, since)
        if key in self._known or len(self._known) >= _MOST:
            return
        self._known[key] = None
        detail: dict[str, Any] = {
            "campaign_id": key[0],
            "action": action,
            "done": decision.would_have is None,
            "effects": sorted(decision.effects),
            "reason": decision.reason,
        }
        if verdict is not None:
            campaign = verdict.campaign
            detail |= {
                "since": campaign.since,
                "p_value": campaign.p_value,
                "evidence": campaign.summary,
                "expires_at": verdict.expires_at,
            }
        self._events.append(AuditEvent("acted", now, detail))

    def take(self) -> list[AuditEvent]:
        """Take the lines that are due.

        Returns:
            Events for the audit log.
        """
        events, self._events = self._events, []
        return events
