"""`GET /files/{id}/content` and `GET .../results`: given out byte for byte, and recorded."""

from __future__ import annotations

import asyncio
import contextlib
import re
import zlib
from typing import TYPE_CHECKING, Final

from starlette.types import Message

from stillwatch.errors import StillwatchError
from stillwatch.guard.batch.decisions import decide_fetch, refusal_of_batch
from stillwatch.guard.batch.given import Giver
from stillwatch.guard.batch.held import header
from stillwatch.guard.batch.ledger import Known
from stillwatch.guard.batch.lines import Line, LineReader
from stillwatch.guard.batch.request import Request
from stillwatch.guard.connections.relay import Relay
from stillwatch.guard.recording.recorder import MARKED_HEADER, new_exchange_id
from stillwatch.guard.routes.headers import Pairs

if TYPE_CHECKING:
    from stillwatch.guard.batch.desk import Desk

_BLOCK: Final = 256 * 1024  # bytes of results recorded at once
_RANGE: Final = re.compile(rb"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")


async def serve_results(request: Request) -> None:
    """Give results out.

    Args:
        request: for the content of a file, or the results of an Anthropic batch.
    """
    state, came, file = request.state, request.came, request.route.object_id
    assert file is not None, "the route names one"
    known = await state.batches.run(_find, state.batches, file)
    if known is not None:
        models = await state.batches.run(state.batches.copies.models, known.copy)
        decision = decide_fetch(state, came.principal.account, state.clock.now(), models=models)
        if decision.would_have is not None:
            state.metrics.count("would_have", action=decision.would_have)
        if decision.is_refusal:
            request_id = new_exchange_id()
            refusal = refusal_of_batch(state, decision, request_id=request_id)
            await request.refuse(refusal, request_id=request_id)
            return
    outgoing = request.outgoing(None)
    if "," in outgoing.headers.get("range", ""):
        # Several ranges come in an envelope of their own; all of the file serves as well.
        del outgoing.headers["range"]
    tap = _Tap(request, file)
    # The server's own shutdown must not cut off what is being recorded.
    state.follow(asyncio.current_task())
    try:
        tap.relay = Relay(request.receive, tap, keep_bytes=0)
        await request.run(tap.relay, outgoing)
    finally:
        await tap.finish()


def _find(desk: Desk, file: str) -> Known | None:
    return desk.ledger.find(file) or desk.ledger.of_file(file)


class _Tap:
    """Watches results pass; stands in the place of `send`."""

    def __init__(self, request: Request, file: str) -> None:
        self._state = request.state
        self._send = request.send
        self._file = file
        self._giver = Giver(request.state, request.came, file=file, vendor=request.route.vendor)
        self._reader: LineReader | None = None
        self._inflate: zlib._Decompress | None = None
        self._waiting: list[Line] = []
        self._size = 0
        self._place = self._total = 0
        self._left = -1
        self._writing: asyncio.Task[None] | None = None
        self._is_whole = False
        self._is_first = True
        self.relay: Relay | None = None

    async def __call__(self, message: Message) -> None:
        """Pass a message on; the end waits until everything before it is on record."""
        if message["type"] == "http.response.start":
            self._begin(message["status"], list(message["headers"]))
            await self._send(message)
            return
        # What was handed to the socket is what was given out, even if the client leaves now.
        chunk: bytes = message.get("body", b"")
        self._feed(chunk)
        self._left -= len(chunk)
        # Whoever was told the length has the end of the answer with its last byte.
        if self._left == 0 or not message.get("more_body", False):
            await self._ended()
        await self._send(message)
        if self._size >= _BLOCK:
            await self._record()

    async def finish(self) -> None:
        """Record what was given out before the download broke off."""
        if self._writing is not None:
            await self._writing
        self._cut()
        await self._record()

    def _begin(self, status: int, pairs: Pairs) -> None:
        if self.relay is not None:
            self._giver.marked = self.relay.result.header(MARKED_HEADER)
        length = header(pairs, b"content-length")
        self._left = int(length) if length is not None and length.isdigit() else -1
        encoding = header(pairs, b"content-encoding") or b"identity"
        limit = self._state.config.batches.row_bytes
        if status == 200:
            self._reader, self._is_whole = LineReader(limit), True
            if encoding in {b"gzip", b"deflate"}:
                self._inflate = zlib.decompressobj(wbits=47)
            elif encoding != b"identity":
                self._reader = None
        elif status == 206 and encoding == b"identity":
            found = _RANGE.fullmatch(header(pairs, b"content-range") or b"")
            if found is not None:
                self._place = int(found[1])
                self._total = int(found[3]) if found[3] != b"*" else 0
                self._reader = LineReader(limit, place=self._place)
        if self._reader is None and status in {200, 206}:
            self._state.metrics.count("batch_results_unread")

    def _feed(self, chunk: bytes) -> None:
        if self._reader is None or not chunk:
            return
        try:
            while chunk:
                plain = chunk
                if self._inflate is not None:
                    plain = self._inflate.decompress(chunk, 4 * _BLOCK)
                chunk = self._inflate.unconsumed_tail if self._inflate is not None else b""
                self._place += len(plain)
                for line in self._reader.feed(plain):
                    self._add(line, is_end=True)
        except zlib.error:
            self._reader = None
            self._state.metrics.count("batch_results_unread")

    async def _ended(self) -> None:
        """The answer has come to its end, which the client gets when all is on record."""
        if self._reader is None:
            return
        is_end = self._is_whole or self._place == self._total
        self._add(self._reader.rest(), is_end=is_end)
        self._reader = None
        await self._record()
        desk = self._state.batches
        if self._is_whole:
            # Not knowing it, the sweep waits longer; that is no reason to break the answer off.
            with contextlib.suppress(StillwatchError):
                await desk.run(desk.ids.fetched, self._file)

    def _cut(self) -> None:
        """The answer broke off: what follows may still be fetched as a range."""
        if self._reader is not None:
            self._is_whole = False
            self._add(self._reader.rest(), is_end=False)
            self._reader = None

    def _add(self, line: Line, *, is_end: bool) -> None:
        is_begin = not self._is_first or line.place == 0
        self._is_first = False
        whole: Line | None = line
        if not (is_begin and is_end):
            if self._inflate is not None:
                return
            whole = self._state.batches.pieces.add(
                self._file, line, is_begin=is_begin, is_end=is_end
            )
        if whole is not None and whole.length:
            self._waiting.append(whole)
            self._size += whole.length

    async def _record(self) -> None:
        waiting, self._waiting, self._size = self._waiting, [], 0
        if waiting:
            # A client that leaves meanwhile takes nothing off the record.
            self._writing = asyncio.create_task(self._write(waiting))
            await asyncio.shield(self._writing)

    async def _write(self, lines: list[Line]) -> None:
        try:
            await self._giver.add(lines)
        except (StillwatchError, OSError):
            # What is not on record must not keep what was paid for from its owner.
            self._state.metrics.count("record_failures", len(lines))
