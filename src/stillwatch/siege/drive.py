"""The driver: sends a plan of questions over real sockets while the calendar is simulated.

Time runs in ticks. Everything planned within a tick is sent, `window` questions at a time and
started in calendar order; then the driver waits for the last reply (a barrier) and only then tells
the actors, in the same order. So what an actor learns never depends on which reply was faster, and
a run repeats exactly from its seed.
"""

from __future__ import annotations

import asyncio
import heapq
import ipaddress
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable
from urllib.parse import urlsplit

from stillwatch.errors import NotPermittedError, reject
from stillwatch.siege.asking import Asker, Outcome, Planned

__all__ = ["Actor", "DriveSummary", "Outcome", "Planned", "Reconsidering", "drive"]

DAY_S = 86_400.0


@runtime_checkable
class Actor(Protocol):
    """Whoever asks: hears of each reply and may ask again."""

    def on_reply(self, planned: Planned, outcome: Outcome) -> Planned | None:
        """Take note of a reply; called after the tick's last reply, in calendar order.

        Args:
            planned: the question that was asked.
            outcome: what came back.

        Returns:
            A follow-up question (a retry, by another account perhaps), or None. It is asked at its
            own time, but not before the next tick begins.
        """
        ...


@runtime_checkable
class Reconsidering(Protocol):
    """An actor that also looks at each planned question just before its tick is sent.

    Optional beside `Actor`: a retired account's questions can be dropped or handed to another one.
    """

    def before_asking(self, planned: Planned) -> Planned | None:
        """Confirm, change or drop a question; called at the tick's begin, in calendar order.

        Args:
            planned: the question about to be sent.

        Returns:
            The question to send instead (the same one to confirm), or None to drop it.
        """
        ...


@dataclass(frozen=True, slots=True)
class DriveSummary:
    """What a drive did.

    Attributes:
        asked: questions sent (count).
        by_status: replies by HTTP status (count); 0 where none came.
        by_kind: the same, by kind of question.
        follow_ups: questions that actors asked on hearing a reply (count, of those sent).
        dropped: planned questions that actors withdrew (count).
        ticks: ticks in which something was sent (count).
        days: days that ended (count).
        input_tokens: as the replies told (count).
        output_tokens: as the replies told (count).
        wall_s: real seconds that the drive took.
    """

    asked: int
    by_status: dict[int, int]
    by_kind: dict[str, dict[int, int]]
    follow_ups: int
    dropped: int
    ticks: int
    days: int
    input_tokens: int
    output_tokens: int
    wall_s: float


async def drive(  # noqa: PLR0913 - two listeners and the pace stand beside plan, actors and address
    plan: Iterable[Planned],
    actors: Mapping[str, Actor],
    *,
    base_url: str,
    tick_s: float = 6 * 3600.0,
    window: int = 64,
    on_day_end: Callable[[float], Awaitable[None]] | None = None,
    on_progress: Callable[[int, float], None] | None = None,
) -> DriveSummary:
    """Send a plan to an endpoint on this machine.

    Args:
        plan: questions in calendar order; read one tick ahead, so a generator may react to replies.
        actors: who hears of the replies, by account; one actor may stand for many accounts, and
            accounts without one hear nothing.
        base_url: the endpoint, without `/v1`; a loopback address.
        tick_s: length of a tick (s of simulated time); a whole number of them makes a day.
        window: questions under way at a time (count).
        on_day_end: awaited with the epoch second at which a simulated day (UTC) ends, after its
            last reply and before the next day's first question; days without questions that lie
            between others end too.
        on_progress: called after each reply with the questions answered so far and the simulated
            time of the one just answered.

    Returns:
        Counts.

    Raises:
        NotPermittedError: `base_url` is not a loopback address.
        InvalidInputError: the plan is out of order, or the pace is no pace.
        EnvironmentUnfitError: nobody listens at `base_url`.
    """
    require_loopback(base_url)
    if not (tick_s > 0 and DAY_S % tick_s == 0):
        reject("drive", "tick_s", "a whole part of a day in seconds", got=tick_s)
    if window < 1:
        reject("drive", "window", "at least 1", got=window)
    started = time.monotonic()
    async with Asker(base_url, window=window) as asker:
        run = _Run(_Calendar(plan, tick_s), actors, asker=asker)
        run.on_progress = on_progress
        await run.through(on_day_end)
    return run.summary(time.monotonic() - started)


def require_loopback(base_url: str) -> None:
    """Refuse any address but this machine's own: simulated traffic goes nowhere else.

    Args:
        base_url: where questions are about to be sent.

    Raises:
        NotPermittedError: the host is not a loopback address.
    """
    host = urlsplit(base_url).hostname or ""
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        message = "drive: base_url must be a loopback address, simulated traffic goes nowhere else"
        raise NotPermittedError(message, hint="point it at http://127.0.0.1:PORT")


