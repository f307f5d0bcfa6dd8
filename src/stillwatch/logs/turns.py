"""Conversations as logs carry them: OpenAI's turns and choices, with Anthropic's blocks among them.

Reading is tolerant: what has no field of its own is kept as JSON in `extra`, nothing is skipped.
The names here are offered by `stillwatch.logs.fields`, which is what readers import.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from stillwatch.record.exchange import Answer, Message, canonical_json
from stillwatch.wire.chat import sampling_parameters
from stillwatch.wire.question import Question

_decode = msgspec.json.Decoder().decode
#: Types of content parts that hold plain text: Chat's, the Responses API's, Anthropic's.
_TEXT_TYPES = frozenset({"text", "input_text", "output_text"})


def text(value: object) -> str | None:
    """Take a text that says something.

    Args:
        value: anything.

    Returns:
        The text; a whole number's digits; None when empty, blank or of another kind.
    """
    if isinstance(value, str):
        return value if value and not value.isspace() else None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None


def decoded(value: object) -> Any:
    """Open JSON that a log carries as text, as CSV columns and stringly loggers do.

    Args:
        value: anything.

    Returns:
        What the text holds when it is a JSON object, array or string; else the value itself.
    """
    if not isinstance(value, str | bytes) or not value:
        return value
    start = value.lstrip()[:1]
    if start not in {"{", "[", '"', b"{", b"[", b'"'}:
        return value
    try:
        return _decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return value


def text_of(content: object) -> str:
    """Take the text of a content, whatever wire it comes from.

    Args:
        content: a text, a content part, or a list of parts.

    Returns:
        The text; the text parts joined by newlines; "" when there is none.
    """
    if isinstance(content, str):
        return content
    if isinstance(content, list | tuple):
        return "\n".join(_part_text(part) or "" for part in content if _part_text(part) is not None)
    return _part_text(content) or ""


def extra_of(value: Mapping[str, Any]) -> str | None:
    """Keep what has no field of its own.

    Args:
        value: by name; None values are left out.

    Returns:
        Canonical JSON, or None when nothing is left.
    """
    kept = {name: part for name, part in value.items() if part is not None}
    if not kept:
        return None
    try:
        return canonical_json(kept)
    except (TypeError, OverflowError, RecursionError, msgspec.MsgspecError):
        return '{"not_recorded":"too large a number, or nested too deep"}'


def messages_from_openai(turns: object) -> tuple[Message, ...]:
    """Read a conversation in Chat Completions' shape; Anthropic's content blocks are read too.

    Args:
        turns: the list of messages (or its JSON text); one message; or a bare text, which counts as
            one user turn.

    Returns:
        The turns in order; none is skipped: a turn that is no object keeps its JSON in `extra`.
    """
    turns = decoded(turns)
    if isinstance(turns, str):
        return (Message("user", turns),) if turns else ()
    if isinstance(turns, Mapping):
        turns = turns["messages"] if isinstance(turns.get("messages"), list) else [turns]
    if not isinstance(turns, list | tuple):
        return ()
    return tuple(_message(turn) for turn in turns)


def answers_from_openai(choices: object) -> tuple[Answer, ...]:
    """Read the choices of a Chat Completions (or legacy Completions) reply, in index order.

    Args:
        choices: the list of choices (or its JSON text), a whole reply with `choices`, one
            assistant message, or a bare text.

    Returns:
        One answer a choice; none for what holds no choice.
    """
    choices = decoded(choices)
    if isinstance(choices, Mapping):
        inner = choices.get("choices")
        if isinstance(inner, list):
            choices = inner
        elif "message" in choices or "text" in choices:
            choices = [choices]
        elif "content" in choices or "tool_calls" in choices:
            choices = [{"message": choices}]
        else:
            return ()
    if isinstance(choices, str):
        return (Answer(choices),) if choices else ()
    if not isinstance(choices, list | tuple):
        return ()
    found = [choice for choice in choices if isinstance(choice, Mapping)]
    return tuple(_answer(choice) for choice in sorted(found, key=_index))


def sampling(parameters: object) -> dict[str, Any]:
    """Keep the parameters that say how to sample.

    Args:
        parameters: by the wire's names (or their JSON text); a whole request body will do.

    Returns:
        Them, without the conversation, the model, tools, and whatever names a person.
    """
    found = decoded(parameters)
    if not isinstance(found, Mapping):
        return {}
    kept = {str(k): v for k, v in found.items() if k not in _ENVELOPE and v is not None}
    return sampling_parameters(Question(messages=(), parameters=kept)) if kept else {}


_ENVELOPE = frozenset({
    "messages", "model", "stream", "stream_options", "input", "prompt", "instructions", "system",
    "extra_body", "extra_headers", "api_key", "api_base", "base_url", "headers",
})  # fmt: skip


def hash_tools(tools: object) -> str | None:
    """Hash tool definitions.

    Args:
        tools: the list (or its JSON text).

    Returns:
        16 hex digits, as the gateway gives for the same definitions; None without any.
    """
    tools = decoded(tools)
    if not tools or not isinstance(tools, list | tuple | Mapping):
        return None
    try:
        written = canonical_json(tools)
    except (TypeError, OverflowError, RecursionError, msgspec.MsgspecError):
        written = '"not recorded: too large a number, or nested too deep"'
    return hashlib.sha256(written.encode()).hexdigest()[:16]


def _part_text(part: object) -> str | None:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        return None
    kind, found = part.get("type", "text"), part.get("text")
    if not isinstance(kind, str) or kind not in _TEXT_TYPES:
        return None
    return found if isinstance(found, str) else None


def _message(turn: object) -> Message:
    if isinstance(turn, str):
        return Message("user", turn)
    if not isinstance(turn, Mapping):
        return Message("user", "", extra_of({"turn": turn}))
    role, content = text(turn.get("role")) or "user", turn.get("content")
    more = {k: v for k, v in turn.items() if k not in {"role", "content"} and v is not None}
    if isinstance(content, list | tuple):
        parts = [part for part in content if _part_text(part) is None]
        if parts:
            more["parts"] = parts
    elif content is not None and not isinstance(content, str) and _part_text(content) is None:
        more["parts"] = [content]
    return Message(
        "system" if role == "developer" else role,
        text_of(content),
        extra_of(more) if more else None,
    )


def _answer(choice: Mapping[str, Any]) -> Answer:
    inner = choice.get("message", choice.get("delta"))
    message: Mapping[str, Any] = inner if isinstance(inner, Mapping) else {}
    more = {k: v for k, v in message.items() if k not in _ANSWER_FIELDS and v not in (None, [])}
    if choice.get("logprobs") is not None:
        more["logprobs"] = choice["logprobs"]
    reasoning = message.get("reasoning_content", message.get("reasoning"))
    content = message.get("content", choice.get("text"))
    if isinstance(content, list | tuple):
        parts = [part for part in content if _part_text(part) is None]
        if parts:
            more["parts"] = parts
    return Answer(
        text_of(content),
        text(choice.get("finish_reason")) or "",
        reasoning if isinstance(reasoning, str) and reasoning else None,
        extra_of(more) if more else None,
    )


_ANSWER_FIELDS = frozenset({"role", "content", "reasoning_content", "reasoning"})


def _index(choice: Mapping[str, Any]) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) else 0
