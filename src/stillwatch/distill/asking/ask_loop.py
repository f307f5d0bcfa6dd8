"""The asking itself: a bounded window of workers that feed themselves.

A worker takes the next question when pace and budget allow, sends it, records what came, and takes
the next. Workers that find nothing to do wait; whoever makes room invites one. What failed and may
succeed later goes before what was never asked, so that the tail of a run is short.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from typing import NamedTuple

from stillwatch.distill.asking.ask_queue import Job, Queue, Sources
from stillwatch.distill.asking.ask_table import AskProgress, AskSummary, AskTable, Stopped
from stillwatch.distill.asking.ask_tally import Tally
from stillwatch.distill.asking.ask_workers import Workers
from stillwatch.distill.asking.attempts import attempt_exchange, outcome_of
from stillwatch.distill.asking.pace import Pace, Signal
from stillwatch.distill.asking.teacher import max_output
from stillwatch.distill.asking.under_way import UnderWay
from stillwatch.distill.money.budget import (
    CHARGED_TAG,
    BudgetHeldError,
    Ledger,
    Reservation,
    charged_text,
)
from stillwatch.distill.money.token_bounds import output_of
from stillwatch.errors import (
    BudgetReachedError,
    ModelAuthError,
    ModelError,
    ModelRateError,
    StillwatchError,
)
from stillwatch.model.client import EndpointClient, Outcome, retry_after_s

#: Questions in a row that fail for good, with no answer between, before a run is given up.
_GIVE_UP = 20
#: Codes of a 429 that no waiting mends: the account has no means left.
_NO_MEANS = frozenset({
    "insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "access_terminated"
})  # fmt: skip
#: Statuses that say the same to every question: no means, no such route or model.
_HOPELESS = frozenset({402, 404, 405})
_LONGEST_BACKOFF_S = 60.0
#: Share of attempts that must succeed for a server to count as healthy; weight of the last one.
_HEALTHY, _RECENT = 0.5, 0.05


class Verdict(NamedTuple):
    """What follows from an outcome.

    Attributes:
        signal: for the pace.
        retry: `no`, `failure` (one of the tries that a question has), or `limit` (none of them).
        is_fatal: whether no further question can fare better.
    """

    signal: Signal
    retry: str = "no"
    is_fatal: bool = False


def verdict_of(outcome: Outcome) -> Verdict:
    """Say what follows from an outcome.

    Args:
        outcome: as the client gave it.

    Returns:
        The verdict.
    """
    error, status = outcome.error, outcome.status
    if error is None:
        return Verdict("clean")
    if (
        isinstance(error, ModelAuthError)
        or status in _HOPELESS
        or 300 <= status < 400
        or outcome.code in _NO_MEANS
        or outcome.code == "tls"
    ):
        return Verdict("neutral", is_fatal=True)
    if isinstance(error, ModelRateError):
        return Verdict("limited", retry="limit")
    if error.retryable or outcome.code == "unreadable" or status == 409:
        return Verdict("trouble", retry="failure")
    return Verdict("neutral")


class Asker:
    """One run of asking over HTTP.

    Args:
        sources: what it works with.
        client: where questions go.
        under_way: where attempts are noted before they are sent.
    """

    def __init__(self, sources: Sources, client: EndpointClient, under_way: UnderWay) -> None:
        table = sources.table
        self._sources = sources
        self._client = client
        self._under_way = under_way
        self._queue = Queue(sources)
        self._pace = Pace(
            most=table.concurrency,
            start=table.start,
            requests_per_minute=table.requests_per_minute,
            tokens_per_minute=table.tokens_per_minute,
        )
        self._max_output = max_output(sources.teacher)
        self._tally = Tally(sources, self._queue)
        self._jitter = random.Random(0)  # spreads retries; nothing that is recorded hangs on it
        # Answers on their way to the disk count as under way: what a crash can cost is this window.
        self._widest = table.concurrency
        self._workers = Workers(self._work, self._room, most=self._widest)
        self._busy = 0
        self._health = 1.0  # share of the last attempts that the server did not fail
        self._raised: StillwatchError | None = None
        self._check_at = -math.inf

    async def run(self) -> AskSummary:
        """Ask until all is answered, or something ends it.

        Returns:
            What it came to.

        Raises:
            StillwatchError: what `ask_items` raises.
        """
        await self._workers.run()
        if self._raised is not None:
            raise self._raised
        return self._tally.summary(
            n_limited=self._pace.n_limited, most_in_flight=self._pace.most_in_flight
        )

    def interrupt(self) -> None:
        """Ask nothing new; what is under way is awaited."""
        self._end("interrupted")

    def progress(self) -> AskProgress:
        """Say where it stands.

        Returns:
            Plain data.
        """
        return self._tally.progress(
            in_flight=self._pace.in_flight,
            limit=int(self._pace.limit),
            held_s=self._pace.held_s(time.monotonic()),
        )

    async def _work(self) -> None:
        while (job := await self._next()) is not None:
            self._busy += 1
            try:
                await self._attempt(job)
            except StillwatchError as error:
                self._raise(error)
            finally:
                self._busy -= 1

    def _room(self, now: float) -> float:
        if self._tally.stopped is not None or self._queue.is_empty:
            return math.inf
        return self._pace.wait_s(now)

    async def _next(self) -> Job | None:
        """The next job, held in the ledger and allowed by the pace; None when there is no more."""
        while self._tally.stopped is None:
            now = time.monotonic()
            wait = self._pace.wait_s(now)
            if wait == 0.0:
                is_open = self._queue.n_waiting < self._widest and not self._queue.is_read
                job = self._queue.take(now, fresh=is_open)
                if job is not None:
                    wait = self._admit(job, now)
                    if wait == 0.0:
                        self._workers.invite()
                        return job
                elif self._queue.is_empty and not self._busy:
                    return None
                elif is_open and not self._queue.is_read:
                    await asyncio.sleep(0)  # many were passed over
                    continue
                else:
                    wait = self._queue.due_in(now)
            if self._tally.stopped is None:
                await self._workers.park(now, wait)
        return None

    def _admit(self, job: Job, now: float) -> float:
        """Reserve a job's worst case; returns how long it must wait instead, 0 when it need not."""
        wait = self._pace.wait_s(now, job.n_input + (self._max_output or 0))
        if wait == 0.0:
            try:
                if now >= self._check_at:
                    self._sources.permission.require(time.time())
                    self._check_at = now + 1.0
                job.reservation = self._sources.ledger.reserve(job.n_input, self._max_output)
            except BudgetHeldError:
                wait = math.inf
            except BudgetReachedError as error:
                self._end("budget", error)
                wait = math.inf
            except StillwatchError as error:
                self._raise(error)
                wait = math.inf
        if wait > 0.0:
            self._queue.put_back(job)
        return wait

    async def _attempt(self, job: Job) -> None:
        sources = self._sources
        stream = sources.table.stream
        body = sources.bodies.encode(job.item, stream=stream)
        job.tries += 1
        self._tally.n_sent += 1
        started_at = time.time()
        assert job.reservation is not None
        sent = self._under_way.begin(job.key, job.reservation, now=started_at)
        ticket = self._pace.begin(time.monotonic(), job.n_input + (self._max_output or 0))
        outcome = await self._client.ask(body, stream=stream)
        now = time.monotonic()
        verdict = verdict_of(outcome)
        facts = {**outcome.facts, **_charged(job.reservation, outcome)}
        tokens = _settle(job, outcome, sources.ledger)
        self._pace.end(ticket, now, verdict.signal, headers=outcome.headers, tokens=tokens)
        exchange = attempt_exchange(
            job.item,
            sources.teacher,
            reply=outcome.reply,
            status=outcome.status,
            error=outcome.code,
            started_at=started_at,
            ended_at=started_at + now - ticket.begun_at,
            attempt=job.tries,
            request_key=job.key,
            permission_id=sources.permission.permission_id,
            facts=facts,
            exchange_id=sent.exchange_id,
        )
        self._workers.invite()  # another asks while this one waits for the disk
        await sources.journal.append(exchange)
        self._under_way.end(sent)
        self._conclude(job, outcome, verdict)

    def _conclude(self, job: Job, outcome: Outcome, verdict: Verdict) -> None:
        tally, now = self._tally, time.monotonic()
        reached = outcome_of(outcome.reply, error=outcome.code)
        is_failure = verdict.retry == "failure"
        self._health += _RECENT * ((not is_failure) - self._health)
        if outcome.code is not None:
            tally.fail(outcome.status, outcome.code)
        if verdict.is_fatal:
            self._raise(_fatal(outcome))
        elif reached != "failed":
            tally.final(reached)
        elif verdict.retry == "limit":
            self._queue.put_back(job)
            if self._pace.held_s(now) > self._sources.table.longest_wait_s:
                self._end("held", outcome.error)
        elif is_failure and job.failures < self._sources.table.retries:
            rest_s = _rest_s(job, outcome, self._sources.table, health=self._health)
            self._queue.put_off(job, now + rest_s * self._jitter.uniform(1.0, 1.5))
            job.failures += 1
        else:
            tally.give_up()
            if tally.n_failed_in_a_row >= _GIVE_UP:
                if is_failure:
                    self._end("unanswered", outcome.error)
                elif not tally.n_answered:  # one bad stretch in the midst is no reason
                    self._end("rejected", outcome.error)

    def _end(self, reason: Stopped, problem: StillwatchError | None = None) -> None:
        """Ask nothing new from now on; the first reason tally."""
        self._tally.end(reason, problem)
        self._workers.wake_all()

    def _raise(self, error: StillwatchError) -> None:
        self._raised = self._raised or error
        self._end("unanswered", error)


