"""An example as one conversation in the Chat Completions shape, whatever wire it came by."""

from __future__ import annotations

from typing import Any, NamedTuple

from stillwatch.distill.items import Example
from stillwatch.model.chat_turns import answer_turn, template_turns, tool_calls_of
from stillwatch.record.exchange import Message
from stillwatch.wire.body import kept
from stillwatch.wire.chat_stream import dict_of, list_of

#: Parts of a message that turns say in a way of their own.
_SAID = frozenset({"text", "tool_use", "thinking", "redacted_thinking"})


class Conversation(NamedTuple):
    """What was said, the teacher's answer last.

    Attributes:
        turns: dictionaries with role and content, and where there are any tool_calls (arguments as
            JSON text), tool_call_id, name and reasoning_content.
        tools: tool definitions by the Chat Completions shape.
    """

    turns: list[dict[str, Any]]
    tools: list[dict[str, Any]]


class UnfitError(Exception):
    """An example cannot be said in the shape asked for; the text is the reason, counted."""


def conversation_of(example: Example, *, reasoning: bool = True) -> Conversation:
    """Lay an example out as one conversation.

    Calls that a wire keeps as turns of their own join the assistant's turn that they belong to, and
    calls without an id get one, which their results take in order.

    Args:
        example: any.
        reasoning: keep the teacher's reasoning where it was told.

    Returns:
        The conversation.

    Raises:
        UnfitError: a turn holds what is no text (an image, a file, audio).
    """
    messages = example.item.messages
    turns: list[dict[str, Any]] = []
    for message, turn in zip(messages, template_turns(messages), strict=True):
        _check_text(message)
        if "tool_calls" in turn:
            turn["tool_calls"] = tool_calls_of(kept(message.extra))
        if turn["role"] == "tool" and not turn["name"]:
            del turn["name"]
        _join(turn, turns)
    last = answer_turn(example.answer)
    if "tool_calls" in last:
        last["tool_calls"] = tool_calls_of(kept(example.answer.extra))
    if not reasoning:
        last.pop("reasoning_content", None)
    turns.append(last)
    _name_calls(turns)
    return Conversation(turns, [dict(tool) for tool in example.item.tools])


def _check_text(message: Message) -> None:
    more = kept(message.extra)
    parts = [dict_of(part).get("type") for part in list_of(more.get("parts"))]
    if any(kind not in _SAID for kind in parts):
        raise UnfitError("a turn that is not text")  # noqa: EM101 - a reason, counted by the caller


def _join(turn: dict[str, Any], turns: list[dict[str, Any]]) -> None:
    before = turns[-1] if turns else {}
    calls_only = "tool_calls" in turn and not turn["content"]
    if calls_only and before.get("role") == turn["role"] == "assistant":
        before["tool_calls"] = [*before.get("tool_calls", []), *turn["tool_calls"]]
    else:
        turns.append(turn)


def _name_calls(turns: list[dict[str, Any]]) -> None:
    waiting: list[str] = []
    n_calls = 0
    for turn in turns:
        if turn["role"] == "tool":
            own = turn.get("tool_call_id") or (waiting[0] if waiting else "")
            turn["tool_call_id"] = own
            waiting = [one for one in waiting if one != own]
        for call in turn.get("tool_calls", []):
            call["id"] = call["id"] or f"call_{n_calls}"
            n_calls += 1
            waiting.append(call["id"])
