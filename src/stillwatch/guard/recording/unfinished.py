"""What must still be written into the record when a gateway ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Unfinished:
    """Questions whose record is not written yet, and what is to be said about them at the end."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[object]] = set()
        self._last_words: list[Callable[[], object]] = []

    def follow(self, task: asyncio.Task[object] | None) -> None:
        """Remember the task of a question, whose record must be written before the journal closes.

        Args:
            task: the one that serves it.
        """
        if task is not None:
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    def at_end(self, say: Callable[[], object]) -> None:
        """Have something called at the end, while exchanges can still be recorded.

        Args:
            say: called once; what it records is waited for.
        """
        self._last_words.append(say)

    async def end(self, timeout_s: float) -> None:
        """Hear the last words, and wait for what is under way.

        Args:
            timeout_s: how long, at most.
        """
        while self._last_words:
            self._last_words.pop(0)()
        if self.tasks:
            # Cut off by the end of the server; what they had given out is still recorded.
            await asyncio.wait(self.tasks, timeout=timeout_s)