class _Calendar:
    """Planned questions and follow-ups, handed out tick by tick in calendar order."""

    def __init__(self, plan: Iterable[Planned], tick_s: float) -> None:
        self.tick_s = tick_s
        self.end = -math.inf  # of the tick handed out last
        self._plan = iter(plan)
        self._next = next(self._plan, None)
        self._later: list[tuple[float, str, int, Planned]] = []
        self._n_later = 0

    def add(self, planned: Planned) -> None:
        """Put in a further question; one that is due before the next tick is moved there."""
        if planned.at < self.end:
            planned = replace(planned, at=self.end)
        self._n_later += 1  # keeps equal ones in the order in which they came
        heapq.heappush(self._later, (planned.at, planned.request_id, self._n_later, planned))

    def next_tick(self) -> list[Planned] | None:
        """Hand out what the next tick holds, or None when nothing is left."""
        first = [self._next.at] if self._next is not None else []
        first += [self._later[0][0]] if self._later else []
        if not first:
            return None
        begin = math.floor(min(first) / self.tick_s) * self.tick_s
        self.end = begin + self.tick_s
        due: list[Planned] = []
        while self._next is not None and self._next.at < self.end:
            if self._next.at < begin:
                reject("drive", "plan", "in calendar order, tick by tick", got=self._next.at)
            due.append(self._next)
            self._next = next(self._plan, None)
        while self._later and self._later[0][0] < self.end:
            due.append(heapq.heappop(self._later)[-1])
        return due


class _Run:
    """One drive under way."""

    def __init__(self, calendar: _Calendar, actors: Mapping[str, Actor], *, asker: Asker) -> None:
        self.on_progress: Callable[[int, float], None] | None = None
        self._calendar, self._actors, self._asker = calendar, actors, asker
        self._by_kind: dict[str, Counter[int]] = {}
        self._asked = self._done = self._follow_ups = self._dropped = 0
        self._ticks = self._days = self._input_tokens = self._output_tokens = 0

    async def through(self, on_day_end: Callable[[float], Awaitable[None]] | None) -> None:
        """Send everything, tick by tick, and end the days in between and the last one."""
        day_end: float | None = None
        while (due := self._calendar.next_tick()) is not None:
            ends = math.ceil(self._calendar.end / DAY_S) * DAY_S
            while day_end is not None and day_end < ends:
                await self._end_day(day_end, on_day_end)
                day_end += DAY_S
            day_end = ends
            await self._tick(due)
        if day_end is not None:
            await self._end_day(day_end, on_day_end)

    async def _end_day(
        self, at: float, on_day_end: Callable[[float], Awaitable[None]] | None
    ) -> None:
        self._days += 1
        if on_day_end is not None:
            await on_day_end(at)

    async def _tick(self, due: list[Planned]) -> None:
        asked = [now for planned in _ordered(due) if (now := self._reconsider(planned)) is not None]
        asked = _ordered(asked)
        self._ticks += bool(asked)
        outcomes = await self._send(asked)
        for planned, outcome in zip(asked, outcomes, strict=True):
            self._count(planned, outcome)
            actor = self._actors.get(planned.account)
            again = None if actor is None else actor.on_reply(planned, outcome)
            if again is not None:
                self._follow_ups += 1
                self._calendar.add(again)

    def _reconsider(self, planned: Planned) -> Planned | None:
        actor: object = self._actors.get(planned.account)
        if not isinstance(actor, Reconsidering):
            return planned
        changed = actor.before_asking(planned)
        if changed is None:
            self._dropped += 1
            return None
        if changed.at >= self._calendar.end:
            self._calendar.add(changed)
            return None
        # A question cannot be put back into a tick that has been sent.
        return replace(changed, at=planned.at) if changed.at < planned.at else changed

    async def _send(self, asked: Sequence[Planned]) -> list[Outcome]:
        """Send in order, `window` at a time; sequence numbers have no gap over the whole run."""
        first, self._asked = self._asked, self._asked + len(asked)
        outcomes: list[Outcome | None] = [None] * len(asked)
        queue = iter(enumerate(asked))

        async def work() -> None:
            for index, planned in queue:
                outcomes[index] = await self._asker.ask(planned, first + index)
                self._done += 1
                if self.on_progress is not None:
                    self.on_progress(self._done, planned.at)

        workers = [asyncio.create_task(work()) for _ in range(min(self._asker.window, len(asked)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
        return [outcome for outcome in outcomes if outcome is not None]

    def _count(self, planned: Planned, outcome: Outcome) -> None:
        self._by_kind.setdefault(planned.kind, Counter())[outcome.status] += 1
        if outcome.reply is not None:
            self._input_tokens += outcome.reply.input_tokens or 0
            self._output_tokens += outcome.reply.output_tokens or 0

    def summary(self, wall_s: float) -> DriveSummary:
        """Sum up."""
        total: Counter[int] = sum(self._by_kind.values(), Counter())
        return DriveSummary(
            asked=self._asked,
            by_status=dict(sorted(total.items())),
            by_kind={kind: dict(sorted(n.items())) for kind, n in sorted(self._by_kind.items())},
            follow_ups=self._follow_ups,
            dropped=self._dropped,
            ticks=self._ticks,
            days=self._days,
            input_tokens=self._input_tokens,
            output_tokens=self._output_tokens,
            wall_s=wall_s,
        )


def _ordered(planned: Iterable[Planned]) -> list[Planned]:
    return sorted(planned, key=lambda p: (p.at, p.request_id))
