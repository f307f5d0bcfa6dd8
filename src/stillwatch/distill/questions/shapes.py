"""Conversations out of rows: whatever shape chat data have, as turns of the Chat Completions wire.

Tool calls become `tool_calls` of the assistant's turn and tool results become turns of the role
tool that name their call, so that every wire can be asked from the same item.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from stillwatch.distill.questions.files import refuse_row
from stillwatch.distill.questions.table import Turns
from stillwatch.logs.fields import decoded
from stillwatch.logs.turns import extra_of, text_of
from stillwatch.record.exchange import Message, canonical_json

_ROLES = {
    **dict.fromkeys(("user", "human", "prompter", "customer", "question"), "user"),
    **dict.fromkeys(
        ("assistant", "gpt", "bot", "model", "chatgpt", "bing", "bard", "agent", "ai", "answer"),
        "assistant",
    ),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("function_call", "tool_call", "tool_calls"), "call"),
    **dict.fromkeys(
        ("tool", "observation", "function", "function_response", "tool_response", "tool_result",
         "ipython"),
        "tool",
    ),
}  # fmt: skip
_ROLE_KEYS = ("role", "from", "speaker", "author")
_CONTENT_KEYS = ("content", "value", "text", "message")
#: What a turn carries besides its text that endpoints accept; training weights and ids are not.
_KEPT = ("name", "tool_calls", "tool_call_id")
#: JSON-schema types as function-calling data sets write them after Python.
_TYPES = {
    "dict": "object", "float": "number", "double": "number", "int": "integer", "bool": "boolean",
    "str": "string", "list": "array", "tuple": "array",
}  # fmt: skip
_ANY_TYPE = frozenset({"any", "Any"})
#: Keys of a JSON schema that hold values, not schemas.
_DATA = frozenset({"default", "enum", "const", "examples", "required"})


class Asked(NamedTuple):
    """What a row asks.

    Attributes:
        messages: turns, ending with the one to be answered.
        left_out: turns after it that the row holds (count).
    """

    messages: tuple[Message, ...]
    left_out: int


class Talk(NamedTuple):
    """A conversation as a row holds it.

    Attributes:
        turns: in order.
        n_later: user turns that could not be read as part of it, because the answers between are
            not there (count).
    """

    turns: list[Message]
    n_later: int = 0


def talk_of(value: Any, origin: str) -> Talk:
    """Read a conversation.

    Args:
        value: turns in the shape of Chat Completions, Anthropic, ShareGPT or a log of a dialogue;
            their JSON text; a list of user texts; or steps, each a list of turns, of which the
            first is read, since the later ones depend on answers.
        origin: where it stood.

    Returns:
        The conversation.

    Raises:
        InvalidInputError: a turn is none.
    """
    value = decoded(value)
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        value = value["messages"]
    if not isinstance(value, list | tuple):
        refuse_row(origin, f"the conversation must be a list of turns, got {_kind(value)}")
    n_later = 0
    if value and isinstance(value[0], list | tuple):
        n_later, value = len(value) - 1, value[0]
    if value and all(isinstance(turn, str) for turn in value):
        n_later += len(value) - 1
        value = [{"role": "user", "content": value[0]}]
    found: list[Message] = []
    calls = _Calls()
    for number, turn in enumerate(value, start=1):
        found += _turn(turn, f"{origin}: turn {number}", calls)
    return Talk(found, n_later)


def asked_of(turns: Sequence[Message], which: Turns) -> list[Asked]:
    """Say what of a conversation is asked.

    Args:
        turns: in order.
        which: last: up to the last user turn; end: up to the last user turn or tool result; every:
            each of these places.

    Returns:
        What is asked, none for a conversation without such a turn.
    """
    wanted = {"user"} if which == "last" else {"user", "tool"}
    places = [n for n, turn in enumerate(turns) if turn.role in wanted]
    # Of several in a row (results of parallel calls) the last one is where the answer goes.
    places = [n for n in places if n + 1 == len(turns) or turns[n + 1].role not in wanted]
    if which != "every":
        places = places[-1:]
    return [Asked(tuple(turns[: n + 1]), len(turns) - n - 1) for n in places]


def tools_of(value: Any, origin: str) -> tuple[dict[str, Any], ...]:
    """Read tool definitions.

    Args:
        value: a list (or its JSON text) of definitions by Chat Completions, by Anthropic
            (`input_schema`), or bare functions; one of them; or nothing.
        origin: where they stood.

    Returns:
        Definitions by Chat Completions.

    Raises:
        InvalidInputError: one is none.
    """
    value = decoded(value)
    if value is None or value in ("", [], {}):
        return ()
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list | tuple):
        refuse_row(origin, f"tools must be a list of definitions, got {_kind(value)}")
    return tuple(_tool(decoded(tool), origin) for tool in value)


class _Calls:
    """Ids of tool calls: data sets leave them out, endpoints insist on them."""

    def __init__(self) -> None:
        self._n = 0
        self._open: list[tuple[str, str]] = []

    def begin(self, name: str, told: object) -> str:
        self._n += 1
        call_id = told if isinstance(told, str) and told else f"call_{self._n}"
        self._open.append((call_id, name))
        return call_id

    def end(self, told: object, name: object, origin: str) -> str:
        for place, (call_id, called) in enumerate(self._open):
            if told == call_id or (not told and name in (None, "", called)):
                del self._open[place]
                return call_id
        if isinstance(told, str) and told:
            return told
        return refuse_row(origin, "a tool's result must follow a call of the tool")


def _turn(turn: Any, origin: str, calls: _Calls) -> list[Message]:
    if not isinstance(turn, dict):
        refuse_row(origin, f"a turn must be an object, got {_kind(turn)}")
    told = next((turn[key] for key in _ROLE_KEYS if isinstance(turn.get(key), str)), None)
    role = _ROLES.get(str(told).lower())
    if role is None:
        got = "none" if told is None else f"one of {len(str(told))} characters"
        hint = f"known: {', '.join(sorted(_ROLES))}"
        refuse_row(origin, f"the role must be a known one, got {got}", hint=hint)
    content = next((turn[key] for key in _CONTENT_KEYS if turn.get(key) is not None), None)
    if role == "call":
        return [_assistant("", _listed(decoded(content)), origin, calls=calls)]
    if isinstance(content, dict):
        content = [content] if "type" in content else canonical_json(dict(content))
    if content is not None and not isinstance(content, str | list | tuple):
        refuse_row(origin, f"the content must be a text or a list of parts, got {_kind(content)}")
    return _spoken(role, turn, content, origin=origin, calls=calls)


def _spoken(
    role: str, turn: Mapping[str, Any], content: Any, *, origin: str, calls: _Calls
) -> list[Message]:
    parts = [p for p in content if _part_kind(p)] if isinstance(content, list | tuple) else []
    text = text_of(content) if content is not None else ""
    uses = [part for part in parts if _part_kind(part) == "tool_use"]
    results = [part for part in parts if _part_kind(part) == "tool_result"]
    others = [part for part in parts if part not in uses and part not in results]
    if role == "assistant":
        made = [*_listed(turn.get("tool_calls")), *_listed(turn.get("function_call")), *uses]
        return [_assistant(text, made, origin, calls=calls)]
    if role == "tool":
        call_id = calls.end(turn.get("tool_call_id"), turn.get("name"), origin)
        return [Message("tool", text, extra_of({"tool_call_id": call_id}))]
    found = [
        Message(
            "tool",
            text_of(result.get("content")),
            extra_of({"tool_call_id": calls.end(result.get("tool_use_id"), None, origin)}),
        )
        for result in results
    ]
    if text or others or not found:
        more: dict[str, Any] = {"parts": others} if others else {}
        name = turn.get("name")
        if isinstance(name, str) and name and "role" in turn:
            more = {**more, "name": name}
        found.append(Message(role, text, extra_of(more)))
    return found


def _assistant(text: str, made: list[Any], origin: str, *, calls: _Calls) -> Message:
    tool_calls = [_call(call, origin, calls) for call in made]
    return Message("assistant", text, extra_of({"tool_calls": tool_calls}) if tool_calls else None)


def _call(call: Any, origin: str, calls: _Calls) -> dict[str, Any]:
    call = decoded(call)
    if not isinstance(call, dict):
        refuse_row(origin, f"a tool call must be an object, got {_kind(call)}")
    inner = call["function"] if isinstance(call.get("function"), dict) else call
    name = inner.get("name")
    if not isinstance(name, str) or not name:
        refuse_row(origin, "a tool call must name its tool")
    arguments = inner.get("arguments", inner.get("input", inner.get("parameters", {})))
    if not isinstance(arguments, str):
        arguments = canonical_json(arguments if arguments is not None else {})
    return {
        "id": calls.begin(name, call.get("id")),
        "type": "function",
        "function": {"name": callable_name(name), "arguments": arguments},
    }


def callable_name(name: str) -> str:
    """Write a tool's name with the characters that endpoints accept.

    Args:
        name: as the data have it; dots stand in many.

    Returns:
        Letters, digits, _ and -, at most 64.

    Example:
        >>> callable_name("triangle.area")
        'triangle_area'
    """
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in name)[:64]


def _tool(tool: Any, origin: str) -> dict[str, Any]:
    if not isinstance(tool, dict):
        refuse_row(origin, f"a tool must be an object, got {_kind(tool)}")
    inner = tool["function"] if isinstance(tool.get("function"), dict) else tool
    name = inner.get("name")
    if not isinstance(name, str) or not name:
        refuse_row(origin, "a tool must have a name")
    schema = inner.get("parameters", inner.get("input_schema"))
    function: dict[str, Any] = {"name": callable_name(name)}
    if isinstance(inner.get("description"), str):
        function["description"] = inner["description"]
    if isinstance(schema, dict):
        function["parameters"] = _schema(schema)
    if "strict" in inner:
        function["strict"] = inner["strict"]
    return {"type": "function", "function": function}


def _schema(value: Any, *, is_names: bool = False) -> Any:
    """Translate Python's names of types; the names of properties are left alone."""
    if isinstance(value, list | tuple):
        return [_schema(part) for part in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for key, part in value.items():
        if not is_names and key in _DATA:
            found[key] = part
        elif key == "type" and not is_names and isinstance(part, str):
            if part not in _ANY_TYPE:
                found[key] = _TYPES.get(part, part)
        else:
            is_inner = not is_names and key in {"properties", "$defs", "definitions"}
            found[key] = _schema(part, is_names=is_inner)
    return found


def _part_kind(part: Any) -> str:
    """The kind of a content part that is no text, "" for text."""
    if isinstance(part, str):
        return ""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in {"text", "input_text", "output_text", None} and text_of(part):
        return ""
    return str(kind or "part")


def _listed(value: Any) -> list[Any]:
    value = decoded(value)
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _kind(value: object) -> str:
    return "nothing" if value is None else type(value).__name__
