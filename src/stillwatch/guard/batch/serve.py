"""Serves requests about files and batches: who asks, may they, and which handler."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from starlette.types import Message, Receive, Scope, Send

from stillwatch.errors import StillwatchError
from stillwatch.guard.batch import create, objects
from stillwatch.guard.batch.download import serve_results
from stillwatch.guard.batch.owning import foreign, owner_of
from stillwatch.guard.batch.request import Request
from stillwatch.guard.batch.routes import Route
from stillwatch.guard.batch.upload import serve_upload
from stillwatch.guard.routes.ask_route import address_of, authenticate
from stillwatch.guard.routes.asking import Came, judge_unread, refusal_of
from stillwatch.guard.routes.replies import NOT_FOUND, Refusal, refuse
from stillwatch.guard.routes.wires import shape_of
from stillwatch.guard.wall.challenge import VERIFIED_HEADER

if TYPE_CHECKING:
    from stillwatch.guard.state import GuardState

_log = logging.getLogger("stillwatch.guard")
_SHORTEST = 8  # characters of an id; the words of a path are shorter
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_UNKNOWABLE = Refusal(503, "It cannot be told now whose this is.", "owner_unknown")


async def serve_batches(
    state: GuardState, scope: Scope, *, route: Route, receive: Receive, send: Send
) -> None:
    """Serve one request.

    Args:
        state: shared.
        scope: ASGI's.
        route: what its path names.
        receive: ASGI's.
        send: ASGI's.
    """
    headers = dict(scope["headers"])
    shape = shape_of(scope["path"], headers)
    principal = authenticate(state, headers)
    if isinstance(principal, Refusal):
        await refuse(send, principal, wire=shape)
        return
    if VERIFIED_HEADER in headers:
        await state.challenges.present(principal.account, headers[VERIFIED_HEADER])
    came = Came(principal, headers, state.clock.now(), address_of(state, scope, headers))
    is_started = False

    async def sending(message: Message) -> None:
        nonlocal is_started
        is_started = True
        await send(message)

    request = Request(state, scope, receive, sending, route, came, shape)
    try:
        if await _is_foreign(request):
            await request.refuse(NOT_FOUND)
        else:
            await _serve(request)
    except StillwatchError as error:
        state.metrics.count("batch_failures")
        _log.error("a request about %s failed: %s", route.noun, error)
        if not is_started:
            await request.refuse(_UNKNOWABLE)


async def _serve(request: Request) -> None:
    route, method = request.route, request.scope["method"]
    if method == "POST" and route.noun == "batches" and route.object_id is None:
        is_messages = route.vendor == "anthropic"
        await (create.serve_anthropic if is_messages else create.serve_openai)(request)
        return
    if method not in _READING and not await _is_let_pass(request):
        return
    if method == "POST" and route.noun == "files" and route.object_id is None:
        await serve_upload(request)
    elif method == "GET" and (route.noun, route.verb) in _DOWNLOADS:
        await serve_results(request)
    else:
        await objects.serve_object(request)


_DOWNLOADS = frozenset({("files", "content"), ("batches", "results")})


async def _is_let_pass(request: Request) -> bool:
    state, came = request.state, request.came
    path = request.scope["path"]
    decision = judge_unread(state, came.principal, path=path, address=came.address)
    if decision.is_refusal:
        await request.refuse(refusal_of(decision, state.config.challenge))
    return not decision.is_refusal


async def _is_foreign(request: Request) -> bool:
    """Say whether the path names what belongs to another, whatever it means to the server."""
    state, route, account = request.state, request.route, request.came.principal.account
    if route.object_id is not None and await foreign(state, account, [route.object_id]):
        return True
    others = [one for one in route.segments if len(one) >= _SHORTEST and one != route.object_id]
    for one in others:
        if await owner_of(state, one) not in {None, account}:
            return True
    return False
