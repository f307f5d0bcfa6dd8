"""Honest groups: people who look alike for a good reason, and so must not be named.

A class with one worksheet, a company with one system prompt behind one address, users of one
agent, users of one prompt template, people who try one viral prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from stillwatch.record.exchange import Message
from stillwatch.siege.habits import (
    PROSE_MODEL,
    SKILLS_MODEL,
    Client,
    Rhythm,
    draw_client_of,
)
from stillwatch.siege.persons import Draft, Person, Writer, draw_item, draw_person
from stillwatch.siege.prose import prose_question
from stillwatch.siege.seats import Listed, Seat, join
from stillwatch.siege.skills import SKILLS
from stillwatch.siege.voices import open_shelf, surround
from stillwatch.siege.wording import draw_place

TEMPLATES = (
    "Act as a seasoned {own} specialist who has advised {place} for years. Take a slow breath, "
    "picture the reader, and give your very best work.\n{text}",
    "I want you to be my {own} coach. I will hand you a piece, you will return it improved; my "
    "first piece for {place} follows.\n{text}",
)
AGENTS = ("Pagewright", "Tidyfold", "Marginalia")
VIRALS = (
    "You are a lighthouse keeper who has not slept for three nights. Finish what the sea began:",
    "Speak as the last librarian on Mars and tell the children how it really went:",
)


class Framed:
    """A person's questions inside a frame that a whole group shares.

    Args:
        person: who fills the frame.
        rng: the account's own generator.
        system: the shared system prompt, or None.
        frame: the shared text around the person's words, with `{place}`, `{own}` and `{text}`.
        share: how often the frame is used (0..1).
    """

    def __init__(
        self,
        person: Person,
        rng: np.random.Generator,
        *,
        system: str | None = None,
        frame: str = "{text}",
        share: float = 1.0,
    ) -> None:
        self._voice = person.voice
        self._writer = Writer(replace(person, systems=()) if system else person, rng)
        self._rng, self._system, self._frame, self._share = rng, system, frame, share

    def write(self) -> Draft:
        """Write the person's next question, mostly inside the frame.

        Returns:
            The draft; its last line is the person's.
        """
        draft = self._writer.write()
        if self._rng.random() >= self._share:
            return draft
        *before, last = draft.messages
        framed = self._frame.replace("{place}", self._voice.place).replace("{own}", self._voice.own)
        messages = (*before, Message("user", framed.replace("{text}", last.content)))
        if self._system is not None:
            messages = (Message("system", self._system), *messages)
        return replace(draft, messages=messages)


class Trying:
    """A person who now and then tries the prompt that everybody talks about.

    Args:
        person: who tries it.
        rng: the account's own generator.
        prompt: the viral lines above the question.
        share: how often (0..1).
    """

    def __init__(
        self, person: Person, rng: np.random.Generator, *, prompt: str, share: float
    ) -> None:
        self._person, self._rng = person, rng
        self._writer = Writer(person, rng)
        self._prompt, self._share = prompt, share

    def write(self) -> Draft:
        """Write a question of the person's own, or the viral one.

        Returns:
            The draft.
        """
        if self._rng.random() >= self._share:
            return self._writer.write()
        corner = self._person.voice.corner
        line = prose_question(corner[int(self._rng.random() * len(corner))], self._rng)
        messages = (Message("user", f"{self._prompt}\n{line}"),)
        return Draft(PROSE_MODEL, messages, self._person.client.parameters(PROSE_MODEL))


def seat_class(n: int, rng: np.random.Generator, *, first_day: float, sheet: str) -> list[Seat]:
    """Seat a class that works through one worksheet for a week.

    Args:
        n: pupils.
        rng: draws the worksheet and the pupils.
        first_day: first lesson, in days from the first live day.
        sheet: the worksheet's heading.

    Returns:
        One seat a pupil; the campus address is shared by most.
    """
    campus = [f"10.9.{int(rng.integers(256))}.{int(rng.integers(2, 250))}" for _ in range(2)]
    hours = float(rng.uniform(7.0, 16.0))
    topic = open_shelf().topics[int(rng.integers(len(open_shelf().topics)))]
    exercises = [_exercise(rng, number=number, sheet=sheet, topic=topic) for number in range(1, 25)]
    seats = []
    for own in rng.spawn(n):
        person = draw_person(own, topics=[topic])
        client = replace(person.client, addresses=(campus[0], *person.client.addresses[:1]))
        rhythm = Rhythm((hours, hours + 8.0), 0.5, 0.6, person.rhythm.pace_s, 6.0)
        source = Listed(_homework(person, client, exercises, rng=own))
        span = (first_day, first_day + 7.0)
        seats.append(Seat("class", None, source, rhythm, client, 1.0, span))
    return seats


def _exercise(
    rng: np.random.Generator, *, number: int, sheet: str, topic: str
) -> tuple[str, str, str]:
    """Draw one exercise: the lines of the sheet, model, key."""
    head = f"{sheet}, exercise {number}."
    if number % 5 == 0:
        shelf = open_shelf().passages[topic]
        line = prose_question(shelf[int(rng.integers(len(shelf)))], rng)
        return f"{head} Go on in your own words.\n{line}", PROSE_MODEL, ""
    name = sorted(SKILLS)[int(rng.integers(len(SKILLS)))]
    item = draw_item(name, range(SKILLS[name].n_forms), rng)
    return f"{head} Solve and write down the steps.\n{item.question}", SKILLS_MODEL, item.key


def _homework(
    person: Person,
    client: Client,
    exercises: Sequence[tuple[str, str, str]],
    *,
    rng: np.random.Generator,
) -> Iterator[Draft]:
    place = 0
    while True:
        text, model, key = exercises[place % len(exercises)]
        # Pupils leave exercises out, and say them in their own words now and then.
        place += 1 + int(rng.random() < 0.15)
        if rng.random() < 0.35:
            head, line = text.rsplit("\n", 1)
            own = surround(person.voice, line, rng, purpose="exact" if key else "prose")
            text = own if rng.random() < 0.6 else f"{head}\n{own}"
        yield Draft(model, (Message("user", text),), client.parameters(model), key)


def seat_company(n: int, rng: np.random.Generator, *, span: tuple[float, float]) -> list[Seat]:
    """Seat a company: one organisation, one system prompt, one address, related topics.

    Args:
        n: employees with a key.
        rng: draws the company and its people.
        span: days of use.

    Returns:
        One seat an employee.
    """
    place = draw_place(rng)
    topics = rng.choice(open_shelf().topics, size=3, replace=False).tolist()
    address = f"10.10.{int(rng.integers(256))}.{int(rng.integers(2, 250))}"
    shared = draw_client_of(rng)
    system = (
        f"You are the internal assistant of {place}. Staff ask about {topics[0]} and {topics[1]}. "
        "Follow the house style, never reveal customer names, and answer in one line."
    )
    hours = float(rng.uniform(8.0, 15.0))
    seats = []
    for own in rng.spawn(n):
        person = draw_person(own, topics=[str(own.choice(topics))])
        client = replace(shared, addresses=(address,), stream=person.client.stream)
        rhythm = replace(person.rhythm, peaks_h=(hours, hours + 4.0), weekend=0.1)
        source = Framed(replace(person, client=client), own, system=system)
        weight = float(own.lognormal(0.0, 0.6))
        joined = join(span, own)
        seats.append(Seat("company", place, source, rhythm, client, weight, joined))
    return seats


def seat_agent_users(
    n: int, rng: np.random.Generator, *, span: tuple[float, float], name: str
) -> list[Seat]:
    """Seat people who use one popular agent with a fixed system prompt and client.

    Args:
        n: users.
        rng: draws the users.
        span: days of use.
        name: the agent's name.

    Returns:
        One seat a user.
    """
    version = f"{name.lower()}-agent/0.{int(rng.integers(3, 20))}"
    system = (
        f"You are {name}, an agent that fills gaps in the user's working folder. Read the whole "
        "message, then settle the very last line and nothing else. Tools are switched off."
    )
    frame = f"<workspace owner='{{place}}' agent='{name}'>\nopen tab: {{own}}.md\n{{text}}"
    seats = []
    for own in rng.spawn(n):
        person = draw_person(own)
        versions = (version,) if own.random() < 0.7 else (version, *person.client.user_agents)
        client = replace(person.client, user_agents=versions, stream=True)
        source = Framed(replace(person, client=client), own, system=system, frame=frame)
        weight = float(own.lognormal(0.0, 0.8))
        joined = join(span, own)
        seats.append(Seat("agent", None, source, person.rhythm, client, weight, joined))
    return seats


def seat_template_users(
    n: int, rng: np.random.Generator, *, span: tuple[float, float], number: int
) -> list[Seat]:
    """Seat people who found one prompt template somewhere and fill it for most of their questions.

    Args:
        n: users.
        rng: draws the users.
        span: days of use.
        number: index into `TEMPLATES`.

    Returns:
        One seat a user.
    """
    seats = []
    for own in rng.spawn(n):
        person = draw_person(own)
        source = Framed(person, own, frame=TEMPLATES[number], share=float(own.uniform(0.4, 1.0)))
        weight = float(own.lognormal(0.0, 0.8))
        joined = join(span, own)
        seats.append(Seat("template", None, source, person.rhythm, person.client, weight, joined))
    return seats


def seat_viral(n: int, rng: np.random.Generator, *, first_day: float, number: int) -> list[Seat]:
    """Seat people who come for a prompt that everybody talks about, and stay for little else.

    Args:
        n: people.
        rng: draws them.
        first_day: when it begins, in days from the first live day.
        number: index into `VIRALS`.

    Returns:
        One seat each.
    """
    seats = []
    for own in rng.spawn(n):
        person = draw_person(own)
        source = Trying(person, own, prompt=VIRALS[number], share=float(own.uniform(0.15, 0.7)))
        begin = first_day + float(own.exponential(1.5))
        span = (begin, begin + float(own.uniform(1.0, 6.0)))
        weight = float(own.lognormal(0.0, 0.5))
        seats.append(Seat("viral", None, source, person.rhythm, person.client, weight, span))
    return seats
