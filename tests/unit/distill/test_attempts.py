"""Keys, bodies and attempts: what is asked is named by all that decides it, and found again."""

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stillwatch.distill.asking.attempts import (
    AnswerIndex,
    answered_items,
    attempt_exchange,
    encode_item,
    latest_answers,
    outcome_of,
    request_key,
)
from stillwatch.distill.asking.bodies import bodies_of
from stillwatch.distill.asking.teacher import TeacherTable
from stillwatch.distill.items import Item, item_id_of
from stillwatch.record.exchange import Answer, Exchange, Message, canonical_json
from stillwatch.record.forget import forget_accounts
from stillwatch.record.journal import Journal
from stillwatch.wire import chat
from stillwatch.wire.question import Reply

URL = "http://127.0.0.1:8000/v1"
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


def _item(*texts: str, **fields: Any) -> Item:
    messages = tuple(Message("user", text) for text in texts)
    return Item(item_id=item_id_of(messages), messages=messages, **fields)


def _teacher(**fields: Any) -> TeacherTable:
    return TeacherTable(**{"endpoint": URL, "model": "m", **fields})


def _exchange(
    item: Item, teacher: TeacherTable, text: str | None, *, finish: str = "stop"
) -> Exchange:
    reply = None if text is None else Reply(answers=(Answer(text, finish),), output_tokens=1)
    return attempt_exchange(
        item,
        teacher,
        reply=reply,
        status=200 if reply else 500,
        error=None if reply else "server_error",
        started_at=1.0,
        ended_at=2.0,
        attempt=1,
        request_key=request_key(item, teacher),
        permission_id="p1",
    )


def test_key_is_canonical() -> None:
    """The key is the SHA-256 of canonical JSON, so anybody can recompute it."""
    teacher = _teacher(system="s", parameters={"top_p": 1, "max_tokens": 5}, logprobs=2)
    asked = {
        "endpoint": URL,
        "headers": {},
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "é?"}],
        "model": "m",
        "parameters": {"top_p": 1, "max_tokens": 5, "logprobs": True, "top_logprobs": 2},
        "sample": 3,
        "tools": [TOOL],
        "version": 1,
        "wire": "openai.chat",
    }
    found = request_key(_item("é?", sample=3, tools=(TOOL,)), teacher)
    assert hashlib.sha256(canonical_json(asked).encode()).hexdigest() == found


@pytest.mark.parametrize(
    "change",
    [
        {"wire": "openai.responses"}, {"endpoint": "http://127.0.0.1:8001/v1"}, {"model": "n"},
        {"system": "s"}, {"parameters": {"temperature": 0.1}}, {"logprobs": 1},
        {"headers": {"x-beta": "1"}}, {"endpoint_id": "mine"},
    ],
)  # fmt: skip
def test_key_changes(change: dict[str, Any]) -> None:
    """Whatever changes the answer changes the key."""
    assert request_key(_item("a"), _teacher()) != request_key(_item("a"), _teacher(**change))


def test_key_of_an_item() -> None:
    """Turns, tools and sample are in the key; where the item comes from is not."""
    plain = request_key(_item("a"), _teacher())
    assert plain == request_key(_item("a", capability="x", truth="b", origin="o"), _teacher())
    others = [_item("b"), _item("a", "a"), _item("a", sample=1), _item("a", tools=(TOOL,))]
    assert plain not in {request_key(item, _teacher()) for item in others}
    spelt = _teacher(endpoint="HTTP://127.0.0.1:8000/v1/", api_key_env="K")
    assert plain == request_key(_item("a"), spelt)


def test_body() -> None:
    """The body holds model, turns and parameters; a further sample moves the seed."""
    teacher = _teacher(system="s", parameters={"temperature": 0.5, "seed": 7}, logprobs=2)
    body = json.loads(encode_item(_item("a", sample=1, tools=(TOOL,)), teacher))
    assert {
        "model": "m",
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}],
        "temperature": 0.5,
        "seed": 8,
        "logprobs": True,
        "top_logprobs": 2,
        "tools": [TOOL],
    } == body
    assert 7 == json.loads(encode_item(_item("a"), teacher))["seed"]
    own = (Message("system", "own"), Message("user", "a"))
    item = Item(item_id="i", messages=own)
    assert own == bodies_of(teacher).conversation(item)


@pytest.mark.parametrize("parameters", [{}, {"temperature": 0.0}])
@pytest.mark.parametrize("model", ["", "m"])
def test_quick_body_is_the_body(model: str, parameters: dict[str, Any]) -> None:
    """The quick way to a body and the wire's own give the same question."""
    bodies = bodies_of(_teacher(model=model, parameters=parameters))
    item = _item("a", "b")
    assert bodies.question(item) == chat.parse_request(bodies.encode(item))


