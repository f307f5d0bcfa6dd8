"""A model that is scored: who it is, so that its answers may be kept, and how to call it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stillwatch.distill.file_digests import folder_digest
from stillwatch.model.http import HttpModel
from stillwatch.model.protocol import Model, Question, Reply
from stillwatch.record.exchange import Message, canonical_json

#: Names with a meaning among the models of a score; every other name is a student.
TEACHER, UNTOUCHED = "teacher", "untouched"
_LOCAL_BATCH, _HTTP_CALLS = 64, 16


@dataclass(frozen=True)
class Contender:
    """A model with the identity that its answers are kept under; implements `Model`.

    Attributes:
        model: what answers.
        identity: changes whenever the answers could: a hash of the weights, an endpoint and a
            model's name there. "" keeps nothing: another run asks anew.
        system: a system turn of its own, put before questions that have none; a teacher that is a
            model and its instructions together.
        batch: questions in one call (count).
        calls: calls under way at once (count).
    """

    model: Model
    identity: str = ""
    system: str = ""
    batch: int = _LOCAL_BATCH
    calls: int = 1

    @classmethod
    def of(cls, model: Model) -> Contender:
        """Take a model as it is.

        Args:
            model: any model; one that has an `identity` keeps it.

        Returns:
            The contender. A model behind HTTP is asked one question a call, several at once, so
            that a failure costs one answer.
        """
        if isinstance(model, Contender):
            return model
        identity = str(getattr(model, "identity", ""))
        if isinstance(model, HttpModel):
            return cls(model, identity, batch=1, calls=_HTTP_CALLS)
        return cls(model, identity)

    @classmethod
    def endpoint(cls, model: Model, endpoint: str, *, system: str = "") -> Contender:
        """Take a model behind an endpoint.

        Args:
            model: the client.
            endpoint: its address without secrets; the model's name is added.
            system: its own system turn.

        Returns:
            The contender.
        """
        identity = digest({"endpoint": endpoint, "model": model.name, "system": system})
        return cls(model, identity, system, batch=1, calls=_HTTP_CALLS)

    @classmethod
    def folder(cls, model: Model, folder: Path, *, system: str = "") -> Contender:
        """Take a model that was loaded from a folder.

        Args:
            model: the loaded model.
            folder: where it came from; its files are hashed.
            system: its own system turn.

        Returns:
            The contender.

        Raises:
            RecordError: the folder cannot be read.
        """
        return cls(model, digest({"files": folder_digest(folder), "system": system}), system)

    @property
    def name(self) -> str:
        """The model's name as reports print it."""
        return self.model.name

    async def answer(self, questions: Sequence[Question]) -> list[Reply]:
        """Answer a batch.

        Args:
            questions: any number.

        Returns:
            One reply a question, in order.
        """
        return await self.model.answer([with_system(asked, self.system) for asked in questions])


def with_system(question: Question, system: str) -> Question:
    """Put a system turn before a question that has none.

    Args:
        question: what is asked.
        system: the turn's text, "" for none.

    Returns:
        The question.
    """
    if not system or any(message.role == "system" for message in question.messages):
        return question
    return Question(
        messages=(Message(role="system", content=system), *question.messages),
        model=question.model,
        parameters=question.parameters,
    )


def digest(value: object) -> str:
    """Hash plain data.

    Args:
        value: what JSON can hold.

    Returns:
        SHA-256 of its canonical JSON, hex.
    """
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
