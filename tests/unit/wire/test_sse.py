"""Server-sent events: the same events from the same bytes, however they are split."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.wire.sse import EventParser, ServerSentEvent, encode_event

STREAM = (
    b"\xef\xbb\xbf: a comment\r\n"
    b"data: one\r\n\r\n"
    b"event: delta\rdata:two\rdata:  three\r\r"
    b"id: 7\nretry: 10\nunknown\ndata\ndata: \xc3\xbc\xff\n\n"
    b"event: nothing\n\n"
    b"data: cut"
)
EVENTS = [
    ServerSentEvent("one"),
    ServerSentEvent("two\n three", "delta"),
    ServerSentEvent("\nü\ufffd"),
    ServerSentEvent("cut"),
]


def _parse(pieces: list[bytes]) -> list[ServerSentEvent]:
    parser = EventParser()
    events = [event for piece in pieces for event in parser.feed(piece)]
    return events + parser.close()


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_any_split(cuts: list[int]) -> None:
    """Line ends of all kinds, comments, fields without a colon, a cut end: as the standard."""
    places = [0, *sorted(cuts), len(STREAM)]
    assert EVENTS == _parse([STREAM[a:b] for a, b in pairwise(places)])


def test_byte_by_byte() -> None:
    """Single bytes are a split too, within CRLF, the byte order mark and a character."""
    assert EVENTS == _parse([STREAM[i : i + 1] for i in range(len(STREAM))])


def test_delivered_at_once() -> None:
    """An event is delivered with the byte that ends it, not later."""
    parser = EventParser()
    assert [] == parser.feed(b"data: a\r\n")
    assert [ServerSentEvent("a")] == parser.feed(b"\r")
    assert [] == parser.feed(b"\n")
    assert [ServerSentEvent("b")] == parser.feed(b"data: b\n\n")
    assert [] == parser.close()


@pytest.mark.parametrize("start", [b"", b"\xef", b"\xef\xbb", b"\xef\xbb\xbf"])
def test_nothing(start: bytes) -> None:
    """A stream that ends within or after the byte order mark has no events."""
    assert [] == _parse([start])


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_characters="\r")),
            st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1),
        )
    )
)
def test_round_trip(events: list[tuple[str, str]]) -> None:
    """What is encoded is parsed again, line feeds included."""
    raw = b"".join(encode_event(data, event=event) for data, event in events)
    assert [ServerSentEvent(*pair) for pair in events] == _parse([raw])


def test_bytes_and_default_event() -> None:
    """Bytes are taken as they are, and no event line is written for the default."""
    assert b"data: {}\n\n" == encode_event(b"{}")
    assert b"data: a\ndata: b\ndata: c\n\n" == encode_event("a\r\nb\rc")
