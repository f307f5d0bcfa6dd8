"""The vendors' own client libraries through the gateway, on every wire."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import anthropic
import openai
import pytest
from tests.unit.guard.conftest import (
    ANSWER,
    SECRETS,
    ScriptedUpstream,
    Seen,
    Served,
    served,
    whole,
)
from tests.unit.guard.test_gateway import flag
from tests.unit.guard.wire_server import WireServer

from stillwatch.guard.config import GuardConfig, Secrets
from stillwatch.guard.wall.ladder import DAY_S, Ladder, LadderRule, Rung
from stillwatch.record.exchange import Exchange
from stillwatch.record.privacy import KeyedHash

Make = Callable[..., GuardConfig]
Pack = Callable[[str], bytes]
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
FLAT_TOOL = {"type": "function", "name": "add", "parameters": {"type": "object"}}
CLAUDE_TOOL = {"name": "add", "input_schema": {"type": "object"}}
ASK = [{"role": "user", "content": "roman 14"}]


class Talk(NamedTuple):
    """A gateway, the model server behind it and both clients in front."""

    gateway: Served
    server: WireServer
    openai: openai.AsyncOpenAI
    anthropic: anthropic.AsyncAnthropic


@asynccontextmanager
async def talk(
    config: GuardConfig, upstream: ScriptedUpstream, key: str = "key-ann"
) -> AsyncIterator[Talk]:
    """Serve, with clients that hold a key."""
    server = WireServer()
    upstream.script = server
    async with (
        served(config) as gateway,
        openai.AsyncOpenAI(api_key=key, base_url=f"{gateway.url}/v1") as gpt,
        anthropic.AsyncAnthropic(api_key=key, base_url=gateway.url) as claude,
    ):
        yield Talk(gateway, server, gpt, claude)


def _facts(exchange: Exchange) -> tuple[object, ...]:
    return (
        exchange.wire, exchange.question, exchange.answer, exchange.model, exchange.model_returned,
        exchange.input_tokens, exchange.output_tokens, exchange.streamed, exchange.status,
    )  # fmt: skip


def _wanted(wire: str, *, streamed: bool) -> tuple[object, ...]:
    return (wire, "roman 14", "XIV", "m", "m-1", 9, 3, streamed, 200)


async def test_chat(make_config: Make, upstream: ScriptedUpstream) -> None:
    """Chat, whole and streamed, with tools: the client understands it and the record has it."""
    async with talk(make_config(), upstream) as t:
        create = t.openai.chat.completions.create
        whole = await create(model="m", messages=ASK, tools=[TOOL])
        assert "XIV" == whole.choices[0].message.content
        assert '{"a":1}' == whole.choices[0].message.tool_calls[0].function.arguments
        stream = await create(
            model="m", messages=ASK, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert ("XIV", 12) == (text, chunks[-1].usage.total_tokens)
        first, second = await t.gateway.record()
    assert _wanted("openai.chat", streamed=False) == _facts(first)
    assert _wanted("openai.chat", streamed=True) == _facts(second)
    assert '"add"' in (first.answers[0].extra or "")
    assert first.tools_hash is not None
    assert ("python", openai.__version__) == (
        first.tags["sdk_lang"], first.tags["sdk_package_version"]
    )  # fmt: skip


async def test_responses(make_config: Make, upstream: ScriptedUpstream) -> None:
    """A conversation on the Responses API, streamed in parts, is one session on record."""
    async with talk(make_config(), upstream) as t:
        create = t.openai.responses.create
        first = await create(model="m", input="roman 14", tools=[FLAT_TOOL])
        assert ("XIV", "add") == (first.output_text, first.output[-1].name)
        events = [
            event
            async for event in await create(
                model="m", input="roman 14", previous_response_id=first.id, stream=True
            )
        ]
        assert "response.completed" == events[-1].type
        third = await create(
            model="m", input="roman 14", previous_response_id=events[-1].response.id
        )
        assert "resp_3" == third.id
        record = await t.gateway.record()
    assert [
        _wanted("openai.responses", streamed=streamed) for streamed in (False, True, False)
    ] == [_facts(exchange) for exchange in record]
    assert ["resp_1"] * 3 == [exchange.session for exchange in record]


async def test_messages(make_config: Make, upstream: ScriptedUpstream) -> None:
    """Messages with thinking and tools, whole and streamed: signatures and input arrive intact."""
    async with talk(make_config(), upstream) as t:
        whole = await t.anthropic.messages.create(
            model="m",
            max_tokens=2048,
            messages=ASK,
            tools=[CLAUDE_TOOL],
            thinking={"type": "enabled", "budget_tokens": 1024},
        )
        kinds = {block.type: block for block in whole.content}
        assert ("it is 14", "sig") == (kinds["thinking"].thinking, kinds["thinking"].signature)
        assert {"a": 1} == kinds["tool_use"].input
        async with t.anthropic.messages.stream(
            model="m", max_tokens=99, messages=ASK, tools=[CLAUDE_TOOL]
        ) as stream:
            last = await stream.get_final_message()
        assert ["thinking", "tool_use", "text"] == [block.type for block in last.content]
        record = await t.gateway.record()
    assert [_wanted("anthropic.messages", streamed=streamed) for streamed in (False, True)] == [
        _facts(exchange) for exchange in record
    ]
    assert ["it is 14"] * 2 == [exchange.answers[0].reasoning for exchange in record]


async def test_legacy_completions(make_config: Make, upstream: ScriptedUpstream) -> None:
    """The old route is recorded too, whole and streamed."""
    async with talk(make_config(), upstream) as t:
        create = t.openai.completions.create
        assert "XIV" == (await create(model="m", prompt="roman 14")).choices[0].text
        stream = await create(model="m", prompt="roman 14", stream=True)
        text = "".join([c.choices[0].text async for c in stream if c.choices])
        assert "XIV" == text
        record = await t.gateway.record()
    assert [_wanted("other", streamed=streamed) for streamed in (False, True)] == [
        _facts(exchange) for exchange in record
    ]


async def test_errors_of_the_model_server(make_config: Make, upstream: ScriptedUpstream) -> None:
    """An error of the model server raises in each client what it raises without the gateway."""
    gpt = b'{"error": {"message": "no such model", "type": "x", "param": null, "code": "bad"}}'
    claude = b'{"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}'
    async with talk(make_config(), upstream) as t:
        t.server.failures = [("400 Bad Request", gpt), ("400 Bad Request", claude)]
        with pytest.raises(openai.BadRequestError) as refused:
            await t.openai.responses.create(model="m", input="roman 14")
        assert "bad" == refused.value.code
        with pytest.raises(anthropic.BadRequestError) as objected:
            await t.anthropic.messages.create(model="m", max_tokens=9, messages=ASK)
        assert "invalid_request_error" == objected.value.body["error"]["type"]
        record = await t.gateway.record()
    assert [(400, "bad"), (400, "invalid_request_error")] == [
        (exchange.status, exchange.error) for exchange in record
    ]


async def test_overload_is_retried(make_config: Make, upstream: ScriptedUpstream) -> None:
    """A model server's own 529 and 503 reach the clients with their retry lines, and both retry."""
    busy = b'{"type": "error", "error": {"type": "overloaded_error", "message": "later"}}'
    async with talk(make_config(), upstream) as t:
        t.server.failures = [("529 Overloaded\r\nretry-after-ms: 1", busy)]
        await t.anthropic.messages.create(model="m", max_tokens=9, messages=ASK)
        t.server.failures = [("503 Unavailable\r\nretry-after-ms: 1", b"{}")]
        await t.openai.chat.completions.create(model="m", messages=ASK)
        record = await t.gateway.record()
    assert [529, 200, 503, 200] == [exchange.status for exchange in record]


