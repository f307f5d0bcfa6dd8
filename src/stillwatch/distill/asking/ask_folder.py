"""Asks a model that runs in this process: a local folder, answered in batches, same journal."""

from __future__ import annotations

import asyncio
import time

from stillwatch.distill.asking.ask_queue import Job, Queue, Sources
from stillwatch.distill.asking.ask_table import AskProgress, AskSummary
from stillwatch.distill.asking.ask_tally import Tally
from stillwatch.distill.asking.attempts import attempt_exchange, outcome_of
from stillwatch.distill.asking.teacher import max_output
from stillwatch.distill.money.budget import BudgetHeldError
from stillwatch.distill.money.token_bounds import output_of
from stillwatch.errors import BudgetReachedError
from stillwatch.model.protocol import Model


class ModelAsker:
    """One run of asking a model in this process.

    Args:
        sources: what it works with.
        model: what answers; it gets `batch_size` questions at a time.
    """

    def __init__(self, sources: Sources, model: Model) -> None:
        self._sources = sources
        self._model = model
        self._queue = Queue(sources)
        self._tally = Tally(sources, self._queue)
        self._max_output = max_output(sources.teacher)
        self._in_flight = self._most_in_flight = 0

    async def run(self) -> AskSummary:
        """Ask until all is answered, or something ends it.

        Returns:
            What it came to.

        Raises:
            StillwatchError: the model failed, the permission ran out, or the record did.
        """
        while self._tally.stopped is None:
            jobs = await self._gather()
            if not jobs:
                break
            self._in_flight = len(jobs)
            self._most_in_flight = max(self._most_in_flight, len(jobs))
            await self._answer(jobs)
            self._in_flight = 0
        return self._tally.summary(most_in_flight=self._most_in_flight)

    def interrupt(self) -> None:
        """Ask nothing new; the batch under way is awaited."""
        self._tally.end("interrupted")

    def progress(self) -> AskProgress:
        """Say where it stands.

        Returns:
            Plain data.
        """
        limit = self._sources.table.batch_size
        return self._tally.progress(in_flight=self._in_flight, limit=limit)

    async def _gather(self) -> list[Job]:
        self._sources.permission.require(time.time())
        jobs: list[Job] = []
        while len(jobs) < self._sources.table.batch_size and not self._queue.is_empty:
            job = self._queue.take(time.monotonic(), fresh=True)
            if job is None:
                await asyncio.sleep(0)  # many were passed over
                continue
            try:
                job.reservation = self._sources.ledger.reserve(job.n_input, self._max_output)
            except BudgetHeldError as error:
                self._queue.put_back(job)
                if not jobs:  # somebody else holds it, and will not settle while we wait
                    self._tally.end("budget", error)
                break
            except BudgetReachedError as error:
                self._tally.end("budget", error)
                break
            jobs.append(job)
        return jobs

    async def _answer(self, jobs: list[Job]) -> None:
        sources = self._sources
        questions = [sources.bodies.question(job.item) for job in jobs]
        started_at, began = time.time(), time.monotonic()
        self._tally.n_sent += len(jobs)
        replies = await self._model.answer(questions)
        ended_at = started_at + time.monotonic() - began
        appends = []
        for job, reply in zip(jobs, replies, strict=True):
            exchange = attempt_exchange(
                job.item,
                sources.teacher,
                reply=reply,
                status=200,
                error=None,
                started_at=started_at,
                ended_at=ended_at,
                attempt=1,
                request_key=job.key,
                permission_id=sources.permission.permission_id,
            )
            assert job.reservation is not None
            sources.ledger.settle(job.reservation, reply.input_tokens, output_of(reply))
            appends.append(sources.journal.append(exchange))
        await asyncio.gather(*appends)
        for reply in replies:
            self._tally.final(outcome_of(reply))
