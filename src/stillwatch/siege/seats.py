"""Seats: one account's use of the models, for private people and for honest machines.

Machines here are honest: an evaluation harness that asks the same list every night, and a batch
labeller that works through a catalogue of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from stillwatch.record.exchange import Message
from stillwatch.siege.drive import Planned
from stillwatch.siege.habits import (
    PROSE_MODEL,
    SKILLS_MODEL,
    Client,
    Rhythm,
    draw_addresses,
    draw_client_of,
)
from stillwatch.siege.persons import Draft, Writer, draw_item, draw_person
from stillwatch.siege.skills import SKILLS
from stillwatch.siege.wording import draw_place


@dataclass(frozen=True)
class Account:
    """What the gateway knows of an account before it is used.

    Attributes:
        account: account id.
        api_key: the key that authenticates it; valid in the simulation only.
        org: the organisation that pays, or None.
    """

    account: str
    api_key: str
    org: str | None

    @classmethod
    def draw(cls, rng: np.random.Generator, org: str | None) -> Account:
        """Open an account.

        Args:
            rng: draws id and key; neither tells who opened it.
            org: the organisation that pays, or None.

        Returns:
            The account.
        """
        return cls(f"acct_{rng.bytes(6).hex()}", f"sk-sim-{rng.bytes(16).hex()}", org)

    def ask(self, draft: Draft, *, at: float, client: Client, rng: np.random.Generator) -> Planned:
        """Put name, time and place on a draft.

        Args:
            draft: the question.
            at: when it is asked (UTC epoch s).
            client: with what and from where.
            rng: draws software, address and ids; prose gets a seed of its own, so that a sampled
                answer repeats.

        Returns:
            The planned question, kind "honest".
        """
        parameters = dict(draft.parameters)
        if draft.model == PROSE_MODEL:
            parameters["seed"] = int(rng.integers(2**31))
        agent, address = client.pick(rng)
        return Planned(
            at=at,
            account=self.account,
            api_key=self.api_key,
            model=draft.model,
            messages=draft.messages,
            parameters=parameters,
            item_key=draft.item_key,
            user_agent=agent,
            source_ip=address,
            request_id=f"req_{rng.bytes(8).hex()}",
        )


class Source(Protocol):
    """Whatever writes an account's questions."""

    def write(self) -> Draft:
        """Write the account's next question."""
        ...


@dataclass(frozen=True)
class Seat:
    """One account's use: who asks, with what, how much and when.

    Attributes:
        role: the truth: person, class, company, agent, template, viral, harness or labeller.
        org: the organisation that pays, or None.
        source: writes the questions, in the order of their times.
        rhythm: when they are asked.
        client: with what and from where.
        weight: volume relative to other seats of the role.
        span: days (from, to) relative to the first live day; negative days are history.

    """

    role: str
    org: str | None
    source: Source
    rhythm: Rhythm
    client: Client
    weight: float
    span: tuple[float, float]


def join(span: tuple[float, float], rng: np.random.Generator) -> tuple[float, float]:
    """Let a member of a standing group begin later than the group, as a third of them do.

    Args:
        span: days of the group, from and to.
        rng: draws whether and when.

    Returns:
        Days of the member.
    """
    first, last = span
    if rng.random() < 0.35:
        first = max(first, float(rng.uniform(0.0, 0.8 * last)))
    return first, last


class Listed:
    """Questions from a list or an endless stream, asked in order.

    Args:
        drafts: the list; asked from the start again when it ends.
    """

    def __init__(self, drafts: Sequence[Draft] | Iterator[Draft]) -> None:
        self._drafts, self._place = drafts, 0

    def write(self) -> Draft:
        """Give the next question.

        Returns:
            The draft.
        """
        if isinstance(self._drafts, Sequence):
            self._place += 1
            return self._drafts[(self._place - 1) % len(self._drafts)]
        return next(self._drafts)


def seat_persons(n: int, rng: np.random.Generator, *, days: int) -> list[Seat]:
    """Seat private people.

    Args:
        n: how many.
        rng: spawns a generator for each.
        days: live days; two in five people come first during them, one in eight leaves.

    Returns:
        One seat each.
    """
    seats = []
    for own in rng.spawn(n):
        person = draw_person(own)
        org = f"{draw_place(own)}" if own.random() < 0.3 else None
        span = (-99.0, 99.0)
        kind = own.random()
        if kind < 0.42:
            span = (float(own.uniform(0.0, 0.8 * days)), 99.0)
        elif kind < 0.54:
            span = (-99.0, float(own.uniform(-0.6 * days, 0.8 * days)))
        weight = float(own.lognormal(0.0, 0.8))
        source = Writer(person, own)
        seats.append(Seat("person", org, source, person.rhythm, person.client, weight, span))
    return seats


def seat_harness(n: int, rng: np.random.Generator, *, span: tuple[float, float]) -> list[Seat]:
    """Seat evaluation harnesses: the same list of questions at the same hour, every day.

    Args:
        n: keys; all of one organisation, each with a list of its own.
        rng: draws the lists.
        span: days of use.

    Returns:
        One seat a key.
    """
    org, addresses = draw_place(rng), draw_addresses(rng)[:1]
    seats = []
    for own in rng.spawn(n):
        client = replace(draw_client_of(own), addresses=addresses, user_agents=("evalbench/2.4",))
        drafts = []
        for number in range(20):
            name = sorted(SKILLS)[int(own.integers(len(SKILLS)))]
            item = draw_item(name, range(SKILLS[name].n_forms), own)
            text = f"[{name} suite, case {number + 1:03}] Respond with the final answer only.\n"
            messages = (Message("user", text + item.question),)
            drafts.append(Draft(SKILLS_MODEL, messages, client.parameters(SKILLS_MODEL), item.key))
        rhythm = Rhythm((2.0, 2.0), 0.02, 1.0, 8.0, 20.0)
        seats.append(Seat("harness", org, Listed(drafts), rhythm, client, 1.0, span))
    return seats


def seat_labeller(rng: np.random.Generator, *, span: tuple[float, float], skill: str) -> list[Seat]:
    """Seat a batch labeller: one key of one firm that works through a catalogue of its own.

    Args:
        rng: draws firm and catalogue.
        span: days of use.
        skill: what the catalogue needs.

    Returns:
        One seat.
    """
    own = rng.spawn(1)[0]
    client, place = draw_client_of(own), draw_place(own)

    def catalogue() -> Iterator[Draft]:
        number = int(own.integers(1000, 9000))
        while True:
            number += 1
            item = draw_item(skill, range(SKILLS[skill].n_forms), own)
            text = f"{place}, catalogue card {number}. Normalise the entry for the index.\n"
            messages = (Message("user", text + item.question),)
            yield Draft(SKILLS_MODEL, messages, client.parameters(SKILLS_MODEL), item.key)

    hours = float(own.uniform(0.0, 24.0))
    rhythm = Rhythm((hours, hours), 1.0, 0.3, 20.0, 25.0)
    return [Seat("labeller", place, Listed(catalogue()), rhythm, client, 1.0, span)]
