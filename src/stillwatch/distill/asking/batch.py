"""Asks through the vendors' batch interfaces: later, and at the batch price.

Questions go out in chunks within the vendor's limits. Before a chunk is sent, its intent and its
rows are on the disk; when its results come, they go into the journal like any other answer, each as
an attempt with the batch's id. A run that is killed goes on from there: batches under way are
awaited, never sent again; a batch whose id never came back is looked for before it is sent anew.
The chunks' files and their log lie beside the journal, in `batches`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from stillwatch.distill.asking.ask import (
    check_stamp,
    stopped_by_signals,
    telling,
)
from stillwatch.distill.asking.ask_queue import Permit, Queue, Sources
from stillwatch.distill.asking.ask_table import AskProgress, AskSummary, AskTable
from stillwatch.distill.asking.ask_tally import Tally
from stillwatch.distill.asking.attempts import AnswerIndex
from stillwatch.distill.asking.batch_chunks import Chunk, ChunkMaker, ChunkRecorder, job_of
from stillwatch.distill.asking.batch_log import BatchLog, LogLine, Rows
from stillwatch.distill.asking.batch_table import BatchTable
from stillwatch.distill.asking.bodies import bodies_of
from stillwatch.distill.asking.teacher import TeacherTable, secret_headers
from stillwatch.distill.asking.under_way import charged
from stillwatch.distill.items import Item
from stillwatch.distill.money.budget import BATCH_TAG, Ledger
from stillwatch.errors import ModelError
from stillwatch.model.batch_wires import (
    BatchClient,
    BatchLimits,
    BatchState,
    SubmissionUnknownError,
    batch_client,
)
from stillwatch.model.client import Timeouts
from stillwatch.record.journal import Journal, read_journal

__all__ = ["BatchTable", "ask_batch"]

#: Codes of a batch that is refused because too much is queued: later it may be taken.
_QUEUE_FULL = frozenset({"token_limit_exceeded", "rate_limit_exceeded"})
#: Failed requests in a row before an endpoint is given up.
_PATIENCE = 8


async def ask_batch(  # noqa: PLR0913 - the seams of a run, as in `ask_items`
    items: Iterable[Item],
    *,
    teacher: TeacherTable,
    table: AskTable,
    ledger: Ledger,
    journal: Journal,
    permission: Permit,
    on_progress: Callable[[AskProgress], None] | None = None,
    batches: BatchTable = BatchTable(),  # noqa: B008 - immutable
    answers: AnswerIndex | None = None,
) -> AskSummary:
    """Ask what the record has no answer to yet, by batches.

    As `ask_items`, but the first SIGINT or SIGTERM leaves batches under way to the next run.

    Args:
        items: what is to be asked, in this order.
        teacher: who is asked.
        table: how; `retries`, `again` and the timeouts count here.
        ledger: what may be spent; batches are charged at the price's batch factor.
        journal: where every attempt is recorded.
        permission: the stamp for this teacher.
        on_progress: called a few times a second.
        batches: how batches are sent and awaited.
        answers: as for `ask_items`.

    Returns:
        What it came to; a budget that is reached is a result, not an error.

    Raises:
        NotPermittedError: the permission is for another teacher, or has run out.
        ModelAuthError: the endpoint refused the key.
        ModelError: the endpoint refused a batch, or did not answer for long.
        InvalidInputError: the teacher's wire has no batch interface.
    """
    check_stamp(permission, teacher)
    log = BatchLog(journal.folder.parent / "batches")
    recorded = _recorded(journal, log)
    async with charged(journal, answers, ledger) as index, _client(teacher, table) as client:
        left = _not_under_way(items, log, teacher)
        cheaper = ledger.priced(ledger.price.batched() if ledger.price else None)
        bodies = bodies_of(teacher)
        sources = Sources(left, index, bodies, teacher, table, cheaper, journal, permission)
        run = _Run(sources, client, log=log, table=batches, recorded=recorded)
        return await _awaited(run, on_progress)


async def _awaited(run: _Run, on_progress: Callable[[AskProgress], None] | None) -> AskSummary:
    with stopped_by_signals(run.interrupt):
        async with telling(run.progress, on_progress):
            return await run.run()


def _client(teacher: TeacherTable, table: AskTable) -> BatchClient:
    return batch_client(
        teacher.endpoint,
        wire=teacher.wire,
        headers={**teacher.headers, **secret_headers(teacher)},
        timeouts=Timeouts(table.connect_s, table.silence_s, table.total_s),
    )


def _recorded(journal: Journal, log: BatchLog) -> frozenset[tuple[str, str]]:
    """List what the journal holds of batches under way: batch id and request key."""
    log.tidy()
    under_way = {sent.batch_id for _, sent in log.open_chunks() if sent}
    if not under_way:
        return frozenset()
    tags = (exchange.tags for _, exchange in read_journal(journal.folder))
    return frozenset(
        (told[BATCH_TAG], told.get("request_key", ""))
        for told in tags
        if told.get(BATCH_TAG) in under_way
    )


class _Patience:
    """How long to wait between looks, and how many failures in a row to bear."""

    def __init__(self, table: BatchTable, *, retries: int) -> None:
        self._table = table
        self._most = max(retries, _PATIENCE)
        self._n_failed = 0
        self.look_s = table.first_look_s

    def next_look(self, *, is_news: bool) -> float:
        """When to look again (monotonic seconds); later and later while nothing is new."""
        longer = self._table.first_look_s if is_news else self.look_s * 1.5
        self.look_s = min(longer, self._table.longest_look_s)
        return time.monotonic() + self.look_s

    def succeeded(self) -> None:
        """Forget the failures."""
        self._n_failed = 0

    def failed(self, error: ModelError) -> None:
        """Bear a failure, or raise it when it cannot pass or there were too many."""
        self._n_failed += 1
        if not error.retryable or self._n_failed > self._most:
            raise error


class _Run:
    """One run of asking by batches."""

    def __init__(
        self,
        sources: Sources,
        client: BatchClient,
        *,
        log: BatchLog,
        table: BatchTable,
        recorded: frozenset[tuple[str, str]],
    ) -> None:
        self._client = client
        self._log = log
        self._table = table
        self._patience = _Patience(table, retries=sources.table.retries)
        self._queue = Queue(sources)
        self._tally = Tally(sources, self._queue)
        limits = BatchLimits(
            min(table.rows, client.limits.n_rows),
            min(int(table.megabytes * 1e6), client.limits.n_bytes),
        )
        self._maker = ChunkMaker(sources, log=log, client=client, limits=limits)
        self._recorder = ChunkRecorder(sources, log=log, client=client, recorded=recorded)
        self._n_resumed = 0
        self._not_before = 0.0
        self._woken = asyncio.Event()
        self._chunks: list[Chunk] = []

    async def run(self) -> AskSummary:
        """Send and await batches until all is answered, or something ends it."""
        for begun, sent in self._log.open_chunks():
            chunk = self._maker.resume(begun, sent)
            self._n_resumed += chunk.n_rows
            self._chunks.append(chunk)
        most = 0
        while True:
            await self._send_what_fits()
            most = max(most, sum(chunk.n_rows for chunk in self._chunks))
            if self._woken.is_set() or not (self._chunks or self._is_waiting()):
                break
            await self._rest()
            for chunk in [c for c in self._chunks if c.due <= time.monotonic()]:
                if not self._woken.is_set():
                    await self._look(chunk)
        summary = self._tally.summary(most_in_flight=most)
        n_items = summary.n_items + self._n_resumed
        return msgspec.structs.replace(summary, n_items=n_items)

    def interrupt(self) -> None:
        """Send nothing new and await nothing; batches under way are collected by the next run."""
        self._tally.end("interrupted")
        self._woken.set()

    def progress(self) -> AskProgress:
        """Say where it stands."""
        under_way = sum(chunk.n_rows - chunk.n_done for chunk in self._chunks)
        told = self._tally.progress(in_flight=under_way, limit=under_way)
        n_items = None if told.n_items is None else told.n_items + self._n_resumed
        return msgspec.structs.replace(told, n_items=n_items)

    def _is_waiting(self) -> bool:
        """Whether something is left to send, though not now."""
        return self._tally.stopped is None and not self._queue.is_empty

    async def _send_what_fits(self) -> None:
        while (
            self._tally.stopped is None
            and len(self._chunks) < self._table.at_once
            # What an earlier run sent and the budget cannot hold is charged first.
            and all(chunk.reservations for chunk in self._chunks)
            and time.monotonic() >= self._not_before
        ):
            chunk = self._maker.make(self._queue, self._tally)
            if chunk is None:
                if self._maker.is_held and not self._chunks:
                    self._tally.end("budget")  # somebody else holds what is left of it
                return
            self._chunks.append(chunk)
            await self._submit(chunk)

    async def _submit(self, chunk: Chunk) -> None:
        """Send a chunk; what goes wrong is seen to when it is due."""
        chunk.is_sent = True
        self._tally.n_sent += chunk.n_rows
        try:
            path = self._log.sent_path(chunk.tag)
            self._sent(chunk, await self._client.submit(path, tag=chunk.tag))
        except SubmissionUnknownError as error:
            self._patience.failed(error)
            chunk.due = time.monotonic() + self._table.search_s
        except ModelError as error:
            self._patience.failed(error)
            chunk.is_sent = False
            chunk.due = self._patience.next_look(is_news=False)

    def _sent(self, chunk: Chunk, batch_id: str) -> None:
        self._patience.succeeded()
        chunk.batch_id = batch_id
        self._log.note(LogLine(event="submitted", tag=chunk.tag, at=time.time(), batch_id=batch_id))
        self._log.sent_path(chunk.tag).unlink(missing_ok=True)
        chunk.due = self._patience.next_look(is_news=True)

    async def _look(self, chunk: Chunk) -> None:
        try:
            if chunk.batch_id is None:
                await self._resolve(chunk)
                return
            state = await self._client.state(chunk.batch_id)
            self._patience.succeeded()
            if state.failure is not None:
                self._refused(chunk, state.failure)
            elif state.has_ended:
                await self._collect(chunk, state)
            else:
                chunk.due = self._patience.next_look(is_news=state.n_done > chunk.n_done)
                chunk.n_done = state.n_done
        except ModelError as error:
            self._patience.failed(error)
            chunk.due = self._patience.next_look(is_news=False)

    async def _resolve(self, chunk: Chunk) -> None:
        """Find out whether a chunk without an id was taken; send it only if it was not."""
        if chunk.is_sent:
            search = await self._client.find(
                chunk.tag,
                since=chunk.sent_at,
                n_rows=chunk.n_rows,
                known=self._log.batch_ids(),
            )
            self._patience.succeeded()
            if search.batch_id is not None:
                self._sent(chunk, search.batch_id)
                return
            if search.doubtful:
                chunk.due = self._patience.next_look(is_news=False)
                return
        if self._tally.stopped is None:
            await self._submit(chunk)
            return
        # Nothing new is sent, and nobody has it: the next run asks its questions.
        self._forget(chunk, code="never sent")

    async def _collect(self, chunk: Chunk, state: BatchState) -> None:
        paths: list[Path] = []
        for n, place in enumerate(state.results):
            path = self._log.result_path(chunk.tag, n)
            if not path.exists():
                await self._client.download(place, path)
            paths.append(path)
        await self._recorder.record(chunk, paths, queue=self._queue, tally=self._tally)
        self._log.note(LogLine(event="recorded", tag=chunk.tag, at=time.time()))
        self._end(chunk)
        self._not_before = 0.0

    def _refused(self, chunk: Chunk, code: str) -> None:
        """A whole batch was refused before any of its rows was tried."""
        with Rows(self._log.rows_path(chunk.tag)) as rows:
            jobs = [job_of(rows[n]) for n in range(len(rows))]
        self._forget(chunk, code=code)
        if code not in _QUEUE_FULL:
            message = f"{self._client.where}: a batch was refused ({code})"
            hint = "the vendor's page of batches says more; nothing of it was billed"
            raise ModelError(message, hint=hint)
        for job in jobs:
            self._queue.put_off(job, 0.0)
        # The queue has room again when another batch has ended; else some time later.
        self._not_before = time.monotonic() + self._table.longest_look_s

    def _forget(self, chunk: Chunk, *, code: str) -> None:
        self._log.note(LogLine(event="refused", tag=chunk.tag, at=time.time(), code=code))
        self._end(chunk)

    def _end(self, chunk: Chunk) -> None:
        self._maker.release(chunk)
        self._log.forget(chunk.tag)
        self._chunks.remove(chunk)

    async def _rest(self) -> None:
        """Wait until a chunk is due, or somebody ends the run."""
        now = time.monotonic()
        dues = [chunk.due for chunk in self._chunks]
        if self._is_waiting() and len(self._chunks) < self._table.at_once:
            dues += [self._not_before] if self._not_before > now else []
        wait_s = max(0.0, min(dues, default=now) - now)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._woken.wait()


def _not_under_way(items: Iterable[Item], log: BatchLog, teacher: TeacherTable) -> Iterable[Item]:
    """Leave out what batches of an earlier process hold."""
    held: set[int] = set()
    for begun, _ in log.open_chunks():
        with Rows(log.rows_path(begun.tag)) as rows:
            held.update(int(rows[n].key[:16], 16) for n in range(len(rows)))
    if not held:
        return items
    bodies = bodies_of(teacher)

    def left() -> Iterator[Item]:
        for item in items:
            if int(bodies.key(item)[:16], 16) not in held:
                yield item

    return left()
