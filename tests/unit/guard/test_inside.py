"""The wall as a library and as a plug-in: what it decides, changes, records, and survives."""

import asyncio
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.guard.conftest import SECRETS
from tests.unit.guard.redis_server import PASSWORD, running

from stillwatch.errors import ConfigError, InvalidInputError, MissingExtraError
from stillwatch.guard.config import GuardConfig, LearnerConfig, Limits, Secrets, load_config
from stillwatch.guard.inside import litellm
from stillwatch.guard.inside.awaiting import Awaiting
from stillwatch.guard.inside.callers import wanted_headers
from stillwatch.guard.inside.config import InsideConfig
from stillwatch.guard.inside.decide import Answered, Inside, Occasion
from stillwatch.guard.inside.litellm_call import answered_of, body_of, failed_of, take_over
from stillwatch.guard.inside.plugin import UNAVAILABLE, Plugin
from stillwatch.guard.routes.wires import CHAT, MESSAGES, RESPONSES
from stillwatch.guard.wall.ladder import DAY_S, Ladder, LadderRule, Rung
from stillwatch.guard.wall.verdict import CampaignVerdict, Verdict
from stillwatch.record.exchange import Exchange
from stillwatch.record.journal import read_journal
from stillwatch.record.privacy import KeyedHash

LADDER = Ladder(
    (
        LadderRule("slow-*", (Rung("throttle", limit_per_day=24.0),)),
        LadderRule("bare-*", (Rung("strip"),)),
        LadderRule("marked-*", (Rung("watermark"),)),
        LadderRule("*", (Rung("block"),)),
    ),
    mode="enforce",
)
REPLY = {
    "id": "chatcmpl-1", "object": "chat.completion", "model": "house",
    "choices": [{"index": 0, "finish_reason": "stop",
                 "message": {"role": "assistant", "content": "XIV"}}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 3},
}  # fmt: skip


def config(tmp_path: Path, **changes: Any) -> GuardConfig:
    """A configuration without a model server, as it is inside another gateway."""
    values = {
        "upstream": "", "state": tmp_path / "state", "secrets": SECRETS, "ladder": LADDER,
        "learner": LearnerConfig(enabled=False), "limits": Limits(reload_s=0.05),
    }  # fmt: skip
    return GuardConfig(**(values | changes))


def flag(wall: Inside, *accounts: str) -> None:
    """Write a verdict on accounts of one campaign."""
    now = wall.state.clock.now()
    campaign = CampaignVerdict("web-1", since=now, renewed_at=now, mark_key_id="mk-1")
    verdicts = [Verdict(account, campaign, now, now + DAY_S) for account in accounts]
    wall.state.table.write(verdicts)
    wall.state.board = wall.state.table.load()


def occasion(account: str = "ann", model: str = "slow-1", **more: Any) -> Occasion:
    """One question as another server holds it."""
    body = {"model": model, "messages": [{"role": "user", "content": "roman 14"}], **more}
    headers = {b"user-agent": b"sdk/1"}
    return Occasion(
        account, "sk-1", "org-a", CHAT, json.dumps(body).encode(), headers, "198.51.100.7"
    )


async def record(wall: Inside) -> list[Exchange]:
    """The journal so far."""
    await asyncio.gather(*wall.state.unfinished.tasks)
    await wall.state.recorder.flush()
    return [exchange for _, exchange in read_journal(wall.state.config.journal_path)]


async def test_decide_and_record(tmp_path: Path) -> None:
    """A question is decided on and recorded with its answer as the gateway's own would be."""
    async with Inside(config(tmp_path)) as wall:
        asked = await wall.ask(occasion(temperature=0.5))
        assert wall.refusal(asked) is None
        told = Answered(200, json.dumps(REPLY).encode(), CHAT, first_s=0.2, whole_s=0.5)
        wall.answered(asked, told)
        (exchange,) = await record(wall)
        assert 1 == wall.state.metrics.value("requests", action="allow", status="200")
    assert ("ann", "org-a", "roman 14", "XIV", 9, 3) == (
        exchange.account, exchange.org, exchange.question, exchange.answer,
        exchange.input_tokens, exchange.output_tokens,
    )  # fmt: skip
    hasher = KeyedHash(SECRETS.hash_key)
    assert (hasher.hash("key", "sk-1"), hasher.address("198.51.100.7"), "sdk/1", "guard") == (
        exchange.key_hash, exchange.ip_hash, exchange.user_agent, exchange.origin
    )  # fmt: skip
    assert {"temperature": 0.5} == exchange.parameters
    assert 0.2 == pytest.approx((exchange.first_output_at or 0) - exchange.started_at, abs=1e-5)
    assert 0.5 == pytest.approx((exchange.ended_at or 0) - exchange.started_at, abs=1e-5)


