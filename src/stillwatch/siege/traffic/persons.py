"""Honest persons: topics, words and manners that belong to one person and last.

A pool has fewer texts than a log has questions, and two people seldom write the same twenty words.
So a text of the pool is the seed of a question: a person puts words of its own into it, cuts it,
pastes material under it, and keeps its spelling and its openings. docs/traffic.md tells how alike
within and how different between these people are, beside real users.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple, Protocol

from stillwatch.siege.traffic.instructions import Frame
from stillwatch.siege.traffic.manners import CLOSINGS, NAMES, OPENINGS
from stillwatch.siege.traffic.pools import Pool

_CONTENT = re.compile(r"[a-zA-Z]{4,}")
#: Kinds of exchange, as the truth counts them.
HONEST, HARVEST, COVER = 0, 1, 2
#: Share of prompts that strangers ask word for word alike: 1.2 % among the real users measured in
#: docs/traffic.md.
_COMMON = 0.012
#: Forms of a pasted row.
_ROWS = (
    "{a}; {b}; {n}; {x:.2f}",
    "{n:04d}: {a} = {x:.1f} ({b})",
    '{{"{a}": {n}, "{b}": {x:.3f}}},',
    "- {a}, {b}: {n} ({x:.0f}%)",
    "{a}\t{n}\t{x:.2f}\t{b}",
    "2026-01-{n:03d} {a}.{b}: {x:.4f}",
    "{a}({n}, {x:.1f});  // {b}",
)


class Asked(NamedTuple):
    """One question as it is sent.

    Attributes:
        system: the system prompt; "" for none.
        text: the user's turn.
    """

    system: str
    text: str


class Asker(Protocol):
    """Whoever writes an account's questions, one after the other."""

    def ask(self, rng: Random, now: float, kind: int) -> Asked:
        """Write the next question.

        Args:
            rng: draws it.
            now: when it is asked (UTC epoch seconds).
            kind: HONEST, HARVEST or COVER.

        Returns:
            The question.
        """
        ...


@dataclass(frozen=True)
class Person:
    """What lasts about a person.

    Attributes:
        pool: where the questions come from.
        rows: places in the pool of the person's own topics.
        loyalty: how often a question is of these topics (0..1).
        follows: how often a question is the last one once more, put a little otherwise (0..1).
        words: words of the person's own, put into questions.
        rate: share of the content words that are replaced by them (0..1).
        opening: what a question is opened with; "" for nothing.
        closing: what it is closed with; "" for nothing.
        manner: how often they are used (0..1).
        casing: "", lower, upper or bare: the spelling kept.
        repeats: how often an earlier question is asked again word for word (0..1).
        pastes: how often material is pasted under the question (0..1).
        volume: sentences of such material, on average.
        records: whether it is rows of figures rather than sentences.
        frames: instructions of the person's own applications or habits; empty for none.
        framed: how often one of them is used (0..1).
        fills: how often the system prompt carries a fact of the moment: a date, a name (0..1).
    """

    pool: Pool
    rows: tuple[int, ...]
    loyalty: float
    follows: float
    words: tuple[str, ...]
    rate: float
    opening: str
    closing: str
    manner: float
    casing: str
    repeats: float
    pastes: float
    volume: float
    records: bool
    frames: tuple[Frame, ...]
    framed: float
    fills: float


def draw_person(
    rng: Random,
    pools: Sequence[Pool],
    *,
    frames: Sequence[Frame] = (),
    is_program: bool = False,
) -> Person:
    """Draw a person, or a small application that one person runs.

    Args:
        rng: draws everything.
        pools: where people ask from; one is drawn.
        frames: instructions that stand around the questions.
        is_program: programs ask about few things, in one manner, and paste material in.

    Returns:
        The person.
    """
    pool = rng.choice(list(pools))
    n_topics = 1 if is_program else rng.choice((1, 1, 1, 2, 3))
    rows = tuple(
        row for _ in range(n_topics) for row in pool.topics[int(rng.random() * len(pool.topics))]
    )
    return Person(
        pool=pool,
        rows=rows,
        loyalty=rng.uniform(0.9, 1.0) if is_program else rng.betavariate(4.0, 1.2),
        follows=0.0 if is_program else rng.betavariate(1.6, 1.8),
        words=_own_words(rng, pool, rows),
        rate=rng.uniform(0.2, 0.6),
        opening="" if is_program or rng.random() < 0.4 else draw_phrase(rng, OPENINGS),
        closing="" if is_program or rng.random() < 0.6 else draw_phrase(rng, CLOSINGS),
        manner=rng.betavariate(1.4, 1.4),
        casing=rng.choice(("", "", "", "lower", "bare", "upper" if rng.random() < 0.1 else "")),
        repeats=rng.betavariate(0.5, 14.0),
        pastes=rng.uniform(0.5, 1.0) if is_program else rng.betavariate(0.5, 1.1),
        volume=rng.lognormvariate(1.0, 0.8),
        records=rng.random() < 0.45,
        frames=tuple(frames),
        fills=rng.random() if rng.random() < 0.5 else 0.0,
        framed=rng.uniform(0.9, 1.0) if is_program else rng.betavariate(2.0, 1.0),
    )


