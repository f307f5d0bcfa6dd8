"""The Responses wire as others speak it: items, tools, reasoning, cut streams, errors."""

import json
from typing import Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from stillwatch.errors import ModelError
from stillwatch.record.exchange import Answer, Exchange
from stillwatch.wire import responses
from stillwatch.wire.chat import BadRequestError, ReplyHead
from stillwatch.wire.question import Reply
from stillwatch.wire.responses_stream import ResponseAssembler, encode_stream
from stillwatch.wire.sse import EventParser

HEAD = ReplyHead("resp_1", "m", 1_790_000_000)
CALL = {"type": "function_call", "id": "fc", "call_id": "c1", "name": "f", "arguments": "{}"}

NEW = {"type": "brand_new", "data": 1}


def _body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", **fields}).encode()


def _stream(*events: dict[str, Any]) -> ResponseAssembler:
    assembler = ResponseAssembler()
    for number, event in enumerate(events):
        data = json.dumps({"sequence_number": number, **event})
        assembler.feed(f"event: {event['type']}\ndata: {data}\n\n".encode())
    return assembler


def _delta(kind: str, delta: str, *, index: int = 0, **where: int) -> dict[str, Any]:
    return {"type": f"response.{kind}.delta", "output_index": index, "delta": delta, **where}


def test_items_and_tools() -> None:
    """Instructions are the system turn; calls and their outputs keep their whole item."""
    output = {"type": "function_call_output", "call_id": "c1", "output": "42"}
    image = {"type": "input_image", "image_url": "u"}
    question = responses.parse_request(
        _body(
            instructions="rules",
            input=[
                {"role": "developer", "content": "more"},
                {"role": "user", "content": [{"type": "input_text", "text": "a"}, image]},
                CALL,
                output,
                {"type": "item_reference", "id": "x"},
            ],
        )
    )
    expected = [
        ("system", "rules", None),
        ("system", "more", None),
        ("user", "a", {"parts": [image]}),
        ("assistant", "", {"item": CALL}),
        ("tool", "42", {"item": output}),
        ("assistant", "", {"item": {"type": "item_reference", "id": "x"}}),
    ]
    found = [(m.role, m.content, m.extra and json.loads(m.extra)) for m in question.messages]
    assert expected == found
    assert question == responses.parse_request(responses.encode_request(question))


def test_text_is_one_user_turn() -> None:
    """A bare text is what the user says; history that lies elsewhere is a session."""
    found = responses.parse_responses_request(
        _body(input="hi", stream=True, previous_response_id="resp_0")
    )
    (message,) = found.question.messages
    assert ("user", "hi", True) == (message.role, message.content, found.is_streamed)
    base = Exchange(exchange_id="1", account="a", started_at=1.0)
    exchange = responses.exchange_from(found.question, None, circumstances=base)
    assert ("resp_0", {}) == (exchange.session, exchange.parameters)
    assert "c" == responses.session_of({"conversation": {"id": "c"}, "previous_response_id": "r"})


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (b"{", None, "invalid_json"),
        (b"\xff", None, "invalid_json"),
        (b"[]", None, "invalid_value"),
        (b"{}", "input", "invalid_value"),
        (_body(input=5), "input", "invalid_value"),
        (_body(input=["hi"]), "input[0]", "invalid_value"),
        (_body(input=[{"content": "a"}]), "input[0].role", "invalid_value"),
        (_body(input=[{"role": "user"}]), "input[0].content", "invalid_value"),
        (_body(model=1, input="x"), "model", "invalid_value"),
    ],
)
def test_bad_request(body: bytes, param: str | None, code: str) -> None:
    """What no model could answer is refused with the field and a code."""
    with pytest.raises(BadRequestError) as caught:
        responses.parse_request(body)
    assert (param, code) == (caught.value.param, caught.value.code)


def test_stored_prompt_needs_no_input() -> None:
    """A stored prompt asks by itself, and its variables are not recorded."""
    question = responses.parse_request(_body(prompt={"id": "p", "variables": {"name": "me"}}))
    base = Exchange(exchange_id="1", account="a", started_at=1.0)
    assert {} == responses.exchange_from(question, None, circumstances=base).parameters


def test_reply_of_others() -> None:
    """Texts join, reasoning comes from summary and content, a refusal and the rest are kept."""
    body = {
        "model": "m",
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": [
            {
                "type": "reasoning",
                "id": "rs",
                "summary": [{"type": "summary_text", "text": "one"}],
                "content": [{"type": "reasoning_text", "text": "two"}],
                "encrypted_content": "zzz",
            },
            {"type": "message", "content": [{"type": "output_text", "text": "a"}, "odd", NEW]},
            CALL,
            {
                "type": "message",
                "content": [
                    {"type": "output_text", "text": "b", "logprobs": [{"token": "b"}]},
                    {"type": "refusal", "refusal": "no"},
                ],
            },
        ],
        "usage": {"input_tokens": 3, "output_tokens": "4"},
    }
    reply = responses.parse_response(json.dumps(body).encode())
    (answer,) = reply.answers
    assert ("ab", "max_output_tokens", "one\ntwo") == (
        answer.text,
        answer.finish_reason,
        answer.reasoning,
    )
    sealed = {"type": "reasoning", "id": "rs", "encrypted_content": "zzz"}
    expected = {"items": [sealed, NEW, CALL], "refusal": "no", "logprobs": [{"token": "b"}]}
    assert expected == json.loads(answer.extra or "")
    assert (3, None) == (reply.input_tokens, reply.output_tokens)


