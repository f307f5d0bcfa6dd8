"""The wires as routes see them: paths, questions, answers and errors of each."""

import contextlib
import gzip
import json
import math
import re
import zlib

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillwatch.guard.routes.headers import PATIENCE_S, error_headers, to_upstream
from stillwatch.guard.routes.reading import plain_json, readable, without_bulk
from stillwatch.guard.routes.stored import begins_conversation, names_in_body, stored_id_of
from stillwatch.guard.routes.wires import (
    CHAT,
    COMPLETIONS,
    MESSAGES,
    RESPONSES,
    UNREADABLE,
    Wire,
    shape_of,
    wire_of,
)
from stillwatch.record.exchange import Exchange
from stillwatch.wire.chat import BadRequestError
from stillwatch.wire.question import Question

PICTURE = "iVBORw0KGgo" * 2000
ASKED = {
    CHAT: {"model": "m", "messages": [{"role": "user", "content": "q"}]},
    COMPLETIONS: {"model": "m", "prompt": "q"},
    RESPONSES: {"model": "m", "input": "q"},
    MESSAGES: {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "q"}]},
}
ANSWERED = {
    CHAT: {"id": "c", "choices": [{"index": 0, "message": {"content": "a"}}]},
    COMPLETIONS: {"id": "c", "choices": [{"index": 0, "text": "a"}]},
    RESPONSES: {
        "id": "resp_1",
        "status": "completed",
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "a"}]}],
    },
    MESSAGES: {"id": "msg_1", "content": [{"type": "text", "text": "a"}], "stop_reason": "end"},
}
WIRES = pytest.mark.parametrize("wire", list(ASKED), ids=lambda wire: wire.name)


@pytest.mark.parametrize(
    ("path", "wire"),
    [
        ("/v1/chat/completions", CHAT),
        ("/openai/deployments/gpt-x/chat/completions/", CHAT),
        ("//v1/./Chat//completions/.", CHAT),
        ("/v1/models/../chat/completions", CHAT),
        ("/v1/completions", COMPLETIONS),
        ("/v1/responses", RESPONSES),
        ("/v1/messages", MESSAGES),
        ("/anthropic/v1/messages", MESSAGES),
        ("/v1/threads/thread_1/messages", None),
        ("/v1/messages/count_tokens", None),
        ("/v1/messages/batches", None),
        ("/v1/responses/resp_1", None),
        ("/v1/embeddings", None),
        ("/", None),
    ],
)
def test_paths(path: str, wire: Wire | None) -> None:
    """Every spelling of a route that is read is read, and no other route."""
    assert wire is wire_of(path)


@pytest.mark.parametrize(
    ("path", "headers", "shape"),
    [
        ("/v1/messages/count_tokens", {}, MESSAGES),
        ("/v1/models", {b"anthropic-version": b"2023-06-01"}, MESSAGES),
        ("/v1/models", {}, CHAT),
        ("/v1/threads/thread_1/messages", {}, CHAT),
        ("/v1/chat/completions/chatcmpl-1/messages", {}, CHAT),
    ],
)
def test_shapes(path: str, headers: dict[bytes, bytes], shape: Wire) -> None:
    """An error on a route that is not read has the shape that its client knows."""
    assert shape is shape_of(path, headers)


@WIRES
def test_question(wire: Wire) -> None:
    """Each wire reads its question and whether the answer is streamed."""
    parsed = wire.parse(json.dumps(ASKED[wire] | {"stream": True}).encode())
    assert ("q", "m", True) == (
        parsed.question.messages[-1].content, parsed.question.model, parsed.is_streamed
    )  # fmt: skip
    with pytest.raises(BadRequestError):
        wire.parse(b"[]")


@WIRES
@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-32-be"])
def test_what_python_takes_for_json(wire: Wire, encoding: str) -> None:
    """Spellings of JSON that model servers in Python accept cannot hide a question."""
    body = json.dumps(ASKED[wire] | {"seed": float("nan"), "x": "\ud800"})
    assert "NaN" in body
    assert "q" == wire.parse(body.encode(encoding)).question.messages[-1].content


