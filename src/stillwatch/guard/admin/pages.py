"""The pages: server-rendered, no script, nothing fetched from elsewhere."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec
from starlette.types import Receive, Scope, Send

from stillwatch.errors import InvalidInputError, StillwatchError
from stillwatch.guard.admin import page_data
from stillwatch.guard.admin.acts import ACTS
from stillwatch.guard.admin.gate import (
    FORGED,
    TOO_OFTEN,
    Caller,
    Session,
    is_forged,
    set_cookie,
)
from stillwatch.guard.admin.layout import render
from stillwatch.guard.recording.audit import AuditEvent
from stillwatch.guard.routes.headers import Pairs
from stillwatch.guard.routes.replies import NOT_FOUND, Refusal, read_body, reply
from stillwatch.guard.setup.lifecycle import reload
from stillwatch.guard.state import GuardState

ROOT: Final = "/stillwatch/"
_BODY_BYTES: Final = 16_384
_log = logging.getLogger("stillwatch.guard")
_HEADERS: Final[Pairs] = [
    (b"content-type", b"text/html; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
        b"frame-ancestors 'none'; base-uri 'none'",
    ),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    # With no-referrer a browser would not say that a form comes from here.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
Form = dict[str, str]


async def serve_page(
    state: GuardState, scope: Scope, *, token: str, receive: Receive, send: Send
) -> None:
    """Serve one page or form.

    Args:
        state: shared.
        scope: ASGI's; it came from an allowed place by an allowed name.
        token: the admin token.
        receive: ASGI's.
        send: ASGI's.
    """
    headers: dict[bytes, bytes] = dict(scope["headers"])
    body = await read_body(receive, limit=_BODY_BYTES)
    if body is None:
        return
    visit = _Visit(state, scope, _fields(body), send=send)
    name, method = visit.name, scope["method"]
    if name == "login":
        await (visit.login(token) if method == "POST" else visit.show_login())
        return
    session = state.sessions.find(headers)
    if session is None:
        await visit.go("login")
    elif method == "POST":
        await visit.post(session)
    elif method in {"GET", "HEAD"} and name in page_data.PAGES:
        await visit.show(session)
    else:
        await visit.fail(NOT_FOUND, session)


class _Visit:
    """One request of a browser."""

    def __init__(self, state: GuardState, scope: Scope, form: Form, *, send: Send) -> None:
        self._state = state
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        self._form = form
        self._send = send
        self._is_https = scope.get("scheme") == "https"
        self._query = _fields(scope.get("query_string", b""))
        self.name: str = scope["path"].removeprefix(ROOT).strip("/")

    async def show(self, session: Session) -> None:
        make = page_data.PAGES[self.name]
        try:
            found = make(self._state, self._query)
            context = await found if asyncio.iscoroutine(found) else found
        except StillwatchError as error:
            await self.fail(Refusal(503, str(error), "failed"), session)
            return
        if context is None:
            await self.fail(NOT_FOUND, session)
            return
        notice, session.notice = session.notice, ""
        await self._page(200, context, session=session, notice=notice)

    async def show_login(self, *, status: int = 200, problem: str = "") -> None:
        context = page_data.login()
        await self._page(status, context, problems=[problem] if problem else [])

    async def login(self, token: str) -> None:
        sessions, form = self._state.sessions, self._form
        if sessions.is_tired:
            await self.show_login(status=TOO_OFTEN.status, problem=TOO_OFTEN.message)
            return
        by = form.get("by", "").strip()[:80]
        opened = sessions.login(form.get("token", ""), token=token, by=by or "somebody")
        if opened is None:
            self._state.metrics.count("auth_failures")
            await self.show_login(status=401, problem="This is not the admin token.")
            return
        state = self._state
        told = {"by": opened[1].by, "via": "page"}
        await state.books.note([AuditEvent("login", state.clock.now(), told)])
        age_s = state.config.admin.session_s
        await self.go("", set_cookie(opened[0], max_age_s=age_s, is_https=self._is_https))

    async def post(self, session: Session) -> None:
        if is_forged(session, self._headers, self._form.get("csrf", "")):
            self._state.metrics.count("admin_refused", code=FORGED.code)
            await self.fail(FORGED, session)
        elif self.name == "logout":
            self._state.sessions.end(self._headers)
            await self.go("login", set_cookie("", max_age_s=0, is_https=self._is_https))
        elif self.name == "act":
            await self._act(session)
        else:
            await self.fail(NOT_FOUND, session)

    async def _act(self, session: Session) -> None:
        form = dict(self._form)
        form.pop("csrf", None)
        what, back = form.pop("act", ""), form.pop("back", "")
        try:
            session.notice = await _do(self._state, what, form, session=session)
        except (InvalidInputError, msgspec.MsgspecError) as error:
            session.notice = f"Nothing was changed: {error}"
        except StillwatchError as error:
            session.notice = f"It could not be done: {error}"
        await self.go(back)

    async def go(self, name: str, *headers: tuple[bytes, bytes]) -> None:
        # Only ever to a page of ours: what stands behind the prefix cannot name another host.
        place = (ROOT + name.lstrip("/")).encode("ascii", "ignore")
        place = place.replace(b"\r", b"").replace(b"\n", b"")
        pairs = [(b"location", place), (b"cache-control", b"no-store"), *headers]
        await reply(self._send, 303, pairs, body=b"")

    async def fail(self, refusal: Refusal, session: Session) -> None:
        context = page_data.failure(refusal.message)
        await self._page(refusal.status, context, session=session)

    async def _page(
        self,
        status: int,
        context: dict[str, Any],
        *,
        session: Session | None = None,
        notice: str = "",
        problems: list[str] | None = None,
    ) -> None:
        values = context | {"session": session, "notice": notice, "here": self.name}
        values["problems"] = problems if problems is not None else context.get("problems", [])
        values |= page_data.frame(self._state)
        # Filling a template takes milliseconds, which no question should wait for.
        text = await asyncio.to_thread(render, f"{context['template']}.html.j2", values)
        await reply(self._send, status, _HEADERS, body=text.encode())


async def _do(state: GuardState, what: str, form: Form, *, session: Session) -> str:
    caller = Caller(session.by, "page", session)
    if what in ACTS:
        kind, act = ACTS[what]
        filled = {name: value for name, value in form.items() if value != ""}
        await act(state, caller, msgspec.convert(filled, kind, strict=False))
        return "Done, and written to the audit log."
    if what not in _ORDERS:
        return "Nothing was changed: there is no such order."
    told = {"what": what, "by": session.by, "via": "page"}
    await state.books.note([AuditEvent("ordered", state.clock.now(), told)])
    return await _ORDERS[what](state)


async def _learn(state: GuardState) -> str:
    learned = await state.learn(state.clock.now())
    return f"Learned from {learned.n_folded:,} exchanges: {len(learned.campaigns):,} campaigns."


async def _reload_policy(state: GuardState) -> str:
    await state.reload_policy()
    refused = state.policy.refused if state.policy is not None else None
    return "Read." if refused is None else f"Refused: {refused}"


async def _reload(state: GuardState) -> str:
    done = await reload(state)
    if not done.taken:
        return f"Refused, and everything stays as it was: {done.reason}"
    return f"Read; changed: {', '.join(done.changed) or 'nothing'}."


_ORDERS: Final[dict[str, Callable[[GuardState], Awaitable[str]]]] = {
    "learn": _learn,
    "policy/reload": _reload_policy,
    "reload": _reload,
}


def _fields(raw: bytes) -> Form:
    text = raw.decode("utf-8", "replace")
    try:
        found = parse_qs(text, keep_blank_values=True, max_num_fields=50)
    except ValueError:
        return {}
    return {name: values[-1].strip() for name, values in found.items()}
