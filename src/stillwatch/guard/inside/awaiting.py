"""Questions whose answers are still to be told, bounded in number and in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from stillwatch.guard.inside.decide import Answered, Desk
from stillwatch.guard.recording.recorder import Asked
from stillwatch.guard.routes.wires import CHAT

#: Some 200 MB of questions of 3 KB; beyond that the oldest are recorded without their answers.
_MOST: Final = 65_536
_NOT_TOLD: Final = Answered(0, None, CHAT, tags={"answer": "not told"})


@dataclass(slots=True)
class _Open:
    asked: Asked
    since: float
    answered: Answered | None = None
    told_at: float = 0.0


class Awaiting:
    """Brings answers to their questions by the call's id.

    Args:
        desk: records them.
        clock: monotonic seconds.
    """

    def __init__(self, desk: Desk, clock: Callable[[], float]) -> None:
        self._desk = desk
        self._clock = clock
        self._open: dict[str, _Open] = {}
        self._config = desk.state.config.inside

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, call_id: str) -> bool:
        return call_id in self._open

    def expect(self, call_id: str, asked: Asked) -> None:
        """Remember a question that is being answered.

        Args:
            call_id: the other server's id of the call.
            asked: the question.
        """
        if self._config.answer_wait_s == 0:
            self._desk.answered(asked, _NOT_TOLD)
            return
        if call_id in self._open:
            # A call that is made again under its id; what came of the first is not told any more.
            self._record(call_id)
        self._open[call_id] = _Open(asked, self._clock())
        if len(self._open) > _MOST:
            self._record(next(iter(self._open)))

    def tell(self, call_id: str, answered: Answered) -> bool:
        """Record a question with its whole answer.

        Args:
            call_id: the call.
            answered: what came of it.

        Returns:
            False when no question of that id waits: told before, refused, or never seen.
        """
        found = self._open.get(call_id)
        if found is None:
            return False
        found.answered = answered
        self._record(call_id)
        return True

    def tell_part(self, call_id: str, answered: Answered) -> bool:
        """Note what is known of an answer that may grow; `sweep` records it once it rests.

        Args:
            call_id: the call.
            answered: the answer so far.

        Returns:
            False when no question of that id waits.
        """
        found = self._open.get(call_id)
        if found is None:
            return False
        found.told_at = self._clock()
        found.answered = answered._replace(whole_s=found.told_at - found.since)
        return True

    def sweep(self) -> None:
        """Record what rests, and what has waited too long."""
        now = self._clock()
        for call_id in list(self._due(now)):
            self._record(call_id)

    async def sweep_forever(self) -> None:
        """Sweep until cancelled."""
        while True:
            await asyncio.sleep(min(1.0, max(0.05, self._config.settle_s / 2)))
            self.sweep()

    def close(self) -> None:
        """Record everything that is left, as far as it is known."""
        for call_id in list(self._open):
            self._record(call_id)

    def _due(self, now: float) -> Iterator[str]:
        for call_id, each in self._open.items():
            if each.answered is not None:
                is_due = now - each.told_at >= self._config.settle_s
            else:
                is_due = now - each.since >= self._config.answer_wait_s
            if is_due:
                yield call_id

    def _record(self, call_id: str) -> None:
        found = self._open.pop(call_id)
        self._desk.answered(found.asked, found.answered or _NOT_TOLD)