@WIRES
def test_what_go_takes_for_the_same_name(wire: Wire) -> None:
    """Names of fields in other case, which model servers in Go accept, cannot hide a question."""
    body = {name.title(): value for name, value in ASKED[wire].items()}
    parsed = wire.parse(json.dumps(body).encode())
    assert ("q", "m") == (parsed.question.messages[-1].content, parsed.question.model)


@WIRES
def test_answer(wire: Wire) -> None:
    """Each wire reads its answer; one that is none says so and raises nothing."""
    read = wire.read(json.dumps(ANSWERED[wire]).encode(), streamed=False)
    assert ("a", None) == (read.reply.answers[0].text, read.error)
    assert ("resp_1" if wire is RESPONSES else None) == read.response_id
    for body in (b"", b"{}", b"[1]", b'{"id": '):
        assert UNREADABLE == wire.read(body, streamed=False).error
        assert () == wire.read(body, streamed=True).reply.answers


@pytest.mark.parametrize(
    ("wire", "more", "n_answers"),
    [
        (CHAT, {}, 1),
        (CHAT, {"n": 4}, 4),
        (CHAT, {"n": "4"}, 4),
        (CHAT, {"n": -3}, 1),
        (CHAT, {"n": [9]}, 1),
        (CHAT, {"n": 1e300}, 1_000_000),
        (COMPLETIONS, {"prompt": ["a", "b"], "n": 2, "best_of": 3}, 6),
        (RESPONSES, {"n": 4}, 1),
        (MESSAGES, {"n": 4}, 1),
    ],
)
def test_answers_asked_for(wire: Wire, more: dict[str, object], n_answers: int) -> None:
    """A question tells how many answers it asks for, however the number is written."""
    assert n_answers == wire.parse(json.dumps(ASKED[wire] | more).encode()).n_answers


def test_failed_response() -> None:
    """A response that failed at status 200 leaves the code of its failure."""
    body = {"id": "resp_1", "status": "failed", "output": [], "error": {"code": "server_error"}}
    assert "server_error" == RESPONSES.read(json.dumps(body).encode(), streamed=False).error


def test_errors() -> None:
    """Each vendor's error has its own shape, with the request's id where there is a place."""
    error = {"message": "no", "type": "permission_error", "param": None, "code": "access_denied"}
    assert {"error": error} == json.loads(
        RESPONSES.refusal(403, "no", code="access_denied", request_id="r1")
    )
    assert {
        "type": "error",
        "error": {"type": "permission_error", "message": "no"},
        "request_id": "r1",
    } == json.loads(MESSAGES.refusal(403, "no", code="access_denied", request_id="r1"))


def test_what_a_question_builds_on() -> None:
    """The answer followed, the conversation and the items referred to are named, in order."""
    body = {
        "previous_response_id": "resp_1",
        "conversation": {"id": "conv_1"},
        "input": [
            {"role": "user", "content": "q"},
            {"type": "item_reference", "id": "msg_1"},
            {"id": "rs_1"},
        ],
    }
    parsed = RESPONSES.parse(json.dumps(body).encode())
    assert ("resp_1", "conv_1", "msg_1", "rs_1") == parsed.refers_to
    assert "conv_1" == parsed.session
    alone = RESPONSES.parse(b'{"previous_response_id": "resp_1", "input": "q"}')
    assert (("resp_1",), "resp_1") == (alone.refers_to, alone.session)


@pytest.mark.parametrize(
    ("user_id", "session"),
    [
        ("user_d_account_a_session_s1", "s1"),
        ('{"device_id": "d", "session_id": "s2"}', "s2"),
        ("{broken", None),
        ("a_session_of_mine", None),
        (7, None),
    ],
)
def test_session_of_messages(user_id: object, session: str | None) -> None:
    """The session that Claude Code packs into its user id is the conversation."""
    body = ASKED[MESSAGES] | {"metadata": {"user_id": user_id}}
    assert session == MESSAGES.parse(json.dumps(body).encode()).session


