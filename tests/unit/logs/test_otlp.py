"""OTLP as JSON: values, shapes, ids."""

from typing import Any

import pytest

from stillwatch.logs.otlp import any_value, attributes_of, is_otlp, signals


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
