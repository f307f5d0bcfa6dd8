"""Platform formats: fixtures to golden exchanges, what is refused, and that nothing else breaks."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillwatch.errors import InvalidInputError
from stillwatch.logs.reader import Conversion, Origin, Reader, ReadOptions
from stillwatch.logs.readers import azure_apim, bedrock, envoy_ai, nginx, otel
from stillwatch.record.exchange import Exchange, to_batch
from stillwatch.record.privacy import KeyedHash

HERE = Path(__file__).resolve()
TESTS = next(parent for parent in HERE.parents if parent.name == "tests")
FIXTURES, GOLDEN = TESTS / "fixtures" / "logs", TESTS / "golden" / "logs"
OPTIONS = ReadOptions(KeyedHash(bytes(range(32))))
READERS: dict[str, Reader] = {
    "otel": otel.READER,
    "bedrock": bedrock.READER,
    "azure_apim": azure_apim.READER,
    "envoy_ai": envoy_ai.READER,
    "nginx": nginx.READER,
}
#: Secrets of the fixtures: none may be left in any exchange.
SECRETS = (
    "sk-desk",
    "sk-never",
    "@harbour",
    "8.8.4.4",
    "8.8.8.8",
    "198.51.100.23",
    "203.0.113",
    "2001:db8",
    "2606",
)


def _records_of(reader: Reader, path: Path) -> Iterator[tuple[Origin, Any]]:
    if path.suffix == ".csv":
        rows: list[Any] = list(csv.DictReader(path.read_text().splitlines()))
        yield from ((Origin(path.name, n), row) for n, row in enumerate(rows, start=1))
        return
    for n, line in enumerate(path.read_bytes().splitlines(), start=1):
        decoded = reader.decode(line) if reader.shape == "text" else msgspec.json.decode(line)
        yield Origin(path.name, n), decoded


def _fixture_files(name: str) -> list[Path]:
    return [p for p in sorted((FIXTURES / name).iterdir()) if p.stem != "malformed"]


def read(name: str) -> tuple[list[Exchange], Conversion]:
    """Read the fixtures of a format, each file as a log of its own."""
    found: list[Exchange] = []
    conversion = READERS[name].begin(OPTIONS)
    for path in _fixture_files(name):
        for origin, record in _records_of(READERS[name], path):
            found += conversion.convert(record, origin)
        found += conversion.finish()
    return found, conversion


@pytest.mark.parametrize("name", READERS)
def test_golden(name: str) -> None:
    """Each fixture gives the exchanges that were checked by hand."""
    golden = GOLDEN / f"{name}.jsonl"
    lines = [msgspec.json.encode(exchange, order="sorted").decode() for exchange in read(name)[0]]
    if os.environ.get("STILLWATCH_WRITE_GOLDEN") == "1":
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text("".join(f"{line}\n" for line in lines))
    assert golden.read_text().splitlines() == lines


@pytest.mark.parametrize("name", READERS)
def test_no_secret_stays(name: str) -> None:
    """Keys, addresses and e-mails of the fixtures are in no exchange."""
    written = msgspec.json.encode(read(name)[0]).decode()
    assert [] == [secret for secret in SECRETS if secret in written]


@pytest.mark.parametrize("name", READERS)
def test_exchanges_fit_the_store(name: str) -> None:
    """What a reader gives has its types: the store takes it, and ids are unique."""
    found = read(name)[0]
    assert len(found) == to_batch(found).num_rows
    assert len(found) == len({exchange.exchange_id for exchange in found})


@pytest.mark.parametrize("name", READERS)
def test_recognised_by_its_own_reader_only(name: str) -> None:
    """Every fixture record is recognised by its reader, with a ground, and by no other of these."""
    for path in _fixture_files(name):
        for line in path.read_bytes().splitlines() if path.suffix != ".csv" else ():
            is_text = READERS[name].shape == "text"
            record: Any = line.decode() if is_text else msgspec.json.decode(line)
            grounds = {n: r.recognise(record) for n, r in READERS.items()}
            assert [name] == [n for n, ground in grounds.items() if ground]


@pytest.mark.parametrize("name", READERS)
def test_malformed_is_refused_with_its_place(name: str) -> None:
    """Each malformed line is refused; the message never quotes it."""
    reader = READERS[name]
    path = next((FIXTURES / name).glob("malformed.*"))
    for n, line in enumerate(path.read_bytes().splitlines(), start=1):
        conversion = reader.begin(OPTIONS)
        with pytest.raises(InvalidInputError) as caught:
            _convert(reader, conversion, line, at=Origin(path.name, n))
        if not str(caught.value).startswith("nginx: line must be"):  # the frame adds the place
            assert str(caught.value).startswith(f"{path.name}:{n}: record must be")
        assert [] == list(conversion.finish())


def _convert(reader: Reader, conversion: Conversion, line: bytes, *, at: Origin) -> None:
    record = reader.decode(line) if reader.shape == "text" else msgspec.json.decode(line)
    list(conversion.convert(record, at))


def test_malformed_part_costs_nothing_else() -> None:
    """A span without a time is refused; the others of its request are kept."""
    good, bad = (
        {"traceId": "ab", "spanId": span, "startTimeUnixNano": start, "attributes": {
            "gen_ai.request.model": "m"}}
        for span, start in (("01", "1793620800000000000"), ("02", "never"))
    )  # fmt: skip
    conversion = otel.READER.begin(OPTIONS)
    record = {"resourceSpans": [{"scopeSpans": [{"spans": [good, bad]}]}]}
    with pytest.raises(InvalidInputError, match="1 without"):
        conversion.convert(record, Origin("f", 1))
    assert ["ab-01"] == [exchange.exchange_id for exchange in conversion.finish()]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


def _replaced(value: Any, picks: Iterator[int], new: Any) -> Any:
    """Put `new` somewhere inside `value`."""
    pick = next(picks)
    if isinstance(value, dict) and value and pick % 7:
        name = sorted(value)[pick % len(value)]
        return {**value, name: _replaced(value[name], picks, new)}
    if isinstance(value, list) and value and pick % 7:
        at = pick % len(value)
        return [*value[:at], _replaced(value[at], picks, new), *value[at + 1 :]]
    return new


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_damage_is_refused_or_read(name: str, data: st.DataObject) -> None:
    """Whatever stands in a record's place, a reader refuses it as invalid or reads what it can."""
    reader = READERS[name]
    every = [record for path in _fixture_files(name) for record in _records_of(reader, path)]
    origin, record = data.draw(st.sampled_from(every))
    picks = iter(data.draw(st.lists(st.integers(0, 1000), min_size=40, max_size=40)))
    damaged = _replaced(record, picks, data.draw(JSON))
    reader.recognise(damaged)
    conversion = reader.begin(OPTIONS)
    try:
        found = [*conversion.convert(damaged, origin), *conversion.finish()]
    except InvalidInputError:
        return
    assert all(exchange.started_at > 0 for exchange in found)
