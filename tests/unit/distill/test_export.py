"""Examples as other trainers read them: nothing lost without being counted, nothing invented."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from stillwatch.distill.asking.conversation import conversation_of
from stillwatch.distill.filtering.export import SHAPE_NAMES, export, read_back
from stillwatch.distill.items import Example, Item, item_id_of
from stillwatch.errors import InvalidInputError
from stillwatch.record.exchange import Answer, Message

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"type": "string"}},
            "required": ["city"],
        },
    },
}


def example(*messages: Message, answer: Answer, tools: tuple[dict[str, Any], ...] = ()) -> Example:
    """An answered item."""
    item = Item(item_id=item_id_of(messages, tools), messages=messages, tools=tools)
    return Example(item=item, answer=answer, exchange_id="x", output_tokens=3)


def call(call_id: str, **arguments: Any) -> dict[str, Any]:
    """A call of the tool."""
    function = {"name": "weather", "arguments": json.dumps(arguments)}
    return {"id": call_id, "type": "function", "function": function}


def extra(**more: Any) -> str:
    """What a wire keeps beside the text."""
    return msgspec.json.encode(more).decode()


PLAIN = example(Message("user", "1+1?"), answer=Answer(text="2 = zwei ✓", finish_reason="stop"))
TURNS = example(
    Message("system", "Be brief."),
    Message("user", "Hi"),
    Message("assistant", "Hello."),
    Message("user", "Name a colour."),
    answer=Answer(text="Red.\nOr blue."),
)
CALLS = example(
    Message("user", "Weather in Oslo and Rome?"),
    answer=Answer(
        text="",
        finish_reason="tool_calls",
        extra=extra(
            tool_calls=[call("call_0", city="Oslo"), call("call_1", city="Rome", unit="C")]
        ),
    ),
    tools=(TOOL,),
)
RESULTS = example(
    Message("user", "Weather in Oslo and Rome?"),
    Message(
        "assistant",
        "",
        extra(tool_calls=[call("call_0", city="Oslo"), call("call_1", city="Rome")]),
    ),
    Message("tool", "4 degrees", extra(tool_call_id="call_0")),
    Message("tool", "19 degrees", extra(tool_call_id="call_1")),
    answer=Answer(text="Oslo 4, Rome 19."),
    tools=(TOOL,),
)
ALL = (PLAIN, TURNS, CALLS, RESULTS)


def said(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turns with arguments by value and without names of tools, which not every shape says."""
    found = []
    for told in turns:
        turn = {k: v for k, v in told.items() if k != "name"}
        if "tool_calls" in turn:
            turn["tool_calls"] = [
                {
                    **c,
                    "function": {
                        **c["function"],
                        "arguments": json.loads(c["function"]["arguments"]),
                    },
                }
                for c in turn["tool_calls"]
            ]
        found.append(turn)
    return found


@pytest.mark.parametrize("shape", SHAPE_NAMES)
def test_round_trip(shape: str, tmp_path: Path) -> None:
    """Every shape reads back what was said: turns, calls, results and tools."""
    path = tmp_path / "data" / f"train.{'parquet' if shape == 'parquet' else 'jsonl'}"
    exported = export(ALL, shape, path)
    assert (4, {}, path) == (exported.n_examples, exported.left_out, exported.files[0])
    back = list(read_back(path, shape))
    assert [said(conversation_of(one).turns) for one in ALL] == [said(one.turns) for one in back]
    assert [list(one.item.tools) for one in ALL] == [one.tools for one in back]