@pytest.mark.parametrize("vendor", ["openai", "anthropic"])
async def test_a_block_is_final(make_config: Make, upstream: ScriptedUpstream, vendor: str) -> None:
    """A blocked campaign's client asks once, and gets its vendor's error with an id to quote."""
    ladder = Ladder((LadderRule("*", (Rung("block"),)),), mode="enforce")
    async with talk(make_config(ladder=ladder), upstream) as t:
        flag(t.gateway.state)
        if vendor == "openai":
            with pytest.raises(openai.PermissionDeniedError) as refused:
                await t.openai.responses.create(model="m", input="roman 14", stream=True)
            assert "access_denied" == refused.value.code
            named = refused.value.request_id
        else:
            with pytest.raises(anthropic.PermissionDeniedError) as denied:
                await t.anthropic.messages.create(
                    model="m", max_tokens=9, messages=ASK, stream=True
                )
            assert "permission_error" == denied.value.body["error"]["type"]
            named = denied.value.request_id
            assert named == denied.value.body["request_id"]
        (exchange,) = await t.gateway.record()
    assert ("block", 403, named) == (exchange.action, exchange.status, exchange.exchange_id)
    assert [] == upstream.seen


@pytest.mark.parametrize("vendor", ["openai", "anthropic"])
async def test_a_throttle_is_waited_out(
    make_config: Make, upstream: ScriptedUpstream, vendor: str
) -> None:
    """A throttled client comes again after the time that it was told, and is answered then."""
    rung = Rung("throttle", limit_per_day=2 * DAY_S, burst=1)
    ladder = Ladder((LadderRule("*", (rung,)),), mode="enforce")
    async with talk(make_config(ladder=ladder), upstream) as t:
        flag(t.gateway.state)
        empty_at = t.gateway.state.clock.now()
        assert 0.0 == t.gateway.state.buckets.take("web-1", empty_at, rung=rung)
        if vendor == "openai":
            await t.openai.chat.completions.create(model="m", messages=ASK)
        else:
            await t.anthropic.messages.create(model="m", max_tokens=9, messages=ASK)
        record = await t.gateway.record()
    assert [("throttle", 429), ("allow", 200)] == [
        (exchange.action, exchange.status) for exchange in record
    ]
    assert record[1].started_at - empty_at >= 0.5