@pytest.mark.parametrize(
    ("path", "stored_id"),
    [
        ("/v1/responses/resp_1", "resp_1"),
        ("/v1/responses/resp_1/cancel", "resp_1"),
        ("/v1/responses/resp_1/../resp_2/input_items", "resp_2"),
        ("/v1/Conversations/conv_1/items/msg_1", "conv_1"),
        ("/v1/chat/completions/chatcmpl-1/messages", "chatcmpl-1"),
        ("/v1/responses/input_tokens", None),
        ("/v1/responses", None),
        ("/v1/models/gpt-x", None),
    ],
)
def test_stored_ids(path: str, stored_id: str | None) -> None:
    """A path that names a stored answer or conversation gives its id, as written."""
    assert stored_id == stored_id_of(path)


def test_routes_beside_the_answers() -> None:
    """Verbs that name stored answers in their body, and the route that begins a conversation."""
    assert [True, True, False] == [
        names_in_body(f"/v1/{tail}")
        for tail in ("responses/compact", "responses//input_tokens/", "compact")
    ]
    assert [True, False] == [
        begins_conversation(f"/v1/{tail}") for tail in ("conversations", "conversations/conv_1")
    ]


def test_bulk_is_left_out() -> None:
    """Pictures rest as their digest, equal ones equal; words of any length stay words."""
    words = "words and spaces " * 2000
    parts = [
        {"type": "text", "text": words},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}},
        {"type": "image", "source": {"type": "base64", "data": PICTURE}},
    ]
    body = json.dumps({"messages": [{"role": "user", "content": parts}]}).encode()
    light = json.loads(readable(body, encoding=None, limit=10**6))["messages"][0]["content"]
    assert words == light[0]["text"]
    digest = light[2]["source"]["data"]
    assert f"data:image/png;base64,{digest}" == light[1]["image_url"]["url"]
    assert digest.startswith("xxh3:")
    assert digest.endswith(f":{len(PICTURE)}")


_DIGEST = re.compile(r"xxh3:[0-9a-f]{32}:[0-9]+$")
_LONG = ["A" * 5000, ";base64," + "B/" * 3000, 'say "data": "x"']
_TEXTS = st.text(max_size=20) | st.sampled_from(_LONG)
_DOCUMENTS = st.recursive(
    _TEXTS | st.integers() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(_TEXTS | st.sampled_from(["data", "url"]), inner, max_size=4)
    ),
    max_leaves=12,
)


def _light(value: object) -> object:
    """Empty what may be replaced by a digest, in keys too."""
    if isinstance(value, dict):
        return {_light(k): _light(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_light(v) for v in value]
    if isinstance(value, str):
        return "" if len(value) > 4096 or _DIGEST.search(value) else value
    return value


@settings(max_examples=60, deadline=None, derandomize=True)
@given(_DOCUMENTS, st.booleans())
def test_any_document(document: object, ascii_only: bool) -> None:
    """Whatever the document, only base64 is gone, and it is JSON still."""
    body = json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "replace")
    assert _light(json.loads(body)) == _light(json.loads(without_bulk(body)))


@pytest.mark.parametrize(
    ("body", "plain"),
    [
        (b'{"n": 2, "topK": 5}', b'{"n": 2, "topK": 5}'),
        (b'{"N": 2, "topK": 5}', b'{"n": 2, "topK": 5}'),
        (b'{"n": NaN}', b'{"n": null}'),
        ('{"n": "\u00e4"}'.encode("utf-16"), '{"n": "\u00e4"}'.encode()),
        (b"[1]", None),
        (b"{", None),
        (b'{"N": "' + b"x" * 2**22 + b'"}', None),
    ],
)
def test_plain(body: bytes, plain: bytes | None) -> None:
    """A question is written anew where readers would differ, and other names keep their case."""
    assert plain == plain_json(body)


