"""How many tokens a text can be, at most and about, without the teacher's tokenizer.

Byte-level tokenizers never make more tokens of a text than it has bytes in UTF-8, so bytes plus the
chat template's own tokens are an upper bound. The likely count is a rule of thumb for prose and
code in Latin scripts; other scripts take more tokens, up to the bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from stillwatch.distill.items import Item
from stillwatch.record.exchange import Answer, Message, canonical_json
from stillwatch.wire.question import Reply

#: Tokens that a chat template puts around a message: role and separators. ChatML spends 5; thrice.
_AROUND_MESSAGE = 16
#: Before the first message: dates, tool preambles.
_AROUND_CHAT = 512
#: An image, sound or file part: taken generously, since only its endpoint can count it.
_PART = 6_000
#: UTF-8 bytes a token: a rule of thumb, not measured here.
_BYTES_PER_TOKEN = 3.6


def messages_bound(messages: Iterable[Message], tools: Sequence[dict[str, Any]] = ()) -> int:
    """Bound the tokens of a question.

    Args:
        messages: the conversation, system turns included.
        tools: tool definitions.

    Returns:
        Tokens at most (count).
    """
    total = _AROUND_CHAT
    for message in messages:
        total += _AROUND_MESSAGE + len(message.content.encode())
        if message.extra is not None:
            total += len(message.extra.encode())
            total += _PART * _parts(message.extra)
    if tools:
        total += len(canonical_json(list(tools)).encode()) + _AROUND_MESSAGE * len(tools)
    return total


def answers_bound(answers: Iterable[Answer]) -> int:
    """Bound the tokens of answers from their texts; hidden reasoning cannot be seen.

    Args:
        answers: all choices.

    Returns:
        Tokens at most (count).
    """
    total = 0
    for answer in answers:
        total += _AROUND_MESSAGE + len(answer.text.encode())
        total += len((answer.reasoning or "").encode()) + len((answer.extra or "").encode())
    return total


def output_of(reply: Reply) -> int:
    """Say how many tokens a reply is charged with.

    Args:
        reply: what came.

    Returns:
        Tokens as the endpoint told them, else their bound (count).
    """
    if reply.output_tokens is None:
        return answers_bound(reply.answers)
    return reply.output_tokens


def input_bound(item: Item, system: str = "") -> int:
    """Bound the input tokens of an item.

    Args:
        item: what is asked.
        system: the teacher's system prompt, put before it.

    Returns:
        Tokens at most (count).
    """
    around = _AROUND_MESSAGE + len(system.encode()) if system else 0
    return around + messages_bound(item.messages, item.tools)


def tokens_estimate(text: str) -> int:
    """Guess the tokens of a text.

    Args:
        text: any.

    Returns:
        Tokens, about (count).
    """
    return round(len(text.encode()) / _BYTES_PER_TOKEN)


def input_estimate(item: Item, system: str = "") -> int:
    """Guess the input tokens of an item.

    Args:
        item: what is asked.
        system: the teacher's system prompt, put before it.

    Returns:
        Tokens, about (count).
    """
    total = tokens_estimate(system) + 3
    for message in item.messages:
        total += 4 + tokens_estimate(message.content) + tokens_estimate(message.extra or "")
    if item.tools:
        total += tokens_estimate(canonical_json(list(item.tools)))
    return total


def _parts(extra: str) -> int:
    """Count content parts that are no text; JSON of ours, so anything else counts none."""
    try:
        parts = msgspec.json.decode(extra, type=dict[str, Any]).get("parts", ())
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return 0
    return len(parts) if isinstance(parts, list) else 0
