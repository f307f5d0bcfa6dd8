"""Campaigns: many accounts that work one queue of questions worth training on.

A campaign has jobs; a job is a pool of items and an instruction drawn for this campaign alone.
Each item is handed out once a round. The levels of evasion add up: E1 hours and software like
people's, E2 networks and payments of each account's own, E3 every instruction in many wordings,
E4 items that honest people ask too, E5 most traffic from real customers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from stillwatch.siege.traffic.cast import Member
from stillwatch.siege.traffic.instructions import Frame, draw_instruction, paraphrase, word
from stillwatch.siege.traffic.persons import COVER, Asked, Asker, Writer, draw_person
from stillwatch.siege.traffic.seats import Seat
from stillwatch.siege.traffic.stage import Stage
from stillwatch.siege.traffic.times import DAY_S

#: Wordings of one instruction that a campaign has made at E3: what one call to a model gives.
_WORDINGS = 48
#: Accounts of a campaign that share one network, or one payment mark, below E2.
_PER_NETWORK, _PER_PAYMENT = 14, 11
#: Share of the questions that are asked again word for word: answers were cut off or refused.
_RETRIES = 0.025
_NUMBER = re.compile(r"\d+")
_PLACES = ("system", "before", "before", "around", "after")


@dataclass(frozen=True)
class Level:
    """What a campaign does not to be seen.

    Attributes:
        human_hours: asks at hours and in amounts like people's.
        own_clients: software and parameters of each account's own.
        own_places: networks, payments and sign-ups of each account's own.
        paraphrases: says each instruction in many wordings.
        matched: asks what honest people ask.
        dilution: share of its accounts' traffic that is other people's (0..1).
    """

    human_hours: bool = False
    own_clients: bool = False
    own_places: bool = False
    paraphrases: bool = False
    matched: bool = False
    dilution: float = 0.0


_E0 = Level()
_E1 = replace(_E0, human_hours=True, own_clients=True)
_E2 = replace(_E1, own_places=True)
_E3 = replace(_E2, paraphrases=True)
_E4 = replace(_E3, matched=True)
_E5 = replace(_E4, dilution=0.75)
LEVELS: dict[str, Level] = {"E0": _E0, "E1": _E1, "E2": _E2, "E3": _E3, "E4": _E4, "E5": _E5}


@dataclass(frozen=True)
class Order:
    """What campaign is wanted.

    Attributes:
        number: of the campaign in its world.
        size: accounts at a time (count).
        level: what it does not to be seen.
        partition: random, template or mixed: how jobs are spread over accounts.
        customers: strangers whose traffic one account carries, where it is diluted (count).
        raw: share of the questions asked without any instruction (0..1).
        turnover: share of the accounts that is banned and replaced each day (0..1).
        pathways: whether accounts come in classes, each with its own plan, software and job.
        pivot: when a new model comes out that the campaign turns to, or None.
    """

    number: int
    size: int
    level: Level
    partition: str
    customers: tuple[int, int] = (1, 1)
    raw: float = 0.0
    turnover: float = 0.0
    pathways: bool = False
    pivot: float | None = None


class Job:
    """A queue of items under one instruction; every item is handed out once a round.

    Args:
        items: the texts.
        frames: wordings of the instruction.
    """

    def __init__(self, items: Sequence[str], frames: Sequence[Frame]) -> None:
        self._items, self._frames = items, frames
        self._order: list[int] = []
        self._round = -1

    @property
    def n_items(self) -> int:
        """How many items a round has."""
        return len(self._items)

    def next(self, rng: Random, *, worker: int, raw: float) -> Asked:
        """Hand out the next item.

        Args:
            rng: shuffles a round, and draws the wording.
            worker: number of the account: it keeps one wording of a system prompt, as programs do.
            raw: share asked without the instruction (0..1).

        Returns:
            The question.
        """
        if not self._order:
            self._order = rng.sample(range(len(self._items)), len(self._items))
            self._round += 1
        text = self._items[self._order.pop()]
        if self._round:
            # Whoever runs out of items varies them: other numbers, the rest as it was.
            text = _NUMBER.sub(lambda found: _other_number(found.group(), rng), text)
        if raw and rng.random() < raw:
            return Asked("", text)
        frame = self._frames[int(rng.random() * len(self._frames))]
        if frame.system:
            frame = self._frames[worker % len(self._frames)]
        return Asked(frame.system, frame.wrap(text))


def _other_number(digits: str, rng: Random) -> str:
    return str(rng.randrange(10 ** (len(digits) - 1), 10 ** len(digits)))


class Worker:
    """Writes for one account: items of its jobs, and other people's questions between them.

    Args:
        number: of the account in its campaign.
        jobs: of the campaign, and how often each is worked by this account.
        cover: whose questions it carries besides.
        raw: share of items asked without the instruction (0..1).
    """

    def __init__(
        self,
        number: int,
        jobs: Sequence[tuple[Job, float]],
        *,
        cover: Sequence[Asker],
        raw: float,
    ) -> None:
        self._number, self._cover, self._raw = number, cover, raw
        self._jobs = [job for job, _ in jobs]
        self._weights = [weight for _, weight in jobs]
        self._last: Asked | None = None

    def ask(self, rng: Random, now: float, kind: int) -> Asked:
        """Write the next question; see `Asker.ask`.

        Args:
            rng: draws it.
            now: when it is asked.
            kind: COVER for somebody else's, otherwise the queue's next item.

        Returns:
            The question.
        """
        if kind == COVER:
            return self._cover[int(rng.random() * len(self._cover))].ask(rng, now, kind)
        if self._last is not None and rng.random() < _RETRIES:
            return self._last
        job = rng.choices(self._jobs, self._weights)[0]
        self._last = job.next(rng, worker=self._number, raw=self._raw)
        return self._last


def draw_jobs(stage: Stage, level: Level) -> list[Job]:
    """Draw what a campaign asks.

    Args:
        stage: what it is drawn from.
        level: says whether items are honest people's and instructions are reworded.

    Returns:
        Four to eight jobs.
    """
    rng = stage.rng
    pools = list(stage.pools.human if level.matched else stage.pools.harvest)
    rng.shuffle(pools)
    jobs = []
    for number in range(rng.randint(4, 8)):
        said = draw_instruction(rng, training=0.6, places=_PLACES, least=2)
        n_wordings = _WORDINGS if level.paraphrases else 1
        frames = [word(said, rng)] + [paraphrase(said, rng) for _ in range(n_wordings - 1)]
        jobs.append(Job(pools[number % len(pools)].questions, frames))
    return jobs


def draw_campaign(stage: Stage, order: Order, *, days: float, now: float) -> list[Member]:
    """Draw a campaign's accounts.

    Args:
        stage: what they are drawn from.
        order: what is wanted.
        days: live days (count).
        now: when they begin (UTC epoch seconds).

    Returns:
        The members; their volumes are relative to each other.
    """
    rng, level = stage.rng, order.level
    jobs = draw_jobs(stage, level)
    # A long list of items is worked longer than a short one.
    popularity = [rng.gammavariate(2.0, 1.0) * job.n_items**0.5 for job in jobs]
    lives = _lives(rng, order, days=days)
    seats = _seats(stage, order, len(lives))
    members = []
    for place, (seat, (born, gone)) in enumerate(zip(seats, lives, strict=True)):
        cover = [
            Writer(draw_person(rng, stage.pools.human, frames=_frames(stage)))
            for _ in range(rng.randint(*order.customers))
        ]
        own = place % len(jobs)
        weights = _weights(order.partition, popularity, own)
        moves = (float("inf"), 0.0)
        if order.pivot is not None:
            moves = (order.pivot + rng.random() * DAY_S, 0.5)
        volume = rng.lognormvariate(0.0, 0.9 if level.matched else 0.5) if level.human_hours else 1
        member = stage.member(
            _on_pathway(seat, own, rng) if order.pathways else seat,
            Worker(place, list(zip(jobs, weights, strict=True)), cover=cover, raw=order.raw),
            human=True,
        )
        # Some accounts were bought, or kept warm: they are as old as anybody's.
        aged = now - rng.expovariate(1.0 / 120.0) * DAY_S if rng.random() < 0.7 else None
        created = aged if aged is not None and level.human_hours else now + born * days * DAY_S
        dated = member.seat.with_row(created_at=min(created, now + born * days * DAY_S))
        members.append(
            replace(member, seat=dated, volume=volume, born=born, gone=gone, moves=moves,
                    is_early=False)
        )  # fmt: skip
    return members


def _frames(stage: Stage) -> list[Frame]:
    return [stage.frame() for _ in range(stage.rng.choice((0, 0, 1, 2)))]


def _weights(partition: str, popularity: Sequence[float], own: int) -> list[float]:
    if partition == "random":
        return list(popularity)
    weights = [0.0] * len(popularity)
    weights[own] = 1.0
    if partition == "mixed":
        total = sum(popularity)
        return [w + 0.5 * p / total for w, p in zip(weights, popularity, strict=True)]
    return weights


def _lives(rng: Random, order: Order, *, days: float) -> list[tuple[float, float]]:
    """Draw when each account begins and stops, as shares of the live days."""
    ramp = 0.02 if not order.level.human_hours else 0.35
    starts = [rng.random() * ramp for _ in range(order.size)]
    if not order.turnover:
        return [(born, 1.0) for born in starts]
    lives = []
    for begun in starts:
        born = begun
        while born < 1.0:
            gone = born + rng.expovariate(order.turnover * days)
            lives.append((born, min(gone, 1.0)))
            born = gone + rng.expovariate(24.0 * days / 6.0)  # a successor within hours
    return lives


def _seats(stage: Stage, order: Order, n: int) -> list[Seat]:
    town, rng = stage.town, stage.rng
    name = f"campaign-{order.number}"
    seats = [town.seat("campaign", group=name, campaign=order.number) for _ in range(n)]
    if order.level.own_places:
        return seats
    racks = [town.hashed("net") for _ in range(1 + n // _PER_NETWORK)]
    cards = [town.hashed("pay") for _ in range(1 + n // _PER_PAYMENT)]
    domains = [town.domain() for _ in range(1 + n // 40)]
    shape = town.seat("campaign")
    shared = []
    for seat in seats:
        rack = rng.choice(racks)
        moved = replace(seat, networks=(rack,))
        if not order.level.own_clients:
            moved = replace(
                moved, agents=shape.agents[:1], parameters=shape.parameters[:1],
                models=shape.models[:1], tools=None, usual=1.0, streamed=shape.streamed,
            )  # fmt: skip
        shared.append(
            moved.with_row(
                signup_network_hash=rack,
                payment_hash=rng.choice(cards),
                email_domain=rng.choice(domains),
            )
        )
    return shared


#: Ways in that a provider has: plan and software of each.
_PATHWAYS = (
    ("edu", "Mozilla/5.0 (web console)"),
    ("startup", "openai-python/1.58.1"),
    ("payg", "litellm/1.51.0"),
    ("enterprise", "openai-node/5.2.0"),
)


def _on_pathway(seat: Seat, own: int, rng: Random) -> Seat:
    plan, agent = _PATHWAYS[own % len(_PATHWAYS)]
    tools = f"tools_{rng.getrandbits(48):012x}" if plan == "enterprise" else None
    return replace(seat, agents=(agent,), usual=1.0, tools=tools).with_row(plan=plan)