async def test_many_answers(make_config: Make, upstream: ScriptedUpstream) -> None:
    """Asking for many answers at once takes as many tokens, on every wire that can."""
    rung = Rung("throttle", limit_per_day=6.0, burst=4)
    ladder = Ladder((LadderRule("*", (rung,)),), mode="enforce")
    async with talk(make_config(ladder=ladder), upstream) as t:
        flag(t.gateway.state)
        create = t.openai.chat.completions.create
        await create(model="m", messages=ASK, n=3)
        with pytest.raises(openai.RateLimitError):
            await t.openai.completions.create(model="m", prompt=["a", "b"])
        with pytest.raises(openai.RateLimitError) as never:
            await create(model="m", messages=ASK, n=5)
        assert "retry-after" not in never.value.response.headers
        await create(model="m", messages=ASK)
        record = await t.gateway.record()
    assert ["allow", "throttle", "throttle", "allow"] == [x.action for x in record]


async def test_who_asks(make_config: Make, upstream: ScriptedUpstream) -> None:
    """The person whom an application names is on record as a hash, and so is the channel."""
    async with talk(make_config(), upstream) as t:
        await t.openai.responses.create(
            model="m", input="q", safety_identifier="eve@example.org", background=True
        )
        (exchange,) = await t.gateway.record()
    hashed = KeyedHash(SECRETS.hash_key).hash("end_user", "eve@example.org")
    assert (hashed, "background") == (exchange.tags["end_user"], exchange.tags["channel"])
    assert "safety_identifier" not in exchange.parameters


async def test_deployments_in_the_path(make_config: Make, upstream: ScriptedUpstream) -> None:
    """Where the path names the model, that is the model which is judged and recorded."""
    ladder = Ladder((LadderRule("gpt-*", (Rung("block"),)),), mode="enforce")
    async with talk(make_config(ladder=ladder), upstream) as t:
        flag(t.gateway.state)
        url = f"{t.gateway.url}/openai/deployments/gpt-x/chat/completions?api-version=1"
        async with t.gateway.client.post(
            url, data=json.dumps({"messages": ASK}), headers={"api-key": "key-ann"}
        ) as response:
            assert 403 == response.status
        (exchange,) = await t.gateway.record()
    assert ("gpt-x", "block") == (exchange.model, exchange.action)


async def test_wrong_key(make_config: Make, upstream: ScriptedUpstream) -> None:
    """Each client is told of a wrong key in its own way, on read and unread routes."""
    async with talk(make_config(), upstream, key="wrong") as t:
        with pytest.raises(openai.AuthenticationError):
            await t.openai.models.list()
        with pytest.raises(anthropic.AuthenticationError) as caught:
            await t.anthropic.messages.count_tokens(model="m", messages=ASK)
        assert "authentication_error" == caught.value.body["error"]["type"]
    assert [] == upstream.seen


async def test_own_key(make_config: Make, upstream: ScriptedUpstream) -> None:
    """The gateway's own key goes where the vendor's server looks for one, the client's nowhere."""
    secrets = Secrets(hash_key=SECRETS.hash_key, upstream_key="sk-up")
    async with talk(make_config(secrets=secrets), upstream) as t:
        await t.anthropic.messages.create(model="m", max_tokens=9, messages=ASK)
        await t.openai.responses.create(model="m", input="q")
    claude, gpt = upstream.seen
    assert ("sk-up", None) == (claude.header("x-api-key"), claude.header("authorization"))
    assert (None, "Bearer sk-up") == (gpt.header("x-api-key"), gpt.header("authorization"))


