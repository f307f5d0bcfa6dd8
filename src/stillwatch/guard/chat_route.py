"""`/v1/chat/completions`: authenticate, decide, forward or refuse, record."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Mapping
from typing import Final

from starlette.types import Receive, Scope, Send

from stillwatch.errors import InvalidInputError
from stillwatch.guard.decide import Decision, decide, decide_unread
from stillwatch.guard.headers import to_upstream
from stillwatch.guard.keys import Principal, client_address, presented_key
from stillwatch.guard.policy.apply import decide_by_policy
from stillwatch.guard.policy.facts import Asking, capabilities
from stillwatch.guard.recorder import MARKED_HEADER, Asked
from stillwatch.guard.relay import CLIENT_GONE, Outgoing, Relay, Relayed
from stillwatch.guard.replies import (
    BLOCKED,
    NO_KEY,
    TOO_LONG,
    WRONG_KEY,
    Refusal,
    read_body,
    refuse,
)
from stillwatch.guard.state import GuardState
from stillwatch.wire.chat import BadRequestError, ChatRequest, parse_chat_request
from stillwatch.wire.signature import MARK_HEADER, sign_mark

_REQUEST_ID: Final = b"x-request-id"
_Headers = Mapping[bytes, bytes]


async def serve_chat(state: GuardState, scope: Scope, *, receive: Receive, send: Send) -> None:
    """Serve one question.

    Args:
        state: shared.
        scope: ASGI's.
        receive: ASGI's.
        send: ASGI's.
    """
    headers: _Headers = dict(scope["headers"])
    principal = authenticate(state, headers)
    if isinstance(principal, Refusal):
        state.clock.give_up(headers)
        await refuse(send, principal)
        return
    limit = state.config.limits.body_bytes
    body = await read_body(receive, limit=limit)
    if body is None or len(body) > limit:
        state.clock.give_up(headers)
        if body is not None:
            await refuse(send, TOO_LONG)
        return
    try:
        now = await state.clock.admit(headers)
    except InvalidInputError as error:
        await refuse(send, Refusal(409, str(error), "out_of_order", final=True))
        return
    # No await from here to the decision: the simulated clock keeps the order only so long.
    address = address_of(state, scope, headers)
    asked = _judge(state, principal, body, headers=headers, now=now, address=address)
    if asked.decision.action in {"block", "throttle"}:
        await _refuse(state, asked, send)
    else:
        outgoing = _outgoing(state, scope, body, asked=asked)
        await _forward(state, asked, outgoing, receive=receive, send=send)


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


def _judge(
    state: GuardState,
    principal: Principal,
    body: bytes,
    *,
    headers: _Headers,
    now: float,
    address: str | None,
) -> Asked:
    request: ChatRequest | None = None
    # What cannot be read is not ours to refuse: the model server says what is wrong.
    with contextlib.suppress(BadRequestError):
        request = parse_chat_request(body)
    decision = _decide(state, principal, request, now=now, address=address)
    asked = Asked(
        exchange_id=_exchange_id(state, headers),
        principal=principal,
        question=request.question if request is not None else None,
        decision=decision,
        started_at=now,
        address=address,
        tags=dict(decision.tags or ()),
    )
    agent = headers.get(b"user-agent")
    asked.user_agent = agent.decode("utf-8", "replace") if agent else None
    if decision.would_have is not None:
        state.metrics.count("would_have", action=decision.would_have)
    if state.link.state == "dead":
        asked.tags["unscored"] = "learner dead"
    return asked


def _decide(
    state: GuardState,
    principal: Principal,
    request: ChatRequest | None,
    *,
    now: float,
    address: str | None,
) -> Decision:
    account, board, wall = principal.account, state.board, state.config.ladder

    def by_ladder() -> Decision:
        if request is None:
            return decide_unread(account, now, board=board, ladder=wall, is_chat=True)
        model = request.question.model
        return decide(account, model, now, board=board, ladder=wall, buckets=state.buckets)

    if state.policy is None:
        return by_ladder()
    model, asks = None, None
    if request is not None:
        question = request.question
        model = question.model
        asks = capabilities(question.parameters, streamed=request.is_streamed)
    verdict = board.verdict(account, now)
    asking = Asking(account, principal.org, model, asks, address, verdict)
    return decide_by_policy(state.policy, asking, now, ladder=by_ladder)


def _exchange_id(state: GuardState, headers: _Headers) -> str:
    # Outside a simulation a client's word for its request is not unique, and not ours to record.
    named = headers.get(_REQUEST_ID) if state.config.simulation else None
    return named.decode("latin-1") if named else f"{time.time_ns():016x}{secrets.token_hex(4)}"


async def _refuse(state: GuardState, asked: Asked, send: Send) -> None:
    refusal = refusal_of(asked.decision)
    _count(state, asked, refusal.status)
    await refuse(send, refusal, request_id=asked.exchange_id)
    await state.recorder.refused(asked, status=refusal.status, code=refusal.code)


def refusal_of(decision: Decision) -> Refusal:
    """Give the reply to a question that is not answered.

    Args:
        decision: block or throttle.

    Returns:
        The reply; a rule's own message goes before the usual one.
    """
    if decision.action == "throttle":
        message = decision.message or "Too many requests. Please slow down."
        return Refusal(429, message, "rate_limit_exceeded", decision.retry_after_s)
    return BLOCKED if decision.message is None else BLOCKED._replace(message=decision.message)


def _outgoing(state: GuardState, scope: Scope, body: bytes, *, asked: Asked) -> Outgoing:
    config, decision = state.config, asked.decision
    headers = to_upstream(scope["headers"], keep_key=config.forward_key, plain_answer=True)
    if config.secrets.upstream_key is not None:
        headers["authorization"] = f"Bearer {config.secrets.upstream_key}"
    secret = config.secrets.mark_secret
    if decision.action == "watermark" and secret is not None:
        headers[MARK_HEADER] = sign_mark(
            secret,
            campaign_id=decision.campaign_id or "",
            mark_key_id=decision.mark_key_id or "",
            body=body,
            # The model server checks the age against its own clock, in simulations too.
            issued_at=time.time(),
        )
    return Outgoing(scope["method"], target(scope), headers, body)


async def _forward(
    state: GuardState, asked: Asked, outgoing: Outgoing, *, receive: Receive, send: Send
) -> None:
    state.follow(asyncio.current_task())
    relay = Relay(receive, send, keep_bytes=state.config.limits.record_bytes)
    try:
        relayed = await relay.run(state.upstream, outgoing)
    except asyncio.CancelledError:
        relay.result.error = "gateway_stopped"
        await state.recorder.answered(asked, relay.result)
        raise
    failure = relayed.failure
    if failure is not None:
        relayed.status = failure.status
        refusal = Refusal(failure.status, str(failure), failure.code)
        await refuse(send, refusal, request_id=asked.exchange_id)
    _count(state, asked, relayed.status)
    _count_trouble(state, asked.decision, relayed)
    await state.recorder.answered(asked, relayed)


def _count(state: GuardState, asked: Asked, status: int) -> None:
    state.metrics.count("requests", action=asked.decision.action, status=str(status))


def _count_trouble(state: GuardState, decision: Decision, relayed: Relayed) -> None:
    if relayed.error == CLIENT_GONE:
        state.metrics.count("client_gone")
    elif relayed.error is not None:
        state.metrics.count("upstream_failures", code=relayed.error)
    ordered = decision.action == "watermark" and relayed.status == 200
    if ordered and relayed.header(MARKED_HEADER) is None:
        state.metrics.count("marks_unconfirmed")