def test_wires_agree() -> None:
    """A call is the same call whichever wire the teacher answered by."""
    function = {
        "type": "function_call",
        "call_id": "call_0",
        "name": "weather",
        "arguments": '{"city": "Oslo"}',
    }
    block = {"type": "tool_use", "id": "call_0", "name": "weather", "input": {"city": "Oslo"}}
    asked = Message("user", "Weather?")
    answers = [
        Answer(text="", extra=extra(tool_calls=[call("call_0", city="Oslo")])),
        Answer(text="", extra=extra(items=[function])),
        Answer(text="", extra=extra(parts=[block])),
    ]
    turns = [conversation_of(example(asked, answer=answer)).turns for answer in answers]
    assert turns[0] == turns[1] == turns[2]
    before = [
        (Message("assistant", "Let me look.", extra(tool_calls=[call("call_0", city="Oslo")])),
         Message("tool", "4", extra(tool_call_id="call_0"))),
        (Message("assistant", "Let me look."), Message("assistant", "", extra(item=function)),
         Message("tool", "4", extra(item={"type": "function_call_output", "call_id": "call_0"}))),
        (Message("assistant", "Let me look.", extra(parts=[block])),
         Message("tool", "4", extra(tool_use_id="call_0"))),
    ]  # fmt: skip
    rows = [
        conversation_of(example(asked, *own, answer=Answer(text="Cold."))).turns for own in before
    ]
    assert rows[0] == rows[1] == rows[2]


def test_calls_without_id() -> None:
    """Calls without an id get one, and their results take it in order."""
    bare = {"type": "function", "function": {"name": "weather", "arguments": "{}"}}
    own = example(
        Message("user", "?"),
        Message("assistant", "", extra(tool_calls=[bare, bare])),
        Message("tool", "4"),
        Message("tool", "5"),
        answer=Answer(text="", extra=extra(tool_calls=[bare])),
    )
    turns = conversation_of(own).turns
    assert ["call_0", "call_1"] == [turn["tool_call_id"] for turn in turns[2:4]]
    assert "call_2" == turns[-1]["tool_calls"][0]["id"]


def test_only_the_answer_is_learnt(tmp_path: Path) -> None:
    """OpenAI and axolotl are told that earlier turns of the assistant are not to be learnt."""
    export([TURNS], "openai", tmp_path / "o.jsonl")
    export([TURNS], "axolotl", tmp_path / "a.jsonl")
    openai = json.loads((tmp_path / "o.jsonl").read_text())["messages"]
    axolotl = json.loads((tmp_path / "a.jsonl").read_text())["messages"]
    assert [None, None, 0, None, None] == [turn.get("weight") for turn in openai]
    assert [False, False, False, False, True] == [turn["train"] for turn in axolotl]


def test_arguments(tmp_path: Path) -> None:
    """TRL gets arguments as objects for the template, OpenAI and axolotl as text."""
    kinds = []
    for shape in ("trl", "openai", "axolotl"):
        export([CALLS], shape, tmp_path / "x.jsonl")
        turn = json.loads((tmp_path / "x.jsonl").read_text())["messages"][-1]
        kinds.append(type(turn["tool_calls"][0]["function"]["arguments"]))
    assert [dict, str, str] == kinds


def test_reasoning(tmp_path: Path) -> None:
    """Reasoning travels where a shape can say it, and stays out when it is not wanted."""
    own = example(Message("user", "1+1?"), answer=Answer(text="2", reasoning="one and one"))
    export([own], "llama-factory", tmp_path / "l.jsonl")
    export([own], "openai", tmp_path / "o.jsonl")
    export([own], "trl", tmp_path / "t.jsonl", reasoning=False)
    assert "<think>\none and one\n</think>\n\n2" in next(
        turn["value"]
        for turn in json.loads((tmp_path / "l.jsonl").read_text())["conversations"][1:]
    )
    assert (
        "one and one"
        == next(read_back(tmp_path / "l.jsonl", "llama-factory")).turns[-1]["reasoning_content"]
    )
    for name in ("o", "t"):
        assert "one and one" not in (tmp_path / f"{name}.jsonl").read_text()


