"""OTLP as JSON: values, shapes, ids."""

from pathlib import Path
from typing import Any

import pytest

from stillwatch.logs.otlp import any_value, attributes_of, is_otlp, signals
from stillwatch.logs.reader import Origin, ReadOptions
from stillwatch.logs.readers import otel
from stillwatch.logs.readers.registry import recognise
from stillwatch.logs.reading import Reading, ReadRequest
from stillwatch.logs.unit import Fault
from stillwatch.record.privacy import KeyedHash

OPTIONS = ReadOptions(KeyedHash(bytes(32)))


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ({"stringValue": "a"}, "a"),
        ({"intValue": "-12"}, -12),
        ({"intValue": 12}, 12),
        ({"intValue": "1x"}, None),
        ({"doubleValue": 0.5}, 0.5),
        ({"boolValue": False}, False),
        ({"arrayValue": {"values": [{"intValue": "1"}, {"stringValue": "b"}]}}, [1, "b"]),
        ({"arrayValue": {}}, []),
        ({"kvlistValue": {"values": [{"key": "k", "value": {"boolValue": True}}]}}, {"k": True}),
        ({"kvlistValue": [{"key": "k", "value": {"intValue": "0"}}]}, {"k": 0}),
        ({}, None),
        ({"stringValue": "a", "other": 1}, {"stringValue": "a", "other": 1}),
        ("plain", "plain"),
    ],
)
def test_any_value(value: Any, plain: Any) -> None:
    """AnyValues of every kind open to plain values; what is none is itself."""
    assert plain == any_value(value)


def test_attributes_in_both_shapes() -> None:
    """Lists of key and value, and plain objects, give the same."""
    listed = [{"key": "a", "value": {"intValue": "1"}}, {"key": 3}, "x", {"key": "b"}]
    assert {"a": 1, "b": None} == attributes_of(listed)
    assert {"a": 1, "b": [2]} == attributes_of({"a": {"intValue": "1"}, "b": [2]})


SPAN = {"traceId": "0xAB", "spanId": "CD", "startTimeUnixNano": 5, "name": "n", "attributes": []}
RECORD = {"traceId": "ab", "spanId": "cd", "observedTimeUnixNano": "7", "eventName": "e",
          "timeUnixNano": "0", "attributes": []}  # fmt: skip


@pytest.mark.parametrize(
    ("record", "is_span"),
    [
        ({"resourceSpans": [{"scopeSpans": [{"spans": [SPAN]}]}]}, True),
        ({"resource_spans": [{"scope_spans": [{"spans": [SPAN]}]}]}, True),
        ({"resourceSpans": [{"instrumentationLibrarySpans": [{"spans": [SPAN]}]}]}, True),
        ({"resource": {}, "scopeSpans": [{"spans": [SPAN]}]}, True),
        (SPAN, True),
        ({"resourceLogs": [{"scopeLogs": [{"logRecords": [RECORD]}]}]}, False),
        (RECORD, False),
    ],
)
def test_shapes(record: dict[str, Any], is_span: bool) -> None:
    """One span or record is found in every wrapping, ids in one spelling, zero times unknown."""
    assert is_otlp(record)
    [found] = signals(record)
    assert ("ab-cd", is_span, 5 if is_span else "7") == (
        found.key,
        found.is_span,
        found.started_at,
    )


def test_nothing_inside() -> None:
    """Empty and broken wrappings give nothing."""
    for record in ({"resourceSpans": []}, {"resourceSpans": [None, {"scopeSpans": 3}]}, {}):
        assert [] == list(signals(record))


def _deep(shape: str, depth: int) -> str:
    opening, closing = {
        "list": ('{"arrayValue":{"values":[', "]}}"),
        "bare list": ('{"arrayValue":[', "]}"),
        "map": ('{"kvlistValue":{"values":[{"key":"k","value":', "}]}}"),
        "plain": ('{"a":', "}"),
    }[shape]
    return opening * depth + '{"intValue":"1"}' + closing * depth


def _export(*values: str) -> bytes:
    model = '{"key":"gen_ai.request.model","value":{"stringValue":"m"}}'
    spans = (
        f'{{"traceId":"t{n}","spanId":"s","startTimeUnixNano":"1700000000000000000","attributes":'
        f'[{model},{{"key":"gen_ai.input.messages","value":{value}}}]}}'
        for n, value in enumerate(values)
    )
    return b'{"resourceSpans":[{"scopeSpans":[{"spans":[%s]}]}]}' % ",".join(spans).encode()


@pytest.mark.parametrize("shape", ["list", "bare list", "map", "plain"])
def test_nested_too_deep(tmp_path: Path, shape: str) -> None:
    """However deep values are nested, the line is read or put aside with its place, and counted."""
    plain = _export('{"stringValue":"q"}')
    outcomes = set()
    for depth in (*range(40, 1000, 60), 3000, 100_000):
        path = tmp_path / f"{depth}.jsonl"
        path.write_bytes(b"\n".join([_export(_deep(shape, depth)), plain.replace(b"t0", b"t")]))
        faults: list[Fault] = []
        reading = Reading(ReadRequest((str(path),), OPTIONS), on_fault=faults.append)
        n_found = sum(batch.num_rows for batch in reading.batches())
        assert [(str(path), 1)] * (2 - n_found) == [(fault.file, fault.line) for fault in faults]
        assert all("nested too deep" in fault.reason for fault in faults)
        counts = reading.counts
        assert counts.records + counts.split == counts.exchanges + counts.quarantined == 2
        outcomes.add(n_found)
    assert {1, 2} == outcomes


def test_a_deep_span_costs_no_other() -> None:
    """Of an export's spans only the one that is nested too deep is put aside."""
    calm = {"key": "gen_ai.request.model", "value": {"stringValue": "m"}}
    deep: Any = {"intValue": "1"}
    for _ in range(5000):
        deep = {"arrayValue": [deep]}
    spans = [
        {**SPAN, "spanId": f"c{n}", "startTimeUnixNano": 1_700_000_000_000_000_000,
         "attributes": [calm, *([{"key": "k", "value": deep}] if n == 1 else [])]}
        for n in range(3)
    ]  # fmt: skip
    for where in ({"spans": spans}, {"spans": spans[:1] + spans[2:]}):
        conversion = otel.READER.begin(OPTIONS)
        assert isinstance(conversion, otel.OtelConversion)
        record = {"resourceSpans": [{"scopeSpans": [where]}]}
        assert [] == list(conversion.convert(record, Origin("f", 7)))
        assert ["ab-c0", "ab-c2"] == [found.exchange_id for found in conversion.finish()]
        n_deep = len(where["spans"]) - 2
        expected = [Fault("f", 7, "a span or an event is nested too deep")] * n_deep
        taken = conversion.take()
        assert (expected, 1 + n_deep) == (taken.faults, taken.split)


def test_a_deep_record_is_recognised_by_none() -> None:
    """A record nested too deep in memory does not stop others from being recognised."""
    deep: Any = {"intValue": "1"}
    for _ in range(5000):
        deep = {"arrayValue": [deep]}
    span = {**SPAN, "attributes": {"gen_ai.request.model": "m"}}
    found = recognise([{**SPAN, "attributes": {"x": deep}}, span])
    assert found is not None
    assert ("otel", 0.5) == (found.format, found.share)
