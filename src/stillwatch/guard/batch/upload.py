"""`POST /files`: the upload passes through as it comes, while its rows are copied."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from stillwatch.errors import StillwatchError
from stillwatch.guard.batch.copies import Copy
from stillwatch.guard.batch.copying import CopyWriter
from stillwatch.guard.batch.multipart import FormReader, boundary_of
from stillwatch.guard.batch.owning import note_owner
from stillwatch.guard.batch.request import Request
from stillwatch.guard.batch.rows import json_object
from stillwatch.guard.routes.replies import body_of

_BLOCK: Final = 2**20  # bytes handed to the worker at once


async def serve_upload(request: Request) -> None:
    """Pass an upload on.

    Args:
        request: the upload.
    """
    tap = _Tap(request)
    body_read = asyncio.Event()
    outgoing = request.outgoing(tap.passing(body_of(request.receive, body_read)), body_read)
    length = request.headers.get(b"content-length")
    if length is not None:
        outgoing.headers["content-length"] = length.decode("latin-1")
    try:
        await request.relay_held(outgoing, tap.answered)
    finally:
        await tap.drop()


class _Tap:
    """Copies the file of a form that passes by, as long as it may be the input of a batch."""

    def __init__(self, request: Request) -> None:
        self._state = request.state
        self._principal = request.came.principal
        self._now = request.came.now
        boundary = boundary_of(request.headers.get(b"content-type", b""))
        is_plain = request.headers.get(b"content-encoding", b"identity") == b"identity"
        self._form = FormReader(boundary) if boundary is not None and is_plain else None
        self._writer: CopyWriter | None = None
        self._waiting: list[bytes] = []
        self._size = 0

    async def passing(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Hand the body on, piece by piece, and copy the file in it."""
        async for piece in body:
            if self._form is not None:
                found = self._form.feed(piece)
                if found and self._form.fields.get("purpose", "batch") == "batch":
                    self._waiting.append(found)
                    self._size += len(found)
            if self._size >= _BLOCK:
                await self._write()
            if piece:
                yield piece

    async def answered(self, status: int, body: bytes) -> bytes:
        """Note the new file's id and owner; the copy is its content if the server says the same."""
        told = json_object(body)
        file_id = told.get("id")
        if 200 <= status < 300 and isinstance(file_id, str):
            copy = await self._end(told.get("bytes"))
            await note_owner(self._state, file_id, self._principal, now=self._now, copy=copy)
        return body

    async def drop(self) -> None:
        """Give up a copy that nobody has taken over."""
        writer, self._writer = self._writer, None
        if writer is not None:
            await self._state.batches.run(writer.drop, "not taken")

    async def _write(self) -> None:
        desk = self._state.batches
        block = b"".join(self._waiting)
        self._waiting, self._size = [], 0
        # A disk that fails stops the copy, never the upload.
        with contextlib.suppress(StillwatchError):
            if self._writer is None:
                self._writer = await desk.run(self._begin)
            await desk.run(self._writer.write, block)

    def _begin(self) -> CopyWriter:
        desk, config = self._state.batches, self._state.config.batches
        return CopyWriter(desk.copies, desk.folder, config=config, vendor="openai", now=self._now)

    async def _end(self, size: object) -> Copy | None:
        form = self._form
        is_sound = form is not None and form.has_ended and not form.is_doubtful
        if not is_sound or form is None or form.fields.get("purpose") != "batch":
            return None
        if self._size:
            await self._write()
        writer = self._writer
        # Who reads the form in another way than we do has another size to tell.
        if writer is None or (isinstance(size, int) and size != writer.size):
            return None
        self._writer = None
        copy = await self._state.batches.run(writer.end)
        if copy is None:
            self._state.metrics.count("batch_copies_failed", why=writer.fault or "")
        return copy
