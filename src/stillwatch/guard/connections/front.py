"""The server side of a connection: uvicorn's protocol, bounded and made strict.

What uvicorn leaves open is closed here: deadlines for heads and bodies, bounds on their size,
clients that never read, requests that two servers could read in two ways, trailers that would pass
for headers, and a second request on a connection whose first one is not answered yet (nobody who
speaks to an API sends one, and while it waits a client that leaves is not noticed).

Deadlines are kept by one look at all connections a second: nothing is timed per request.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Final

import httptools
from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from stillwatch.guard.connections import framing
from stillwatch.guard.connections.framing import Fault, ServerConfig
from stillwatch.guard.connections.turn import OldTurn, Outlet, Turn, refusal_bytes

#: Under this key of `scope["extensions"]`: `Turn.watch`.
GONE_EXTENSION: Final = "stillwatch.gone"
_LINGER_S: Final = 2.0  # how long a client may go on sending after its refusal
_LINGER_BYTES: Final = 4 * 1024 * 1024
#: Bytes around a body's own (chunk sizes, extensions, trailers) that always pass, and how many more
#: each body byte earns: a chunk of one byte has five around it.
_OVERHEAD_BYTES: Final = 64 * 1024
_OVERHEAD_EACH: Final = 16
#: Rest of a refused request's body (bytes) that is awaited so as to keep the connection.
_MUCH: Final = 64 * 1024
_AT_ONCE: Final = 500  # connections looked at in one go: half a millisecond
_LEFT: Final = frozenset({7, 8})  # TCP_CLOSE, TCP_CLOSE_WAIT: the other end has gone


class _Phase(Enum):
    HEAD = auto()  # a head is awaited or under way
    BODY = auto()
    READ = auto()  # the request is whole, its answer is not
    IDLE = auto()
    DEAF = auto()  # refused or about to close: what comes is thrown away


_HEAD, _BODY, _READ, _IDLE, _DEAF = _Phase


class Front:
    """Makes the connections of one gateway and looks after their deadlines.

    Args:
        app: the ASGI application.
        settings: bounds.
        count: told the code of each refusal at the door.
    """

    def __init__(
        self, app: ASGIApp, settings: ServerConfig, count: Callable[[str], None] | None = None
    ) -> None:
        self.app = app
        self.settings = settings
        self.count = count or (lambda _: None)
        self._open: set[_Bounded] = set()
        shortest = min(settings.header_s, settings.body_s, settings.idle_s, settings.stall_s)
        self._period_s = min(1.0, shortest / 4)
        self._timer: asyncio.TimerHandle | None = None
        self._due: list[_Bounded] = []
        self._turns = 1

    def __call__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> ClientConnection:
        """Make the protocol of one connection, as uvicorn asks for it.

        Args:
            config: uvicorn's.
            server_state: uvicorn's.
            app_state: uvicorn's.
            _loop: the loop that serves it.

        Returns:
            The protocol.
        """
        connection = ClientConnection(config, server_state, app_state, _loop)
        connection.front = self
        return connection

    def enter(self, connection: _Bounded) -> bool:
        """Look after a connection from now on.

        Args:
            connection: an open one.

        Returns:
            False when there are too many.
        """
        self._open.add(connection)
        if self._timer is None:
            self._timer = connection.loop.call_later(self._period_s, self._sweep, connection.loop)
        return len(self._open) <= self.settings.connections

    def leave(self, connection: _Bounded) -> None:
        """Forget a connection.

        Args:
            connection: a lost one.
        """
        self._open.discard(connection)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look at all connections once a period; at many of them in turns, so nobody waits long."""
        if not self._due:
            self._due = list(self._open)
            self._turns = 1 + len(self._due) // _AT_ONCE
        now, self._due = self._due[:_AT_ONCE], self._due[_AT_ONCE:]
        for connection in now:
            if connection in self._open:
                connection.tick(self._period_s)
        pause_s = self._period_s / self._turns
        self._timer = loop.call_later(pause_s, self._sweep, loop) if self._open else None


