"""Attempts: how an asked item becomes an exchange of the record, and how it is found there again.

Every attempt is recorded, the failed ones too. An answer is found by its request key, which is a
tag of its exchange; what is kept in memory of a journal is one place an answer, never a body.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stillwatch.distill.asking.answer_index import FINAL, AnswerIndex, AnswerReader, Outcome
from stillwatch.distill.asking.bodies import bodies_of
from stillwatch.distill.asking.teacher import TeacherTable
from stillwatch.distill.items import Item
from stillwatch.record.exchange import Answer, Exchange
from stillwatch.wire.body import kept
from stillwatch.wire.chat import tools_hash
from stillwatch.wire.question import Question, Reply

__all__ = [
    "FINAL", "AnswerIndex", "Answered", "Outcome", "answered_items", "attempt_exchange",
    "encode_item", "latest_answers", "outcome_of", "request_key",
]  # fmt: skip

_TRUNCATED = frozenset({
    "length",
    "max_tokens",
    "max_output_tokens",
    "model_context_window_exceeded",
})
_FILTERED = frozenset({"content_filter", "content_filtered", "safety", "recitation"})
#: Codes of a refused question that say "the content", not "the form".
_FILTER_CODES = frozenset({"content_filter", "content_policy_violation", "invalid_prompt"})
_NOTHING: Mapping[str, str] = {}


def request_key(item: Item, teacher: TeacherTable) -> str:
    """Name what is asked, by all that decides the answer.

    Args:
        item: what is asked.
        teacher: who is asked.

    Returns:
        SHA-256, 64 hex digits, of canonical JSON of wire, endpoint, further headers, model, the
        conversation with its system turn, tools, parameters and sample.
    """
    return bodies_of(teacher).key(item)


def encode_item(item: Item, teacher: TeacherTable) -> bytes:
    """Write the body that asks an item.

    Args:
        item: what is asked.
        teacher: who is asked, and by which wire.

    Returns:
        JSON bytes.
    """
    return bodies_of(teacher).encode(item)


def outcome_of(reply: Reply | None, *, error: str | None = None) -> Outcome:
    """Say what became of an attempt, by what the wire says alone.

    Wording is not read here: `filters` does that later, and may be changed without asking anew.

    Args:
        reply: what came, or None.
        error: the failure's code, or None.

    Returns:
        The outcome; `filtered` also for a question that the endpoint's content filter refused.
    """
    if reply is None or error is not None:
        return "filtered" if error in _FILTER_CODES else "failed"
    if not reply.answers:
        return "empty"
    answer = reply.answers[0]
    if answer.finish_reason in _TRUNCATED:
        return "truncated"
    if answer.finish_reason in _FILTERED:
        return "filtered"
    if answer.finish_reason == "refusal" or kept(answer.extra).get("refusal"):
        return "refused"
    return "answered" if _has_content(answer) else "empty"


def _has_content(answer: Answer) -> bool:
    if answer.text.strip():
        return True
    found = kept(answer.extra)
    return any(found.get(name) for name in ("tool_calls", "parts", "items", "function_call"))


def attempt_exchange(  # noqa: PLR0913 - an attempt has that many independent facts
    item: Item,
    teacher: TeacherTable,
    *,
    reply: Reply | None,
    status: int,
    error: str | None,
    started_at: float,
    ended_at: float,
    attempt: int,
    request_key: str,
    permission_id: str,
    facts: Mapping[str, str] = _NOTHING,
    exchange_id: str = "",
) -> Exchange:
    """Write an attempt as an exchange.

    Args:
        item: what was asked.
        teacher: who was asked.
        reply: what was answered, or None.
        status: HTTP status, 0 when none came, 200 for a local model.
        error: short code of the failure, never a body; None for an answer.
        started_at: UTC epoch seconds.
        ended_at: UTC epoch seconds.
        attempt: which try of this run it was, from 1.
        request_key: as `request_key` gave it.
        permission_id: the stamp under which it was asked.
        facts: what else the endpoint told: response_id, request_id, system_fingerprint.
        exchange_id: what it was noted under before it was sent; "" makes one.

    Returns:
        The exchange. Its tags are `item_id`, `request_key`, `sample`, `attempt`, `permission`,
        `outcome` and the facts.
    """
    outcome = outcome_of(reply, error=error)
    tags = {
        "item_id": item.item_id, "request_key": request_key, "sample": str(item.sample),
        "attempt": str(attempt), "permission": permission_id, "outcome": outcome, **facts,
    }  # fmt: skip
    return Exchange(
        exchange_id=exchange_id or f"{request_key[:24]}-{os.urandom(4).hex()}",
        started_at=started_at,
        ended_at=ended_at,
        status=status,
        error=error,
        tags=tags,
        **_content(item, teacher, reply or Reply(answers=())),
    )


def _content(item: Item, teacher: TeacherTable, reply: Reply) -> dict[str, Any]:
    """What was asked and answered, as fields of an exchange."""
    bodies = bodies_of(teacher)
    hashed = None
    if item.tools:
        hashed = tools_hash(Question(messages=(), parameters={"tools": list(item.tools)}))
    return {
        "account": "",
        "wire": "other" if teacher.wire == "folder" else teacher.wire,
        "model": bodies.identity.model,
        "model_returned": reply.model_returned or None,
        "messages": bodies.conversation(item),
        "answers": reply.answers,
        "parameters": bodies.parameters(item),
        "tools_hash": hashed,
        "input_tokens": reply.input_tokens,
        "output_tokens": reply.output_tokens,
        "origin": bodies.identity.endpoint,
    }


class Answered(NamedTuple):
    """An item and the exchange that answered it.

    Attributes:
        item: what was asked.
        exchange: the latest final answer; its tag `outcome` says whether it is a whole one.
    """

    item: Item
    exchange: Exchange


def latest_answers(journal_folder: Path, keys: Iterable[str]) -> dict[str, Exchange]:
    """Look up answers in a journal.

    Args:
        journal_folder: the journal; it may be in use.
        keys: request keys.

    Returns:
        The latest final answer by request key; keys without one are left out.

    Raises:
        RecordError: the journal is damaged.
    """
    index = AnswerIndex.of(journal_folder)
    with AnswerReader(journal_folder) as reader:
        found = ((key, reader.read(index.place(key), key)) for key in keys)
        return {key: exchange for key, exchange in found if exchange is not None}


def answered_items(
    journal_folder: Path, items: Iterable[Item], teacher: TeacherTable
) -> Iterator[Answered]:
    """Join items with their answers, in the order of the items, one body in memory at a time.

    Args:
        journal_folder: the journal; it may be in use.
        items: what was to be asked.
        teacher: who was asked.

    Yields:
        Each item that has a final answer, truncated, refused and filtered ones included: their
        exchange says so in the tag `outcome`, and may hold no answer at all. Others are left out.

    Raises:
        RecordError: the journal is damaged.
    """
    index = AnswerIndex.of(journal_folder)
    bodies = bodies_of(teacher)
    with AnswerReader(journal_folder) as reader:
        for item in items:
            key = bodies.key(item)
            exchange = reader.read(index.place(key), key)
            if exchange is not None:
                yield Answered(item, exchange)
