"""One keep-alive client for the three wires; the one place that translates HTTP failures.

`EndpointClient.ask` sends bytes and says what came of it. It never raises for what an endpoint did:
who asks thousands of questions wants to record a failure, not to catch it. `HttpModel` raises.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, Protocol, Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import msgspec
from yarl import URL

from stillwatch.errors import (
    ModelAuthError,
    ModelError,
    ModelRateError,
    ModelTimeoutError,
    reject,
)
from stillwatch.wire import chat, messages, responses
from stillwatch.wire.chat import ChunkAssembler, parse_error_code
from stillwatch.wire.messages_stream import MessageAssembler
from stillwatch.wire.question import Reply
from stillwatch.wire.responses_stream import ResponseAssembler


class ModelUnavailableError(ModelError):
    """The endpoint could not be reached, or failed on its side; another try may help."""

    retryable = True


class Timeouts(NamedTuple):
    """How long to wait, in seconds.

    Attributes:
        connect_s: for a connection.
        silence_s: between two pieces of an answer.
        total_s: for a whole answer.
    """

    connect_s: float = 5.0
    silence_s: float = 120.0
    total_s: float = 600.0


class Outcome(NamedTuple):
    """What came of one question sent once.

    Attributes:
        reply: the answer, or None.
        error: the failure, or None; its text holds no body, key or question.
        status: HTTP status, 0 when none came.
        code: short code of the failure: the wire's own, or connect, disconnected, timeout, cut,
            unreadable; None for an answer.
        headers: of the reply, looked up without regard to case.
        facts: what else the reply told: response_id, request_id, system_fingerprint.
        may_be_billed: whether the endpoint may have answered, and bill, what did not arrive.
    """

    reply: Reply | None
    error: ModelError | None
    status: int
    code: str | None
    headers: Mapping[str, str]
    facts: dict[str, str]
    may_be_billed: bool = False


class _Assembler(Protocol):
    done: bool
    error_code: str | None

    def feed(self, data: bytes) -> None: ...
    def reply(self) -> Reply: ...


class _WireSpec(NamedTuple):
    path: str
    parse: Callable[[bytes], Reply]
    assembler: Callable[[], _Assembler]
    headers: Mapping[str, str]


#: What the Messages wire wants beside the key.
MESSAGES_VERSION: Mapping[str, str] = {"anthropic-version": "2023-06-01"}
_WIRES: dict[str, _WireSpec] = {
    "openai.chat": _WireSpec("/chat/completions", chat.parse_response, ChunkAssembler, {}),
    "openai.responses": _WireSpec("/responses", responses.parse_response, ResponseAssembler, {}),
    "anthropic.messages": _WireSpec(
        "/messages",
        messages.parse_response,
        MessageAssembler,
        MESSAGES_VERSION,
    ),
}
_NO_HEADERS: Mapping[str, str] = {}
#: Headers by which endpoints name a request, for questions to the vendor's support.
_REQUEST_IDS = ("x-request-id", "request-id")


class _Facts(msgspec.Struct):
    id: Any = None
    system_fingerprint: Any = None
    service_tier: Any = None


_decode_facts = msgspec.json.Decoder(_Facts).decode


class EndpointClient:
    """Sends questions to one endpoint over connections that stay open.

    Use it with `async with`, or call `aclose`.

    Args:
        endpoint: base URL, the part before `/chat/completions`, `/responses` or `/messages`.
        wire: openai.chat, openai.responses or anthropic.messages.
        headers: further headers, the key among them; never shown.
        timeouts: how long to wait.
        connections: connections open at once (count).

    Attributes:
        where: the endpoint as messages name it.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        wire: str = "openai.chat",
        headers: Mapping[str, str] = _NO_HEADERS,
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - immutable
        connections: int = 16,
    ) -> None:
        parts = urlsplit(endpoint)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username:
            rule = "an http or https URL without a user name in it"
            reject("EndpointClient", "endpoint", rule, got=f"{len(endpoint)} characters")
        if wire not in _WIRES:
            reject("EndpointClient", "wire", f"one of {', '.join(_WIRES)}", got=wire)
        if connections < 1:
            reject("EndpointClient", "connections", "at least 1", got=connections)
        self.where = f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")
        self._wire = _WIRES[wire]
        self._url = URL(self.where + self._wire.path)
        self._headers = {"content-type": "application/json", **self._wire.headers, **headers}
        self._timeouts = timeouts
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None
        bypassed = proxy_bypass(parts.hostname)
        self._proxy = None if bypassed else getproxies().get(parts.scheme)

    async def ask(self, body: bytes, *, stream: bool = False) -> Outcome:
        """Send one question, once.

        Args:
            body: as the wire's `encode_request` wrote it.
            stream: the body asks for server-sent events.

        Returns:
            What came of it; a failure too is a value here.
        """
        try:
            # No redirects: one would carry the key to another host.
            async with self._open().post(
                self._url, data=body, allow_redirects=False, proxy=self._proxy
            ) as response:
                if response.status != 200:
                    data = await response.read()
                    return self._refused(response.status, response.headers, data)
                if "event-stream" in response.headers.get("content-type", ""):
                    return await self._assemble(response)
                return self._read(await response.read(), response.headers)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            return self._broken(error)

    async def aclose(self) -> None:
        """Close the connections. A second call does nothing."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _read(self, data: bytes, headers: Mapping[str, str]) -> Outcome:
        try:
            reply = self._wire.parse(data)
        except ModelError as error:
            failure = ModelError(f"{self.where}: {error}")
            return Outcome(None, failure, 200, "unreadable", headers, {}, may_be_billed=True)
        facts = _request_facts(headers)
        try:
            told = _decode_facts(data)
        except msgspec.MsgspecError:
            return Outcome(reply, None, 200, None, headers, facts)
        for name, value in (
            ("response_id", told.id),
            ("system_fingerprint", told.system_fingerprint),
            ("service_tier", told.service_tier),
        ):
            if isinstance(value, str):
                facts[name] = value
        return Outcome(reply, None, 200, None, headers, facts)

    async def _assemble(self, response: aiohttp.ClientResponse) -> Outcome:
        assembler = self._wire.assembler()
        async for piece in response.content.iter_any():
            assembler.feed(piece)
        reply = assembler.reply()
        facts = _request_facts(response.headers)
        if assembler.error_code is None and assembler.done:
            return Outcome(reply, None, 200, None, response.headers, facts)
        code = assembler.error_code or "cut"
        error = ModelUnavailableError(
            f"{self.where}: the stream ended before the answer did ({code})"
        )
        return Outcome(None, error, 200, code, response.headers, facts, may_be_billed=True)

    def _refused(self, status: int, headers: Mapping[str, str], data: bytes) -> Outcome:
        code = parse_error_code(data)
        error = error_of(self.where, status, code, headers=headers)
        return Outcome(None, error, status, code, headers, _request_facts(headers), status == 504)

    def _broken(self, error: Exception) -> Outcome:
        where, billed = self.where, True
        failure: ModelError
        if isinstance(error, TimeoutError):
            code, hint = "timeout", "raise the timeouts, or ask for less"
            billed = not isinstance(error, aiohttp.ConnectionTimeoutError)
            failure = ModelTimeoutError(f"{where}: no answer in time", hint=hint)
        elif isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
            code, billed = "tls", False
            hint = "is the certificate one that this machine trusts?"
            failure = ModelError(f"{where}: no trusted connection", hint=hint)
        elif isinstance(error, aiohttp.ClientConnectorError):
            code, billed = "connect", False
            reason = error.os_error.strerror or "no route"
            hint = "is the server running there?"
            failure = ModelUnavailableError(f"{where}: cannot connect: {reason}", hint=hint)
        else:
            gone = isinstance(error, aiohttp.ServerDisconnectedError | ConnectionResetError)
            code = "disconnected" if gone else "cut"
            reason = type(error).__name__
            failure = ModelUnavailableError(f"{where}: the connection broke ({reason})")
        failure.__cause__ = error
        return Outcome(None, failure, 0, code, _NO_HEADERS, {}, may_be_billed=billed)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            waits = self._timeouts
            self._session = aiohttp.ClientSession(
                headers=self._headers,
                connector=aiohttp.TCPConnector(limit=self._connections, ttl_dns_cache=300),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(
                    total=waits.total_s, sock_connect=waits.connect_s, sock_read=waits.silence_s
                ),
            )
        return self._session


def error_of(where: str, status: int, code: str, *, headers: Mapping[str, str]) -> ModelError:
    """Translate a status that is not 200.

    Args:
        where: the endpoint as messages name it.
        status: HTTP status.
        code: the wire's short code; a message may quote the question or the key, so none is taken.
        headers: of the reply.

    Returns:
        The error to raise or to record.
    """
    message = f"{where}: status {status} ({code})"
    if status in {401, 403}:
        return ModelAuthError(message, hint="check the API key and what it may do")
    if status == 429:
        return ModelRateError(message, retry_after_s=retry_after_s(headers))
    if status in {408, 504}:
        return ModelTimeoutError(message)
    if status >= 500:
        return ModelUnavailableError(message)
    if 300 <= status < 400:
        return ModelError(message, hint="the endpoint moved; write its new address")
    return ModelError(message)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read how long an endpoint asks to wait.

    Args:
        headers: of the reply, looked up without regard to case.

    Returns:
        Seconds from `retry-after-ms`, else from `retry-after` (seconds or a date), never negative;
        None when neither says.
    """
    milliseconds = number_in(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = number_in(text)
    if seconds is not None or text is None:
        return seconds
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


def number_in(text: str | None) -> float | None:
    """Read a header's number.

    Args:
        text: the header, or None.

    Returns:
        The number, not below 0; None for what is no finite number.
    """
    try:
        value = float(text or "")
    except ValueError:
        return None
    return max(0.0, value) if math.isfinite(value) else None


def _request_facts(headers: Mapping[str, str]) -> dict[str, str]:
    for name in _REQUEST_IDS:
        value = headers.get(name)
        if value:
            return {"request_id": value}
    return {}
