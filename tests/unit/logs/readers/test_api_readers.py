"""Both vendors' batches and raw calls, read as they are written: golden exchanges, and odd ones."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stillwatch.errors import InvalidInputError
from stillwatch.logs.envelope import UNKNOWN_TIME
from stillwatch.logs.halves import Half, Halves
from stillwatch.logs.reader import Origin, ReadOptions
from stillwatch.logs.readers.registry import reader_of, recognise
from stillwatch.record.exchange import Exchange
from stillwatch.record.privacy import KeyedHash

ROOT = Path(__file__).resolve().parents[3]
FORMATS = ("openai_batch", "anthropic_batch", "openai_raw", "anthropic_raw")
OPTIONS = ReadOptions(KeyedHash(bytes(range(32))))


def _records(path: Path) -> list[Any]:
    lines = path.read_bytes().splitlines() if path.suffix == ".jsonl" else [path.read_bytes()]
    return [json.loads(line) for line in lines]


def _files(name: str) -> list[Path]:
    return sorted((ROOT / "fixtures" / "logs" / name).iterdir())


def _convert(name: str, records: Iterable[Any], *, file: str = "log.jsonl") -> list[Exchange]:
    conversion = reader_of(name).begin(OPTIONS)
    found = [
        exchange
        for line, record in enumerate(records, start=1)
        for exchange in conversion.convert(record, Origin(file, line))
    ]
    return [*found, *conversion.finish()]


def _read(name: str, files: Iterable[Path]) -> list[Exchange]:
    conversion = reader_of(name).begin(OPTIONS)
    found = [
        exchange
        for path in files
        for line, record in enumerate(_records(path), start=1)
        for exchange in conversion.convert(record, Origin(path.name, line))
    ]
    return [*found, *conversion.finish()]


@pytest.mark.parametrize("name", FORMATS)
def test_golden(name: str) -> None:
    """The fixtures of a format give the exchanges on record."""
    golden = ROOT / "golden" / "logs" / f"{name}.jsonl"
    found = b"".join(
        msgspec.json.encode(exchange, order="sorted") + b"\n"
        for exchange in _read(name, _files(name))
    )
    if os.environ.get("STILLWATCH_WRITE_GOLDEN"):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_bytes(found)
    assert golden.read_text() == found.decode()


@pytest.mark.parametrize("name", FORMATS)
def test_recognised(name: str) -> None:
    """Each file of a format is recognised as that format among all of them."""
    found = {p.name: recognise(_records(p)[:8]) for p in _files(name)}
    assert {p.name: name for p in _files(name)} == {
        file: recognition and recognition.format for file, recognition in found.items()
    }


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_secret_stays(name: str) -> None:
    """No key, address or e-mail of a log is in its exchanges, nor what an error said."""
    written = msgspec.json.encode(_read(name, _files(name))).decode()
    secrets = ("sk-", "203.0.113.7", "198.51.100.4", "mira@example.org", "Overloaded", "Rate limit")
    assert [] == [secret for secret in secrets if secret in written]


@pytest.mark.parametrize("name", ["openai_batch", "anthropic_batch"])
def test_order_of_batch_files(name: str) -> None:
    """Answers before questions give the same exchanges as questions before answers."""
    batch, *files = _files(name)

    def content(found: list[Exchange]) -> list[Any]:
        # Without its batch file's name a lone question cannot know more than it did.
        fields = [(e.exchange_id, e.messages, e.answers, e.status, e.error) for e in found]
        return sorted(fields, key=lambda row: row[0])

    assert content(_read(name, [batch, *files])) == content(_read(name, [batch, *files[::-1]]))


def test_same_custom_id_in_two_batches() -> None:
    """Halves of two batches with the same ids pair in order, and say that they are doubtful."""

    def ask(text: str) -> dict[str, Any]:
        messages = [{"role": "user", "content": text}]
        body = {"model": "m", "messages": messages}
        return {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}

    def answer(text: str) -> dict[str, Any]:
        choices = [{"index": 0, "message": {"role": "assistant", "content": text}}]
        body = {"object": "chat.completion", "created": 1_790_000_000, "choices": choices}
        response = {"status_code": 200, "request_id": "r", "body": body}
        return {"id": f"batch_req_{text}", "custom_id": "1", "response": response, "error": None}

    found = _convert("openai_batch", [ask("a?"), ask("b?"), answer("a!"), answer("b!")])
    expected = [("a?", "a!", "doubtful"), ("b?", "b!", None)]
    assert expected == [(e.question, e.answer, e.tags.get("pairing")) for e in found]


def test_waiting_halves_are_bounded() -> None:
    """Beyond the limit the half that waits longest is given up; nothing is lost."""
    halves = Halves(limit=7000)
    given = [
        pair
        for n in range(100)
        for pair in halves.add(str(n), Half({"n": n, "x": "y" * 90}, Origin("f", n)), side="answer")
    ]
    left = list(halves.rest())
    order = [pair.answer.record["n"] for pair in [*given, *left] if pair.answer]
    assert (list(range(100)), True) == (order, len(left) <= 10)


def test_batch_without_times() -> None:
    """A batch whose files tell no time is read all the same, and says so."""
    results = [{"custom_id": "1", "result": {"type": "expired"}}]
    (found,) = _convert("anthropic_batch", results)
    expected = (UNKNOWN_TIME, "unknown", "expired", 0)
    assert expected == (found.started_at, found.tags["time"], found.error, found.status)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "record",
    [
        None,
        5,
        "text",
        [],
        {},
        {"custom_id": None, "body": {}},
        {"custom_id": "1"},
        {"request": 5, "response": True},
        {"request": [1], "response": None},
    ],
)
def test_refused(name: str, record: object) -> None:
    """What is no record of the format is refused with its place, for the quarantine."""
    with pytest.raises(InvalidInputError, match=r"log.jsonl:1: record must be"):
        _convert(name, [record])


ODD = [
    {"request": {"model": 5, "messages": "hi"}, "response": {"choices": [None, 5, {"message": 3}]}},
    {
        "request": {"model": "m", "input": {"a": 1}},
        "response": {"object": "response", "output": [1]},
    },
    {"request": {"messages": [{"role": None, "content": {"x": None}}]}, "response": "not json"},
    {"request": {"model": "m", "messages": [1, None]}, "response": {"error": None, "usage": 5}},
    {"request": {"url": None, "headers": [None, 5], "body": "{"}, "response": {"status": "200"}},
    {"request": {}, "response": {"type": "message", "content": [None, {"type": 5}], "usage": []}},
    {"request": {"metadata": {"user_id": '{"a": NaN'}}, "response": ["data: {", 5, {"data": None}]},
    {"request": {"seed": 2**80}, "response": {"error": "sentence with spaces"}, "time": "no time"},
]


@pytest.mark.parametrize("name", ["openai_raw", "anthropic_raw"])
@pytest.mark.parametrize("record", ODD)
def test_odd_calls_are_kept(name: str, record: dict[str, Any]) -> None:
    """A call with odd bodies still gives one exchange that can be written."""
    (found,) = _convert(name, [record])
    assert msgspec.json.decode(msgspec.json.encode(found), type=Exchange).exchange_id


def test_chain_of_responses() -> None:
    """Responses that continue each other are one session, named by the first."""

    def call(response_id: str, previous: str | None) -> dict[str, Any]:
        body = {"id": response_id, "object": "response", "status": "completed", "output": []}
        request = {"model": "m", "input": "hi", "previous_response_id": previous}
        return {"time": 1_790_000_000, "request": request, "response": body}

    links = [("a", None), ("b", "a"), ("c", "b"), ("x", None), ("d", "c"), ("z", "unseen")]
    found = _convert("openai_raw", [call(*link) for link in links])
    assert ["a", "a", "a", "x", "a", "unseen"] == [e.session for e in found]


def test_account_names_what_the_log_knows_best() -> None:
    """The account is the log's own name, else the key, else whom the body names."""
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "user": "end"}
    key = {"authorization": "Bearer sk-live-0123456789"}
    calls = [
        {"account_id": "acct", "request": {"headers": key, "body": body}},
        {"request": {"headers": key, "body": body}},
        {"request": {"headers": {"authorization": "Bearer ***"}, "body": body}},
    ]
    first, second, third = _convert("openai_raw", calls)
    hashed = OPTIONS.keyed_hash.hash("key", "sk-live-0123456789")
    assert ["acct", f"key:{hashed}", "end"] == [first.account, second.account, third.account]
    assert [hashed, hashed, None] == [first.key_hash, second.key_hash, third.key_hash]
    assert 1 == len({e.tags["end_user"] for e in (first, second, third)})


