"""One round of the contest: the same world against the gateway, the wall off or on.

model server <- gateway <- driver (honest users and the campaign), each a process of its own but
the driver; the gateway's learner is one more. At the end of each simulated day the learner folds
the day and writes its verdicts, and only then the next day begins.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import msgspec

from stillwatch.errors import EnvironmentUnfitError, StillwatchError
from stillwatch.guard.config import GuardConfig, LearnerConfig, Secrets
from stillwatch.guard.keys import Issued, write_key_table
from stillwatch.guard.learning.learned import Learned
from stillwatch.guard.wall.challenge import ChallengeConfig
from stillwatch.guard.wall.ladder import DAY_S, Ladder, LadderRule, Rung
from stillwatch.record.exchange import Exchange
from stillwatch.record.privacy import KeyedHash
from stillwatch.record.store import compact, count_exchanges, write_store
from stillwatch.siege.asking import Planned
from stillwatch.siege.drive import DriveSummary, drive
from stillwatch.siege.folder import write_json, write_lines
from stillwatch.siege.server_config import MarkConfig
from stillwatch.siege.settings import FIRST_DAY, SiegeSettings
from stillwatch.siege.watcher import Watcher
from stillwatch.siege.world import World, WorldConfig

#: The wall of the contest. Answers of the skills model are too short to carry a mark, so it is
#: throttled and then refused; prose can carry one, and the proof is worth more than a refusal.
RULES = (
    LadderRule(
        "house-skills",
        (Rung("throttle", limit_per_day=24, burst=4), Rung("block", after_s=7 * DAY_S)),
    ),
    LadderRule("house-prose", (Rung("watermark"),)),
)
#: The two rounds of the contest: what would be done is only noted, or done.
WALLS: Mapping[str, Ladder] = {"off": Ladder(RULES), "on": Ladder(RULES, mode="enforce")}
HISTORY = "history"
#: Where a challenged account would be sent; nobody goes there in a simulation.
_CHALLENGE_PAGE = "https://verify.example/{request_id}"
#: Questions under way at a time: twice the driver's own choice fills the model server's batches.
WINDOW = 128


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
    """A round about to be played.

    Attributes:
        folder: where its record goes.
        world: the world, fresh: a played one has other accounts left.
        gateway: how its gateway is set up.
        token: opens the gateway's admin routes.
        learned: what the learner found, day by day, as the round goes on.
        driven: how the driving went, once it is over.
    """

    folder: Path
    world: World
    gateway: GuardConfig
    token: str
    learned: list[Learned] = field(default_factory=list)
    driven: list[DriveSummary] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name of its folder, off or on."""
        return self.folder.name


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


def prepare_round(
    settings: SiegeSettings, folder: Path, *, world: World, model_url: str, ladder: Ladder
) -> Round:
    """Set a round's gateway up.

    Args:
        settings: for the keys.
        folder: where the round is written.
        world: fresh, for this round alone.
        model_url: the model server.
        ladder: what the gateway does to campaigns.

    Returns:
        The round.
    """
    folder.mkdir(parents=True)
    keys = SiegeKeys.of(settings.seed)
    config = _gateway_config(world, keys, folder=folder, model_url=model_url, ladder=ladder)
    return Round(folder, world, config, keys.admin_token)


def write_history(prepared: Round) -> None:
    """Write the honest days before the contest, which detection is calibrated on.

    Args:
        prepared: any round of the run; they share the past.
    """
    hasher = KeyedHash(prepared.gateway.secrets.hash_key)
    write_store(prepared.folder.parent / HISTORY, prepared.world.history(hasher))


