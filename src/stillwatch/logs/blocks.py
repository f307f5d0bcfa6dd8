"""Content as typed blocks: OpenTelemetry's parts, Bedrock Converse's and Anthropic's blocks.

All three say the same (text, reasoning, a tool call, its result, something else) in other words.
They are put into the words of Chat Completions, so that one conversation looks alike whichever log
it was read from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from stillwatch.logs.turns import extra_of, text_of
from stillwatch.record.exchange import Answer, Message, canonical_json

_NOT_RECORDED = "not recorded: too large a number, or nested too deep"


class Blocks(NamedTuple):
    """A content, sorted.

    Attributes:
        texts: plain texts in order.
        reasoning: reasoning texts in order.
        calls: tool calls by Chat's names.
        results: tool results, each the call's id ("" unknown) and the text.
        rest: blocks of other kinds as they came (images, documents, cache points).
    """

    texts: list[str]
    reasoning: list[str]
    calls: list[dict[str, Any]]
    results: list[tuple[str, str]]
    rest: list[Any]

    @property
    def text(self) -> str:
        """The texts joined by newlines."""
        return "\n".join(self.texts)


def sort_blocks(content: object) -> Blocks:
    r"""Sort the blocks of a content by what they are.

    Args:
        content: a text, a block, or a list of both.

    Returns:
        Everything, in the order within its kind; nothing is skipped.

    Example:
        >>> sort_blocks([{"text": "a"}, {"type": "text", "content": "b"}]).text
        'a\nb'
    """
    found = Blocks([], [], [], [], [])
    if content is None:
        return found
    for block in content if isinstance(content, list | tuple) else [content]:
        if isinstance(block, str):
            found.texts.append(block)
        elif not isinstance(block, Mapping) or not _sort(block, found):
            found.rest.append(block)
    return found


def turns_of(role: str, content: object, *, more: Mapping[str, Any] | None = None) -> list[Message]:
    """Turn one message of blocks into turns; a tool's results become turns of the role `tool`.

    Args:
        role: as the log named it; developer becomes system.
        content: its blocks.
        more: fields beside the content to keep, by Chat's names.

    Returns:
        At least one turn: results first, as they answer the turn before.
    """
    found = sort_blocks(content)
    turns = [
        Message("tool", text, extra_of({"tool_call_id": call or None}))
        for call, text in found.results
    ]
    extra = dict(more or {})
    if found.calls:
        extra["tool_calls"] = found.calls
    if found.rest:
        extra["parts"] = found.rest
    if found.reasoning:
        extra["reasoning"] = "\n".join(found.reasoning)
    if found.texts or extra or not turns:
        role = "system" if role == "developer" else role
        turns.append(Message(role, found.text, extra_of(extra)))
    return turns


def answer_of(content: object, finish_reason: str = "") -> Answer:
    """Turn the blocks of one reply into an answer.

    Args:
        content: its blocks.
        finish_reason: as the log named it.

    Returns:
        The answer; a tool's result inside it (server-side tools) stays in `extra`.
    """
    found = sort_blocks(content)
    extra: dict[str, Any] = {}
    if found.calls:
        extra["tool_calls"] = found.calls
    if found.results:
        extra["tool_results"] = [{"tool_call_id": c, "content": t} for c, t in found.results]
    if found.rest:
        extra["parts"] = found.rest
    return Answer(
        found.text,
        finish_reason,
        "\n".join(found.reasoning) if found.reasoning else None,
        extra_of(extra),
    )


def tool_call(name: object, arguments: object, *, call_id: object = None) -> dict[str, Any]:
    """Write a tool call by Chat's names.

    Args:
        name: of the tool.
        arguments: a value, or its JSON text.
        call_id: id of the call, if known.

    Returns:
        The call, its arguments as JSON text.
    """
    call: dict[str, Any] = {"id": call_id} if isinstance(call_id, str) and call_id else {}
    return call | {
        "type": "function",
        "function": {"name": name if isinstance(name, str) else "", "arguments": _json(arguments)},
    }


def _sort(block: Mapping[str, Any], found: Blocks) -> bool:
    """Put one block where it belongs; False when its kind has no place."""
    kind = block.get("type")
    if not isinstance(kind, str):
        return _sort_converse(block, found) if kind is None else False
    if kind in {"text", "input_text", "output_text"}:
        return _add(found.texts, block.get("text", block.get("content")))
    if kind in {"reasoning", "thinking"}:
        return _add(found.reasoning, block.get("thinking", block.get("content")))
    if kind in {"tool_call", "tool_use"}:
        arguments = block.get("input", block.get("arguments"))
        found.calls.append(tool_call(block.get("name"), arguments, call_id=block.get("id")))
        return True
    if kind in {"tool_call_response", "tool_result"}:
        call = block.get("tool_use_id", block.get("id"))
        result = next((block[k] for k in ("response", "result", "content") if k in block), None)
        found.results.append((call if isinstance(call, str) else "", _result(result)))
        return True
    return False


def _sort_converse(block: Mapping[str, Any], found: Blocks) -> bool:
    """Converse's blocks have no type: the name of their one field says it."""
    if isinstance(use := block.get("toolUse"), Mapping):
        found.calls.append(
            tool_call(use.get("name"), use.get("input"), call_id=use.get("toolUseId"))
        )
        return True
    if isinstance(result := block.get("toolResult"), Mapping):
        call = result.get("toolUseId")
        content = result.get("content")
        found.results.append((call if isinstance(call, str) else "", _result(content)))
        return True
    if isinstance(thought := block.get("reasoningContent"), Mapping):
        inner = thought.get("reasoningText")
        return _add(found.reasoning, inner.get("text") if isinstance(inner, Mapping) else None)
    return _add(found.texts, block.get("text"))


def _add(texts: list[str], value: object) -> bool:
    if not isinstance(value, str):
        return False
    texts.append(value)
    return True


def _result(value: object) -> str:
    """The text of a tool's result: its text blocks if it is made of them, else its JSON."""
    if isinstance(value, list | tuple):
        pieces = [p.get("json", p) if isinstance(p, Mapping) else p for p in value]
        return "\n".join(text_of(piece) or _json(piece) for piece in pieces)
    return _json(value)


def _json(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    try:
        return canonical_json(value)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return _NOT_RECORDED
