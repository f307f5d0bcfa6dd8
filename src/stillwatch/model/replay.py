"""A model that answers from the record: the same questions again, without asking anybody."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from stillwatch.errors import ModelError
from stillwatch.model.protocol import Question, Reply
from stillwatch.record.exchange import Exchange, canonical_json
from stillwatch.record.journal import read_journal
from stillwatch.record.store import read_store
from stillwatch.wire.chat import sampling_parameters, tools_hash


class ReplayModel:
    """Answers each recorded question with what was recorded.

    A question that was recorded several times gives its answers in their order, and the last one
    from then on. Every asking counts, so a run that is repeated needs a fresh `ReplayModel`.
    Memory: the replies, each distinct one once.

    Args:
        exchanges: the record; those without an answer are passed over.
        name: the model's name in reports.
    """

    def __init__(self, exchanges: Iterable[Exchange], *, name: str = "replay") -> None:
        self._name = name
        self._replies: dict[bytes, list[Reply]] = {}
        self._asked: dict[bytes, int] = {}
        for exchange in exchanges:
            if exchange.answers:
                self._replies.setdefault(_recorded_key(exchange), []).append(
                    recorded_reply(exchange)
                )

    @classmethod
    def from_store(cls, folder: Path, *, name: str = "replay") -> ReplayModel:
        """Replay a store.

        Args:
            folder: the store.
            name: the model's name in reports.

        Returns:
            The model.
        """
        return cls(read_store(folder), name=name)

    @classmethod
    def from_journal(cls, folder: Path, *, name: str = "replay") -> ReplayModel:
        """Replay a journal.

        Args:
            folder: the journal.
            name: the model's name in reports.

        Returns:
            The model.
        """
        return cls((exchange for _, exchange in read_journal(folder)), name=name)

    @property
    def name(self) -> str:
        """The model's name."""
        return self._name

    async def answer(self, questions: Sequence[Question]) -> list[Reply]:
        """Answer a batch from the record.

        Args:
            questions: any number.

        Returns:
            One reply a question, in order.

        Raises:
            ModelError: a question was never recorded.
        """
        return [self._one(question) for question in questions]

    def _one(self, question: Question) -> Reply:
        key = question_key(question)
        replies = self._replies.get(key)
        if replies is None:
            message = f"{self._name}: question {key.hex()[:12]} is not in the record"
            raise ModelError(message, hint="model, messages, parameters and tools must be the same")
        n_before = self._asked.get(key, 0)
        self._asked[key] = n_before + 1
        return replies[min(n_before, len(replies) - 1)]


def recorded_reply(exchange: Exchange) -> Reply:
    """Read a recorded exchange as the reply that it was.

    Args:
        exchange: any.

    Returns:
        The reply.
    """
    return Reply(
        answers=exchange.answers,
        model_returned=exchange.model_returned or "",
        input_tokens=exchange.input_tokens,
        output_tokens=exchange.output_tokens,
    )


def question_key(question: Question) -> bytes:
    """Hash all of a question that an answer depends on.

    Args:
        question: what is asked.

    Returns:
        32 bytes; equal for questions with the same model, messages, sampling parameters and tools.
    """
    return _key(
        question.model,
        question.messages,
        sampling_parameters(question),
        tools_hash(question),
    )


def _recorded_key(exchange: Exchange) -> bytes:
    return _key(exchange.model, exchange.messages, exchange.parameters, exchange.tools_hash)


def _key(*parts: object) -> bytes:
    return hashlib.sha256(canonical_json(parts).encode()).digest()
