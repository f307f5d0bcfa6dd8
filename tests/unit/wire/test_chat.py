"""Chat Completions as others speak it: parts, tools, choices, odd bodies, cut streams, errors."""

import json
from typing import Any

import msgspec
import pytest

from stillwatch.errors import ModelError
from stillwatch.model.protocol import Question, Reply
from stillwatch.record.exchange import Answer, Exchange, Message
from stillwatch.wire import chat


def _body(**fields: Any) -> bytes:
    return json.dumps({
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        **fields,
    }).encode()


def _sse(*chunks: object) -> bytes:
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)


def _delta(delta: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "m-1", "choices": [{"index": 0, "delta": delta, **more}]}


def test_parts_and_tools() -> None:
    """Text parts join by newlines; images, tool calls and their ids are kept as JSON."""
    image = {"type": "image_url", "image_url": {"url": "data:..."}}
    call = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    text = [{"type": "text", "text": "a"}, image, {"type": "text", "text": "b"}]
    question = chat.parse_request(
        _body(
            messages=[
                {"role": "developer", "content": "rules"},
                {"role": "user", "content": text},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "content": "42", "tool_call_id": "t1"},
            ]
        )
    )
    expected = [
        ("system", "rules", None),
        ("user", "a\nb", {"parts": [image]}),
        ("assistant", "", {"tool_calls": [call]}),
        ("tool", "42", {"tool_call_id": "t1"}),
    ]
    found = [(m.role, m.content, m.extra and json.loads(m.extra)) for m in question.messages]
    assert expected == found
    assert question == chat.parse_request(chat.encode_request(question))


def test_unknown_fields_are_parameters() -> None:
    """Fields of a later version travel on as parameters; null means not set."""
    question = chat.parse_request(_body(brand_new={"a": 1}, temperature=None, seed=3))
    assert {"brand_new": {"a": 1}, "seed": 3} == question.parameters


def test_streaming_options() -> None:
    """How the answer shall travel is told apart from what is asked."""
    plain = chat.parse_chat_request(_body())
    asked = chat.parse_chat_request(_body(stream=True, stream_options={"include_usage": True}))
    odd = chat.parse_chat_request(_body(stream="yes", stream_options=[1]))
    assert [(False, False), (True, True), (False, False)] == [r[1:] for r in (plain, asked, odd)]
    assert plain.question == asked.question


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (b"{", None, "invalid_json"),
        (b"\xff", None, "invalid_json"),
        (b"[" * 100_000, None, "invalid_json"),
        (b"[]", None, "invalid_value"),
        (b"{}", "messages", "invalid_value"),
        (_body(messages=[]), "messages", "invalid_value"),
        (_body(messages={}), "messages", "invalid_value"),
        (_body(messages=["hi"]), "messages[0]", "invalid_value"),
        (
            _body(messages=[{"role": "user", "content": "a"}, {}]),
            "messages[1].role",
            "invalid_value",
        ),
        (_body(messages=[{"role": "user", "content": 5}]), "messages[0].content", "invalid_value"),
        (_body(model=["m"]), "model", "invalid_value"),
    ],
)
def test_bad_request(body: bytes, param: str | None, code: str) -> None:
    """What no model could answer is refused with the field and a code for the wire's error."""
    with pytest.raises(chat.BadRequestError) as caught:
        chat.parse_request(body)
    assert (param, code, 2) == (caught.value.param, caught.value.code, caught.value.exit_code)


def test_refusal_hides_the_text() -> None:
    """A refusal names the field and the kind of value, never the value."""
    with pytest.raises(chat.BadRequestError, match=r"messages\[0\].role must be a text, got list"):
        chat.parse_request(_body(messages=[{"role": ["my secret"], "content": "x"}]))


def test_reply_of_others() -> None:
    """Choices out of order, parts, reasoning under either name, a refusal, null and odd counts."""
    body = {
        "model": "m-1",
        "choices": [
            {
                "index": 1,
                "message": {"content": [{"type": "text", "text": "two"}], "reasoning": "r"},
            },
            {"index": 0, "message": {"content": None, "refusal": "no"}, "finish_reason": None},
            {"text": "old", "finish_reason": "stop", "index": 2},
            "odd",
        ],
        "usage": {"prompt_tokens": "3", "completion_tokens": 4, "completion_tokens_details": {}},
    }
    expected = Reply(
        answers=(
            Answer(text="", extra='{"refusal":"no"}'),
            Answer(text="two", reasoning="r"),
            Answer(text="old", finish_reason="stop"),
        ),
        model_returned="m-1",
        output_tokens=4,
    )
    assert expected == chat.parse_response(json.dumps(body).encode())


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"choices":null}', b"[" * 100_000]
)
def test_no_reply(body: bytes) -> None:
    """A body without choices is a failure of the model, told by its length."""
    with pytest.raises(ModelError, match=f"got {len(body)} bytes without"):
        chat.parse_response(body)