def play_rounds(rounds: Mapping[str, Round], watcher: Watcher) -> None:
    """Play rounds side by side; each has its own address, and none hears of another.

    Args:
        rounds: gateway address -> the round behind it.
        watcher: told how far they are together.

    Raises:
        EnvironmentUnfitError: nobody listens at an address.
        StillwatchError: a gateway cannot learn.
    """
    plans = {url: _plan(prepared, url) for url, prepared in rounds.items()}
    name = "users and campaign ask, with the wall off and on"
    watcher.stage(name, total=sum(map(len, plans.values())))
    done = dict.fromkeys(rounds, 0)

    def told(url: str, count: int, at: float) -> None:
        done[url] = count
        watcher.advance(name, sum(done.values()), _day(at))

    async def play() -> None:
        async with asyncio.TaskGroup() as together:
            for url, prepared in rounds.items():
                on_progress = functools.partial(told, url)
                together.create_task(
                    _drive(prepared, plans[url], url, on_progress=on_progress, watcher=watcher)
                )

    try:
        asyncio.run(play())
    except ExceptionGroup as failed:
        # One round's failure cancels the other; the first says why.
        raise failed.exceptions[0] from None


def write_round(played: Round) -> tuple[Exchange, ...]:
    """Write what a round left: its record, its learnings, the truth, what the campaign kept.

    Args:
        played: the round, its gateway stopped.

    Returns:
        What the campaign kept, in calendar order.

    Raises:
        EnvironmentUnfitError: the gateway's record lacks questions that were asked.
    """
    campaign, truth = played.world.campaign, played.world.truth()
    compact(played.gateway.journal_path, played.folder / "store")
    asked = sum(summary.asked for summary in played.driven)
    recorded = count_exchanges(played.folder / "store")
    if recorded != asked:
        # The gateway serves on when it cannot write; a report must not rest on half a record.
        message = f"siege: the record holds {recorded:,} of the {asked:,} questions asked"
        raise EnvironmentUnfitError(message, hint="is the disk full or slow to fail?")
    record = tuple(sorted(campaign.record, key=lambda x: (x.started_at, x.exchange_id)))
    write_lines(played.folder / "copier.jsonl", list(record))
    write_lines(played.folder / "learned.jsonl", list(played.learned))
    told = {"accounts": truth.accounts, "requests": truth.requests}
    write_json(played.folder / "truth.json", told | {"retired": sorted(campaign.retired)})
    return record


def _gateway_config(
    world: World, keys: SiegeKeys, *, folder: Path, model_url: str, ladder: Ladder
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
        ladder=ladder,
        challenge=ChallengeConfig(url=_CHALLENGE_PAGE),
        learner=LearnerConfig(
            every_s=0.0, reference=folder.parent / HISTORY, verdict_ttl_s=30 * DAY_S
        ),
    )


def _plan(prepared: Round, base_url: str) -> list[Planned]:
    world = prepared.world
    return sorted(
        [*world.honest_plan(), *world.campaign.plan(base_url)],
        key=lambda planned: (planned.at, planned.request_id),
    )


async def _drive(
    prepared: Round,
    plan: list[Planned],
    base_url: str,
    *,
    on_progress: Callable[[int, float], None],
    watcher: Watcher,
) -> None:
    campaign, learned = prepared.world.campaign, prepared.learned
    actors = dict.fromkeys(campaign.accounts, campaign)
    headers = {"authorization": f"Bearer {prepared.token}"}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def on_day_end(until: float) -> None:
            learned.append(await _learn(session, base_url, until))
            if learned[-1].campaigns and not any(one.campaigns for one in learned[:-1]):
                named = sum(len(c.accounts) for c in learned[-1].campaigns)
                watcher.say(
                    f"  wall {prepared.name}: first alarm at the end of {_day(until - 1.0)}, "
                    f"{named} accounts named"
                )

        summary = await drive(
            plan,
            actors,
            base_url=base_url,
            window=WINDOW,
            on_day_end=on_day_end,
            on_progress=on_progress,
        )
    prepared.driven.append(summary)


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
    # How long it took is the machine's affair, and would keep a run from repeating.
    learned = msgspec.json.decode(body, type=Learned)
    return msgspec.structs.replace(learned, seconds=0.0)


def read_learned(folder: Path) -> list[Learned]:
    """Read what a round's learner found, day by day.

    Args:
        folder: the round's.

    Returns:
        One learning a simulated day.
    """
    lines: Iterator[bytes] = iter((folder / "learned.jsonl").read_bytes().splitlines())
    return [msgspec.json.decode(line, type=Learned) for line in lines]
