"""Fields of logs are read by one rule."""

import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.errors import InvalidInputError
from stillwatch.logs import fields
from stillwatch.logs.reader import Origin, ReadOptions
from stillwatch.record.exchange import Answer, Message, canonical_json
from stillwatch.record.privacy import KeyedHash
from stillwatch.wire.chat import parse_request, tools_hash

KEY = KeyedHash(bytes(range(32)))
OPTIONS = ReadOptions(KEY)
EAST = ReadOptions(KEY, timezone_offset_s=7200)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
)


@pytest.mark.parametrize("value", [
    "2025-01-31T10:00:00Z", "2025-01-31T10:00:00.000000000Z", "2025-01-31T11:00:00+01:00",
    "2025-01-31 10:00:00+0000", "2025-01-31 10:00:00 UTC", " 2025-01-31T10:00:00 ",
    "31/Jan/2025:11:00:00 +0100", "[31/Jan/2025:10:00:00 +0000]", "31/Jan/2025:10:00:00",
    1738317600, 1738317600.0, "1738317600", 1738317600000, "1738317600000", 1738317600000000,
    1738317600000000000, Decimal("1738317600"), datetime(2025, 1, 31, 10, tzinfo=UTC),
    datetime(2025, 1, 31, 10),  # noqa: DTZ001 - a time without a zone is what is read here
    datetime(2025, 1, 31, 12, tzinfo=timezone(timedelta(hours=2))),
])  # fmt: skip
def test_one_time_in_many_clothes(value: object) -> None:
    """However a time is written, it is the same second."""
    assert 1738317600.0 == fields.epoch(value, options=OPTIONS)


@pytest.mark.parametrize("value", [
    None, "", "soon", True, math.nan, math.inf, -math.inf, -5, 0, "NaN", "0", [], {}, b"1",
    "0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "2025-02-30T10:00:00Z",
    "31/Foo/2025:10:00:00 +0000", "99/Jan/2025:10:00:00 +0000", 10**400,
])  # fmt: skip
def test_what_is_no_time(value: object) -> None:
    """Absent, broken and zero times are not known, whatever their kind."""
    assert fields.epoch(value, options=OPTIONS) is None


def test_zone_of_the_log() -> None:
    """Times without a zone are of the log's zone, others keep theirs."""
    assert 1738317600.0 == fields.epoch("2025-01-31T12:00:00", options=EAST)
    assert 1738317600.0 == fields.epoch("31/Jan/2025:12:00:00", options=EAST)
    assert 1738317600.0 == fields.epoch("2025-01-31T10:00:00Z", options=EAST)
    assert 1738274400.0 == fields.epoch(date(2025, 1, 31), options=EAST)


@pytest.mark.parametrize(("value", "wanted"), [
    (3, 3), (3.0, 3), ("3", 3), (" 3 ", 3), ("3.0", 3), (0, 0), (Decimal(7), 7),
    (3.5, None), (-1, None), ("-1", None), (True, None), (math.nan, None), (math.inf, None),
    ("many", None), (None, None), (2**63, None), ("9" * 50, None), ([], None),
])  # fmt: skip
def test_tokens(value: object, wanted: int | None) -> None:
    """A count is a whole number that is not negative, also as text."""
    assert wanted == fields.tokens(value)


def test_addresses() -> None:
    """An address gives the hashes that the gateway gives, with a port or in a chain too."""
    plain = fields.network(OPTIONS, "198.51.100.7")
    assert (KEY.address("198.51.100.7"), KEY.network("198.51.100.7")) == plain
    for same in ("198.51.100.7:443", "198.51.100.7, 10.0.0.1", "::ffff:198.51.100.7"):
        assert plain == fields.network(OPTIONS, same)
    six = fields.network(OPTIONS, "2001:db8::1")
    assert (KEY.address("2001:db8::1"), KEY.network("2001:db8::1")) == six
    assert six == fields.network(OPTIONS, "[2001:db8::1]:443")
    for nothing in (None, "", "unknown", "-", 7, "999.1.1.1"):
        assert (None, None) == fields.network(OPTIONS, nothing)


def test_accounts() -> None:
    """The first id that says something; e-mails and keys never stay as they are."""
    assert "u-1" == fields.account_of(OPTIONS, None, "", "  ", "u-1", "u-2")
    assert "17" == fields.account_of(OPTIONS, 17)
    assert "" == fields.account_of(OPTIONS, None, "")
    mail = fields.account_of(OPTIONS, "Kim@Example.org")
    assert "email:" + KEY.hash("email", "kim@example.org") == mail
    key = fields.account_of(OPTIONS, "sk-proj-abcdefghijklmnop")
    assert key == fields.account_of(OPTIONS, "Bearer sk-proj-abcdefghijklmnop")
    assert key.startswith("key:")
    assert "abcdefgh" not in key
    assert "arn:aws:iam::1:user/kim" == fields.account_of(OPTIONS, "arn:aws:iam::1:user/kim")


