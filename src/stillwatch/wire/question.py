"""What is asked of a model and what it replies, whatever wire carries it."""

from __future__ import annotations

from typing import Any, NamedTuple

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


class PosedQuestion(NamedTuple):
    """A question, and how its answer shall travel.

    Attributes:
        question: what is asked.
        is_streamed: whether the answer shall come as server-sent events.
    """

    question: Question
    is_streamed: bool


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
