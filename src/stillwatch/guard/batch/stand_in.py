"""A stripped input takes the place of the one that the client uploaded; the client is not told."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

from multidict import CIMultiDict

from stillwatch.errors import StillwatchError
from stillwatch.guard.batch.copies import Copy
from stillwatch.guard.batch.copying import copy_path
from stillwatch.guard.batch.request import GONE, Request
from stillwatch.guard.batch.rewriting import rewritten
from stillwatch.guard.batch.rows import json_object
from stillwatch.guard.connections.upstream import UpstreamError

_BLOCK = 2**20


async def send_stand_in(
    request: Request, copy: Copy, models: frozenset[str], *, shown: str
) -> str | None:
    """Upload an input with its rows stripped.

    Args:
        request: that makes a batch of it.
        copy: of the client's input.
        models: whose rows are stripped.
        shown: the id of the client's input.

    Returns:
        The id of the input to use: `shown` itself where there was nothing to strip; None when the
        upload failed, and the client was told so.
    """
    desk = request.state.batches
    source = copy_path(desk.folder, copy.number)
    path = source.with_suffix(f".{secrets.token_hex(4)}.stripped")
    try:
        is_changed = await desk.run(rewritten, source, path, vendor="openai", models=models)
        if not is_changed:
            return shown
        file_id = await _upload(request, path)
        if file_id is None:
            await request.refuse(GONE)
            return None
        await desk.run(desk.ids.note, file_id, "", now=request.came.now, shown=shown)
    except (OSError, ValueError, StillwatchError):
        await request.refuse(GONE)
        return None
    finally:
        path.unlink(missing_ok=True)
    return file_id


async def remove_stand_ins(request: Request, file_ids: list[str]) -> None:
    """Delete inputs of the gateway's own, after the client deleted the one they stood in for.

    Args:
        request: that deleted it.
        file_ids: of the gateway's own.
    """
    headers = _own_headers(request)
    for file_id in file_ids:
        target = f"{request.route.base}/files/{file_id}"
        try:
            async with request.state.upstream.open(
                "DELETE", target, headers=headers, body=None
            ) as response:
                await response.read()
        except UpstreamError:
            request.state.metrics.count("upstream_failures", code="stand_in_not_deleted")


async def _upload(request: Request, path: Path) -> str | None:
    boundary = secrets.token_hex(16)
    head = (
        f'--{boundary}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="batch.jsonl"\r\n'
        "content-type: application/jsonl\r\n\r\n"
    ).encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    desk = request.state.batches
    size = (await desk.run(path.stat)).st_size
    headers = _own_headers(request)
    headers["content-type"] = f"multipart/form-data; boundary={boundary}"
    headers["content-length"] = str(len(head) + size + len(tail))

    async def body() -> AsyncIterator[bytes]:
        yield head
        with path.open("rb") as file:
            while block := await desk.run(file.read, _BLOCK):
                yield block
        yield tail

    target = f"{request.route.base}/files"
    upstream = request.state.upstream
    async with upstream.open("POST", target, headers=headers, body=body()) as response:
        told = json_object(await response.read())
    file_id = told.get("id")
    return file_id if isinstance(file_id, str) and 200 <= response.status < 300 else None


def _own_headers(request: Request) -> CIMultiDict[str]:
    headers = request.outgoing_headers()
    for name in ("content-length", "content-type", "accept", "idempotency-key"):
        headers.popall(name, None)
    return headers
