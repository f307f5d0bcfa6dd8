"""Writes to the audit log what the gateway decides from, as it changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from stillwatch.errors import StillwatchError
from stillwatch.guard.clock import Clock
from stillwatch.guard.config import GuardConfig
from stillwatch.guard.policy.document import PolicyFile
from stillwatch.guard.recording.audit import AuditEvent, append_audit
from stillwatch.guard.recording.history import board_change, describe_running, keep
from stillwatch.guard.telling.metrics import Metrics
from stillwatch.guard.wall.verdict import Board

_log = logging.getLogger("stillwatch.guard")


class Books:
    """The gateway's side of the audit log.

    A log that cannot be written stops nothing, and is counted.

    Args:
        config: says where the log is.
        clock: says when things took effect.
        metrics: counts.
    """

    def __init__(self, config: GuardConfig, *, clock: Clock, metrics: Metrics) -> None:
        self._config = config
        self._clock = clock
        self._metrics = metrics
        self._board = Board()

    async def running(self, kind: str, config: GuardConfig, policy: PolicyFile | None) -> None:
        """Note what the gateway runs by from now on, and keep it by its hash.

        Args:
            kind: started, reloaded, policy-loaded.
            config: the gateway's.
            policy: its rules, or None.
        """
        at = self._clock.now()
        if kind == "started":
            self._board = Board()
        running = await asyncio.to_thread(describe_running, config, policy)
        try:
            await asyncio.to_thread(keep, config.state, running)
        except StillwatchError as error:
            self._fail(error)
        await self.note([AuditEvent(kind, at, running.detail)])

    async def took(self, board: Board) -> None:
        """Note the verdicts that are decided from since just now.

        Args:
            board: the snapshot; the caller has put it in place and awaited nothing since.
        """
        at, before = self._clock.now(), self._board
        if board is before:
            return
        change = await asyncio.to_thread(board_change, before, board)
        self._board = board
        if len(change) > 1 or before.generation != board.generation:
            await self.note([AuditEvent("board", at, change)])

    async def note(self, events: Sequence[AuditEvent]) -> None:
        """Write events.

        Args:
            events: in order, any number.
        """
        if not events:
            return
        try:
            await asyncio.to_thread(append_audit, self._config.audit_path, events)
        except StillwatchError as error:
            self._metrics.count("record_failures", len(events))
            self._fail(error)

    def _fail(self, error: StillwatchError) -> None:
        _log.error("the audit log cannot be written, serving on without: %s", error)
