"""LiteLLM's generic guardrail endpoint on the gateway, over real sockets."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.guard.conftest import SECRETS, ScriptedUpstream, Served, served
from tests.unit.guard.test_gateway import flag

from stillwatch.guard.config import GuardConfig
from stillwatch.guard.inside.config import InsideConfig
from stillwatch.guard.inside.guardrail_route import GUARDRAIL_PATH
from stillwatch.guard.wall.ladder import Ladder, LadderRule, Rung
from stillwatch.record.privacy import KeyedHash

Make = Callable[..., GuardConfig]
OPEN = replace(SECRETS, litellm_key="guard-key")
QUICK = InsideConfig(settle_s=0.05)


async def post(gateway: Served, *, key: str = "guard-key", **changes: Any) -> tuple[int, Any]:
    """Ask as a LiteLLM proxy does; gives status and reply."""
    body = {
        "input_type": "request", "litellm_call_id": "call-1", "model": "house-skills",
        "structured_messages": [{"role": "user", "content": "roman 14"}], "texts": ["roman 14"],
        "request_data": {"user_api_key_hash": "hash-1", "user_api_key_user_id": "ann",
                         "user_api_key_org_id": "org-a"},
        "request_headers": {"user-agent": "sdk/1", "x-forwarded-for": "198.51.100.7",
                            "authorization": "[present]"},
        "litellm_version": "1.0", "images": None, "tools": None,
    }  # fmt: skip
    async with gateway.client.post(
        gateway.url + GUARDRAIL_PATH, json=body | changes, headers={"x-api-key": key}
    ) as response:
        return response.status, await response.json(content_type=None)


async def test_question_and_answer(make_config: Make, upstream: ScriptedUpstream) -> None:
    """A question passes, and its answer, told piece by piece, completes one exchange."""
    async with served(make_config(secrets=OPEN, inside=QUICK, trusted_hops=1)) as gateway:
        assert (200, {"action": "NONE"}) == await post(gateway)
        # The same call is asked about once more while it runs.
        assert (200, {"action": "NONE"}) == await post(gateway)
        for texts in (["X"], ["XI"], ["XIV"]):
            assert (200, {"action": "NONE"}) == await post(
                gateway, input_type="response", texts=texts, structured_messages=None
            )
        found = []
        for _ in range(100):
            await asyncio.sleep(0.02)
            if found := await gateway.record():
                break
        (exchange,) = found
    hasher = KeyedHash(SECRETS.hash_key)
    assert ("ann", "org-a", "roman 14", "XIV", "sdk/1", "house-skills") == (
        exchange.account, exchange.org, exchange.question, exchange.answer, exchange.user_agent,
        exchange.model,
    )  # fmt: skip
    assert (hasher.hash("key", "hash-1"), hasher.address("198.51.100.7")) == (
        exchange.key_hash, exchange.ip_hash
    )  # fmt: skip
    assert [] == upstream.seen


async def test_refusals(make_config: Make) -> None:
    """A campaign's questions are refused in words, for LiteLLM hands on nothing else."""
    rules = (LadderRule("house-*", (Rung("throttle", limit_per_day=24.0),)),
             LadderRule("*", (Rung("block"),)))  # fmt: skip
    ladder = Ladder(rules, mode="enforce")
    async with served(make_config(secrets=OPEN, ladder=ladder)) as gateway:
        flag(gateway.state)
        assert (200, {"action": "NONE"}) == await post(gateway)
        status, told = await post(gateway, litellm_call_id="call-2")
        assert (200, "BLOCKED") == (status, told["action"])
        assert told["blocked_reason"].endswith("Please slow down. Try again in 3600 s.")
        status, told = await post(gateway, litellm_call_id="call-3", model="other")
        assert "This account may not use this model." == told["blocked_reason"]
        # The answer of a refused question never comes; another's changes nothing.
        await post(gateway, litellm_call_id="call-3", input_type="response", texts=["XIV"])
        assert ["throttle", "block"] == [e.action for e in await gateway.record()]


@pytest.mark.parametrize("action", ["strip", "watermark"])
async def test_what_the_endpoint_cannot_do(make_config: Make, action: Any) -> None:
    """The endpoint sees no parameters and no body: such rungs are left to watching."""
    ladder = Ladder((LadderRule("*", (Rung(action),)),), mode="enforce")
    no_wait = InsideConfig(answer_wait_s=0.0)
    async with served(make_config(secrets=OPEN, ladder=ladder, inside=no_wait)) as gateway:
        flag(gateway.state)
        assert (200, {"action": "NONE"}) == await post(gateway, structured_messages=None)
        (exchange,) = await gateway.record()
    assert ("observe", action, "roman 14", "not told") == (
        exchange.action, exchange.tags["would_have"], exchange.question, exchange.tags["answer"]
    )  # fmt: skip


async def test_tool_calls(make_config: Make) -> None:
    """An answer that calls tools is recorded with them."""
    call = {"id": "t-1", "type": "function", "function": {"name": "convert", "arguments": "{}"}}
    async with served(make_config(secrets=OPEN)) as gateway:
        await post(gateway)
        await post(gateway, input_type="response", texts=[], tool_calls=[call])
        state = gateway.state
    # The end of the gateway comes before the answer has rested: it is recorded all the same.
    (exchange,) = await gateway.record()
    (answer,) = exchange.answers
    assert "tool_calls" == answer.finish_reason
    assert [call] == json.loads(answer.extra or "")["tool_calls"]
    assert 1 == state.metrics.value("recorded")


async def test_who_may_ask(make_config: Make, upstream: ScriptedUpstream) -> None:
    """The endpoint has a key of its own, and without one it is a route like any other."""
    async with served(make_config(secrets=OPEN)) as gateway:
        status, told = await post(gateway, key="key-ann")
        assert (401, "invalid_api_key") == (status, told["error"]["code"])
        assert 1 == gateway.state.metrics.value("auth_failures")
        status, _ = await post(gateway, input_type=7)
        assert 400 == status
        assert [] == await gateway.record()
    async with served(make_config()) as gateway:
        assert 401 == (await post(gateway))[0]
        assert 200 == (await post(gateway, key="key-ann"))[0]
    (seen,) = upstream.seen
    assert f"POST {GUARDRAIL_PATH} HTTP/1.1" == seen.line
    assert "roman 14" == json.loads(seen.body)["texts"][0]
