"""Refusals: the wire's word first, then the wording, at the error rates that the docs state."""

import json
from pathlib import Path

import pytest

from stillwatch.distill.filtering.refusals import is_refusal, refusal_of
from stillwatch.record.exchange import Answer
from stillwatch.wire.chat import parse_response as parse_chat
from stillwatch.wire.messages import parse_response as parse_messages
from stillwatch.wire.responses import parse_response as parse_responses

LABELLED = Path(__file__).parents[2] / "fixtures" / "refusals.jsonl"


def test_labelled() -> None:
    """On the labelled list at most 2 % of refusals are missed, and no answer is taken for one."""
    rows = [json.loads(line) for line in LABELLED.read_text(encoding="utf-8").splitlines()]
    found = [is_refusal(row["text"], question=row.get("question", "")) for row in rows]
    missed = sum(row["refuses"] and not said for row, said in zip(rows, found, strict=True))
    false = sum(said and not row["refuses"] for row, said in zip(rows, found, strict=True))
    assert (216, 101) == (len(rows), sum(row["refuses"] for row in rows))
    assert (1, 0) == (missed, false)


def test_chat_wire() -> None:
    """Chat Completions: the refusal field and the content filter."""
    body = b'{"choices":[{"message":{"content":null,"refusal":"No."},"finish_reason":"stop"}]}'
    assert "refusal" == refusal_of(parse_chat(body).answers[0])
    body = b'{"choices":[{"message":{"content":""},"finish_reason":"content_filter"}]}'
    assert "content_filter" == refusal_of(parse_chat(body).answers[0])


def test_messages_wire() -> None:
    """Messages: the stop reason."""
    body = b'{"content":[],"stop_reason":"refusal","usage":{}}'
    assert "refusal" == refusal_of(parse_messages(body).answers[0])


def test_responses_wire() -> None:
    """Responses: the refusal part, and what a response was incomplete for."""
    message = '{"type":"message","role":"assistant","content":[{"type":"refusal","refusal":"No."}]}'
    body = f'{{"status":"completed","output":[{message}]}}'.encode()
    assert "refusal" == refusal_of(parse_responses(body).answers[0])
    body = b'{"status":"incomplete","incomplete_details":{"reason":"content_filter"},"output":[]}'
    assert "content_filter" in {refusal_of(answer) for answer in parse_responses(body).answers}


@pytest.mark.parametrize("text", ["", "   ", "4", "```python\n# I can't help with that\n```"])
def test_not_wording(text: str) -> None:
    """Nothing, a number and code are no refusals."""
    assert None is refusal_of(Answer(text=text))


def test_long_answer() -> None:
    """An opening that sounds like a refusal before a long answer is a disclaimer."""
    opening = "I can't give medical advice."
    assert [True, False] == [is_refusal(opening), is_refusal(opening + " Rest and drink." * 150)]
