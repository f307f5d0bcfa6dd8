"""What the gateway's routes share, opened and closed as one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self

from stillwatch.errors import EnvironmentUnfitError, StillwatchError
from stillwatch.guard.audit import AuditEvent, append_audit
from stillwatch.guard.clock import Clock, SimulatedClock, WallClock
from stillwatch.guard.config import GuardConfig
from stillwatch.guard.keys import KeyTable
from stillwatch.guard.ladder import TokenBuckets
from stillwatch.guard.learned import Learned
from stillwatch.guard.link import LearnerLink
from stillwatch.guard.metrics import Metrics
from stillwatch.guard.policy.live import LivePolicy, Settings
from stillwatch.guard.recorder import Recorder
from stillwatch.guard.upstream import Upstream
from stillwatch.guard.verdict import Board, VerdictTable
from stillwatch.record.journal import Journal
from stillwatch.record.privacy import KeyedHash

_LAST_WORDS_S: Final = 2.0
_log = logging.getLogger("stillwatch.guard")


class GuardState:
    """Everything between the routes and the disk; an async context manager.

    Args:
        config: the gateway's.

    Attributes:
        config: as given.
        clock: the wall's or the simulation's.
        keys: who has which key.
        metrics: counters.
        buckets: the campaigns' token buckets.
        table: the verdict table.
        board: the snapshot that decisions are taken from.
        recorder: writes exchanges.
        upstream: the way to the model server.
        link: the way to the learner.
        policy: the rules, or None without.
    """

    table: VerdictTable
    board: Board
    recorder: Recorder

    def __init__(self, config: GuardConfig) -> None:
        self.config = config
        self.clock: Clock = SimulatedClock() if config.simulation else WallClock()
        self._hasher = KeyedHash(config.secrets.hash_key)
        self.keys = KeyTable.load(config.keys, self._hasher)
        self.metrics = Metrics()
        self.buckets = TokenBuckets()
        self.upstream = Upstream(config.upstream, limits=config.limits)
        self.link = LearnerLink(config)
        self.policy = _policy(config, self._hasher, self.metrics)
        self._reading = asyncio.Lock()
        self._asking: set[asyncio.Task[object]] = set()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def _open(self) -> None:
        _make_folder(self.config)
        journal = self._stack.enter_context(Journal.open(self.config.journal_path))
        self.recorder = Recorder(
            journal, hasher=self._hasher, clock=self.clock, metrics=self.metrics
        )
        if self.policy is not None:
            self.recorder.given_out = self.policy.answered
        self.table = VerdictTable(self.config.verdict_path)
        self._stack.callback(self.table.close)
        self.board = self.table.load()
        await self._stack.enter_async_context(self.upstream)
        self._stack.callback(self.link.stop)
        await asyncio.to_thread(self.link.start)
        for endless in (self._follow_table(), self._follow_policy(), self._learn_on_time()):
            self._stack.push_async_callback(_end, asyncio.create_task(endless))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._asking:
            # Cut off by the end of the server; what they had given out is still recorded.
            await asyncio.wait(self._asking, timeout=_LAST_WORDS_S)
        await self.recorder.flush()
        await self._write_trail(whole=True)
        await self._stack.aclose()

    def follow(self, task: asyncio.Task[object] | None) -> None:
        """Remember the task of a question, whose record must be written before the journal closes.

        Args:
            task: the one that serves it.
        """
        if task is not None:
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def learn(self, until: float) -> Learned:
        """Learn from every exchange answered so far, and decide by what was found from now on.

        Args:
            until: UTC epoch seconds; later exchanges wait.

        Returns:
            What was found.

        Raises:
            StillwatchError: the learner failed; verdicts stay as they were.
        """
        await self.recorder.flush()
        try:
            learned = await self.link.learn(until)
        except StillwatchError:
            self.metrics.count("learnings", result="failed")
            raise
        self.metrics.count("learnings", result="done")
        await self.reload()
        return learned

    async def reload(self) -> None:
        """Take a new snapshot of the verdict table if it has changed."""
        async with self._reading:
            if await asyncio.to_thread(self.table.generation) != self.board.generation:
                self.board = await asyncio.to_thread(self.table.load)

    async def clear(self, account: str, *, until: float) -> None:
        """Lift the verdict on an account.

        Args:
            account: the account.
            until: UTC epoch seconds up to which it is not named again.
        """
        async with self._reading:
            await asyncio.to_thread(self.table.clear, account, until=until)
            self.board = await asyncio.to_thread(self.table.load)

    async def _follow_table(self) -> None:
        while True:
            await asyncio.sleep(self.config.limits.reload_s)
            try:
                await self.reload()
            except StillwatchError as error:
                _log.error("verdicts stay as they were: %s", error)

    async def reload_policy(self) -> None:
        """Take over changed files of the policy; a refused one changes nothing."""
        if self.policy is not None:
            await self._audit(await self.policy.reload(self.clock.now()))

    async def _follow_policy(self) -> None:
        while self.policy is not None:
            await asyncio.sleep(self.config.limits.reload_s)
            await self.reload_policy()
            await self._write_trail()

    async def _write_trail(self, *, whole: bool = False) -> None:
        if self.policy is not None:
            await self._audit(self.policy.trail.take(self.clock.now(), whole=whole))

    async def _audit(self, events: list[AuditEvent]) -> None:
        if not events:
            return
        try:
            await asyncio.to_thread(append_audit, self.config.audit_path, events)
        except StillwatchError as error:
            self.metrics.count("record_failures", len(events))
            _log.error("the audit log cannot be written, serving on without: %s", error)

    async def _learn_on_time(self) -> None:
        every_s = self.config.learner.every_s
        if not self.config.learner.enabled or every_s == 0:
            return
        while True:
            await asyncio.sleep(every_s)
            try:
                await self.learn(self.clock.now())
            except StillwatchError as error:
                _log.error("learning failed, serving on: %s", error)


def _policy(config: GuardConfig, hasher: KeyedHash, metrics: Metrics) -> LivePolicy | None:
    if config.policy is None:
        return None
    key = config.secrets.mark_master_key
    return LivePolicy(Settings(config.policy, config.accounts, hasher, key), metrics)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _make_folder(config: GuardConfig) -> None:
    try:
        config.state.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"{config.state}: the state folder cannot be made: {error.strerror}"
        raise EnvironmentUnfitError(message) from error