@pytest.mark.parametrize("text", ["plain " * 4000, "ä" * 9000, 'quote " and more ' * 900])
def test_words_are_no_bulk(text: str) -> None:
    """A question that pretends to be a picture is read all the same."""
    body = json.dumps({"q": ";base64," + text}, ensure_ascii=False).encode()
    assert body == without_bulk(body)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd", "br"])
def test_packed_questions(coding: str) -> None:
    """A compressed question is unpacked to be read, up to the limit; a bomb is not, whole."""
    arrow = {"br": "brotli"}.get(coding, coding)

    def pack(body: bytes) -> bytes:
        if coding == "deflate":
            return zlib.compress(body)
        return (
            gzip.compress(body) if coding == "gzip" else pa.Codec(arrow).compress(body).to_pybytes()
        )

    body = json.dumps(ASKED[CHAT]).encode()
    encoding = f"{coding.upper()} ".encode()
    assert body == readable(pack(body), encoding=encoding, limit=1000)
    bomb = pack(bytes(10**7))
    assert 1000 == len(readable(bomb, encoding=encoding, limit=1000))
    assert 10**6 > len(readable(bomb, encoding=encoding, limit=10**8))
    assert b"not packed" == readable(b"not packed", encoding=encoding, limit=1000)
    assert body == readable(body, encoding=b"unheard-of", limit=1000)


@pytest.mark.parametrize(
    ("wait_s", "final", "gives_up"),
    [
        (2.5, False, False),
        (PATIENCE_S + 1, False, True),
        (math.inf, False, True),
        (None, True, True),
        (None, False, False),
    ],
)
def test_retry_lines(wait_s: float | None, final: bool, gives_up: bool) -> None:
    """A short wait is told in both ways; one beyond the clients' patience ends their retries."""
    lines = dict(error_headers(b"{}", retry_after_s=wait_s, final=final))
    assert gives_up is (lines.get(b"x-should-retry") == b"false")
    told = wait_s is not None and wait_s < math.inf
    assert told is (b"retry-after" in lines)
    if told:
        assert str(int(wait_s * 1000)).encode() == lines[b"retry-after-ms"]


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        ([("authorization", "Bearer a"), ("x-api-key", "b")], {"authorization": "Bearer a"}),
        ([("x-api-key", "b"), ("api-key", "c"), ("authorization", "Basic d")], {"x-api-key": "b"}),
        ([("api-key", "c")], {"api-key": "c"}),
        ([("x-odd", "1")], {"x-odd": "1"}),
    ],
)
def test_one_key_is_forwarded(lines: list[tuple[str, str]], kept: dict[str, str]) -> None:
    """Of several keys the model server sees the one that the client was judged by."""
    pairs = [(name.encode(), value.encode()) for name, value in lines]
    assert kept == dict(to_upstream(pairs, keep_key=True, plain_answer=False))


_WORDS = st.sampled_from([
    "messages", "Messages", "input", "prompt", "model", "role", "content", "type", "id", "text",
    "n", "conversation", "metadata", "user_id", "tools", "output", "choices", "message", "delta",
    "index", "response", "item", "usage", "error", "logprobs", "user", "item_reference",
])  # fmt: skip
_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.dictionaries(_WORDS, _ANYTHING, max_size=6))
def test_nothing_breaks_a_wire(document: dict[str, object]) -> None:
    """Whatever a client or a model server sends is read, refused by name or not read: no more."""
    body = json.dumps(document).encode("utf-8", "replace")
    blank = Exchange(exchange_id="1", account="ann", started_at=0.0)
    for wire in ASKED:
        question = Question(messages=())
        with contextlib.suppress(BadRequestError):
            question = wire.parse(body).question
        for streamed in (False, True):
            frame = b"data: " + body + b"\n\n" if streamed else body
            reply = wire.read(frame, streamed=streamed).reply
            exchange = wire.join(question, reply, blank)
            assert exchange == msgspec.json.decode(msgspec.json.encode(exchange), type=Exchange)
