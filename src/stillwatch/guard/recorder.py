"""Turns what happened at the gateway into exchanges and makes them durable.

The answer does not wait for the disk: an exchange is written once its answer has left. A journal
that fails stops nothing but the record, and is counted.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from stillwatch.errors import StillwatchError
from stillwatch.guard.clock import Clock
from stillwatch.guard.decide import Decision
from stillwatch.guard.keys import Principal
from stillwatch.guard.metrics import Metrics
from stillwatch.guard.relay import Relayed
from stillwatch.model.protocol import Question, Reply
from stillwatch.record.exchange import Answer, Exchange
from stillwatch.record.journal import Journal
from stillwatch.record.privacy import KeyedHash
from stillwatch.wire.chat import (
    ChunkAssembler,
    exchange_from,
    parse_error_code,
    parse_response,
)

_log = logging.getLogger("stillwatch.guard")
#: The model server's word that an answer carries a mark, with the key's id.
MARKED_HEADER: Final = b"x-stillwatch-marked"
_CHARS_PER_TOKEN: Final = 4  # rough, for simulated times of answers whose stream told no usage


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
    """

    exchange_id: str
    principal: Principal
    question: Question | None
    decision: Decision
    started_at: float
    address: str | None = None
    user_agent: str | None = None
    tags: dict[str, str] = field(default_factory=dict)


class Recorder:
    """Writes exchanges to the journal.

    Args:
        journal: where to.
        hasher: hashes addresses.
        clock: says when answers began and ended.
        metrics: counts.

    Attributes:
        given_out: told account, time and output tokens of each answer, or None.
    """

    def __init__(
        self, journal: Journal, *, hasher: KeyedHash, clock: Clock, metrics: Metrics
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._metrics = metrics
        self._writing: set[asyncio.Future[None]] = set()
        self._ip_hash = lru_cache(4096)(hasher.address)
        self._network_hash = lru_cache(4096)(hasher.network)
        self.is_failing = False
        self.given_out: Callable[[str, float, int], None] | None = None

    async def flush(self) -> None:
        """Wait until every exchange whose recording has begun is durable, or has failed."""
        if self._writing:
            await asyncio.wait(set(self._writing))

    async def refused(self, asked: Asked, *, status: int, code: str) -> None:
        """Record a question that the wall answered itself.

        Args:
            asked: the question.
            status: HTTP status sent.
            code: the error code sent.
        """
        await self._write(asked, Reply(answers=()), Relayed(status=status, error=code))

    async def answered(self, asked: Asked, relayed: Relayed) -> None:
        """Record a question that went to the model server, whatever came of it.

        Args:
            asked: the question.
            relayed: what came of it.
        """
        reply = _read_reply(relayed)
        if self.given_out is not None:
            self.given_out(asked.principal.account, asked.started_at, reply.output_tokens or 0)
        await self._write(asked, reply, relayed)

    async def _write(self, asked: Asked, reply: Reply, relayed: Relayed) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._writing.add(done)
        try:
            await self._journal.append(self._exchange(asked, reply, relayed))
        except (StillwatchError, OSError) as error:
            self._metrics.count("record_failures")
            if not self.is_failing:
                _log.error("the record cannot be written, serving on without: %s", error)
            self.is_failing = True
        else:
            self._metrics.count("recorded")
            self._metrics.count("output_tokens", reply.output_tokens or 0)
            self.is_failing = False
        finally:
            done.set_result(None)
            self._writing.discard(done)

    def _exchange(self, asked: Asked, reply: Reply, relayed: Relayed) -> Exchange:
        decision, principal, address = asked.decision, asked.principal, asked.address
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
            action=decision.action,
            campaign_id=decision.campaign_id,
            mark_key_id=mark_key_id,
            origin="guard",
            tags=tags,
        )
        question = asked.question or Question(messages=())
        return exchange_from(question, reply, circumstances=circumstances)


def _read_reply(relayed: Relayed) -> Reply:
    """Read the copied answer; what cannot be read leaves its reason in `relayed.error`."""
    nothing = Reply(answers=())
    if relayed.status == 0 or relayed.failure is not None:
        return nothing
    try:
        body = _decompressed(b"".join(relayed.chunks), relayed.header(b"content-encoding"))
        if relayed.status >= 400:
            relayed.error = relayed.error or parse_error_code(body)
            return nothing
        if not relayed.is_streamed:
            return parse_response(body)
    except (StillwatchError, zlib.error):
        relayed.error = relayed.error or "unreadable_answer"
        return nothing
    assembler = ChunkAssembler()
    assembler.feed(body)
    reply = assembler.reply()
    relayed.error = relayed.error or assembler.error_code
    return reply


def _decompressed(body: bytes, encoding: str | None) -> bytes:
    if encoding not in {"gzip", "deflate"}:
        return body
    # A server may compress although it was asked not to; 64 times the copy's size is a bomb.
    return zlib.decompressobj(wbits=47).decompress(body, 64 * len(body) + 1024)


def _tokens(reply: Reply) -> int:
    if reply.output_tokens is not None:
        return reply.output_tokens
    return sum(map(_length, reply.answers)) // _CHARS_PER_TOKEN


def _length(answer: Answer) -> int:
    return len(answer.text) + len(answer.reasoning or "")
