r"""Nginx access logs in front of a model API, without bodies.

Taken are lines in JSON (`log_format ... escape=json`, keys named after nginx's variables), and the
`combined` format with whatever follows it: a quoted `$http_x_forwarded_for` as in the packaged
`main` format, and `name=value` pairs (`rid=$request_id rt=$request_time key="$http_x_api_key"`).
Nginx writes a line when the answer is complete: the question's arrival is that time less
`$request_time`. Requests of other paths than model APIs' are skipped and counted.

Account, the first that the format logs: $remote_user, a header that names the caller (x-user-id,
x-account-id, x-client-id, x-consumer-*, x-jwt-sub, ...), the keyed hash of a logged key
(authorization, x-api-key, api-key); else "".

Source: nginx documentation, ngx_http_log_module (formats, variables, escape=json|default; values
that are absent are "-", bytes outside printable ASCII `\xXX`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NoReturn

import msgspec

from stillwatch.errors import InvalidInputError
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
    account_of,
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

_QUOTED = r'"((?:[^"\\]|\\.)*)"'
_COMBINED = re.compile(
    rf"(\S+) - (.*?) \[([^\]]{{11,40}})\] {_QUOTED} (\d{{3}}) (\d+|-)"
    rf"(?: {_QUOTED} {_QUOTED}(.*))?",
    re.DOTALL,
)
_PAIR = re.compile(rf"([A-Za-z_][\w.-]*)=(?:{_QUOTED}|(\S*))|{_QUOTED}")
_ESCAPE = re.compile(r'\\(?:x([0-9A-Fa-f]{2})|(["\\]))')
#: Short names that operators give to variables in `name=value` pairs.
_SHORT = {
    "rid": "request-id", "reqid": "request-id", "rt": "request-time", "ua": "user-agent",
    "uht": "upstream-header-time", "xff": "x-forwarded-for", "key": "x-api-key",
    "user": "x-user-id", "session": "x-session-id",
}  # fmt: skip
_TIMES = ("msec", "time-iso8601", "@timestamp", "time", "timestamp", "time-local", "ts")
_PATHS = ("request-uri", "uri", "request-path", "path", "url")
_IDS = ("request-id", "x-request-id", "requestid")
_MODELS = ("model", "x-model", "llm-model", "gen-ai.request.model")
_AGENTS = ("user-agent", "agent")
_KINDS = ("sent-http-content-type", "upstream-http-content-type")
_SESSIONS = ("x-session-id", "session-id", "session")


class NginxReader:
    """Reads nginx access logs."""

    name = "nginx"
    title = "nginx access log"
    shape: Literal["json", "text", "rows"] = "text"

    def recognise(self, record: Any) -> str | None:
        """Say on what ground a record is of this format."""
        if isinstance(record, str | bytes):
            line = record.encode("utf-8", "replace") if isinstance(record, str) else record
            try:
                found = self.decode(line)
            except InvalidInputError:
                return None
            if not line.lstrip().startswith(b"{"):
                return "has the fields of nginx's combined format in their order"
            record = found
        if not isinstance(record, Mapping):
            return None
        names = {plain_name(str(name)) for name in record}
        if "remote-addr" in names and names & {"request", "request-uri", "uri"}:
            return "has nginx's remote_addr beside the request"
        return None

    def decode(self, line: bytes) -> Any:
        """Decode a line.

        Args:
            line: without its newline.

        Returns:
            Values by `plain_name`.

        Raises:
            InvalidInputError: neither JSON nor the combined format.
        """
        if line.lstrip()[:1] == b"{":
            try:
                found = msgspec.json.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                _refuse(line, "a JSON object, as escape=json writes it")
            return {plain_name(str(name)): _told(value) for name, value in found.items()}
        match = _COMBINED.fullmatch(line.decode("utf-8", "replace"))
        if match is None:
            _refuse(line, "in nginx's combined format, or JSON")
        peer, user, time, request, status, size, referer, agent, rest = match.groups()
        found = {
            "remote-addr": peer, "remote-user": user, "time-local": time, "request": request,
            "status": status, "body-bytes-sent": size, "referer": referer, "user-agent": agent,
        }  # fmt: skip
        return {n: _told(_plain(v)) for n, v in found.items() if v is not None} | _pairs(rest or "")

    def begin(self, options: ReadOptions) -> Conversion:
        """Begin to read a log, of one or many files."""
        return NginxConversion(options)


class NginxConversion(Tally):
    """One access log being read; each line is a whole request."""

    def __init__(self, options: ReadOptions) -> None:
        super().__init__()
        self._options = options

    def convert(self, record: Any, origin: Origin) -> Iterable[Exchange]:
        """Turn one line into an exchange, unless it asks no model."""
        found = record_of(record, origin=origin, wanted="a line of nginx's access log")
        fields = {plain_name(str(name)): _told(value) for name, value in found.items()}
        ended_at = next(
            (at for n in _TIMES if (at := epoch(fields.get(n), options=self._options))), None
        )
        if ended_at is None:
            malformed(origin, "a line with $msec, $time_iso8601 or $time_local", got="none")
        method, path = _request(fields)
        if not is_model_path(path) or method in {"GET", "HEAD", "OPTIONS", "DELETE"}:
            self.skipped["request of another path or method"] += 1
            return ()
        return (self._exchange(fields, ended_at, origin, path=path),)

    def finish(self) -> Iterable[Exchange]:
        """Give back what still waits: nothing."""
        return ()

    def _exchange(
        self, fields: dict[str, Any], ended_at: float, origin: Origin, *, path: str
    ) -> Exchange:
        options = self._options
        took = number(fields.get("request-time")) or 0.0
        started_at = ended_at - (took if 0 < took < ended_at else 0.0)
        chain = fields.get("x-forwarded-for")
        address = network(options, client_address(fields.get("remote-addr"), chain))
        named, key_hash = caller(options, fields)
        status = tokens(fields.get("status")) or 0
        kind = first_text(*(fields.get(n) for n in _KINDS))
        return Exchange(
            exchange_id=first_text(*(fields.get(n) for n in _IDS)) or f"nginx:{origin}",
            account=account_of(options, fields.get("remote-user"), named),
            started_at=started_at,
            first_output_at=_first_output(fields, started_at),
            ended_at=ended_at,
            wire=wire_of_path(path) or "other",
            model=first_text(*(fields.get(n) for n in _MODELS), model_of_path(path)) or "",
            status=status,
            error=None if 0 < status < 400 else str(status or "no response"),
            streamed="event-stream" in (kind or ""),
            org=org_of(fields),
            key_hash=key_hash,
            ip_hash=address.ip_hash,
            network_hash=address.network_hash,
            user_agent=first_text(*(fields.get(n) for n in _AGENTS)),
            session=first_text(*(fields.get(n) for n in _SESSIONS)),
            origin=str(origin),
            tags=_tags(fields, path),
        )


READER = NginxReader()


def _request(fields: Mapping[str, Any]) -> tuple[str, str]:
    """Method and path: of the request line, or of fields of their own."""
    line = (text(fields.get("request")) or "").split(" ")
    path = first_text(*(fields.get(name) for name in _PATHS))
    method = text(fields.get("request-method")) or text(fields.get("method"))
    if len(line) >= 2:
        return method or line[0], path or line[1]
    return method or "POST", path or line[0]


def _first_output(fields: Mapping[str, Any], started_at: float) -> float | None:
    """When the upstream's headers came; of several upstreams in a list the last answered."""
    told = text(fields.get("upstream-header-time"))
    found = number(told.replace(":", ",").split(",")[-1]) if told is not None else None
    found = number(fields.get("upstream-header-time")) if found is None else found
    return None if found is None or found < 0 else started_at + found