def test_tool_turns() -> None:
    """Calls and results of the Chat shape are asked in the shapes of the other wires."""
    turns = (
        Message("user", "1+1?"),
        Message("assistant", "so", canonical_json({"tool_calls": [CALL]})),
        Message("tool", "2", canonical_json({"tool_call_id": "c1"})),
    )
    item = Item(item_id="i", messages=turns, tools=(TOOL,))
    limit = {"max_tokens": 9}
    found = json.loads(encode_item(item, _teacher(wire="anthropic.messages", parameters=limit)))
    use = {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}}
    result = {"type": "tool_result", "tool_use_id": "c1", "content": "2"}
    assert [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": [{"type": "text", "text": "so"}, use]},
        {"role": "user", "content": [result]},
    ] == found["messages"]
    assert [{"name": "add", "input_schema": {"type": "object"}}] == found["tools"]
    found = json.loads(encode_item(item, _teacher(wire="openai.responses", parameters=limit)))
    call = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a": 1}'}
    assert [
        {"type": "message", "role": "user", "content": "1+1?"},
        {"type": "message", "role": "assistant", "content": "so"},
        call,
        {"type": "function_call_output", "call_id": "c1", "output": "2"},
    ] == found["input"]
    assert [{"type": "function", **TOOL["function"]}] == found["tools"]  # type: ignore[dict-item]
    assert 9 == found["max_output_tokens"]


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Answer("a", "stop"), "answered"),
        (Answer("a", "length"), "truncated"),
        (Answer("a", "max_output_tokens"), "truncated"),
        (Answer("", "content_filter"), "filtered"),
        (Answer("", "refusal"), "refused"),
        (Answer("", "stop", extra='{"refusal":"no"}'), "refused"),
        (Answer(" ", "stop"), "empty"),
        (Answer("", "tool_calls", extra=canonical_json({"tool_calls": [CALL]})), "answered"),
    ],
)
def test_outcomes(answer: Answer, outcome: str) -> None:
    """An answer is marked by what the wire says of it."""
    assert outcome == outcome_of(Reply(answers=(answer,)))
    assert "failed" == outcome_of(Reply(answers=(answer,)), error="cut")


def test_outcome_without_reply() -> None:
    """A question that a filter refused is marked so; other failures are failures."""
    assert ["filtered", "failed", "empty"] == [
        outcome_of(None, error="content_filter"),
        outcome_of(None, error="timeout"),
        outcome_of(Reply(answers=())),
    ]


def test_latest_counts(tmp_path: Path) -> None:
    """The latest final answer is found; a failure after it takes nothing back."""
    teacher, items = _teacher(), [_item(str(n)) for n in range(50)]
    with Journal.open(tmp_path, fsync_interval_s=0.0, segment_bytes=4_000) as journal:
        for item in items[:40]:
            journal.append_sync(_exchange(item, teacher, f"a{item.question}"))
        journal.append_sync(_exchange(items[3], teacher, "later", finish="length"))
        journal.append_sync(_exchange(items[3], teacher, None))
        journal.append_sync(_exchange(items[49], teacher, None))
    index = AnswerIndex.of(tmp_path)
    keys = [request_key(item, teacher) for item in items]
    assert (40, {"answered": 40, "truncated": 1, "failed": 2}) == (len(index), index.counts)
    assert ["answered", "truncated", None] == [index.outcome(keys[n]) for n in (0, 3, 49)]
    found = {a.item.item_id: a.exchange.answer for a in answered_items(tmp_path, items, teacher)}
    expected = {item.item_id: f"a{item.question}" for item in items[:40]}
    assert expected | {items[3].item_id: "later"} == found
    assert {keys[3]: "later"} == {
        key: exchange.answer for key, exchange in latest_answers(tmp_path, keys[3:4]).items()
    }


def test_forgotten_is_not_answered(tmp_path: Path) -> None:
    """An answer that was forgotten is asked again, and its neighbours are still found."""
    teacher, items = _teacher(), [_item(str(n)) for n in range(6)]
    with Journal.open(tmp_path, fsync_interval_s=0.0) as journal:
        for item in items:
            exchange = _exchange(item, teacher, item.question)
            account = "x" if item in items[2:4] else ""
            journal.append_sync(msgspec.structs.replace(exchange, account=account))
    forget_accounts(["x"], journal=tmp_path)
    found = [a.exchange.answer for a in answered_items(tmp_path, items, teacher)]
    assert ["0", "1", "4", "5"] == found


def test_no_journal_yet(tmp_path: Path) -> None:
    """Before anything was asked there are no answers, and that is no error."""
    teacher, item = _teacher(), _item("a")
    assert {} == latest_answers(tmp_path / "none", [request_key(item, teacher)])
    assert [] == list(answered_items(tmp_path / "none", [item], teacher))
