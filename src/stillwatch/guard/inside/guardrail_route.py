"""LiteLLM's generic guardrail endpoint: decides on what a LiteLLM proxy asks about, in any install.

The proxy posts the question before it makes the call and, where its configuration says so, the
answer after it. The endpoint sees no parameters of the call (`n`, `logprobs`, `stream`), so it can
only let pass or refuse, and LiteLLM turns every refusal into status 400.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from starlette.types import Receive, Scope, Send

from stillwatch.errors import StillwatchError
from stillwatch.guard.inside.awaiting import Awaiting
from stillwatch.guard.inside.callers import address_in, caller_of, wanted_headers
from stillwatch.guard.inside.decide import Answered, Desk, Occasion
from stillwatch.guard.keys import presented_key
from stillwatch.guard.routes.replies import TOO_LONG, WRONG_KEY, Refusal, read_body, refuse, reply
from stillwatch.guard.routes.wires import CHAT
from stillwatch.guard.state import GuardState
from stillwatch.logs.reader import ReadOptions
from stillwatch.record.privacy import KeyedHash

#: LiteLLM appends this to the `api_base` of the guardrail.
GUARDRAIL_PATH: Final = "/beta/litellm_basic_guardrail_api"
_MALFORMED: Final = Refusal(400, "Not a guardrail request of LiteLLM's.", "invalid_request")
#: One of the statuses that LiteLLM takes for "not reachable", and `unreachable_fallback` decides.
_UNFIT: Final = Refusal(503, "The gateway cannot decide on this request.", "guard_unavailable")
_JSON: Final = (b"content-type", b"application/json")
_PASSED: Final = {"action": "NONE"}


class _Asked(msgspec.Struct):
    input_type: str
    litellm_call_id: str | None = None
    structured_messages: Any = None
    texts: list[str] | None = None
    tools: Any = None
    tool_calls: Any = None
    model: str | None = None
    request_data: dict[str, Any] | None = None
    request_headers: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(_Asked).decode
_encode = msgspec.json.encode


class GuardrailRoute:
    """Serves the endpoint.

    Args:
        state: the gateway's.
    """

    def __init__(self, state: GuardState) -> None:
        self._state = state
        self._desk = Desk(state, can_strip=False)
        self._awaiting = Awaiting(self._desk, time.monotonic)
        self._options = ReadOptions(KeyedHash(state.config.secrets.hash_key))
        self._sweeper: asyncio.Task[None] | None = None

    def takes(self, scope: Scope) -> bool:
        """Say whether a request is for this endpoint.

        Args:
            scope: ASGI's.

        Returns:
            False also when no key for the endpoint is set: it does not exist then.
        """
        is_open = self._state.config.secrets.litellm_key is not None
        return is_open and scope["method"] == "POST" and scope["path"] == GUARDRAIL_PATH

    async def serve(self, scope: Scope, *, receive: Receive, send: Send) -> None:
        """Serve one request.

        Args:
            scope: ASGI's.
            receive: ASGI's.
            send: ASGI's.
        """
        presented = presented_key(dict(scope["headers"])) or ""
        wanted = self._state.config.secrets.litellm_key or ""
        if not hmac.compare_digest(presented.encode(), wanted.encode()):
            self._state.metrics.count("auth_failures")
            await refuse(send, WRONG_KEY)
            return
        limit = self._state.config.limits.body_bytes
        body = await read_body(receive, limit=limit)
        if body is None:
            return
        if len(body) > limit:
            await refuse(send, TOO_LONG)
            return
        try:
            asked = _decode(body)
        except msgspec.MsgspecError:
            await refuse(send, _MALFORMED)
            return
        try:
            verdict = await self._verdict(asked)
        except StillwatchError:
            await refuse(send, _UNFIT)
            return
        told = _encode(verdict)
        headers = [_JSON, (b"content-length", str(len(told)).encode())]
        await reply(send, 200, headers, body=told)

    async def _verdict(self, asked: _Asked) -> dict[str, str]:
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._awaiting.sweep_forever())
            self._state.unfinished.at_end(self._awaiting.close)
            self._state.unfinished.at_end(self._sweeper.cancel)
        if asked.input_type == "response":
            if asked.litellm_call_id is not None:
                self._awaiting.tell_part(asked.litellm_call_id, _answered(asked))
            return _PASSED
        if asked.litellm_call_id is not None and asked.litellm_call_id in self._awaiting:
            # Asked before and during the call: one question.
            return _PASSED
        question = await self._desk.ask(self._occasion(asked))
        refusal = self._desk.refusal(question)
        if refusal is None:
            self._awaiting.expect(asked.litellm_call_id or question.exchange_id, question)
            return _PASSED
        self._desk.refused(question, refusal)
        return {"action": "BLOCKED", "blocked_reason": _reason(refusal)}

    def _occasion(self, asked: _Asked) -> Occasion:
        config = self._state.config
        told = asked.request_data or {}
        caller = caller_of(told, whose=config.inside.account, options=self._options)
        headers = wanted_headers(asked.request_headers)
        address = address_in(headers, None, trusted_hops=config.trusted_hops)
        messages = asked.structured_messages or [
            {"role": "user", "content": text} for text in asked.texts or ()
        ]
        body = {"model": asked.model or "", "messages": messages, "tools": asked.tools or []}
        return Occasion(
            caller.account, caller.key, caller.org, CHAT, _encode(body), headers, address
        )


def _answered(asked: _Asked) -> Answered:
    texts: Sequence[str] = asked.texts or ("",)
    choices: list[dict[str, Any]] = [
        {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        for index, text in enumerate(texts)
    ]
    if isinstance(asked.tool_calls, list) and asked.tool_calls:
        choices[0]["message"]["tool_calls"] = asked.tool_calls
        choices[0]["finish_reason"] = "tool_calls"
    return Answered(200, _encode({"choices": choices}), CHAT)


def _reason(refusal: Refusal) -> str:
    """Put into words what LiteLLM has no header for here."""
    if refusal.retry_after_s is None:
        return refusal.message
    return f"{refusal.message} Try again in {refusal.retry_after_s:.0f} s."
