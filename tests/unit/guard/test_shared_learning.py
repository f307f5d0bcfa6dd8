"""Learners that share: profiles are put together, one gateway finds, the dead ones count too."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import aiohttp
import msgspec
import pytest
from msgspec import structs
from tests.unit.guard.conftest import SECRETS, served
from tests.unit.guard.redis_server import PASSWORD, RedisServer, running
from tests.unit.guard.webs import DAY_S, WEB, day_of, write_journal

from stillwatch.detect import FoldConfig, Profiles, fold
from stillwatch.detect.profiles.merge import merge_all
from stillwatch.errors import EnvironmentUnfitError
from stillwatch.guard.config import GuardConfig, LearnerConfig
from stillwatch.guard.gateway import run_gateway
from stillwatch.guard.learning.learned import Learned
from stillwatch.guard.learning.learner import Learner
from stillwatch.guard.shared.config import SharedConfig
from stillwatch.guard.shared.connect import connect
from stillwatch.guard.shared.pool import ProfilePool
from stillwatch.guard.shared.seal import Seal
from stillwatch.record.erasure import erase_lines
from stillwatch.record.exchange import Exchange, to_batch
from stillwatch.record.store import write_store
from stillwatch.siege.processes import ProcessGroup

FOLD = FoldConfig()
SEAL = Seal(SECRETS.hash_key)
_NUMBERS = count()
Gateways = Callable[..., list[GuardConfig]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for all tests; each has a prefix of its own."""
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def gateways(
    tmp_path: Path, server: RedisServer, make_config: Callable[..., GuardConfig]
) -> Gateways:
    """Make the configurations of gateways that share, with a reference of honest days."""
    reference = tmp_path / "reference"
    write_store(reference, [e for day in range(6) for e in day_of(day, web=False)])
    prefix = f"learning{next(_NUMBERS)}"
    # A machine under load answers late; then the gateways' own buckets would decide.
    shared = SharedConfig(server.url, prefix=prefix, lease_s=0.5, timeout_s=5.0)

    def make(n: int) -> list[GuardConfig]:
        return [
            make_config(
                state=tmp_path / f"gateway{number}",
                secrets=replace(SECRETS, redis_password=PASSWORD),
                learner=LearnerConfig(every_s=0.0, reference=reference, fdr=0.05),
                shared=shared,
            )
            for number in range(n)
        ]

    return make


def _plain(profiles: Profiles) -> list[object]:
    """Lay profiles out as plain data, to compare them."""
    found: list[object] = [profiles.accounts.to_pylist(), profiles.level]
    for column in (*profiles.totals, *profiles.digests):
        values = getattr(column, "values", column)
        found.append(values.tolist() if hasattr(values, "tolist") else values.to_pylist())
    return found


def _blank(exchanges: list[Exchange]) -> Profiles:
    profiles = fold([to_batch(exchanges)], FOLD)
    return profiles._replace(
        digests=profiles.digests._replace(
            excerpt=fold([to_batch(exchanges)], replace_excerpt(FOLD)).digests.excerpt
        )
    )


def replace_excerpt(config: FoldConfig) -> FoldConfig:
    """The same configuration without excerpts."""
    return structs.replace(config, excerpt_chars=0)


def _pool(shared: SharedConfig, gateway: str, fold: FoldConfig = FOLD) -> ProfilePool:
    return ProfilePool(connect(shared, PASSWORD), shared, seal=SEAL, gateway=gateway, fold=fold)


def test_parts(server: RedisServer) -> None:
    """What others put up comes back as it was, without what was asked, and the newest counts."""
    shared = SharedConfig(server.url, prefix=f"learning{next(_NUMBERS)}")
    one, two = _pool(shared, "one"), _pool(shared, "two")
    days = {day: day_of(day, web=True) for day in (10, 11)}
    profiles = {day: fold([to_batch(rows)], FOLD) for day, rows in days.items()}
    assert one.push(10, fold([to_batch(days[10][:40])], FOLD), now=11 * DAY_S)
    assert 40 == two.gather().profiles.n_exchanges
    for day in (10, 11):
        assert one.push(day, profiles[day], now=11 * DAY_S)
    gathered = two.gather()
    assert ({"one": len(days[10]) + len(days[11])}, 0) == (gathered.gateways, gathered.n_unfit)
    expected = merge_all([_blank(days[10]), _blank(days[11])], FOLD)
    assert _plain(expected) == _plain(gathered.profiles)
    assert "" == "".join(gathered.profiles.digests.excerpt.to_pylist())
    assert 0 == one.gather().profiles.n_exchanges
    assert frozenset({10, 11}) == one.days()
    assert not one.push(10, profiles[10], now=41 * DAY_S + 1)


