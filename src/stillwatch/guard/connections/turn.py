"""One request and its answer at a connection, and the way that the answer takes to the socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from stillwatch.guard.connections.framing import ENDING, Fault

#: Another try may help.
_AGAIN: Final = frozenset({408, 503})


class Line(Protocol):
    """What a turn and its outlet need to know of their connection."""

    transport: asyncio.Transport

    @property
    def owes_much(self) -> bool:
        """Whether closing is cheaper than to await the rest of the request."""
        ...

    def close_softly(self) -> None:
        """Close once the client has read its answer."""
        ...

    def refuse(self, fault: Fault) -> None:
        """Answer instead of the application, or break off what it has begun to answer."""
        ...


class Turn(RequestResponseCycle):
    """One request and its answer."""

    connection: Line
    app: ASGIApp
    _gone: Callable[[], None] | None = None
    _is_kept = False

    @property
    def keep_alive(self) -> bool:
        """Whether the connection outlives the answer."""
        return self._is_kept and not self.connection.owes_much

    @keep_alive.setter
    def keep_alive(self, is_kept: bool) -> None:
        self._is_kept = is_kept

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application; cut off, it ends without a word in the log.

        Args:
            scope: ASGI's.
            receive: ASGI's.
            send: ASGI's.
        """
        try:
            await self.app(scope, receive, send)
        except asyncio.CancelledError:
            self.connection.refuse(ENDING)

    def watch(self, callback: Callable[[], None] | None) -> None:
        """Be told, once, when the client is gone before its answer has ended.

        Args:
            callback: called from the loop, soon when the client is gone already; None no more.
        """
        self._gone = callback
        if self.disconnected and not self.response_complete:
            self.lose()

    def lose(self) -> None:
        """Take note that nobody waits for the answer any more."""
        if not self.response_complete:
            self.disconnected = True
            self.message_event.set()
            callback, self._gone = self._gone, None
            if callback is not None:
                asyncio.get_running_loop().call_soon(callback)


class OldTurn(Turn):
    """One in HTTP/1.0, which knows no chunks: a body of unknown length ends with the connection."""

    _is_bare = False

    async def send(self, message: ASGISendEvent) -> None:
        """Send a part of the answer.

        Args:
            message: ASGI's.
        """
        if message["type"] == "http.response.start":
            self._is_bare = b"content-length" not in dict(message.get("headers", ()))
            self.chunked_encoding = False if self._is_bare else None
        elif self._is_bare and message["type"] == "http.response.body":
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)


class Outlet:
    """What an answer is written to; closing waits for the client to read.

    Args:
        connection: whose.
    """

    __slots__ = ("close", "is_closing", "write")

    def __init__(self, connection: Line) -> None:
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing
        self.close = connection.close_softly


def refusal_bytes(fault: Fault) -> bytes:
    """Write a refusal that no application had a part in; the connection ends with it.

    Args:
        fault: why.

    Returns:
        Head and body.
    """
    body = msgspec.json.encode({
        "error": {
            "message": fault.message, "type": "invalid_request_error", "param": None,
            "code": fault.code,
        }
    })  # fmt: skip
    return (
        STATUS_LINE[fault.status]
        + b"content-type: application/json\r\nconnection: close\r\n"
        + (b"" if fault.status in _AGAIN else b"x-should-retry: false\r\n")
        + b"content-length: %d\r\n\r\n" % len(body)
        + body
    )
