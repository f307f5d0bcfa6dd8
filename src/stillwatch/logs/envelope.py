"""What people write around a request and its response when they log API calls themselves.

There is no standard for it, so names are tried in order: `{request, response, ...}` with the bodies
themselves or with whole HTTP messages (`{method, url, headers, body}`), `{request_body,
response_body, ...}`, and entries of an HTTP archive (HAR). Bodies may be objects, JSON text, the
text of an event stream, or lists of events.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from stillwatch.logs.fields import (
    account_of,
    decoded,
    epoch,
    first_text,
    hashed,
    network,
    number,
    text,
    tokens,
)
from stillwatch.logs.reader import Origin, ReadOptions
from stillwatch.record.exchange import Exchange
from stillwatch.wire.chat_stream import dict_of, list_of, text_of

_REQUEST = ("request", "request_body", "requestBody", "req")
_RESPONSE = ("response", "response_body", "responseBody", "resp", "res", "chunks", "events")
_BODY = ("body", "json", "content", "data", "payload")
_STARTED = (
    "started_at", "start_time", "startTime", "startedDateTime", "request_time", "requested_at",
    "timestamp", "time", "ts", "created_at", "date",
)  # fmt: skip
_ENDED = ("ended_at", "end_time", "endTime", "finished_at", "completed_at", "response_time")
_FIRST = ("first_output_at", "first_token_at", "completion_start_time")
_LATENCY = (
    ("latency_ms", 1e-3), ("duration_ms", 1e-3), ("elapsed_ms", 1e-3), ("response_time_ms", 1e-3),
    ("latency_s", 1.0), ("duration_s", 1.0), ("latency_seconds", 1.0), ("duration_seconds", 1.0),
)  # fmt: skip
_ACCOUNT = ("account", "account_id", "customer_id", "tenant_id", "user_id", "userId", "user")
_ORG = ("org", "org_id", "organization", "organization_id", "team_id")
_SESSION = ("session", "session_id", "sessionId", "conversation_id", "thread_id", "trace_id")
_ADDRESS = ("ip", "client_ip", "clientIp", "remote_addr", "remote_ip", "source_ip", "ip_address")
_KEY_HEADERS = ("x-api-key", "api-key", "authorization")
#: What both vendors' libraries say about the machine that they run on.
_STAINLESS = ("lang", "package-version", "os", "arch", "runtime", "runtime-version")
#: What other formats' records have that is never around a plain API call.
_FOREIGN = frozenset({
    "exchange_id", "call_type", "request_created_at", "custom_id", "schemaType", "resourceSpans",
    "hidden_params", "spend",
})  # fmt: skip


#: Stands for a time that a log does not tell, and never is one: the first second of 1970. The tag
#: `time` says unknown wherever it stands.
UNKNOWN_TIME = 1.0


class Envelope(NamedTuple):
    """One logged call.

    Attributes:
        request: the question's body, empty when there is none.
        response: what came back: object, list of events, text of a stream, or None.
        endpoint: the path that was asked, without its query; "".
        headers: of the request, by lower-case name.
        response_headers: of the response, by lower-case name.
        status: HTTP status, or None.
        around: the record itself.
    """

    request: Mapping[str, Any]
    response: object
    endpoint: str
    headers: Mapping[str, str]
    response_headers: Mapping[str, str]
    status: int | None
    around: Mapping[str, Any]


def entries_of(record: Mapping[str, Any]) -> list[Any]:
    """Take calls out of a record that wraps many: an HTTP archive, or a listing of stored ones.

    Args:
        record: as decoded.

    Returns:
        The calls; the record itself when it wraps none.
    """
    entries = dict_of(record.get("log")).get("entries")
    if isinstance(entries, list):
        return entries
    if record.get("object") == "list":
        inner = list_of(record.get("data"))
        if inner and all(text_of(dict_of(call).get("object")) in _LISTED for call in inner):
            return inner
    return [record]


_LISTED = frozenset({"chat.completion", "response"})


def open_envelope(record: Mapping[str, Any]) -> Envelope | None:
    """Open a record that holds a request or a response by name.

    Args:
        record: as decoded.

    Returns:
        The call, or None when the record holds neither, or is another format's.
    """
    if not _FOREIGN.isdisjoint(record):
        return None
    asked, told = _first(record, _REQUEST), _first(record, _RESPONSE)
    asked, told = decoded(asked), decoded(told)
    if not isinstance(asked, Mapping) and not isinstance(told, Mapping | list | str):
        return None
    request, headers = dict_of(asked), _headers(record.get("request_headers"))
    response: object = told
    url = first_text(record.get("url"), record.get("path"), record.get("endpoint"))
    if _is_http(request, ("method", "url", "path", "uri", "headers")):
        url = first_text(request.get("url"), request.get("path"), request.get("uri")) or url
        headers = _headers(request.get("headers")) or headers
        request = dict_of(_body(request, posted=request.get("postData")))
    statuses = [record.get("status"), record.get("status_code"), record.get("http_status")]
    response_headers = _headers(record.get("response_headers"))
    if isinstance(told, Mapping) and _is_http(told, ("status", "status_code", "headers")):
        statuses += [told.get("status"), told.get("status_code")]
        response_headers = _headers(told.get("headers")) or response_headers
        response = _body(told, posted=told.get("content"))
    status = next((n for n in map(tokens, statuses) if n is not None and 100 <= n <= 599), None)
    endpoint = _path(url or "")
    return Envelope(request, response, endpoint, headers, response_headers, status, record)


def circumstances_of(
    envelope: Envelope, *, options: ReadOptions, origin: Origin, named: str
) -> Exchange:
    """Say who asked, when and how, by what stands around the bodies.

    Args:
        envelope: the call.
        options: how times are read and secrets hashed.
        origin: where it stood.
        named: account that the question's body names, used when nothing else names one.

    Returns:
        An exchange without content; its time is `UNKNOWN_TIME` when nothing tells it.
    """
    around, headers = envelope.around, envelope.headers
    get, replied = around.get, envelope.response_headers
    key_hash = _key_hash(around, headers, options=options)
    client = first_text(*_all(around, _ADDRESS), *_all(headers, _FORWARDED))
    where = network(options, client)
    started_at = _started(around, options=options)
    ids = (get("id"), get("request_id"), replied.get("x-request-id"), replied.get("request-id"))
    return Exchange(
        exchange_id=first_text(*ids) or "",
        account=account_of(options, *_all(around, _ACCOUNT))
        or (f"key:{key_hash}" if key_hash else named),
        started_at=started_at or UNKNOWN_TIME,
        first_output_at=_time(around, _FIRST, options=options),
        ended_at=_ended(around, started_at, options=options),
        error=first_text(get("error_code"), get("error") if _is_code(get("error")) else None),
        org=first_text(
            *_all(around, _ORG),
            headers.get("openai-organization"),
            replied.get("openai-organization"),
            replied.get("anthropic-organization-id"),
        ),
        key_hash=key_hash,
        ip_hash=where.ip_hash,
        network_hash=where.network_hash,
        user_agent=first_text(get("user_agent"), get("userAgent"), headers.get("user-agent")),
        session=first_text(*_all(around, _SESSION), *_all(headers, ("session_id", "x-session-id"))),
        origin=str(origin),
        tags=_tags(headers),
    )


_FORWARDED = ("x-forwarded-for", "x-real-ip", "cf-connecting-ip")


def _first(record: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((record[name] for name in names if record.get(name) is not None), None)


def _all(record: Mapping[str, Any], names: Iterable[str]) -> list[Any]:
    return [record[name] for name in names if record.get(name) is not None]


def _is_http(message: Mapping[str, Any], names: tuple[str, ...]) -> bool:
    # A body can have a `status` of its own (a response object), so one name is not enough.
    has_body = any(name in message for name in (*_BODY, "postData", "text"))
    is_body = any(name in message for name in ("messages", "choices", "output", "input", "type"))
    return (
        any(name in message for name in names)
        and (has_body or "headers" in message)
        and not (is_body)
    )


def _body(message: Mapping[str, Any], *, posted: object) -> object:
    archived = dict_of(posted)
    if isinstance(archived.get("text"), str):
        if archived.get("encoding") == "base64":
            try:
                raw = base64.b64decode(archived["text"], validate=True)
            except binascii.Error:
                return None
            return decoded(raw.decode("utf-8", "replace"))
        return decoded(archived["text"])
    return decoded(_first(message, (*_BODY, "text")))


def _headers(given: object) -> dict[str, str]:
    pairs: list[tuple[object, object]] = []
    found = decoded(given)
    if isinstance(found, Mapping):
        pairs = list(found.items())
    for header in list_of(found):
        if isinstance(header, Mapping):
            pairs.append((header.get("name"), header.get("value")))
        elif isinstance(header, list) and len(header) == 2:
            pairs.append((header[0], header[1]))
    flat = [(n, v[0] if isinstance(v, list) and v else v) for n, v in pairs]
    return {n.lower(): v for n, v in flat if isinstance(n, str) and isinstance(v, str)}


def _path(url: str) -> str:
    # A query can carry a key, so it goes first.
    bare = url.partition("?")[0].partition("#")[0]
    if "://" in bare:
        bare = "/" + bare.partition("://")[2].partition("/")[2]
    return bare


def _key_hash(
    around: Mapping[str, Any], headers: Mapping[str, str], *, options: ReadOptions
) -> str | None:
    given = first_text(*_all(headers, _KEY_HEADERS), around.get("api_key"), around.get("key_hash"))
    if given is None:
        return None
    bare = given.strip()
    if bare[:7].lower() == "bearer ":
        bare = bare[7:].strip()
    # Loggers blank keys out in many ways; one blank is not the key of all.
    if len(bare) < 8 or "***" in bare or "..." in bare or "redacted" in bare.lower():
        return None
    return hashed(options, "key", bare)


def _time(around: Mapping[str, Any], names: Iterable[str], *, options: ReadOptions) -> float | None:
    times = (epoch(value, options=options) for value in _all(around, names))
    return next((found for found in times if found is not None), None)


def _started(around: Mapping[str, Any], *, options: ReadOptions) -> float | None:
    # In an HTTP archive `time` is a duration in ms.
    names = ("startedDateTime",) if "startedDateTime" in around else _STARTED
    return _time(around, names, options=options)


def _ended(
    around: Mapping[str, Any], started_at: float | None, *, options: ReadOptions
) -> float | None:
    told = _time(around, _ENDED, options=options)
    if told is not None or started_at is None:
        return told
    took = next(((number(around.get(n)), unit) for n, unit in _LATENCY if n in around), None)
    if "startedDateTime" in around:
        took = (number(around.get("time")), 1e-3)
    if took is None or took[0] is None or took[0] < 0:
        return None
    return started_at + took[0] * took[1]


def _is_code(error: object) -> bool:
    # A sentence may quote the question; a code has no spaces.
    return isinstance(error, str) and 0 < len(error) <= 64 and not any(c.isspace() for c in error)


def _tags(headers: Mapping[str, str]) -> dict[str, str]:
    facts = {
        "project": text(headers.get("openai-project")),
        **{f"sdk_{n.replace('-', '_')}": text(headers.get(f"x-stainless-{n}")) for n in _STAINLESS},
    }
    return {name: value for name, value in facts.items() if value is not None}
