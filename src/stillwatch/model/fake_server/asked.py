"""What was asked of a fake endpoint, read from a body of any of the three wires."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from stillwatch.model.fake_server.tally import question_key

#: The routes that answer questions, by how their path ends.
WIRES = {
    "/chat/completions": "openai.chat",
    "/responses": "openai.responses",
    "/messages": "anthropic.messages",
}
_decode = msgspec.json.Decoder().decode
_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


class BadAskingError(Exception):
    """A body that the endpoint cannot answer.

    Args:
        message: what is wrong with it.
    """


class Asked(NamedTuple):
    """One question.

    Attributes:
        wire: openai.chat, openai.responses or anthropic.messages.
        key: `question_key` of its turns.
        text: the last user turn.
        model: the model asked for, or "".
        body: everything that was sent.
        is_streamed: whether the answer shall come as server-sent events.
        max_tokens: the longest answer allowed (count), or None.
        n: answers asked for (count).
        input_tokens: of all turns (count).
    """

    wire: str
    key: str
    text: str
    model: str
    body: dict[str, Any]
    is_streamed: bool
    max_tokens: int | None
    n: int
    input_tokens: int


def count_tokens(text: str) -> int:
    """Count the tokens of a text as the fake endpoint does: four characters each.

    Args:
        text: any.

    Returns:
        Tokens (count), at least 1.
    """
    return (len(text) + 3) // 4 or 1


def read_asked(wire: str, body: bytes) -> Asked:
    """Read a question.

    Args:
        wire: of the route that it came by.
        body: JSON bytes.

    Returns:
        The question.

    Raises:
        BadAskingError: not JSON, or not a conversation.
    """
    try:
        found = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        message = "the body must be JSON"
        raise BadAskingError(message) from None
    return asked_from(wire, found)


def asked_from(wire: str, found: object) -> Asked:
    """Read a question from a body that is decoded already.

    Args:
        wire: by which wire it is to be read.
        found: the body.

    Returns:
        The question.

    Raises:
        BadAskingError: not a conversation.
    """
    if not isinstance(found, dict):
        message = "the body must be a JSON object"
        raise BadAskingError(message)
    turns = list(_turns(wire, found))
    if not turns:
        message = "the body must hold at least one turn"
        raise BadAskingError(message)
    limits = [found[name] for name in _LIMITS if isinstance(found.get(name), int)]
    if wire == "anthropic.messages" and not limits:
        message = "max_tokens: Field required"
        raise BadAskingError(message)
    n = found.get("n")
    model = found.get("model")
    return Asked(
        wire=wire,
        key=question_key(turns),
        text=next((text for role, text in reversed(turns) if role == "user"), ""),
        model=model if isinstance(model, str) else "",
        body=found,
        is_streamed=found.get("stream") is True,
        max_tokens=limits[0] if limits else None,
        n=n if isinstance(n, int) and wire == "openai.chat" else 1,
        input_tokens=sum(count_tokens(text) for _, text in turns),
    )


def _turns(wire: str, found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if wire == "openai.responses":
        first, turns = found.get("instructions"), found.get("input")
    else:
        first, turns = found.get("system"), found.get("messages")
    if first:
        yield "system", _text(first)
    if isinstance(turns, str):
        yield "user", turns
        return
    if not isinstance(turns, list):
        message = "the turns must be a list"
        raise BadAskingError(message)
    for turn in turns:
        if not isinstance(turn, dict):
            message = "a turn must be an object"
            raise BadAskingError(message)
        yield str(turn.get("role") or turn.get("type")), _text(turn.get("content"))


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = [part.get("text") for part in content if isinstance(part, dict)]
    return "\n".join(text for text in texts if isinstance(text, str))
