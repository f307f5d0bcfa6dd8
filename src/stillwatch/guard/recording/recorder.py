"""Turns what happened at the gateway into exchanges and makes them durable.

An exchange is handed to the system before its answer ends, so a killed gateway has on record
whatever it acknowledged; the disk follows in groups. Where there is no room, in memory or on the
disk, texts are dropped first and rows after them; the service goes on, and everything is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from stillwatch.errors import EnvironmentUnfitError, RecordError, StillwatchError
from stillwatch.guard.clock import Clock
from stillwatch.guard.connections.relay import Relayed
from stillwatch.guard.keys import Principal
from stillwatch.guard.recording.keeping import Keeping, RecordConfig
from stillwatch.guard.routes.reading import inflated
from stillwatch.guard.routes.wires import CHAT, UNREADABLE, Read, Wire
from stillwatch.guard.telling.metrics import Metrics
from stillwatch.guard.wall.decide import Decision
from stillwatch.model.protocol import Question, Reply
from stillwatch.record.exchange import Answer, Exchange
from stillwatch.record.journal import Journal, Receipt
from stillwatch.record.privacy import KeyedHash
from stillwatch.record.segments import encode_line
from stillwatch.wire.chat import parse_error_code

_log = logging.getLogger("stillwatch.guard")
#: The model server's word that an answer carries a mark, with the key's id.
MARKED_HEADER: Final = b"x-stillwatch-marked"
_NOTHING: Final = Read(Reply(answers=()))
_QUEUE_BYTES: Final = 64 * 2**20
#: Share of the queue that texts may fill; the rest is for rows without them.
_TEXT_SHARE: Final = 0.75
_CHARS_PER_TOKEN: Final = 4  # rough, for simulated times of answers whose stream told no usage


def new_exchange_id() -> str:
    """Make up the id of an exchange.

    Returns:
        24 hex digits, in order of time.
    """
    return f"{time.time_ns():016x}{secrets.token_hex(4)}"


@dataclass(slots=True)
class Asked:
    """One question at the gateway.

    Attributes:
        exchange_id: unique.
        principal: who asks.
        question: as parsed, or None when the body is not a conversation.
        decision: what the wall does.
        started_at: UTC epoch seconds.
        address: the client's, or None.
        user_agent: the client's, or None.
        tags: further facts.
        wire: the wire that it came on.
        session: the conversation that it belongs to, or None.
        keeps_bodies: its texts are kept in full whatever `record.bodies` says.
        decision_s: seconds from its last byte to the decision.
        traceparent: the client's own trace (W3C), or None.
    """

    exchange_id: str
    principal: Principal
    question: Question | None
    decision: Decision
    started_at: float
    address: str | None = None
    user_agent: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    wire: Wire = CHAT
    session: str | None = None
    keeps_bodies: bool = False
    decision_s: float = 0.0
    traceparent: bytes | None = None


@dataclass(frozen=True)
class Recording:
    """How exchanges are recorded.

    Attributes:
        hasher: hashes addresses, and words where texts are not kept.
        clock: says when answers began and ended.
        metrics: counts.
        config: what is kept.
        queue_bytes: bound on what waits for the disk (bytes).
    """

    hasher: KeyedHash
    clock: Clock
    metrics: Metrics
    config: RecordConfig = field(default_factory=RecordConfig)
    queue_bytes: int = _QUEUE_BYTES


class Recorder:
    """Writes exchanges to the journal.

    Args:
        journal: where to.
        recording: how.

    Attributes:
        is_failing: the last exchange could not be recorded.
        given_out: told account, time and output tokens of each answer, or None.
        noticed: told every exchange, refused ones too; or None.
    """

    def __init__(self, journal: Journal, recording: Recording) -> None:
        self._journal = journal
        self._clock = recording.clock
        self._metrics = recording.metrics
        self._config = recording.config
        self._queue_bytes = recording.queue_bytes
        self._keeping = Keeping(recording.config.bodies, recording.hasher)
        self._writing: set[asyncio.Task[None]] = set()
        self._ip_hash = lru_cache(4096)(recording.hasher.address)
        self._network_hash = lru_cache(4096)(recording.hasher.network)
        self.is_failing = False
        self.given_out: Callable[[str, float, int], None] | None = None
        self.noticed: Callable[[Asked, Relayed, Reply], None] | None = None

    @property
    def is_before_end(self) -> bool:
        """Whether an answer's end waits for its record."""
        return self._config.acknowledge != "sent"

    @property
    def queued_bytes(self) -> int:
        """Bytes of exchanges that wait for the disk."""
        return self._journal.queued_bytes

    async def flush(self) -> None:
        """Wait until every exchange whose recording has begun is durable, or has failed."""
        if self._writing:
            await asyncio.wait(set(self._writing))
        with contextlib.suppress(StillwatchError):  # nothing is durable beyond a closed journal
            await self._journal.flush()

    async def refused(self, asked: Asked, *, status: int, code: str) -> None:
        """Record a question that the wall answered itself.

        Args:
            asked: the question.
            status: HTTP status sent.
            code: the error code sent.
        """
        await self._record(asked, _NOTHING, Relayed(status=status, error=code))

    async def answered(self, asked: Asked, relayed: Relayed) -> None:
        """Record a question that went to the model server, whatever came of it.

        Args:
            asked: the question.
            relayed: what came of it.
        """
        read = _read_reply(asked.wire, relayed)
        if self.given_out is not None:
            tokens = read.reply.output_tokens or 0
            self.given_out(asked.principal.account, asked.started_at, tokens)
        await self._record(asked, read, relayed)

    async def _record(self, asked: Asked, read: Read, relayed: Relayed) -> None:
        try:
            if self.noticed is not None:
                self.noticed(asked, relayed, read.reply)
            whole = self._exchange(asked, read, relayed)
            exchange = self._keeping.keep(whole, whole=asked.keeps_bodies)
        except Exception as error:
            # An answer must not break for its record. The error's text may quote what was asked.
            self._failed(RecordError(f"guard: an exchange cannot be built: {type(error).__name__}"))
            return
        receipt = self._put(exchange)
        if receipt is None:
            return
        self._metrics.count("output_tokens", read.reply.output_tokens or 0)
        if receipt.is_written and self._config.acknowledge != "synced":
            self._noted()
            return
        # The rare ways: a long line, a new segment, a disk that is waited for.
        task = asyncio.create_task(self._settle(receipt, exchange))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        if self.is_before_end:
            _, late = await asyncio.wait({task}, timeout=self._config.wait_s)
            if late:
                self._metrics.count("record_late")

    def _put(self, exchange: Exchange, *, is_thin: bool = False) -> Receipt | None:
        """Hand an exchange to the journal; for want of room without its texts, or not at all."""
        queued = self._journal.queued_bytes
        room = self._queue_bytes * (1.0 if is_thin else _TEXT_SHARE) - queued
        why: Exception | None = None
        if room > 0:
            try:
                line = encode_line(exchange)
                if len(line) <= room:
                    return self._journal.put(line)
            except (StillwatchError, OSError) as error:
                why = error
        if not is_thin:
            # A row is small: where a long line finds no room, or cannot be written, it may.
            return self._put_thin(exchange)
        self._failed(why)
        return None

    def _put_thin(self, exchange: Exchange) -> Receipt | None:
        receipt = self._put(self._keeping.thin(exchange), is_thin=True)
        if receipt is not None:
            self._metrics.count("record_bodies_dropped")
        return receipt

    async def _settle(self, receipt: Receipt, exchange: Exchange) -> None:
        try:
            await (receipt.synced() if self._config.acknowledge == "synced" else receipt.written())
        except EnvironmentUnfitError:
            again = self._put_thin(exchange)
            if again is None:
                return
            try:
                await again.written()
            except (StillwatchError, OSError) as error:
                self._failed(error)
                return
        except (StillwatchError, OSError) as error:
            self._failed(error)
            return
        self._noted()

    def _noted(self) -> None:
        self._metrics.count("recorded")
        self.is_failing = False

    def _failed(self, error: Exception | None) -> None:
        self._metrics.count("record_failures")
        if error is None:
            self._metrics.count("record_rows_dropped")
        if not self.is_failing:
            why = error or "more waits for the disk than limits.record_queue_bytes"
            _log.error("the record cannot be written, serving on without: %s", why)
        self.is_failing = True

    def _exchange(self, asked: Asked, read: Read, relayed: Relayed) -> Exchange:
        decision, principal, address = asked.decision, asked.principal, asked.address
        reply = read.reply
        first_output_at, ended_at = self._clock.answered(
            asked.started_at, _tokens(reply), first_s=relayed.first_s, whole_s=relayed.whole_s
        )
        mark_key_id = relayed.header(MARKED_HEADER)
        tags = dict(asked.tags)
        if decision.would_have is not None:
            tags["would_have"] = decision.would_have
        if relayed.is_cut:
            tags["answer"] = "cut in the record"
        circumstances = Exchange(
            exchange_id=asked.exchange_id,
            account=principal.account,
            started_at=asked.started_at,
            first_output_at=first_output_at if reply.answers else None,
            ended_at=ended_at,
            status=relayed.status,
            error=relayed.error,
            streamed=relayed.is_streamed,
            org=principal.org,
            key_hash=principal.key_hash,
            ip_hash=self._ip_hash(address) if address else None,
            network_hash=self._network_hash(address) if address else None,
            user_agent=asked.user_agent,
            # The first answer of a chain names the conversation that later ones build on.
            session=asked.session or read.response_id,
            action=decision.action,
            campaign_id=decision.campaign_id,
            mark_key_id=mark_key_id,
            origin="guard",
            tags=tags,
        )
        question = asked.question or Question(messages=())
        return asked.wire.join(question, reply, circumstances)


def _read_reply(wire: Wire, relayed: Relayed) -> Read:
    """Read the copied answer; what cannot be read leaves its reason in `relayed.error`."""
    if relayed.status == 0 or relayed.failure is not None:
        return _NOTHING
    try:
        body = inflated(b"".join(relayed.chunks), relayed.header(b"content-encoding"))
    except zlib.error:
        relayed.error = relayed.error or UNREADABLE
        return _NOTHING
    if relayed.status >= 400:
        relayed.error = relayed.error or parse_error_code(body)
        return _NOTHING
    read = wire.read(body, streamed=relayed.is_streamed)
    relayed.error = relayed.error or read.error
    return read


def _tokens(reply: Reply) -> int:
    if reply.output_tokens is not None:
        return reply.output_tokens
    return sum(map(_length, reply.answers)) // _CHARS_PER_TOKEN


def _length(answer: Answer) -> int:
    return len(answer.text) + len(answer.reasoning or "")
