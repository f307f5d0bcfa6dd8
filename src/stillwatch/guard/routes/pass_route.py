"""Every other route: authenticated, refused to blocked accounts, else passed byte for byte.

Routes that name a stored answer or conversation are refused to everybody but its owner.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from starlette.types import Receive, Scope, Send

from stillwatch.guard.connections.relay import Outgoing, Relay, watch_of
from stillwatch.guard.routes.ask_route import (
    address_of,
    authenticate,
    present_key,
    refuse_asked,
    target,
)
from stillwatch.guard.routes.asking import Came, judge, judge_unread, refusal_of
from stillwatch.guard.routes.headers import to_upstream
from stillwatch.guard.routes.owners import standing_of
from stillwatch.guard.routes.replies import TOO_LONG, Refusal, body_of, read_body, refuse
from stillwatch.guard.routes.stored import (
    ANYBODYS,
    IdWatch,
    begins_conversation,
    lists_stored,
    names_in_body,
    noting,
    stored_id_of,
)
from stillwatch.guard.routes.wires import RESPONSES, Wire, shape_of
from stillwatch.guard.state import GuardState
from stillwatch.guard.wall.challenge import VERIFIED_HEADER
from stillwatch.wire.chat import BadRequestError


async def serve_other(state: GuardState, scope: Scope, *, receive: Receive, send: Send) -> None:
    """Pass one request on.

    Args:
        state: shared.
        scope: ASGI's.
        receive: ASGI's.
        send: ASGI's.
    """
    headers: Mapping[bytes, bytes] = dict(scope["headers"])
    principal = authenticate(state, headers)
    shape = shape_of(scope["path"], headers)
    if isinstance(principal, Refusal):
        await refuse(send, principal, wire=shape)
        return
    if scope["method"] not in {"GET", "HEAD", "OPTIONS"}:
        if VERIFIED_HEADER in headers:
            await state.challenges.present(principal.account, headers[VERIFIED_HEADER])
        address = address_of(state, scope, headers)
        decision = judge_unread(state, principal, path=scope["path"], address=address)
        if decision.is_refusal:
            refusal = refusal_of(decision, state.config.challenge)
            status = str(refusal.status)
            state.metrics.count("passed_through", action=decision.action, status=status)
            await refuse(send, refusal, wire=shape)
            return
    named = await _named(state, scope, receive)
    if named is None:
        return
    if isinstance(named, Refusal):
        await refuse(send, named, wire=shape)
        return
    standing = await standing_of(
        principal, named.ids, owners=state.owners, config=state.config.responses
    )
    if standing.fault is not None:
        came = Came(principal, headers, state.clock.now(), address_of(state, scope, headers))
        await refuse_asked(state, judge(state, came, None, wire=shape, standing=standing), send)
        return
    outgoing = _outgoing(state, scope, receive, wire=shape)
    if named.body is not None:
        outgoing.body, outgoing.body_read = named.body, None
    if scope["method"] == "POST" and begins_conversation(scope["path"]):
        keep = state.config.limits.record_bytes
        send = IdWatch(send, noting(state, principal, None), keep_bytes=keep)
    relay = Relay(receive, send, keep_bytes=0, watch=watch_of(scope))
    await _pass_on(state, outgoing, wire=shape, relay=relay, send=send)


async def _pass_on(
    state: GuardState, outgoing: Outgoing, *, wire: Wire, relay: Relay, send: Send
) -> None:
    relayed = await relay.run(state.upstream, outgoing)
    if relayed.failure is not None:
        relayed.status = relayed.failure.status
        refusal = Refusal(relayed.status, str(relayed.failure), relayed.failure.code)
        await refuse(send, refusal, wire=wire)
    state.metrics.count("passed_through", action="allow", status=str(relayed.status))


class _Named(NamedTuple):
    """The stored answers that a request names, and its body where that had to be read for it."""

    ids: tuple[str, ...] = ()
    body: bytes | None = None


async def _named(state: GuardState, scope: Scope, receive: Receive) -> _Named | Refusal | None:
    """Find the stored answers that a request names; None when the client left meanwhile."""
    path = scope["path"]
    stored_id = stored_id_of(path)
    if stored_id is not None:
        return _Named((stored_id,))
    if scope["method"] == "GET" and lists_stored(path):
        return _Named((ANYBODYS,))
    if scope["method"] != "POST" or not names_in_body(path):
        return _Named()
    limit = state.config.limits.body_bytes
    body = await read_body(receive, limit=limit)
    if body is None or len(body) > limit:
        return TOO_LONG if body is not None else None
    try:
        return _Named(RESPONSES.parse(body).refers_to, body)
    except BadRequestError:
        return _Named((), body)


def _outgoing(state: GuardState, scope: Scope, receive: Receive, *, wire: Wire) -> Outgoing:
    config = state.config
    pairs: list[tuple[bytes, bytes]] = scope["headers"]
    headers = to_upstream(pairs, keep_key=config.forward_key, plain_answer=False)
    present_key(headers, config.secrets.upstream_key, wire=wire)
    names = {name for name, _ in pairs}
    if not names & {b"content-length", b"transfer-encoding"}:
        return Outgoing(scope["method"], target(scope), headers, None)
    body_read = asyncio.Event()
    body = body_of(receive, body_read)
    return Outgoing(scope["method"], target(scope), headers, body, body_read)
