"""`/healthz` for anybody; behind the door, metrics, the JSON API and the pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.types import Receive, Scope, Send

from stillwatch.errors import InvalidInputError, StillwatchError
from stillwatch.guard.admin import api, pages
from stillwatch.guard.admin.gate import UNAUTHORISED, is_token, refuse_place
from stillwatch.guard.admin.gauges import gauges
from stillwatch.guard.routes.replies import NOT_FOUND, Refusal, read_body, refuse, reply
from stillwatch.guard.state import GuardState

#: Everything below it is the admin's.
ADMIN_PREFIX: Final = "/stillwatch/"
API_PREFIX: Final = "/stillwatch/admin/"
_BODY_BYTES: Final = 65_536


async def serve_health(state: GuardState, send: Send) -> None:
    """Say whether the gateway serves, scores and records; nothing about accounts.

    Args:
        state: shared.
        send: ASGI's.
    """
    learner = state.link.state
    recording = not state.recorder.is_failing
    is_well = learner != "dead" and recording
    await _json(send, 200, {
        "status": "ok" if is_well else "degraded",
        "learner": learner,
        "scored": learner == "alive",
        "recording": recording,
        "generation": state.board.generation,
        "mode": state.config.ladder.mode,
    })  # fmt: skip


async def serve_admin(state: GuardState, scope: Scope, *, receive: Receive, send: Send) -> None:
    """Serve one admin request.

    Args:
        state: shared.
        scope: ASGI's.
        receive: ASGI's.
        send: ASGI's.
    """
    token = state.config.secrets.admin_token
    if token is None:
        await refuse(send, NOT_FOUND)
        return
    headers: dict[bytes, bytes] = dict(scope["headers"])
    peer = scope.get("client")
    refusal = refuse_place(
        state.config.admin,
        peer[0] if peer else None,
        headers,
        trusted_hops=state.config.trusted_hops,
    )
    if refusal is not None:
        state.metrics.count("admin_refused", code=refusal.code)
        await refuse(send, refusal)
        return
    path: str = scope["path"]
    if path != "/metrics" and not path.startswith(API_PREFIX):
        await pages.serve_page(state, scope, token=token, receive=receive, send=send)
    elif not is_token(token, headers):
        state.metrics.count("auth_failures")
        await refuse(send, UNAUTHORISED)
    elif path == "/metrics":
        await _metrics(state, send)
    else:
        await _serve_api(state, scope, receive=receive, send=send)


async def _serve_api(state: GuardState, scope: Scope, *, receive: Receive, send: Send) -> None:
    body = await read_body(receive, limit=_BODY_BYTES)
    if body is None:
        return
    path = scope["path"].removeprefix(API_PREFIX)
    query: bytes = scope.get("query_string", b"")
    try:
        status, data = await api.answer(state, scope["method"], path, query=query, body=body)
    except msgspec.MsgspecError as error:
        await refuse(send, Refusal(400, f"body: {error}", "invalid_body", final=True))
    except InvalidInputError as error:
        await refuse(send, Refusal(400, str(error), "invalid_value", final=True))
    except StillwatchError as error:
        await refuse(send, Refusal(503, str(error), "failed"))
    else:
        if data is None:
            await refuse(send, NOT_FOUND)
        else:
            await _json(send, status, data)


async def _metrics(state: GuardState, send: Send) -> None:
    headers = [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")]
    text = state.metrics.text(gauges(state)) + state.traffic.text()
    await reply(send, 200, headers, body=text.encode())


async def _json(send: Send, status: int, what: Mapping[str, Any] | list[Any]) -> None:
    body = msgspec.json.encode(what)
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    await reply(send, status, headers, body=body)
