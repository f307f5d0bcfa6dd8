"""The exchange: its schema follows its fields, its batches give back what they were given."""

from typing import Any

import msgspec
import pyarrow as pa
import pytest

from stillwatch.record.exchange import (
    ARROW_SCHEMA,
    Answer,
    Exchange,
    Message,
    canonical_json,
    from_batch,
    to_batch,
    total_output_tokens,
)


def _exchange(**fields: Any) -> Exchange:
    return Exchange(**{"exchange_id": "e", "account": "a", "started_at": 1.0, **fields})


def test_schema_follows_the_fields() -> None:
    """The store has one column a field, in the order of the fields."""
    assert list(Exchange.__struct_fields__) == ARROW_SCHEMA.names
    assert ARROW_SCHEMA == to_batch([]).schema


def test_batch_round_trip() -> None:
    """Conversations, parameters with their JSON types, tags and unknowns survive a batch."""
    exchanges = [
        _exchange(),
        _exchange(
            messages=(
                Message(role="system", content=""),
                Message(role="user", content="ü\n", extra="{}"),
            ),
            answers=(Answer(text="x"), Answer(text="", finish_reason="length", reasoning="r")),
            parameters={
                "temperature": 0,
                "top_p": 0.5,
                "stop": ["a"],
                "logit_bias": {"1": -1},
                "x": None,
            },
            tags={"z": "1", "a": ""},
            status=0,
            error="timeout",
            streamed=True,
            output_tokens=0,
        ),
    ]
    assert exchanges == from_batch(to_batch(exchanges))
    assert [] == from_batch(to_batch([]))


def test_partial_batch() -> None:
    """Columns that are absent or null take the fields' defaults; foreign ones are passed over."""
    columns = {"exchange_id": ["e"], "account": ["a"], "started_at": [1.0], "day": ["x"]}
    batch = pa.RecordBatch.from_pydict({**columns, "status": pa.array([None], pa.int32())})
    assert [_exchange()] == from_batch(batch)


@pytest.mark.parametrize(
    ("messages", "question", "system"),
    [
        ((), "", ""),
        ((("user", "a"), ("assistant", "b"), ("user", "c"), ("tool", "d")), "c", ""),
        ((("system", "x"), ("user", "a"), ("system", "y")), "a", "x\ny"),
    ],
)
def test_question_and_system(
    messages: tuple[tuple[str, str], ...], question: str, system: str
) -> None:
    """The question is the last user turn; system turns join by lines; absent ones are empty."""
    exchange = _exchange(messages=tuple(Message(role=r, content=c) for r, c in messages))
    assert (question, system) == (exchange.question, exchange.system)


def test_answer() -> None:
    """The answer is the first choice, or empty when there was none."""
    answers = (Answer(text="one"), Answer(text="two"))
    assert ("one", "") == (_exchange(answers=answers).answer, _exchange().answer)


def test_defaults_take_no_room() -> None:
    """A line of the journal holds only what is not the default, and reads back equal."""
    raw = msgspec.json.encode(_exchange())
    assert b'{"exchange_id":"e","account":"a","started_at":1.0}' == raw
    assert _exchange() == msgspec.json.decode(raw, type=Exchange)


def test_default_containers_are_not_shared() -> None:
    """Each exchange has parameters and tags of its own."""
    assert _exchange().parameters is not _exchange().parameters
    assert _exchange().tags is not _exchange().tags


def test_canonical_json() -> None:
    """Equal values give equal text, whatever the order of keys; structs are plain objects."""
    assert canonical_json({"b": {"d": 1, "c": 2}, "a": 1}) == canonical_json({
        "a": 1,
        "b": {"c": 2, "d": 1},
    })
    assert '{"content":"x","role":"user"}' == canonical_json(Message(role="user", content="x"))


def test_total_output_tokens() -> None:
    """Unknown counts add nothing."""
    assert 7 == total_output_tokens([_exchange(output_tokens=n) for n in (3, None, 4)])
    assert 0 == total_output_tokens([])
