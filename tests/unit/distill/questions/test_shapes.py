"""Conversations of every common shape become the same turns."""

import json
from typing import Any

import pytest

from stillwatch.distill.questions.shapes import asked_of, callable_name, talk_of, tools_of
from stillwatch.errors import InvalidInputError

_CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city":"Rome"}'},
}
_CHAT = [
    {"role": "user", "content": "How warm is it in Rome?"},
    {"role": "assistant", "content": None, "tool_calls": [_CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "21"},
    {"role": "assistant", "content": "21 degrees."},
    {"role": "user", "content": "Thanks!"},
    {"role": "assistant", "content": "Any time."},
]
_SHAREGPT = [
    {"from": "human", "value": "How warm is it in Rome?"},
    {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Rome"}}'},
    {"from": "observation", "value": "21"},
    {"from": "gpt", "value": "21 degrees."},
    {"from": "human", "value": "Thanks!"},
    {"from": "gpt", "value": "Any time."},
]
_ANTHROPIC = [
    {"role": "user", "content": "How warm is it in Rome?"},
    {
        "role": "assistant",
        "content": [
            {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Rome"}}
        ],
    },
    {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "21"}],
    },
    {"role": "assistant", "content": [{"type": "text", "text": "21 degrees."}]},
    {"role": "user", "content": "Thanks!"},
    {"role": "assistant", "content": "Any time."},
]


@pytest.mark.parametrize(
    "turns", [_CHAT, _SHAREGPT, _ANTHROPIC], ids=["chat", "sharegpt", "claude"]
)
def test_one_conversation_in_three_shapes(turns: list[dict[str, Any]]) -> None:
    """Calls are `tool_calls`, results are tool turns that name their call."""
    assert talk_of(_CHAT, "f:1") == talk_of(turns, "f:1")
    found = talk_of(turns, "f:1").turns
    assert ["user", "assistant", "tool", "assistant", "user", "assistant"] == [
        t.role for t in found
    ]
    assert {"tool_calls": [_CALL]} == json.loads(found[1].extra or "")
    assert {"tool_call_id": "call_1"} == json.loads(found[2].extra or "")


def test_which_turns_are_asked() -> None:
    """last: the last user turn; end: also after a tool's result; every: each of these places."""
    turns = talk_of(_CHAT, "f:1").turns
    assert [5] == [len(asked.messages) for asked in asked_of(turns, "last")]
    assert [5] == [len(asked.messages) for asked in asked_of(turns, "end")]
    assert [1, 3, 5] == [len(asked.messages) for asked in asked_of(turns, "every")]
    assert [1] == [len(asked.messages) for asked in asked_of(turns[:4], "last")]
    assert [3] == [len(asked.messages) for asked in asked_of(turns[:4], "end")]
    assert [1] == [asked.left_out for asked in asked_of(turns[:4], "end")]


def test_results_of_parallel_calls_are_asked_together() -> None:
    """An answer is due after the last result, not between them."""
    calls = [{"name": name, "arguments": "{}"} for name in ("a", "b")]
    turns = [
        {"from": "human", "value": "Both, please."},
        {"from": "function_call", "value": json.dumps(calls)},
        {"from": "observation", "value": "1"},
        {"from": "observation", "value": "2"},
        {"from": "gpt", "value": "1 and 2."},
    ]
    found = talk_of(turns, "f:1").turns
    assert ["call_1", "call_2"] == [json.loads(t.extra or "")["tool_call_id"] for t in found[2:4]]
    assert [1, 4] == [len(asked.messages) for asked in asked_of(found, "every")]


def test_later_turns_that_hang_on_answers_are_counted() -> None:
    """Lists of user turns alone are asked from their first, the others are counted."""
    talk = talk_of(["Write a poem.", "Shorter.", "In French."], "f:1")
    assert (["Write a poem."], 2) == ([t.content for t in talk.turns], talk.n_later)
    steps = [[{"role": "user", "content": "Open it."}], [{"role": "user", "content": "Close it."}]]
    talk = talk_of(steps, "f:1")
    assert (["Open it."], 1) == ([t.content for t in talk.turns], talk.n_later)


def test_what_endpoints_refuse_is_left_out() -> None:
    """Training weights, ids and dates of a turn are not sent."""
    turn = {"role": "user", "content": "Hi", "weight": 0, "id": "x", "created": 1, "name": "ann"}
    assert '{"name":"ann"}' == talk_of([turn], "f:1").turns[0].extra


def test_a_result_without_a_call_is_refused() -> None:
    """A tool's result that no call asked for is an error at its turn."""
    turns = [{"from": "human", "value": "x"}, {"from": "observation", "value": "1"}]
    with pytest.raises(InvalidInputError, match="f:1: turn 2: a tool's result must follow a call"):
        talk_of(turns, "f:1")


def test_tools_of_every_shape() -> None:
    """Bare functions, Anthropic's and Chat's definitions become Chat's; Python's types JSON's."""
    schema = {"type": "dict", "properties": {"type": {"type": "float"}}, "required": ["type"]}
    right = {
        "type": "function",
        "function": {
            "name": "area_of",
            "description": "An area.",
            "parameters": {
                "type": "object",
                "properties": {"type": {"type": "number"}},
                "required": ["type"],
            },
        },
    }
    bare = {"name": "area.of", "description": "An area.", "parameters": schema}
    claude = {"name": "area.of", "description": "An area.", "input_schema": schema}
    chat = {"type": "function", "function": bare}
    for given in ([bare], [claude], [chat], json.dumps([bare]), bare):
        assert (right,) == tools_of(given, "f:1")
    assert () == tools_of("[]", "f:1")


def test_values_in_a_schema_are_left_alone() -> None:
    """Defaults and choices are data, whatever words they hold."""
    schema = {"type": "object", "properties": {"t": {"enum": ["dict", "float"], "default": "any"}}}
    tool = {"name": "f", "parameters": schema}
    assert schema == tools_of([tool], "f:1")[0]["function"]["parameters"]


def test_names_that_endpoints_accept() -> None:
    """At most 64 letters, digits, _ and -."""
    assert "math_add-1" == callable_name("math.add-1")
    assert 64 == len(callable_name("x" * 100))