def test_unfit_parts(server: RedisServer) -> None:
    """Parts folded otherwise, forged or incomplete are left out and counted; the others count."""
    shared = SharedConfig(server.url, prefix=f"learning{next(_NUMBERS)}")
    small = [day_of(10, web=True)[:20]]
    profiles = fold([to_batch(small[0])], FOLD)
    other = structs.replace(FOLD, words_kept=8)
    for name, config in (("good", FOLD), ("torn", FOLD), ("forged", FOLD), ("odd", other)):
        _pool(shared, name, config).push(10, fold([to_batch(small[0])], config), now=11 * DAY_S)
    client = connect(shared, PASSWORD)
    sealed = client.get(shared.key("part", "forged 10"))
    client.set(shared.key("part", "forged 10"), Seal(b"i" * 32).close("part forged 10", sealed))
    content = SEAL.open("part torn 10", client.get(shared.key("part", "torn 10")))
    version = msgspec.msgpack.decode(content)["version"]
    client.delete(shared.key("piece", version, "0"))
    gathered = _pool(shared, "reader").gather()
    assert ({"good": 20}, 3) == (gathered.gateways, gathered.n_unfit)
    assert profiles.n_exchanges == gathered.profiles.n_exchanges
    client.close()


def _split(day: int, gateway: int) -> list[Exchange]:
    """What a balancer gives one of two gateways: every second exchange."""
    return day_of(day, web=True, members=sorted(WEB)[:16], n_each=2)[gateway::2]


def test_thin_campaign(gateways: Gateways, tmp_path: Path) -> None:
    """A campaign too thin on each gateway alone is found together, as by one that saw all."""
    configs = gateways(2)
    for number, config in enumerate(configs):
        write_journal(config.journal_path, [e for d in (10, 11) for e in _split(d, number)])
    alone = []
    for config in configs:
        learner = Learner(replace(config, shared=SharedConfig(), state=config.state))
        alone.append(learner.learn(12 * DAY_S).campaigns)
        learner.close()
        shutil.rmtree(config.profiles_path)
        config.verdict_path.unlink()
    whole = replace(configs[0], shared=SharedConfig(), state=tmp_path / "whole")
    whole.state.mkdir()
    every = [e for d in (10, 11) for n in (0, 1) for e in _split(d, n)]
    write_journal(whole.journal_path, every)
    learner = Learner(whole)
    expected = learner.learn(12 * DAY_S).campaigns
    learner.close()
    one, two = (Learner(config) for config in configs)
    assert "holder" == one.learn(12 * DAY_S).role
    follower = two.learn(12 * DAY_S)
    assert ("follower", ()) == (follower.role, follower.campaigns)
    learned = one.learn(12 * DAY_S)
    assert [(), ()] == alone
    assert ("holder", 1) == (learned.role, learned.others)
    assert [c.accounts for c in expected] == [c.accounts for c in learned.campaigns]
    assert frozenset(sorted(WEB)[:16]) == frozenset(learned.campaigns[0].accounts)
    assert [c.p_value for c in expected] == [c.p_value for c in learned.campaigns]
    two.learn(12 * DAY_S)
    assert one._table.load() == two._table.load()
    one.close()
    two.close()


def test_away_and_back(gateways: Gateways) -> None:
    """With Redis away a learner keeps what it folded and says so; then it puts up everything."""
    (config,) = gateways(1)
    write_journal(config.journal_path, [e for day in (9, 10) for e in day_of(day, web=True)])
    away = replace(config, shared=replace(config.shared, url="redis://127.0.0.1:1/0"))
    learner = Learner(away)
    with pytest.raises(EnvironmentUnfitError, match="Redis is away"):
        learner.learn(11 * DAY_S)
    learner.close()
    learner = Learner(config)
    learned = learner.learn(11 * DAY_S)
    assert ("holder", 0) == (learned.role, learned.n_folded)
    learner.close()
    sizes = [len(day_of(day, web=True)) for day in (9, 10)]
    assert sum(sizes) == _pool(config.shared, "reader").gather().profiles.n_exchanges
    # Forgotten in the journal and folded anew: what was put up of it goes too.
    erase_lines(config.journal_path, lambda _, raw: b'"d9-' in raw, dry_run=False)
    shutil.rmtree(config.profiles_path)
    learner = Learner(config)
    learner.learn(11 * DAY_S)
    learner.close()
    assert sizes[1] == _pool(config.shared, "reader").gather().profiles.n_exchanges


