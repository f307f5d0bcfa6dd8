"""Typed blocks of three vendors become one and the same conversation."""

import pytest

from stillwatch.logs.blocks import answer_of, sort_blocks, turns_of
from stillwatch.record.exchange import Answer, Message

CALL = (
    '{"tool_calls":[{"function":{"arguments":"{\\"a\\":1}","name":"f"},'
    '"id":"c","type":"function"}]}'
)
IN_WORDS_OF = {
    "OpenTelemetry": (
        {"type": "tool_call", "id": "c", "name": "f", "arguments": {"a": 1}},
        {"type": "tool_call_response", "id": "c", "response": "done"},
        {"type": "reasoning", "content": "hm"},
        {"type": "text", "content": "hello"},
    ),
    "Anthropic": (
        {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}},
        {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "done"}]},
        {"type": "thinking", "thinking": "hm", "signature": "x"},
        {"type": "text", "text": "hello"},
    ),
    "Converse": (
        {"toolUse": {"toolUseId": "c", "name": "f", "input": {"a": 1}}},
        {"toolResult": {"toolUseId": "c", "content": [{"text": "done"}], "status": "success"}},
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "x"}}},
        {"text": "hello"},
    ),
}


@pytest.mark.parametrize("vendor", IN_WORDS_OF)
def test_same_in_all_words(vendor: str) -> None:
    """Call, result, reasoning and text read alike whoever wrote them."""
    call, result, thought, said = IN_WORDS_OF[vendor]
    expected = [Message("tool", "done", '{"tool_call_id":"c"}'), Message("user", "hello")]
    assert expected == turns_of("user", [result, said])
    assert Answer("hello", "stop", "hm", CALL) == answer_of([thought, said, call], "stop")


def test_nothing_is_left_out() -> None:
    """Blocks of unknown kinds and wrong types stay as they came; a turn is never empty-handed."""
    odd = [3, {"type": ["text"]}, {"image": {}}, {"type": "text", "text": 4}]
    assert odd == sort_blocks(odd).rest
    assert [Message("system", "")] == turns_of("developer", None)
    assert [Message("user", "", '{"name":"n"}')] == turns_of("user", [], more={"name": "n"})


def test_result_of_any_shape() -> None:
    """A tool's result is its text, or the JSON of what it gave."""
    results = [
        {"type": "tool_result", "tool_use_id": "1", "content": "plain"},
        {"toolResult": {"toolUseId": "2", "content": [{"json": {"b": 2}}, {"text": "t"}]}},
        {"type": "tool_call_response", "id": "3", "result": {"b": 2}},
        {"type": "tool_call_response", "id": "4"},
    ]
    expected = [("1", "plain"), ("2", '{"b":2}\nt'), ("3", '{"b":2}'), ("4", "")]
    assert expected == sort_blocks(results).results
