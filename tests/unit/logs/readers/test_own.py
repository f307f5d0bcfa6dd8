"""The house's own form as a log."""

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.errors import InvalidInputError
from stillwatch.logs.reader import Origin, ReadOptions
from stillwatch.logs.readers.own import READER
from stillwatch.logs.source import records_of
from stillwatch.record.exchange import Answer, Exchange, Message, to_batch
from stillwatch.record.privacy import KeyedHash

TESTS = Path(__file__).resolve().parents[3]
FIXTURE = TESTS / "fixtures/logs/own/exchanges.jsonl"
GOLDEN = TESTS / "golden/logs/own.jsonl"
OPTIONS = ReadOptions(KeyedHash(bytes(32)))
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_NUMBER = st.floats(1, 4e9)
_EXCHANGES = st.builds(
    Exchange,
    exchange_id=_TEXT,
    account=_TEXT,
    started_at=_NUMBER,
    ended_at=st.none() | _NUMBER,
    messages=st.lists(st.builds(Message, _TEXT, _TEXT, st.none() | _TEXT)).map(tuple),
    answers=st.lists(st.builds(Answer, _TEXT, _TEXT, st.none() | _TEXT)).map(tuple),
    parameters=st.dictionaries(_TEXT, st.integers(-9, 9) | _TEXT | st.lists(st.booleans())),
    input_tokens=st.none() | st.integers(0, 2**40),
    streamed=st.booleans(),
    org=st.none() | _TEXT,
    origin=st.just("log:1"),
    tags=st.dictionaries(_TEXT, _TEXT),
)


def _read(record: object, line: int = 1) -> Exchange:
    (found,) = READER.begin(OPTIONS).convert(record, Origin("own.jsonl", line))
    return found


def test_fixture_gives_the_golden_exchanges() -> None:
    """Every readable line gives its exchange, every other one a reason."""
    written = []
    for number, line in enumerate(FIXTURE.read_bytes().splitlines(), start=1):
        if not line:
            continue
        try:
            written.append(msgspec.json.encode(_read(READER.decode(line), number)).decode())
        except InvalidInputError as error:
            written.append(f"# {error}")
    found = "\n".join(written) + "\n"
    if os.environ.get("STILLWATCH_WRITE_GOLDEN"):
        GOLDEN.write_text(found)
    assert GOLDEN.read_text() == found


@given(_EXCHANGES)
def test_round_trips(exchange: Exchange) -> None:
    """What the house writes as JSON, as Parquet or as objects, it reads back as it was."""
    assert exchange == _read(msgspec.json.decode(msgspec.json.encode(exchange)))
    assert exchange == _read(records_of(to_batch([exchange]))[0])
    assert exchange == _read(exchange)


def test_recognises_by_the_required_fields() -> None:
    """An exchange is known by the three fields that each has."""
    wanted = "has exchange_id, account and started_at"
    assert wanted == READER.recognise({"exchange_id": "", "account": "", "started_at": 0})
    assert READER.recognise({"exchange_id": "", "account": ""}) is None
    assert READER.recognise("exchange_id account started_at") is None


@pytest.mark.parametrize("record", [None, 7, "text", [], {}, {"exchange_id": 3}])
def test_refuses_other_things(record: object) -> None:
    """What is no exchange is refused with its file and line."""
    with pytest.raises(InvalidInputError, match=r"^own\.jsonl:4: record must be an exchange"):
        _read(record, 4)
