"""Exchanges of every kind survive a journal's line, an Arrow batch and the store."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from stillwatch.record.exchange import Answer, Exchange, Message, from_batch, to_batch
from stillwatch.record.journal import Journal, read_journal
from stillwatch.record.segments import decode_line, encode_line
from stillwatch.record.store import compact, read_store, write_store

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
MAYBE = st.none() | TEXT
TIME = st.floats(0, 4e9)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), TEXT)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
)
EXCHANGES = st.builds(
    Exchange,
    exchange_id=TEXT,
    account=TEXT,
    started_at=TIME,
    first_output_at=st.none() | TIME,
    ended_at=st.none() | TIME,
    wire=TEXT,
    model=TEXT,
    model_returned=MAYBE,
    messages=st.lists(st.builds(Message, role=TEXT, content=TEXT, extra=MAYBE), max_size=3).map(
        tuple
    ),
    answers=st.lists(
        st.builds(Answer, text=TEXT, finish_reason=TEXT, reasoning=MAYBE, extra=MAYBE), max_size=3
    ).map(tuple),
    parameters=st.dictionaries(TEXT, JSON, max_size=3),
    tools_hash=MAYBE,
    input_tokens=st.none() | st.integers(0, 2**63 - 1),
    output_tokens=st.none() | st.integers(0, 2**63 - 1),
    status=st.integers(0, 999),
    error=MAYBE,
    streamed=st.booleans(),
    org=MAYBE,
    key_hash=MAYBE,
    user_agent=MAYBE,
    action=TEXT,
    campaign_id=MAYBE,
    tags=st.dictionaries(TEXT, TEXT, max_size=3),
)


@given(EXCHANGES)
def test_line(exchange: Exchange) -> None:
    """A line gives back its exchange, and holds no line break but its last byte."""
    line = encode_line(exchange)
    assert exchange == decode_line(line)
    assert len(line) - 1 == line.index(b"\n")


@given(EXCHANGES, st.data())
def test_damaged_line(exchange: Exchange, data: st.DataObject) -> None:
    """A line with any one byte changed, or cut anywhere, is not taken for an exchange."""
    line = encode_line(exchange)
    place = data.draw(st.integers(0, len(line) - 1))
    flip = data.draw(st.integers(1, 255))
    changed = line[:place] + bytes([line[place] ^ flip]) + line[place + 1 :]
    assert [None, None] == [decode_line(changed), decode_line(line[:place])]


@given(st.lists(EXCHANGES, max_size=4))
def test_batch(exchanges: list[Exchange]) -> None:
    """A batch gives back its exchanges."""
    assert exchanges == from_batch(to_batch(exchanges))


@settings(max_examples=25)
@given(st.lists(EXCHANGES, max_size=6), st.integers(200, 3000))
def test_journal_to_store(exchanges: list[Exchange], segment_bytes: int) -> None:
    """Exchanges pass from a journal of any segment size into a store, all of them, by day."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "journal")
        with Journal.open(path, fsync_interval_s=0, segment_bytes=segment_bytes) as journal:
            for exchange in exchanges:
                journal.append_sync(exchange)
        assert exchanges == [exchange for _, exchange in read_journal(path)]
        compact(path, Path(folder, "store"))
        by_day = sorted(exchanges, key=lambda e: e.started_at // 86_400)
        assert by_day == list(read_store(Path(folder, "store")))


@settings(max_examples=25)
@given(st.lists(EXCHANGES, max_size=6))
def test_store(exchanges: list[Exchange]) -> None:
    """A store gives back its exchanges by day, in their order within a day."""
    with tempfile.TemporaryDirectory() as folder:
        write_store(Path(folder), exchanges)
        by_day = sorted(exchanges, key=lambda e: e.started_at // 86_400)
        assert by_day == list(read_store(Path(folder)))
