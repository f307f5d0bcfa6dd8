"""`/healthz` for anybody, and behind the admin token: metrics, verdicts, learn, clear."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from starlette.types import Receive, Scope, Send

from stillwatch.errors import StillwatchError
from stillwatch.guard.audit import AuditEvent, append_audit
from stillwatch.guard.keys import presented_key
from stillwatch.guard.ladder import DAY_S
from stillwatch.guard.replies import NOT_FOUND, Refusal, read_body, refuse, reply
from stillwatch.guard.state import GuardState

ADMIN_PREFIX: Final = "/stillwatch/admin/"
_BODY_BYTES: Final = 65_536
_UNAUTHORISED = Refusal(401, "This needs the admin token.", "admin_token_needed", final=True)


class _Learn(msgspec.Struct, forbid_unknown_fields=True):
    until: float | None = None


class _Clear(msgspec.Struct, forbid_unknown_fields=True):
    account: str
    days: float = 90.0


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
    presented = presented_key(dict(scope["headers"])) or ""
    if not hmac.compare_digest(presented.encode(), token.encode()):
        state.metrics.count("auth_failures")
        await refuse(send, _UNAUTHORISED)
        return
    body = await read_body(receive, limit=_BODY_BYTES) or b""
    route = scope["method"], scope["path"].removeprefix(ADMIN_PREFIX)
    serve = _ROUTES.get(route)
    try:
        if serve is None:
            await refuse(send, NOT_FOUND)
        else:
            await serve(state, body, send)
    except msgspec.MsgspecError as error:
        await refuse(send, Refusal(400, f"body: {error}", "invalid_body", final=True))
    except StillwatchError as error:
        await refuse(send, Refusal(503, str(error), "failed"))


async def _learn(state: GuardState, body: bytes, send: Send) -> None:
    order = msgspec.json.decode(body or b"{}", type=_Learn)
    until = state.clock.now() if order.until is None else order.until
    learned = await state.learn(until)
    await _json(send, 200, msgspec.to_builtins(learned))


async def _clear(state: GuardState, body: bytes, send: Send) -> None:
    order = msgspec.json.decode(body, type=_Clear)
    now = state.clock.now()
    await state.clear(order.account, until=now + order.days * DAY_S)
    detail = {"account": order.account, "days": order.days}
    event = AuditEvent("cleared", now, detail)
    await asyncio.to_thread(append_audit, state.config.audit_path, [event])
    await _json(send, 200, {"account": order.account, "generation": state.board.generation})


async def _show_verdicts(state: GuardState, _: bytes, send: Send) -> None:
    await _json(send, 200, _verdicts(state))


async def _policy(state: GuardState, _: bytes, send: Send) -> None:
    await _show_policy(state, send)


async def _reload_policy(state: GuardState, _: bytes, send: Send) -> None:
    await state.reload_policy()
    await _show_policy(state, send, refused_status=422)


async def _show_policy(state: GuardState, send: Send, *, refused_status: int = 200) -> None:
    if state.policy is None:
        await refuse(send, NOT_FOUND)
        return
    status = 200 if state.policy.refused is None else refused_status
    await _json(send, status, state.policy.status(state.clock.now()))


async def _metrics(state: GuardState, _: bytes, send: Send) -> None:
    gauges = {
        "stillwatch_learner_up": float(state.link.state == "alive"),
        "stillwatch_board_generation": float(state.board.generation),
        "stillwatch_flagged_accounts": float(len(state.board.verdicts)),
        "stillwatch_flagged_campaigns": float(len(state.board.campaigns())),
    }
    if state.policy is not None:
        gauges["stillwatch_policy_refused"] = float(state.policy.refused is not None)
    headers = [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")]
    await reply(send, 200, headers, body=state.metrics.text(gauges).encode())


def _verdicts(state: GuardState) -> Mapping[str, Any]:
    now, board = state.clock.now(), state.board
    members = board.members()
    levels = state.buckets.levels()
    return {
        "generation": board.generation,
        "mode": state.config.ladder.mode,
        "campaigns": [
            {
                "campaign_id": campaign.campaign_id,
                "since": campaign.since,
                "renewed_at": campaign.renewed_at,
                "p_value": campaign.p_value,
                "mark_key_id": campaign.mark_key_id,
                "summary": campaign.summary,
                "bucket": levels.get(campaign.campaign_id),
                "accounts": [
                    {
                        "account": account,
                        "named_at": board.verdicts[account].named_at,
                        "expires_at": board.verdicts[account].expires_at,
                        "lapsed": board.verdict(account, now) is None,
                    }
                    for account in sorted(members[campaign.campaign_id])
                ],
            }
            for campaign in sorted(board.campaigns().values(), key=lambda c: c.campaign_id)
        ],
    }


async def _json(send: Send, status: int, what: Mapping[str, Any]) -> None:
    body = msgspec.json.encode(what)
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    await reply(send, status, headers, body=body)


_ROUTES: Final[Mapping[tuple[str, str], Callable[[GuardState, bytes, Send], Awaitable[None]]]] = {
    ("GET", "/metrics"): _metrics,
    ("GET", "verdicts"): _show_verdicts,
    ("POST", "learn"): _learn,
    ("POST", "clear"): _clear,
    ("GET", "policy"): _policy,
    ("POST", "policy/reload"): _reload_policy,
}
