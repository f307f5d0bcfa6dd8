"""Logs are read whole: what cannot be read is counted with its place, whatever it is."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.detect import DetectConfig
from stillwatch.detect.confirmation.principals import parties_of
from stillwatch.detect.discovery.traits import find_families
from stillwatch.detect.profiles.fold import fold
from stillwatch.errors import InvalidInputError
from stillwatch.logs.columns import batch_of
from stillwatch.logs.read import Converter, decode_line
from stillwatch.logs.reader import Origin, ReadOptions
from stillwatch.logs.reading import Reading, ReadRequest
from stillwatch.logs.seen import SeenIds
from stillwatch.logs.unit import Block, Fault
from stillwatch.record.bodies import LONGEST_PARAMETER, has_body, without_bodies
from stillwatch.record.exchange import Answer, Exchange, Message, from_batch, to_batch
from stillwatch.record.journal import Journal
from stillwatch.record.privacy import KeyedHash
from stillwatch.record.store import write_store

KEY = KeyedHash(bytes(32))
OPTIONS = ReadOptions(KEY)


def _line(n: int, **more: Any) -> bytes:
    row = {"exchange_id": f"x{n}", "account": f"u{n % 3}", "started_at": 1.7e9 + n}
    return json.dumps({**row, **more}).encode()


def _read(path: Path | str, **how: Any) -> tuple[list[Exchange], list[Fault], Reading]:
    faults: list[Fault] = []
    options = how.pop("options", OPTIONS)
    reading = Reading(ReadRequest((str(path),), options, **how), on_fault=faults.append)
    found = [exchange for batch in reading.batches() for exchange in from_batch(batch)]
    return found, faults, reading


def _file(folder: Path, *lines: bytes, name: str = "log.jsonl") -> Path:
    path = folder / name
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


@pytest.mark.parametrize(("line", "reason"), [
    (b'{"exchange_id": "x', "the line is no JSON"),
    (b'{"exchange_id":"x","account":"\xff","started_at":1}', "the line is not UTF-8"),
    (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deep"),
    (b"null", "must be an exchange, got NoneType"),
    (b"[1,2]", "must be an exchange, got list"),
    (b'{"exchange_id":"x","account":"u","started_at":NaN}', "between 1970 and 9999"),
    (b'{"exchange_id":"x","account":"u","started_at":1e300}', "between 1970 and 9999"),
    (b'{"exchange_id":"x","account":"u","started_at":-5}', "between 1970 and 9999"),
    (b'{"exchange_id":"x","account":"u","started_at":1,"output_tokens":1e30}', "wrong field"),
    (b'{"exchange_id":"x","account":"u","started_at":1,"messages":[null]}', "wrong field"),
    (b'{"exchange_id":"x","account":"u","started_at":1,"messages":[{"role":null}]}', "wrong field"),
    (b'{"exchange_id":"x","account":"u","started_at":1,"status":99999999999}', "does not fit"),
])  # fmt: skip
def test_bad_line_is_put_aside(tmp_path: Path, line: bytes, reason: str) -> None:
    """A bad line costs itself only; its file, its line and the reason are kept, its content not."""
    path = _file(tmp_path, _line(1), line, _line(2), b"", _line(3))
    found, faults, reading = _read(path)
    assert ["x1", "x2", "x3"] == [exchange.exchange_id for exchange in found]
    assert [(str(path), 2)] == [fault[:2] for fault in faults]
    assert reason in faults[0].reason
    assert (4, 3, 1) == (
        reading.counts.records,
        reading.counts.exchanges,
        reading.counts.quarantined,
    )


def test_strict_stops_at_the_first(tmp_path: Path) -> None:
    """Strict reading ends with the place and the reason."""
    path = _file(tmp_path, _line(1), b"{", _line(2))
    with pytest.raises(InvalidInputError, match=rf"^{path}:2: the line is no JSON"):
        _read(path, strict=True)


def test_values_that_loggers_write(tmp_path: Path) -> None:
    """NaN beside the point, and half a character pair, do not cost the record."""
    path = _file(
        tmp_path,
        b'{"exchange_id":"a","account":"u","started_at":5,"parameters":{"temperature":NaN}}',
        b'{"exchange_id":"b","account":"u\\ud83d","started_at":6}',
        b'{"exchange_id":"c","account":null,"started_at":7}',
    )
    found, faults, _ = _read(path)
    assert [{"temperature": None}, {}] == [exchange.parameters for exchange in found]
    assert "u?" == found[1].account
    assert [3] == [fault.line for fault in faults]


def test_a_line_of_fifty_megabytes(tmp_path: Path) -> None:
    """A very long line is read like any other."""
    text = "long " * (10 * 2**20)
    path = _file(
        tmp_path, _line(1), _line(2, messages=[{"role": "user", "content": text}]), _line(3)
    )
    found, faults, _ = _read(path)
    assert ([0, len(text), 0], []) == ([len(exchange.question) for exchange in found], faults)


def test_truncated_gzip(tmp_path: Path) -> None:
    """A gzip log that is cut off gives the records before the cut, and two faults: both counted."""
    path = tmp_path / "log.jsonl.gz"
    lines = b"\n".join(_line(n, session=f"{n * 7919:x}") for n in range(500))
    path.write_bytes(gzip.compress(lines)[:-600])
    found, faults, _ = _read(path)
    assert [f"x{n}" for n in range(len(found))] == [exchange.exchange_id for exchange in found]
    assert len(found) > 200
    assert ["the line is", "the gzip file is cut off"] == [
        fault.reason.partition(" no JSON")[0] for fault in faults
    ]


def test_repeats_and_reused_ids(tmp_path: Path) -> None:
    """A repeated delivery is left out and counted; another exchange under its id is kept."""
    other = _line(1, messages=[{"role": "user", "content": "other"}])
    path = _file(tmp_path, _line(1), _line(2), _line(1), other, other)
    found, _, reading = _read(path)
    ids = [exchange.exchange_id for exchange in found]
    assert ["x1", "x2"] == ids[:2]
    assert ids[2].startswith("x1#")
    assert (3, 2, 1) == (len(ids), reading.counts.repeated, reading.counts.reused_ids)


def test_clock_going_back(tmp_path: Path) -> None:
    """A clock that goes back loses nothing and is told once a step."""
    times = [5000, 5100, 9000, *range(1000, 4000), 9100, 9000]
    lines = [_line(n, started_at=1.7e9 + t, session="s" * 2000) for n, t in enumerate(times)]
    found, _, reading = _read(_file(tmp_path, *lines))
    assert len(times) == len(found)
    assert (1, 8000.0) == (reading.counts.steps_back, reading.counts.furthest_back_s)


def test_unknown_time_is_no_step_back(tmp_path: Path) -> None:
    """A time that nobody told is not compared with others."""
    lines = [_line(1), _line(2, started_at=1.0, tags={"time": "unknown"}), _line(3)]
    found, _, reading = _read(_file(tmp_path, *lines))
    assert (3, 0, 0.0) == (len(found), reading.counts.steps_back, reading.counts.furthest_back_s)


@pytest.mark.parametrize("line", [
    b'{"startTime":1.7e9,"call_type":"completion","hidden_params":{},"id":"a","messages":"q"}',
    b'{"startTime":1.7e9,"call_type":"completion","id":"a","metadata":{"user_api_key_hash":"k"}}',
    b'{"startTime":1.7e9,"call_type":"completion","id":"a","metadata":"none"}',
    b'{"startTime":1.7e9,"call_type":"completion","id":"a","response_cost":NaN,"metadata":[1]}',
    b'{"standard_logging_object":{"startTime":1.7e9,"call_type":"completion","id":"a"}}',
    b'[{"startTime":1.7e9}]', b"{broken", b"7",
])  # fmt: skip
def test_typed_decoding_changes_nothing(line: bytes) -> None:
    """Lines that a reader decodes itself, and those that it refuses, give what plain ones do."""
    ours = Converter("litellm", OPTIONS).convert(Block("f", 1, "lines", [line]))
    plain = decode_line(line, Origin("f", 1))
    theirs = Converter("litellm", OPTIONS).convert(Block("f", 1, "rows", [plain]))
    assert theirs.batch.equals(ours.batch)
    assert theirs.faults == ours.faults


def test_long_parameters_go_as_in_the_record(tmp_path: Path) -> None:
    """What counts as a text among the parameters is the same here as when bodies are forgotten."""
    parameters = {"stop": "x" * LONGEST_PARAMETER, "suffix": "x" * (LONGEST_PARAMETER + 1)}
    path = _file(tmp_path, _line(1, parameters=parameters))
    (dropped,), _, _ = _read(path, options=ReadOptions(KEY, bodies="drop"))
    (kept,), _, _ = _read(path)
    (batch,) = [to_batch([kept])]
    (forgotten,) = from_batch(without_bodies(batch, has_body(batch)))
    assert {"stop"} == set(dropped.parameters) == set(forgotten.parameters)


def test_wrapped_records(tmp_path: Path) -> None:
    """A page object gives the records of its list; an unknown object is one fault."""
    rows = [json.loads(_line(n)) for n in range(3)]
    for name in ("data", "records", "items"):
        page = json.dumps({name: rows, "total": 3}).encode()
        assert rows[0]["exchange_id"] == _read(_file(tmp_path, page))[0][0].exchange_id
        indented = tmp_path / "page.json"
        indented.write_text(json.dumps({name: rows, "total": 3}, indent=2))
        assert 3 == len(_read(indented)[0])


def test_auto_gives_its_ground(tmp_path: Path) -> None:
    """The format is recognised in spite of bad lines, and the ground is told."""
    path = _file(tmp_path, b"{broken", _line(1), b'{"what":1}', _line(2))
    found, faults, reading = _read(path, format="auto")
    assert ("own", "has exchange_id, account and started_at") == (
        reading.files[0].format, reading.files[0].ground,
    )  # fmt: skip
    assert (2, 2) == (len(found), len(faults))


def test_unknown_files_are_told(tmp_path: Path) -> None:
    """A file of no known format is counted beside the others, and alone it is an error."""
    _file(tmp_path, _line(1), name="a.jsonl")
    unknown = _file(tmp_path, b'{"colour":"blue"}', name="b.jsonl")
    found, faults, _ = _read(tmp_path)
    assert (1, [Fault(str(unknown), 1, "no known format; the file was not read")]) == (
        len(found),
        faults,
    )
    with pytest.raises(InvalidInputError, match="no log of a known format"):
        _read(unknown)
    with pytest.raises(InvalidInputError, match="format must be auto or one of"):
        _read(unknown, format="telepathy")


def test_processes_change_nothing(tmp_path: Path) -> None:
    """Two processes give the same exchanges and faults in the same order as one."""
    lines = [_line(n, messages=[{"role": "user", "content": "words " * 300}]) for n in range(3000)]
    lines[777:777] = [b"{", _line(5)]
    path = _file(tmp_path, *lines)
    alone, together = _read(path, processes=1), _read(path, processes=2)
    assert alone[:2] == together[:2]
    assert alone[2].counts == together[2].counts
    assert (3001, 1, 1) == (len(alone[0]), len(alone[1]), alone[2].counts.reused_ids)


def test_store_and_journal(tmp_path: Path) -> None:
    """A store and a gateway's journal are logs too."""
    exchanges = [
        Exchange(exchange_id=f"x{n}", account="u", started_at=1.7e9 + n, origin="o")
        for n in range(9)
    ]
    write_store(tmp_path / "store", exchanges)
    with Journal.open(tmp_path / "journal") as journal:
        for exchange in exchanges:
            journal.append_sync(exchange)
    assert exchanges == _read(tmp_path / "store")[0]
    assert exchanges == _read(tmp_path / "journal")[0]


