"""Turns of every wire in the shape that templates know, and generated texts taken apart."""

import json
from typing import Any

import pytest

from stillwatch.model.chat_turns import answer_turn, take_apart, template_turns
from stillwatch.model.token_bytes import read_vocabulary
from stillwatch.record.exchange import Answer, Message

CALLED = {"name": "add", "arguments": {"a": 1}}


@pytest.mark.parametrize(
    ("call", "result"),
    [
        (
            {"tool_calls": [{"id": "c1", "function": {"name": "add", "arguments": '{"a":1}'}}]},
            {"tool_call_id": "c1"},
        ),
        (
            {"parts": [{"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}}]},
            {"tool_use_id": "c1"},
        ),
        (
            {"item": {"type": "function_call", "call_id": "c1", "name": "add",
                      "arguments": '{"a":1}'}},
            {"item": {"type": "function_call_output", "call_id": "c1"}},
        ),
    ],
)  # fmt: skip
def test_calls_and_results_of_every_wire(call: dict[str, Any], result: dict[str, Any]) -> None:
    """A call has its arguments as an object, and its result the name of the tool."""
    asked, gave = template_turns([
        Message("assistant", "", json.dumps(call)),
        Message("tool", "2", json.dumps(result)),
    ])
    assert [CALLED] == [found["function"] for found in asked["tool_calls"]]
    assert {"role": "tool", "content": "2", "tool_call_id": "c1", "name": "add"} == gave


def test_an_answer_keeps_its_reasoning() -> None:
    """Reasoning goes where templates look for it; a plain answer has nothing beside its text."""
    assert "why" == answer_turn(Answer("a", reasoning="why"))["reasoning_content"]
    assert {"role": "assistant", "content": "a"} == answer_turn(Answer("a"))


def test_arguments_that_are_no_json() -> None:
    """A call with broken arguments is kept as it was recorded."""
    extra = {"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{"}}]}
    [call] = answer_turn(Answer("", extra=json.dumps(extra)))["tool_calls"]
    assert "{" == call["function"]["arguments"]


def test_generated_text_is_taken_apart() -> None:
    """Thought, call and visible text come apart; a broken call, or one without tools, is text."""
    call = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
    text = f"<think>\nhm\n</think>\n\nSo: {call}"
    said = take_apart(text, has_tools=True, thinks=True)
    assert ("So:", "hm") == (said.text, said.reasoning)
    assert {"name": "f", "arguments": '{"a": 1}'} == said.tool_calls[0]["function"]
    broken = '<tool_call>{"no": 1}</tool_call>'
    assert (broken, None, ()) == take_apart(broken, has_tools=True, thinks=True)
    assert (text, None, ()) == take_apart(text, has_tools=False, thinks=False)


@pytest.mark.parametrize(
    ("decoder", "vocabulary", "words"),
    [
        ({"type": "ByteLevel"}, {"\u0120a": 0, "\u00c3": 1, "\u010a": 2}, (b" a", b"\xc3", b"\n")),
        (
            {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"},
                                               "content": " "}, {"type": "ByteFallback"}]},
            {"\u2581a": 0, "<0xC3>": 1, "b": 2}, (b" a", b"\xc3", b"b"),
        ),
        (None, {"\u2581a": 0, "<": 1, "b": 2}, ("\u2581a".encode(), b"<", b"b")),
    ],
)  # fmt: skip
def test_bytes_of_a_vocabulary(
    decoder: dict[str, Any] | None, vocabulary: dict[str, int], words: tuple[bytes, ...]
) -> None:
    """Byte-level, marked and plain vocabularies give the bytes of their tokens."""
    found = {
        "added_tokens": [{"id": 3, "content": "<s>"}],
        "model": {"vocab": vocabulary}, "decoder": decoder,
    }  # fmt: skip
    assert (*words, b"<s>") == read_vocabulary(json.dumps(found))
