"""LiteLLM, Langfuse and Helicone logs give the exchanges that their formats describe."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillwatch.errors import InvalidInputError
from stillwatch.logs.read import Converter, recognise_block
from stillwatch.logs.reader import Origin, ReadOptions
from stillwatch.logs.readers import helicone, langfuse, litellm, litellm_spend
from stillwatch.logs.source import Source, blocks
from stillwatch.logs.unit import Block, Fault
from stillwatch.record.exchange import Exchange, canonical_json, from_batch, to_batch
from stillwatch.record.privacy import KeyedHash

TESTS = Path(__file__).parents[2]
FIXTURES, GOLDEN = TESTS / "fixtures" / "logs", TESTS / "golden" / "logs"
READERS = {
    "litellm": litellm.READER,
    "litellm_spend": litellm_spend.READER,
    "langfuse": langfuse.READER,
    "helicone": helicone.READER,
}
OPTIONS = ReadOptions(KeyedHash(bytes(32)))
AT = Origin("log", 1)


class _Read(NamedTuple):
    exchanges: list[Exchange]
    faults: list[Fault]


def _read(name: str, files: Iterable[Path], *, options: ReadOptions = OPTIONS) -> _Read:
    converter = Converter(name, options)
    found = _Read([], [])
    for path in files:
        with path.open("rb") as stream:
            for block in blocks(Source(path.name), stream=stream):
                if isinstance(block, Fault):
                    found.faults.append(block)
                    continue
                converted = converter.convert(block)
                found.exchanges.extend(from_batch(converted.batch))
                found.faults.extend(converted.faults)
    found.exchanges.extend(from_batch(converter.finish().batch))
    return found


def _one(name: str, record: Any) -> Exchange:
    (exchange,) = READERS[name].begin(OPTIONS).convert(record, AT)
    return exchange


def _fixture(name: str, file: str) -> list[dict[str, Any]]:
    lines = (FIXTURES / name / file).read_text().splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]


@pytest.mark.parametrize("name", READERS)
def test_fixtures_give_the_golden_exchanges(name: str) -> None:
    """Every field of every exchange of a format is as it was found right."""
    found = _read(name, sorted((FIXTURES / name).iterdir()))
    actual = "".join(canonical_json(exchange) + "\n" for exchange in found.exchanges)
    golden = GOLDEN / f"{name}.jsonl"
    if os.environ.get("STILLWATCH_WRITE_GOLDEN") == "1":
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(actual)
    assert golden.read_text() == actual


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("litellm", [("calls.jsonl", 12), ("calls.jsonl", 13)]),
        ("litellm_spend", [("rows.jsonl", 8)]),
        ("langfuse", [("observations_v2.jsonl", 8)]),
        ("helicone", [("export.jsonl", 8)]),
    ],
)
def test_broken_records_are_named_with_their_line(
    name: str, expected: list[tuple[str, int]]
) -> None:
    """A record without a time, or cut off, is a fault with file and line, and costs no other."""
    faults = _read(name, sorted((FIXTURES / name).iterdir())).faults
    assert expected == [(fault.file, fault.line) for fault in faults]


@pytest.mark.parametrize("name", READERS)
def test_each_file_is_recognised_as_its_own_format(name: str) -> None:
    """Automatic recognition names the format of every fixture, with a ground."""
    for path in sorted((FIXTURES / name).iterdir()):
        with path.open("rb") as stream:
            block = next(b for b in blocks(Source(path.name), stream=stream) if type(b) is Block)
        found = recognise_block(block)
        assert found is not None, path.name
        assert (path.name, name) == (path.name, found.format)
        assert found.ground


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("record", [None, 7, "text", [], {}, {"id": []}, {"startTime": {}}])
def test_foreign_records_are_refused_by_rule(name: str, record: Any) -> None:
    """What is no record of the format is an input error that names the line, never a crash."""
    with pytest.raises(InvalidInputError, match="log:1: record must be"):
        list(READERS[name].begin(OPTIONS).convert(record, AT))
    assert READERS[name].recognise(record) is None


@pytest.mark.parametrize("name", READERS)
def test_secrets_never_stay(name: str) -> None:
    """No key, no address, no e-mail and no error message of a log is found in what is kept."""
    found = _read(name, sorted((FIXTURES / name).iterdir())).exchanges
    kept = "\n".join(canonical_json(exchange) for exchange in found)
    secrets = (
        "203.0.113.7",
        "198.51.100.9",
        "2001:db8",
        "@harbour",
        "@Harbour",
        "@example",
        "you sent",
    )
    assert [] == [secret for secret in secrets if secret in kept]


def test_a_payload_reads_the_same_however_it_was_decoded() -> None:
    """Decoding only the fields that are used changes no exchange."""
    for record in _fixture("litellm", "calls.jsonl"):
        line = json.dumps(record).encode()
        try:
            expected = _one("litellm", record)
        except InvalidInputError:
            continue
        assert expected == _one("litellm", litellm.READER.decode(line))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**40) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_NAMES = sorted(set(litellm.Payload.__struct_encode_fields__) - {"standard_logging_object"})


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(_NAMES), _JSON))
def test_no_value_of_any_field_breaks_a_payload(fields: dict[str, Any]) -> None:
    """Whatever stands in whichever field, a payload with a time gives one exchange both ways."""
    record = {**fields, "startTime": 1767261600.5}
    line = msgspec.json.encode(record)
    assert _one("litellm", record) == _one("litellm", litellm.READER.decode(line))


_FIELDS = {
    name: sorted({field for record in _fixture(name, file) for field in record})
    for name, file in (
        ("litellm_spend", "rows.jsonl"),
        ("langfuse", "observations_v2.jsonl"),
        ("helicone", "export.jsonl"),
    )
}
_TIMES = {
    "litellm_spend": {"startTime": "2026-01-01 10:00:00"},
    "langfuse": {"id": "o", "start_time": "2026-01-01 10:00:00", "trace_id": "t", "user_id": "u"},
    "helicone": {"request_created_at": "2026-01-01T10:00:00Z"},
}


@pytest.mark.parametrize("name", _FIELDS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_value_of_any_field_breaks_a_row(name: str, data: st.DataObject) -> None:
    """Whatever stands in whichever field, as JSON or as its text, a row with a time is read."""
    values = _JSON | _JSON.map(lambda value: msgspec.json.encode(value).decode())
    fields = data.draw(st.dictionaries(st.sampled_from(_FIELDS[name]), values))
    record = {**fields, **_TIMES[name]}
    if name == "langfuse":
        record["type"] = "GENERATION"
    exchange = _one(name, record)
    assert [exchange] == from_batch(to_batch([exchange]))


def test_redacted_texts_are_absent_not_alike() -> None:
    """The placeholder for texts that were not logged never becomes a text that accounts share."""
    exchange = _one("litellm", _fixture("litellm", "calls.jsonl")[4])
    assert ((), (), "true") == (exchange.messages, exchange.answers, exchange.tags["redacted"])


def test_a_failed_call_keeps_its_status_and_a_short_code() -> None:
    """A failure keeps the provider's status and class; its message stays out."""
    exchange = _one("litellm", _fixture("litellm", "calls.jsonl")[3])
    assert (429, "RateLimitError", ()) == (exchange.status, exchange.error, exchange.answers)
    unknown = {"startTime": 1.0, "status": "failure", "error_information": {"error_code": "n/a"}}
    assert (0, "n/a") == (_one("litellm", unknown).status, _one("litellm", unknown).error)


