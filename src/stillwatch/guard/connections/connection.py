"""One connection to the model server: a question out, its answer back in pieces, as bytes.

A general HTTP client costs more than everything else that the gateway does with a question; this
one knows a single peer and no redirects, cookies, content codings or forms. The parser is the one
that the server side uses, and as strict: an answer framed in two ways is no answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import httptools

from stillwatch.guard.routes.headers import Pairs

#: Above so many waiting bytes the model server is told to wait until they are taken.
_HIGH_WATER: Final = 256 * 1024
#: Longest head of an answer (bytes of names and values).
_HEAD_BYTES: Final = 64 * 1024
#: Up to this size (bytes) head and body of a question leave in one buffer.
_ONE_WRITE: Final = 64 * 1024


class BrokenOffError(ConnectionError):
    """The peer closed, or what it sent is no HTTP answer.

    Args:
        message: one sentence.
        is_silent: not one byte of an answer had come.
    """

    def __init__(self, message: str, *, is_silent: bool) -> None:
        super().__init__(message)
        self.is_silent = is_silent


class FellSilentError(TimeoutError):
    """The peer sent nothing for longer than is waited."""


class Answer:
    """What the parser makes of the bytes of one answer.

    Args:
        is_bodiless: it answers a HEAD, which gets no body whatever its head says.

    Attributes:
        status: HTTP status, 0 before the head has come.
        pairs: header lines, names in lower case.
        content_length: bytes of the body as the head says, or None.
        is_chunked: the head says that the body comes in chunks.
        is_done: the end has come.
        is_keepable: the peer keeps the connection after it.
        has_bytes: something has come.
        chunks: body that nobody took yet.
        n_waiting: its length (bytes).
    """

    __slots__ = (
        "_head_bytes", "_is_bodiless", "_parser", "chunks", "content_length", "has_bytes",
        "is_chunked", "is_done", "is_keepable", "n_waiting", "pairs", "status",
    )  # fmt: skip

    def __init__(self, *, is_bodiless: bool) -> None:
        # A parser of its own: one that goes on keeps a trailer and takes it for the next head's.
        self._parser = httptools.HttpResponseParser(self)
        self._is_bodiless = is_bodiless
        self._head_bytes = 0
        self.status = 0
        self.pairs: Pairs = []
        self.content_length: int | None = None
        self.is_chunked = self.is_done = self.is_keepable = self.has_bytes = False
        self.chunks: list[bytes] = []
        self.n_waiting = 0

    def feed(self, data: bytes) -> bool:
        """Read further bytes.

        Args:
            data: as they came.

        Returns:
            False when they are no answer, or more than one.
        """
        self.has_bytes = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return False
        return True

    def on_message_begin(self) -> None:
        """Refuse a second answer; an interim one (status 1xx) goes before the first."""
        if self.is_done:
            message = "an answer that nobody asked for"
            raise ValueError(message)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header line; trailers, which nobody asked for, are dropped."""
        if self.status:
            return
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > _HEAD_BYTES:
            message = "the head is too long"
            raise ValueError(message)
        name = name.lower()
        self.pairs.append((name, value))
        if name == b"content-length":
            self.content_length = int(value)
        elif name == b"transfer-encoding":
            self.is_chunked = b"chunked" in value.lower()

    def on_headers_complete(self) -> None:
        """Take the status, unless it is an interim one."""
        status = self._parser.get_status_code()
        if status >= 200:
            self.status = status
            self.is_done = self._is_bodiless  # the parser would wait for the body
        elif status == 101:
            message = "a change of protocol that nobody asked for"
            raise ValueError(message)
        else:
            self.pairs, self.content_length, self.is_chunked = [], None, False

    def on_body(self, data: bytes) -> None:
        """Keep bytes until they are taken."""
        self.chunks.append(data)
        self.n_waiting += len(data)

    def on_message_complete(self) -> None:
        """Note the end."""
        if self.status and not self.is_done:
            self.is_done = True
            self.is_keepable = self._parser.should_keep_alive()

    def ends_with_connection(self) -> bool:
        """Say whether the peer's closing is the regular end."""
        return self.status > 0 and self.content_length is None and not self.is_chunked


