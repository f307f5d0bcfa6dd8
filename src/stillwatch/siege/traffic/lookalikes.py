"""Honest groups that look like webs and are none: they must not be named.

Every group shares something that a web shares too: wording, items, networks, software or a start.
What they ask around it is their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

from stillwatch.siege.traffic.cast import Member
from stillwatch.siege.traffic.instructions import Frame, draw_instruction, word
from stillwatch.siege.traffic.manners import TONGUES
from stillwatch.siege.traffic.persons import Asked, Asker, Person, Writer, draw_person
from stillwatch.siege.traffic.stage import Stage

#: Share of the honest accounts in each role in an ordinary world; the rest are persons.
ORDINARY: dict[str, float] = {
    "company_nat": 0.05, "agent": 0.06, "classroom": 0.04, "harness": 0.006, "labelling": 0.008,
    "template": 0.05, "viral": 0.04, "feature": 0.04, "reseller": 0.03, "plugin": 0.03,
    "drift": 0.0,
}  # fmt: skip
#: Where look-alikes are the subject, they are two thirds of the accounts.
CROWDED: dict[str, float] = {
    "company_nat": 0.16, "agent": 0.14, "classroom": 0.10, "harness": 0.01, "labelling": 0.015,
    "template": 0.10, "viral": 0.06, "feature": 0.06, "reseller": 0.05, "plugin": 0.06,
    "drift": 0.0,
}  # fmt: skip
#: Accounts of one group at most; a role with more accounts has several groups.
_GROUP_SIZE: dict[str, int] = {
    "company_nat": 200, "agent": 150, "classroom": 32, "harness": 12, "labelling": 8,
    "template": 80, "viral": 150, "feature": 150, "reseller": 100, "plugin": 60, "drift": 200,
}  # fmt: skip


class Sharer:
    """A person who now and then asks something that others ask too.

    Args:
        person: the person.
        share: how often (0..1).
        shared: writes what is shared, given the person's own text and the time; None declines.
    """

    def __init__(
        self, person: Person, share: float, shared: Callable[[str, Random, float], Asked | None]
    ) -> None:
        self._writer, self._share, self._shared = Writer(person), share, shared

    def ask(self, rng: Random, now: float, kind: int) -> Asked:
        """Write the next question; see `Asker.ask`.

        Args:
            rng: draws it.
            now: when it is asked.
            kind: not used.

        Returns:
            The question.
        """
        if rng.random() < self._share:
            shared = self._shared(self._writer.compose(rng), rng, now)
            if shared is not None:
                return shared
        return self._writer.ask(rng, now, kind)


def _company(stage: Stage, name: str, n: int) -> list[Member]:
    """Many keys of one organisation behind one address, with the house's system prompt."""
    rng, town = stage.rng, stage.town
    frame, nat, card = stage.frame(), town.hashed("net"), town.hashed("pay")
    org, domain = town.hashed("org"), town.domain()
    office = [rng.choice(stage.pools.human)]
    members = []
    for _ in range(n):
        seat = replace(town.seat("company_nat", group=name), networks=(nat,))
        seat = seat.with_row(org=org, payment_hash=card, plan="enterprise", kyc_level=3,
                             email_domain=domain, signup_network_hash=nat)  # fmt: skip
        person = draw_person(rng, office, frames=[frame])
        person = replace(person, framed=rng.uniform(0.7, 1.0))
        members.append(stage.member(seat, Writer(person)))
    return members


def _agent(stage: Stage, name: str, n: int) -> list[Member]:
    """Strangers who use one open-source agent: its system prompt, its tools, its name."""
    rng, town = stage.rng, stage.town
    said = draw_instruction(rng, training=0.5, places=("system",))
    frame, tools, brand = word(said, rng), town.hashed("tools"), town.brand()
    members = []
    for _ in range(n):
        seat = replace(
            town.seat("agent", group=name), tools=tools, agents=(f"{brand}/1.4",), usual=1.0
        )
        pools = stage.pools.harvest if rng.random() < 0.4 else stage.pools.human
        person = replace(draw_person(rng, pools, frames=[frame]), framed=rng.uniform(0.8, 1.0))
        members.append(stage.member(seat, Writer(person)))
    return members


