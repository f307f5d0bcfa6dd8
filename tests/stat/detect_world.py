"""Worlds of honest accounts, honest groups and webs, for the tests and benches of `detect`.

Everything about an account that lasts (topics, manners, hours, software) is drawn once, so that
people are themselves; a web works one queue. The truth is returned apart and detect never sees it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from detect_pools import Pool

from stillwatch.record.exchange import Exchange, Message

DAY = 86_400.0
_AGENTS = ("openai-python/1.54", "openai-node/4.70", "curl/8.5", "langchain/0.3", "litellm/1.51")
_MANNERS = (
    "", "hi, ", "please ", "quick question: ", "hey there ", "for my job: ", "I wonder, ",
    "urgent! ", "good day. ", "sorry to bother you, ", "help me out: ", "one more: ",
)  # fmt: skip
_OPEN = ("You are", "Act as", "Imagine that you are", "Take the part of", "Please behave like")
_ROLES = ("a patient teacher", "an expert solver", "a careful analyst", "a senior engineer")
_MIDDLE = (
    "and work through the task below", "who explains each step before the answer",
    "and reason in full about what follows", "and solve this exercise from start to end",
    "who never skips a step of the argument", "and give a worked solution to the item",
)  # fmt: skip
_CLOSE = (
    "Finish with the final answer on a line of its own.", "Show every step of the reasoning.",
    "Write the answer after the word Result.", "Be complete, do not shorten anything.",
    "Number the steps and end with a summary.", "State the answer once more at the end.",
)  # fmt: skip


@dataclass(frozen=True)
class WorldShape:
    """What a world holds; zero accounts leave a group out."""

    persons: int = 170
    class_size: int = 30
    company: int = 35
    agent_users: int = 25
    template_users: int = 20
    viral: int = 40
    harness: int = 4
    labeller: int = 6
    web: int = 100
    web_mode: str = "random"  # random | template | none
    web_load: float = 12.0
    dilution: float = 0.25
    templates: int = 5
    bare: float = 0.0  # share of the web's accounts that use no template
    days: int = 8
    reference_days: int = 8
    pace: float = 1.6  # questions an account and day, typically


@dataclass
class Account:
    """What lasts about an account."""

    name: str
    pool: Pool
    topics: tuple[int, ...]
    loyalty: float
    manner: str
    system: str
    agent: str
    network: str
    org: str
    hour: float
    pace: float
    parameters: dict[str, float]
    repeats: float
    past: list[str] = field(default_factory=list)

    def question(self, rng: np.random.Generator) -> str:
        """Ask something: an old question, one of one's own topics, or anything."""
        if self.past and rng.random() < self.repeats:
            return self.past[int(rng.integers(len(self.past)))]
        own = self.pool.of_topics(self.topics)
        texts = own if rng.random() < self.loyalty else self.pool.questions
        text = self.manner * int(rng.random() < 0.7) + texts[int(rng.integers(len(texts)))]
        self.past.append(text)
        return text


@dataclass
class DetectWorld:
    """A log, a reference and the truth."""

    reference: list[Exchange]
    live: list[Exchange]
    web: frozenset[str]
    groups: dict[str, frozenset[str]]
    harvest_ids: frozenset[str]


class _Builder:
    def __init__(self, rng: np.random.Generator, human: list[Pool], harvest: list[Pool]) -> None:
        self.rng, self.human, self.harvest = rng, human, harvest
        self.n = 0

    def pick(self, items):
        return items[int(self.rng.integers(len(items)))]

    def account(self, **fixed) -> Account:
        rng, self.n = self.rng, self.n + 1
        pool = self.pick(self.human)
        made = Account(
            name=f"acct_{int(rng.integers(16**10)):010x}",
            pool=pool,
            topics=tuple(
                int(t) for t in rng.integers(len(pool.topics), size=int(rng.integers(1, 4)))
            ),
            loyalty=float(rng.uniform(0.45, 0.95)),
            manner=self.pick(_MANNERS) + self.pick(_MANNERS),
            system=f"Answer {self.pick(self.human).questions[self.n % 99][:60]}"
            if rng.random() < 0.25
            else "",
            agent=self.pick(_AGENTS),
            network=f"net{int(rng.integers(400))}",
            org=f"org{self.n}",
            hour=float(rng.uniform(0, 24)),
            pace=float(rng.lognormal(0, 0.6)),
            parameters=self.pick([
                {},
                {},
                {"temperature": 0.7},
                {"temperature": 0.0},
                {"max_tokens": 512},
            ]),
            repeats=float(rng.beta(1, 9)),
        )
        return replace(made, **fixed)

    def template(self) -> str:
        return f"{self.pick(_OPEN)} {self.pick(_ROLES)} {self.pick(_MIDDLE)}. {self.pick(_CLOSE)}"

    def exchange(self, who: Account, when: float, text: str, system: str | None = None) -> Exchange:
        system = who.system if system is None else system
        turns = ((Message("system", system),) if system else ()) + (Message("user", text),)
        return Exchange(
            exchange_id=f"x{int(self.rng.integers(2**60)):x}", account=who.name, started_at=when,
            model="m", messages=turns, parameters=who.parameters, user_agent=who.agent,
            network_hash=who.network, org=who.org, input_tokens=len(text) // 4,
            output_tokens=int(self.rng.integers(20, 200)),
        )  # fmt: skip

    def times(self, who: Account, start: float, *, days: int, n: int) -> np.ndarray:
        """Sessions: a few days, near the account's own hour."""
        rng = self.rng
        day = rng.integers(days, size=max(n, 1))[:n]
        hour = (who.hour + rng.normal(0, 2.5, size=n)) % 24
        return np.sort(start + day * DAY + hour * 3600)


