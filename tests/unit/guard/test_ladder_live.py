"""The quiet rungs over real sockets: what the model server is asked, and what is recorded."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.guard.conftest import ANSWER, SECRETS, ScriptedUpstream, Served, served, whole
from tests.unit.guard.test_gateway import flag

from stillwatch.guard.config import GuardConfig
from stillwatch.guard.recording.audit import read_audit
from stillwatch.guard.recording.keeping import RecordConfig
from stillwatch.guard.wall.challenge import ChallengeConfig
from stillwatch.guard.wall.ladder import DAY_S, Ladder, LadderRule, Rung
from stillwatch.guard.wall.orders import Order
from stillwatch.wire.canary_order import CANARY_HEADER, canary_key, verify_canary
from stillwatch.wire.signature import MARK_HEADER, verify_mark

Make = Callable[..., GuardConfig]
CHAT = {"model": "m", "messages": [{"role": "user", "content": "roman 14"}]}


def _wall(*rungs: Rung) -> Ladder:
    return Ladder((LadderRule("*", rungs),), "enforce")


async def _ask(gateway: Served, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
    headers = {"x-api-key": "key-ann", "content-type": "application/json"}
    async with gateway.client.post(gateway.url + path, json=body, headers=headers) as response:
        return response.status, await response.read()


@pytest.mark.parametrize(
    ("path", "asked", "sent"),
    [
        (
            "/v1/chat/completions",
            CHAT | {"logprobs": True, "top_logprobs": 5, "n": 4, "seed": 7},
            CHAT | {"seed": 7},
        ),
        (
            "/v1/completions",
            {"model": "m", "prompt": "roman 14", "logprobs": 5, "best_of": 3},
            {"model": "m", "prompt": "roman 14"},
        ),
        (
            "/v1/responses",
            {"model": "m", "input": "q", "top_logprobs": 5, "reasoning": {"summary": "auto"},
             "include": ["reasoning.encrypted_content"]},
            {"model": "m", "input": "q", "reasoning": {}, "include": []},
        ),
        (
            "/v1/messages",
            {"model": "m", "max_tokens": 9, "messages": CHAT["messages"],
             "thinking": {"type": "enabled", "budget_tokens": 2048}},
            {"model": "m", "max_tokens": 9, "messages": CHAT["messages"],
             "thinking": {"type": "enabled", "budget_tokens": 2048, "display": "omitted"}},
        ),
    ],
)  # fmt: skip
async def test_strip(
    make_config: Make,
    upstream: ScriptedUpstream,
    path: str,
    asked: dict[str, Any],
    sent: dict[str, Any],
) -> None:
    """On each wire the model server is not asked for detail; others' questions pass as sent."""
    async with served(make_config(ladder=_wall(Rung("strip")))) as gateway:
        await _ask(gateway, path, asked)
        flag(gateway.state)
        status, body = await _ask(gateway, path, asked)
        assert (200, ANSWER) == (status, body)
        record = await gateway.record()
    assert [asked, sent] == [json.loads(seen.body) for seen in upstream.seen]
    assert str(len(upstream.seen[1].body)) == upstream.seen[1].header("content-length")
    assert ["allow", "strip"] == [exchange.action for exchange in record]
    # The record says what was asked for: that is what the campaign wanted.
    assert record[0].parameters == record[1].parameters


async def test_marked_and_stripped(make_config: Make, upstream: ScriptedUpstream) -> None:
    """Orders to the model server are bound to the body as forwarded, and are told apart."""
    wall = _wall(Rung("strip"), Rung("watermark"), Rung("canary"))
    async with served(make_config(ladder=wall)) as gateway:
        flag(gateway.state)
        headers = {"x-api-key": "key-ann", CANARY_HEADER: "forged", MARK_HEADER: "forged"}
        async with gateway.client.post(
            gateway.url + "/v1/chat/completions", json=CHAT | {"n": 2}, headers=headers
        ) as response:
            assert 200 == response.status
            assert not [name for name in response.headers if name.startswith("x-stillwatch")]
        (exchange,) = await gateway.record()
    (seen,) = upstream.seen
    assert json.loads(seen.body) == CHAT
    assert SECRETS.mark_secret is not None
    assert SECRETS.mark_master_key is not None
    mark = verify_mark(SECRETS.mark_secret, seen.header(MARK_HEADER) or "", seen.body, now=None)
    order = verify_canary(
        SECRETS.mark_secret, seen.header(CANARY_HEADER) or "", seen.body, now=None
    )
    key = canary_key(SECRETS.mark_master_key, "web-1")
    assert (("web-1", "mk-1"), ("web-1", key.key_id)) == (mark, order)
    assert ("canary", "web-1") == (exchange.action, exchange.campaign_id)


