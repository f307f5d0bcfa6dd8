"""The policy of a gateway that serves, and the verbs on its file."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.guard.conftest import ScriptedUpstream, served
from tests.unit.guard.policies import POLICY, write_policy
from tests.unit.guard.test_gateway import flag

from stillwatch.cli.main import main
from stillwatch.errors import ConfigError
from stillwatch.guard.config import GuardConfig, Limits
from stillwatch.guard.recording.audit import read_audit, verify_audit
from stillwatch.guard.wall.ladder import DAY_S
from stillwatch.record.exchange import Exchange
from stillwatch.record.store import write_store

Make = Callable[..., GuardConfig]


@pytest.fixture
def policed(make_config: Make, tmp_path: Path) -> GuardConfig:
    """A gateway with a policy; ann may ask, bob's organisation sits where none is served."""
    path = write_policy(tmp_path)
    limits = Limits(reload_s=3600.0)
    return make_config(policy=path, accounts=tmp_path / "accounts.csv", limits=limits)


async def test_rules_decide(policed: GuardConfig, upstream: ScriptedUpstream) -> None:
    """A legal rule refuses on every route; record and audit name rule, policy and lists."""
    async with served(policed) as gateway:
        status, lines, body = await gateway.ask(key="key-bob")
        assert (403, "false") == (status, lines["x-should-retry"])
        assert (
            "This model is not offered to your organisation."
            == (json.loads(body)["error"]["message"])
        )
        async with gateway.client.post(
            gateway.url + "/v1/embeddings", data=b"{}", headers={"x-api-key": "key-bob"}
        ) as side_door:
            assert 403 == side_door.status
        assert 200 == (await gateway.ask(key="key-ann"))[0]
        refused, passed = await gateway.record()
        policy = gateway.state.policy
        assert policy is not None
        stamp = dict(policy.engine.stamp)
    assert {"policy", "list:closed", "list:networks"} == set(stamp)
    assert stamp == passed.tags
    assert stamp | {"rule": "closed-country", "rules_fired": "closed-country"} == refused.tags
    assert ("block", 403) == (refused.action, refused.status)
    assert 1 == len(upstream.seen)
    verify_audit(policed.audit_path)
    row = next(e for e in read_audit(policed.audit_path) if e.kind == "policy")
    assert ("policy", "bob", "block", "closed-country", stamp["policy"]) == (
        row.kind, *(row.detail[name] for name in ("account", "action", "rule", "policy"))
    )  # fmt: skip
    closed = row.detail["lists"]["closed"]
    assert stamp["list:closed"] == f"{closed['date']} {closed['sha256']}"
    assert "XA" == row.detail["facts"]["org_country"]


async def test_broken_file_changes_nothing(policed: GuardConfig) -> None:
    """A broken file is refused with line and reason, and the policy that runs stays."""
    assert policed.policy is not None
    async with served(policed) as gateway:
        running = json.loads((await gateway.admin("GET", "/stillwatch/admin/policy"))[1])
        broken = POLICY.replace("asks = {", "aks = {")
        line = broken.splitlines().index('aks = { any = ["many", "logprobs"] }') + 1
        policed.policy.write_text(broken)
        status, body = await gateway.admin("POST", "/stillwatch/admin/policy/reload")
        refused = json.loads(body)
        assert 422 == status
        assert f"policy.toml:{line}: unknown word 'aks'" in refused["refused"]
        assert running["sha256"] == refused["sha256"]
        assert [403, 200] == [(await gateway.ask(key=k))[0] for k in ("key-bob", "key-ann")]
        assert b"policy_refused 1.0" in (await gateway.admin("GET", "/metrics"))[1]

        policed.policy.write_text(POLICY.replace("[lists.closed]", "# changed\n[lists.closed]"))
        status, body = await gateway.admin("POST", "/stillwatch/admin/policy/reload")
        mended = json.loads(body)
        assert (200, None) == (status, mended["refused"])
        assert running["sha256"] != mended["sha256"]
    kinds = [event.kind for event in read_audit(policed.audit_path)]
    assert {"policy-refused", "policy-loaded", "policy"} <= set(kinds)