class _Bounded(HttpToolsProtocol):
    """A connection's beginning, deadlines, sizes and ends.

    Attributes:
        front: what made it.
    """

    front: Front
    cycle: Turn | None  # type: ignore[assignment]  # none before the first request

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; asyncio's."""
        super().connection_made(transport)  # type: ignore[arg-type]  # a stream's, always
        self._outlet = Outlet(self)
        self._begin(_HEAD)
        if not self.front.enter(self):
            self.refuse(framing.BUSY)

    def _begin(self, phase: _Phase) -> None:
        self._phase = phase
        self._fed = self._body = 0
        self._waited_s = self._quiet_s = self._stalled_s = 0.0

    def connection_lost(self, exc: Exception | None) -> None:
        """End; asyncio's."""
        self.front.leave(self)
        turn = self.cycle
        super().connection_lost(exc)
        if turn is not None:
            turn.lose()

    def data_received(self, data: bytes) -> None:
        """Read what came; asyncio's."""
        self._quiet_s = 0.0
        self._fed += len(data)
        if self._phase is not _DEAF:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade:
                self.go_deaf()  # served as what it also is; the rest may be another protocol
            except httptools.HttpParserError:
                self._on_bad_bytes()
        self._check_size()

    def _check_size(self) -> None:
        phase, fed = self._phase, self._fed
        if phase is _HEAD:
            if fed > self.front.settings.header_bytes:
                self.refuse(framing.HEAD_TOO_LONG)
        elif phase is _BODY:
            if fed - self._body > _OVERHEAD_BYTES + _OVERHEAD_EACH * self._body:
                self.refuse(framing.BODY_BROKEN)
        elif phase is _DEAF and fed > _LINGER_BYTES:
            self.transport.abort()

    def _on_bad_bytes(self) -> None:
        if self._phase is _DEAF:
            return
        if self._phase is _READ:
            self.go_deaf()  # the request was sound; what followed it is thrown away
        else:
            self.refuse(framing.BODY_BROKEN if self._phase is _BODY else framing.NOT_HTTP)

    @property
    def owes_much(self) -> bool:
        """Whether so much of the request is still to come that closing is the cheaper way."""
        if self._phase is not _BODY:
            return False
        length = next((int(v) for n, v in self.headers if n == b"content-length"), None)
        return length is None or length - self._body > _MUCH

    def close_softly(self) -> None:
        """Close once the client has read: closing on unread bytes would take the answer back."""
        if self._phase in {_READ, _IDLE} or self.transport.is_closing():
            self.transport.close()
            return
        self._begin(_DEAF)
        self.flow.resume_reading()
        self.transport.write_eof()

    def go_deaf(self) -> None:
        """Throw away what comes from now on, and close after the answer under way."""
        self._begin(_DEAF)
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def refuse(self, fault: Fault) -> None:
        """Answer instead of the application, or break off what it has begun to answer.

        Args:
            fault: why.
        """
        turn, phase = self.cycle, self._phase
        self._phase = _DEAF
        if phase is _BODY and turn is not None and turn.response_complete:
            self.transport.close()  # it has its answer, and was to send the rest of its request
            return
        self.front.count(fault.code)
        if turn is not None and not turn.response_complete:
            has_begun = turn.response_started
            turn.lose()
            if has_begun:
                self.transport.abort()
                return
        self.transport.write(refusal_bytes(fault))
        self.close_softly()

    def tick(self, period_s: float) -> None:
        """Keep the deadlines.

        Args:
            period_s: since the last call.
        """
        settings, flow = self.front.settings, self.flow
        if flow.write_paused:
            self._stalled_s += period_s
            if self._stalled_s > settings.stall_s:
                self.front.count("client_stalled")
                self.transport.abort()
            return
        if flow.read_paused:
            # It is we who do not read; but one who left meanwhile would not be noticed.
            if _has_left(self.transport):
                self.transport.abort()
            return
        self._stalled_s = 0.0
        self._waited_s += period_s
        self._quiet_s += period_s
        self._keep_deadline(settings)

    def _keep_deadline(self, settings: ServerConfig) -> None:
        phase = self._phase
        if phase is _IDLE:
            if self._waited_s > settings.idle_s:
                self.transport.close()
        elif phase is _HEAD:
            if self._waited_s > settings.header_s:
                self.refuse(framing.HEAD_TOO_SLOW) if self._fed else self.transport.close()
        elif phase is _BODY:
            patience_s = settings.body_s + self._body / settings.body_bytes_per_s
            if self._quiet_s > settings.body_s or self._waited_s > patience_s:
                self.refuse(framing.BODY_TOO_SLOW)
        elif phase is _DEAF and self._waited_s > _LINGER_S and not self._is_answering:
            self.transport.abort()

    @property
    def _is_answering(self) -> bool:
        turn = self.cycle
        return turn is not None and not turn.response_complete and not turn.disconnected


class ClientConnection(_Bounded):
    """One connection of a client: the parser's calls, in their order."""

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._phase is _READ:
            self.go_deaf()
        if self._phase is _DEAF:
            return
        super().on_message_begin()
        fed = self._fed
        self._begin(_HEAD)
        self._fed = fed

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        if self._phase is not _DEAF:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header line; behind the body it would be a trailer, which nobody here reads."""
        if self._phase is not _HEAD:
            return
        name = name.lower()
        if b"_" in name and framing.is_forged(name):
            return
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is whole: refuse it or start the application."""
        if self._phase is _DEAF:
            return
        method, version = self.parser.get_method().decode("ascii"), self.parser.get_http_version()
        upgrades = self.parser.should_upgrade()
        fault = framing.fault_of(method, version, self.headers, is_upgrade=upgrades)
        target = framing.split_target(self.url, method) if fault is None else fault
        settings = self.front.settings
        if len(self.url) > settings.target_bytes:
            target = framing.TARGET_TOO_LONG
        elif self._fed > settings.header_bytes and self._head_bytes() > settings.header_bytes:
            target = framing.HEAD_TOO_LONG
        if isinstance(target, Fault):
            self.refuse(target)
            return
        self.scope["method"], self.scope["http_version"] = method, version
        self.scope["path"], self.scope["raw_path"], self.scope["query_string"] = target
        self._phase = _BODY
        # What stood before the body is not counted as the body's.
        self._fed = self._body = 0
        self._start(version)

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _start(self, version: str) -> None:
        is_old = version == "1.0"
        self.cycle = turn = (OldTurn if is_old else Turn)(
            scope=self.scope,
            transport=self._outlet,  # type: ignore[arg-type]  # writes and closes as one
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue and not is_old,
            keep_alive=not is_old and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        turn.connection, turn.app = self, self.front.app
        self.scope["extensions"] = {GONE_EXTENSION: turn.watch}  # type: ignore[dict-item]  # ours
        self._start_asgi_task(turn, turn.serve)  # type: ignore[arg-type]  # two names of one

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self._phase is _BODY:
            self._body += len(body)
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._phase is _BODY and self.cycle is not None:
            self._begin(_IDLE if self.cycle.response_complete else _READ)
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer has left; uvicorn's call."""
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()
            if self._phase is _READ:
                self._begin(_IDLE)


def _has_left(transport: asyncio.Transport) -> bool:
    found = transport.get_extra_info("socket")
    if found is None or not hasattr(socket, "TCP_INFO"):
        return False
    return found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in _LEFT
