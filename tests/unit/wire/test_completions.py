"""Legacy Completions: prompts of every kind, answers whole and streamed."""

import json

import pytest

from stillwatch.record.exchange import Answer, Exchange, Message
from stillwatch.wire.chat import BadRequestError
from stillwatch.wire.completions import TextAssembler, exchange_from, parse_completions_request

STREAM = (
    b'data: {"model":"m","choices":[{"index":0,"text":"X","logprobs":{"tokens":["X"]}}]}\n\n'
    b'data: {"choices":[{"index":1,"text":"one"},{"index":0,"text":"IV",'
    b'"logprobs":{"tokens":["IV"]},"finish_reason":"stop"}]}\n\n'
    b"data: no chunk\n\n"
    b'data: {"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":2}}\n\n'
    b"data: [DONE]\n\n"
)


@pytest.mark.parametrize(
    ("prompt", "messages"),
    [
        ("once", (Message("user", "once"),)),
        (["a", "b"], (Message("user", "a"), Message("user", "b"))),
        ([5, 6], (Message("user", "", '{"token_ids":[5,6]}'),)),
        ([[5], "a"], (Message("user", "", '{"token_ids":[5]}'), Message("user", "a"))),
    ],
)
def test_prompts(prompt: object, messages: tuple[Message, ...]) -> None:
    """Every kind of prompt becomes user messages, token numbers kept as what they are."""
    body = json.dumps({"model": "m", "prompt": prompt, "stream": True, "best_of": 2})
    question, is_streamed = parse_completions_request(body.encode())
    assert (messages, "m", {"best_of": 2}, True) == (
        question.messages, question.model, question.parameters, is_streamed
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "param"),
    [({"prompt": []}, "prompt"), ({}, "prompt"),
     ({"prompt": 5}, "prompt"), ({"prompt": ["a", 1.5]}, "prompt[1]"),
     ({"prompt": "a", "model": 3}, "model")],
)  # fmt: skip
def test_refused(body: object, param: str) -> None:
    """What cannot be a prompt is refused by its name, without its value."""
    with pytest.raises(BadRequestError) as caught:
        parse_completions_request(json.dumps(body).encode())
    assert param == caught.value.param


@pytest.mark.parametrize("step", [1, 7, len(STREAM)])
def test_stream(step: int) -> None:
    """A stream split anywhere gives its choices in order, log-probabilities joined."""
    assembler = TextAssembler()
    for place in range(0, len(STREAM), step):
        assembler.feed(STREAM[place : place + step])
    reply = assembler.reply()
    first = Answer("XIV", "stop", extra='{"logprobs":{"tokens":["X","IV"]}}')
    assert ((first, Answer("one")), "m", 4, 2) == (
        reply.answers, reply.model_returned, reply.input_tokens, reply.output_tokens
    )  # fmt: skip
    assert (True, 1, None) == (assembler.done, assembler.n_unreadable, assembler.error_code)


def test_error_in_a_stream() -> None:
    """An error inside a stream is named without its message."""
    assembler = TextAssembler()
    assembler.feed(b'data: {"error":{"message":"quotes the prompt","code":"overloaded"}}\n\n')
    assert ("overloaded", ()) == (assembler.error_code, assembler.reply().answers)


def test_record() -> None:
    """The exchange names its wire as the readers of logs do."""
    question, _ = parse_completions_request(b'{"prompt": "a", "user": "u", "best_of": 2}')
    base = Exchange(exchange_id="1", account="ann", started_at=0.0)
    exchange = exchange_from(question, None, circumstances=base)
    assert ("other", "a", {"best_of": 2}) == (
        exchange.wire, exchange.question, exchange.parameters
    )  # fmt: skip
