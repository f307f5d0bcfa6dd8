"""The world of a siege: honest accounts, their past, and a campaign among them.

Everything is drawn from one seed. The truth (who is what) is kept apart from what the gateway is
told, and never travels with a question.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from stillwatch.errors import reject
from stillwatch.guard.keys import KEY_KIND
from stillwatch.record.exchange import Exchange
from stillwatch.record.privacy import KeyedHash
from stillwatch.siege import groups, seats
from stillwatch.siege.copier import Campaign, CampaignSizes, open_campaign
from stillwatch.siege.drive import Planned
from stillwatch.siege.habits import PROSE_MODEL
from stillwatch.siege.seats import Account, Seat
from stillwatch.siege.settings import DAY_S, FIRST_DAY


@dataclass(frozen=True)
class WorldConfig:
    """A world's sizes.

    Attributes:
        seed: of everything that is drawn.
        days: live days.
        history_days: days of honest traffic before the first live day.
        scale: size of the honest population; 1.0 is 300 accounts in the live days.
        honest_exchanges: honest exchanges in the live days (count).
        history_exchanges: exchanges in the days before (count).
        campaign: sizes of the campaign.
    """

    seed: int = 0
    days: int = 14
    history_days: int = 14
    scale: float = 1.0
    honest_exchanges: int = 7_100
    history_exchanges: int = 6_500
    campaign: CampaignSizes = field(default_factory=CampaignSizes)

    def __post_init__(self) -> None:
        if self.seed < 0:
            reject("siege.world", "seed", "0 or greater", got=self.seed)
        if not 0.1 <= self.scale <= 100.0:
            reject("siege.world", "scale", "between 0.1 and 100", got=self.scale)
        if self.campaign.days != self.days:
            reject("siege.world", "campaign.days", f"{self.days}, as days", got=self.campaign.days)

    @classmethod
    def quick(cls, seed: int = 0) -> WorldConfig:
        """Choose about a third of the default world, in eight days.

        Args:
            seed: of everything that is drawn.

        Returns:
            The configuration.
        """
        campaign = CampaignSizes(workers=60, skill_questions=800, prose_questions=700, days=8)
        return cls(
            seed=seed,
            days=8,
            history_days=8,
            scale=0.5,
            honest_exchanges=2_500,
            history_exchanges=2_500,
            campaign=campaign,
        )

    @classmethod
    def tiny(cls, seed: int = 0) -> WorldConfig:
        """Choose a world of three days, big enough to go through every motion.

        Args:
            seed: of everything that is drawn.

        Returns:
            The configuration.
        """
        campaign = CampaignSizes(
            workers=12, skill_questions=80, prose_questions=60, first_day=0.5, days=3
        )
        return cls(
            seed=seed,
            days=3,
            history_days=3,
            scale=0.1,
            honest_exchanges=200,
            history_exchanges=200,
            campaign=campaign,
        )


@dataclass(frozen=True)
class Truth:
    """Who is what; for scoring only.

    Attributes:
        accounts: account id -> campaign, or the honest role (person, class, company ...).
        requests: request id -> harvest, dilution or honest.
    """

    accounts: dict[str, str]
    requests: dict[str, str]

    @property
    def campaign_accounts(self) -> frozenset[str]:
        """The accounts of the campaign."""
        return frozenset(a for a, role in self.accounts.items() if role == "campaign")


class World:
    """A built world.

    Args:
        accounts: every account that the gateway must know, sorted by id.
        roles: account id -> role.
        past: the questions of the days before.
        present: the honest questions of the live days.
        campaign: the campaign.
    """

    def __init__(
        self,
        accounts: Sequence[Account],
        roles: dict[str, str],
        *,
        past: Sequence[Planned],
        present: Sequence[Planned],
        campaign: Campaign,
    ) -> None:
        self.accounts = tuple(accounts)
        self.campaign = campaign
        self._roles = roles
        self._past, self._present = tuple(past), tuple(present)

    def honest_plan(self) -> list[Planned]:
        """Give the honest questions of the live days.

        Returns:
            Questions in calendar order, kind "honest".
        """
        return list(self._present)

    def history(self, keyed_hash: KeyedHash) -> Iterator[Exchange]:
        """Give the honest traffic of the days before, as a gateway would have recorded it.

        Answers are absent: nobody was asked. Token counts are estimates from lengths.

        Args:
            keyed_hash: the gateway's own, so that addresses hash as they do live.

        Yields:
            Exchanges in calendar order.
        """
        org_of = {a.account: a.org for a in self.accounts}
        for planned in self._past:
            yield as_exchange(planned, org_of[planned.account], keyed_hash)

    def truth(self) -> Truth:
        """Tell who is what; questions that the campaign asked again are included so far.

        Returns:
            The truth.
        """
        requests = {p.request_id: "honest" for p in (*self._past, *self._present)}
        return Truth(dict(self._roles), requests | self.campaign.kinds)


def build_world(config: WorldConfig) -> World:
    """Draw a world.

    Args:
        config: seed and sizes.

    Returns:
        The world; the same for the same configuration and Python version.
    """
    root = np.random.default_rng([config.seed, 0x5EED])
    people, copiers = root.spawn(2)
    past: list[Planned] = []
    present: list[Planned] = []
    accounts: list[Account] = []
    roles: dict[str, str] = {}
    for group, share in seat_everyone(config, people):
        for seat, before, live in _quotas(config, group, share):
            account = Account.draw(people, seat.org)
            accounts.append(account)
            roles[account.account] = seat.role
            asked = _live(seat, account, counts=(before, live), config=config, rng=people)
            past += asked[:before]
            present += asked[before:]
    campaign = open_campaign(config.campaign, copiers, start=FIRST_DAY)
    for worker in campaign.workers:
        accounts.append(worker.account)
        roles[worker.account.account] = "campaign"
    accounts.sort(key=lambda account: account.account)
    past.sort(key=lambda planned: planned.at)
    present.sort(key=lambda planned: planned.at)
    return World(accounts, roles, past=past, present=present, campaign=campaign)


def seat_everyone(
    config: WorldConfig, rng: np.random.Generator
) -> list[tuple[list[Seat], tuple[float, float]]]:
    """Seat all honest accounts.

    Args:
        config: sizes.
        rng: draws everybody.

    Returns:
        Groups, each with its shares of the exchanges of the past and of the live days.
    """

    def n(count: int) -> int:
        return max(2, round(count * config.scale))

    before, last = -float(config.history_days), float(config.days)
    always, new = (before, last), (1.0, last)
    return [
        (seats.seat_persons(n(175), rng, days=config.days), (0.52, 0.49)),
        (groups.seat_class(n(22), rng, first_day=before + 2.0, sheet="Sheet 4"), (0.08, 0.0)),
        (groups.seat_class(n(24), rng, first_day=0.2 * last, sheet="Worksheet B7"), (0.0, 0.08)),
        (groups.seat_company(n(22), rng, span=always), (0.09, 0.09)),
        (groups.seat_agent_users(n(16), rng, span=always, name=groups.AGENTS[0]), (0.06, 0.05)),
        (groups.seat_agent_users(n(12), rng, span=new, name=groups.AGENTS[1]), (0.0, 0.04)),
        (groups.seat_template_users(n(20), rng, span=always, number=0), (0.06, 0.06)),
        (groups.seat_viral(n(22), rng, first_day=0.6 * before, number=0), (0.05, 0.0)),
        (groups.seat_viral(n(30), rng, first_day=0.35 * last, number=1), (0.0, 0.055)),
        (seats.seat_harness(2, rng, span=always), (0.08, 0.08)),
        (seats.seat_labeller(rng, span=always, skill="roman"), (0.06, 0.025)),
        (seats.seat_labeller(rng, span=new, skill="date"), (0.0, 0.03)),
    ]


def as_exchange(planned: Planned, org: str | None, keyed_hash: KeyedHash) -> Exchange:
    """Write a planned question as a record of the past: answered, the answer not kept.

    Args:
        planned: the question.
        org: who pays for the account.
        keyed_hash: hashes key and address.

    Returns:
        The exchange; token counts estimated at 3.5 characters a token.
    """
    n_in = 4 + sum(len(m.content) for m in planned.messages) * 2 // 7
    n_out = 26 if planned.model == PROSE_MODEL else 8
    n_out = min(n_out, int(planned.parameters.get("max_tokens", n_out)))
    return Exchange(
        exchange_id=planned.request_id,
        account=planned.account,
        started_at=planned.at,
        first_output_at=planned.at + 0.4,
        ended_at=planned.at + 0.4 + 0.02 * n_out,
        model=planned.model,
        model_returned=planned.model,
        messages=planned.messages,
        parameters={k: v for k, v in planned.parameters.items() if k != "stream"},
        input_tokens=n_in,
        output_tokens=n_out,
        streamed=bool(planned.parameters.get("stream", False)),
        org=org,
        key_hash=keyed_hash.hash(KEY_KIND, planned.api_key),
        ip_hash=keyed_hash.address(planned.source_ip),
        network_hash=keyed_hash.network(planned.source_ip),
        user_agent=planned.user_agent,
        origin="history",
    )


def _quotas(
    config: WorldConfig, group: Sequence[Seat], share: tuple[float, float]
) -> Iterator[tuple[Seat, int, int]]:
    """Divide a group's exchanges over its seats, by weight and by days present."""

    def divide(total: float, window: tuple[float, float]) -> list[int]:
        days = [max(0.0, min(s.span[1], window[1]) - max(s.span[0], window[0])) for s in group]
        weights = np.array([s.weight * d**0.7 for s, d in zip(group, days, strict=True)])
        if not weights.sum():
            return [0] * len(group)
        exact = total * weights / weights.sum()
        return [max(1, round(e)) if d else 0 for e, d in zip(exact.tolist(), days, strict=True)]

    before = divide(config.history_exchanges * share[0], (-float(config.history_days), 0.0))
    live = divide(config.honest_exchanges * share[1], (0.0, float(config.days)))
    for seat, n_before, n_live in zip(group, before, live, strict=True):
        if n_before + n_live:
            yield seat, n_before, n_live


def _live(
    seat: Seat,
    account: Account,
    *,
    counts: tuple[int, int],
    config: WorldConfig,
    rng: np.random.Generator,
) -> list[Planned]:
    """Live an account's past and present: the questions in the order of their times."""
    first, last = seat.span
    times: list[float] = []
    for count, window in zip(counts, ((-config.history_days, 0), (0, config.days)), strict=True):
        begin, end = max(first, window[0]), min(last, window[1])
        if count:
            within = (FIRST_DAY + begin * DAY_S, FIRST_DAY + end * DAY_S)
            times += seat.rhythm.occasions(count, within, rng)
    return [account.ask(seat.source.write(), at=t, client=seat.client, rng=rng) for t in times]