async def test_files_are_watched(policed: GuardConfig, tmp_path: Path) -> None:
    """A change is seen without being asked for, a table that cannot be read included."""
    config = replace(policed, limits=Limits(reload_s=0.01))
    assert config.policy is not None
    async with served(config) as gateway:
        policy = gateway.state.policy
        assert policy is not None
        for name, broken in (("policy.toml", b"rules = 3"), ("accounts.csv", b"PAR1\x00PAR1")):
            file = tmp_path / name
            good = file.read_bytes()
            for content, is_refused in ((broken, True), (good, False)):
                file.write_bytes(content)
                async with asyncio.timeout(20):
                    while (policy.refused is not None) is not is_refused:  # noqa: ASYNC110 - it polls
                        await asyncio.sleep(0.01)
                assert [403, 200] == [(await gateway.ask(key=k))[0] for k in ("key-bob", "key-ann")]


async def test_changed_list_is_taken_over(policed: GuardConfig) -> None:
    """A new list or accounts table is used without a restart, and a wrong one is not."""
    assert policed.policy is not None
    folder = policed.policy.parent
    async with served(policed) as gateway:
        (folder / "closed.txt").write_text("# date: 2026-11-02\nXA\nDE\n")
        await gateway.state.reload_policy()
        # Tests of the file say that DE is served: a list that contradicts them is refused.
        assert "test fails" in (gateway.state.policy.refused or "")
        assert 200 == (await gateway.ask())[0]
        (folder / "closed.txt").write_text("# date: 2026-11-02\nXA\nXC\n")
        (folder / "accounts.csv").write_text(
            "account,tags\nann,org_country=XC\nbob,org_country=DE;owners=DE:1\n"
        )
        await gateway.state.reload_policy()
        assert None is gateway.state.policy.refused
        assert [200, 403] == [(await gateway.ask(key=k))[0] for k in ("key-bob", "key-ann")]


async def test_broken_at_the_start(make_config: Make, tmp_path: Path) -> None:
    """A gateway does not start with a policy that is broken."""
    path = write_policy(tmp_path, POLICY.replace("[tiers]", "[tears]"))
    with pytest.raises(ConfigError, match=r"policy\.toml:\d+: unknown table 'tears'"):
        async with served(make_config(policy=path)):
            pass


async def test_shadow_counts(make_config: Make, tmp_path: Path) -> None:
    """A shadow rule changes nothing; what it would have done is counted and recorded."""
    path = write_policy(tmp_path)
    (tmp_path / "accounts.csv").write_text(
        "account,created_at,tags\nann,2999-01-01T00:00:00Z,org_country=DE;owners=DE:1\n"
    )
    async with served(make_config(policy=path, accounts=tmp_path / "accounts.csv")) as gateway:
        assert [200, 200] == [(await gateway.ask(key="key-ann"))[0] for _ in range(2)]
        status = json.loads((await gateway.admin("GET", "/stillwatch/admin/policy"))[1])
        text = (await gateway.admin("GET", "/metrics"))[1].decode()
        exchange, _ = await gateway.record()
    (shadow,) = [rule for rule in status["rules"] if rule["id"] == "watch-young"]
    assert (2, 2, 0, 1) == tuple(
        shadow[name] for name in ("fired", "would_have", "decided", "accounts")
    )
    assert 'policy_would_have_total{action="block",rule="watch-young"} 2' in text
    assert "block by watch-young" == exchange.tags["policy_would_have"]


async def test_with_the_ladder(policed: GuardConfig, upstream: ScriptedUpstream) -> None:
    """What the policy lets pass the ladder decides; an exemption lifts the ladder too."""
    assert policed.policy is not None
    async with served(policed) as gateway:
        flag(gateway.state, age_s=2 * DAY_S)
        assert 403 == (await gateway.ask())[0]
        text = POLICY.replace('when = { org = "org-partner" }', 'when = { account = "ann" }')
        text = text.replace('facts = { org = "org-partner" }', 'facts = { account = "ann" }')
        policed.policy.write_text(text)
        await gateway.state.reload_policy()
        assert None is gateway.state.policy.refused
        assert 200 == (await gateway.ask())[0]
        *_, exchange = await gateway.record()
    assert ("allow", "web-1", "partner") == (
        exchange.action, exchange.campaign_id, exchange.tags["rule"]
    )  # fmt: skip
    assert 1 == len(upstream.seen)


