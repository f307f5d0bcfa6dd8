"""Turns as chat templates want them: roles, text, tool calls, tool results and reasoning.

The record keeps what is not text in the shape of the wire that it came by; templates know one
shape, that of Chat Completions with the arguments of a call as an object.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from stillwatch.record.exchange import Answer, Message

_CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)
_THOUGHT = re.compile(r"\A\s*(?:<think>)?(.*?)</think>\s*", re.DOTALL)


class Said(NamedTuple):
    """A generated text, taken apart.

    Attributes:
        text: what the user sees.
        reasoning: what stood between think tags, or None.
        tool_calls: calls in the Chat Completions shape.
    """

    text: str
    reasoning: str | None
    tool_calls: tuple[dict[str, Any], ...]


def template_turns(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Lay a conversation out for a chat template.

    Args:
        messages: the turns, by any wire.

    Returns:
        One dictionary a turn; tool results carry the name of the tool that was called, where an
        earlier turn tells it.
    """
    names: dict[str, str] = {}
    turns = []
    for message in messages:
        more = _decoded(message.extra)
        turn: dict[str, Any] = {"role": message.role, "content": message.content}
        if calls := tool_calls_of(more):
            turn["tool_calls"] = [_with_object(call) for call in calls]
            names |= {str(call["id"]): call["function"]["name"] for call in calls}
        if message.role == "tool":
            asked = _call_id(more)
            turn["tool_call_id"] = asked
            turn["name"] = str(more.get("name") or names.get(asked, ""))
        elif isinstance(more.get("name"), str):
            turn["name"] = more["name"]
        turns.append(turn)
    return turns


def answer_turn(answer: Answer) -> dict[str, Any]:
    """Lay an answer out as the assistant's turn for a chat template.

    Args:
        answer: by any wire.

    Returns:
        The turn, with its reasoning and tool calls where it has any.
    """
    turn: dict[str, Any] = {"role": "assistant", "content": answer.text}
    if answer.reasoning:
        turn["reasoning_content"] = answer.reasoning
    if calls := tool_calls_of(_decoded(answer.extra)):
        turn["tool_calls"] = [_with_object(call) for call in calls]
    return turn


def tool_calls_of(more: dict[str, Any]) -> list[dict[str, Any]]:
    """Find tool calls in what a wire kept beside the text.

    Args:
        more: the decoded `extra` of a message or an answer: Chat Completions `tool_calls`,
            Messages `parts` with `tool_use` blocks, Responses `item` or `items` with
            `function_call` items.

    Returns:
        Calls in the Chat Completions shape, their arguments as JSON text.
    """
    found = [call for call in _dicts(more.get("tool_calls")) if _dict(call.get("function"))]
    calls = [
        _call(
            call.get("id"), _dict(call["function"]).get("name"), call["function"].get("arguments")
        )
        for call in found
    ]
    calls += [
        _call(block.get("id"), block.get("name"), block.get("input"))
        for block in _dicts(more.get("parts"))
        if block.get("type") == "tool_use"
    ]
    return calls + [
        _call(item.get("call_id"), item.get("name"), item.get("arguments"))
        for item in [*_dicts(more.get("items")), *_dicts([more.get("item")])]
        if item.get("type") == "function_call"
    ]


def take_apart(text: str, *, has_tools: bool, thinks: bool) -> Said:
    """Take a generated text apart into what is seen, thought and called.

    Args:
        text: as the model wrote it.
        has_tools: whether tools were offered; without, nothing is read as a call.
        thinks: whether the model's template knows think tags.

    Returns:
        The parts. A call that is not a JSON object with a name stays in the text.
    """
    reasoning = None
    if thinks and (thought := _THOUGHT.match(text)):
        reasoning, text = thought.group(1).strip(), text[thought.end() :]
    calls: list[dict[str, Any]] = []
    if has_tools:
        for found in _CALL.finditer(text):
            call = _parsed(found.group(1))
            if call is None:
                continue
            calls.append(_call(f"call_{len(calls)}", call["name"], call.get("arguments", {})))
        if calls:
            text = _CALL.sub(lambda m: "" if _parsed(m.group(1)) else m.group(0), text).strip()
    return Said(text, reasoning or None, tuple(calls))


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        found = _dict(json.loads(text))
    except ValueError:
        return None
    return found if isinstance(found.get("name"), str) else None


def _call(call_id: object, name: object, arguments: object) -> dict[str, Any]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {})
    function = {"name": str(name or ""), "arguments": text}
    return {"id": str(call_id or ""), "type": "function", "function": function}


def _with_object(call: dict[str, Any]) -> dict[str, Any]:
    """Templates write the arguments with `tojson`, so they need the object and not its text."""
    try:
        arguments = json.loads(call["function"]["arguments"])
    except ValueError:
        return call
    return {**call, "function": {**call["function"], "arguments": arguments}}


def _call_id(more: dict[str, Any]) -> str:
    item = _dict(more.get("item"))
    return str(more.get("tool_call_id") or more.get("tool_use_id") or item.get("call_id") or "")


def _decoded(extra: str | None) -> dict[str, Any]:
    return _dict(msgspec.json.decode(extra)) if extra is not None else {}


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: object) -> Iterable[dict[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []
