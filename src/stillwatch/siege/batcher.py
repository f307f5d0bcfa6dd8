"""Micro-batches: rows that arrive together are computed together, in one thread.

A batch begins `window_s` after its first row arrived and the thread is free, so a lone row waits
two milliseconds and a burst shares one pass. While a batch is computed the next one gathers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Row = TypeVar("Row")
Result = TypeVar("Result")


class InferenceThread:
    """One thread that batches of several models take turns in.

    Args:
        prepare: called once in the thread before its first batch, for example to set its torch.
    """

    def __init__(self, prepare: Callable[[], None] | None = None) -> None:
        self.turn = asyncio.Lock()
        self.executor = ThreadPoolExecutor(1, "inference", initializer=prepare)

    def close(self) -> None:
        """End the thread after the batch it computes."""
        self.executor.shutdown(wait=False, cancel_futures=True)


class Batcher(Generic[Row, Result]):
    """Gathers rows and computes them in batches; lives in one event loop.

    Args:
        compute: turns rows into as many results, in order; called in `thread`.
        thread: shared by the batchers of all models of a process.
        max_rows: largest batch (count).
        window_s: how long a batch gathers after its first row (s).
    """

    def __init__(
        self,
        compute: Callable[[Sequence[Row]], Sequence[Result]],
        thread: InferenceThread,
        *,
        max_rows: int = 128,
        window_s: float = 0.002,
    ) -> None:
        self._compute = compute
        self._thread = thread
        self._max_rows = max_rows
        self._window_s = window_s
        self._queue: deque[tuple[Row, asyncio.Future[Result]]] = deque()
        self._loop_task: asyncio.Task[None] | None = None
        self.n_batches = 0
        self.n_rows = 0

    def submit(self, row: Row) -> asyncio.Future[Result]:
        """Queue a row.

        Args:
            row: what to compute.

        Returns:
            Its result to come. Cancel it and the row leaves the queue uncomputed, unless its batch
            has begun.
        """
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.append((row, result))
        if self._loop_task is None or self._loop_task.done():
            self._loop_task = asyncio.create_task(self._run())
        return result

    def close(self) -> None:
        """Give up the rows that wait; a batch that has begun ends unheard."""
        if self._loop_task is not None:
            self._loop_task.cancel()
        for _, result in self._queue:
            result.cancel()
        self._queue.clear()

    async def _run(self) -> None:
        while self._queue:
            if len(self._queue) < self._max_rows:
                await asyncio.sleep(self._window_s)
            async with self._thread.turn:  # rows that arrive while others compute still get in
                await self._answer(self._take())

    def _take(self) -> list[tuple[Row, asyncio.Future[Result]]]:
        batch: list[tuple[Row, asyncio.Future[Result]]] = []
        while self._queue and len(batch) < self._max_rows:
            row, result = self._queue.popleft()
            if not result.done():  # done means cancelled: nobody waits for it
                batch.append((row, result))
        return batch

    async def _answer(self, batch: list[tuple[Row, asyncio.Future[Result]]]) -> None:
        if not batch:
            return
        self.n_batches += 1
        self.n_rows += len(batch)
        loop = asyncio.get_running_loop()
        rows = [row for row, _ in batch]
        try:
            found = await loop.run_in_executor(self._thread.executor, self._compute, rows)
        except Exception as error:
            # Whatever the model raised belongs to the questions of this batch, not to the loop.
            for _, result in batch:
                if not result.done():
                    result.set_exception(error)
            return
        for (_, result), value in zip(batch, found, strict=True):
            if not result.done():
                result.set_result(value)