def _pairs(rest: str) -> dict[str, Any]:
    """What follows the combined format: pairs by name; the first bare text is X-Forwarded-For."""
    found: dict[str, Any] = {}
    for match in _PAIR.finditer(rest):
        name, quoted, plain, bare = match.groups()
        if name is None:
            found.setdefault("x-forwarded-for", _told(_plain(bare)))
            continue
        spelled = plain_name(name)
        value = quoted if quoted is not None else plain
        found[_SHORT.get(spelled, spelled)] = _told(_plain(value))
    return found


def _plain(value: str) -> str:
    r"""Undo `\xXX`; the bytes are UTF-8."""
    if "\\" not in value:
        return value
    raw = _ESCAPE.sub(lambda m: m[2] or chr(int(m[1], 16)), value)
    try:
        return raw.encode("latin-1").decode("utf-8", "replace")
    except UnicodeEncodeError:
        return raw


def _told(value: Any) -> Any:
    return None if value in ("-", "") else value


def _tags(fields: Mapping[str, Any], path: str) -> dict[str, str]:
    sent = first_text(fields.get("bytes-sent"), fields.get("body-bytes-sent"))
    told = {
        "path": bare_path(path) or None,
        "bytes_sent": sent,
        "bytes_received": text(fields.get("request-length")),
    }
    return {n: v for n, v in told.items() if v is not None} | client_tags(fields)


def _refuse(line: bytes, rule: str) -> NoReturn:
    message = f"nginx: line must be {rule}, got {len(line)} bytes that are not"
    raise InvalidInputError(message)