async def test_refusals(tmp_path: Path) -> None:
    """A campaign shares one bucket, is blocked by model, and its refused questions are recorded."""
    async with Inside(config(tmp_path)) as wall:
        flag(wall, "ann", "bob")
        statuses = []
        for account, model in [("ann", "slow-1"), ("bob", "slow-1"), ("ann", "other")]:
            asked = await wall.ask(occasion(account, model))
            refusal = wall.refusal(asked)
            statuses.append(refusal.status if refusal else 200)
            if refusal is not None:
                wall.refused(asked, refusal)
        assert [200, 429, 403] == statuses
        assert ["throttle", "block"] == [exchange.action for exchange in await record(wall)]
        blocked = wall.refusal_unread(occasion(), path="/v1/embeddings")
        assert blocked is not None
        assert 403 == blocked.status
        assert wall.refusal_unread(occasion("carl"), path="/v1/embeddings") is None


async def test_what_cannot_be_done_is_not_recorded_as_done(tmp_path: Path) -> None:
    """No mark can be ordered from inside: the record says observe, and what would have been."""
    async with Inside(config(tmp_path)) as wall:
        flag(wall, "ann")
        asked = await wall.ask(occasion(model="marked-1"))
        assert wall.refusal(asked) is None
        wall.answered(asked, Answered(200, None, CHAT))
        (exchange,) = await record(wall)
        assert 1 == wall.state.metrics.value("out_of_reach", action="watermark")
    assert ("observe", "watermark", "inside, without watermark") == (
        exchange.action, exchange.tags["would_have"], exchange.tags["decided_by"]
    )  # fmt: skip


async def test_streamed_answer_of_another_wire(tmp_path: Path) -> None:
    """An answer told whole in other words than it was asked in is read, and stays streamed."""
    asked_as = json.dumps({
        "model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "roman 14"}]
    }).encode()  # fmt: skip
    async with Inside(config(tmp_path)) as wall:
        asked = await wall.ask(occasion()._replace(wire=MESSAGES, body=asked_as))
        wall.answered(asked, Answered(200, json.dumps(REPLY).encode(), CHAT, streamed=True))
        (exchange,) = await record(wall)
    assert ("anthropic.messages", "roman 14", "XIV", True) == (
        exchange.wire, exchange.question, exchange.answer, exchange.streamed
    )  # fmt: skip


def call(text: str = "roman 14", **more: Any) -> dict[str, Any]:
    """A chat call as LiteLLM hands it to a hook."""
    told = {
        "user_api_key_hash": "hash-1", "user_api_key_user_id": "ann",
        "user_api_key_org_id": None, "user_api_key_team_id": "team-a",
        "user_api_key_end_user_id": "eu-1", "user_api_key_request_route": "/v1/embeddings",
        "requester_ip_address": "198.51.100.7", "user_api_key_auth": object(),
    }  # fmt: skip
    request = {"headers": {"User-Agent": "sdk/1", "authorization": "Bearer sk-1"}, "body": {}}
    return {
        "model": "slow-1", "messages": [{"role": "user", "content": text}], "metadata": told,
        "proxy_server_request": request, "litellm_call_id": f"call {text}",
        "litellm_logging_obj": object(), **more,
    }  # fmt: skip


def payload(**more: Any) -> dict[str, Any]:
    """The end of a call as LiteLLM logs it."""
    return {"startTime": 10.0, "completionStartTime": 10.2, "endTime": 10.5, "stream": None,
            "response": REPLY, **more}  # fmt: skip


