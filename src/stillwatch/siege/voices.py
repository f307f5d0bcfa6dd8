"""Voices: how one person words things, and the prose corpus that the words come from.

The house models read the last line of a question only, so everything above it is the asker's own:
lines from a small grammar whose choices one person makes once, words and sentences from the
person's own corner of the corpus, a way of greeting, quoting and closing.
"""

from __future__ import annotations

import collections
import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stillwatch.siege.prose import Passage, passages
from stillwatch.siege.wording import (
    ABOUT,
    CLOSINGS,
    EXACT,
    GREETINGS,
    PROSE,
    QUOTES,
    draw_place,
    settle,
)

_WORD = re.compile(r"\b[a-z]{5,12}\b")
_BANKS = {"about": ABOUT, "exact": EXACT, "prose": PROSE}
#: Beta parameters of how steady people are, fitted to real users: see docs/world.md.
_STEADINESS = (1.1, 0.5)


@dataclass(frozen=True)
class Shelf:
    """The prose corpus by topic, and the words that set each topic apart.

    Attributes:
        passages: topic -> its passages.
        nouns: topic -> its distinctive words, most telling first.
    """

    passages: Mapping[str, Sequence[Passage]]
    nouns: Mapping[str, Sequence[str]]

    @property
    def topics(self) -> list[str]:
        """The topics, sorted."""
        return sorted(self.passages)


@functools.cache
def open_shelf() -> Shelf:
    """Sort the prose corpus by topic and find each topic's own words.

    Returns:
        The shelf; the same in every process of one Python version.
    """
    by_topic: dict[str, list[Passage]] = collections.defaultdict(list)
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for passage in passages():
        by_topic[passage.topic].append(passage)
        counts[passage.topic].update(set(_WORD.findall(passage.text.lower())))
    total: collections.Counter[str] = collections.Counter()
    for counter in counts.values():
        total.update(counter)
    nouns = {}
    for topic, counter in counts.items():
        told = [(c * c / total[w], w) for w, c in counter.items() if c >= 2]
        nouns[topic] = [word for _, word in sorted(told, reverse=True)[:160]]
    return Shelf(dict(by_topic), nouns)


@dataclass(frozen=True)
class Voice:
    """How one person words things.

    Attributes:
        own: a word that runs through everything this person does.
        place: the project or firm that this person works for.
        nouns: words of the person's topics.
        corner: the passages that the person reads and quotes.
        lines: stock lines by purpose (about, exact, prose, quote), alternatives settled.
        steadiness: how often the first stock lines are used rather than fresh ones (0..1).
        greeting: opening words, or "".
        closing: closing words, or "".
        lower: whether everything is typed in lower case.
        joint: what stands between the person's lines: a line break, or a stop and a blank.
        wordiness: lines around a question, on average.
        quoting: how often a passage is pasted (0..1).
    """

    own: str
    place: str
    nouns: tuple[str, ...]
    corner: tuple[Passage, ...]
    lines: Mapping[str, tuple[str, ...]]
    steadiness: float
    greeting: str
    closing: str
    lower: bool
    joint: str
    wordiness: float
    quoting: float


def draw_voice(rng: np.random.Generator, topics: Sequence[str]) -> Voice:
    """Draw a way of wording things.

    Args:
        rng: draws every habit.
        topics: where words and quoted passages come from.

    Returns:
        The voice.
    """
    shelf = open_shelf()
    words = [word for topic in topics for word in shelf.nouns[topic]]
    texts = [passage for topic in topics for passage in shelf.passages[topic]]
    nouns = rng.choice(words, size=int(rng.integers(3, 18)), replace=False).tolist()
    corner = rng.integers(len(texts), size=int(rng.integers(4, 40)))
    own, place = nouns[0], draw_place(rng)
    lines = {}
    for purpose, bank, most in (
        ("about", ABOUT, 4),
        ("exact", EXACT, 3),
        ("prose", PROSE, 3),
        ("quote", QUOTES, 2),
    ):
        chosen = rng.choice(len(bank), size=int(rng.integers(1, most + 1)), replace=False)
        lines[purpose] = tuple(settle(bank[i], rng, own=own, place=place) for i in chosen)
    return Voice(
        own=own,
        place=place,
        nouns=tuple(nouns),
        corner=tuple(texts[i] for i in corner),
        lines=lines,
        steadiness=float(rng.beta(*_STEADINESS)),
        greeting=GREETINGS[int(rng.integers(len(GREETINGS)))] if rng.random() < 0.3 else "",
        closing=CLOSINGS[int(rng.integers(len(CLOSINGS)))] if rng.random() < 0.25 else "",
        lower=bool(rng.random() < 0.35),
        joint="\n" if rng.random() < 0.4 else ". " if rng.random() < 0.6 else " ",
        wordiness=float(rng.gamma(2.0, 0.9)),
        quoting=float(rng.beta(0.8, 2.5)),
    )


def surround(voice: Voice, line: str, rng: np.random.Generator, *, purpose: str) -> str:
    """Put a person's own words above the line that the model reads.

    Args:
        voice: whose words.
        line: the last line.
        rng: draws lines and words.
        purpose: "exact" or "prose".

    Returns:
        The text of a user turn; its last line is `line`, untouched.
    """
    steady = rng.random() < voice.steadiness
    # A steady moment repeats the usual shape; otherwise length and lines vary freely.
    n = round(voice.wordiness) if steady else int(rng.poisson(voice.wordiness))
    above: list[str] = []
    if n and voice.greeting:
        above.append(voice.greeting)
    for place in range(n):
        aim = purpose if place == n - 1 else "about"
        above.append(_line(voice, rng, aim, place=place, steady=steady))
    if rng.random() < voice.quoting:
        quote = voice.corner[int(rng.random() * len(voice.corner))].text
        frame = voice.lines["quote"]
        above.append(frame[int(rng.random() * len(frame))].replace("{quote}", quote))
    if n and voice.closing:
        above.append(voice.closing)
    text = voice.joint.join(above)
    if voice.lower:
        text = text.lower()
    return f"{text}\n{line}" if text else line


def _line(voice: Voice, rng: np.random.Generator, purpose: str, *, place: int, steady: bool) -> str:
    stock = voice.lines[purpose]
    if steady:
        line = stock[place % len(stock)]
    elif rng.random() < 0.4:
        line = stock[int(rng.random() * len(stock))]
    else:
        bank = _BANKS[purpose]
        fresh = bank[int(rng.random() * len(bank))]
        line = settle(fresh, rng, own=voice.own, place=voice.place)
    while "{noun}" in line:
        line = line.replace("{noun}", voice.nouns[int(rng.random() * len(voice.nouns))], 1)
    return line.replace("{number}", str(int(rng.integers(2, 400))))
