"""The gateway over real sockets: who may ask, what crosses, what is refused, what is recorded."""

import asyncio
import errno
import json
import os
import zlib
from collections.abc import Callable

import pytest
from tests.unit.guard.conftest import ANSWER, LADDER, SECRETS, ScriptedUpstream, Seen, served, whole

from stillwatch.guard.config import GuardConfig, Limits, Secrets
from stillwatch.guard.state import GuardState
from stillwatch.guard.wall.ladder import DAY_S, Ladder
from stillwatch.guard.wall.verdict import CampaignVerdict, Verdict
from stillwatch.record.privacy import KeyedHash
from stillwatch.wire.signature import MARK_HEADER, verify_mark

Make = Callable[..., GuardConfig]


def flag(state: GuardState, account: str = "ann", *, age_s: float = 0.0) -> None:
    """Write a verdict on an account of a campaign first named `age_s` ago."""
    now = state.clock.now()
    campaign = CampaignVerdict("web-1", since=now - age_s, renewed_at=now, mark_key_id="mk-1")
    state.table.write([Verdict(account, campaign, named_at=now, expires_at=now + DAY_S)])
    state.board = state.table.load()


async def test_question_and_record(make_config: Make, upstream: ScriptedUpstream) -> None:
    """A question reaches the model server as sent, and the exchange is recorded whole."""
    async with served(make_config()) as gateway:
        status, _, body = await gateway.ask("roman 14", **{"user-agent": "sdk/1"})
        assert (200, ANSWER) == (status, body)
        (exchange,) = await gateway.record()
    (seen,) = upstream.seen
    assert "POST /v1/chat/completions HTTP/1.1" == seen.line
    assert "roman 14" == json.loads(seen.body)["messages"][0]["content"]
    assert ("ann", "org-a", "roman 14", "XIV", 200) == (
        exchange.account, exchange.org, exchange.question, exchange.answer, exchange.status
    )  # fmt: skip
    assert (9, 3, "allow", "sdk/1", "house-skills") == (
        exchange.input_tokens, exchange.output_tokens, exchange.action, exchange.user_agent,
        exchange.model,
    )  # fmt: skip
    hasher = KeyedHash(SECRETS.hash_key)
    assert (hasher.hash("key", "key-ann"), hasher.address("127.0.0.1")) == (
        exchange.key_hash, exchange.ip_hash
    )  # fmt: skip
    assert exchange.started_at <= (exchange.first_output_at or 0) <= (exchange.ended_at or 0)


