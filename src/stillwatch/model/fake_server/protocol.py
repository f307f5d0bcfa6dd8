"""HTTP/1.1 for a fake endpoint: one small protocol, so that the client is what a bench measures."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, cast
from urllib.parse import parse_qsl

import httptools

_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
    529: "Overloaded",
}


class HttpRequest(NamedTuple):
    """One request.

    Attributes:
        method: GET, POST, DELETE.
        path: without its query.
        query: its parameters.
        headers: by lower-case name.
        body: its bytes.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


class Connection(asyncio.Protocol):
    """One client's connection: requests are answered one after the other, in order.

    Args:
        on_request: called with the connection and each request; it replies through the
            connection, at once or later, and then calls `finish`.
        on_open: called with the connection when it opens.
    """

    def __init__(
        self,
        on_request: Callable[[Connection, HttpRequest], None],
        on_open: Callable[[Connection], None],
    ) -> None:
        self._on_request = on_request
        self._on_open = on_open
        self._waiting: deque[HttpRequest] = deque()
        self._busy = False
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._begin()

    @property
    def is_open(self) -> bool:
        """Whether the client is still there."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, data: bytes) -> None:
        """Write bytes to the client, or nowhere when it is gone.

        Args:
            data: any.
        """
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def reply(self, status: int, body: bytes, *, kind: str, headers: str = "") -> None:
        """Write a whole reply, and let the next request in.

        Args:
            status: of HTTP.
            body: its bytes.
            kind: its content type.
            headers: further header lines, each with its line end.
        """
        self.send(head_bytes(status, kind=kind, headers=headers, length=len(body)) + body)
        self.finish()

    def drop(self, data: bytes = b"") -> None:
        """Close the connection, after some bytes.

        Args:
            data: what is still written.
        """
        self.send(data)
        if self._transport is not None:
            self._transport.close()
        self._waiting.clear()

    def finish(self) -> None:
        """Say that the current request is answered."""
        self._busy = False
        if self._waiting:
            self._next()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (asyncio's call)."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by duck type only
        self._on_open(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the transport (asyncio's call)."""
        self._transport = None
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        """Parse bytes (asyncio's call)."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            self.drop(head_bytes(500, kind="text/plain", headers="connection: close\r\n", length=0))
            raise  # a fault of the fake's own: the loop's handler shows it
        except httptools.HttpParserError:
            self.drop(head_bytes(400, kind="text/plain", headers="connection: close\r\n", length=0))

    def on_url(self, url: bytes) -> None:
        """Keep the target (the parser's call)."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header (the parser's call)."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Let a careful client go on to its body (the parser's call)."""
        if self._headers.get("expect", "").lower() == "100-continue":
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body (the parser's call)."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Answer, or queue behind the request that is being answered (the parser's call)."""
        path, _, query = self._url.decode("latin-1").partition("?")
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        method = self._parser.get_method().decode("latin-1")
        parameters = dict(parse_qsl(query)) if query else {}
        self._waiting.append(HttpRequest(method, path, parameters, self._headers, body))
        self._begin()
        if not self._busy:
            self._next()

    def _begin(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []

    def _next(self) -> None:
        self._busy = True
        self._on_request(self, self._waiting.popleft())


def head_bytes(status: int, *, kind: str, headers: str = "", length: int | None = None) -> bytes:
    """Write the head of a reply.

    Args:
        status: of HTTP.
        kind: content type.
        headers: further header lines, each with its line end.
        length: of the body (bytes); None for one that comes in chunks.

    Returns:
        The head's bytes, with the empty line.
    """
    size = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    reason = _REASONS.get(status, "")
    text = f"HTTP/1.1 {status} {reason}\r\ncontent-type: {kind}\r\n{size}\r\n{headers}\r\n"
    return text.encode("latin-1")


def chunk_bytes(data: bytes) -> bytes:
    """Write one chunk of a body that comes in chunks; an empty one ends it.

    Args:
        data: the chunk.

    Returns:
        Its bytes on the wire.
    """
    return b"%x\r\n%s\r\n" % (len(data), data)