@pytest.fixture
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write a configuration file for the plug-in."""
    monkeypatch.setenv("STILLWATCH_HASH_KEY", SECRETS.hash_key.hex())

    def write(inside: str = "", *, rungs: str = '{ action = "block" }') -> Path:
        path = tmp_path / "guard.toml"
        path.write_text(
            f'state = "state"\n[inside]\n{inside}\n[learner]\nenabled = false\n'
            f'[limits]\nreload_s = 0.02\n[ladder]\nmode = "enforce"\n'
            f'[[ladder.rules]]\nmodel = "*"\nrungs = [{rungs}]\n'
        )
        return path

    return write


async def ended(plugin: Plugin) -> list[Exchange]:
    """Close a plug-in as the end of its loop does, and read what it recorded."""
    assert plugin._keeper is not None
    plugin._keeper.cancel()
    await asyncio.wait([plugin._keeper])
    return [exchange for _, exchange in read_journal(plugin.config.journal_path)]


async def test_plugin_records(toml: Callable[..., Path]) -> None:
    """Calls become exchanges: answered, failed, and those whose end was never told."""
    plugin = Plugin(toml())
    for text in ("whole", "failed", "open", "left"):
        assert await plugin.before(call(text), "acompletion") is None
    plugin.succeeded(payload(stream=True), "call whole")
    plugin.succeeded(payload(), "call whole")
    plugin.succeeded(payload(error_information={"error_code": "499"}), "call left")
    plugin.succeeded(payload(), "call of a stranger")
    plugin.failed("call failed", KeyError("roman"))
    found = {exchange.question: exchange for exchange in await ended(plugin)}
    assert {"whole", "failed", "open", "left"} == found.keys()
    whole, failed, waiting = found["whole"], found["failed"], found["open"]
    assert (200, "client_gone", "XIV") == (
        found["left"].status, found["left"].error, found["left"].answer
    )  # fmt: skip
    assert ("ann", "team-a", "XIV", 200, True, "sdk/1") == (
        whole.account, whole.org, whole.answer, whole.status, whole.streamed, whole.user_agent
    )  # fmt: skip
    hasher = KeyedHash(SECRETS.hash_key)
    assert (hasher.hash("key", "hash-1"), hasher.address("198.51.100.7")) == (
        whole.key_hash, whole.ip_hash
    )  # fmt: skip
    assert (500, "KeyError") == (failed.status, failed.error)
    assert ((), "not told") == (waiting.answers, waiting.tags["answer"])


@pytest.mark.parametrize(
    ("whose", "account"), [("user", "ann"), ("key", "hash-1"), ("end_user", "eu-1")]
)
async def test_who_asks(toml: Callable[..., Path], whose: str, account: str) -> None:
    """The operator says what an account is."""
    plugin = Plugin(toml(f'account = "{whose}"'))
    await plugin.before(call(), "acompletion")
    (exchange,) = await ended(plugin)
    assert account == exchange.account


async def test_plugin_strips(toml: Callable[..., Path]) -> None:
    """A stripped call asks for less; nothing else of it changes."""
    plugin = Plugin(toml(rungs='{ action = "strip" }'))
    data = call(n=3, logprobs=True, top_logprobs=5, temperature=0.5)
    kept = call(temperature=0.5)
    assert await plugin.before(dict(data), "acompletion") is None
    wall = await plugin._open(asyncio.get_running_loop())
    flag(wall, "ann")
    assert await plugin.before(data, "acompletion") is None
    assert kept.keys() == data.keys()
    assert (kept["messages"], 0.5) == (data["messages"], data["temperature"])
    assert ["allow", "strip"] == [exchange.action for exchange in await ended(plugin)]


async def test_plugin_refuses_what_is_no_question(toml: Callable[..., Path]) -> None:
    """A blocked campaign gets no embeddings either."""
    plugin = Plugin(toml())
    data = call(input="roman 14")
    del data["messages"]
    assert await plugin.before(data, "aembedding") is None
    flag(await plugin._open(asyncio.get_running_loop()), "ann")
    refusal = await plugin.before(data, "aembedding")
    assert refusal is not None
    assert 403 == refusal.status
    assert [] == await ended(plugin)


@pytest.mark.parametrize("fail_open", [True, False])
async def test_plugin_failing(toml: Callable[..., Path], fail_open: bool) -> None:
    """A wall that cannot open lets calls pass, or refuses them where the operator wants that."""
    path = toml()
    (path.parent / "state").write_text("a file where the folder should be")
    plugin = Plugin(path)
    for _ in range(2):
        refusal = await plugin.before(call(), "acompletion", fail_open=fail_open)
        assert (None if fail_open else UNAVAILABLE) == refusal
    plugin.succeeded(payload(), "call roman 14")
    (path.parent / "state").unlink()
    plugin._tried_at -= 60.0
    assert await plugin.before(call(), "acompletion") is None
    assert 1 == len(await ended(plugin))


async def test_workers(toml: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that share through Redis have a folder each and one bucket; others say what to do."""
    path = toml(rungs='{ action = "throttle", limit_per_day = 24 }')
    first, second = Plugin(path), Plugin(path)
    assert await first.before(call(), "acompletion") is None
    assert UNAVAILABLE == await second.before(call(), "acompletion", fail_open=False)
    assert 1 == len(await ended(first))
    with running(path.parent) as server:
        monkeypatch.setenv("STILLWATCH_REDIS_PASSWORD", PASSWORD)
        path.write_text(path.read_text() + f'[shared]\nurl = "{server.url}"\n')
        pair = [Plugin(path) for _ in range(2)]
        walls = [await plugin._open(asyncio.get_running_loop()) for plugin in pair]
        assert ["state", "state-2"] == [wall.state.config.state.name for wall in walls]
        flag(walls[0], "ann")
        await walls[1].state.reload()
        refusals = [
            await plugin.before(call(str(n)), "acompletion") for n in "12" for plugin in pair
        ]
        assert [None, 429, 429, 429] == [refusal and refusal.status for refusal in refusals]
        for plugin in pair:
            await ended(plugin)


