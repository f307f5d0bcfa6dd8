"""What the gateway's routes share, opened and closed as one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from stillwatch.errors import EnvironmentUnfitError, StillwatchError
from stillwatch.guard.admin.gate import Sessions
from stillwatch.guard.admin.traffic import Traffic
from stillwatch.guard.batch.desk import Desk
from stillwatch.guard.batch.sweep import sweep_always
from stillwatch.guard.board_keeper import BoardKeeper
from stillwatch.guard.clock import Clock, SimulatedClock, WallClock
from stillwatch.guard.config import GuardConfig
from stillwatch.guard.connections.tls import upstream_tls
from stillwatch.guard.connections.upstream import Upstream
from stillwatch.guard.keys import KeyTable
from stillwatch.guard.learning.learned import Learned
from stillwatch.guard.learning.link import LearnerLink, LearnerStuckError
from stillwatch.guard.policy.live import LivePolicy, Settings
from stillwatch.guard.recording.books import Books
from stillwatch.guard.recording.recorder import Recorder, Recording
from stillwatch.guard.recording.unfinished import Unfinished
from stillwatch.guard.routes.callers import Callers
from stillwatch.guard.routes.owners import Owners, OwnerTable
from stillwatch.guard.telling.metrics import Metrics
from stillwatch.guard.telling.telemetry import open_telemetry
from stillwatch.guard.wall.challenge import Challenges, Nonces, TableNonces
from stillwatch.guard.wall.deeds import Deeds
from stillwatch.guard.wall.ladder import TokenBuckets
from stillwatch.guard.wall.verdict import VerdictTable
from stillwatch.record.journal import Journal
from stillwatch.record.privacy import KeyedHash

if TYPE_CHECKING:
    from stillwatch.guard.shared.gateway import GatewaySharing

_LAST_WORDS_S: Final = 2.0
_log = logging.getLogger("stillwatch.guard")


class GuardState(BoardKeeper):
    """Everything between the routes and the disk; an async context manager.

    Args:
        config: the gateway's.

    Attributes:
        config: as given.
        clock: the wall's or the simulation's.
        keys: who has which key.
        callers: reads what a request tells of its sender.
        metrics: counters.
        buckets: the campaigns' token buckets.
        recorder: writes exchanges.
        upstream: the way to the model server.
        link: the way to the learner.
        policy: the rules, or None without.
        owners: whose stored answers are.
        traffic: what passed of late.
        sessions: the admin's logins.
        deeds: what the wall began to do, for the audit log.
        challenges: takes the tokens of verified accounts.
        nonces: remembers which tokens were used.
        shared: what this gateway has in common with others, or None.
        batches: what is known of files and batches.
        unfinished: what is still to be recorded; `follow` is its.
    """

    recorder: Recorder
    owners: Owners

    def __init__(self, config: GuardConfig) -> None:
        super().__init__()
        self.config = config
        self.clock: Clock = SimulatedClock() if config.simulation else WallClock()
        self._hasher = config.secrets.hasher
        self.keys = KeyTable.load(config.keys, self._hasher)
        self.callers = Callers(self._hasher)
        self.metrics = Metrics()
        self.buckets = TokenBuckets()
        tls = upstream_tls(config.tls) if config.upstream.startswith("https:") else None
        self.upstream = Upstream(config.upstream, limits=config.limits, tls=tls)
        self.link = LearnerLink(config)
        self.policy = _policy(config, self._hasher, self.metrics)
        self.traffic = Traffic()
        self.sessions = Sessions(config.admin)
        self.books = Books(config, clock=self.clock, metrics=self.metrics)
        self.deeds = Deeds()
        self.challenges = Challenges(self)
        self.nonces: Nonces = TableNonces(self)
        self.shared: GatewaySharing | None = None
        self.batches = Desk(config.state)
        self.reloading = asyncio.Lock()
        self.reread: Callable[[], GuardConfig] | None = None
        self.unfinished = Unfinished()
        self.follow = self.unfinished.follow
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
            journal,
            Recording(
                self._hasher,
                self.clock,
                self.metrics,
                self.config.record,
                self.config.limits.record_queue_bytes,
            ),
        )
        if self.policy is not None:
            self.recorder.given_out = self.policy.answered
        self.recorder.noticed = self.traffic.note
        self.table = await self._open_table()
        await self.audit_running("started")
        await self._take(self.table.load())
        self.owners = OwnerTable(
            self.config.owners_path, self.config.responses, metrics=self.metrics
        )
        if self.shared is not None:
            self.owners = self.shared.share_owners(self.owners)
        self._stack.push_async_callback(self.owners.close)
        await self._stack.enter_async_context(self.upstream)
        await self._stack.enter_async_context(self.batches)
        self._stack.push_async_callback(_end, asyncio.create_task(sweep_always(self)))
        self._stack.callback(self.link.stop)
        await asyncio.to_thread(self.link.start)
        if self.config.otel.endpoint is not None:
            telemetry = open_telemetry(self)
            self._stack.push_async_callback(telemetry.close)
            self._stack.push_async_callback(_end, asyncio.create_task(telemetry.run()))
        for endless in (self._follow_table(), self._follow_policy(), self._learn_on_time()):
            self._stack.push_async_callback(_end, asyncio.create_task(endless))

    async def _open_table(self) -> VerdictTable:
        if self.config.shared.url is None:
            table = VerdictTable(self.config.verdict_path)
            self._stack.callback(table.close)
            return table
        from stillwatch.guard.shared.gateway import GatewaySharing  # needs the package redis

        sharing = GatewaySharing(self.config, self.metrics)
        self.shared = await self._stack.enter_async_context(sharing)
        sharing.share_buckets(self.buckets)
        self.nonces = sharing.share_nonces(self.nonces)
        return sharing.table

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.unfinished.end(_LAST_WORDS_S)
        await self.recorder.flush()
        await self._write_trail(whole=True)
        await self._stack.aclose()

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
        except LearnerStuckError:
            self.metrics.count("learnings", result="stuck")
            raise
        except StillwatchError:
            self.metrics.count("learnings", result="failed")
            raise
        self.metrics.count("learnings", result="done")
        await self.reload()
        return learned

    async def _follow_table(self) -> None:
        while True:
            await asyncio.sleep(self.config.limits.reload_s)
            try:
                await self.reload()
            except StillwatchError as error:
                _log.error("verdicts stay as they were: %s", error)
            await self._write_trail()

    async def reload_policy(self) -> None:
        """Take over changed files of the policy; a refused one changes nothing."""
        if self.policy is not None:
            for event in await self.policy.reload(self.clock.now()):
                if event.kind == "policy-loaded":
                    await self.audit_running(event.kind)
                else:
                    await self.books.note([event])

    async def _follow_policy(self) -> None:
        while self.policy is not None:
            await asyncio.sleep(self.config.limits.reload_s)
            await self.reload_policy()

    async def _write_trail(self, *, whole: bool = False) -> None:
        await self.books.note(self.deeds.take())
        if self.policy is not None:
            await self.books.note(self.policy.trail.take(self.clock.now(), whole=whole))

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
    can_challenge = bool(config.challenge.url)
    settings = Settings(config.policy, config.accounts, hasher, key, can_challenge)
    return LivePolicy(settings, metrics)


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