def _classroom(stage: Stage, name: str, n: int) -> list[Member]:
    """A class with one worksheet; each student also asks for him- or herself."""
    rng, town = stage.rng, stage.town
    pool = rng.choice(stage.pools.harvest)
    topic = pool.topics[int(rng.random() * len(pool.topics))]
    sheet = [pool.questions[rng.choice(topic)] for _ in range(rng.randint(8, 20))]
    school, hour, domain = town.hashed("net"), rng.uniform(7, 20), town.domain()

    def shared(own: str, draws: Random, now: float) -> Asked:
        text = sheet[int(draws.random() * len(sheet))]
        return Asked("", text if draws.random() < 0.6 else f"{text}\n{own[:120]}")

    members = []
    for _ in range(n):
        seat = town.seat("classroom", group=name)
        if rng.random() < 0.6:
            seat = replace(seat, networks=(school, *seat.networks[:1]), usual=0.6)
        seat = seat.with_row(plan="edu", email_domain=domain)
        asker = Sharer(draw_person(rng, stage.pools.human), rng.uniform(0.3, 0.8), shared)
        member = stage.member(seat, asker)
        members.append(
            replace(member, rhythm=member.rhythm._replace(hour=hour + rng.gauss(0, 1.0)))
        )
    return members


class _Stock:
    """Works through a list, one item after the other, in rounds; shared by a group's members."""

    def __init__(self, items: Sequence[str], frame: Frame) -> None:
        self._items, self._frame, self._order = items, frame, list[int]()

    def ask(self, rng: Random, now: float, kind: int) -> Asked:
        if not self._order:
            self._order = rng.sample(range(len(self._items)), len(self._items))
        return Asked(self._frame.system, self._frame.wrap(self._items[self._order.pop()]))


def _harness(stage: Stage, name: str, n: int) -> list[Member]:
    """Laboratories that run one public suite again and again: the very items a copier asks."""
    rng = stage.rng
    pool = rng.choice(stage.pools.harvest)
    suite = rng.sample(pool.questions, min(len(pool.questions), rng.randint(80, 400)))
    frame = stage.frame(training=0.5)
    members: list[Member] = []
    while len(members) < n:
        keys = min(rng.randint(1, 4), n - len(members))
        members += _crew(stage, name, keys, role="harness", asker=_Stock(suite, frame))
    return members


def _labelling(stage: Stage, name: str, n: int) -> list[Member]:
    """A firm with a list to work through from several keys: messages to label, or to answer.

    Those that answer look passages up first and send them along.
    """
    rng = stage.rng
    items = rng.choice(stage.pools.human).questions
    if rng.random() < 0.4:
        items = tuple(
            f"{text}\n\n" + "\n".join(f"[{i}] {rng.choice(items)[:300]}" for i in (1, 2, 3))
            for text in rng.sample(items, min(len(items), 1_500))
        )
    return _crew(stage, name, n, role="labelling", asker=_Stock(items, stage.frame()))


def _plugin(stage: Stage, name: str, n: int) -> list[Member]:
    """Unrelated shops that run one ready-made program: one wording, narrow questions, own keys.

    The hardest honest group: what their questions have of their own is little.
    """
    rng, town = stage.rng, stage.town
    pool, frame, brand = rng.choice(stage.pools.human), stage.frame(training=0.3), town.brand()
    topics = rng.sample(pool.topics, min(len(pool.topics), 12))
    members = []
    for _ in range(n):
        seat = town.seat("plugin", group=name)
        seat = replace(seat, agents=(f"{brand}/2.0",), usual=1.0, parameters=("{}",))
        rows = tuple(row for _ in range(2) for row in rng.choice(topics))
        person = draw_person(rng, [pool], frames=[frame], is_program=True)
        person = replace(person, rows=rows, framed=1.0, pastes=0.2)
        members.append(stage.member(seat, Writer(person), human=False))
    return members


def _crew(stage: Stage, name: str, n: int, *, role: str, asker: Asker) -> list[Member]:
    town = stage.town
    nets, card = (town.cloud(), town.cloud()), town.hashed("pay")
    parameters = town.seat(role).parameters[:1]
    org, domain = town.hashed("org"), town.domain()
    members = []
    for _ in range(n):
        seat = replace(town.seat(role, group=name), networks=nets, parameters=parameters)
        seat = seat.with_row(org=org, payment_hash=card, kyc_level=3, plan="team",
                             email_domain=domain)  # fmt: skip
        volume = 4.0 * stage.rng.lognormvariate(0.0, 0.5)
        members.append(replace(stage.member(seat, asker, human=False), volume=volume))
    return members


def _template(stage: Stage, name: str, n: int) -> list[Member]:
    """Strangers who use one public prompt around their own questions."""
    public = stage.rng.choice(stage.pools.public.questions)[:900]
    return _framed(stage, name, n, role="template", frame=Frame("", f"{public}\n\n", ""))


