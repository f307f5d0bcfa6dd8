"""Every other route: authenticated, refused to blocked accounts, else passed byte for byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from starlette.types import Receive, Scope, Send

from stillwatch.guard.chat_route import address_of, authenticate, refusal_of, target
from stillwatch.guard.decide import Decision, decide_unread
from stillwatch.guard.headers import to_upstream
from stillwatch.guard.keys import Principal
from stillwatch.guard.policy.apply import decide_by_policy
from stillwatch.guard.policy.facts import Asking, route_capabilities
from stillwatch.guard.relay import Outgoing, Relay
from stillwatch.guard.replies import Refusal, refuse
from stillwatch.guard.state import GuardState


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
    if isinstance(principal, Refusal):
        await refuse(send, principal)
        return
    if scope["method"] not in {"GET", "HEAD", "OPTIONS"}:
        address = address_of(state, scope, headers)
        decision = _decide(state, principal, path=scope["path"], address=address)
        if decision.action in {"block", "throttle"}:
            refusal = refusal_of(decision)
            status = str(refusal.status)
            state.metrics.count("passed_through", action=decision.action, status=status)
            await refuse(send, refusal)
            return
    outgoing = _outgoing(state, scope, receive)
    relayed = await Relay(receive, send, keep_bytes=0).run(state.upstream, outgoing)
    if relayed.failure is not None:
        relayed.status = relayed.failure.status
        await refuse(send, Refusal(relayed.status, str(relayed.failure), relayed.failure.code))
    state.metrics.count("passed_through", action="allow", status=str(relayed.status))


def _decide(state: GuardState, principal: Principal, *, path: str, address: str | None) -> Decision:
    account, now = principal.account, state.clock.now()

    def by_ladder() -> Decision:
        return decide_unread(account, now, board=state.board, ladder=state.config.ladder)

    if state.policy is None:
        return by_ladder()
    asking = Asking(
        account,
        principal.org,
        asks=route_capabilities(path),
        address=address,
        verdict=state.board.verdict(account, now),
    )
    return decide_by_policy(state.policy, asking, now, ladder=by_ladder)


def _outgoing(state: GuardState, scope: Scope, receive: Receive) -> Outgoing:
    config = state.config
    pairs: list[tuple[bytes, bytes]] = scope["headers"]
    headers = to_upstream(pairs, keep_key=config.forward_key, plain_answer=False)
    if config.secrets.upstream_key is not None:
        headers["authorization"] = f"Bearer {config.secrets.upstream_key}"
    names = {name for name, _ in pairs}
    if not names & {b"content-length", b"transfer-encoding"}:
        return Outgoing(scope["method"], target(scope), headers, None)
    body_read = asyncio.Event()
    body = _stream(receive, body_read)
    return Outgoing(scope["method"], target(scope), headers, body, body_read)


async def _stream(receive: Receive, body_read: asyncio.Event) -> AsyncIterator[bytes]:
    """Hand a body on as it comes, so that a large upload needs no memory here."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            # Breaking off is the only honest end of a body that never ended.
            error = "the client left"
            raise ConnectionResetError(error)
        more = message.get("more_body", False)
        if not more:
            body_read.set()
        if message.get("body"):
            yield message["body"]