async def test_watermark_by_rule(policed: GuardConfig, upstream: ScriptedUpstream) -> None:
    """A rule can order a mark of its own for accounts without a campaign."""
    assert policed.policy is not None
    text = POLICY.replace('action = "throttle"\nlimit_per_day = 24', 'action = "watermark"')
    text = text.replace('["many", "logprobs"] }', '["stream"] }').replace('["many"]', '["stream"]')
    policed.policy.write_text(text)
    async with served(policed) as gateway:
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "q"}]}
        async with gateway.client.post(
            gateway.url + "/v1/chat/completions", json=body, headers={"x-api-key": "key-ann"}
        ) as response:
            await response.read()
        (exchange,) = await gateway.record()
    assert ("watermark", "policy-many-answers") == (exchange.action, exchange.campaign_id)
    assert None is not upstream.seen[0].header("x-stillwatch-mark")


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Run the command line; gives exit code and both outputs."""
    with pytest.raises(SystemExit) as left:
        main(["guard", "policy", *map(str, words)])
    out, err = capsys.readouterr()
    return int(str(left.value.code)), out, err


def test_verb_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`policy test` counts, names failures with their line, and leaves with 0, 1 or 2."""
    path = write_policy(tmp_path)
    code, out, _ = run(capsys, "test", path)
    assert 0 == code
    assert "4 rules (1 in shadow), 11 tests, 0 failed" in out
    path.write_text(POLICY.replace('asks = ["many"] }\nfires = true', "asks = [] }\nfires = true"))
    code, out, err = run(capsys, "test", path)
    assert (1, True) == (code, "rule many-answers: it must fire and does not" in err)
    path.write_text(POLICY.replace("risk", "").replace("below", "beneath"))
    code, _, err = run(capsys, "test", path)
    assert (2, True) == (code, "unknown question 'beneath' about account_age_days" in err)


def test_verb_diff(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`policy diff` names the accounts and exchanges of a log that are treated differently."""
    old = write_policy(tmp_path)
    new = tmp_path / "new.toml"
    new.write_text(POLICY.replace('["many", "logprobs"] }', '["many", "tools"] }'))
    log = [
        Exchange(exchange_id=f"e{n}", account="ann", started_at=1_795_000_000.0 + n,
                 tools_hash="t" if n else None, model="m")
        for n in range(3)
    ]  # fmt: skip
    write_store(tmp_path / "store", log)
    words = ("diff", old, new, "--log", tmp_path / "store", "--accounts", tmp_path / "accounts.csv")
    code, out, _ = run(capsys, *words, "--json")
    found = json.loads(out)
    assert (0, 3, ["ann"]) == (code, found["exchanges"], list(found["accounts"]))
    # The first question with tools is within the limit, the second is not.
    assert ["e2"] == found["accounts"]["ann"]["exchange_ids"]
    assert [{"old": "allow", "new": "throttle by many-answers", "exchanges": 1}] == (
        found["accounts"]["ann"]["changes"]
    )
    assert "1 of 3 exchanges and 1 of 1 accounts" in run(capsys, *words)[1]


def test_verb_explain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`policy explain` says for one account which rules fire, by which fact, and which do not."""
    path = write_policy(tmp_path)
    at = ("--at", "2026-11-20", "--accounts", tmp_path / "accounts.csv")
    code, out, _ = run(capsys, "explain", path, "bob", *at)
    assert (0, True) == (code, out.startswith("bob: block by rule closed-country\n"))
    assert "org_country in @closed? yes (XA)" in out
    assert "account_age_days below 7? no" in out
    code, out, _ = run(capsys, "explain", path, "nobody", *at, "--json")
    found = json.loads(out)
    assert "fires, because a fact is not known" == found["rules"][0]["state"]
    out = run(capsys, "explain", path, "ann", *at, "--fact", "account_age_days=1")[1]
    assert out.startswith("ann: allow\nwithout shadow: block by rule watch-young\n")