async def test_starts_without_redis(gateways: Gateways) -> None:
    """A gateway starts and answers without Redis, says so, and is in step once it is there."""
    (config,) = gateways(1)
    quiet = replace(config, learner=LearnerConfig(enabled=False))
    away = replace(quiet, shared=replace(config.shared, url="redis://127.0.0.1:1/0"))
    async with served(away) as gateway:
        assert 200 == (await gateway.ask())[0]
        assert gateway.state.metrics.value("shared_failures", what="verdicts") > 0
        assert gateway.state.shared is not None
        known = await gateway.state.shared.status()
        assert (False, None) == (known["reachable"], known["in_step_at"])
    async with served(quiet) as gateway:
        assert 200 == (await gateway.ask())[0]
        assert gateway.state.shared is not None
        known = await gateway.state.shared.status()
        assert (True, None) == (known["reachable"], known["finder"])
        assert known["in_step_at"] > 0


class Running:
    """A gateway in a process of its own."""

    def __init__(self, processes: ProcessGroup, name: str, config: GuardConfig) -> None:
        self.port = processes.start(name, run_gateway, config)
        self.pid = processes.pids[name]
        self.url = f"http://127.0.0.1:{self.port}"

    async def learn(self, until: float) -> Learned:
        """Learn now."""
        return msgspec.json.decode(await self.admin("learn", until=until), type=Learned)

    async def admin(self, route: str, **body: object) -> bytes:
        """Call an admin route."""
        headers = {"authorization": f"Bearer {SECRETS.admin_token}"}
        async with (
            aiohttp.ClientSession(headers=headers) as client,
            client.request(
                "POST" if body else "GET",
                f"{self.url}/stillwatch/admin/{route}",
                json=body or None,
            ) as response,
        ):
            return await response.read()

    async def ask(self, key: str) -> int:
        """Ask one question, tell the status."""
        body = {"model": "house-skills", "messages": [{"role": "user", "content": "roman 4"}]}
        async with (
            aiohttp.ClientSession(headers={"authorization": f"Bearer {key}"}) as client,
            client.post(f"{self.url}/v1/chat/completions", json=body) as response,
        ):
            return response.status


async def test_one_of_two_is_killed(gateways: Gateways) -> None:
    """The living gateway takes over, and acts on an account that only the dead one had seen."""
    configs = gateways(2)
    # The balancer is sticky: each gateway sees half of the web, too few to be found alone, and
    # `ann` asked only the first.
    web = sorted(WEB)[:18]
    names = {account: "ann" if n == 0 else account for n, account in enumerate(web)}
    until = time.time()
    later_s = (until // DAY_S - 12) * DAY_S  # the days before today, or the verdict has lapsed
    for number, config in enumerate(configs):
        mine = set(web[number::2]) | {f"p{n:03d}" for n in range(number, 80, 2)}
        days = (day_of(day, web=True, members=web) for day in (10, 11))
        rows = [e for rows in days for e in rows if e.account in mine]
        moved = [
            structs.replace(
                e, account=names.get(e.account, e.account), started_at=e.started_at + later_s
            )
            for e in rows
        ]
        write_journal(config.journal_path, moved)
    with ProcessGroup() as processes:
        starts = [asyncio.to_thread(Running, processes, f"g{n}", c) for n, c in enumerate(configs)]
        first, second = await asyncio.gather(*starts)
        roles = [(await gateway.learn(until)).role for gateway in (first, second)]
        assert ["holder", "follower"] == roles
        assert [200] * 3 == [await first.ask("key-ann") for _ in range(3)]
        os.kill(first.pid, signal.SIGKILL)
        async with asyncio.timeout(20):
            while (learned := await second.learn(until)).role != "holder":  # noqa: ASYNC110 - until the lease runs out
                await asyncio.sleep(0.1)
        assert 1 == learned.others
        assert frozenset(names.values()) == frozenset(learned.campaigns[0].accounts)
        assert [200, 429] == [await second.ask("key-ann") for _ in range(2)]
        again = await asyncio.to_thread(Running, processes, "again", configs[0])
        # What the dead one had answered last was in its journal; and it knows ann's verdict now.
        assert 3 == (await again.learn(time.time() + 60)).n_folded
        assert 429 == await again.ask("key-ann")