def test_left_out(tmp_path: Path) -> None:
    """What a shape cannot say is left out and counted by its reason, never bent."""
    broken = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{no"}}
    said, asked = Answer(text="a"), Message("user", "?")
    both = Answer(text="Wait.", extra=extra(tool_calls=[call("a", city="Oslo")]))
    image = Message("user", "?", extra(parts=[{"type": "image_url"}]))
    rows = [
        example(image, answer=said),
        example(asked, Message("system", "late"), answer=said),
        example(Message("assistant", "I begin."), asked, answer=said),
        example(asked, answer=both),
        example(asked, answer=Answer(text="", extra=extra(tool_calls=[broken]))),
        PLAIN,
    ]
    factory = export(rows, "llama-factory", tmp_path / "l.jsonl")
    expected = {
        "a turn that is not text": 1,
        "a system turn in the middle": 1,
        "turns that do not alternate": 1,
        "text beside a tool call": 1,
        "tool arguments that are not JSON": 1,
    }
    assert (1, expected) == (factory.n_examples, factory.left_out)
    trl = export(rows, "trl", tmp_path / "t.jsonl")
    assert (4, 2) == (trl.n_examples, sum(trl.left_out.values()))


def test_dataset_info(tmp_path: Path) -> None:
    """LLaMA-Factory's list gains the data set and keeps the others; a broken list is not lost."""
    listing = tmp_path / "dataset_info.json"
    listing.write_text('{"other": {"file_name": "o.json"}}')
    exported = export([PLAIN], "llama-factory", tmp_path / "l.jsonl", name="roman")
    assert (tmp_path / "l.jsonl", listing) == exported.files
    known = json.loads(listing.read_text())
    assert ["other", "roman"] == sorted(known)
    assert "l.jsonl" == known["roman"]["file_name"]
    listing.write_text("no list")
    with pytest.raises(InvalidInputError, match="not a list of data sets"):
        export([PLAIN], "llama-factory", tmp_path / "l.jsonl")
    assert "no list" == listing.read_text()


def test_parquet_columns(tmp_path: Path) -> None:
    """The Parquet file carries what a curve needs beside the conversation."""
    export([PLAIN], "parquet", tmp_path / "p.parquet")
    row = pq.read_table(tmp_path / "p.parquet").to_pylist()[0]
    assert (PLAIN.item.item_id, "all", 3, "stop", "x") == tuple(
        row[name]
        for name in ("item_id", "capability", "output_tokens", "finish_reason", "exchange_id")
    )


@pytest.mark.parametrize("shape", SHAPE_NAMES)
def test_read_wrong_shape(shape: str, tmp_path: Path) -> None:
    """A file of another shape is refused by name and line."""
    path = tmp_path / "w.jsonl"
    path.write_text('{"text": "plain"}\n')
    with pytest.raises(InvalidInputError, match="of the shape"):
        list(read_back(path, shape))


def test_openai_types(tmp_path: Path) -> None:
    """OpenAI's own types take every turn that we write."""
    types = pytest.importorskip("openai.types.chat")
    pydantic = pytest.importorskip("pydantic")
    turns = pydantic.TypeAdapter(list[types.ChatCompletionMessageParam])
    tools = pydantic.TypeAdapter(list[types.ChatCompletionToolParam])
    export(ALL, "openai", tmp_path / "o.jsonl")
    for line in (tmp_path / "o.jsonl").read_text().splitlines():
        row = json.loads(line)
        turns.validate_python([
            {k: v for k, v in t.items() if k != "weight"} for t in row["messages"]
        ])
        tools.validate_python(row.get("tools", []))
        assert {0} >= {turn["weight"] for turn in row["messages"] if "weight" in turn}


@pytest.mark.parametrize("shape", ["trl", "trl-prompt", "axolotl", "llama-factory"])
def test_read_by_datasets(shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader of those trainers gives the rows back as they were, but for added nulls."""
    datasets = pytest.importorskip("datasets", reason="datasets comes with the extra trl")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    path = tmp_path / "x.jsonl"
    export(ALL, shape, path)
    read = datasets.load_dataset(
        "json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
    )
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [_without_null(row) for row in rows] == [_without_null(row) for row in read]


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_null(v) for k, v in value.items() if v is not None}
    return [_without_null(v) for v in value] if isinstance(value, list) else value


def test_unknown_shape(tmp_path: Path) -> None:
    """An unknown shape is refused with the known ones."""
    with pytest.raises(InvalidInputError, match="one of trl, trl-prompt, openai"):
        export([], "alpaca", tmp_path / "x")
    with pytest.raises(InvalidInputError, match="one of trl, trl-prompt, openai"):
        next(read_back(tmp_path / "x", "alpaca"))