@pytest.mark.parametrize("word", ["k1", None])
async def test_confirmed(make_config: Make, upstream: ScriptedUpstream, word: str | None) -> None:
    """A model server that was told to serve canaries and does not say so is counted."""
    extra = f"x-stillwatch-canaries: {word}\r\n" if word else ""
    upstream.script = whole(ANSWER, extra=extra)
    async with served(make_config(ladder=_wall(Rung("canary")))) as gateway:
        flag(gateway.state)
        _, lines, _ = await gateway.ask()
        assert "x-stillwatch-canaries" not in lines
        assert float(word is None) == gateway.state.metrics.value("canaries_unconfirmed")


@pytest.mark.parametrize("bodies", ["hash", "drop"])
async def test_log_full(make_config: Make, upstream: ScriptedUpstream, bodies: Any) -> None:
    """Where bodies are not kept, they are for a campaign that is logged in full."""
    config = make_config(ladder=_wall(Rung("log_full")), record=RecordConfig(bodies=bodies))
    async with served(config) as gateway:
        await _ask(gateway, "/v1/chat/completions", CHAT)
        flag(gateway.state)
        await _ask(gateway, "/v1/chat/completions", CHAT)
        before, after = await gateway.record()
    assert ("log_full", "roman 14", "XIV") == (after.action, after.question, after.answer)
    assert "roman 14" not in before.question
    assert "XIV" not in before.answer


@pytest.mark.parametrize(
    ("path", "shape"),
    [("/v1/messages", ("type", "error")), ("/v1/responses", ("error", None))],
)
async def test_challenged_in_its_own_shape(
    make_config: Make, path: str, shape: tuple[str, str | None]
) -> None:
    """Each wire is challenged in its own error shape, the address included."""
    page = ChallengeConfig("https://verify.example.org/")
    async with served(make_config(ladder=_wall(Rung("challenge")), challenge=page)) as gateway:
        flag(gateway.state)
        body = {"model": "m", "max_tokens": 9, "input": "q", "messages": CHAT["messages"]}
        status, raw = await _ask(gateway, path, body)
    error = json.loads(raw)
    assert (403, True) == (status, "https://verify.example.org/" in error["error"]["message"])
    assert shape[1] is None or shape[1] == error[shape[0]]


async def test_approval(make_config: Make, upstream: ScriptedUpstream) -> None:
    """A block that needs approval waits, and holds as soon as it is approved."""
    wall = _wall(Rung("strip"), Rung("block", after_s=DAY_S, needs_approval=True))
    async with served(make_config(ladder=wall)) as gateway:
        flag(gateway.state, age_s=2 * DAY_S)
        assert 200 == (await gateway.ask())[0]
        order = Order("web-1", "approve", "block", by="eve", why="seen the evidence")
        await gateway.state.change(lambda table: table.order(order))
        assert 403 == (await gateway.ask())[0]
        await gateway.state.change(lambda table: table.withdraw("web-1", "approve"))
        assert 200 == (await gateway.ask())[0]
        record = await gateway.record()
    assert ["strip", "block", "strip"] == [exchange.action for exchange in record]
    acted = [e.detail for e in read_audit(gateway.state.config.audit_path) if e.kind == "acted"]
    assert [("web-1", "strip", True), ("web-1", "block", True)] == [
        (detail["campaign_id"], detail["action"], detail["done"]) for detail in acted
    ]
    assert {"reason", "evidence", "expires_at", "since", "p_value"} <= acted[0].keys()


async def test_observed_only(make_config: Make, upstream: ScriptedUpstream) -> None:
    """In observe mode nothing is taken out, and what had been done is counted by its name."""
    wall = replace(_wall(Rung("log_full"), Rung("strip")), mode="observe")
    asked = CHAT | {"n": 2}
    upstream.script = whole(ANSWER)
    async with served(make_config(ladder=wall)) as gateway:
        flag(gateway.state)
        await _ask(gateway, "/v1/chat/completions", asked)
        assert 1 == gateway.state.metrics.value("would_have", action="strip")
    assert asked == json.loads(upstream.seen[0].body)
