"""The one Model protocol: whatever answers questions, behind HTTP, local, replayed or fake."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec

from stillwatch.record.exchange import Answer, Message


class Question(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is asked of a model.

    Attributes:
        messages: the conversation, system turns included, in order.
        model: the model's name at its endpoint; "" lets the endpoint choose.
        parameters: sampling parameters by OpenAI Chat Completions names.
    """

    messages: tuple[Message, ...]
    model: str = ""
    parameters: dict[str, Any] = {}


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a model replied.

    Attributes:
        answers: one per choice.
        model_returned: the model that the reply names.
        input_tokens: tokens of the question (count), or None when not told.
        output_tokens: tokens of all answers (count), or None when not told.
    """

    answers: tuple[Answer, ...]
    model_returned: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None


@runtime_checkable
class Model(Protocol):
    """Answers questions; the order of the replies is the order of the questions."""

    @property
    def name(self) -> str:
        """The model's name as reports print it."""
        ...

    async def answer(self, questions: Sequence[Question]) -> list[Reply]:
        """Answer a batch.

        Args:
            questions: any number.

        Returns:
            One reply a question, in order.
        """
        ...
