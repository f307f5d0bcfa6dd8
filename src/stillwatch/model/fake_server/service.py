"""The routes of a fake endpoint: questions, batches, and what only a fake has."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import msgspec

from stillwatch.errors import StillwatchError
from stillwatch.model.fake_server.answers import Answers, Handler
from stillwatch.model.fake_server.asked import WIRES, Asked, BadAskingError, read_asked
from stillwatch.model.fake_server.batches import BatchDesk
from stillwatch.model.fake_server.behaviour import Behaviour
from stillwatch.model.fake_server.config import FakeConfig
from stillwatch.model.fake_server.protocol import (
    Connection,
    HttpRequest,
    chunk_bytes,
    head_bytes,
)
from stillwatch.model.fake_server.tally import Tally
from stillwatch.wire import chat, messages
from stillwatch.wire.question import Reply

JSON = "application/json"


class _Attempt(NamedTuple):
    """One attempt at a question, and what shall become of it."""

    connection: Connection
    asked: Asked
    headers: str
    fault: str | None = None


_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body>Bad Gateway</body></html>"


class Service:
    """Answers the requests of all connections. One event loop runs it.

    Args:
        config: how it behaves.
        handler: answers instead of the configuration, or None.
    """

    def __init__(self, config: FakeConfig, handler: Handler | None = None) -> None:
        self._handler = handler
        self._connections: weakref.WeakSet[Connection] = weakref.WeakSet()
        self.tally = Tally()
        self.configure(config)

    def configure(self, config: FakeConfig) -> None:
        """Behave otherwise from now on; batches and counts stay.

        Args:
            config: how.
        """
        self.config = config
        self._behaviour = Behaviour(config)
        self._answers = Answers(self._behaviour, self._handler)
        desk = getattr(self, "_desk", None)
        self._desk = BatchDesk(self._behaviour, self._answers, previous=desk)

    def connect(self) -> Connection:
        """Make the protocol of one more connection.

        Returns:
            It.
        """
        return Connection(self.handle, self._opened)

    def handle(self, connection: Connection, request: HttpRequest) -> None:
        """Reply to a request, at once or later.

        Args:
            connection: where it came from.
            request: what it is.
        """
        path = request.path.removeprefix("/v1")
        wire = WIRES.get(path)
        if path.startswith("/fake/"):
            self._control(connection, request)
        elif not self._is_admitted(request):
            _fail(connection, 401, wire=wire, message="the API key is not right")
        elif wire is not None and request.method == "POST":
            self._ask(connection, request, wire)
        elif path == "/models":
            model = {"id": self.config.model, "object": "model", "owned_by": "fake", "created": 0}
            body = msgspec.json.encode({"object": "list", "data": [model]})
            connection.reply(200, body, kind=JSON)
        else:
            self._desk.handle(connection, request, tally=self.tally)

    def close(self) -> None:
        """Close every connection."""
        for connection in list(self._connections):
            connection.drop()

    def _opened(self, connection: Connection) -> None:
        self.tally.n_connections += 1
        self._connections.add(connection)

    def _is_admitted(self, request: HttpRequest) -> bool:
        key = self.config.api_key
        if key is None:
            return True
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        return key in {bearer, request.headers.get("x-api-key")}

    def _ask(self, connection: Connection, request: HttpRequest, wire: str) -> None:
        try:
            asked = read_asked(wire, request.body)
        except BadAskingError as error:
            self.tally.statuses[400] += 1
            _fail(connection, 400, wire=wire, message=str(error))
            return
        n_tries = self.tally.arrive(asked.key)
        limited = self._behaviour.limit(self.tally.under_way)
        attempt = _Attempt(connection, asked, self._behaviour.rate_headers(limited))
        if limited is not None:
            self.tally.faults[f"limited_{limited.reason}"] += 1
            self._refuse(attempt, 429)
            return
        fault = self._behaviour.fault(asked.key, attempt=n_tries)
        if fault is not None:
            self.tally.faults[fault] += 1
        wait_s = self.config.delay_s + (self.config.stall_s if fault == "stalled" else 0.0)
        attempt = attempt._replace(fault=fault)
        self._after(wait_s, lambda: self._answer(attempt))

    def _answer(self, attempt: _Attempt) -> None:
        connection, asked, _, fault = attempt
        if fault in {"error", "overloaded"}:
            busy = 529 if asked.wire == "anthropic.messages" else 503
            self._refuse(attempt, 500 if fault == "error" else busy)
        elif fault == "dropped":
            connection.drop()
            self.tally.leave(0)
        elif fault == "wrong_type":
            self.tally.leave(200)
            connection.reply(200, _PAGE, kind="text/html")
        else:
            try:
                reply = self._answers.reply(asked)
            except StillwatchError:
                self._refuse(attempt, 500)
                return
            self._deliver(attempt, reply)

    def _deliver(self, attempt: _Attempt, reply: Reply) -> None:
        connection, asked, headers, fault = attempt
        # Billed before it is sent: a vendor does not ask whether the client was still there.
        self.tally.bill(
            asked.key,
            input_tokens=reply.input_tokens or 0,
            output_tokens=reply.output_tokens or 0,
        )
        if asked.is_streamed:
            self._stream(attempt, self._answers.stream(asked, reply))
            return
        body = self._answers.encode(asked, reply)
        self.tally.leave(200)
        if fault == "cut":
            head = head_bytes(200, kind=JSON, headers=headers, length=len(body))
            connection.drop(head + body[: len(body) // 2])
            return
        if fault == "malformed":
            body = body[: len(body) // 2]
        elif connection.is_open:
            self.tally.n_delivered += 1
        connection.reply(200, body, kind=JSON, headers=headers)

    def _stream(self, attempt: _Attempt, events: list[bytes]) -> None:
        connection, _, headers, fault = attempt
        head = head_bytes(200, kind="text/event-stream", headers=headers)
        if fault == "malformed":
            events = [event.replace(b"{", b"", 1) for event in events]
        if fault == "cut":
            self.tally.leave(200)
            connection.drop(head + b"".join(map(chunk_bytes, events[: len(events) // 2])))
            return
        if not self.config.stream_pause_s:
            connection.send(head + b"".join(map(chunk_bytes, events)))
            self._end_stream(connection)
            return
        connection.send(head)
        self._send_next(connection, events, 0)

    def _send_next(self, connection: Connection, events: list[bytes], at: int) -> None:
        if at == len(events) or not connection.is_open:
            self._end_stream(connection)
            return
        connection.send(chunk_bytes(events[at]))
        pause_s = self.config.stream_pause_s
        self._after(pause_s, lambda: self._send_next(connection, events, at + 1))

    def _end_stream(self, connection: Connection) -> None:
        connection.send(chunk_bytes(b""))
        self.tally.n_streamed += 1
        self.tally.n_delivered += connection.is_open
        self.tally.leave(200)
        connection.finish()

    def _refuse(self, attempt: _Attempt, status: int) -> None:
        self.tally.leave(status)
        message = "the fake endpoint was told to"
        wire, headers = attempt.asked.wire, attempt.headers
        _fail(attempt.connection, status, wire=wire, message=message, headers=headers)

    def _after(self, wait_s: float, call: Callable[[], None]) -> None:
        if not wait_s:
            call()
            return
        asyncio.get_running_loop().call_later(wait_s, call)

    def _control(self, connection: Connection, request: HttpRequest) -> None:
        if request.path == "/fake/config" and request.method == "POST":
            with suppress(msgspec.ValidationError):
                self.configure(msgspec.json.decode(request.body, type=FakeConfig))
                connection.reply(200, b"{}", kind=JSON)
                return
            _fail(connection, 400, message="not a configuration")
        elif request.path == "/fake/reset" and request.method == "POST":
            under_way, self.tally = self.tally.under_way, Tally()
            self.tally.under_way = under_way
            connection.reply(200, b"{}", kind=JSON)
        elif request.path == "/fake/counts":
            counts = self.tally.counts(with_keys="keys" in request.query)
            connection.reply(200, msgspec.json.encode(counts), kind=JSON)
        else:
            _fail(connection, 404, message="no such route")


def _fail(
    connection: Connection, status: int, *, message: str, wire: str | None = None, headers: str = ""
) -> None:
    if wire == "anthropic.messages":
        body = messages.encode_error(status, message)
    else:
        code = {401: "invalid_api_key", 429: "rate_limit_exceeded"}.get(status)
        body = chat.encode_error(status, message, code=code)
    connection.reply(status, body, kind=JSON, headers=headers)
