"""A question on any wire that is read: authenticate, decide, forward or refuse, record."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

from msgspec import structs
from multidict import CIMultiDict
from starlette.types import Receive, Scope, Send

from stillwatch.errors import InvalidInputError
from stillwatch.guard.connections.relay import CLIENT_GONE, Outgoing, Relay, Relayed, watch_of
from stillwatch.guard.keys import Principal, client_address, presented_key
from stillwatch.guard.recording.recorder import MARKED_HEADER, Asked
from stillwatch.guard.routes.asking import STORED_TAG, Came, judge, refusal_of
from stillwatch.guard.routes.headers import to_upstream
from stillwatch.guard.routes.owners import SOUND, standing_of
from stillwatch.guard.routes.reading import has_odd_names, plain_json, readable, unpacked
from stillwatch.guard.routes.replies import (
    NO_KEY,
    TOO_LONG,
    WRONG_KEY,
    Refusal,
    read_body,
    refuse,
)
from stillwatch.guard.routes.stored import NOT_STORED, watched
from stillwatch.guard.routes.wires import MESSAGES, Parsed, Wire
from stillwatch.guard.state import GuardState
from stillwatch.guard.wall.challenge import VERIFIED_HEADER
from stillwatch.guard.wall.decide import Decision
from stillwatch.guard.wall.signing import signed_orders
from stillwatch.guard.wall.strip import stripped
from stillwatch.logs.access import model_of_path
from stillwatch.wire.canary_order import CANARIED_HEADER
from stillwatch.wire.chat import BadRequestError

_Headers = Mapping[bytes, bytes]
#: Questions up to this size (bytes) are read at once.
_LARGE: Final = 256 * 1024
#: Longest compressed question that is unpacked to be read (bytes unpacked).
_UNPACKED: Final = 32 * 2**20
_CONFIRMED = (
    ("watermark", MARKED_HEADER, "marks_unconfirmed"),
    ("canary", CANARIED_HEADER, "canaries_unconfirmed"),
)


async def serve_ask(
    state: GuardState, scope: Scope, *, wire: Wire, receive: Receive, send: Send
) -> None:
    """Serve one question.

    Args:
        state: shared.
        scope: ASGI's.
        wire: the wire that its path speaks.
        receive: ASGI's.
        send: ASGI's.
    """
    headers: _Headers = dict(scope["headers"])
    accepted = await _accept(state, headers, wire=wire, receive=receive, send=send)
    if accepted is None:
        return
    principal, body = accepted
    received_s = time.perf_counter()
    if len(body) <= _LARGE and b"content-encoding" not in headers:
        parsed = _parsed(body, headers, wire=wire, path=scope["path"])
    else:
        # A million short turns take seconds: others go on meanwhile.
        path = scope["path"]
        parsed = await asyncio.to_thread(_parsed, body, headers, wire=wire, path=path)
    if VERIFIED_HEADER in headers:
        await state.challenges.present(principal.account, headers[VERIFIED_HEADER])
    standing = SOUND
    if parsed is not None and parsed.refers_to:
        standing = await standing_of(
            principal, parsed.refers_to, owners=state.owners, config=state.config.responses
        )
    try:
        now = await state.clock.admit(headers)
    except InvalidInputError as error:
        await refuse(send, Refusal(409, str(error), "out_of_order", final=True), wire=wire)
        return
    # No await from here to the decision: the simulated clock keeps the order only so long.
    came = Came(principal, headers, now, address_of(state, scope, headers))
    asked = judge(state, came, parsed, wire=wire, standing=standing)
    asked.decision_s = time.perf_counter() - received_s
    if state.shared is not None and asked.decision.took is not None:
        asked.decision = await state.shared.settle(asked.decision, now)
    if asked.decision.is_refusal:
        await refuse_asked(state, asked, send)
    else:
        await _forward(state, scope, asked, body=body, receive=receive, send=send)


async def _accept(
    state: GuardState, headers: _Headers, *, wire: Wire, receive: Receive, send: Send
) -> tuple[Principal, bytes] | None:
    """Take in who asks and the whole question; None when that was refused, or the client left."""
    principal = authenticate(state, headers)
    if isinstance(principal, Refusal):
        state.clock.give_up(headers)
        await refuse(send, principal, wire=wire)
        return None
    limit = state.config.limits.body_bytes
    body = await read_body(receive, limit=limit)
    if body is not None and len(body) <= limit:
        return principal, body
    state.clock.give_up(headers)
    if body is not None:
        await refuse(send, TOO_LONG, wire=wire)
    return None


def authenticate(state: GuardState, headers: _Headers) -> Principal | Refusal:
    """Find out who asks.

    Args:
        state: shared.
        headers: the request's.

    Returns:
        Whom the key belongs to, or what to reply instead.
    """
    api_key = presented_key(headers)
    principal = state.keys.find(api_key) if api_key is not None else None
    if principal is None:
        state.metrics.count("auth_failures")
        return NO_KEY if api_key is None else WRONG_KEY
    return principal


def address_of(state: GuardState, scope: Scope, headers: _Headers) -> str | None:
    """Tell the client's address.

    Args:
        state: shared.
        scope: ASGI's.
        headers: the request's.

    Returns:
        The address, or None when it is not known.
    """
    peer = scope.get("client")
    hops = state.config.trusted_hops
    return client_address(peer[0] if peer else None, headers, trusted_hops=hops)


def target(scope: Scope) -> str:
    """Give path and query as the client sent them.

    Args:
        scope: ASGI's.

    Returns:
        The request target, percent-encoding untouched.
    """
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope.get("query_string", b"")
    return (raw + b"?" + query if query else raw).decode("latin-1")


def _parsed(body: bytes, headers: _Headers, *, wire: Wire, path: str) -> Parsed | None:
    """Read a question; what cannot be read is not ours to refuse: the model server says why."""
    words = readable(body, encoding=headers.get(b"content-encoding"), limit=_UNPACKED)
    try:
        parsed = wire.parse(words)
        if has_odd_names(parsed.question.parameters):
            parsed = wire.parse(plain_json(words) or words)
    except BadRequestError:
        return None
    if parsed.question.model:
        return parsed
    # Azure's deployments stand in the path.
    named = structs.replace(parsed.question, model=model_of_path(path) or "")
    return parsed._replace(question=named)


async def refuse_asked(state: GuardState, asked: Asked, send: Send) -> None:
    """Refuse a question, and record it.

    Args:
        state: shared.
        asked: the question, with a decision that is a refusal.
        send: ASGI's.
    """
    if STORED_TAG in asked.tags:
        refusal = NOT_STORED
    else:
        refusal = refusal_of(asked.decision, state.config.challenge, asked.exchange_id)
    _count(state, asked, refusal.status)
    await state.recorder.refused(asked, status=refusal.status, code=refusal.code)
    await refuse(send, refusal, request_id=asked.exchange_id, wire=asked.wire)


def present_key(headers: CIMultiDict[str], api_key: str | None, *, wire: Wire) -> None:
    """Present our own key to the model server, where it looks for one.

    Args:
        headers: going there; changed.
        api_key: the key, or None to present none.
        wire: the wire that is spoken.
    """
    if api_key is not None:
        headers[wire.key_header] = api_key if wire is MESSAGES else f"Bearer {api_key}"


def _outgoing(state: GuardState, scope: Scope, body: bytes, *, asked: Asked) -> Outgoing:
    config, decision = state.config, asked.decision
    headers = to_upstream(scope["headers"], keep_key=config.forward_key, plain_answer=True)
    present_key(headers, config.secrets.upstream_key, wire=asked.wire)
    if decision.effects:
        if "strip" in decision.effects:
            body = stripped(asked.wire.name, _plain(body, headers))
        headers.update(signed_orders(config.secrets, decision, body, issued_at=time.time()))
    return Outgoing(scope["method"], target(scope), headers, body)


def _plain(body: bytes, headers: CIMultiDict[str]) -> bytes:
    """Give the bytes of a question that is rewritten: packed or odd ones would pass as they are."""
    encoding = headers.get("content-encoding")
    if encoding is not None:
        words = unpacked(body, encoding.encode("latin-1"), limit=_UNPACKED)
        if words is not body:
            del headers["content-encoding"]
            body = words
    return plain_json(body) or body


def _before_end(state: GuardState, asked: Asked) -> Callable[[Relayed], Awaitable[None]] | None:
    recorder = state.recorder
    return partial(recorder.answered, asked) if recorder.is_before_end else None


async def _forward(
    state: GuardState, scope: Scope, asked: Asked, *, body: bytes, receive: Receive, send: Send
) -> None:
    state.follow(asyncio.current_task())
    recorder = state.recorder
    relay = Relay(
        receive,
        watched(state, asked, send),
        keep_bytes=state.config.limits.record_bytes,
        watch=watch_of(scope),
        before_end=_before_end(state, asked),
    )
    outgoing = _outgoing(state, scope, body, asked=asked)
    try:
        relayed = await relay.run(state.upstream, outgoing)
    except asyncio.CancelledError:
        if not relay.result.is_recorded:
            relay.result.error = "gateway_stopped"
            await recorder.answered(asked, relay.result)
        raise
    failure = relayed.failure
    if failure is not None:
        relayed.status = failure.status
    if not relayed.is_recorded:
        await recorder.answered(asked, relayed)
    if failure is not None:
        refusal = Refusal(failure.status, str(failure), failure.code)
        await refuse(send, refusal, request_id=asked.exchange_id, wire=asked.wire)
    _count(state, asked, relayed.status)
    _count_trouble(state, asked.decision, relayed)


def _count(state: GuardState, asked: Asked, status: int) -> None:
    state.metrics.count("requests", action=asked.decision.action, status=str(status))


def _count_trouble(state: GuardState, decision: Decision, relayed: Relayed) -> None:
    if relayed.error == CLIENT_GONE:
        state.metrics.count("client_gone")
    elif relayed.error is not None:
        state.metrics.count("upstream_failures", code=relayed.error)
    if not decision.effects or relayed.status != 200:
        return
    for effect, header, name in _CONFIRMED:
        if effect in decision.effects and relayed.header(header) is None:
            state.metrics.count(name)