def _framed(stage: Stage, name: str, n: int, *, role: str, frame: Frame) -> list[Member]:
    rng = stage.rng

    def shared(own: str, draws: Random, now: float) -> Asked:
        return Asked(frame.system, frame.wrap(own))

    return [
        stage.member(
            stage.town.seat(role, group=name),
            Sharer(draw_person(rng, stage.pools.human), rng.uniform(0.3, 1.0), shared),
        )
        for _ in range(n)
    ]


def _viral(stage: Stage, name: str, n: int) -> list[Member]:
    """One prompt that everybody tries within a few days, with little changes."""
    rng = stage.rng
    craze = f"{stage.rng.choice(stage.pools.public.questions)[:300]} {stage.frame().wrap('')}"

    def shared(own: str, draws: Random, now: float) -> Asked:
        return Asked("", f"{craze} {own[:60]}" if draws.random() < 0.6 else craze)

    return [
        stage.member(
            stage.town.seat("viral", group=name),
            Sharer(draw_person(rng, stage.pools.human), rng.uniform(0.05, 0.4), shared),
        )
        for _ in range(n)
    ]


def _feature(stage: Stage, name: str, n: int, *, since: float) -> list[Member]:
    """A button that the provider adds: from that day on it words many strangers' questions."""
    rng = stage.rng
    frame = stage.frame()

    def shared(own: str, draws: Random, now: float) -> Asked | None:
        return Asked(frame.system, frame.wrap(own)) if now >= since else None

    return [
        stage.member(
            stage.town.seat("feature", group=name),
            Sharer(draw_person(rng, stage.pools.human), rng.uniform(0.2, 0.9), shared),
        )
        for _ in range(n)
    ]


def _reseller(stage: Stage, name: str, n: int) -> list[Member]:
    """A declared reseller's end users: its system prompt, its servers, their own questions."""
    rng, town = stage.rng, stage.town
    frame = word(draw_instruction(rng, training=0.3, places=("system",)), rng)
    servers, card = tuple(town.hashed("net") for _ in range(3)), town.hashed("pay")
    brand = town.brand()
    members = []
    for _ in range(n):
        seat = replace(town.seat("reseller", group=name), networks=servers, usual=0.4,
                       agents=(f"{brand}/3",))  # fmt: skip
        seat = seat.with_row(reseller_id=brand, payment_hash=card, plan="reseller",
                             signup_network_hash=servers[0])  # fmt: skip
        person = replace(draw_person(rng, stage.pools.human, frames=[frame]), framed=1.0)
        members.append(stage.member(seat, Writer(person)))
    return members


class _Drifter:
    """A person who changes subject, and perhaps language, on a day of the live period."""

    def __init__(
        self, before: Person, after: Person, *, since: float, tongue: dict[str, str]
    ) -> None:
        self._before, self._after = Writer(before), Writer(after)
        self._since, self._tongue = since, tongue

    def ask(self, rng: Random, now: float, kind: int) -> Asked:
        if now < self._since:
            return self._before.ask(rng, now, kind)
        asked = self._after.ask(rng, now, kind)
        words = [self._tongue.get(word.lower(), word) for word in asked.text.split(" ")]
        return Asked(asked.system, " ".join(words))


def _drift(stage: Stage, name: str, n: int, *, since: float) -> list[Member]:
    """People whose subject and manner change at about the same time, each to something else."""
    rng = stage.rng
    return [
        stage.member(
            stage.town.seat("drift", group=name),
            _Drifter(
                draw_person(rng, stage.pools.human),
                draw_person(rng, [*stage.pools.human, *stage.pools.harvest]),
                since=since + rng.gauss(0.0, 86_400.0),
                tongue=rng.choice((*TONGUES, {}, {}, {})),
            ),
        )
        for _ in range(n)
    ]


_MAKERS: dict[str, Callable[[Stage, str, int], list[Member]]] = {
    "company_nat": _company,
    "agent": _agent,
    "classroom": _classroom,
    "harness": _harness,
    "labelling": _labelling,
    "template": _template,
    "viral": _viral,
    "reseller": _reseller,
    "plugin": _plugin,
}


def groups(stage: Stage, sizes: dict[str, int], *, since: float) -> list[Member]:
    """Draw the look-alike groups.

    Args:
        stage: what they are drawn from.
        sizes: role -> accounts (count).
        since: when the new feature comes and the drift begins (UTC epoch seconds).

    Returns:
        The members.
    """
    members: list[Member] = []
    for role, total in sizes.items():
        left = total
        while left > 0:
            n = min(left, _GROUP_SIZE[role])
            name = f"{role}-{stage.rng.getrandbits(20):05x}"
            if role == "feature":
                members += _feature(stage, name, n, since=since)
            elif role == "drift":
                members += _drift(stage, name, n, since=since)
            else:
                members += _MAKERS[role](stage, name, n)
            left -= n
    return members
