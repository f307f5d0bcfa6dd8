"""`POST /batches` and `POST /messages/batches`: read the rows, decide, forward, remember."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from stillwatch.errors import StillwatchError
from stillwatch.guard.batch.copies import Copy
from stillwatch.guard.batch.copying import CopyWriter, copy_path, mapped, remove_copy
from stillwatch.guard.batch.decisions import Ruled, decide_batch, refusal_of_batch
from stillwatch.guard.batch.fetching import fetch_copy
from stillwatch.guard.batch.ledger import Submission, plain
from stillwatch.guard.batch.objects import show_batch
from stillwatch.guard.batch.owning import foreign, note_owner
from stillwatch.guard.batch.request import Request
from stillwatch.guard.batch.rewriting import rewritten
from stillwatch.guard.batch.rows import json_object
from stillwatch.guard.batch.stand_in import send_stand_in
from stillwatch.guard.recording.audit import AuditEvent
from stillwatch.guard.recording.recorder import Asked, new_exchange_id
from stillwatch.guard.routes.owners import standing_of
from stillwatch.guard.routes.replies import NOT_FOUND, TOO_LONG, Refusal, body_of, read_body
from stillwatch.guard.routes.wires import CHAT, MESSAGES, wire_of
from stillwatch.guard.wall.signing import signed_orders

_IDS_AT_ONCE: Final = 100
_MOST_BODY: Final = 2**20  # bytes of an OpenAI batch's body: ids and metadata
_BLOCK: Final = 2**20
#: A batch needs room on the disk before it is sent on; a little later there may be some.
EMPTY: Final = Refusal(400, "The body is empty.", "invalid_json", final=True)
NO_ROOM: Final = Refusal(503, "Batches cannot be taken now.", "no_room")
_FILE_ID: Final = re.compile(r"(?!\.+$)[A-Za-z0-9._-]{1,256}")


@dataclass(slots=True)
class _Making:
    """A batch that is being made."""

    request: Request
    endpoint: str = ""
    copy: Copy | None = None
    ruled: Ruled | None = None
    is_made: bool = False


async def serve_openai(request: Request) -> None:
    """Make an OpenAI batch of a file that was uploaded before.

    Args:
        request: with the file's id in its body.
    """
    state, account = request.state, request.came.principal.account
    body = await read_body(request.receive, limit=_MOST_BODY)
    if body is None:
        return
    if len(body) > _MOST_BODY:
        await request.refuse(TOO_LONG)
        return
    asked = json_object(body)
    file_id, endpoint = asked.get("input_file_id"), asked.get("endpoint")
    making = _Making(request, endpoint if isinstance(endpoint, str) else "")
    if isinstance(file_id, str) and _FILE_ID.fullmatch(file_id):
        if await foreign(state, account, [file_id]):
            await request.refuse(NOT_FOUND)
            return
        making.copy = await _copy_of(request, file_id)
    if not await _is_let_pass(making):
        return
    assert making.ruled is not None, "decided"
    if making.copy is not None and making.ruled.stripped:
        sent = await send_stand_in(request, making.copy, making.ruled.stripped, shown=str(file_id))
        if sent is None:
            return
        body = _with_file(body, sent)
    outgoing = request.outgoing(body)
    outgoing.headers.pop("content-length", None)
    outgoing.headers.update(_orders(making, body))
    await request.relay_held(outgoing, partial(_made, making))


async def serve_anthropic(request: Request) -> None:
    """Make an Anthropic batch; all its rows come in one body, which rests on disk meanwhile.

    Args:
        request: with the rows in its body.
    """
    state, desk = request.state, request.state.batches
    making = _Making(request)
    config, now = state.config.batches, request.came.now
    try:
        writer = await desk.run(
            CopyWriter, desk.copies, desk.folder, config=config, vendor="anthropic", now=now
        )
    except StillwatchError:
        await request.refuse(NO_ROOM)
        return
    try:
        if await _receive(request, writer):
            making.copy = await desk.run(writer.end)
            if making.copy is None:
                await request.refuse(EMPTY if writer.fault == "empty" else NO_ROOM)
            elif await _is_let_pass(making):
                await _forward_rows(making)
    finally:
        if making.copy is None:
            await desk.run(writer.drop, "not taken")
        elif not making.is_made:
            await desk.run(remove_copy, desk.copies, desk.folder, making.copy.number)


async def _receive(request: Request, writer: CopyWriter) -> bool:
    """Write a body to the disk; says whether all of it lies there."""
    desk = request.state.batches
    waiting: list[bytes] = []
    size = 0
    try:
        async for piece in body_of(request.receive, asyncio.Event()):
            waiting.append(piece)
            size += len(piece)
            if size < _BLOCK:
                continue
            await desk.run(writer.write, b"".join(waiting))
            waiting, size = [], 0
            if writer.fault is not None:
                break
    except ConnectionResetError:
        return False
    await desk.run(writer.write, b"".join(waiting))
    if writer.fault is None:
        return True
    await request.refuse(TOO_LONG if writer.fault == "too long" else NO_ROOM)
    return False


async def _forward_rows(making: _Making) -> None:
    request, copy, ruled = making.request, making.copy, making.ruled
    assert copy is not None and ruled is not None, "decided"  # noqa: PT018 - one state
    desk = request.state.batches
    source = copy_path(desk.folder, copy.number)
    path, size = source, copy.size
    is_rewritten = False
    if ruled.stripped:
        path = source.with_suffix(".stripped")
        is_rewritten = await desk.run(
            rewritten, source, path, vendor="anthropic", models=ruled.stripped
        )
        path = path if is_rewritten else source
        size = path.stat().st_size
    try:
        outgoing = request.outgoing(_blocks(request, path))
        outgoing.headers["content-length"] = str(size)
        orders = await asyncio.to_thread(_orders_of_file, making, path)
        outgoing.headers.update(orders)
        await request.relay_held(outgoing, partial(_made, making))
    finally:
        if is_rewritten:
            path.unlink(missing_ok=True)


async def _blocks(request: Request, path: Path) -> AsyncIterator[bytes]:
    """Read a file for sending, a block at a time."""
    with path.open("rb") as file:
        while block := await request.state.batches.run(file.read, _BLOCK):
            yield block


async def _copy_of(request: Request, file_id: str) -> Copy | None:
    """Find the rows of an input: the copy that was made when it passed by, or a new one."""
    desk = request.state.batches
    copy = await desk.run(desk.copies.of_file, file_id)
    return copy if copy is not None else await fetch_copy(request, file_id)


async def _is_let_pass(making: _Making) -> bool:
    """Decide on a batch, and answer it if it is refused."""
    request, state, came = making.request, making.request.state, making.request.came
    tally = making.copy.tally if making.copy is not None else None
    if tally is not None and not await _are_own(request, tally.refers_to):
        await request.refuse(NOT_FOUND)
        return False
    came = came._replace(now=state.clock.now())
    # No await from here to the decision.
    making.ruled = ruled = decide_batch(state, came, tally, endpoint=making.endpoint)
    shared = getattr(state, "shared", None)
    if shared is not None and ruled.decision.took is not None:
        decision = await shared.settle(ruled.decision, came.now)
        making.ruled = ruled = ruled._replace(decision=decision)
    decision = ruled.decision
    n_rows = tally.n_rows if tally is not None else 0
    if decision.would_have is not None:
        state.metrics.count("would_have", n_rows, action=decision.would_have)
    if decision.campaign_id is not None:
        verdict = state.board.verdict(came.principal.account, came.now)
        state.deeds.note(decision, verdict, came.now)
    state.metrics.count("batch_rows", n_rows, action=decision.action)
    if not decision.is_refusal:
        return True
    await _refuse(making, n_rows=n_rows, now=came.now)
    return False


async def _are_own(request: Request, stored_ids: list[str]) -> bool:
    """Say whether an account may build on all stored answers that its rows name."""
    state, principal = request.state, request.came.principal
    ids = list(dict.fromkeys(stored_ids))
    for start in range(0, len(ids), _IDS_AT_ONCE):
        some = ids[start : start + _IDS_AT_ONCE]
        standing = await standing_of(
            principal, some, owners=state.owners, config=state.config.responses
        )
        if standing.fault is not None:
            return False
    return True


async def _refuse(making: _Making, *, n_rows: int, now: float) -> None:
    request, ruled = making.request, making.ruled
    assert ruled is not None, "decided"
    state, decision, request_id = request.state, ruled.decision, new_exchange_id()
    refusal = refusal_of_batch(state, decision, request_id=request_id)
    is_messages = request.route.vendor == "anthropic"
    wire = MESSAGES if is_messages else wire_of(making.endpoint) or CHAT
    tags = {**_tags(request), **(decision.tags or {}), "channel": "batch", "batch": "refused"}
    tags["rows"] = str(n_rows)
    asked = Asked(
        exchange_id=request_id,
        principal=request.came.principal,
        question=None,
        decision=decision,
        started_at=now,
        address=request.came.address,
        user_agent=_agent(request),
        tags=tags,
        wire=wire,
    )
    await _audit(making, "", now=now)
    await state.recorder.refused(asked, status=refusal.status, code=refusal.code)
    await request.refuse(refusal, request_id=request_id)


async def _made(making: _Making, status: int, body: bytes) -> bytes:
    """Remember a batch that the model server has made."""
    request = making.request
    state, desk, ruled = request.state, request.state.batches, making.ruled
    told = json_object(body)
    batch_id = told.get("id")
    if not 200 <= status < 300 or not isinstance(batch_id, str) or ruled is None:
        return body
    principal, now = request.came.principal, state.clock.now()
    submission = Submission(
        account=principal.account,
        key_hash=principal.key_hash,
        vendor=request.route.vendor,
        asked_at=now,
        org=principal.org,
        endpoint=making.endpoint,
        user_agent=_agent(request),
        decision=plain(ruled.decision),
        tags=_tags(request),
    )
    number = making.copy.number if making.copy is not None else None
    try:
        await desk.run(desk.ledger.begin, batch_id, submission, number)
        making.is_made = True
        await note_owner(state, batch_id, principal, now=now)
    except StillwatchError:
        state.metrics.count("record_failures")
    await _audit(making, batch_id, now=now)
    return await show_batch(request, told, body)


async def _audit(making: _Making, batch_id: str, *, now: float) -> None:
    request, ruled = making.request, making.ruled
    assert ruled is not None, "decided"
    tally = making.copy.tally if making.copy is not None else None
    detail = {
        "batch": batch_id,
        "account": request.came.principal.account,
        "models": tally.models if tally is not None else {},
        "rows": tally.n_rows if tally is not None else None,
        "action": ruled.decision.action,
        "would_have": ruled.decision.would_have,
        "campaign_id": ruled.decision.campaign_id,
        "reason": ruled.decision.reason,
        # A replay takes the same tokens.
        "took": msgspec.to_builtins(ruled.decision.took),
        "n_took": ruled.decision.n_took,
    }
    await request.state.books.note([AuditEvent("batch", now, detail)])


def _orders(making: _Making, body: bytes) -> dict[str, str]:
    assert making.ruled is not None, "decided"
    secrets, decision = making.request.state.config.secrets, making.ruled.decision
    return signed_orders(secrets, decision, body, issued_at=time.time())


def _orders_of_file(making: _Making, path: Path) -> dict[str, str]:
    with mapped(path) as body:
        # Hashing takes any buffer; a long body is never in memory as a whole.
        return _orders(making, body)  # type: ignore[arg-type]


def _with_file(body: bytes, file_id: str) -> bytes:
    """Name another input file; every other field stays as it was written."""
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    fields["input_file_id"] = msgspec.Raw(msgspec.json.encode(file_id))
    return msgspec.json.encode(fields)


def _agent(request: Request) -> str | None:
    agent = request.headers.get(b"user-agent")
    return agent.decode("utf-8", "replace") if agent else None


def _tags(request: Request) -> dict[str, str]:
    tags = dict(request.state.callers.tags(request.headers, None))
    if request.state.link.state == "dead":
        tags["unscored"] = "learner dead"
    return tags
