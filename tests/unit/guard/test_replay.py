"""What is on record can be decided again from the audit log, and a change of either shows."""

import gzip
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.guard.conftest import LADDER, SECRETS, Served, served
from tests.unit.guard.policies import POLICY, write_policy
from tests.unit.guard.test_admin import name_web

from stillwatch.errors import RecordError
from stillwatch.guard.config import GuardConfig
from stillwatch.guard.recording.audit import AuditEvent, append_audit, read_audit, verify_audit
from stillwatch.guard.recording.history import board_change, changed_board, kept
from stillwatch.guard.recording.replay import Replayed, replay
from stillwatch.guard.wall.ladder import Ladder, LadderRule, Rung
from stillwatch.guard.wall.orders import Clearance, Order
from stillwatch.guard.wall.verdict import Board, CampaignVerdict, Verdict, VerdictTable
from stillwatch.logs.accounts import load_accounts
from stillwatch.logs.reader import ReadOptions
from stillwatch.record.privacy import KeyedHash

Make = Callable[..., GuardConfig]


async def _a_day(gateway: Served) -> None:
    """Verdicts come and go, orders are given, buckets run dry."""
    config = gateway.state.config
    for _ in range(3):
        await gateway.ask()
    name_web(config, "ann", "bob")
    await gateway.state.reload()
    for key in ("key-ann", "key-bob") * 3:
        await gateway.ask(key=key)
        await gateway.ask(key=key, model="house-prose")
        await gateway.ask(key=key, model="other")
    order = {"campaign_id": "web-1", "order": "pin", "action": "throttle", "limit_per_day": 48.0}
    assert 200 == (await gateway.admin("POST", "/stillwatch/admin/campaign", **order))[0]
    for _ in range(5):
        await gateway.ask()
    await gateway.admin("POST", "/stillwatch/admin/clear", account="bob")
    await gateway.ask(key="key-bob")
    await gateway.state.recorder.flush()


def _differs(found: Replayed) -> tuple[int, object]:
    return found.n_different, found.first


async def test_all_the_same(make_config: Make) -> None:
    """Every decision of a gateway comes out as recorded, over a restart, its buckets included."""
    ladder = Ladder((LadderRule("house-skills", (Rung("throttle", limit_per_day=72.0),)),
                     *LADDER.rules), mode="enforce")  # fmt: skip
    config = make_config(ladder=ladder)
    async with served(config) as gateway:
        await _a_day(gateway)
        actions = {exchange.action for exchange in await gateway.record()}
    async with served(config) as gateway:
        for _ in range(4):
            await gateway.ask()
        n = len(await gateway.record())
    assert {"allow", "observe", "throttle", "watermark"} <= actions
    found = replay(config.state)
    assert (0, None) == _differs(found)
    assert (n, {}) == (found.n_same, found.apart)


async def test_observing(make_config: Make) -> None:
    """What enforce mode had done is decided again too."""
    config = make_config(ladder=replace(LADDER, mode="observe"))
    async with served(config) as gateway:
        await _a_day(gateway)
        assert {None, "block", "watermark", "throttle"} == {
            exchange.tags.get("would_have") for exchange in await gateway.record()
        }
    assert (0, None) == _differs(replay(config.state))


async def test_with_a_policy(make_config: Make, tmp_path: Path) -> None:
    """Rules are judged by the policy and the accounts table of then, though the files are gone."""
    path = write_policy(tmp_path)
    table = tmp_path / "accounts.csv"
    config = make_config(policy=path, accounts=table)
    async with served(config) as gateway:
        await _a_day(gateway)
        many = {"model": "house-prose", "n": 2, "messages": [{"role": "user", "content": "x"}]}
        for _ in range(3):
            url = f"{gateway.url}/v1/chat/completions"
            async with gateway.client.post(
                url, json=many, headers={"authorization": "Bearer key-ann"}
            ) as response:
                await response.read()
        path.write_text(path.read_text() + "\n# changed\n")
        await gateway.state.reload_policy()
        await gateway.ask()
        record = await gateway.record()
    assert {"closed-country", "many-answers"} <= {e.tags.get("rule") for e in record}
    assert 2 == len({e.tags["policy"] for e in record})
    assert {"not given"} == {why.rpartition("is ")[2] for why in replay(config.state).apart}
    options = ReadOptions(KeyedHash(SECRETS.hash_key), bodies="drop")
    tables = {
        hashlib.sha256(table.read_bytes()).hexdigest(): load_accounts(str(table), options).rows
    }
    for name in ("policy.toml", "closed.txt", "networks.csv", "accounts.csv"):
        (tmp_path / name).unlink()
    found = replay(config.state, accounts=tables)
    assert (0, None) == _differs(found)
    assert (len(record), {}) == (found.n_same, found.apart)