Asker = Callable[[Account], tuple[str, str | None]]


def build_detect_world(
    seed: int, *, human: list[Pool], harvest: list[Pool], shape: WorldShape | None = None
) -> DetectWorld:
    """Build a world: honest history, then live traffic with (or without) a web in it."""
    shape = shape or WorldShape()
    build = _Builder(np.random.default_rng(seed), human, harvest)
    rng = build.rng
    casts, groups = _casts(build, shape)
    spans = ((1.0e9, shape.reference_days), (1.0e9 + shape.reference_days * DAY, shape.days))
    logs: list[list[Exchange]] = []
    for start, days in spans:
        log = []
        for who, ask in casts:
            for when in build.times(
                who, start, days=days, n=int(rng.poisson(shape.pace * days * who.pace))
            ):
                text, system = ask(who)
                log.append(build.exchange(who, when, text, system))
        logs.append(log)
    web, harvest_ids = _web(build, shape, spans[1][0], log=logs[1])
    for log in logs:
        log.sort(key=lambda e: e.started_at)
    return DetectWorld(logs[0], logs[1], web, groups, harvest_ids)


def _casts(build: _Builder, shape: WorldShape):
    rng = build.rng
    casts: list[tuple[Account, Asker]] = []
    groups: dict[str, frozenset[str]] = {}

    def join(name: str, accounts: list[Account], ask: Asker) -> None:
        casts.extend((who, ask) for who in accounts)
        groups[name] = frozenset(who.name for who in accounts)

    def own(who: Account) -> tuple[str, str | None]:
        return who.question(rng), None

    worksheet = [build.pick(build.harvest[0].questions) for _ in range(18)]

    def at_school(who: Account) -> tuple[str, str | None]:
        if rng.random() < 0.6:
            return who.manner * int(rng.random() < 0.5) + build.pick(worksheet), None
        return who.question(rng), None

    frame = build.template()

    def templated(who: Account) -> tuple[str, str | None]:
        return (f"{frame}\n{who.question(rng)}" if rng.random() < 0.8 else who.question(rng)), None

    craze = (
        build.pick(build.human).questions[7]
        + " as a poem about my life, with three jokes and a moral"
    )

    def crazed(who: Account) -> tuple[str, str | None]:
        return (craze if rng.random() < 0.25 else who.question(rng)), None

    suite = [build.pick(build.harvest[-1].questions) for _ in range(60)]

    def evaluate(who: Account) -> tuple[str, str | None]:
        return f"Question: {build.pick(suite)}\nAnswer:", None

    stock = iter(rng.permutation(build.pick(build.human).questions).tolist() * 9)
    label = "Label the sentiment of the customer message as one of good, bad or mixed.\nMessage: "

    def labelling(who: Account) -> tuple[str, str | None]:
        return label + next(stock), None

    office = build.pick(build.human)
    staff = {
        "system": "You are the helper of Norfolk Freight. " + build.template(),
        "network": "nat",
    }
    tool = "You are an autonomous coding agent in a terminal. " + build.template()
    join("persons", [build.account() for _ in range(shape.persons)], own)
    join("class", [build.account() for _ in range(shape.class_size)], at_school)
    company = [build.account(pool=office, org="norfolk", **staff) for _ in range(shape.company)]
    for who in company:
        who.topics = tuple(int(t) for t in rng.integers(len(office.topics), size=2))
    join("company", company, own)
    join("agent", [build.account(system=tool) for _ in range(shape.agent_users)], own)
    join("template", [build.account() for _ in range(shape.template_users)], templated)
    join("viral", [build.account() for _ in range(shape.viral)], crazed)
    join("harness", [build.account(org="lab", pace=6.0) for _ in range(shape.harness)], evaluate)
    join(
        "labeller", [build.account(org="shop", pace=6.0) for _ in range(shape.labeller)], labelling
    )
    return casts, groups


def _web(build: _Builder, shape: WorldShape, start: float, *, log: list[Exchange]):
    rng = build.rng
    if shape.web_mode == "none" or not shape.web:
        return frozenset[str](), frozenset[str]()
    members = [build.account() for _ in range(shape.web)]
    frames = [build.template() for _ in range(shape.templates)]
    items = [q for pool in build.harvest for q in pool.questions]
    queue = iter(rng.permutation(len(items)).tolist() * 50)
    harvest = []
    for number, who in enumerate(members):
        n = int(rng.poisson(shape.web_load))
        for when in build.times(who, start + DAY, days=shape.days - 1, n=n):
            if rng.random() < shape.dilution:
                log.append(build.exchange(who, when, who.question(rng)))
                continue
            if number < shape.bare * shape.web:
                opening = build.pick(build.human).questions
                words = opening[int(rng.integers(len(opening)))].split()[:8]
                text = " ".join(words) + "\n" + items[next(queue)]
                log.append(build.exchange(who, when, text))
                harvest.append(log[-1].exchange_id)
                continue
            frame = (
                frames[number % len(frames)] if shape.web_mode == "template" else build.pick(frames)
            )
            log.append(build.exchange(who, when, f"{frame}\n{items[next(queue)]}"))
            harvest.append(log[-1].exchange_id)
    return frozenset(who.name for who in members), frozenset(harvest)
