"""A policy's rules take the ladder's actions: tested, compared, explained, and done."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.guard.conftest import SECRETS, ScriptedUpstream, served
from tests.unit.guard.test_gateway import flag
from tests.unit.guard.test_policy_live import run

from stillwatch.errors import ConfigError
from stillwatch.guard.config import GuardConfig
from stillwatch.guard.policy.cases import run_cases
from stillwatch.guard.policy.document import load_policy
from stillwatch.guard.wall.challenge import ChallengeConfig, issue_token
from stillwatch.guard.wall.ladder import Ladder, LadderRule, Rung
from stillwatch.record.exchange import Exchange
from stillwatch.record.store import write_store
from stillwatch.wire.canary_order import CANARY_HEADER

Make = Callable[..., GuardConfig]
PAGE = ChallengeConfig("https://verify.example.org/")
RULE = """\
[[rules]]
id = "{id}"
kind = "abuse"
owner = "abuse@example.org"
reason = "because"
action = "{action}"
shadow = {shadow}
from = 2026-01-01
review_by = 2099-01-01
when = {{ {when} }}
tests = [
  {{ facts = {{ account = "ann", asks = ["many"] }}, fires = true }},
  {{ facts = {{ account = "bob", asks = [] }}, fires = false }},
]
"""


def _policy(folder: Path, *rules: tuple[str, str], more: str = "", name: str = "p.toml") -> Path:
    """Write a policy of (action, question) pairs; ids are the actions'."""
    path = folder / name
    text = "\n".join(
        RULE.format(id=f"do-{action.replace('_', '-')}", action=action, when=when, shadow="false")
        for action, when in rules
    )
    path.write_text(text + more)
    return path


ANN = 'account = "ann"'
MANY = 'asks = { any = ["many"] }'


async def test_quiet_rules_together(
    make_config: Make, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """Strip and canary rules are both done, and go by the stronger's name."""
    path = _policy(tmp_path, ("strip", MANY), ("canary", ANN), ("log_full", ANN))
    async with served(make_config(policy=path)) as gateway:
        body = {"model": "m", "n": 3, "messages": [{"role": "user", "content": "q"}]}
        async with gateway.client.post(
            gateway.url + "/v1/chat/completions", json=body, headers={"x-api-key": "key-ann"}
        ) as response:
            assert 200 == response.status
        (exchange,) = await gateway.record()
    assert ("canary", "policy-do-canary", "do-canary") == (
        exchange.action, exchange.campaign_id, exchange.tags["rule"]
    )  # fmt: skip
    assert "n" not in json.loads(upstream.seen[0].body)
    assert None is not upstream.seen[0].header(CANARY_HEADER)


async def test_beside_the_ladder(
    make_config: Make, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """What the ladder does quietly goes on beside what a rule does."""
    wall = Ladder((LadderRule("*", (Rung("watermark"),)),), "enforce")
    path = _policy(tmp_path, ("strip", ANN))
    async with served(make_config(policy=path, ladder=wall)) as gateway:
        flag(gateway.state)
        body = {"model": "m", "n": 3, "messages": [{"role": "user", "content": "q"}]}
        async with gateway.client.post(
            gateway.url + "/v1/chat/completions", json=body, headers={"x-api-key": "key-ann"}
        ) as response:
            await response.read()
        (exchange,) = await gateway.record()
    assert ("watermark", "web-1") == (exchange.action, exchange.campaign_id)
    assert "n" not in json.loads(upstream.seen[0].body)
    assert None is not upstream.seen[0].header("x-stillwatch-mark")


async def test_challenge_rule(
    make_config: Make, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """A rule's challenge is refused with its address, and answered by a token."""
    path = _policy(tmp_path, ("challenge", ANN))
    secrets = replace(SECRETS, challenge_secret=b"c" * 32)
    config = make_config(policy=path, challenge=PAGE, secrets=secrets)
    async with served(config) as gateway:
        status, _, raw = await gateway.ask()
        error = json.loads(raw)["error"]
        assert (403, "verification_required") == (status, error["code"])
        assert PAGE.url in error["message"]
        token = issue_token(b"c" * 32, "ann", now=gateway.state.clock.now())
        statuses = [
            (await gateway.ask(**{"x-stillwatch-verified": token}))[0],
            (await gateway.ask())[0],
            (await gateway.ask(key="key-bob"))[0],
        ]
        record = await gateway.record()
    assert [200, 200, 200] == statuses
    assert ["challenge", "allow", "allow", "allow"] == [exchange.action for exchange in record]
    assert 3 == len(upstream.seen)


def test_precedence(tmp_path: Path) -> None:
    """Block goes before challenge, challenge before the quiet ones; a verified account has none."""
    cases = """
[[tests]]
facts = { account = "ann", asks = ["many"] }
action = "block"
[[tests]]
facts = { account = "ann", asks = [] }
action = "challenge"
rule = "do-challenge"
[[tests]]
facts = { account = "ann", asks = [], verified = true }
action = "strip"
[[tests]]
facts = { account = "ann", asks = ["many"], verified = true }
action = "block"
"""
    rules = (("strip", ANN), ("challenge", ANN), ("block", MANY))
    found = load_policy(_policy(tmp_path, *rules, more=cases))
    assert [None] * 10 == [result.failure for result in run_cases(found)]


def test_verbs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`policy test`, `diff` and `explain` know the actions."""
    old = _policy(tmp_path, ("strip", ANN), ("log_full", ANN), name="old.toml")
    new = _policy(tmp_path, ("challenge", ANN), name="new.toml")
    assert (0, True) == ((found := run(capsys, "test", old, new))[0], "0 failed" in found[1])
    write_store(
        tmp_path / "store", [Exchange(exchange_id="e", account="ann", started_at=1_795_000_000.0)]
    )
    found = run(capsys, "diff", old, new, "--log", tmp_path / "store")
    assert "strip + log_full by do-strip -> challenge by do-challenge" in found[1]
    found = run(capsys, "explain", new, "ann", "--fact", "verified=true")
    assert found[1].startswith("ann: allow\n")
    assert run(capsys, "explain", new, "ann")[1].startswith("ann: challenge by rule do-challenge\n")


@pytest.mark.parametrize(
    ("action", "why"), [("challenge", "no page"), ("canary", "no mark secret")]
)
async def test_without_the_means(make_config: Make, tmp_path: Path, action: str, why: str) -> None:
    """A rule that challenges without a page, or gives canaries without keys, is refused."""
    secrets = replace(SECRETS, mark_secret=None, mark_master_key=None)
    config = make_config(policy=_policy(tmp_path, (action, ANN)), secrets=secrets)
    with pytest.raises(ConfigError, match=rf"p\.toml:1: rule 'do-{action}' .*{why}"):
        async with served(config):
            pass
