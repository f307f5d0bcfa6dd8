"""The Messages wire as others speak it: blocks, tools, thinking, cut streams, errors."""

import json
from typing import Any

import pytest
from anthropic.types import Message as VendorMessage
from anthropic.types import RawMessageStreamEvent
from pydantic import TypeAdapter

from stillwatch.errors import ModelError
from stillwatch.record.exchange import Answer, Exchange, Message
from stillwatch.wire import messages
from stillwatch.wire.chat import BadRequestError, ReplyHead
from stillwatch.wire.messages_stream import MessageAssembler, encode_stream
from stillwatch.wire.question import Question, Reply
from stillwatch.wire.sse import EventParser

HEAD = ReplyHead("msg_1", "claude-x", 0)
TOOL_USE = {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": 1}}


def _body(**fields: Any) -> bytes:
    plain = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    return json.dumps({**plain, **fields}).encode()


def _stream(*events: dict[str, Any]) -> MessageAssembler:
    assembler = MessageAssembler()
    for event in events:
        data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
        assembler.feed(data.encode())
    return assembler


def _start(**usage: int) -> dict[str, Any]:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": []}
    return {"type": "message_start", "message": {**message, "usage": usage}}


def _delta(**delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": delta}


def _block(**block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": 0, "content_block": block}


def test_tool_results_are_not_questions() -> None:
    """Each tool result is a message of its own; the user's words stay the last question."""
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "42", "is_error": False}
    image = {"type": "image", "source": {"type": "url", "url": "u"}}
    question = messages.parse_request(
        _body(
            system=[{"type": "text", "text": "rules"}],
            messages=[
                {"role": "user", "content": [{"type": "text", "text": "a"}, image]},
                {"role": "assistant", "content": [{"type": "text", "text": "b"}, TOOL_USE]},
                {"role": "user", "content": [result, {"type": "text", "text": "and?"}]},
                {"role": "user", "content": [result]},
            ],
        )
    )
    called = {"tool_use_id": "t1", "is_error": False}
    expected = [
        ("system", "rules", None),
        ("user", "a", {"parts": [image]}),
        ("assistant", "b", {"parts": [TOOL_USE]}),
        ("tool", "42", called),
        ("user", "and?", None),
        ("tool", "42", called),
    ]
    found = [(m.role, m.content, m.extra and json.loads(m.extra)) for m in question.messages]
    assert expected == found
    assert question == messages.parse_request(messages.encode_request(question))


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (b"{", None, "invalid_json"),
        (b"\xff", None, "invalid_json"),
        (b"[" * 100_000, None, "invalid_json"),
        (b"[]", None, "invalid_value"),
        (b"{}", "messages", "invalid_value"),
        (_body(messages=[]), "messages", "invalid_value"),
        (_body(messages=["hi"]), "messages[0]", "invalid_value"),
        (_body(messages=[{"content": "a"}]), "messages[0].role", "invalid_value"),
        (_body(messages=[{"role": "user"}]), "messages[0].content", "invalid_value"),
        (_body(system=5), "system", "invalid_value"),
        (_body(model=["m"]), "model", "invalid_value"),
    ],
)
def test_bad_request(body: bytes, param: str | None, code: str) -> None:
    """What no model could answer is refused with the field and a code."""
    with pytest.raises(BadRequestError) as caught:
        messages.parse_request(body)
    assert (param, code) == (caught.value.param, caught.value.code)


def test_cached_tokens_are_input() -> None:
    """Tokens of the question are those read from and written to the cache, too."""
    usage = {
        "input_tokens": 3,
        "cache_creation_input_tokens": 20,
        "cache_read_input_tokens": 100,
        "output_tokens": 7,
    }
    body = {"content": [], "stop_reason": "end_turn", "usage": usage}
    found = messages.parse_response(json.dumps(body).encode())
    assert (123, 7) == (found.input_tokens, found.output_tokens)
    assert (None, None) == messages.token_counts({"input_tokens": "3", "output_tokens": -1})