class Connection(asyncio.Protocol):
    """One connection; one question at a time.

    Args:
        loop: that it lives in.

    Attributes:
        idle_since: when its last answer ended (loop time, seconds).
        active_at: when it last moved (loop time, seconds).
        n_asked: questions sent on it (count).
        answer: to the question asked last.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: Any = None
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._upload: asyncio.Task[None] | None = None
        self._error: Exception | None = None
        self._is_asking = self._is_paused = self._is_uploading = False
        self.idle_since = self.active_at = 0.0
        self.n_asked = 0
        self.answer = Answer(is_bodiless=True)

    @property
    def is_open(self) -> bool:
        """Whether another question may be sent on it."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def is_reusable(self) -> bool:
        """Whether the last answer ended in order and the peer keeps the connection."""
        answer = self.answer
        return answer.is_done and answer.is_keepable and not self._is_uploading and self.is_open

    @property
    def is_awaited(self) -> bool:
        """Whether silence is the peer's doing."""
        # A client that stops sending its upload is not its doing, a peer that stops taking it is.
        is_ours = self._is_paused or (self._is_uploading and self._writable is None)
        return self._is_asking and not is_ours

    def close(self) -> None:
        """Close at once; what is not yet sent is dropped."""
        if self._upload is not None and not self._upload.done():
            self._upload.cancel()
        self._upload = None
        if self._transport is not None:
            self._transport.abort()

    def fall_silent(self) -> None:
        """Give the answer up: the peer has been silent for too long."""
        self._fail(FellSilentError())
        self.close()

    def ask(self, head: bytes, body: bytes | AsyncIterator[bytes] | None, *, method: str) -> None:
        """Send a question.

        Args:
            head: request line and header lines with the empty line behind them, framing included.
            body: the bytes; a stream of them, framed already; or None.
            method: the request's.
        """
        self.answer = Answer(is_bodiless=method == "HEAD")
        self._is_asking, self._error = True, None
        self.n_asked += 1
        self.active_at = self._loop.time()
        if not self.is_open:
            self._fail(BrokenOffError("the peer closed before the question", is_silent=True))
            return
        if body is None or isinstance(body, bytes):
            if body is None or len(body) <= _ONE_WRITE:
                self._transport.write(head + body if body else head)
            else:
                self._transport.writelines((head, body))
        else:
            self._transport.write(head)
            self._is_uploading = True
            self._upload = asyncio.create_task(self._send(body))

    async def head(self) -> None:
        """Wait for the answer's head.

        Raises:
            BrokenOffError: the peer closed before it, or it is none.
            FellSilentError: it did not come in time.
        """
        while not self.answer.status:
            await self._wait()

    async def piece(self) -> bytes:
        """Take what has come of the body, waiting when nothing has.

        Returns:
            Bytes, or b"" at the end.

        Raises:
            BrokenOffError: the peer closed before the end.
            FellSilentError: nothing came in time.
        """
        answer = self.answer
        while not answer.chunks:
            if answer.is_done:
                return b""
            await self._wait()
        chunks, answer.chunks, answer.n_waiting = answer.chunks, [], 0
        if self._is_paused:
            self._is_paused = False
            self.active_at = self._loop.time()
            self._transport.resume_reading()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def _send(self, body: AsyncIterator[bytes]) -> None:
        try:
            async for chunk in body:
                while self._writable is not None:
                    await self._writable
                self._transport.write(chunk)
        except Exception:
            # The client left, or sent another length than it had said: the peer must not take what
            # came for a whole body.
            self._fail(BrokenOffError("the question broke off", is_silent=False))
            self._transport.abort()
        else:
            self._is_uploading = False
            self.active_at = self._loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        """End the answer, in order or not, and stop writing."""
        answer = self.answer
        if self._is_asking and error is None and answer.ends_with_connection():
            answer.is_done, self._is_asking = True, False
            self._wake()
        elif self._is_asking:
            message = "the peer closed before the end of its answer"
            self._fail(BrokenOffError(message, is_silent=not answer.has_bytes))
        self.resume_writing()
        self.close()

    def pause_writing(self) -> None:
        """Hold an upload back."""
        self.active_at = self._loop.time()
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """Let an upload go on."""
        self.active_at = self._loop.time()
        waiting, self._writable = self._writable, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Read on; what comes unasked must not become the answer to what is asked next."""
        answer = self.answer
        if not self._is_asking:
            answer.is_keepable = False
            self._transport.abort()
            return
        self.active_at = self._loop.time()
        is_sound = answer.feed(data)
        if answer.is_done:
            self._is_asking = False
            self.idle_since = self.active_at
        if not is_sound:
            answer.is_keepable = False
            self._fail(BrokenOffError("the peer did not speak HTTP", is_silent=False))
            self._transport.abort()
        elif answer.status:
            if answer.n_waiting > _HIGH_WATER and not answer.is_done and not self._is_paused:
                self._is_paused = True
                self._transport.pause_reading()
            self._wake()

    def _fail(self, error: Exception) -> None:
        if self._is_asking:
            self._is_asking, self._error = False, error
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            if self._error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(self._error)