@pytest.mark.parametrize(
    ("headers", "code"), [({}, "missing_api_key"), ({"x-api-key": "nope"}, "invalid_api_key")]
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models"])
async def test_authentication(
    make_config: Make, upstream: ScriptedUpstream, headers: dict[str, str], code: str, path: str
) -> None:
    """Without a known key nothing is asked, and the error has the wire's shape."""
    async with served(make_config()) as gateway:
        url = gateway.url + path
        async with gateway.client.post(url, data=b"{}", headers=headers) as response:
            error = (await response.json())["error"]
            assert "false" == response.headers["x-should-retry"]
            assert (401, code) == (response.status, error["code"])
            assert {"message", "type", "param", "code"} == set(error)
        assert 1 == gateway.state.metrics.value("auth_failures")
        assert [] == await gateway.record()
    assert [] == upstream.seen


async def test_header_hygiene(make_config: Make, upstream: ScriptedUpstream) -> None:
    """Keys, forged orders, simulation and hop headers stop at the gateway, each way."""
    upstream.script = whole(ANSWER, extra="x-stillwatch-marked: mk-1\r\nX-Kept: Yes\r\n")
    async with served(make_config()) as gateway:
        status, lines, _ = await gateway.ask(**{
            MARK_HEADER: "forged", "x-stillwatch-sim-time": "1", "x-stillwatch-sim-seq": "9",
            "x-forwarded-for": "9.9.9.9", "connection": "keep-alive, x-hop", "x-hop": "1",
            "x-stainless-lang": "python", "accept-encoding": "gzip",
        })  # fmt: skip
        (exchange,) = await gateway.record()
    assert 200 == status
    sent = {name.lower(): value for name, value in upstream.seen[0].headers}
    for name in (MARK_HEADER, "x-stillwatch-sim-seq", "authorization", "x-forwarded-for", "x-hop"):
        assert name not in sent
    assert ("python", "identity") == (sent["x-stainless-lang"], sent["accept-encoding"])
    assert "x-stillwatch-marked" not in lines
    assert "Yes" == lines["x-kept"]
    assert "mk-1" == exchange.mark_key_id
    assert KeyedHash(SECRETS.hash_key).address("127.0.0.1") == exchange.ip_hash


async def test_upstream_key_and_proxy(make_config: Make, upstream: ScriptedUpstream) -> None:
    """With its own key and a trusted proxy in front, the gateway uses both."""
    secrets = Secrets(hash_key=SECRETS.hash_key, upstream_key="sk-up")
    async with served(make_config(secrets=secrets, trusted_hops=1)) as gateway:
        await gateway.ask(**{"x-forwarded-for": "8.8.8.8, 9.9.9.9"})
        (exchange,) = await gateway.record()
    assert "Bearer sk-up" == upstream.seen[0].header("authorization")
    assert KeyedHash(SECRETS.hash_key).address("9.9.9.9") == exchange.ip_hash
    assert KeyedHash(SECRETS.hash_key).network("9.9.9.7") == exchange.network_hash


async def test_block(make_config: Make, upstream: ScriptedUpstream) -> None:
    """After the dwell a campaign is refused for good, by model, and the question recorded."""
    async with served(make_config()) as gateway:
        flag(gateway.state, age_s=2 * DAY_S)
        status, lines, body = await gateway.ask()
        assert (403, "false") == (status, lines["x-should-retry"])
        assert "access_denied" == json.loads(body)["error"]["code"]
        assert b"web-1" not in body
        assert 200 == (await gateway.ask(key="key-bob"))[0]
        async with gateway.client.post(
            gateway.url + "/v1/completions", data=b"{}", headers={"x-api-key": "key-ann"}
        ) as side_door:
            assert 403 == side_door.status
        refused, *_ = await gateway.record()
    assert ("block", "web-1", 403, "roman 14", ()) == (
        refused.action, refused.campaign_id, refused.status, refused.question, refused.answers
    )  # fmt: skip
    assert 1 == len(upstream.seen)


async def test_throttle(make_config: Make, upstream: ScriptedUpstream) -> None:
    """A throttled campaign has one bucket, and is told when to come again in both ways."""
    async with served(make_config()) as gateway:
        flag(gateway.state, "ann")
        flag(gateway.state, "bob")
        assert 200 == (await gateway.ask(key="key-ann"))[0]
        status, lines, _ = await gateway.ask(key="key-bob")
        assert 429 == status
        assert 3_590_000 < int(lines["retry-after-ms"]) <= 3_600_000
        assert 3_590 < int(lines["retry-after"]) <= 3_600
        assert "false" == lines["x-should-retry"]  # an hour is beyond any client's patience
        assert ["allow", "throttle"] == [e.action for e in await gateway.record()]
    assert 1 == len(upstream.seen)


@pytest.mark.parametrize("confirmed", [True, False])
async def test_watermark(make_config: Make, upstream: ScriptedUpstream, confirmed: bool) -> None:
    """A marked answer is ordered by a signature on the very body, and recorded if confirmed."""
    upstream.script = whole(ANSWER, extra="x-stillwatch-marked: mk-1\r\n" if confirmed else "")
    async with served(make_config()) as gateway:
        flag(gateway.state)
        status, lines, _ = await gateway.ask(model="house-prose", **{MARK_HEADER: "forged"})
        assert (200, None) == (status, lines.get("x-stillwatch-marked"))
        (exchange,) = await gateway.record()
        assert int(not confirmed) == gateway.state.metrics.value("marks_unconfirmed")
    (seen,) = upstream.seen
    assert SECRETS.mark_secret is not None
    order = verify_mark(SECRETS.mark_secret, seen.header(MARK_HEADER) or "", seen.body, now=None)
    assert ("web-1", "mk-1") == order
    expected = "mk-1" if confirmed else None
    assert ("watermark", expected) == (exchange.action, exchange.mark_key_id)


async def test_observe(make_config: Make, upstream: ScriptedUpstream) -> None:
    """In observe mode everything is answered, unmarked, and what would have been is noted."""
    ladder = Ladder(LADDER.rules, "observe")
    async with served(make_config(ladder=ladder)) as gateway:
        flag(gateway.state, age_s=2 * DAY_S)
        assert 200 == (await gateway.ask())[0]
        assert 200 == (await gateway.ask(model="house-prose"))[0]
        record = await gateway.record()
        assert ["block", "watermark"] == [e.tags["would_have"] for e in record]
        assert {"observe"} == {e.action for e in record}
        assert 1 == gateway.state.metrics.value("would_have", action="block")
    assert upstream.seen[1].header(MARK_HEADER) is None


async def test_simulated_order(make_config: Make, upstream: ScriptedUpstream) -> None:
    """In a simulation the one token goes to the first in order, not to the first to arrive."""
    async with served(make_config(simulation=True)) as gateway:
        campaign = CampaignVerdict("web-1", since=0.0, renewed_at=0.0)
        verdicts = [Verdict(a, campaign, 0.0, 1e9) for a in ("ann", "bob")]
        gateway.state.table.write(verdicts)
        await gateway.state.reload()

        def ask(seq: int, key: str) -> asyncio.Task[tuple[int, dict[str, str], bytes]]:
            return asyncio.create_task(gateway.ask(key=key, **{
                "x-stillwatch-sim-seq": str(seq), "x-stillwatch-sim-time": str(100.0 + seq),
                "x-request-id": f"q-{seq}",
            }))  # fmt: skip

        late = ask(2, "key-bob")
        await asyncio.sleep(0.05)
        wrong = ask(1, "key-nobody")
        await asyncio.sleep(0.05)
        first = ask(0, "key-ann")
        assert [200, 401, 429] == [(await task)[0] for task in (first, wrong, late)]
        record = await gateway.record()
        again = await ask(1, "key-ann")
    assert [("q-0", 100.0), ("q-2", 102.0)] == [(e.exchange_id, e.started_at) for e in record]
    assert (100.4, 100.46) == (record[0].first_output_at, round(record[0].ended_at or 0, 6))
    assert 409 == again[0]


async def test_not_a_conversation(make_config: Make, upstream: ScriptedUpstream) -> None:
    """What the gateway cannot read the model server answers, in its own words."""
    upstream.script = whole(b'{"error": {"code": "bad"}}', status="400 Bad Request")
    async with served(make_config()) as gateway:
        async with gateway.client.post(
            f"{gateway.url}/v1/chat/completions", data=b"\xff", headers={"x-api-key": "key-ann"}
        ) as response:
            assert (400, b'{"error": {"code": "bad"}}') == (response.status, await response.read())
        (exchange,) = await gateway.record()
        assert 1 == gateway.state.metrics.value("unread")
    assert b"\xff" == upstream.seen[0].body
    assert "unreadable" == exchange.tags["question"]
    assert (400, "bad", ()) == (exchange.status, exchange.error, exchange.messages)


async def test_garbled_on_purpose(make_config: Make, upstream: ScriptedUpstream) -> None:
    """A campaign gets nothing by writing its questions so that only the model server reads them."""
    body = '{"model": "house-skills", "messages": [{"role": "user", "content": "q"}]}'
    async with served(make_config()) as gateway:
        flag(gateway.state)
        async with gateway.client.post(
            f"{gateway.url}/v1/chat/completions",
            data=zlib.compress(body.encode(), wbits=-15),
            headers={"x-api-key": "key-ann"},
        ) as response:
            assert 403 == response.status
    assert [] == upstream.seen


@pytest.mark.parametrize(
    "path", ["/chat/completions", "/openai//chat/completions/", "/v1/%63hat/completions"]
)
async def test_other_spellings(make_config: Make, upstream: ScriptedUpstream, path: str) -> None:
    """The chat route is recorded under every prefix and spelling, and passed as written."""
    async with served(make_config()) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        body = b'{"model": "m", "messages": [{"role": "user", "content": "q"}]}'
        head = f"POST {path} HTTP/1.1\r\nhost: h\r\nx-api-key: key-ann\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        assert b"200" in await reader.readline()
        writer.close()
        (exchange,) = await gateway.record()
    assert f"POST {path} HTTP/1.1" == upstream.seen[0].line
    assert "q" == exchange.question


async def test_disk_fails(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the record cannot be written the gateway serves on, counts and says so."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with served(make_config()) as gateway:
        monkeypatch.setattr(os, "write", full)
        assert 200 == (await gateway.ask())[0]
        await gateway.state.recorder.flush()
        async with gateway.client.get(gateway.url + "/healthz") as response:
            health = await response.json()
        assert ("degraded", False) == (health["status"], health["recording"])
        assert 1 == gateway.state.metrics.value("record_failures")
        monkeypatch.undo()
        assert 200 == (await gateway.ask())[0]
        assert 1 == len(await gateway.record())


async def test_not_modified(make_config: Make, upstream: ScriptedUpstream) -> None:
    """A reply without a body may still name a length."""

    async def script(_: Seen, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\netag: x\r\n\r\n")

    upstream.script = script
    async with served(make_config()) as gateway:
        headers = {"x-api-key": "key-ann"}
        for _ in range(2):
            async with gateway.client.get(gateway.url + "/v1/models", headers=headers) as response:
                assert (304, "x") == (response.status, response.headers["etag"])


async def test_too_long(make_config: Make, upstream: ScriptedUpstream) -> None:
    """A body beyond the limit is refused before the model server hears of it."""
    async with served(make_config(limits=Limits(body_bytes=100))) as gateway:
        status, _, body = await gateway.ask("x" * 200)
    assert (413, "request_too_large") == (status, json.loads(body)["error"]["code"])
    assert [] == upstream.seen


async def test_pass_through(make_config: Make, upstream: ScriptedUpstream) -> None:
    """Other routes pass byte for byte: path, query, body, status, header lines."""
    upstream.script = whole(b"\x00\x01", status="201 Created", extra="x-a: 1\r\nx-a: 2\r\n")
    async with served(make_config(limits=Limits(body_bytes=10))) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        body = bytes(range(256)) * 100
        writer.write(
            b"PUT /v1/files/a%2Fb%20c?x=%7E&y HTTP/1.1\r\nhost: h\r\nx-api-key: key-ann\r\n"
            b"content-length: 25600\r\n\r\n" + body
        )
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert b"\x00\x01" == await reader.readexactly(2)
        writer.close()
    (seen,) = upstream.seen
    assert ("PUT /v1/files/a%2Fb%20c?x=%7E&y HTTP/1.1", body) == (seen.line, seen.body)
    assert head.startswith(b"http/1.1 201")
    assert b"x-a: 1\r\nx-a: 2\r\n" in head


async def test_admin(make_config: Make) -> None:
    """Admin routes need the token; an account can be cleared; metrics count."""
    async with served(make_config()) as gateway:
        flag(gateway.state, age_s=2 * DAY_S)
        await gateway.ask()
        async with gateway.client.get(
            gateway.url + "/metrics", headers={"x-api-key": "key-ann"}
        ) as refused:
            assert 401 == refused.status
        status, text = await gateway.admin("GET", "/metrics")
        assert (200, True) == (
            status, b'stillwatch_requests_total{action="block",status="403"} 1\n' in text
        )  # fmt: skip
        _, body = await gateway.admin("GET", "/stillwatch/admin/verdicts")
        (campaign,) = json.loads(body)["campaigns"]
        assert ("web-1", ["ann"]) == (
            campaign["campaign_id"], [a["account"] for a in campaign["accounts"]]
        )  # fmt: skip
        assert 200 == (await gateway.admin("POST", "/stillwatch/admin/clear", account="ann"))[0]
        assert 200 == (await gateway.ask())[0]
        assert 400 == (await gateway.admin("POST", "/stillwatch/admin/clear", acount="ann"))[0]
        assert 404 == (await gateway.admin("GET", "/stillwatch/admin/nothing"))[0]
        assert 503 == (await gateway.admin("POST", "/stillwatch/admin/learn", until=1.0))[0]


async def test_no_admin_token(make_config: Make) -> None:
    """Without a token there is no admin route, and health says what serves."""
    async with served(make_config(secrets=Secrets(hash_key=b"h" * 32))) as gateway:
        assert 404 == (await gateway.admin("GET", "/metrics"))[0]
        async with gateway.client.get(gateway.url + "/healthz") as response:
            health = await response.json()
    assert ("ok", "off", False, True) == (
        health["status"], health["learner"], health["scored"], health["recording"]
    )  # fmt: skip


async def test_verdicts_of_others(make_config: Make) -> None:
    """A verdict written by another process is acted on without a restart."""
    async with served(make_config(limits=Limits(reload_s=0.01))) as gateway:
        now = gateway.state.clock.now()
        campaign = CampaignVerdict("web-1", since=now - 2 * DAY_S, renewed_at=now)
        gateway.state.table.write([Verdict("ann", campaign, now, now + DAY_S)])
        async with asyncio.timeout(5):
            while gateway.state.board.generation == 0:  # noqa: ASYNC110 - polling is what it does
                await asyncio.sleep(0.01)
        assert 403 == (await gateway.ask())[0]
