"""Whole request and reply bodies as gateways log them, whichever of the three wires they spoke.

A gateway's log holds the bodies of many providers side by side and seldom says which wire a body is
of, so the body itself decides: Chat Completions (`messages`, `choices`), the Responses API
(`input`, `output`), Anthropic Messages (`system`, `content` blocks), legacy Completions (`prompt`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from stillwatch.errors import InvalidInputError
from stillwatch.logs.turns import (
    answers_from_openai,
    decoded,
    hash_tools,
    messages_from_openai,
    sampling,
    text,
)
from stillwatch.record.exchange import Answer, Message
from stillwatch.wire import messages, responses

#: Wires by the names that gateways give to the endpoint or the kind of call.
_WIRES = (
    ("responses", "openai.responses"),
    ("anthropic_messages", "anthropic.messages"),
    ("/v1/messages", "anthropic.messages"),
    ("completion", "openai.chat"),
)


class Asked(NamedTuple):
    """What a request body asks.

    Attributes:
        messages: the conversation, system turns included.
        wire: the wire that the body speaks.
        parameters: sampling parameters.
        model: the model asked for, or None.
        tools_hash: hash of the tool definitions, or None.
        streamed: whether the answer was asked for as a stream.
    """

    messages: tuple[Message, ...]
    wire: str
    parameters: dict[str, Any]
    model: str | None = None
    tools_hash: str | None = None
    streamed: bool = False


def asked_of(body: object, *, wire: str | None = None) -> Asked:
    """Read a request body.

    Args:
        body: the object, or its JSON text.
        wire: the wire, where the log names it; else the body's fields tell.

    Returns:
        What it asks; empty when it is no object or holds no conversation.
    """
    found = decoded(body)
    if not isinstance(found, Mapping) or not found:
        return Asked((), wire or "other", {})
    spoken = wire if wire not in {None, "other", "openai.chat"} else _spoken(found)
    return Asked(
        messages=_question(found, spoken or "other"),
        wire=spoken or "other",
        model=text(found.get("model")),
        parameters=sampling(found),
        tools_hash=hash_tools(found.get("tools") or found.get("functions")),
        streamed=found.get("stream") is True,
    )


def answers_of(body: object) -> tuple[Answer, ...]:
    """Read a reply body.

    Args:
        body: the object, a list of assistant messages, a bare text, or JSON text of these.

    Returns:
        The answers; none for an error, an embedding, or nothing.
    """
    found = decoded(body)
    if isinstance(found, Mapping):
        return _object_answers(found)
    return _list_answers(found) if isinstance(found, list) else answers_from_openai(found)


def wire_of(name: object) -> str | None:
    """Tell the wire from the name of an endpoint or a kind of call.

    Args:
        name: a path such as `/v1/messages`, or a call type such as `acompletion`.

    Returns:
        The wire, or None when the name says nothing.
    """
    if not isinstance(name, str) or not name:
        return None
    return next((wire for part, wire in _WIRES if part in name), None)


def _question(body: Mapping[str, Any], wire: str) -> tuple[Message, ...]:
    if wire == "anthropic.messages":
        try:
            return messages.question_from(body).messages
        except InvalidInputError:
            return messages_from_openai(body.get("messages"))
    if wire == "openai.responses":
        try:
            return responses.question_from(body).messages
        except InvalidInputError:
            return messages_from_openai(body.get("input"))
    if isinstance(body.get("messages"), list):
        return messages_from_openai(body["messages"])
    prompt = body.get("prompt")
    asked = prompt if isinstance(prompt, list) else [prompt]
    return tuple(Message("user", one) for one in asked if isinstance(one, str) and one)


def _spoken(body: Mapping[str, Any]) -> str:
    """Tell the wire of a request body from its fields."""
    if isinstance(body.get("messages"), list):
        is_claude = "anthropic_version" in body or isinstance(body.get("system"), str | list)
        return "anthropic.messages" if is_claude else "openai.chat"
    if "instructions" in body or isinstance(body.get("input"), list):
        return "openai.responses"
    if isinstance(body.get("input"), str):  # an embedding's text stands there too
        return "openai.responses" if _ANSWERED & body.keys() else "other"
    return "openai.chat" if "prompt" in body else "other"


#: What a body asks for only where an answer in words is wanted.
_ANSWERED = frozenset({
    "max_output_tokens", "temperature", "top_p", "reasoning", "stream", "tools", "text",
    "previous_response_id", "store", "truncation",
})  # fmt: skip


def _object_answers(body: Mapping[str, Any]) -> tuple[Answer, ...]:
    if isinstance(body.get("choices"), list):
        return answers_from_openai(body["choices"])
    if isinstance(body.get("output"), list):
        return responses.reply_from(body).answers
    if isinstance(body.get("content"), list) and "tool_calls" not in body:
        return messages.reply_from(body).answers
    if "error" in body and "content" not in body:
        return ()
    return answers_from_openai(body)


def _list_answers(found: list[Any]) -> tuple[Answer, ...]:
    if found and all(isinstance(part, Mapping) and "type" in part for part in found):
        if any(part.get("type") in _RESPONSE_ITEMS for part in found):
            return responses.reply_from({"output": found}).answers
        return messages.reply_from({"content": found}).answers
    return tuple(answer for part in found for answer in answers_of(part))


_RESPONSE_ITEMS = frozenset({"message", "reasoning", "function_call"})