def test_stream_of_others() -> None:
    """Pieces of text, reasoning, tool calls and log-probabilities join; padding is not content."""
    stream = _sse(
        _delta({"role": "assistant", "content": "", "obfuscation": "xx"}),
        _delta({"reasoning_content": "let"}),
        _delta({"reasoning_content": " me"}),
        _delta({"content": "He"}, logprobs={"content": [{"token": "He"}], "refusal": None}),
        _delta({"content": "y"}, logprobs={"content": [{"token": "y"}], "refusal": None}),
        _delta({
            "tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments": ""}}]
        }),
        _delta({"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]}),
        _delta({"tool_calls": [{"index": 0, "type": None, "function": {"arguments": ":1}"}}]}),
        _delta({}, finish_reason="tool_calls"),
        {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 6}},
    )
    assembler = chat.ChunkAssembler()
    assembler.feed(_sse(_delta({"role": "assistant", "content": "", "obfuscation": "xx"})))
    assert not assembler.has_output
    assembler.feed(stream + b"data: [DONE]\n\n")
    reply = assembler.reply()
    call = {"id": "t", "function": {"name": "f", "arguments": '{"a":1}'}}
    logprobs = {"content": [{"token": "He"}, {"token": "y"}], "refusal": None}
    assert ("Hey", "let me", "tool_calls") == (
        reply.answers[0].text,
        reply.answers[0].reasoning,
        reply.answers[0].finish_reason,
    )
    assert {"tool_calls": [call], "logprobs": logprobs} == json.loads(reply.answers[0].extra or "")
    assert ("m-1", 5, 6) == (reply.model_returned, reply.input_tokens, reply.output_tokens)
    assert (True, True) == (assembler.done, assembler.has_output)


def test_cut_and_failing_streams() -> None:
    """A cut stream keeps what came; an error inside one is named by its code, not its text."""
    cut = chat.ChunkAssembler()
    cut.feed(_sse(_delta({"content": "half"})) + b'data: {"choices":[{"delta":{"content":" an')
    assert ("half", False, 1) == (cut.reply().answers[0].text, cut.done, cut.n_unreadable)
    failing = chat.ChunkAssembler()
    failing.feed(_sse({"error": {"message": "you said: hi", "type": "server_error", "code": None}}))
    assert "server_error" == failing.error_code


def test_errors() -> None:
    """Errors have the wire's shape, a type by their status, and are read back by their code."""
    types = {
        s: json.loads(chat.encode_error(s, "m"))["error"]["type"] for s in (400, 401, 429, 503)
    }
    expected = {400: "invalid_request_error", 401: "authentication_error"}
    assert {**expected, 429: "rate_limit_error", 503: "server_error"} == types
    body = chat.encode_error(404, "none", type="t", code="model_not_found", param="model")
    full = {"message": "none", "type": "t", "param": "model", "code": "model_not_found"}
    assert {"error": full} == json.loads(body)
    codes = [body, chat.encode_error(500, "m"), b"<html>", b"[]", b'{"error":"text"}']
    found = [chat.parse_error_code(body) for body in codes]
    assert ["model_not_found", "server_error", "error", "error", "error"] == found


def test_exchange() -> None:
    """The record keeps how was sampled; who the end user is and the tools' text stay out of it."""
    question = Question(
        messages=(Message(role="user", content="hi"),),
        model="m",
        parameters={
            "temperature": 0,
            "user": "ann@example.org",
            "metadata": {"a": "b"},
            "tools": [{"type": "function", "function": {"name": "f"}}],
        },
    )
    base = Exchange(exchange_id="1", account="a", started_at=5.0, action="watermark", status=200)
    reply = Reply(
        answers=(Answer(text="yo"),), model_returned="m-1", input_tokens=1, output_tokens=2
    )
    exchange = chat.exchange_from(question, reply, circumstances=base)
    assert {"temperature": 0} == exchange.parameters
    assert 16 == len(exchange.tools_hash or "")
    assert ("a", "watermark", "m", "m-1", "hi", "yo", 1, 2) == (
        exchange.account,
        exchange.action,
        exchange.model,
        exchange.model_returned,
        exchange.question,
        exchange.answer,
        exchange.input_tokens,
        exchange.output_tokens,
    )
    refused = chat.exchange_from(question, None, circumstances=base)
    assert ((), None, None) == (refused.answers, refused.model_returned, refused.output_tokens)


def test_tools_hash() -> None:
    """The hash does not depend on the order of keys, and there is none without tools."""
    one = chat.parse_request(_body(tools=[{"a": 1, "b": 2}]))
    other = chat.parse_request(_body(tools=[{"b": 2, "a": 1}], temperature=1))
    assert chat.tools_hash(one) == chat.tools_hash(other)
    assert None is chat.tools_hash(chat.parse_request(_body(tools=[])))


@pytest.mark.parametrize("seed", [10**40, [[10**40]]])
def test_nothing_sent_stops_its_recording(seed: object) -> None:
    """Numbers of any size and values of any depth give an exchange that can be written."""
    question = chat.parse_request(_body(seed=seed))
    deep: object = []
    for _ in range(100_000):
        deep = [deep]
    deep_question = msgspec.structs.replace(question, parameters={"stop": deep})
    base = Exchange(exchange_id="1", account="a", started_at=5.0)
    for asked in (question, deep_question):
        exchange = chat.exchange_from(asked, None, circumstances=base)
        assert b'"1"' in msgspec.json.encode(exchange)
    assert "not recorded: too large a number, or nested too deep" == exchange.parameters["stop"]