def _settle(job: Job, outcome: Outcome, ledger: Ledger) -> int | None:
    """Pay for what came; returns the tokens of it, None when nobody knows."""
    reservation, job.reservation = job.reservation, None
    assert reservation is not None
    reply = outcome.reply
    if reply is not None:
        n_output = output_of(reply)
        ledger.settle(reservation, reply.input_tokens, n_output)
        return (reply.input_tokens or reservation.n_input) + n_output
    if outcome.may_be_billed:  # the vendor may charge for what did not arrive
        ledger.settle(reservation, None, None)
        return None
    ledger.release(reservation)
    return 0


def _charged(held: Reservation, outcome: Outcome) -> dict[str, str]:
    """Tag an attempt whose bill is not told with what it is charged with, as `_settle` does."""
    reply = outcome.reply
    if reply is not None and reply.input_tokens is None:
        return {CHARGED_TAG: charged_text(held.n_input, output_of(reply))}
    if reply is None and outcome.may_be_billed:
        return {CHARGED_TAG: charged_text(held.n_input, held.max_output)}
    return {}


def _rest_s(job: Job, outcome: Outcome, table: AskTable, *, health: float) -> float:
    """How long a job that failed rests before its next try, before jitter."""
    told = retry_after_s(outcome.headers)
    if told is not None:
        return min(told, table.longest_wait_s)
    if outcome.code == "disconnected" and not job.failures:
        return 0.0  # a kept connection that the server had closed: nothing is amiss
    # One that fails alone is tried again soon; when most fail, the server needs rest.
    doubled = job.failures if health < _HEALTHY else 0
    return min(_LONGEST_BACKOFF_S, table.first_wait_s * 2.0**doubled)


def _fatal(outcome: Outcome) -> StillwatchError:
    """What to raise for an outcome after which no further question can fare better."""
    error = outcome.error
    assert error is not None
    if outcome.status == 402 or outcome.code in _NO_MEANS:
        return ModelAuthError(str(error), hint="the account has no means left at the endpoint")
    if outcome.status in {404, 405}:
        hint = "check endpoint, wire and model in [teacher]"
        return ModelError(str(error), hint=hint)
    return error