async def test_answers_in_parts(tmp_path: Path) -> None:
    """An answer that comes in growing parts is recorded once, with all of it, when it rests."""
    now = [100.0]
    async with Inside(config(tmp_path, inside=InsideConfig(settle_s=2.0))) as wall:
        awaiting = Awaiting(wall, lambda: now[0])
        awaiting.expect("call-1", await wall.ask(occasion()))
        for text in ("X", "XI", "XIV"):
            reply = {"choices": [{"message": {"role": "assistant", "content": text}}]}
            assert awaiting.tell_part("call-1", Answered(200, json.dumps(reply).encode(), CHAT))
            now[0] += 1.0
            awaiting.sweep()
        assert 1 == len(awaiting)
        now[0] += 1.0
        awaiting.sweep()
        assert not awaiting.tell_part("call-1", Answered(200, None, CHAT))
        (exchange,) = await record(wall)
    assert ("XIV", 2.0) == (
        exchange.answer, pytest.approx((exchange.ended_at or 0) - exchange.started_at, abs=1e-5)
    )  # fmt: skip


async def test_answers_never_told(tmp_path: Path) -> None:
    """A question waits so long for its answer and no longer, or not at all."""
    now = [100.0]
    async with Inside(config(tmp_path, inside=InsideConfig(answer_wait_s=60.0))) as wall:
        awaiting = Awaiting(wall, lambda: now[0])
        awaiting.expect("call-1", await wall.ask(occasion()))
        now[0] += 59.0
        awaiting.sweep()
        assert [] == await record(wall)
        now[0] += 1.0
        awaiting.sweep()
        assert ["not told"] == [exchange.tags["answer"] for exchange in await record(wall)]
        wall.state.config = replace(wall.state.config, inside=InsideConfig(answer_wait_s=0.0))
        at_once = Awaiting(wall, lambda: now[0])
        at_once.expect("call-2", await wall.ask(occasion()))
        assert (0, 2) == (len(at_once), len(await record(wall)))


def test_light_start() -> None:
    """The process that it lives in gets no server, no pages and no detector from it."""
    code = (
        "import sys, stillwatch.guard.inside.plugin; "
        "sys.exit(bool({'uvicorn', 'jinja2', 'numba', 'torch'} & set(sys.modules)))"
    )
    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode


def test_without_litellm() -> None:
    """The file can be read without LiteLLM; what needs it says how to get it."""
    if importlib.util.find_spec("litellm") is not None:
        pytest.skip("LiteLLM is installed here")
    with pytest.raises(MissingExtraError) as caught:
        litellm.__getattr__("StillwatchGuardrail")
    assert "pip install 'stillwatch[litellm]'" == caught.value.hint
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        litellm.__getattr__("other")