def test_vendor_reads_what_is_written() -> None:
    """The vendor's own types take a reply as it is written, whole and streamed."""
    answer = Answer("hi", "completed", "hm", json.dumps({"items": [CALL]}))
    reply = Reply(answers=(answer,), model_returned="m", input_tokens=3, output_tokens=4)
    body = json.loads(responses.encode_response(HEAD, reply))
    # What only a server knows of its request; the vendor's type wants it.
    echoed = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    details: dict[str, Any] = {
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    told = {**body, **echoed, "usage": {**body["usage"], **details}}
    assert "hi" == Response.model_validate(told).output_text
    vendor: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    events = EventParser().feed(b"".join(encode_stream(HEAD, reply)))
    inner = [json.loads(e.data) for e in events if "response" not in json.loads(e.data)]
    assert [event["type"] for event in inner] == [vendor.validate_python(e).type for e in inner]


@pytest.mark.parametrize("body", [b"{}", b"[]", b"no", b'{"output": "x"}'])
def test_no_response(body: bytes) -> None:
    """What is no response is said to be none, by its length only."""
    with pytest.raises(ModelError, match=f"got {len(body)} bytes"):
        responses.parse_response(body)


def test_cut_stream() -> None:
    """A cut stream gives what its deltas brought, item by item, without a reason to have ended."""
    created = {"id": "resp_1", "model": "m", "status": "in_progress", "output": []}
    assembler = _stream(
        {"type": "response.created", "response": created},
        _delta("reasoning_summary_text", "hm", summary_index=0),
        {
            "type": "response.output_item.added",
            "output_index": 1,
            "item": {"type": "message", "id": "msg", "content": []},
        },
        _delta("output_text", "Ha", index=1, content_index=0),
        _delta("output_text", "lf", index=1, content_index=0),
        _delta("refusal", "n", index=1, content_index=1),
        _delta("function_call_arguments", '{"a', index=2),
    )
    (answer,) = assembler.reply().answers
    assert ("Half", "", "hm") == (answer.text, answer.finish_reason, answer.reasoning)
    expected = {"items": [{"type": "function_call", "arguments": '{"a'}], "refusal": "n"}
    assert expected == json.loads(answer.extra or "")
    assert (False, True, "resp_1") == (
        assembler.done,
        assembler.has_output,
        assembler.response_id,
    )


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"type": "error", "code": "server_error", "message": "secret"}, "server_error"),
        ({"type": "x", "error": {"type": "overloaded"}}, "overloaded"),
        (
            {"type": "response.failed", "response": {"error": {"code": "invalid_prompt"}}},
            "invalid_prompt",
        ),
    ],
)
def test_error_in_a_stream(event: dict[str, Any], code: str) -> None:
    """An error after 200 is named by its code, wherever it stands."""
    assert code == _stream(_delta("output_text", "a", content_index=0), event).error_code


def test_finished_items_are_believed() -> None:
    """Of a cut stream, an item that was told whole goes before its deltas."""
    item = {"type": "message", "content": [{"type": "output_text", "text": "whole"}]}
    assembler = _stream(
        _delta("output_text", "part", content_index=0),
        {"type": "response.output_item.done", "output_index": 0, "item": item},
    )
    # The last event was not ended by an empty line.
    assembler.feed(b'data: {"type": "response.in_progress"}')
    assert ("whole", 3) == (assembler.reply().answers[0].text, assembler.n_chunks)


def test_instructions_as_items() -> None:
    """Instructions in the form in which a reply echoes them are kept as a parameter."""
    item = {"type": "message", "role": "developer", "content": "x"}
    question = responses.parse_request(_body(input="hi", instructions=[item]))
    assert {"instructions": [item]} == question.parameters


def test_ending_is_believed() -> None:
    """The ending carries the whole response again and goes before what the deltas brought."""
    whole = {
        "id": "resp_1",
        "model": "m",
        "status": "completed",
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "whole"}]}],
        "usage": {"input_tokens": 1, "output_tokens": 2},
    }
    assembler = _stream(
        _delta("output_text", "lost a piece", content_index=0),
        {"type": "response.brand_new", "output_index": 0},
        {"type": "response.completed", "response": whole},
    )
    assembler.feed(b"data: nonsense\n\ndata: [DONE]\n\n")
    reply = assembler.reply()
    assert ("whole", "completed", 2, True, 1) == (
        reply.answers[0].text,
        reply.answers[0].finish_reason,
        reply.output_tokens,
        assembler.done,
        assembler.n_unreadable,
    )
