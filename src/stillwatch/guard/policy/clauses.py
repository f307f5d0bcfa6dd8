"""Questions about facts as rules write them, read and checked against the vocabulary."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from stillwatch.guard.policy.faults import Spot
from stillwatch.guard.policy.lists import NamedList, is_country
from stillwatch.guard.policy.questions import Test, cannot_know, compiled
from stillwatch.guard.policy.vocabulary import PLACES, QUESTIONS, WORDS, Word

_MOST_ENTRIES: Final = 10_000  # of a list written into the rule itself


class Known(NamedTuple):
    """What the file defines for its rules to use.

    Attributes:
        lists: name -> list.
        tiers: the tiers of models.
    """

    lists: Mapping[str, NamedList]
    tiers: tuple[str, ...]


class Clause(NamedTuple):
    """One question about one fact.

    Attributes:
        word: the fact.
        question: what is asked.
        value: what it is compared with, checked; sets are frozen.
        text: as a person reads it.
        lists: the lists that it asks, in the order of their names.
    """

    word: Word
    question: str
    value: Any
    text: str
    lists: tuple[NamedList, ...] = ()

    def test_at(self, now: float) -> Test:
        """Compile the question for a moment.

        Args:
            now: UTC epoch seconds; a list that is too old by then answers nothing.

        Returns:
            The test.
        """
        if any(now >= found.stale_at for found in self.lists):
            return cannot_know
        place = PLACES[self.word.name]
        return compiled(self.word.kind, self.question, self.value, place=place, now=now)


def parse_clauses(table: object, spot: Spot, *, known: Known) -> list[Clause]:
    """Read a table of questions: `word = value` or `word = { question = value, ... }`.

    Args:
        table: as TOML gave it.
        spot: where it stands.
        known: lists and tiers of the file.

    Returns:
        Its clauses, in order.

    Raises:
        ConfigError: a word, a question or a value that is not of the vocabulary.
    """
    if not isinstance(table, dict) or not table:
        spot.refuse("a table of questions must be a table with at least one, like { risk = 3 }")
    spot.only(table, WORDS, what="word")
    clauses: list[Clause] = []
    for name, asked in table.items():
        here, word = spot.at(name), WORDS[name]
        questions = asked if isinstance(asked, dict) else {_bare(word, here): asked}
        if not questions:
            here.refuse(f"{name} must ask something: one of {', '.join(QUESTIONS[word.kind])}")
        clauses += _clauses(word, questions, here, known=known)
    return clauses


def _bare(word: Word, spot: Spot) -> str:
    if word.kind in {"text", "country", "number", "flag"}:
        return "is"
    if word.kind != "set":
        spot.refuse(f"{word.name} must ask one of {', '.join(QUESTIONS[word.kind])}")
    return "any"


def _clauses(
    word: Word, questions: Mapping[str, Any], spot: Spot, *, known: Known
) -> Iterable[Clause]:
    allowed = QUESTIONS[word.kind]
    for question in questions:
        if question not in allowed:
            spot.at(question).refuse(
                f"unknown question '{question}' about {word.name}; known are {', '.join(allowed)}"
            )
    if word.kind == "shares" and "known" not in questions:
        yield _owned(word, questions, spot, known=known)
        return
    if word.kind == "hits" and "within_days" in questions:
        yield _recent(word, questions, spot)
        return
    for question, raw in questions.items():
        value, lists = _value(word, question, raw, spot=spot.at(question), known=known)
        yield Clause(word, question, value, f"{word.name} {question} {_shown(raw)}", lists)


def _value(
    word: Word, question: str, raw: object, *, spot: Spot, known: Known
) -> tuple[Any, tuple[NamedList, ...]]:
    if question == "known" or word.kind == "flag":
        if not isinstance(raw, bool):
            spot.refuse(f"{word.name} {question} must be true or false, got {raw!r}")
        return raw, ()
    if word.kind == "number":
        if question == "between":
            return _range(word, raw, spot=spot), ()
        return _number(word, raw, spot=spot), ()
    if question in {"in", "not_in", "any", "all", "none"}:
        return _entries(word, raw, spot=spot, known=known)
    return _entry(word, raw, spot=spot, known=known), ()


def _number(word: Word, raw: object, *, spot: Spot) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw):
        spot.refuse(f"{word.name} must be compared with a number, got {raw!r}")
    return raw


def _range(word: Word, raw: object, *, spot: Spot) -> tuple[float, float]:
    if not isinstance(raw, list) or len(raw) != 2:
        spot.refuse(f"{word.name} between must be two numbers [from, below], got {raw!r}")
    low, high = (_number(word, part, spot=spot.at(n)) for n, part in enumerate(raw))
    if low >= high and word.name != "hour":
        spot.refuse(f"{word.name} between must rise, got {raw!r}")
    return low, high


def _entry(word: Word, raw: object, *, spot: Spot, known: Known) -> str:
    if not isinstance(raw, str):
        spot.refuse(f"{word.name} must be compared with a text, got {raw!r}")
    if raw.startswith("@"):
        spot.refuse(f"{word.name}: a list like {raw!r} needs the question in, not_in, any or none")
    if word.kind in {"country", "shares"} and not is_country(raw):
        spot.refuse(f"{word.name} must be a country code of two capital letters, got {raw!r}")
    options = known.tiers if word.name == "model_tier" else word.options
    if (options or word.name == "model_tier") and raw not in options:
        listed = ", ".join(options) or "none: the file has no [tiers]"
        spot.refuse(f"{word.name}: unknown value {raw!r}; known are {listed}")
    return raw


def _entries(
    word: Word, raw: object, *, spot: Spot, known: Known
) -> tuple[frozenset[str], tuple[NamedList, ...]]:
    rows = raw if isinstance(raw, list) else [raw]
    if not rows or len(rows) > _MOST_ENTRIES:
        spot.refuse(f"{word.name} must be compared with 1 to {_MOST_ENTRIES} entries")
    found: set[str] = set()
    lists: dict[str, NamedList] = {}
    for n, row in enumerate(rows):
        here = spot.at(n) if isinstance(raw, list) else spot
        if not isinstance(row, str) or not row.startswith("@"):
            found.add(_entry(word, row, spot=here, known=known))
            continue
        name = row[1:]
        if name not in known.lists:
            listed = ", ".join(known.lists) or "none: the file has no [lists]"
            here.refuse(f"{word.name}: unknown list '{row}'; known are {listed}")
        lists[name] = known.lists[name]
        if word.kind in {"country", "shares"} and not all(map(is_country, lists[name].entries)):
            here.refuse(f"{word.name}: list '{row}' must hold countries (kind = \"countries\")")
        found |= lists[name].entries
    return frozenset(found), tuple(lists[name] for name in sorted(lists))


def _owned(word: Word, questions: Mapping[str, Any], spot: Spot, *, known: Known) -> Clause:
    if set(questions) != {"in", "above"}:
        spot.refuse(f"{word.name} must ask both: in (countries) and above (a share, 0 to 1)")
    countries, lists = _entries(word, questions["in"], spot=spot.at("in"), known=known)
    above = _number(word, questions["above"], spot=spot.at("above"))
    if not 0 <= above < 1:
        spot.at("above").refuse(f"{word.name} above must be a share from 0 to below 1, got {above}")
    text = f"{word.name} in {_shown(questions['in'])} above {above:g}"
    return Clause(word, "in", (countries, above), text, lists)


def _recent(word: Word, questions: Mapping[str, Any], spot: Spot) -> Clause:
    if set(questions) != {"any", "within_days"}:
        spot.refuse(f"{word.name} within_days goes with any, and with nothing else")
    raw = questions["any"]
    names = raw if isinstance(raw, list) else [raw]
    if not names or not all(isinstance(name, str) and name for name in names):
        spot.at("any").refuse(f"{word.name} any must be names of lists, got {raw!r}")
    days = _number(word, questions["within_days"], spot=spot.at("within_days"))
    text = f"{word.name} any {_shown(raw)} within_days {days:g}"
    return Clause(word, "within_days", (frozenset(names), days), text)


def _shown(raw: object) -> str:
    if isinstance(raw, list):
        return "[" + ", ".join(map(str, raw)) + "]"
    return str(raw).lower() if isinstance(raw, bool) else str(raw)
