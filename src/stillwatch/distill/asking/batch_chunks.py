"""Chunks of questions: made from the queue before they are sent, recorded when results come."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from stillwatch.distill.asking.ask_queue import Job, Queue, Sources
from stillwatch.distill.asking.ask_tally import Tally
from stillwatch.distill.asking.attempts import attempt_exchange, outcome_of
from stillwatch.distill.asking.batch_log import BatchLog, ChunkWriter, LogLine, Row, Rows
from stillwatch.distill.asking.teacher import max_output
from stillwatch.distill.money.budget import BATCH_TAG, BudgetHeldError, Reservation
from stillwatch.distill.money.token_bounds import output_of
from stillwatch.errors import BudgetReachedError
from stillwatch.model.batch_wires import BatchClient, BatchLimits, RowResult, read_results
from stillwatch.record.exchange import Exchange

#: Codes of rows that were never answered, and may be at another try.
_UNTRIED = frozenset({"batch_expired", "expired", "missing", "unreadable"})
_TRANSIENT = frozenset({408, 409, 429})
#: Rows written to the journal side by side.
_GROUP = 256


@dataclass
class Chunk:
    """One batch of this run.

    Attributes:
        tag: what it is found by.
        n_rows: its questions (count).
        sent_at: when it was meant to be sent (UTC epoch seconds).
        batch_id: the vendor's id, or None while nobody knows of one.
        reservations: what is held for each row; empty for a chunk of an earlier process whose
            worst case the budget no longer holds.
        is_sent: whether it may have been sent.
        n_done: rows that have ended, as the vendor says (count).
        due: when to look at it next (monotonic seconds).
    """

    tag: str
    n_rows: int
    sent_at: float
    batch_id: str | None = None
    reservations: list[Reservation] = field(default_factory=list)
    is_sent: bool = False
    n_done: int = 0
    due: float = 0.0


class _Recorded(NamedTuple):
    """A row whose attempt goes into the journal."""

    n: int
    row: Row
    result: RowResult
    exchange: Exchange | None  # None when the journal has it from an earlier process


class ChunkMaker:
    """Makes chunks of what is to be asked.

    Args:
        sources: what the run works with; its ledger is at the batch price.
        log: where chunks are noted.
        client: whose rows they are.
        limits: what a chunk may hold.
    """

    def __init__(
        self,
        sources: Sources,
        *,
        log: BatchLog,
        client: BatchClient,
        limits: BatchLimits,
    ) -> None:
        self._sources = sources
        self._log = log
        self._client = client
        self._limits = limits
        self._ledger = sources.ledger
        self._max_output = max_output(sources.teacher)
        self.is_held = False

    def make(self, queue: Queue, tally: Tally) -> Chunk | None:
        """Take questions from the queue, hold their worst case, and note that they will be sent.

        Args:
            queue: of the run.
            tally: told when the budget is reached.

        Returns:
            The chunk, or None when there is nothing to ask, or no budget for it now.
        """
        self._sources.permission.require(time.time())
        client, limits = self._client, self._limits
        reservations: list[Reservation] = []
        with ChunkWriter(self._log, opening=client.opening, between=client.between) as writer:
            while writer.n_rows < limits.n_rows:
                job = _next(queue)
                if job is None:
                    break
                body = self._sources.bodies.encode(job.item)
                sent = client.row(f"{writer.tag}-{writer.n_rows}", body)
                is_full = writer.n_rows and writer.n_bytes + len(sent) > limits.n_bytes
                reservation = None if is_full else self._reserve(job, tally)
                if reservation is None:
                    queue.put_back(job)
                    break
                reservations.append(reservation)
                writer.add(_row(job), sent)
            writer.finish(client.closing)
        chunk = Chunk(writer.tag, writer.n_rows, time.time(), reservations=reservations)
        if not chunk.n_rows:
            self._log.forget(chunk.tag)
            return None
        self._log.note(
            LogLine(event="intent", tag=chunk.tag, at=chunk.sent_at, n_rows=chunk.n_rows)
        )
        return chunk

    def resume(self, begun: LogLine, sent: LogLine | None) -> Chunk:
        """Take up a chunk of an earlier process.

        Args:
            begun: its intent.
            sent: its submission, or None.

        Returns:
            The chunk, its worst case held if the budget still allows.
        """
        chunk = Chunk(begun.tag, begun.n_rows, begun.at, is_sent=True)
        chunk.batch_id = sent.batch_id if sent else None
        with Rows(self._log.rows_path(chunk.tag)) as rows:
            for n in range(len(rows)):
                try:
                    held = self._ledger.reserve(rows[n].n_input, self._max_output)
                except BudgetReachedError:  # it is bought already; what it cost will be charged
                    self.release(chunk)
                    break
                chunk.reservations.append(held)
        return chunk

    def release(self, chunk: Chunk) -> None:
        """Free what is still held for a chunk.

        Args:
            chunk: it.
        """
        for reservation in chunk.reservations:
            if reservation.is_open:
                self._ledger.release(reservation)
        chunk.reservations = []

    def _reserve(self, job: Job, tally: Tally) -> Reservation | None:
        self.is_held = False
        try:
            return self._ledger.reserve(job.n_input, self._max_output)
        except BudgetHeldError:
            self.is_held = True
        except BudgetReachedError as error:
            tally.end("budget", error)
        return None


class ChunkRecorder:
    """Brings the results of chunks into the journal.

    Args:
        sources: what the run works with; its ledger is at the batch price.
        log: where chunks are noted.
        client: who reads the results.
        recorded: batch id and request key of what the journal holds of batches under way.
    """

    def __init__(
        self,
        sources: Sources,
        *,
        log: BatchLog,
        client: BatchClient,
        recorded: frozenset[tuple[str, str]],
    ) -> None:
        self._sources = sources
        self._log = log
        self._client = client
        self._recorded = recorded

    async def record(
        self, chunk: Chunk, results: list[Path], *, queue: Queue, tally: Tally
    ) -> None:
        """Record every row of a chunk that has ended.

        Args:
            chunk: it.
            results: the files of its results.
            queue: takes what is to be tried again.
            tally: counts.

        Raises:
            ModelError: a line of the results is none.
            RecordError: the journal cannot be written.
        """
        seen = bytearray(chunk.n_rows)
        waiting: list[_Recorded] = []
        with Rows(self._log.rows_path(chunk.tag)) as rows:

            async def take(n: int, result: RowResult) -> None:
                waiting.append(self._attempt(chunk, n, row=rows[n], result=result))
                if len(waiting) >= _GROUP:
                    await self._flush(chunk, waiting, queue=queue, tally=tally)

            for path in results:
                for result in read_results(self._client, path):
                    n = _number(result.custom_id, chunk)
                    if n is not None and not seen[n]:
                        seen[n] = 1
                        await take(n, result)
            for n in range(chunk.n_rows):
                if not seen[n]:  # vendors have been seen to leave rows out
                    await take(n, RowResult("", None, 0, "missing", {}))
            await self._flush(chunk, waiting, queue=queue, tally=tally)

    def _attempt(self, chunk: Chunk, n: int, *, row: Row, result: RowResult) -> _Recorded:
        if (chunk.batch_id or "", row.key) in self._recorded:
            return _Recorded(n, row, result, None)
        facts = {**result.facts, BATCH_TAG: chunk.batch_id or ""}
        exchange = attempt_exchange(
            row.item,
            self._sources.teacher,
            reply=result.reply,
            status=result.status,
            error=result.code,
            started_at=chunk.sent_at,
            ended_at=time.time(),
            attempt=row.tries + 1,
            request_key=row.key,
            permission_id=self._sources.permission.permission_id,
            facts=facts,
        )
        return _Recorded(n, row, result, exchange)

    async def _flush(
        self, chunk: Chunk, waiting: list[_Recorded], *, queue: Queue, tally: Tally
    ) -> None:
        journal = self._sources.journal
        new = [one.exchange for one in waiting if one.exchange is not None]
        await asyncio.gather(*map(journal.append, new))
        for one in waiting:
            self._settle(chunk, one)
            self._conclude(one, queue=queue, tally=tally)
        waiting.clear()

    def _settle(self, chunk: Chunk, one: _Recorded) -> None:
        if one.exchange is None:
            return
        ledger = self._sources.ledger
        if not chunk.reservations:
            ledger.restore([one.exchange])
            return
        reservation, reply = chunk.reservations[one.n], one.result.reply
        if reply is None:
            ledger.release(reservation)
            return
        ledger.settle(reservation, reply.input_tokens, output_of(reply))

    def _conclude(self, one: _Recorded, *, queue: Queue, tally: Tally) -> None:
        row, result = one.row, one.result
        reached = outcome_of(result.reply, error=result.code)
        if result.code is not None:
            tally.fail(result.status, result.code)
        if reached != "failed":
            tally.final(reached)
            return
        is_transient = result.status in _TRANSIENT or result.status >= 500
        if (is_transient or result.code in _UNTRIED) and (
            row.failures < self._sources.table.retries
        ):
            job = job_of(row)
            job.tries, job.failures = row.tries + 1, row.failures + 1
            queue.put_off(job, 0.0)
        else:
            tally.give_up()


def _next(queue: Queue) -> Job | None:
    """The next job; passes over any number that the record has answered."""
    while True:
        job = queue.take(time.monotonic(), fresh=True)
        if job is not None or queue.is_read:
            return job


def job_of(row: Row) -> Job:
    """Make a row a job of the queue again.

    Args:
        row: it.

    Returns:
        The job, as it was before its batch.
    """
    job = Job(row.item, row.key, row.n_input)
    job.tries, job.failures = row.tries, row.failures
    return job


def _row(job: Job) -> Row:
    return Row(
        key=job.key, item=job.item, n_input=job.n_input, tries=job.tries, failures=job.failures
    )


def _number(custom_id: str, chunk: Chunk) -> int | None:
    """Which row an id means; None for one that is not the chunk's."""
    tag, _, number = custom_id.rpartition("-")
    if tag != chunk.tag or not number.isdecimal() or int(number) >= chunk.n_rows:
        return None
    return int(number)
