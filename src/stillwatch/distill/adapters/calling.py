"""Call a model from code that asks one question at a time, or that is not async."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Coroutine
from typing import Any, TypeVar

from stillwatch.distill.scores.contender import Contender
from stillwatch.model.protocol import Model, Question, Reply

R = TypeVar("R")


class Gathering:
    """Questions that are asked side by side go to the model in one batch.

    A local model computes a batch for little more than one row, and may not be used by two
    threads: calls wait for each other, up to as many as the contender allows. Lives in one event
    loop.

    Args:
        model: what answers.
    """

    def __init__(self, model: Model) -> None:
        self.contender = Contender.of(model)
        self._waiting: deque[tuple[Question, asyncio.Future[Reply]]] = deque()
        self._workers: set[asyncio.Task[None]] = set()

    async def ask(self, question: Question) -> Reply:
        """Answer one question, together with those that are asked meanwhile.

        Args:
            question: what is asked.

        Returns:
            The reply.

        Raises:
            StillwatchError: whatever the model raised for its batch.
        """
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, reply))
        if len(self._workers) < self.contender.calls:
            worker = asyncio.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
        return await reply

    async def _work(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # everybody who is ready to ask gets into the batch
            batch: list[tuple[Question, asyncio.Future[Reply]]] = []
            while self._waiting and len(batch) < self.contender.batch:
                question, reply = self._waiting.popleft()
                if not reply.done():  # done means cancelled: nobody waits for it
                    batch.append((question, reply))
            if batch:
                await self._answer(batch)

    async def _answer(self, batch: list[tuple[Question, asyncio.Future[Reply]]]) -> None:
        try:
            found = await self.contender.answer([question for question, _ in batch])
        except Exception as error:
            # Whatever the model raised belongs to those who asked, not to the loop.
            for _, reply in batch:
                if not reply.done():
                    reply.set_exception(error)
            return
        for (_, reply), value in zip(batch, found, strict=True):
            if not reply.done():
                reply.set_result(value)


class LoopThread:
    """An event loop in a thread, for callers without one; close it.

    One loop for all calls, because a client's connections belong to the loop that opened them.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="asking", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine to its end.

        Args:
            work: the coroutine.

        Returns:
            Its result.
        """
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """End the thread. A second call does nothing."""
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