def test_bodies(tmp_path: Path) -> None:
    """Hashed word by word the wording stays comparable; dropped, only turns and roles stay."""
    asked = [{"role": "user", "content": "Ask Kim 42 times, ask KIM", "extra": '{"name":"kim"}'}]
    told = [{"text": "No, Kim.", "finish_reason": "stop", "reasoning": "Kim"}]
    parameters = {"temperature": 0.5, "stop": ["Kim"], "response_format": {"type": "json"}}
    path = _file(tmp_path, _line(1, messages=asked, answers=told, parameters=parameters))
    (hashed,), _, _ = _read(path, options=ReadOptions(KEY, bodies="hash"))
    words = hashed.question.replace(",", "").split()
    assert (words[0], words[1]) == (words[4], words[5])
    assert words[2].isdigit()
    assert words[1].isalpha()
    assert 24 == len(hashed.answer)
    (dropped,), _, _ = _read(path, options=ReadOptions(KEY, bodies="drop"))
    assert ((Message("user", ""),), (Answer("", "stop", ""),)) == (
        dropped.messages,
        dropped.answers,
    )
    assert {"temperature": 0.5} == dropped.parameters
    for exchange in (hashed, dropped):
        assert "kim" not in str(exchange).lower()


def test_detection_runs_on_what_is_left(tmp_path: Path) -> None:
    """Hashed bodies have the shared wording of the texts: the same exchanges form families."""
    web = "as an expert of tides please answer shortly number {} with one word only"
    rng = np.random.default_rng(3)
    own = [" ".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 20)) for _ in range(600)]
    lines = []
    for n in range(600):
        text = web.format(n) if n % 60 < 20 else own[n]
        lines.append(_line(n, account=f"u{n % 60}", messages=[{"role": "user", "content": text}]))
    path = _file(tmp_path, *lines)
    of_bodies = {}
    for bodies in ("keep", "hash", "drop"):
        reading = Reading(ReadRequest((str(path),), ReadOptions(KEY, bodies=bodies)))
        profiles = fold(reading.batches())
        families = find_families(profiles, parties_of(profiles), None, config=DetectConfig())
        ids = profiles.digests.exchange_id.to_pylist()
        of_bodies[bodies] = {i for i, f in zip(ids, families.of_digest, strict=True) if f >= 0}
    assert {f"x{n}" for n in range(600) if n % 60 < 20} == of_bodies["keep"]
    assert of_bodies["keep"] == of_bodies["hash"]
    assert set() == of_bodies["drop"]


