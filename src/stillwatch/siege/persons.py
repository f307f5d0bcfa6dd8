"""Honest persons: topics, words, pace, hours and repeats that belong to one person and last.

How steady people are differs from person to person; docs/world.md compares it with real users.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillwatch.record.exchange import Message
from stillwatch.siege.habits import (
    PROSE_MODEL,
    SKILLS_MODEL,
    Client,
    Rhythm,
    draw_client_of,
    draw_rhythm,
)
from stillwatch.siege.prose import prose_question
from stillwatch.siege.skills import SKILLS, Item, is_held_out
from stillwatch.siege.voices import Voice, draw_voice, open_shelf, surround
from stillwatch.siege.wording import SYSTEMS, settle

#: How often people need a skill: weights of a Dirichlet, so most people need one or two of them.
_POPULARITY = {"date": 0.5, "roman": 0.45, "number": 0.2, "regex": 0.2}


@dataclass(frozen=True)
class Draft:
    """A question before anybody's name and time are on it.

    Attributes:
        model: the model asked for.
        messages: the conversation, in order; its last line is what the model reads.
        parameters: sampling parameters, without a seed.
        item_key: key of the item asked about; "" for prose.
    """

    model: str
    messages: tuple[Message, ...]
    parameters: dict[str, Any]
    item_key: str = ""


@dataclass(frozen=True)
class Person:
    """One honest person with lasting habits.

    Attributes:
        voice: how the person words things.
        rhythm: when the person asks.
        client: with what and from where.
        prose_share: share of questions that ask for prose (0..1).
        skills: skill -> share among the exact questions.
        forms: skill -> the surface forms that the person uses.
        systems: the person's system prompts, none for many.
        system_share: how often one of them is sent (0..1).
        repeats: how often an earlier question is asked again word for word (0..1).
    """

    voice: Voice
    rhythm: Rhythm
    client: Client
    prose_share: float
    skills: Mapping[str, float]
    forms: Mapping[str, tuple[int, ...]]
    systems: tuple[str, ...]
    system_share: float
    repeats: float


def draw_person(rng: np.random.Generator, *, topics: Sequence[str] = ()) -> Person:
    """Draw a person.

    Args:
        rng: draws every habit.
        topics: what the person is concerned with; empty draws one to three.

    Returns:
        The person.
    """
    shelf = open_shelf()
    if not topics:
        topics = list(rng.choice(shelf.topics, size=int(rng.integers(1, 4)), replace=False))
    voice = draw_voice(rng, topics)
    names = sorted(SKILLS)
    shares = rng.dirichlet([_POPULARITY.get(name, 0.2) for name in names])
    forms = {
        name: tuple(rng.integers(SKILLS[name].n_forms, size=int(rng.integers(1, 4))).tolist())
        for name in names
    }
    kind = rng.random()
    prose_share = 0.0 if kind < 0.15 else 1.0 if kind < 0.25 else float(rng.beta(1.2, 1.4))
    systems: list[str] = []
    if rng.random() < 0.42:
        # Most keep one system prompt for good, some one per kind of work.
        for _ in range(1 if rng.random() < 0.7 else int(rng.integers(2, 5))):
            chosen = rng.choice(len(SYSTEMS), size=int(rng.geometric(0.45)) % 5 or 1, replace=False)
            line = " ".join(SYSTEMS[i] for i in sorted(chosen.tolist()))
            systems.append(settle(line, rng, own=str(rng.choice(voice.nouns)), place=voice.place))
    return Person(
        voice=voice,
        rhythm=draw_rhythm(rng),
        client=draw_client_of(rng),
        prose_share=prose_share,
        skills=dict(zip(names, shares.tolist(), strict=True)),
        forms=forms,
        systems=tuple(systems),
        system_share=1.0 if rng.random() < 0.5 else float(rng.beta(2.0, 1.0)),
        repeats=float(rng.beta(0.5, 6.0)),
    )


class Writer:
    """Writes one person's questions, one after the other; remembers them to repeat some.

    Args:
        person: whose habits are followed.
        rng: the account's own generator.
    """

    def __init__(self, person: Person, rng: np.random.Generator) -> None:
        self._person = person
        self._rng = rng
        self._past: list[Draft] = []
        self._skills = list(person.skills)
        self._cumulated = np.cumsum(list(person.skills.values()))

    def write(self) -> Draft:
        """Write the next question.

        Returns:
            A new question, or an earlier one again.
        """
        rng, person = self._rng, self._person
        if self._past and rng.random() < person.repeats:
            return self._past[int(rng.random() * len(self._past))]
        draft = self._new()
        self._past = [*self._past[-11:], draft]
        return draft

    def _new(self) -> Draft:
        rng, person = self._rng, self._person
        if rng.random() < person.prose_share:
            corner = person.voice.corner
            asked = corner[int(rng.random() * len(corner))]
            line, key, model = prose_question(asked, rng), "", PROSE_MODEL
        else:
            item = self._item()
            line, key, model = item.question, item.key, SKILLS_MODEL
        text = surround(person.voice, line, rng, purpose="prose" if not key else "exact")
        messages: tuple[Message, ...] = (Message("user", text),)
        if person.systems and rng.random() < person.system_share:
            system = person.systems[int(rng.random() * len(person.systems))]
            messages = (Message("system", system), *messages)
        return Draft(model, messages, person.client.parameters(model), key)

    def _item(self) -> Item:
        place = int(np.searchsorted(self._cumulated, self._rng.random() * self._cumulated[-1]))
        name = self._skills[min(place, len(self._skills) - 1)]
        return draw_item(name, self._person.forms[name], self._rng)


def draw_item(skill: str, forms: Sequence[int], rng: np.random.Generator) -> Item:
    """Draw an open item of a skill in one of somebody's usual surface forms.

    Args:
        skill: name out of `SKILLS`.
        forms: indices of surface forms.
        rng: draws form and item.

    Returns:
        The item; never a held-out one.
    """
    while True:
        item = SKILLS[skill].draw(rng, forms[int(rng.random() * len(forms))])
        if not is_held_out(item):
            return item
