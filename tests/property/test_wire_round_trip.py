"""Questions and replies of every kind survive the wire, whole and in pieces of any size."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from stillwatch.model.protocol import Question, Reply
from stillwatch.record.exchange import Answer, Message, canonical_json
from stillwatch.wire import chat
from stillwatch.wire.sse import EventParser, encode_event

HEAD = chat.ReplyHead("chatcmpl-1", "house", 1_700_000_000)

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
NAME = st.sampled_from(["", "stop", "length", "tool_calls", "content_filter"])
COUNT = st.integers(0, 2**53)
JSON = st.recursive(
    st.one_of(st.booleans(), st.integers(-(2**60), 2**60), st.floats(-1e9, 1e9), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=5,
)
PARTS = st.lists(
    st.fixed_dictionaries({"type": st.just("image_url"), "image_url": JSON}), min_size=1, max_size=2
)
CALLS = st.lists(
    st.fixed_dictionaries({
        "id": TEXT,
        "type": st.just("function"),
        "function": st.fixed_dictionaries({"name": TEXT, "arguments": TEXT}),
    }),
    min_size=1,
    max_size=3,
)
MESSAGE_EXTRA = st.fixed_dictionaries(
    {},
    optional={
        "name": TEXT,
        "tool_call_id": TEXT,
        "tool_calls": CALLS,
        "parts": PARTS,
    },
)
MESSAGES = st.builds(
    Message,
    role=st.sampled_from(["system", "user", "assistant", "tool"]),
    content=TEXT,
    extra=MESSAGE_EXTRA.map(lambda extra: canonical_json(extra) if extra else None),
)
QUESTIONS = st.builds(
    Question,
    messages=st.lists(MESSAGES, min_size=1, max_size=4).map(tuple),
    model=TEXT,
    parameters=st.dictionaries(
        st.sampled_from(["temperature", "n", "stop", "tools", "seed", "x_new", "user"]), JSON
    ),
)
LOGPROBS = st.fixed_dictionaries({
    "content": st.lists(
        st.fixed_dictionaries({
            "token": TEXT,
            "logprob": st.floats(-50, 0),
            "top_logprobs": st.just([]),
        }),
        max_size=3,
    )
})
ANSWER_EXTRA = st.fixed_dictionaries(
    {}, optional={"refusal": TEXT.filter(bool), "tool_calls": CALLS, "logprobs": LOGPROBS}
)
ANSWERS = st.builds(
    Answer,
    text=TEXT,
    finish_reason=NAME,
    reasoning=st.none() | TEXT.filter(bool),
    extra=ANSWER_EXTRA.map(lambda extra: canonical_json(extra) if extra else None),
)


def _replies(answers: list[Answer], model: str, counts: tuple[int, int] | None) -> Reply:
    told = counts or (None, None)
    return Reply(
        answers=tuple(answers), model_returned=model, input_tokens=told[0], output_tokens=told[1]
    )


REPLIES = st.builds(
    _replies,
    st.lists(ANSWERS, max_size=3),
    TEXT.filter(bool),
    st.none() | st.tuples(COUNT, COUNT),
)


@given(QUESTIONS, st.booleans())
def test_question(question: Question, stream: bool) -> None:
    """A question is read from the body that was written of it, streamed or not."""
    body = chat.encode_request(question, stream=stream)
    assert chat.ChatRequest(question, stream, stream) == chat.parse_chat_request(body)
    assert question == chat.parse_request(body)


@given(REPLIES)
def test_whole_reply(reply: Reply) -> None:
    """A reply is read from the body that was written of it."""
    assert reply == chat.parse_response(chat.encode_response(HEAD, reply))


@given(REPLIES, st.data())
def test_streamed_reply(reply: Reply, data: st.DataObject) -> None:
    """A reply is put together from its stream, wherever the bytes are split."""
    head = HEAD._replace(model=reply.model_returned)
    raw = b"".join(chat.encode_stream(head, reply, include_usage=True))
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=8).map(sorted))
    assembler = chat.ChunkAssembler()
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        assembler.feed(raw[start:end])
    told = assembler.reply()
    assert reply.answers == told.answers
    assert (True, 0, None) == (assembler.done, assembler.n_unreadable, assembler.error_code)
    assert (reply.input_tokens, reply.output_tokens) == (told.input_tokens, told.output_tokens)


@given(REPLIES)
def test_the_common_client_reads_it(reply: Reply) -> None:
    """The openai library's own types accept what is written, and see the same texts."""
    # A finished reply says why it finished: the library's type knows no null there.
    ended = tuple(msgspec.structs.replace(a, finish_reason="stop") for a in reply.answers)
    reply = msgspec.structs.replace(reply, answers=ended)
    whole = ChatCompletion.model_validate_json(chat.encode_response(HEAD, reply))
    assert [a.text for a in reply.answers] == [c.message.content for c in whole.choices]
    parser = EventParser()
    events = parser.feed(b"".join(chat.encode_stream(HEAD, reply, include_usage=True)))
    chunks = [ChatCompletionChunk.model_validate_json(e.data) for e in events[:-1]]
    texts = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(a.text for a in reply.answers) == "".join(texts)


@given(st.binary(max_size=60), st.sampled_from([b"", b"data: ", b'data: {"choices":']))
def test_assembler_never_fails(raw: bytes, start: bytes) -> None:
    """A stream of anything is watched without an exception."""
    assembler = chat.ChunkAssembler()
    assembler.feed(start + raw)
    assert () == assembler.reply().answers


def _event(body: object) -> bytes:
    return encode_event(canonical_json(body))


@given(JSON)
def test_odd_chunks(value: object) -> None:
    """JSON of another shape than a chunk's is watched without an exception."""
    assembler = chat.ChunkAssembler()
    for name in ("choices", "usage", "model", "error"):
        assembler.feed(_event({name: value}))
        for inner in ("index", "delta", "logprobs", "finish_reason"):
            assembler.feed(_event({"choices": [{inner: value}]}))
        for inner in ("content", "tool_calls", "role", "reasoning"):
            assembler.feed(_event({"choices": [{"delta": {inner: value}}]}))
    assert assembler.reply().output_tokens is None


@given(st.one_of(st.binary(max_size=40), JSON.map(lambda v: canonical_json(v).encode())))
def test_odd_request(body: bytes) -> None:
    """Any body is either a question or a clean refusal that does not repeat it."""
    try:
        told = len(chat.parse_request(body).messages)
    except chat.BadRequestError as error:
        told = str(error).startswith("chat request: ")
    assert told