def test_conversation() -> None:
    """Parts that are not text are kept beside the text, and no turn is skipped."""
    image = {"type": "image_url", "image_url": {"url": "data:x"}}
    turns = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What"}, image, {"type": "input_text", "text": "is it?"}]},  # noqa: E501
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]},
        {"role": "tool", "content": "12", "tool_call_id": "c"},
        "bare",
        7,
        {"content": {"type": "odd"}},
    ]  # fmt: skip
    assert (
        Message("system", "Be brief."),
        Message("user", "What\nis it?", canonical_json({"parts": [image]})),
        Message("assistant", "", '{"tool_calls":[{"id":"c"}]}'),
        Message("tool", "12", '{"tool_call_id":"c"}'),
        Message("user", "bare"),
        Message("user", "", '{"turn":7}'),
        Message("user", "", '{"parts":[{"type":"odd"}]}'),
    ) == fields.messages_from_openai(turns)  # fmt: skip
    assert (Message("user", "hi"),) == fields.messages_from_openai(
        '{"messages":[{"role":"user","content":"hi"}]}'
    )
    assert () == fields.messages_from_openai(None)


def test_answers() -> None:
    """Choices come in the order of their index, whole replies and bare messages are read too."""
    second = {
        "index": 1,
        "message": {"content": None, "tool_calls": [{"id": "c"}]},
        "finish_reason": "tool_calls",
    }
    first = {
        "index": 0,
        "message": {"content": "Yes.", "reasoning_content": "It is so."},
        "logprobs": {"content": []},
    }
    wanted = (
        Answer("Yes.", "", "It is so.", '{"logprobs":{"content":[]}}'),
        Answer("", "tool_calls", None, '{"tool_calls":[{"id":"c"}]}'),
    )
    assert wanted == fields.answers_from_openai([second, first])
    assert wanted == fields.answers_from_openai({"choices": [second, first]})
    assert (Answer("old", "stop"),) == fields.answers_from_openai([
        {"text": "old", "finish_reason": "stop"}
    ])
    assert (Answer("Yes."),) == fields.answers_from_openai({"role": "assistant", "content": "Yes."})
    assert () == fields.answers_from_openai({"error": {"message": "no"}})


def test_tools_hash_as_the_gateway_has_it() -> None:
    """The same definitions have one hash, read from a log or seen on the wire, in any key order."""
    tools = [{"type": "function", "function": {"name": "gauge", "parameters": {}}}]
    other = [{"function": {"parameters": {}, "name": "gauge"}, "type": "function"}]
    body = b'{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"gauge","parameters":{}}}]}'  # noqa: E501
    assert tools_hash(parse_request(body)) == fields.hash_tools(tools) == fields.hash_tools(other)
    assert fields.hash_tools([]) is None


def test_sampling_leaves_persons_out() -> None:
    """What names a person or carries the conversation is no parameter."""
    body = {
        "model": "m",
        "messages": [],
        "user": "kim",
        "metadata": {},
        "temperature": 0,
        "tools": [1],
        "seed": None,
    }
    assert {"temperature": 0} == fields.sampling(body)
    assert {"top_p": 0.5} == fields.sampling('{"top_p":0.5}')
    assert {} == fields.sampling("none")


@given(_JSON)
def test_nothing_breaks_the_readers_of_fields(value: object) -> None:
    """Any JSON value in any place gives something or nothing, never an error."""
    fields.epoch(value, options=OPTIONS)
    fields.tokens(value)
    fields.network(OPTIONS, value)
    fields.account_of(OPTIONS, value)
    fields.messages_from_openai(value)
    fields.answers_from_openai(value)
    fields.hash_tools(value)
    fields.sampling(value)
    fields.text_of(value)
    fields.decoded(value)
    fields.flag(value)


def test_refusal_tells_place_and_kind_only() -> None:
    """A record that is no object is refused with its place, without its content."""
    with pytest.raises(InvalidInputError) as caught:
        fields.record_of("secret", origin=Origin("a.jsonl", 3), wanted="a payload")
    assert "a.jsonl:3: record must be a payload, got str" == str(caught.value)


@pytest.mark.parametrize("kind", [["text"], {"a": 1}, [[]], 7])
def test_parts_of_odd_types(kind: object) -> None:
    """A part whose type is no name is kept beside the text, whatever it is."""
    content = [{"type": kind, "text": "x"}, "said"]
    assert "said" == fields.text_of(content)
    (message,) = fields.messages_from_openai([{"role": "user", "content": content}])
    assert ("said", canonical_json({"parts": content[:1]})) == (message.content, message.extra)