async def test_what_is_not_on_record(make_config: Make, tmp_path: Path) -> None:
    """A rule that asks where an address lies is counted apart, not called a difference."""
    rule = POLICY.replace('when = { org = "org-partner" }', 'when = { network_country = "DE" }')
    rule = rule.replace('facts = { org = "org-partner" }', 'facts = { network_country = "DE" }')
    config = make_config(policy=write_policy(tmp_path, rule.partition("[[tests]]")[0]))
    async with served(config) as gateway:
        await gateway.ask()
        (exchange,) = await gateway.record()
    assert "closed-country,partner" == exchange.tags["rules_fired"]
    found = replay(config.state)
    assert (0, 0) == (found.n_same, found.n_different)
    assert 1 == found.apart["a rule asks where its address lies, which is not on record"]


async def test_a_changed_history(make_config: Make, tmp_path: Path) -> None:
    """A log computed anew with one verdict less names the first decision that does not follow."""
    config = make_config()
    async with served(config) as gateway:
        await _a_day(gateway)
        first = next(e for e in await gateway.record() if e.campaign_id == "web-1")
    copy = tmp_path / "copy"
    shutil.copytree(config.state, copy)
    (copy / "audit.jsonl").unlink()
    told = []
    for event in read_audit(config.audit_path):
        detail = dict(event.detail)
        if event.kind == "board" and "members" in detail:
            detail["members"] = [g | {"accounts": ["bob"]} for g in detail["members"]]
        told.append(AuditEvent(event.kind, event.at, detail))
    append_audit(copy / "audit.jsonl", told)
    verify_audit(copy / "audit.jsonl")
    found = replay(copy)
    assert found.first is not None
    assert (first.exchange_id, "ann") == (found.first.exchange_id, found.first.account)
    assert (first.action, "allow") == (found.first.recorded.action, found.first.replayed.action)


async def test_a_changed_ladder(make_config: Make) -> None:
    """A kept configuration that was changed afterwards is refused by its hash."""
    config = make_config()
    async with served(config) as gateway:
        await gateway.ask()
        await gateway.record()
    started = next(e for e in read_audit(config.audit_path) if e.kind == "started")
    name = f"config-{started.detail['config']}.json"
    told = json.loads(kept(config.state, name))
    assert ("enforce", False) == (told["ladder"]["mode"], "secrets" in told)
    path = config.state / "kept" / f"{name}.gz"
    assert 0o600 == path.stat().st_mode & 0o777
    path.write_bytes(gzip.compress(json.dumps(told | {"ladder": {}}).encode()))
    with pytest.raises(RecordError, match="not what its name says"):
        replay(config.state)


def test_no_start(make_config: Make) -> None:
    """A folder without an audit log is an error, not an empty success."""
    config = make_config()
    config.state.mkdir()
    VerdictTable(config.verdict_path).close()
    with pytest.raises(RecordError, match="audit log cannot be read"):
        replay(config.state)


_TIMES = st.sampled_from([1.0, 2.0, 3.5])
_NAMES = st.sampled_from(["a", "b", "c", "d"])


@st.composite
def boards(draw: st.DrawFn) -> Board:
    """Small boards that share accounts and campaigns."""
    campaigns = {
        name: CampaignVerdict(name, draw(_TIMES), draw(_TIMES), draw(st.none() | _TIMES))
        for name in ("w1", "w2")
    }
    members = draw(st.dictionaries(_NAMES, st.sampled_from(["w1", "w2"])))
    expiry = draw(_TIMES)
    verdicts = {
        name: Verdict(name, campaigns[web], draw(_TIMES), draw(_TIMES | st.just(expiry)))
        for name, web in sorted(members.items())
    }
    orders = draw(st.dictionaries(
        st.sampled_from(["w1", "w2"]), st.tuples(st.builds(Order, _NAMES, st.just("lift")))
    ))  # fmt: skip
    clearances = draw(st.dictionaries(_NAMES, st.builds(Clearance, _NAMES, _TIMES)))
    return Board(draw(st.integers(0, 9)), MappingProxyType(verdicts), orders, clearances)


@settings(max_examples=60, deadline=None)
@given(boards(), boards())
def test_changes_of_boards(before: Board, after: Board) -> None:
    """A change that is written and read back makes the later board of the earlier one."""
    change = json.loads(json.dumps(board_change(before, after)))
    found = changed_board(before, change)
    for part in ("generation", "verdicts", "orders", "clearances"):
        assert getattr(after, part) == getattr(found, part), part


def test_renewals_are_short() -> None:
    """A campaign that is found again is one line, however many accounts it has."""

    def board(generation: int, at: float) -> Board:
        campaign = CampaignVerdict("w", 1.0, at)
        return Board(generation, {f"a{n}": Verdict(f"a{n}", campaign, 1.0 + n % 7, at + 9)
                                  for n in range(1000)})  # fmt: skip

    before, after = board(1, 1.0), board(2, 2.0)
    change = board_change(before, after)
    assert {"generation", "campaigns", "renewed"} == set(change)
    assert after == changed_board(before, change)