def test_spend_rows_read_the_same_from_csv_and_parquet(tmp_path: Path) -> None:
    """JSON columns are opened whether a row carries them as objects or as text."""
    rows = _fixture("litellm_spend", "rows.jsonl")[:5]
    written = [
        {k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in row.items()}
        for row in rows
    ]
    pq.write_table(pa.Table.from_pylist(written), tmp_path / "rows.parquet")
    packed = _read("litellm_spend", [tmp_path / "rows.parquet"]).exchanges
    plain = _read("litellm_spend", [FIXTURES / "litellm_spend" / "rows.csv"]).exchanges
    expected = [_one("litellm_spend", row) for row in rows]
    assert [_nowhere(e) for e in expected] == [_nowhere(e) for e in packed]
    assert [_nowhere(e) for e in expected] == [_nowhere(e) for e in plain]


def _nowhere(exchange: Exchange) -> Exchange:
    return msgspec.structs.replace(exchange, origin="")


def test_texts_cut_by_the_proxy_are_marked() -> None:
    """A question that the proxy shortened before storing says so."""
    tags = [_one("litellm_spend", row).tags for row in _fixture("litellm_spend", "rows.jsonl")[:2]]
    assert [None, "true"] == [found.get("truncated") for found in tags]


def test_a_legacy_observation_finds_its_trace_whichever_comes_first() -> None:
    """The order of traces and observations changes the order of exchanges, never their account."""
    files = sorted((FIXTURES / "langfuse").glob("legacy-*.jsonl"))
    forward, backward = (_read("langfuse", given).exchanges for given in (files, files[::-1]))
    accounts = {exchange.exchange_id: exchange.account for exchange in forward}
    expected = {"lo-1": "skipper-7", "lo-2": "mate-2", "lo-3": "", "lo-4": "pilot-1"}
    assert expected == accounts
    assert expected == {exchange.exchange_id: exchange.account for exchange in backward}


