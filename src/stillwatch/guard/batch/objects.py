"""Batches, files and uploads as objects: shown to their owners only, and read on the way.

What passes stays byte for byte, with three exceptions: a list loses what belongs to others; an
Anthropic batch's `results_url` names the gateway, or its results would go past it; and a batch of
a stripped input names the client's own file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from stillwatch.errors import StillwatchError
from stillwatch.guard.batch.owning import foreign, note_owner, owner_of
from stillwatch.guard.batch.request import Request
from stillwatch.guard.batch.rows import json_object
from stillwatch.guard.batch.stand_in import remove_stand_ins

#: How an OpenAI batch ends; an Anthropic batch's status is `ended`.
_ENDINGS: Final = frozenset({"completed", "failed", "expired", "cancelled", "ended"})
_RESULTS_URL: Final = rb'("results_url"\s*:\s*")https?(:\\?/\\?/)[^/\\"]+'


async def serve_object(request: Request) -> None:
    """Pass on whatever is neither an upload nor the making of a batch nor a download.

    Args:
        request: any such.
    """
    await request.relay_held(request.streaming(), partial(_seen, request))


async def show_batch(request: Request, told: Mapping[str, Any], body: bytes) -> bytes:
    """Read a batch object on its way to the client.

    Args:
        request: that it answers.
        told: the object.
        body: the object's bytes.

    Returns:
        The bytes to send; the very same where nothing must be changed.
    """
    state = request.state
    try:
        await _note_batch(request, told)
        inputs = {one for one in _inputs(told) if isinstance(one, str)}
        shown = await state.batches.run(state.batches.ids.shown, inputs)
    except StillwatchError:
        # Its owner asked for it, so it may pass; what it says of its end is learned next time.
        state.metrics.count("record_failures")
        shown = {}
    for own, theirs in shown.items():
        body = body.replace(f'"{own}"'.encode(), f'"{theirs}"'.encode())
    return _with_our_address(request, body) if b'"results_url"' in body else body


async def _seen(request: Request, status: int, body: bytes) -> bytes:
    told = json_object(body)
    if not 200 <= status < 300 or not told:
        return body
    route, listed = request.route, told.get("data")
    if isinstance(listed, list):
        body = await _only_own(request, listed, body)
        return await show_batch(request, told, body)
    if request.scope["method"] == "DELETE" and route.noun == "files":
        await _forget(request)
        return body
    if route.noun == "uploads":
        await _note_upload(request, told)
        return body
    return await show_batch(request, told, body) if route.noun == "batches" else body


async def _only_own(request: Request, listed: list[Any], body: bytes) -> bytes:
    """Take what belongs to others out of a list."""
    ids = [one["id"] for one in listed if isinstance(one, dict) and isinstance(one.get("id"), str)]
    hidden = await foreign(request.state, request.came.principal.account, ids)
    if not hidden:
        return body
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    elements = msgspec.json.decode(fields["data"], type=list[msgspec.Raw])
    kept = [raw for raw, one in zip(elements, listed, strict=True)
            if not (isinstance(one, dict) and one.get("id") in hidden)]  # fmt: skip
    fields["data"] = msgspec.Raw(msgspec.json.encode(kept))
    return msgspec.json.encode(fields)


async def _note_batch(request: Request, told: Mapping[str, Any]) -> None:
    """Note how a batch ended and which files hold its results."""
    listed = told.get("data")
    if isinstance(listed, list):
        for one in listed:
            if isinstance(one, dict):
                await _note_batch(request, one)
        return
    batch_id = told.get("id")
    state, principal, now = request.state, request.came.principal, request.came.now
    if not isinstance(batch_id, str) or await owner_of(state, batch_id) != principal.account:
        return
    files = [told.get(name) for name in ("output_file_id", "error_file_id")]
    if isinstance(told.get("results_url"), str):
        files.append(batch_id)
    for file_id in files:
        if isinstance(file_id, str):
            await note_owner(state, file_id, principal, now=now, batch=batch_id)
    status = told.get("status", told.get("processing_status"))
    if status in _ENDINGS:
        desk = state.batches
        await desk.run(desk.ledger.end, batch_id, status)


async def _note_upload(request: Request, told: Mapping[str, Any]) -> None:
    """Note whose an upload in parts is, and whose the file that it becomes."""
    file = told.get("file")
    found = (told.get("id"), file.get("id") if isinstance(file, dict) else None)
    state, came = request.state, request.came
    for object_id in found:
        if isinstance(object_id, str):
            await note_owner(state, object_id, came.principal, now=came.now)


async def _forget(request: Request) -> None:
    desk, file_id = request.state.batches, request.route.object_id
    if file_id is not None:
        own = await desk.run(desk.ids.stand_ins, file_id)
        await remove_stand_ins(request, own)


def _inputs(told: Mapping[str, Any]) -> list[Any]:
    listed = told.get("data")
    batches = listed if isinstance(listed, list) else [told]
    return [one.get("input_file_id") for one in batches if isinstance(one, dict)]


def _with_our_address(request: Request, body: bytes) -> bytes:
    """Let results be fetched here, by the name that the client knows us by."""
    host = request.headers.get(b"host")
    public = request.state.config.batches.public_url
    if public:
        scheme, _, host = public.rstrip("/").encode().partition(b"://")
    elif host is not None:
        scheme = str(request.scope.get("scheme", "http")).encode()
    else:
        return body

    prefix = urlsplit(request.state.config.upstream).path.rstrip("/").encode()
    # The model server's own prefix comes back by itself when the address is asked for here.
    pattern = _RESULTS_URL + (b"(?:" + re.escape(prefix) + b")?" if prefix else b"")
    origin = scheme + rb"\g<2>" + host.replace(b"\\", b"")
    return re.sub(pattern, rb"\g<1>" + origin, body)
