"""Scenarios S1 to S9: honest traffic, look-alikes and campaigns, as a provider's log has them.

    traffic = build_traffic(Scenario("S3", evasion="E2", seed=7), Path("data"))
    for batch in traffic.batches(): ...

Everything is drawn from the scenario: two builds give the same bytes. The truth is kept apart.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stillwatch.errors import reject
from stillwatch.logs.accounts import AccountTable
from stillwatch.siege.traffic.campaigns import LEVELS, Level, Order, draw_campaign
from stillwatch.siege.traffic.cast import Member
from stillwatch.siege.traffic.lookalikes import CROWDED, ORDINARY, groups
from stillwatch.siege.traffic.plans import Load, plan_traffic
from stillwatch.siege.traffic.pools import SEED_BASE, Pools, load_pools
from stillwatch.siege.traffic.rows import Plan, write_rows
from stillwatch.siege.traffic.seats import Town
from stillwatch.siege.traffic.stage import Stage, persons
from stillwatch.siege.traffic.times import DAY_S, load_arrivals

#: When the live days begin: a Monday, 2026-03-02 00:00 UTC.
LIVE_FROM = 1_772_409_600.0
NAMES = ("S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9")
#: Scenarios that are about honest traffic: no campaign unless one is asked for.
_WITHOUT = ("S8", "S9")


@dataclass(frozen=True)
class Scenario:
    """What traffic is wanted.

    Attributes:
        name: S1 one account's window mixed with harvest, S2 a lone copier, S3 a web, S4 a hydra
            (every account carries several customers), S5 several pathways, S6 ban and replace,
            S7 a release, S8 look-alikes, S9 a new feature and a drift.
        evasion: E0 to E5; each level has what the one before it has (`campaigns.LEVELS`).
        seed: of everything.
        n_honest: honest accounts (count).
        n_campaign: accounts of all campaigns together at a time; None takes as many as give each
            about the traffic of an honest account, 0 leaves campaigns out.
        share: campaigns' part of the live exchanges, cover traffic included (0..1).
        families: "tuning" or "report": which pools, and which seeds.
        dilution: share of campaign accounts' traffic that is other people's; None takes the
            scenario's and the level's own.
        partition: random, template or mixed: how the jobs of a queue are spread over accounts.
        n_campaigns: campaigns at once (count).
        raw: share of the harvest asked without any instruction (0..1).
        days: live days (count).
        history_days: days of honest traffic before (count).
        per_account: live exchanges of an honest account, on average.
        tainted: campaigns' part of the history, for what a dirty reference costs (0..1).
    """

    name: str = "S3"
    evasion: str = "E1"
    seed: int = 0
    n_honest: int = 1_500
    n_campaign: int | None = None
    share: float = 0.05
    families: str = "tuning"
    dilution: float | None = None
    partition: str = "random"
    n_campaigns: int = 1
    raw: float = 0.0
    days: int = 14
    history_days: int = 14
    per_account: float = 30.0
    tainted: float = 0.0

    def __post_init__(self) -> None:
        checks = (
            ("name", f"among {', '.join(NAMES)}", self.name in NAMES),
            ("evasion", f"among {', '.join(LEVELS)}", self.evasion in LEVELS),
            ("families", "tuning or report", self.families in SEED_BASE),
            ("partition", "random, template or mixed",
             self.partition in ("random", "template", "mixed")),
            ("n_honest", "20 or more", self.n_honest >= 20),
            ("seed", "0 or greater", self.seed >= 0),
            ("share", "at least 0 and below 1", 0.0 <= self.share < 1.0),
            ("tainted", "at least 0 and below 1", 0.0 <= self.tainted < 1.0),
            ("raw", "between 0 and 1", 0.0 <= self.raw <= 1.0),
            ("dilution", "at least 0 and below 1",
             self.dilution is None or 0.0 <= self.dilution < 1.0),
            ("days", "1 or more", self.days >= 1),
            ("history_days", "1 or more", self.history_days >= 1),
            ("n_campaigns", "1 or more", self.n_campaigns >= 1),
        )  # fmt: skip
        for name, rule, holds in checks:
            if not holds:
                reject("traffic", name, rule, got=getattr(self, name))

    @property
    def campaign_accounts(self) -> int:
        """Accounts of all campaigns together, at a time."""
        if self.n_campaign is not None:
            return self.n_campaign
        if self.name in _WITHOUT or not self.share:
            return 0
        if self.name in ("S1", "S2"):
            return self.n_campaigns
        like_honest = self.campaign_exchanges / (0.8 * self.per_account)
        return max(8 * self.n_campaigns, round(like_honest))

    @property
    def campaign_exchanges(self) -> int:
        """Live exchanges of all campaigns together, cover included."""
        return round(self.n_honest * self.per_account * self.share / (1.0 - self.share))


class Truth(NamedTuple):
    """Who is what; for scoring only, never read by a detector.

    Attributes:
        exchange_ids: ids of the live exchanges in the order of time, shape (n,).
        kind: 0 honest, 1 harvest, 2 cover, shape (n,).
        campaign: number of the campaign that the exchange belongs to, -1 for none, shape (n,).
        accounts: ids of the accounts, shape (m,).
        roles: role of each, shape (m,).
        groups: look-alike group or campaign of each, "" for neither, shape (m,).
        campaigns: number of each one's campaign, -1 for none, shape (m,).
    """

    exchange_ids: NDArray[np.str_]
    kind: NDArray[np.int8]
    campaign: NDArray[np.int64]
    accounts: NDArray[np.str_]
    roles: NDArray[np.str_]
    groups: NDArray[np.str_]
    campaigns: NDArray[np.int64]

    def campaign_members(self, number: int | None = None) -> frozenset[str]:
        """List the accounts of a campaign.

        Args:
            number: of the campaign; None takes all campaigns.

        Returns:
            Their ids.
        """
        wanted = self.campaigns >= 0 if number is None else self.campaigns == number
        return frozenset(self.accounts[wanted].tolist())

    def harvest_ids(self, number: int | None = None) -> frozenset[str]:
        """List the harvest exchanges of a campaign.

        Args:
            number: of the campaign; None takes all campaigns.

        Returns:
            Their ids.
        """
        wanted = self.kind == 1
        if number is not None:
            wanted &= self.campaign == number
        return frozenset(self.exchange_ids[wanted].tolist())

    def table(self) -> pa.Table:
        """Give the truth of every live exchange as a table.

        Returns:
            Columns exchange_id, kind, campaign.
        """
        return pa.table({
            "exchange_id": pa.array(self.exchange_ids.tolist(), pa.string()),
            "kind": pa.array(self.kind),
            "campaign": pa.array(self.campaign),
        })


class Traffic:
    """A built scenario.

    Args:
        scenario: what was wanted.
        pools: the questions.
    """

    def __init__(self, scenario: Scenario, pools: Pools) -> None:
        self.scenario = scenario
        self._pools = pools
        self._arrivals = load_arrivals(pools.arrivals)
        cast: list[Member] = self._cast()
        # Planning asks nobody anything, so the first reading may use the same cast.
        self._unused: list[Member] | None = cast
        self._live = self._plan(cast, is_history=False)
        self._past = self._plan(cast, is_history=True)
        seen = np.unique(np.concatenate([self._live.member, self._past.member])).tolist()
        self.accounts_table = AccountTable({cast[i].seat.account: cast[i].seat.row for i in seen})
        self.truth = _truth(cast, self._live, seen)

    def __len__(self) -> int:
        return len(self._live)

    @property
    def _seed(self) -> int:
        # The name and the level go in too: two scenarios of one seed share no account.
        text = f"{self.scenario.name} {self.scenario.evasion} {self.scenario.partition}"
        return SEED_BASE[self.scenario.families] + self.scenario.seed + zlib.crc32(text.encode())

    def _plan(self, cast: list[Member], *, is_history: bool) -> Plan:
        scenario = self.scenario
        honest = scenario.n_honest * scenario.per_account
        days, campaign = scenario.days, scenario.campaign_exchanges
        if is_history:
            early = sum(member.is_early for member in cast) / scenario.n_honest
            days, honest = scenario.history_days, honest * early * scenario.history_days / days
            campaign = round(honest * scenario.tainted / (1.0 - scenario.tainted))
        load = Load(
            start=LIVE_FROM - days * DAY_S if is_history else LIVE_FROM,
            days=days,
            honest=honest,
            campaign=campaign,
            level=_level(scenario),
            is_history=is_history,
        )
        rng = np.random.default_rng([self._seed, 2, is_history])
        seed = 2 * self._seed + is_history
        return plan_traffic(cast, load, arrivals=self._arrivals, rng=rng, seed=seed)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Write the live exchanges, in the order of time.

        Yields:
            Batches of the store's schema; every call gives the same bytes.
        """
        rng = Random(self._seed * 4 + 1)
        yield from write_rows(self._live, self._fresh_cast(), arrivals=self._arrivals, rng=rng)

    def history(self) -> Iterator[pa.RecordBatch]:
        """Write the exchanges of the days before: honest traffic, unless `tainted` says otherwise.

        Yields:
            Batches of the store's schema; every call gives the same bytes.
        """
        rng = Random(self._seed * 4 + 2)
        yield from write_rows(self._past, self._fresh_cast(), arrivals=self._arrivals, rng=rng)

    def _fresh_cast(self) -> list[Member]:
        cast, self._unused = self._unused, None
        return self._cast() if cast is None else cast

    def _cast(self) -> list[Member]:
        scenario = self.scenario
        rng = Random(self._seed * 4 + 3)
        n_accounts = scenario.n_honest + scenario.campaign_accounts
        stage = Stage(
            self._pools,
            self._arrivals,
            Town(rng, n_accounts, LIVE_FROM),
            rng,
            np.random.default_rng([self._seed, 1]),
        )
        middle = LIVE_FROM + 0.45 * scenario.days * DAY_S
        shares = dict(CROWDED if scenario.name == "S8" else ORDINARY)
        if scenario.name == "S9":
            shares |= {"feature": 0.2, "drift": 0.25}
        sizes = {role: round(share * scenario.n_honest) for role, share in shares.items()}
        members = groups(stage, sizes, since=middle)
        members += persons(stage, scenario.n_honest - len(members))
        if scenario.name == "S7":
            members = [_adopts(member, rng, middle) for member in members]
        for order in _orders(scenario, middle):
            members += draw_campaign(stage, order, days=scenario.days, now=LIVE_FROM)
        return [_opened(member, rng, scenario.days) for member in members]


