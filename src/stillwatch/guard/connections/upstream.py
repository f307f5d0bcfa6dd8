"""The way to the model server: a pool of connections, its failures translated at this one place."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

from multidict import CIMultiDict

from stillwatch.errors import ModelError, ModelTimeoutError, reject
from stillwatch.guard.config import Limits
from stillwatch.guard.connections.connection import BrokenOffError, Connection, FellSilentError
from stillwatch.guard.routes.headers import Pairs

#: What would end a line of the head before its time, or the head itself.
_LINE_ENDS: Final = re.compile(r"[\r\n\0]")
_SPACES: Final = re.compile(r"[\r\n\0 \t]")
#: A server that closes an idle connection and a question that comes on it cross within a round
#: trip; who breaks off later than this (seconds) had the question.
_RACE_S: Final = 1.0


class UpstreamError(ModelError):
    """The model server could not be reached, or broke off.

    Args:
        message: one sentence without its address, fit for the client.
        code: short code for the client and the record.
    """

    status = 502

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class UpstreamTimeoutError(UpstreamError, ModelTimeoutError):
    """The model server fell silent."""

    status = 504


class UpstreamResponse:
    """An answer, its head read.

    Args:
        connection: the one that it comes on.

    Attributes:
        status: HTTP status.
        pairs: header lines in order, names in lower case.
        content_length: bytes of the body as the answer says, or None.
    """

    __slots__ = ("_connection", "content_length", "pairs", "status")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        answer = connection.answer
        self.status = answer.status
        self.pairs: Pairs = answer.pairs
        self.content_length = answer.content_length

    async def piece(self) -> bytes:
        """Take the next bytes of the body as soon as there are any.

        Returns:
            Bytes, or b"" at the end.

        Raises:
            ConnectionError: the model server broke off; `Upstream.open` translates it.
            TimeoutError: it fell silent; likewise.
        """
        return await self._connection.piece()

    async def read(self) -> bytes:
        """Read the body to its end.

        Returns:
            All of it.

        Raises:
            ConnectionError: as of `piece`.
            TimeoutError: as of `piece`.
        """
        pieces = [await self._connection.piece()]
        while pieces[-1]:
            pieces.append(await self._connection.piece())
        return pieces[0] if len(pieces) <= 2 else b"".join(pieces)


class Upstream:
    """A pool of connections to one model server; an async context manager.

    Args:
        base_url: without a trailing path that clients send themselves.
        limits: bounds on waiting.
        tls: for https, whom to trust; None trusts what the system trusts.

    Attributes:
        limits: as given; may be replaced at any time.

    Raises:
        InvalidInputError: the URL holds a user or a password.
    """

    def __init__(self, base_url: str, *, limits: Limits, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(base_url)
        if parts.username is not None or parts.password is not None:
            reject("guard", "upstream", "a URL without user and password", got="one with them")
        self._prefix = parts.path.rstrip("/")
        self._host = parts.hostname or ""
        is_tls = parts.scheme == "https"
        self._port = parts.port or (443 if is_tls else 80)
        self._authority = parts.netloc
        self._tls = (tls or ssl.create_default_context()) if is_tls else None
        self.limits = limits
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._sweeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Upstream:
        self._sweeper = asyncio.create_task(self._sweep())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
        for connection in (*self._idle, *self._busy):
            connection.close()
        self._idle.clear()

    @asynccontextmanager
    async def open(
        self,
        method: str,
        target: str,
        *,
        headers: CIMultiDict[str],
        body: bytes | AsyncIterator[bytes] | None,
    ) -> AsyncIterator[UpstreamResponse]:
        """Send a question on and hold the reply open; leaving early closes the connection.

        Args:
            method: HTTP method.
            target: path and query, as the client sent them, percent-encoding untouched.
            headers: header lines.
            body: the bytes, or a stream of them.

        Yields:
            The reply, its body not yet read.

        Raises:
            UpstreamError: the server cannot be reached or broke off, here or while reading.
            UpstreamTimeoutError: it fell silent.
        """
        connection: Connection | None = None
        try:
            head, framed = self._head(method, target, headers=headers, body=body)
            connection = await self._ask(head, framed, method=method)
            yield UpstreamResponse(connection)
        except FellSilentError as error:
            message = "The model server did not answer in time."
            raise UpstreamTimeoutError(message, code="upstream_timeout") from error
        except (BrokenOffError, ValueError) as error:
            message = "The model server broke off or did not speak HTTP."
            raise UpstreamError(message, code="upstream_broken") from error
        finally:
            if connection is not None:
                self._give_back(connection)

    async def _ask(
        self, head: bytes, body: bytes | AsyncIterator[bytes] | None, *, method: str
    ) -> Connection:
        """Send a question and wait for the answer's head."""
        connection = self._take()
        if connection is not None:
            clock = asyncio.get_running_loop().time
            began = clock()
            try:
                return await self._ask_on(connection, head, body, method=method)
            except BrokenOffError as error:
                # An idle connection that the server closed while the question was on its way: it
                # cannot have read it. What was streamed is gone and cannot be sent again.
                is_race = error.is_silent and clock() - began < _RACE_S
                if not is_race or not isinstance(body, bytes | None):
                    raise
        # A new one, not the next idle one: a question that ends a server is not asked for ever.
        return await self._ask_on(await self._connect(), head, body, method=method)

    async def _ask_on(
        self,
        connection: Connection,
        head: bytes,
        body: bytes | AsyncIterator[bytes] | None,
        *,
        method: str,
    ) -> Connection:
        self._busy.add(connection)
        try:
            connection.ask(head, body, method=method)
            await connection.head()
        except BaseException:
            self._give_back(connection)
            raise
        return connection

    def _take(self) -> Connection | None:
        oldest = asyncio.get_running_loop().time() - self.limits.upstream_idle_s
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open and connection.idle_since > oldest:
                return connection
            connection.close()
        return None

    def _give_back(self, connection: Connection) -> None:
        self._busy.discard(connection)
        if connection.is_reusable:
            self._idle.append(connection)
        else:
            connection.close()

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.limits.connect_s):
                _, connection = await loop.create_connection(
                    lambda: Connection(loop),
                    self._host,
                    self._port,
                    ssl=self._tls,
                    server_hostname=self._host if self._tls is not None else None,
                )
        except TimeoutError as error:
            message = "The model server cannot be reached in time."
            raise UpstreamTimeoutError(message, code="upstream_timeout") from error
        except ssl.SSLError as error:
            message = "The model server's identity cannot be verified."
            raise UpstreamError(message, code="upstream_untrusted") from error
        except OSError as error:
            message = "The model server cannot be reached."
            raise UpstreamError(message, code="upstream_unreachable") from error
        return connection

    async def _sweep(self) -> None:
        """Look after all connections at once: a timer for each would cost every question some."""
        while True:
            limits = self.limits
            pause_s = min(max(min(limits.read_s, limits.upstream_idle_s) / 8, 0.02), 1.0)
            await asyncio.sleep(pause_s)
            now = asyncio.get_running_loop().time()
            for connection in list(self._busy):
                if connection.is_awaited and now - connection.active_at > limits.read_s:
                    connection.fall_silent()
            kept = [each for each in self._idle if now - each.idle_since <= limits.upstream_idle_s]
            for connection in self._idle:
                if connection not in kept:
                    connection.close()
            self._idle = kept

    def _head(
        self,
        method: str,
        target: str,
        *,
        headers: CIMultiDict[str],
        body: bytes | AsyncIterator[bytes] | None,
    ) -> tuple[bytes, bytes | AsyncIterator[bytes] | None]:
        """Write the head of a question, and frame a streamed body."""
        lines = [f"{method} {self._prefix}{target} HTTP/1.1", f"host: {self._authority}"]
        if _SPACES.search(target) or _SPACES.search(method):
            message = "a target that would end the request line"
            raise ValueError(message)
        said = headers.get("content-length")
        lines += [f"{n}: {v}" for n, v in headers.items() if n.lower() != "content-length"]
        if isinstance(body, bytes):
            if body or method in {"POST", "PUT", "PATCH"}:
                lines.append(f"content-length: {len(body)}")
        elif body is not None:
            lines.append(
                "transfer-encoding: chunked" if said is None else f"content-length: {said}"
            )
            body = _chunked(body) if said is None else _exact(body, int(said))
        if _LINE_ENDS.search("".join(lines)):
            message = "a header line that would end the head"
            raise ValueError(message)
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"), body


async def _chunked(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for piece in body:
        if piece:
            yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


async def _exact(body: AsyncIterator[bytes], said: int) -> AsyncIterator[bytes]:
    left = said
    async for piece in body:
        left -= len(piece)
        if left < 0:
            break
        yield piece
    if left != 0:
        message = "another length than was said"
        raise ValueError(message)