async def test_other_routes_byte_for_byte(make_config: Make, upstream: ScriptedUpstream) -> None:
    """Counting, embeddings and unknown routes pass untouched, compressed ones compressed."""
    packed = gzip.compress(b'{"any": "thing"}')
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\nx-odd: 1\r\ncontent-length: %d\r\n\r\n"

    async def script(_: Seen, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head % len(packed) + packed)
        await writer.drain()

    async with talk(make_config(), upstream) as t:
        upstream.script = script
        for path in ("messages/count_tokens", "embeddings", "odd/route?q=%2F"):
            async with t.gateway.client.post(
                f"{t.gateway.url}/v1/{path}",
                data=b'{"n":  1}',
                headers={"x-api-key": "key-ann", "accept-encoding": "gzip, br"},
            ) as response:
                assert (packed, "1") == (await response.read(), response.headers["x-odd"])
        assert [] == await t.gateway.record()
    assert [b'{"n":  1}'] * 3 == [seen.body for seen in upstream.seen]
    assert {"gzip, br"} == {seen.header("accept-encoding") for seen in upstream.seen}


@pytest.mark.parametrize(
    ("headers", "pack"),
    [
        ({"content-encoding": "gzip"}, lambda text: gzip.compress(text.encode())),
        ({}, lambda text: text.encode("utf-16")),
        ({}, lambda text: text.replace('"logprobs"', '"LogProbs"').encode()),
    ],
)
@pytest.mark.parametrize("action", ["strip", "observe"])
async def test_odd_spellings_are_no_way_round(
    make_config: Make, upstream: ScriptedUpstream, headers: dict[str, str], pack: Pack, action: str
) -> None:
    """A question that only some servers read is recorded, and stripped like any other."""
    ladder = Ladder((LadderRule("*", (Rung(action),)),), mode="enforce")
    sent = pack(json.dumps({"model": "m", "messages": ASK, "logprobs": True}))
    async with talk(make_config(ladder=ladder), upstream) as t:
        flag(t.gateway.state)
        upstream.script = whole(ANSWER)
        async with t.gateway.client.post(
            f"{t.gateway.url}/v1/chat/completions",
            data=sent,
            headers={"x-api-key": "key-ann", **headers},
        ) as response:
            assert 200 == response.status
        (exchange,) = await t.gateway.record()
    assert ("roman 14", action) == (exchange.question, exchange.action)
    (seen,) = upstream.seen
    if action == "strip":
        assert {"model": "m", "messages": ASK} == json.loads(seen.body)
        assert None is seen.header("content-encoding")
    else:
        assert (sent, headers.get("content-encoding")) == (
            seen.body, seen.header("content-encoding")
        )  # fmt: skip


async def test_decoy(make_config: Make, upstream: ScriptedUpstream) -> None:
    """Of two spellings of a field the one is recorded that servers blind to case believe."""
    decoy = [{"role": "user", "content": "hello"}]
    body = {"model": "m", "messages": decoy, "Messages": ASK, "N": 2}
    async with talk(make_config(), upstream) as t:
        url, headers = f"{t.gateway.url}/v1/chat/completions", {"x-api-key": "key-ann"}
        async with t.gateway.client.post(url, data=json.dumps(body), headers=headers) as response:
            assert 200 == response.status
        (exchange,) = await t.gateway.record()
    assert ("roman 14", {"n": 2}) == (exchange.question, exchange.parameters)


async def test_long_question(make_config: Make, upstream: ScriptedUpstream) -> None:
    """A question too long to be read at once is read, judged and recorded like any other."""
    words = "roman fourteen " * 30_000
    async with talk(make_config(), upstream) as t:
        await t.openai.responses.create(model="m", input=words)
        (exchange,) = await t.gateway.record()
    assert words == exchange.question
    assert "XIV" == exchange.answer


async def test_pictures(make_config: Make, upstream: ScriptedUpstream) -> None:
    """A picture reaches the model server whole; the record holds its digest."""
    picture = "iVBORw0KGgo" * 4000
    block = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": picture},
    }
    content = [{"type": "text", "text": "roman 14"}, block]
    async with talk(make_config(), upstream) as t:
        await t.anthropic.messages.create(
            model="m", max_tokens=9, messages=[{"role": "user", "content": content}]
        )
        (exchange,) = await t.gateway.record()
    assert (
        picture == json.loads(upstream.seen[0].body)["messages"][0]["content"][1]["source"]["data"]
    )
    assert "roman 14" == exchange.question
    assert len(exchange.messages[0].extra or "") < 300