def build_traffic(scenario: Scenario, data: Path | Pools) -> Traffic:
    """Build a scenario.

    Args:
        scenario: what is wanted.
        data: folder with human/, harvest/ and arrivals/, or pools already read.

    Returns:
        The traffic; its texts are written when it is read.

    Raises:
        InvalidInputError: the folder lacks a pool.
    """
    pools = data if isinstance(data, Pools) else load_pools(Path(data), scenario.families)
    return Traffic(scenario, pools)


def _orders(scenario: Scenario, middle: float) -> list[Order]:
    total, n = scenario.campaign_accounts, scenario.n_campaigns
    if not total:
        return []
    level = _level(scenario)
    customers = (2, 6) if scenario.name == "S4" or scenario.evasion == "E5" else (1, 1)
    # Campaigns at once are of different sizes: each half as large as the one before it, at most.
    parts = np.array([0.6**number for number in range(n)])
    sizes = np.maximum(1, np.round(total * parts / parts.sum())).astype(int).tolist()
    return [
        Order(
            number=number,
            size=size,
            level=level,
            partition="template" if scenario.name == "S5" else scenario.partition,
            customers=customers,
            raw=scenario.raw,
            turnover=0.05 if scenario.name == "S6" else 0.0,
            pathways=scenario.name == "S5",
            pivot=middle if scenario.name == "S7" else None,
        )
        for number, size in enumerate(sizes)
    ]