@given(st.lists(st.builds(
    Exchange,
    exchange_id=st.text(st.characters(exclude_categories=["Cs"])),
    account=st.just("u"),
    started_at=st.floats(1, 4e9),
    messages=st.lists(
        st.builds(Message, st.just("user"), st.just("x"), st.none() | st.just("{}"))
    ).map(tuple),
    answers=st.lists(st.builds(Answer, st.just("y"))).map(tuple),
    parameters=st.dictionaries(st.sampled_from("ab"), st.integers(0, 3)),
    output_tokens=st.none() | st.integers(0, 9),
    tags=st.dictionaries(st.sampled_from("ab"), st.just("t")),
)))  # fmt: skip
def test_columns_are_those_of_the_store(exchanges: list[Exchange]) -> None:
    """The quick way to columns gives the batch of the plain one."""
    assert to_batch(exchanges).equals(batch_of(exchanges))


def test_seen_ids_in_bounded_memory() -> None:
    """Repeats are found across runs; beyond the bound the oldest are forgotten and counted."""
    rng = np.random.default_rng(1)
    ids = rng.permutation(5000).astype(np.uint64)
    seen = SeenIds(remembered=10_000)
    for part in np.array_split(ids, 13):
        assert not seen.add(part, part).same.any()
    again = seen.add(ids[::7], ids[::7])
    assert again.same.all()
    assert not again.reused.any()
    assert seen.add(ids[:50], ids[:50] + np.uint64(10**6)).reused.all()
    small = SeenIds(remembered=100)
    for part in np.array_split(ids, 50):
        small.add(part, part)
    assert small.forgotten >= 4800