def test_reply_of_others() -> None:
    """Cited texts join without a break, thinking is reasoning, the rest is kept in order."""
    cited = {"type": "char_location", "cited_text": "w"}
    body = {
        "model": "m",
        "content": [
            {"type": "thinking", "thinking": "one", "signature": "s1"},
            {"type": "redacted_thinking", "data": "zzz"},
            {"type": "thinking", "thinking": "two", "signature": "s2"},
            {"type": "text", "text": "Wi", "citations": [cited]},
            {"type": "text", "text": "nd", "citations": None},
            TOOL_USE,
            "odd",
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
    }
    (answer,) = messages.parse_response(json.dumps(body).encode()).answers
    assert ("Wind", "tool_use", "one\ntwo") == (answer.text, answer.finish_reason, answer.reasoning)
    expected = {
        "parts": [{"type": "redacted_thinking", "data": "zzz"}, TOOL_USE],
        "signatures": ["s1", "s2"],
        "citations": [cited],
    }
    assert expected == json.loads(answer.extra or "")


def test_model_that_took_over() -> None:
    """After a fallback the model returned is the one that answered."""
    blocks = [
        {"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}},
        {"type": "text", "text": "x"},
    ]
    assert "b" == messages.reply_from({"model": "a", "content": blocks}).model_returned


def test_vendor_reads_what_is_written() -> None:
    """The vendor's own types take a reply as it is written, whole and streamed."""
    extra = json.dumps({"parts": [TOOL_USE], "signatures": ["s"]})
    answer = Answer("hi", "tool_use", "hm", extra)
    reply = Reply(answers=(answer,), model_returned="m", input_tokens=3, output_tokens=4)
    body = messages.encode_response(HEAD, reply)
    kinds = [block.type for block in VendorMessage.model_validate_json(body).content]
    assert ["thinking", "tool_use", "text"] == kinds
    events = EventParser().feed(b"".join(encode_stream(HEAD, reply)))
    vendor: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
    assert [event.event for event in events] == [
        vendor.validate_json(event.data).type for event in events
    ]


@pytest.mark.parametrize("body", [b"{}", b"[]", b"no", b'{"content": "x"}', b"\xff"])
def test_no_message(body: bytes) -> None:
    """What is no message is said to be none, by its length only."""
    with pytest.raises(ModelError, match=f"got {len(body)} bytes"):
        messages.parse_response(body)


def test_cut_stream() -> None:
    """A cut stream gives what came, half a tool call as its pieces, and no count of its tokens."""
    assembler = _stream(
        _start(input_tokens=5, output_tokens=1),
        _block(type="tool_use", id="t", name="f", input={}),
        _delta(type="input_json_delta", partial_json='{"a": '),
    )
    reply = assembler.reply()
    part = {"type": "tool_use", "id": "t", "name": "f", "input": {}, "partial_json": '{"a": '}
    assert [part] == json.loads(reply.answers[0].extra or "")["parts"]
    assert (False, True, 5, None) == (
        assembler.done,
        assembler.has_output,
        reply.input_tokens,
        reply.output_tokens,
    )


def test_error_in_a_stream() -> None:
    """An error after 200 is named by its type; events of later versions are skipped."""
    assembler = _stream(
        _start(input_tokens=1),
        {"type": "brand_new", "index": "x"},
        _block(type="text", text=""),
        _delta(type="text_delta", text="Hal"),
        _delta(type="brand_new_delta", other=None),
        {"type": "error", "error": {"type": "overloaded_error", "message": "secret"}},
    )
    assembler.feed(b"data: nonsense\n\ndata: [DONE]\n\n")
    assert ("Hal", "overloaded_error", 1, "msg_1") == (
        assembler.reply().answers[0].text,
        assembler.error_code,
        assembler.n_unreadable,
        assembler.response_id,
    )


def test_stop_details_travel() -> None:
    """Why a model refused survives the stream; no answer gives a stream without one."""
    extra = json.dumps({"stop_details": {"type": "refusal"}})
    for answers in ((Answer("", "refusal", None, extra),), ()):
        reply = Reply(answers=answers, model_returned="m")
        assembler = MessageAssembler()
        assembler.feed(b"".join(encode_stream(HEAD, reply)))
        kept = [json.loads(a.extra or "{}") for a in assembler.reply().answers]
        assert [json.loads(a.extra or "{}") for a in answers] == kept


def test_whole_message_in_a_stream() -> None:
    """A proxy may send the whole message at the start: its content and its counts are believed."""
    start = _start(input_tokens=2, output_tokens=3)
    text = {"type": "text", "text": "all"}
    start["message"] |= {"content": [text], "stop_reason": "end_turn"}
    assembler = _stream(start, {"type": "message_stop"})
    # The last event was not ended by an empty line.
    assembler.feed(b'data: {"type": "ping"}')
    reply = assembler.reply()
    assert ("all", 3, 3) == (reply.answers[0].text, reply.output_tokens, assembler.n_chunks)


def test_deltas_that_are_no_text() -> None:
    """A delta whose value is not text replaces what was there."""
    assembler = _stream(
        _block(type="brand_new", data=None), _delta(type="x_delta", data={"a": 1}, none=None)
    )
    part = {"type": "brand_new", "data": {"a": 1}}
    assert [part] == json.loads(assembler.reply().answers[0].extra or "")["parts"]


@pytest.mark.parametrize("value", [7, {"a": 1}, ["x"], True])
def test_pieces_of_input_that_are_no_text(value: object) -> None:
    """Pieces of a tool's input that cannot be JSON text are kept as they are, and stop nothing."""
    assembler = MessageAssembler()
    assembler.take(_block(type="tool_use", id="t", name="f", input={}, partial_json=value))
    assembler.take(_delta(type="text_delta", text="on"))
    part = {"type": "tool_use", "id": "t", "name": "f", "input": {}, "partial_json": value}
    (kept,) = json.loads(assembler.reply().answers[0].extra or "")["parts"]
    assert part == {name: kept[name] for name in part}


def test_too_large_to_record() -> None:
    """What is nested too deep for a record is left out in words, and stops nothing."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    content = [{"type": "x", "deep": deep}]
    question = messages.question_from({"messages": [{"role": "user", "content": content}]})
    assert "not recorded" in (question.messages[0].extra or "")


def test_pieces_without_a_start() -> None:
    """A stream watched from its middle still gives its text."""
    assembler = _stream(_delta(type="text_delta", text="end"), {"type": "message_stop"})
    assert ("end", True) == (assembler.reply().answers[0].text, assembler.done)


def test_errors_in_shape() -> None:
    """Errors have the wire's type by status, and what one says is not in its code."""
    kinds = {s: json.loads(messages.encode_error(s, "x"))["error"]["type"] for s in (400, 429, 500)}
    expected = {400: "invalid_request_error", 429: "rate_limit_error", 500: "api_error"}
    assert expected == kinds


def test_recorded_without_tokens_and_names() -> None:
    """Access tokens, names and tool definitions are not recorded; the latter leave a hash."""
    question = messages.parse_request(
        _body(
            mcp_servers=[{"authorization_token": "secret"}],
            metadata={"user_id": "me"},
            tools=[{"name": "f"}],
            thinking={"type": "adaptive"},
        )
    )
    base = Exchange(exchange_id="1", account="a", started_at=1.0)
    found = messages.exchange_from(question, None, circumstances=base)
    assert ("anthropic.messages", {"max_tokens": 9, "thinking": {"type": "adaptive"}}) == (
        found.wire,
        found.parameters,
    )
    assert 16 == len(found.tools_hash or "")


def test_system_alone_stays_a_turn() -> None:
    """A question of one system turn is written so that the wire's least number of turns is kept."""
    question = Question(messages=(Message("system", "x"),))
    assert [{"role": "system", "content": "x"}] == json.loads(messages.encode_request(question))[
        "messages"
    ]