def test_where_the_configuration_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parameter goes before the environment; without both LiteLLM must not start."""
    monkeypatch.delenv(litellm.CONFIG_VARIABLE, raising=False)
    with pytest.raises(ConfigError, match=r"must name guard\.toml"):
        litellm.config_path(None)
    monkeypatch.setenv(litellm.CONFIG_VARIABLE, "env.toml")
    assert [Path("env.toml"), Path("own.toml")] == [
        litellm.config_path(None), litellm.config_path("own.toml")
    ]  # fmt: skip


@pytest.mark.parametrize("mode", [None, "pre_call", ["post_call", "pre_call"], object()])
def test_mode(mode: object) -> None:
    """A guardrail must be asked before the call."""
    litellm.check_mode(mode)
    with pytest.raises(ConfigError, match="mode must be pre_call, got post_call"):
        litellm.check_mode("post_call")


def test_what_litellm_withholds() -> None:
    """A header that LiteLLM shows without its value is absent; other headers are not read."""
    told = {"User-Agent": "sdk/1", "x-forwarded-for": "[present]", "cookie": "c", "n": 1}
    assert {b"user-agent": b"sdk/1"} == wanted_headers(told)
    assert {} == wanted_headers(None)


def test_body_of_a_call() -> None:
    """What LiteLLM adds for itself is not part of the question; the client's metadata is."""
    found = json.loads(body_of(call(temperature=0.5)))
    assert {"model", "messages", "temperature"} == found.keys()
    apart = call() | {"litellm_metadata": call()["metadata"], "metadata": {"user_id": "u-1"}}
    assert {"user_id": "u-1"} == json.loads(body_of(apart))["metadata"]


def test_take_over() -> None:
    """What changed or went in the JSON changes or goes in the call; LiteLLM's own parts stay."""
    data = {"model": "m", "n": 3, "logprobs": True, "litellm_call_id": "1"}
    before = b'{"model":"m","n":3,"logprobs":true}'
    take_over(data, before, b'{"model":"m","n":1}')
    assert {"model": "m", "n": 1, "litellm_call_id": "1"} == data


def test_redacted_answers() -> None:
    """LiteLLM's placeholder for texts that it must not log is no answer."""
    message = {"role": "assistant", "content": "redacted-by-litellm"}
    told = answered_of(payload(response={"choices": [{"message": message}]}, cache_hit=True))
    assert (None, {"redacted": "true", "cache_hit": "true"}) == (told.body, told.tags)


def test_counts_of_the_responses_wire() -> None:
    """Tokens are read though LiteLLM counts them in another wire's words."""
    output = [{"type": "message", "role": "assistant",
               "content": [{"type": "output_text", "text": "XIV"}]}]  # fmt: skip
    usage = {"prompt_tokens": 9, "completion_tokens": 3}
    told = answered_of(payload(response={"id": "resp_1", "output": output, "usage": usage}))
    read = RESPONSES.read(told.body or b"", streamed=False)
    assert (9, 3, "XIV") == (
        read.reply.input_tokens, read.reply.output_tokens, read.reply.answers[0].text
    )  # fmt: skip


def test_failures_keep_their_status() -> None:
    """A failure is recorded by status and class, never by its text."""

    class RateLimitError(Exception):
        status_code = 429

    told = failed_of(RateLimitError("roman 14 was too much"))
    assert (429, "RateLimitError", None) == (told.status, told.error, told.body)


def test_configuration(tmp_path: Path, toml: Callable[..., Path]) -> None:
    """Inside another server no model server is named; elsewhere it must be; values are checked."""
    loaded = load_config(toml('account = "key"'), secrets=Secrets.from_env())
    assert ("", "key") == (loaded.upstream, loaded.inside.account)
    (tmp_path / "bare.toml").write_text('state = "state"\n')
    with pytest.raises(ConfigError, match="upstream must be given"):
        load_config(tmp_path / "bare.toml", secrets=SECRETS)
    with pytest.raises(InvalidInputError, match="account must be one of user, key, end_user"):
        InsideConfig(account="team")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="settle_s must be at least 0"):
        InsideConfig(settle_s=-1.0)