def _level(scenario: Scenario) -> Level:
    level = LEVELS[scenario.evasion]
    dilution = level.dilution
    if scenario.name in ("S1", "S4"):
        dilution = max(dilution, 0.75)
    if scenario.dilution is not None:
        dilution = scenario.dilution
    return replace(level, dilution=dilution)


def _opened(member: Member, rng: Random, days: int) -> Member:
    """Date the opening of an honest account that begins in the live days."""
    if member.born <= 0.0 or member.seat.campaign >= 0:
        return member
    created = LIVE_FROM + member.born * days * DAY_S - rng.expovariate(1.0 / 7_200.0)
    return replace(member, seat=member.seat.with_row(created_at=created))


def _adopts(member: Member, rng: Random, released: float) -> Member:
    """Let an honest account turn to a new model in its own time, or never."""
    if rng.random() < 0.2:
        return member
    return replace(
        member, moves=(released + rng.expovariate(1.0 / 2.5) * DAY_S, rng.betavariate(1.2, 1.2))
    )


def _truth(cast: list[Member], live: Plan, seen: list[int]) -> Truth:
    campaign = np.array([member.seat.campaign for member in cast], dtype=np.int64)
    seats = [cast[i].seat for i in seen]
    return Truth(
        exchange_ids=live.exchange_ids,
        kind=live.kind,
        campaign=campaign[live.member],
        accounts=np.array([seat.account for seat in seats]),
        roles=np.array([seat.role for seat in seats]),
        groups=np.array([seat.group for seat in seats]),
        campaigns=np.array([seat.campaign for seat in seats], dtype=np.int64),
    )
