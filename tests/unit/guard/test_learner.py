"""The learner: names campaigns day by day, in its own process, and is not needed to serve."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tests.unit.guard.conftest import SECRETS, ScriptedUpstream, served
from tests.unit.guard.webs import DAY_S, WEB, day_of, write_days

from stillwatch.guard.config import GuardConfig, LearnerConfig
from stillwatch.guard.learning.learned import Learned
from stillwatch.guard.learning.learner import Learner
from stillwatch.guard.recording.audit import read_audit, verify_audit
from stillwatch.guard.wall.verdict import VerdictTable
from stillwatch.record.journal import Journal
from stillwatch.record.store import write_store
from stillwatch.trace.watermark import campaign_mark

Make = Callable[..., GuardConfig]


@pytest.fixture
def learning(make_config: Make, tmp_path: Path) -> GuardConfig:
    """A configuration with a reference of honest days; 80 anchors allow p-values of 1/81."""
    reference = tmp_path / "reference"
    write_store(reference, [e for day in range(6) for e in day_of(day, web=False)])
    learner = LearnerConfig(every_s=0.0, reference=reference, fdr=0.05, verdict_ttl_s=7 * DAY_S)
    return make_config(learner=learner)


def test_day_by_day(learning: GuardConfig) -> None:
    """The web is named whole, keeps name and age over days, and no honest account is named."""
    write_days(learning.journal_path, range(10, 14))
    learner = Learner(learning)
    days = [learner.learn(day * DAY_S) for day in (12, 13, 14)]
    learner.close()
    (first,), (last,) = days[0].campaigns, days[-1].campaigns
    assert WEB == frozenset(first.accounts) == frozenset(last.accounts)
    assert (first.campaign_id, WEB, ()) == (
        last.campaign_id, frozenset(first.new_accounts), last.new_accounts
    )  # fmt: skip
    sizes = [len(day_of(day, web=True)) for day in range(10, 14)]
    assert [sizes[0] + sizes[1], sizes[2], sizes[3]] == [day.n_folded for day in days]
    table = VerdictTable(learning.verdict_path)
    board = table.load()
    table.close()
    assert SECRETS.mark_master_key is not None
    mark = campaign_mark(SECRETS.mark_master_key, first.campaign_id)
    (campaign,) = board.campaigns().values()
    assert (12 * DAY_S, 14 * DAY_S, mark.key_id) == (
        campaign.since, campaign.renewed_at, campaign.mark_key_id
    )  # fmt: skip
    assert {21 * DAY_S} == {verdict.expires_at for verdict in board.verdicts.values()}
    events = list(read_audit(learning.audit_path))
    assert ["named", "learned", "learned", "learned"] == [event.kind for event in events]
    assert 4 == verify_audit(learning.audit_path).n_lines


def test_order_of_arrival(learning: GuardConfig, tmp_path: Path) -> None:
    """A learner that starts late, or reads another order, finds the same."""
    write_days(learning.journal_path, range(10, 12))
    early, late = Learner(learning), Learner(learning)
    early.learn(11 * DAY_S)
    one, other = early.learn(12 * DAY_S).campaigns, late.learn(12 * DAY_S).campaigns
    early.close()
    late.close()
    assert WEB == frozenset(one[0].accounts)
    assert [msgspec.structs.replace(one[0], new_accounts=())] == list(other)


def test_cleared(learning: GuardConfig) -> None:
    """A cleared account is not named again, the others are."""
    write_days(learning.journal_path, range(10, 12))
    table = VerdictTable(learning.verdict_path)
    table.clear("w003", until=100 * DAY_S)
    table.close()
    learner = Learner(learning)
    (found,) = learner.learn(12 * DAY_S).campaigns
    learner.close()
    assert WEB - {"w003"} == frozenset(found.accounts)


def test_refusals(learning: GuardConfig) -> None:
    """Questions that the wall refused and other members ask again do not hide the web."""
    write_days(learning.journal_path, range(10, 12))
    asked = [e for day in (10, 11) for e in day_of(day, web=True) if e.account in WEB]
    with Journal.open(learning.journal_path, fsync_interval_s=0.0) as journal:
        for n, exchange in enumerate(asked):
            account = f"w{n % 30:03d}"
            journal.append_sync(
                msgspec.structs.replace(
                    exchange, exchange_id=f"again-{n}", account=account, action="throttle"
                )
            )
    learner = Learner(learning)
    (found,) = learner.learn(12 * DAY_S).campaigns
    learner.close()
    assert WEB == frozenset(found.accounts)
    assert len(asked) == found.exchanges


async def test_second_process(learning: GuardConfig) -> None:
    """Over the admin route the learner learns in its process, and its verdicts hold at once."""
    write_days(learning.journal_path, range(10, 12))
    async with served(learning) as gateway, asyncio.timeout(60):
        await gateway.ask()
        status, body = await gateway.admin("POST", "/stillwatch/admin/learn", until=12 * DAY_S)
        learned = msgspec.json.decode(body, type=Learned)
        assert (200, WEB) == (status, frozenset(learned.campaigns[0].accounts))
        # The question asked just now lies after `until`: it waits.
        assert learned.n_folded == sum(len(day_of(day, web=True)) for day in (10, 11))
        assert learned.generation == gateway.state.board.generation
        assert set(WEB) == set(gateway.state.board.verdicts)
        assert os.getpid() != gateway.state.link.pid


async def test_dead_learner(learning: GuardConfig, upstream: ScriptedUpstream) -> None:
    """Without a learner questions are served unscored, health says so, and it is replaced."""
    write_days(learning.journal_path, range(10, 13))
    async with served(learning) as gateway, asyncio.timeout(60):
        await gateway.admin("POST", "/stillwatch/admin/learn", until=12 * DAY_S)
        pid = gateway.state.link.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        while gateway.state.link.state != "dead":  # noqa: ASYNC110 - the kernel tells nobody else
            await asyncio.sleep(0.01)
        async with gateway.client.get(gateway.url + "/healthz") as response:
            health = await response.json()
        assert ("degraded", "dead", False) == (
            health["status"], health["learner"], health["scored"]
        )  # fmt: skip
        assert 200 == (await gateway.ask())[0]
        assert {"unscored": "learner dead"} == (await gateway.record())[-1].tags
        assert set(WEB) == set(gateway.state.board.verdicts)
        _, body = await gateway.admin("POST", "/stillwatch/admin/learn", until=13 * DAY_S)
        learned = msgspec.json.decode(body, type=Learned)
        assert ("alive", WEB) == (
            gateway.state.link.state, frozenset(learned.campaigns[0].accounts)
        )  # fmt: skip
    assert 1 == len(upstream.seen)


async def test_learns_on_time(make_config: Make) -> None:
    """With a period the gateway learns by itself."""
    config = make_config(learner=LearnerConfig(every_s=0.05))
    async with served(config) as gateway, asyncio.timeout(60):
        while gateway.state.metrics.value("learnings", result="done") < 1:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_learner_that_cannot(make_config: Make, tmp_path: Path) -> None:
    """A learner whose reference is missing says so; the gateway serves on."""
    config = make_config(learner=LearnerConfig(every_s=0.0, reference=tmp_path / "absent"))
    async with served(config) as gateway, asyncio.timeout(60):
        status, body = await gateway.admin("POST", "/stillwatch/admin/learn", until=1.0)
        assert 503 == status
        assert b"absent" in body
        assert 200 == (await gateway.ask())[0]
        assert 1 == gateway.state.metrics.value("learnings", result="failed")
