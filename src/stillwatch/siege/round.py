"""One round of the contest: the same world against the gateway, the wall off or on.

model server <- gateway <- driver (honest users and the campaign), each a process of its own but
the driver; the gateway's learner is one more. At the end of each simulated day the learner folds
the day and writes its verdicts, and only then the next day begins.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec

from stillwatch.errors import StillwatchError
from stillwatch.guard.config import GuardConfig, LearnerConfig, Secrets
from stillwatch.guard.gateway import run_gateway
from stillwatch.guard.keys import Issued, write_key_table
from stillwatch.guard.ladder import DAY_S, Ladder, LadderRule, Rung
from stillwatch.guard.learned import Learned
from stillwatch.record.exchange import Exchange
from stillwatch.record.privacy import KeyedHash
from stillwatch.record.store import compact, write_store
from stillwatch.siege.drive import DriveSummary, drive
from stillwatch.siege.folder import write_json, write_lines
from stillwatch.siege.processes import ProcessGroup
from stillwatch.siege.server_config import MarkConfig
from stillwatch.siege.settings import FIRST_DAY, SiegeSettings
from stillwatch.siege.watcher import Watcher
from stillwatch.siege.world import World, WorldConfig, build_world

#: The wall of the contest. Answers of the skills model are too short to carry a mark, so it is
#: throttled and then refused; prose can carry one, and the proof is worth more than a refusal.
RULES = (
    LadderRule(
        "house-skills",
        (Rung("throttle", limit_per_day=24, burst=4), Rung("block", after_s=7 * DAY_S)),
    ),
    LadderRule("house-prose", (Rung("watermark"),)),
)
HISTORY = "history"


@dataclass(frozen=True)
class SiegeKeys:
    """The keys of a run: derived from its seed, so that it repeats; good for nothing else.

    Attributes:
        hash_key: keys the hashes in the record.
        mark_secret: signs the gateway's orders to the model server.
        mark_master_key: the campaigns' watermark keys come from it.
        admin_token: opens the gateway's admin routes.
    """

    hash_key: bytes
    mark_secret: bytes
    mark_master_key: bytes
    admin_token: str

    @classmethod
    def of(cls, seed: int) -> SiegeKeys:
        """Derive the keys of a run.

        Args:
            seed: of the run.

        Returns:
            The keys.
        """

        def key(purpose: str) -> bytes:
            return hashlib.sha256(f"stillwatch siege {seed} {purpose}".encode()).digest()

        return cls(key("hash"), key("secret"), key("mark"), key("admin").hex())

    @property
    def marks(self) -> MarkConfig:
        """What the model server needs in order to mark; its orders carry simulated times."""
        return MarkConfig(self.mark_secret, self.mark_master_key, max_age_s=None)

    @property
    def secrets(self) -> Secrets:
        """What the gateway needs."""
        return Secrets(
            hash_key=self.hash_key,
            admin_token=self.admin_token,
            mark_secret=self.mark_secret,
            mark_master_key=self.mark_master_key,
        )


@dataclass(frozen=True)
class Round:
    """What a round left in memory; the rest is in its folder.

    Attributes:
        world: the world as it was played.
        record: what the campaign kept, in calendar order.
        driven: how the driving went.
    """

    world: World
    record: tuple[Exchange, ...]
    driven: DriveSummary


def world_config(settings: SiegeSettings) -> WorldConfig:
    """Choose the world of a run.

    Args:
        settings: seed and size.

    Returns:
        Its configuration.
    """
    if settings.size == "quick":
        return WorldConfig.quick(settings.seed)
    if settings.size == "tiny":
        return WorldConfig.tiny(settings.seed)
    return WorldConfig(seed=settings.seed)


def write_history(settings: SiegeSettings, run: Path) -> None:
    """Write the honest days before the contest, which detection is calibrated on.

    Args:
        settings: seed and size.
        run: the run's folder.
    """
    hasher = KeyedHash(SiegeKeys.of(settings.seed).hash_key)
    write_store(run / HISTORY, build_world(world_config(settings)).history(hasher))


def play_round(
    settings: SiegeSettings, run: Path, *, wall: bool, model_url: str, watcher: Watcher
) -> Round:
    """Play one round and write its record, its learnings and what the campaign kept.

    Args:
        settings: seed and size.
        run: the run's folder; the round is written to `off` or `on` in it.
        wall: whether verdicts are acted on.
        model_url: the model server.
        watcher: told how far it is.

    Returns:
        What the caller goes on with.
    """
    folder = run / ("on" if wall else "off")
    folder.mkdir(parents=True)
    keys = SiegeKeys.of(settings.seed)
    world = build_world(world_config(settings))
    config = _gateway_config(world, keys, folder=folder, wall=wall, model_url=model_url)
    with ProcessGroup() as processes:
        port = processes.start("gateway", run_gateway, config)
        base_url = f"http://127.0.0.1:{port}"
        learned: list[Learned] = []
        name = f"wall {'on' if wall else 'off'}: users and campaign ask"
        driven = asyncio.run(
            _drive(world, base_url, keys.admin_token, learned=learned, name=name, watcher=watcher)
        )
        processes.check()
    compact(config.journal_path, folder / "store")
    record = tuple(sorted(world.campaign.record, key=lambda x: (x.started_at, x.exchange_id)))
    write_lines(folder / "copier.jsonl", list(record))
    write_lines(folder / "learned.jsonl", list(learned))
    truth = world.truth()
    write_json(
        folder / "truth.json",
        {
            "accounts": truth.accounts,
            "requests": truth.requests,
            "retired": sorted(world.campaign.retired),
        },
    )
    return Round(world, record, driven)


def _gateway_config(
    world: World, keys: SiegeKeys, *, folder: Path, wall: bool, model_url: str
) -> GuardConfig:
    table = folder / "keys.jsonl"
    issued = [Issued(a.account, a.api_key, a.org) for a in world.accounts]
    write_key_table(table, issued, KeyedHash(keys.hash_key))
    return GuardConfig(
        upstream=model_url,
        state=folder,
        secrets=keys.secrets,
        port=0,
        keys=table,
        trusted_hops=1,
        simulation=True,
        ladder=Ladder(RULES, mode="enforce" if wall else "observe"),
        learner=LearnerConfig(
            every_s=0.0, reference=folder.parent / HISTORY, verdict_ttl_s=30 * DAY_S
        ),
    )


async def _drive(
    world: World,
    base_url: str,
    token: str,
    *,
    learned: list[Learned],
    name: str,
    watcher: Watcher,
) -> DriveSummary:
    plan = sorted(
        [*world.honest_plan(), *world.campaign.plan(base_url)],
        key=lambda planned: (planned.at, planned.request_id),
    )
    watcher.stage(name, total=len(plan))
    actors = dict.fromkeys(world.campaign.accounts, world.campaign)
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {token}"}) as session:

        async def on_day_end(until: float) -> None:
            answer = await _learn(session, base_url, until)
            learned.append(answer)
            if answer.campaigns and not (len(learned) > 1 and learned[-2].campaigns):
                day = round((until - FIRST_DAY) / DAY_S)
                named = sum(len(c.accounts) for c in answer.campaigns)
                watcher.say(f"  first alarm at the end of day {day}: {named} accounts named")

        return await drive(
            plan,
            actors,
            base_url=base_url,
            on_day_end=on_day_end,
            on_progress=lambda done, at: watcher.advance(name, done, _day(at)),
        )


def _day(at: float) -> str:
    return f"day {int((at - FIRST_DAY) // DAY_S) + 1}"


async def _learn(session: aiohttp.ClientSession, base_url: str, until: float) -> Learned:
    url = f"{base_url}/stillwatch/admin/learn"
    async with session.post(url, data=msgspec.json.encode({"until": until})) as response:
        body = await response.read()
        if response.status != 200:
            told = msgspec.json.decode(body)["error"]["message"]
            message = f"siege: the gateway could not learn: {told}"
            raise StillwatchError(message)
    return msgspec.json.decode(body, type=Learned)


def read_learned(folder: Path) -> list[Learned]:
    """Read what a round's learner found, day by day.

    Args:
        folder: the round's.

    Returns:
        One learning a simulated day.
    """
    lines: Iterator[bytes] = iter((folder / "learned.jsonl").read_bytes().splitlines())
    return [msgspec.json.decode(line, type=Learned) for line in lines]