def test_observations_wait_in_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any traces, observations go on with an unknown account instead of filling memory."""
    monkeypatch.setattr(langfuse, "_MOST_WAITING", 3)
    conversion = langfuse.READER.begin(OPTIONS)
    row = _fixture("langfuse", "legacy-1-observations.jsonl")[0]
    given_up = [
        exchange.exchange_id
        for n in range(5)
        for exchange in conversion.convert({**row, "id": f"o{n}", "trace_id": f"t{n}"}, AT)
    ]
    assert ["o0", "o1"] == given_up
    left = list(conversion.finish())
    assert ["o2", "o3", "o4"] == [exchange.exchange_id for exchange in left]
    assert {"trace"} == {exchange.tags["missing"] for exchange in left}


def test_langfuse_usage_sums_every_kind_of_token() -> None:
    """Cached and reasoning tokens count, as Langfuse itself counts them."""
    exchange = _one("langfuse", _fixture("langfuse", "observations_v2.jsonl")[2])
    assert (128, 16) == (exchange.input_tokens, exchange.output_tokens)


def test_helicone_csv_bodies_survive_their_doubled_quotes() -> None:
    """The exporter's CSV doubles quotes inside JSON once too often; the bodies are read anyway."""
    found = _read("helicone", [FIXTURES / "helicone" / "export.csv"]).exchanges
    assert "When does the lock open?" == found[0].question
    rows = list(csv.DictReader(io.StringIO((FIXTURES / "helicone" / "export.csv").read_text())))
    assert '""messages""' in rows[0]["request_body"]


def test_a_reset_zone_moves_times_that_name_none() -> None:
    """An export in local time is put right by the offset; times with a zone stay."""
    east = ReadOptions(KeyedHash(bytes(32)), timezone_offset_s=3600.0)
    rows = [FIXTURES / "litellm_spend" / "rows.jsonl"]
    moved = _read("litellm_spend", rows, options=east).exchanges
    plain = _read("litellm_spend", rows).exchanges
    shifts = [a.started_at - b.started_at for a, b in zip(plain, moved, strict=True)]
    assert [3600.0, 3600.0, 0.0, 3600.0] == shifts[:4]
