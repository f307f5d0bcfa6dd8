"""The JSON API, behind the token: everything that the pages show and do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs

import msgspec

from stillwatch.errors import InvalidInputError, reject
from stillwatch.guard.admin import account_views, views
from stillwatch.guard.admin.acts import ACTS
from stillwatch.guard.admin.gate import Caller
from stillwatch.guard.setup.lifecycle import reload
from stillwatch.guard.state import GuardState

_MOST: Final = 1_000
Query = Mapping[str, str]


class Answer(NamedTuple):
    """What the API says.

    Attributes:
        status: HTTP status.
        data: plain data; None says that there is no such thing.
    """

    status: int
    data: Any


class _Learn(msgspec.Struct, forbid_unknown_fields=True):
    until: float | None = None


async def answer(state: GuardState, method: str, path: str, *, query: bytes, body: bytes) -> Answer:
    """Answer one call.

    Args:
        state: shared.
        method: HTTP method.
        path: behind `/stillwatch/admin/`.
        query: of the request target.
        body: JSON, or nothing.

    Returns:
        Status and data.

    Raises:
        InvalidInputError: a parameter breaks a rule.
        StillwatchError: it could not be done.
        msgspec.MsgspecError: the body is not what the route takes.
    """
    if method == "GET" and path in _READS:
        fields = {name: values[-1] for name, values in parse_qs(query.decode("latin-1")).items()}
        found = _READS[path](state, fields)
        data = await found if isinstance(found, Awaitable) else found
        return Answer(404 if data is None else 200, data)
    if method == "POST" and path in ACTS:
        kind, act = ACTS[path]
        order = msgspec.json.decode(body, type=kind)
        await act(state, Caller(order.by or "token", "api"), order)
        named = getattr(order, "account", None)
        told = {"account": named} if named else {"campaign_id": getattr(order, "campaign_id", "")}
        return Answer(200, told | {"generation": state.board.generation})
    if method == "POST" and path in _WRITES:
        return await _WRITES[path](state, body)
    return Answer(404, None)


async def _learn(state: GuardState, body: bytes) -> Answer:
    order = msgspec.json.decode(body or b"{}", type=_Learn)
    until = state.clock.now() if order.until is None else order.until
    return Answer(200, msgspec.to_builtins(await state.learn(until)))


async def _reload_policy(state: GuardState, _: bytes) -> Answer:
    await state.reload_policy()
    if state.policy is None:
        return Answer(404, None)
    return Answer(200 if state.policy.refused is None else 422, views.policy(state))


async def _reload(state: GuardState, _: bytes) -> Answer:
    done = await reload(state)
    told = {"taken": done.taken, "changed": list(done.changed), "refused": done.reason}
    return Answer(200 if done.taken else 422, told)


def _most(query: Query, default: int) -> int:
    text = query.get("most", str(default))
    if not text.isdecimal() or not 0 < int(text) <= _MOST:
        reject("query", "most", f"a whole number from 1 to {_MOST}", got=text)
    return int(text)


async def _audit(state: GuardState, query: Query) -> dict[str, Any]:
    return {"lines": await views.audit(state, most=_most(query, 100))}


def _named(query: Query, name: str) -> str:
    if name not in query:
        message = f"query: {name} must be given"
        raise InvalidInputError(message)
    return query[name]


_READS: Final[Mapping[str, Callable[[GuardState, Query], Any]]] = {
    "overview": lambda state, _: views.overview(state),
    "health": lambda state, _: views.whole_health(state),
    "verdicts": lambda state, _: views.verdicts(state),
    "campaigns": lambda state, _: {"campaigns": views.campaigns(state)},
    "campaign": lambda state, query: views.campaign(state, _named(query, "campaign_id")),
    "accounts": lambda state, query: {
        "accounts": account_views.accounts(
            state, most=_most(query, 200), like=query.get("like", "")
        )
    },
    "account": lambda state, query: account_views.account(state, _named(query, "account")),
    "decisions": lambda state, query: {
        "decisions": account_views.decisions(
            state,
            account=query.get("account", ""),
            campaign_id=query.get("campaign_id", ""),
            most=_most(query, 200),
        )
    },
    "policy": lambda state, _: views.policy(state),
    "audit": _audit,
}
_WRITES: Final[Mapping[str, Callable[[GuardState, bytes], Awaitable[Answer]]]] = {
    "learn": _learn,
    "policy/reload": _reload_policy,
    "reload": _reload,
}