def test_listing_of_stored_completions() -> None:
    """The calls of a listing each give an exchange with an id of its own."""
    calls = [{"object": "chat.completion", "created": 1_790_000_000, "choices": []}] * 2
    found = _convert("openai_raw", [{"object": "list", "data": calls}])
    assert ["log.jsonl:1#0", "log.jsonl:1#1"] == [e.exchange_id for e in found]


TURN = {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
CHUNK = {"object": "chat.completion.chunk", "id": "c", "choices": []}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"request": {"url": "https://x/v1/messages", "body": TURN}}, "anthropic_raw"),
        ({"request": TURN, "request_headers": {"anthropic-version": "1"}}, "anthropic_raw"),
        ({"request": TURN, "response": {"type": "error", "error": {"type": "x"}}}, "anthropic_raw"),
        ({"request": {}, "response": [{"type": "message_start"}]}, "anthropic_raw"),
        ({"request": TURN, "response": None}, "anthropic_raw"),
        ({"request": TURN, "response": {"object": "chat.completion", "choices": []}}, "openai_raw"),
        ({"request": {}, "response": [CHUNK]}, "openai_raw"),
        ({"request": {"url": "/v1/responses", "body": {}}}, "openai_raw"),
        ({"request": {"model": "m", "input": "x"}, "response": None}, "openai_raw"),
        ({"request": {"a": 1}, "response": {"b": 2}}, None),
        ({"request": "GET / HTTP/1.1", "response": "ok", "status": 200}, None),
        ({"level": "info", "message": "started", "type": "message"}, None),
        ({"model": "m", "messages": [], "startTime": 1, "call_type": "completion"}, None),
        ({"exchange_id": "1", "model": "m", "messages": []}, None),
    ],
)
def test_recognised_by_its_bodies(record: dict[str, Any], expected: str | None) -> None:
    """A call is recognised by path, header, reply, events or request; what is none is left."""
    raw = [reader_of(name) for name in ("anthropic_raw", "openai_raw")]
    found = next((reader.name for reader in raw if reader.recognise(record)), None)
    assert expected == found


def test_endings_of_streams() -> None:
    """A stream whose events stop in the middle of a batch of lines is not joined with the next."""
    one = {"type": "message_start", "message": {"id": "m1", "type": "message", "content": []}}
    text = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}}
    two = {"type": "message_start", "message": {"id": "m2", "type": "message", "content": []}}
    found = _convert("anthropic_raw", [one, text, two, text, text, {"type": "message_stop"}])
    assert [("m1", "a", "cut"), ("m2", "aa", None)] == [
        (e.exchange_id, e.answer, e.error) for e in found
    ]


def test_interleaved_streams() -> None:
    """Chunks of two streams in one file come apart; the one without an end says that it was cut."""
    path = next(p for p in _files("openai_raw") if p.name.startswith("3_"))
    found = {e.exchange_id: (e.answer, e.error) for e in _read("openai_raw", [path])}
    expected = {"chatcmpl-s1": ("Salt and wind.", None), "chatcmpl-s2": ("Another", "cut")}
    assert expected == found
