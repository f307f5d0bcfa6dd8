"""A bounded crowd of workers that invite one another when there is room."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable


class Workers:
    """Tasks that run one coroutine each until it returns.

    A worker that can do nothing now calls `park`; whoever makes room calls `invite`, which wakes a
    parked worker or begins another, now or at the time that `room` tells.

    Args:
        work: what a worker does; it returns when nothing is left to do.
        room: seconds until another worker would find something to do: 0 for now, infinity for
            "not until somebody says so".
        most: workers at most (count).
    """

    def __init__(
        self, work: Callable[[], Awaitable[None]], room: Callable[[float], float], *, most: int
    ) -> None:
        self._work = work
        self._room = room
        self._most = most
        self._tasks: set[asyncio.Task[None]] = set()
        self._parked: deque[asyncio.Future[None]] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf
        self._error: BaseException | None = None

    async def run(self) -> None:
        """Begin with one worker and return when none is left.

        Raises:
            BaseException: the first error that a worker ended with.
        """
        self._wake_one()
        try:
            while self._tasks:
                await asyncio.wait(set(self._tasks))
        finally:
            if self._alarm is not None:
                self._alarm.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._error is not None:
            raise self._error

    def invite(self) -> None:
        """Let one more worker in, if there is room and one is left to let in."""
        if self._parked or len(self._tasks) < self._most:
            now = time.monotonic()
            wait = self._room(now)
            if wait == 0.0:
                self._wake_one()
            elif wait < math.inf:
                self._arm(now, wait)

    async def park(self, now: float, wait: float) -> None:
        """Wait until invited.

        Args:
            now: monotonic seconds.
            wait: after which somebody shall be invited in any case (seconds); may be infinity.
        """
        parked = asyncio.get_running_loop().create_future()
        self._parked.append(parked)
        if wait < math.inf:
            self._arm(now, wait)
        await parked

    def wake_all(self) -> None:
        """Let every parked worker look again."""
        while self._parked:
            parked = self._parked.popleft()
            if not parked.done():
                parked.set_result(None)

    def _wake_one(self) -> None:
        while self._parked:
            parked = self._parked.popleft()
            if not parked.done():
                parked.set_result(None)
                return
        if len(self._tasks) < self._most:
            task = asyncio.create_task(self._labour())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _labour(self) -> None:
        try:
            await self._work()
        except Exception as error:  # whatever it is, `run` raises it
            self._error = self._error or error
        finally:
            self.wake_all()

    def _arm(self, now: float, wait: float) -> None:
        if self._alarm is not None:
            if self._alarm_at <= now + wait:
                return
            self._alarm.cancel()
        self._alarm_at = now + wait
        self._alarm = asyncio.get_running_loop().call_later(wait, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._wake_one()
