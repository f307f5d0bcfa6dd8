"""Carries one question to the model server and its answer back, byte for byte, keeping a copy.

Nothing is decoded or written anew on the way. When the client leaves, the connection to the model
server is closed at once, streaming or not: a model must not go on answering nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from multidict import CIMultiDict
from starlette.types import Receive, Scope, Send

from stillwatch.guard.connections.upstream import Upstream, UpstreamError, UpstreamResponse
from stillwatch.guard.routes.headers import Pairs, is_event_stream, to_client

#: Answers up to this size (bytes) that say their length leave in one piece with their head.
_WHOLE_BYTES: Final = 256 * 1024
#: Their content-length, if any, speaks of a body that does not come.
_BODILESS: Final = frozenset({204, 304})
CLIENT_GONE: Final = "client_gone"
#: A server's offer to say that the client is gone: call it with what shall be called then, or None.
Watch = Callable[[Callable[[], None] | None], None]
_WATCH: Final = "stillwatch.gone"


@dataclass(slots=True)
class Outgoing:
    """What goes to the model server.

    Attributes:
        method: HTTP method.
        target: path and query as the client sent them.
        headers: header lines.
        body: the bytes, or a stream of them that ends before `body_read` is set.
        body_read: set once the client's body is read; until then it may not be watched.
    """

    method: str
    target: str
    headers: CIMultiDict[str]
    body: bytes | AsyncIterator[bytes] | None
    body_read: asyncio.Event | None = None


@dataclass(slots=True)
class Relayed:
    """What came of it.

    Attributes:
        status: HTTP status that the client got, 0 when it got none.
        pairs: the model server's header lines, names in lower case.
        chunks: copy of the answer's bytes, up to the limit.
        is_cut: the copy is shorter than the answer.
        is_whole: the client got the answer to its end, or is about to.
        is_recorded: it was handed to `before_end`.
        error: client_gone, or the code of the model server's failure; None when all went well.
        failure: the model server's failure while nothing was sent yet, to be told to the client.
        first_s: seconds to the first byte sent.
        upstream_s: seconds to the last byte that the model server sent.
        whole_s: seconds to the last byte sent.
    """

    status: int = 0
    pairs: Pairs = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)
    is_cut: bool = False
    is_whole: bool = False
    is_recorded: bool = False
    error: str | None = None
    failure: UpstreamError | None = None
    first_s: float = 0.0
    upstream_s: float = 0.0
    whole_s: float = 0.0

    @property
    def is_streamed(self) -> bool:
        """Whether the answer came as server-sent events."""
        return is_event_stream(self.pairs)

    def header(self, name: bytes) -> str | None:
        """Read a header line of the model server's reply, or None."""
        return next((v.decode("latin-1") for n, v in self.pairs if n == name), None)


def watch_of(scope: Scope) -> Watch | None:
    """Find the server's own offer to say when a client is gone.

    Args:
        scope: ASGI's.

    Returns:
        The offer, or None: then the relay listens to `receive`, which costs a task.
    """
    watch: Watch | None = scope.get("extensions", {}).get(_WATCH)
    return watch


class Relay:
    """Relays one exchange.

    Args:
        receive: ASGI's, at the end of the client's body.
        send: ASGI's.
        keep_bytes: how much of the answer is copied.
        watch: as of `watch_of`.
        before_end: awaited when the whole answer has come and before the client gets its end: what
            was acknowledged is on record then.

    Attributes:
        result: what has come of it so far.
    """

    def __init__(
        self,
        receive: Receive,
        send: Send,
        *,
        keep_bytes: int,
        watch: Watch | None = None,
        before_end: Callable[[Relayed], Awaitable[None]] | None = None,
    ) -> None:
        self._receive = receive
        self._send = send
        self._room = keep_bytes
        self._watch = watch
        self._before_end = before_end
        self._began = time.perf_counter()
        self.result = Relayed()
        self._is_gone = self._is_started = False
        self._task: asyncio.Task[object] | None = None

    async def run(self, upstream: Upstream, outgoing: Outgoing) -> Relayed:
        """Ask the model server and answer the client.

        Args:
            upstream: the way to the model server.
            outgoing: what goes there.

        Returns:
            What came of it. With `failure` set the client has got nothing yet.
        """
        result = self.result
        task = self._task = asyncio.current_task()
        assert task is not None, "runs in a task"
        watcher: asyncio.Task[None] | None = None
        if self._watch is not None:
            self._watch(self._client_left)
        else:
            watcher = asyncio.create_task(self._listen(outgoing.body_read))
        try:
            async with upstream.open(
                outgoing.method, outgoing.target, headers=outgoing.headers, body=outgoing.body
            ) as response:
                last = await self._answer(response)
            await self._end(last)
        except asyncio.CancelledError:
            # Ours means the client left; another's (shutdown) goes on its way.
            if not self._is_gone or task.uncancel() > 0:
                raise
            result.error = CLIENT_GONE
        except UpstreamError as error:
            result.error = error.code
            if result.status == 0:
                result.failure = error
        finally:
            if self._watch is not None:
                self._watch(None)
            if watcher is not None:
                watcher.cancel()
        if not result.is_whole:
            result.whole_s = time.perf_counter() - self._began
        return result

    async def _listen(self, body_read: asyncio.Event | None) -> None:
        if body_read is not None:
            await body_read.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._client_left()

    def _client_left(self) -> None:
        if not self.result.is_whole and not self._is_gone and self._task is not None:
            self._is_gone = True
            self._task.cancel()

    async def _answer(self, response: UpstreamResponse) -> bytes:
        """Hand on what comes, but for the last piece, which must wait for the record."""
        result = self.result
        result.pairs = response.pairs
        length = response.content_length
        if length is not None and length <= _WHOLE_BYTES and not result.is_streamed:
            body = await response.read()
            result.status = response.status
            self._keep(body)
            return body
        await self._start(response.status)
        left = length
        while chunk := await response.piece():
            if not result.first_s:
                result.first_s = time.perf_counter() - self._began
            # What was handed to the socket is what was given out, even if the client leaves now.
            self._keep(chunk)
            if left is not None:
                left -= len(chunk)
                if left <= 0:
                    return chunk  # who knows the length has its end with the last byte
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        return b""

    async def _start(self, status: int) -> None:
        result = self.result
        result.status = status
        headers = to_client(result.pairs)
        if status in _BODILESS:
            headers = [pair for pair in headers if pair[0] != b"content-length"]
        self._is_started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _end(self, body: bytes) -> None:
        result = self.result
        # Set before sending: the server reports every ended reply as a disconnect.
        result.is_whole = True
        result.upstream_s = result.whole_s = time.perf_counter() - self._began
        if not result.first_s:
            result.first_s = result.whole_s
        if self._before_end is not None:
            result.is_recorded = True
            await self._before_end(result)
        if not self._is_started:
            await self._start(result.status)
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    def _keep(self, chunk: bytes) -> None:
        if len(chunk) > self._room:
            self.result.is_cut = True
        if chunk and self._room > 0:
            self.result.chunks.append(chunk[: self._room])
            self._room -= len(chunk)
