"""The rows that trainers read, written and read back.

Each shape is a pair: a conversation to a row, and the row to a conversation again. What a shape
cannot say raises `UnfitError`; what it says in another way is noted where it is said.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from stillwatch.distill.asking.conversation import Conversation, UnfitError

Row = dict[str, Any]
#: LLaMA-Factory knows one result a turn: its own converter joins several by this, and so do we.
_BETWEEN_RESULTS = "\n</tool_response>\n<tool_response>\n"
_THINK, _THOUGHT = "<think>\n", "\n</think>\n\n"


class Shape(NamedTuple):
    """How conversations become rows of a trainer's data set.

    Attributes:
        to_row: a conversation, the answer last, as a row.
        from_row: the row as the conversation again.
    """

    to_row: Callable[[Conversation], Row]
    from_row: Callable[[Mapping[str, Any]], Conversation]


def _with_objects(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give calls their arguments as objects: templates write them with `tojson`."""
    return [_mapped(turn, _loaded) for turn in turns]


def _with_texts(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [_mapped(turn, _dumped) for turn in turns]


def _mapped(turn: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    turn = {name: value for name, value in turn.items() if value is not None}
    if not turn.get("tool_calls"):
        turn.pop("tool_calls", None)
        return turn
    calls = []
    for call in turn["tool_calls"]:
        function = call["function"]
        calls.append({**call, "function": {**function, "arguments": change(function["arguments"])}})
    return {**turn, "tool_calls": calls}


def _loaded(arguments: Any) -> Any:
    try:
        found = json.loads(arguments)
    except ValueError:
        raise UnfitError("tool arguments that are not JSON") from None  # noqa: EM101
    if not isinstance(found, dict):
        raise UnfitError("tool arguments that are no object")  # noqa: EM101
    return found


def _dumped(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _text_of(tools: list[dict[str, Any]]) -> dict[str, str]:
    """Tools as JSON text: readers of tables give every tool the others' parameters, as null."""
    return {"tools": json.dumps(tools, ensure_ascii=False)} if tools else {}


def _tools_of(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    told = row.get("tools")
    found = json.loads(told) if isinstance(told, str) and told else told
    return list(found or [])


def _trl(said: Conversation) -> Row:
    return {"messages": _with_objects(said.turns), **_text_of(said.tools)}


def _from_trl(row: Mapping[str, Any]) -> Conversation:
    return Conversation(_with_texts(row["messages"]), _tools_of(row))


def _trl_pair(said: Conversation) -> Row:
    turns = _with_objects(said.turns)
    return {"prompt": turns[:-1], "completion": turns[-1:], **_text_of(said.tools)}


def _from_trl_pair(row: Mapping[str, Any]) -> Conversation:
    return Conversation(_with_texts([*row["prompt"], *row["completion"]]), _tools_of(row))


def _openai(said: Conversation) -> Row:
    """The answer alone is learnt: earlier turns of the assistant weigh nothing."""
    turns = []
    for n, told in enumerate(said.turns):
        turn = {k: v for k, v in told.items() if k != "reasoning_content"}
        if "tool_calls" in turn and not turn["content"]:
            turn["content"] = None
        if turn["role"] == "assistant" and n + 1 < len(said.turns):
            turn["weight"] = 0
        if turn["role"] == "tool":
            turn.pop("name", None)
        turns.append(turn)
    return {"messages": turns, **({"tools": said.tools} if said.tools else {})}


def _from_openai(row: Mapping[str, Any]) -> Conversation:
    turns = [{k: v for k, v in turn.items() if k != "weight"} for turn in row["messages"]]
    for turn in turns:
        turn["content"] = turn.get("content") or ""
    return Conversation(_with_texts(turns), _tools_of(row))


def _axolotl(said: Conversation) -> Row:
    turns = [dict(turn) for turn in said.turns]
    for turn in turns:
        turn["train"] = False
        for call in turn.get("tool_calls", []):
            _loaded(call["function"]["arguments"])
    turns[-1]["train"] = True
    return {"messages": turns, **_text_of(said.tools)}


def _from_axolotl(row: Mapping[str, Any]) -> Conversation:
    turns = [{k: v for k, v in turn.items() if k != "train"} for turn in row["messages"]]
    return Conversation(_with_texts(turns), _tools_of(row))


def _llama_factory(said: Conversation) -> Row:
    turns = list(said.turns)
    row: Row = {"conversations": [], "system": "", "tools": ""}
    if turns and turns[0]["role"] == "system":
        row["system"] = turns.pop(0)["content"]
    told: list[dict[str, str]] = row["conversations"]
    for turn in turns:
        sender, value = _sharegpt(turn)
        before = told[-1] if told else None
        if before and before["from"] == sender == "observation":
            before["value"] += _BETWEEN_RESULTS + value
        elif before and before["from"] == sender == "human":
            before["value"] += "\n\n" + value
        else:
            told.append({"from": sender, "value": value})
    for n, turn in enumerate(told):
        if (turn["from"] in {"human", "observation"}) != (n % 2 == 0):
            raise UnfitError("turns that do not alternate")  # noqa: EM101
    if said.tools:
        row["tools"] = json.dumps(said.tools, ensure_ascii=False)
    return row


def _sharegpt(turn: dict[str, Any]) -> tuple[str, str]:
    role, content = turn["role"], turn["content"]
    if role == "user":
        return "human", content
    if role == "tool":
        return "observation", content
    if role != "assistant":
        raise UnfitError("a system turn in the middle")  # noqa: EM101
    thought = turn.get("reasoning_content")
    thought = f"{_THINK}{thought}{_THOUGHT}" if thought else ""
    calls = turn.get("tool_calls")
    if not calls:
        return "gpt", thought + content
    if content.strip():
        raise UnfitError("text beside a tool call")  # noqa: EM101
    functions = [
        {"name": call["function"]["name"], "arguments": _loaded(call["function"]["arguments"])}
        for call in calls
    ]
    value = functions[0] if len(functions) == 1 else functions
    return "function_call", thought + json.dumps(value, ensure_ascii=False)


def _from_llama_factory(row: Mapping[str, Any]) -> Conversation:
    """Read a row back; ids of calls are not said, so they are numbered anew."""
    turns: list[dict[str, Any]] = []
    if row.get("system"):
        turns.append({"role": "system", "content": row["system"]})
    n_calls, asked = 0, list[str]()
    for told in row["conversations"]:
        sender, value = told["from"], told["value"]
        if sender == "human":
            turns.append({"role": "user", "content": value})
        elif sender == "observation":
            results = value.split(_BETWEEN_RESULTS)
            ids = [*asked, *[""] * len(results)]
            turns += [
                {"role": "tool", "content": result, "tool_call_id": own}
                for result, own in zip(results, ids, strict=False)
            ]
        else:
            turn, value = _thought_of(value)
            if sender == "function_call":
                turn["tool_calls"] = _calls(value, n_calls)
                asked = [call["id"] for call in turn["tool_calls"]]
                n_calls += len(asked)
            else:
                turn["content"] = value
            turns.append(turn)
    return Conversation(turns, _tools_of(row))


def _thought_of(value: str) -> tuple[dict[str, Any], str]:
    turn: dict[str, Any] = {"role": "assistant", "content": ""}
    if value.startswith(_THINK) and _THOUGHT in value:
        thought, _, value = value[len(_THINK) :].partition(_THOUGHT)
        turn["reasoning_content"] = thought
    return turn, value


def _calls(value: str, first: int) -> list[dict[str, Any]]:
    found = json.loads(value)
    return [
        {
            "id": f"call_{first + n}",
            "type": "function",
            "function": {"name": one["name"], "arguments": _dumped(one["arguments"])},
        }
        for n, one in enumerate(found if isinstance(found, list) else [found])
    ]


SHAPES: dict[str, Shape] = {
    "trl": Shape(_trl, _from_trl),
    "trl-prompt": Shape(_trl_pair, _from_trl_pair),
    "openai": Shape(_openai, _from_openai),
    "axolotl": Shape(_axolotl, _from_axolotl),
    "llama-factory": Shape(_llama_factory, _from_llama_factory),
}