def draw_phrase(rng: Random, bank: Sequence[Sequence[str]]) -> str:
    """Put a phrase together from a bank of columns.

    Args:
        rng: draws one entry of every column.
        bank: the columns.

    Returns:
        The phrase.
    """
    return " ".join(" ".join(rng.choice(column) for column in bank).split())


def _own_words(rng: Random, pool: Pool, rows: Sequence[int]) -> tuple[str, ...]:
    found: list[str] = []
    for _ in range(12):
        text = pool.questions[rows[int(rng.random() * len(rows))]]
        found += _CONTENT.findall(text[:400])
    other = pool.questions[int(rng.random() * len(pool.questions))]
    found += _CONTENT.findall(other[:200])
    kept = rng.sample(found, min(12, len(found)))
    return (*kept, *(rng.choice(NAMES) for _ in range(4)))


class Writer:
    """Writes one person's questions and remembers some to ask them again.

    Args:
        person: whose habits are followed.
    """

    def __init__(self, person: Person) -> None:
        self._person = person
        self._past: list[Asked] = []
        self._last = ""

    def ask(self, rng: Random, now: float, kind: int) -> Asked:
        """Write the next question; see `Asker.ask`.

        Args:
            rng: draws it.
            now: not used: people keep their habits.
            kind: not used.

        Returns:
            A new question, or an earlier one again.
        """
        person = self._person
        if self._past and rng.random() < person.repeats:
            return self._past[int(rng.random() * len(self._past))]
        text = self.compose(rng)
        asked = Asked("", text)
        if person.frames and rng.random() < person.framed:
            frame = person.frames[int(rng.random() * len(person.frames))]
            asked = Asked(self._filled(frame.system, rng, now), frame.wrap(text))
        if len(self._past) < 12:
            self._past.append(asked)
        else:
            self._past[int(rng.random() * 12)] = asked
        return asked

    def compose(self, rng: Random) -> str:
        """Write a new question without any frame.

        Args:
            rng: draws it.

        Returns:
            The text.
        """
        person = self._person
        questions = person.pool.questions
        if rng.random() < _COMMON:
            # What everybody asks once: the same few questions, word for word.
            return questions[int(rng.random() ** 3 * min(200, len(questions)))]
        if self._last and rng.random() < person.follows:
            text = self._last = rework(self._last, person, rng)
        else:
            if rng.random() < person.loyalty:
                row = person.rows[int(rng.random() * len(person.rows))]
            else:
                row = int(rng.random() * len(questions))
            text = self._last = rework(questions[row], person, rng)
        if rng.random() < person.manner:
            text = f"{person.opening} {text} {person.closing}".strip()
        if rng.random() < person.pastes:
            text = f"{text}\n\n{self._pasted(rng)}"
        return text

    def _filled(self, system: str, rng: Random, now: float) -> str:
        if not system or rng.random() >= self._person.fills:
            return system
        day = time.strftime("%Y-%m-%d", time.gmtime(now))
        words = self._person.words
        return f"{system}\nToday: {day}. User: {words[int(rng.random() * len(words))]}"

    def _pasted(self, rng: Random) -> str:
        person = self._person
        if person.records:
            return _records(person.words, rng, n=person.volume)
        n = min(24, 1 + int(rng.expovariate(1.0 / person.volume)))
        questions = person.pool.questions
        rows = [person.rows[int(rng.random() * len(person.rows))] for _ in range(n)]
        return " ".join(rework(questions[row], person, rng) for row in rows)


def _records(words: Sequence[str], rng: Random, *, n: float) -> str:
    """Make up rows as people paste them from a sheet, a log or a program."""
    form = rng.choice(_ROWS)
    rows = []
    for _ in range(min(30, 2 + int(rng.expovariate(0.5 / n)))):
        a, b = words[int(rng.random() * len(words))], words[int(rng.random() * len(words))]
        rows.append(form.format(a=a, b=b, n=int(rng.random() * 900), x=rng.random() * 99.0))
    return "\n".join(rows)


def rework(text: str, person: Person, rng: Random) -> str:
    """Make a text of a pool one's own.

    Args:
        text: from the pool.
        person: whose words and spelling are used.
        rng: draws what is changed.

    Returns:
        The text with words replaced, long ones cut to a stretch.
    """
    words = text.split(" ")
    n = len(words)
    if n > 40 and rng.random() < 0.8:
        length = max(20, int(n * rng.betavariate(1.5, 2.5)))
        start = int(rng.random() * (n - length))
        words = words[start : start + length]
        n = length
    for _ in range(max(1, round(n * person.rate * (0.5 + rng.random())))):
        place = int(rng.random() * n)
        if len(words[place]) >= 4:
            words[place] = person.words[int(rng.random() * len(person.words))]
    text = " ".join(words)
    if person.casing == "lower":
        return text.lower()
    if person.casing == "upper":
        return text.upper()
    return text.rstrip("?.! ") if person.casing == "bare" else text
