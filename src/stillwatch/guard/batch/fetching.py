"""Reads an input from the model server that did not pass by here, or not in a way to be trusted."""

from __future__ import annotations

import contextlib

from stillwatch.errors import StillwatchError
from stillwatch.guard.batch.copies import Copy
from stillwatch.guard.batch.copying import CopyWriter
from stillwatch.guard.batch.owning import note_owner
from stillwatch.guard.batch.request import Request

_BLOCK = 2**20


async def fetch_copy(request: Request, file_id: str) -> Copy | None:
    """Copy an input file from the model server.

    Args:
        request: that makes a batch of it.
        file_id: the file's id; letters, digits, dots, hyphens and underscores only.

    Returns:
        The copy, or None when it cannot be had: the batch is then decided unread.
    """
    state, desk, now = request.state, request.state.batches, request.came.now
    config = state.config.batches
    headers = request.outgoing_headers()
    for name in ("content-length", "content-type", "accept"):
        headers.popall(name, None)
    target = f"{request.route.base}/files/{file_id}/content"
    writer: CopyWriter | None = None
    copy: Copy | None = None
    with contextlib.suppress(StillwatchError):
        writer = await desk.run(
            CopyWriter, desk.copies, desk.folder, config=config, vendor="openai", now=now
        )
        async with state.upstream.open("GET", target, headers=headers, body=None) as response:
            if response.status == 200:
                waiting: list[bytes] = []
                while piece := await response.piece():
                    waiting.append(piece)
                    if sum(map(len, waiting)) >= _BLOCK:
                        await desk.run(writer.write, b"".join(waiting))
                        waiting = []
                    if writer.fault is not None:
                        break
                await desk.run(writer.write, b"".join(waiting))
                copy = await desk.run(writer.end)
        if copy is not None:
            await note_owner(state, file_id, request.came.principal, now=now, copy=copy)
            state.metrics.count("batch_inputs_fetched")
    if copy is None and writer is not None:
        await desk.run(writer.drop, "not had")
    return copy
