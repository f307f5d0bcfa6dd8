"""Questions and replies survive the Messages and the Responses wire, whole and in any pieces."""

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stillwatch.record.exchange import Answer, Message, canonical_json
from stillwatch.wire import messages, messages_stream, responses, responses_stream
from stillwatch.wire.chat import ReplyHead
from stillwatch.wire.question import Question, Reply

HEAD = ReplyHead("id_1", "house", 1_700_000_000)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
WORD = TEXT.filter(bool)
JSON = st.recursive(
    st.one_of(st.booleans(), st.integers(-(2**60), 2**60), st.floats(-1e9, 1e9), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=5,
)
INPUT = st.dictionaries(TEXT, JSON, max_size=3)


def _extra(**optional: Any) -> Any:
    fields = st.fixed_dictionaries({}, optional=optional)
    return fields.map(lambda extra: canonical_json(extra) if extra else None)


def _typed(kind: str, **fields: Any) -> Any:
    return st.fixed_dictionaries({"type": st.just(kind), **fields})


def _lists(part: Any) -> Any:
    return st.lists(part, min_size=1, max_size=3)


def _messages(role: str, extra: Any) -> Any:
    return st.builds(Message, role=st.just(role), content=TEXT, extra=extra)


def _questions(*turns: Any, names: list[str]) -> Any:
    return st.builds(
        Question,
        messages=st.lists(st.one_of(*turns), min_size=1, max_size=5).map(tuple),
        model=TEXT,
        parameters=st.dictionaries(st.sampled_from(names), JSON, max_size=4),
    )


def _replies(answers: Any) -> Any:
    counts = st.one_of(st.just((None, None)), st.tuples(st.integers(0, 2**40), st.integers(0, 9)))
    return st.builds(
        lambda answer, model, told: Reply(
            answers=(answer,), model_returned=model, input_tokens=told[0], output_tokens=told[1]
        ),
        answers,
        WORD,
        counts,
    )


IMAGE = _typed("image", source=JSON)
TOOL_USE = _typed("tool_use", id=TEXT, name=TEXT, input=INPUT)
ANTHROPIC_QUESTIONS = _questions(
    _messages("system", st.none()),
    _messages("user", _extra(parts=_lists(IMAGE))),
    _messages("assistant", _extra(parts=_lists(TOOL_USE))),
    _messages("tool", _extra(tool_use_id=TEXT, is_error=st.booleans(), parts=_lists(IMAGE))),
    names=["max_tokens", "temperature", "tools", "thinking", "metadata", "x_new"],
)
ANTHROPIC_ANSWERS = st.builds(
    Answer,
    text=TEXT,
    finish_reason=st.sampled_from(["end_turn", "max_tokens", "tool_use", "refusal"]),
    reasoning=st.none() | TEXT,
    extra=_extra(parts=_lists(TOOL_USE), stop_sequence=WORD),
)
SIGNED_ANSWERS = st.builds(
    Answer,
    text=WORD,
    finish_reason=st.just("end_turn"),
    reasoning=TEXT,
    extra=_extra(signatures=_lists(WORD), citations=_lists(_typed("char_location", title=TEXT))),
)
CALL = _typed("function_call", call_id=TEXT, name=TEXT, arguments=TEXT)
OPENAI_QUESTIONS = _questions(
    _messages("system", st.none()),
    _messages("user", _extra(parts=_lists(_typed("input_image", image_url=TEXT)))),
    _messages("assistant", _extra(parts=_lists(_typed("refusal", refusal=TEXT)), status=TEXT)),
    CALL.map(lambda item: Message("assistant", "", canonical_json({"item": item}))),
    st.tuples(TEXT, TEXT).map(
        lambda pair: Message(
            "tool",
            pair[1],
            canonical_json({
                "item": {"type": "function_call_output", "call_id": pair[0], "output": pair[1]}
            }),
        )
    ),
    names=["max_output_tokens", "temperature", "tools", "reasoning", "x_new", "conversation"],
)
OPENAI_ANSWERS = st.builds(
    Answer,
    text=TEXT,
    finish_reason=st.sampled_from(["completed", "max_output_tokens", "content_filter"]),
    reasoning=st.none() | TEXT,
    extra=_extra(
        items=_lists(CALL), refusal=WORD, logprobs=_lists(_typed("x", token=TEXT)),
        annotations=_lists(_typed("url_citation", url=TEXT)),
    ),
)  # fmt: skip


@given(ANTHROPIC_QUESTIONS, st.booleans())
def test_messages_question(question: Question, stream: bool) -> None:
    """A question written for the Messages wire reads back as the same question."""
    found = messages.parse_messages_request(messages.encode_request(question, stream=stream))
    assert (question, stream) == found


@given(OPENAI_QUESTIONS, st.booleans())
def test_responses_question(question: Question, stream: bool) -> None:
    """A question written for the Responses wire reads back as the same question."""
    found = responses.parse_responses_request(responses.encode_request(question, stream=stream))
    assert (question, stream) == found


@given(_replies(ANTHROPIC_ANSWERS | SIGNED_ANSWERS))
def test_messages_reply(reply: Reply) -> None:
    """A message reads back as the same reply."""
    assert reply == messages.parse_response(messages.encode_response(HEAD, reply))


@given(_replies(OPENAI_ANSWERS))
def test_responses_reply(reply: Reply) -> None:
    """A response reads back as the same reply."""
    assert reply == responses.parse_response(responses.encode_response(HEAD, reply))


def _pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(edges)]


CUTS = st.lists(st.integers(0, 10_000), max_size=8)


@given(_replies(ANTHROPIC_ANSWERS | SIGNED_ANSWERS), CUTS)
def test_messages_stream(reply: Reply, cuts: list[int]) -> None:
    """A streamed message, cut anywhere, assembles to the reply."""
    assembler = messages_stream.MessageAssembler()
    for piece in _pieces(b"".join(messages_stream.encode_stream(HEAD, reply)), cuts):
        assembler.feed(piece)
    assert reply == assembler.reply()
    assert (True, 0, HEAD.response_id) == (
        assembler.done,
        assembler.n_unreadable,
        assembler.response_id,
    )


@given(_replies(OPENAI_ANSWERS), CUTS)
def test_responses_stream(reply: Reply, cuts: list[int]) -> None:
    """A streamed response, cut anywhere, assembles to the reply."""
    assembler = responses_stream.ResponseAssembler()
    for piece in _pieces(b"".join(responses_stream.encode_stream(HEAD, reply)), cuts):
        assembler.feed(piece)
    assert reply == assembler.reply()
    assert (True, 0) == (assembler.done, assembler.n_unreadable)


@given(st.binary(max_size=200), JSON)
def test_watching_never_fails(data: bytes, odd: object) -> None:
    """Whatever comes, an assembler goes on, and a reader of decoded replies gives a reply."""
    for make in (messages_stream.MessageAssembler, responses_stream.ResponseAssembler):
        assembler = make()
        assembler.feed(data + b"\n\ndata: " + canonical_json(odd).encode() + b"\n\n")
        assert () == assembler.reply().answers
    found = {"content": odd, "output": {"x": odd}, "usage": odd, "model": odd, "error": odd}
    for read in (messages.reply_from, responses.reply_from):
        assert len(read(found).answers) <= 1
