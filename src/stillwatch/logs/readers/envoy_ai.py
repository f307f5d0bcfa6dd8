"""Envoy AI Gateway: access log lines in JSON, without bodies.

Field names are the operator's choice; taken are those that the gateway's documentation recommends
(`gen_ai.request.model`, `gen_ai.usage.input_tokens`, ...), its earlier ones (`genai_model_name`,
`genai_tokens_input`, ...) and Envoy Gateway's defaults for the rest. A dash is Envoy's "nothing".
Without bodies detection runs on times, sizes and counts only: join bodies by x-request-id.

Account, the first of these headers that the format logs: user.id, enduser.id, x-user-id,
x-account-id, x-client-id (API key policy's forwardClientIDHeader), x-consumer-*, x-jwt-sub,
x-auth-request-*; else the keyed hash of a logged key; else "".

Source: Envoy AI Gateway documentation, "Access logs with AI/LLM/MCP metadata" and its example
resources; Envoy Gateway's default JSON format; Envoy's access log commands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from stillwatch.logs.access import (
    bare_path,
    caller,
    client_address,
    client_tags,
    is_model_path,
    model_of_path,
    org_of,
    plain_name,
    wire_of_path,
)
from stillwatch.logs.fields import (
    decoded,
    epoch,
    first_text,
    malformed,
    network,
    number,
    record_of,
    text,
    tokens,
)
from stillwatch.logs.reader import Conversion, Origin, ReadOptions
from stillwatch.logs.tally import Tally
from stillwatch.record.exchange import Exchange

_MODEL = ("gen-ai.request.model", "genai-model-name")
_RETURNED = ("gen-ai.response.model", "gen-ai.request.model-override", "genai-model-name-override")
_BACKEND = ("gen-ai.provider.name", "genai-backend-name")
_INPUT = ("gen-ai.usage.input-tokens", "genai-tokens-input")
_OUTPUT = ("gen-ai.usage.output-tokens", "genai-tokens-output")
_PATH = ("x-envoy-origin-path", "x-envoy-original-path", ":path", "path")
_SESSION = ("session.id", "gen-ai.conversation.id", "mcp-session-id", "x-session-id")
_AI = frozenset({*_MODEL, *_INPUT, *_OUTPUT})


class EnvoyAiReader:
    """Reads Envoy AI Gateway's access log."""

    name = "envoy_ai"
    title = "Envoy AI Gateway access log"
    shape: Literal["json", "text", "rows"] = "json"

    def recognise(self, record: Any) -> str | None:
        """Say on what ground a record is of this format."""
        if not isinstance(record, Mapping) or "start_time" not in record:
            return None
        names = [str(name) for name in record if plain_name(str(name)) in _AI]
        if names and "response_code" in record:
            return f"has Envoy's start_time and response_code, and {names[0]}"
        if {"response_flags", "x-request-id"} <= record.keys():
            return "has Envoy Gateway's start_time, response_flags and x-request-id"
        return None

    def decode(self, line: bytes) -> Any:
        """Decode a line (records of this format are decoded for it)."""
        return decoded(line)

    def begin(self, options: ReadOptions) -> Conversion:
        """Begin to read a log, of one or many files."""
        return EnvoyAiConversion(options)


class EnvoyAiConversion(Tally):
    """One access log being read; each line is a whole call."""

    def __init__(self, options: ReadOptions) -> None:
        super().__init__()
        self._options = options

    def convert(self, record: Any, origin: Origin) -> Iterable[Exchange]:
        """Turn one line into an exchange, unless it asks no model."""
        found = record_of(record, origin=origin, wanted="a line of Envoy's access log in JSON")
        fields = {plain_name(str(name)): _told(value) for name, value in found.items()}
        started_at = epoch(fields.get("start-time"), options=self._options)
        if started_at is None:
            malformed(origin, "a line with start_time", got="none that is a time")
        path = first_text(*(fields.get(name) for name in _PATH)) or ""
        if first_text(*(fields.get(name) for name in _MODEL)) is None and not is_model_path(path):
            is_mcp = text(fields.get("mcp-method")) is not None
            self.skipped["tool call (MCP)" if is_mcp else "request of another path"] += 1
            return ()
        return (self._exchange(fields, started_at, origin),)

    def finish(self) -> Iterable[Exchange]:
        """Give back what still waits: nothing."""
        return ()

    def _exchange(self, fields: dict[str, Any], started_at: float, origin: Origin) -> Exchange:
        options = self._options
        path = first_text(*(fields.get(name) for name in _PATH)) or ""
        peer, chain = fields.get("downstream-remote-address"), fields.get("x-forwarded-for")
        address = network(options, client_address(peer, chain))
        account, key_hash = caller(options, fields)
        status = tokens(fields.get("response-code")) or 0
        kind = first_text(fields.get("content-type"), fields.get("response-content-type"))
        model = first_text(*(fields.get(name) for name in _MODEL), model_of_path(path))
        return Exchange(
            exchange_id=text(fields.get("x-request-id")) or f"envoy:{origin}",
            account=account,
            started_at=started_at,
            first_output_at=_after(started_at, fields.get("x-envoy-upstream-service-time")),
            ended_at=_after(started_at, fields.get("duration")),
            wire=wire_of_path(path) or "other",
            model=model or "",
            model_returned=first_text(*(fields.get(name) for name in _RETURNED)),
            input_tokens=_count(fields, _INPUT),
            output_tokens=_count(fields, _OUTPUT),
            status=status,
            error=_error(fields, status),
            streamed="event-stream" in (kind or ""),
            org=org_of(fields),
            key_hash=key_hash,
            ip_hash=address.ip_hash,
            network_hash=address.network_hash,
            user_agent=text(fields.get("user-agent")),
            session=first_text(*(fields.get(name) for name in _SESSION)),
            origin=str(origin),
            tags=_tags(fields, path),
        )


READER = EnvoyAiReader()


def _told(value: object) -> Any:
    return None if value in ("-", "") else value


def _after(started_at: float, milliseconds: object) -> float | None:
    found = number(milliseconds)
    return None if found is None or found < 0 else started_at + found / 1000


def _count(fields: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    return next((n for name in names if (n := tokens(fields.get(name))) is not None), None)


def _error(fields: Mapping[str, Any], status: int) -> str | None:
    """Envoy's response flags (`UH`, `RL`, `DC`) say more than a status."""
    told = text(fields.get("response-flags"))
    if told is not None:
        return told[:64]
    if status and status < 400:
        return None
    details = text(fields.get("response-code-details"))
    return (details or str(status or "no response"))[:64]


def _tags(fields: Mapping[str, Any], path: str) -> dict[str, str]:
    told = {
        "path": bare_path(path) or None,
        "backend": first_text(*(fields.get(name) for name in _BACKEND)),
        "route": text(fields.get("route-name")),
        "bytes_received": text(fields.get("bytes-received")),
        "bytes_sent": text(fields.get("bytes-sent")),
    }
    return {n: v for n, v in told.items() if v is not None} | client_tags(fields)
