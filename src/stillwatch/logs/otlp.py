"""OTLP as JSON: the nested messages of OpenTelemetry's protocol to flat spans and events.

Takes what the file exporter of the collector writes (requests with `resourceSpans` or
`resourceLogs`), what console exporters print (one span or log record with plain attributes), and
the older names of both.

Source: opentelemetry-proto (trace, logs, common v1), JSON mapping: camelCase names, ids in hex,
64-bit numbers as text or number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Attributes = dict[str, Any]


class SpanEvent(NamedTuple):
    """An event inside a span.

    Attributes:
        name: of the event.
        time: as written, or None.
        attributes: by name.
    """

    name: str
    time: object
    attributes: Attributes


class Signal(NamedTuple):
    """A span, or a log record that is an event.

    Attributes:
        is_span: a span; else a log record.
        name: the span's or the event's name.
        trace_id: hex digits, "" unknown.
        span_id: hex digits of the span, or of the span that the event belongs to; "" unknown.
        started_at: as written: a span's start, an event's time.
        ended_at: as written, spans only.
        attributes: by name.
        resource: attributes of what sent it.
        body: of a log record.
        events: inside a span.
        has_failed: the span's status is an error.
    """

    is_span: bool
    name: str
    trace_id: str
    span_id: str
    started_at: object
    ended_at: object
    attributes: Attributes
    resource: Attributes
    body: Any
    events: tuple[SpanEvent, ...]
    has_failed: bool

    @property
    def key(self) -> str:
        """What a span and its events share; "" when the ids are unknown."""
        return f"{self.trace_id}-{self.span_id}" if self.trace_id and self.span_id else ""


def is_otlp(record: Mapping[str, Any]) -> bool:
    """Say whether a record has the shape of OTLP as JSON.

    Args:
        record: as decoded.

    Returns:
        Whether `signals` can read it.
    """
    return any(name in record for name in _OUTER) or _is_bare(record)


def signals(record: Mapping[str, Any]) -> Iterator[Signal | None]:
    """Read the spans and log records of one record.

    Args:
        record: as decoded; shapes without spans or records give nothing.

    Yields:
        Each in its order, None for one whose values are nested too deep to be opened. Values that
        are no objects are skipped where objects are expected: the collector never writes such.
    """
    for outer, inner, leaves in _LEVELS:
        for resource in _objects(record.get(outer)):
            yield from _of_resource(resource, inner, leaves)
    for _, inner, leaves in _LEVELS:
        if any(name in record for name in inner):
            yield from _of_resource(record, inner, leaves)
            return
    if _is_bare(record):
        yield _signal(record, _resource(record))


def attributes_of(value: object) -> Attributes:
    """Read attributes.

    Args:
        value: OTLP's list of key and value, or a plain object.

    Returns:
        Plain values by name.
    """
    if isinstance(value, Mapping):
        return {str(name): _opened(inner) for name, inner in value.items()}
    return {
        item["key"]: any_value(item.get("value"))
        for item in _objects(value)
        if isinstance(item.get("key"), str)
    }


def any_value(value: object) -> Any:
    """Open OTLP's AnyValue.

    Args:
        value: an object with one of stringValue, intValue, doubleValue, boolValue, arrayValue,
            kvlistValue, bytesValue (or its snake_case name); any other value is itself.

    Returns:
        The plain value; None for an empty AnyValue.
    """
    if not isinstance(value, dict):
        return value
    name, inner = next(iter(value.items()), ("", None))
    kind = _VALUE_NAMES.get(name)
    if kind is None or len(value) != 1:
        return dict(value) if value else None
    if kind == "array":
        values = inner.get("values") if isinstance(inner, dict) else inner
        return [any_value(v) for v in values] if isinstance(values, list) else []
    if kind == "map":
        # The mapping says {"values": [...]}; the protocol's own example file writes the bare list.
        return attributes_of(inner.get("values") if isinstance(inner, dict) else inner)
    return _whole_number(inner) if kind == "int" else inner


_LEVELS = (
    ("resourceSpans", ("scopeSpans", "instrumentationLibrarySpans", "scope_spans"), ("spans",)),
    ("resource_spans", ("scope_spans", "scopeSpans"), ("spans",)),
    ("resourceLogs", ("scopeLogs", "scope_logs"), ("logRecords", "log_records")),
    ("resource_logs", ("scope_logs", "scopeLogs"), ("log_records", "logRecords")),
)
_OUTER = frozenset({name for outer, inner, _ in _LEVELS for name in (outer, *inner)})
_VALUE_NAMES = {
    "stringValue": "text", "string_value": "text", "intValue": "int", "int_value": "int",
    "doubleValue": "number", "double_value": "number", "boolValue": "flag", "bool_value": "flag",
    "arrayValue": "array", "array_value": "array", "kvlistValue": "map", "kvlist_value": "map",
    "bytesValue": "bytes", "bytes_value": "bytes",
}  # fmt: skip
_SPAN_TIMES = ("startTimeUnixNano", "start_time_unix_nano", "start_time", "startTime")
_END_TIMES = ("endTimeUnixNano", "end_time_unix_nano", "end_time", "endTime")
_EVENT_TIMES = (
    "timeUnixNano", "time_unix_nano", "timestamp", "observedTimeUnixNano",
    "observed_time_unix_nano", "observed_timestamp",
)  # fmt: skip


def _whole_number(value: object) -> object:
    if not isinstance(value, str):
        return value
    return int(value) if value.lstrip("-").isdecimal() and len(value) < 21 else None


def _is_bare(record: Mapping[str, Any]) -> bool:
    if not isinstance(record.get("attributes"), list | Mapping):
        return False
    names = ("spanId", "span_id", "context", "eventName", "event_name", "severityNumber")
    return any(name in record for name in (*names, "severity_number"))


def _of_resource(
    resource: Mapping[str, Any], scopes: tuple[str, ...], leaves: tuple[str, ...]
) -> Iterator[Signal | None]:
    shared = _resource(resource)
    for scope in _objects(_first(resource, scopes)):
        for leaf in _objects(_first(scope, leaves)):
            yield _signal(leaf, shared)


def _resource(found: Mapping[str, Any]) -> Attributes | None:
    try:
        return attributes_of(_mapping(found.get("resource")).get("attributes"))
    except RecursionError:
        return None


def _signal(found: Mapping[str, Any], resource: Attributes | None) -> Signal | None:
    try:
        return None if resource is None else _opened_signal(found, resource)
    except RecursionError:
        return None


def _opened_signal(found: Mapping[str, Any], resource: Attributes) -> Signal:
    context = _mapping(found.get("context"))
    attributes = attributes_of(found.get("attributes"))
    started_at = _first(found, _SPAN_TIMES)
    is_span = started_at is not None
    event = _first(found, ("eventName", "event_name")) or attributes.get("event.name")
    name = found.get("name") if is_span else event
    status = _mapping(found.get("status"))
    code = status.get("code", status.get("status_code"))
    return Signal(
        is_span=is_span,
        name=name if isinstance(name, str) else "",
        trace_id=_hex(_first(found, ("traceId", "trace_id")) or context.get("trace_id")),
        span_id=_hex(_first(found, ("spanId", "span_id")) or context.get("span_id")),
        started_at=started_at if is_span else _first(found, _EVENT_TIMES),
        ended_at=_first(found, _END_TIMES),
        attributes=attributes,
        resource=resource,
        body=any_value(found.get("body")),
        events=tuple(_event(event) for event in _objects(found.get("events"))),
        has_failed=str(code) in {"2", "ERROR", "STATUS_CODE_ERROR"},
    )


def _event(found: Mapping[str, Any]) -> SpanEvent:
    name = found.get("name")
    return SpanEvent(
        name if isinstance(name, str) else "",
        _first(found, _EVENT_TIMES),
        attributes_of(found.get("attributes")),
    )


def _opened(value: object) -> Any:
    """A plain attribute; some exporters leave AnyValues inside plain objects."""
    is_any = isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in _VALUE_NAMES
    return any_value(value) if is_any else value


def _first(found: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """The first named value that says something; zero times mean unknown."""
    for name in names:
        value = found.get(name)
        if value is not None and (isinstance(value, list) or value not in ("", "0", 0)):
            return value
    return None


def weight_of(value: object) -> int:
    """Weigh a value.

    Args:
        value: as decoded.

    Returns:
        Roughly the bytes that it takes in memory.
    """
    if isinstance(value, str):
        return 50 + len(value)
    if isinstance(value, Mapping):
        return 100 + sum(100 + weight_of(inner) for inner in value.values())
    return 60 + sum(map(weight_of, value)) if isinstance(value, list) else 30


def _hex(value: object) -> str:
    return value.lower().removeprefix("0x") if isinstance(value, str) else ""


def _objects(value: object) -> list[Mapping[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
