"""Facts as a test in a policy file writes them, and as a person writes them on the command line."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from typing import Any, Final

import msgspec

from stillwatch.errors import reject
from stillwatch.guard.policy.clauses import Known
from stillwatch.guard.policy.faults import Spot
from stillwatch.guard.policy.lists import day_of, is_country, midnight
from stillwatch.guard.policy.vocabulary import NOTHING, PLACES, WORDS, Facts, Word


def parse_facts(table: object, spot: Spot, *, known: Known) -> Facts:
    """Read the facts of a test.

    Args:
        table: word -> value, as TOML gave it.
        spot: where it stands.
        known: tiers of the file.

    Returns:
        Facts; what is not named is not known.

    Raises:
        ConfigError: an unknown word, or a value of the wrong kind.
    """
    if not isinstance(table, dict):
        spot.refuse("facts must be a table of words and values")
    spot.only(table, WORDS, what="word")
    facts: Facts = list(NOTHING)
    for name, raw in table.items():
        here = spot.at(name)
        value = fact_of(WORDS[name], raw)
        if value is None:
            here.refuse(f"{name} must be {_SHAPES[WORDS[name].kind]}, got {raw!r}")
        options = known.tiers if name == "model_tier" else WORDS[name].options
        unknown = _entries(value) - set(options) if options else set()
        if unknown:
            listed = ", ".join(options)
            here.refuse(f"{name}: unknown value {min(unknown)!r}; known are {listed}")
        facts[PLACES[name]] = value
    return facts


def parse_fact(text: str) -> tuple[str, Any]:
    """Read one fact from the command line: `kyc_level=2`, `asks=tools,many`.

    Args:
        text: word, equals sign, value; sets with commas, shares and hits as `XX:0.6,YY:0.4`.

    Returns:
        The word and its value.

    Raises:
        InvalidInputError: an unknown word, or a value of the wrong kind.
    """
    name, _, raw = text.partition("=")
    word = WORDS.get(name)
    if word is None:
        reject("--fact", name, f"one of {', '.join(WORDS)}", got=name)
    parts = [part for part in raw.split(",") if part]
    given: Any = raw
    if word.kind in {"number", "flag"}:
        try:
            given = msgspec.json.decode(raw)
        except msgspec.DecodeError:
            given = None
    elif word.kind == "set":
        given = parts
    elif word.kind in {"shares", "hits"}:
        given = {key: value for key, _, value in (part.partition(":") for part in parts)}
    value = fact_of(word, given)
    if value is None:
        reject("--fact", name, _SHAPES[word.kind], got=raw)
    return name, value


def fact_of(word: Word, raw: Any) -> Any:
    """Bring a value into the form that tests compare.

    Args:
        word: the fact.
        raw: plain data.

    Returns:
        The value, or None when it is of another kind.
    """
    return _READ[word.kind](raw)


def country_of(raw: object) -> str | None:
    """Read a country code.

    Args:
        raw: as a table gives it.

    Returns:
        Two capital letters, or None: a country's name is not guessed at.
    """
    code = raw.strip().upper() if isinstance(raw, str) else ""
    return code if is_country(code) else None


def shares_of(raw: Any) -> dict[str, float] | None:
    """Read who owns how much.

    Args:
        raw: country -> share, as numbers or texts.

    Returns:
        country -> share (0..1), summing to at most 1, or None when it is not that.
    """
    if not isinstance(raw, dict):
        return None
    shares: dict[str, float] = {}
    for key, value in raw.items():
        country, share = country_of(key), _number(value)
        if country is None or share is None or not 0 <= share <= 1:
            return None
        shares[country] = shares.get(country, 0.0) + share
    return shares if sum(shares.values()) <= 1 + 1e-6 else None


def hits_of(raw: Any) -> dict[str, float] | None:
    """Read hits of a screening.

    Args:
        raw: list -> date of the list, as days or texts.

    Returns:
        list -> UTC epoch seconds, or None when a date is none.
    """
    if not isinstance(raw, dict):
        return None
    hits: dict[str, float] = {}
    for name, value in raw.items():
        try:
            day = datetime.date.fromisoformat(value) if isinstance(value, str) else value
        except ValueError:
            return None
        if not isinstance(day, datetime.date):
            return None
        hits[name] = midnight(day)
    return hits


def shown(word: Word, value: Any) -> str:
    """Write a fact for a person.

    Args:
        word: the fact.
        value: its value.

    Returns:
        One short text.
    """
    if value is None:
        return "not known"
    if word.kind == "set":
        return ", ".join(sorted(value)) or "none"
    if word.kind == "shares":
        return ", ".join(f"{country} {share:g}" for country, share in value.items()) or "none"
    if word.kind == "hits":
        return ", ".join(f"{name} of {day_of(at)}" for name, at in value.items()) or "none"
    if word.kind == "flag":
        return "yes" if value else "no"
    return f"{value:g}" if word.kind == "number" else str(value) or '""'


def _flag_of(raw: Any) -> bool | None:
    return raw if isinstance(raw, bool) else None


def _number_of(raw: Any) -> float | None:
    is_number = isinstance(raw, int | float) and not isinstance(raw, bool)
    return raw if is_number and math.isfinite(raw) else None


def _text_of(raw: Any) -> str | None:
    return raw if isinstance(raw, str) else None


def _set_of(raw: Any) -> frozenset[str] | None:
    is_texts = isinstance(raw, list | tuple) and all(isinstance(part, str) for part in raw)
    return frozenset(raw) if is_texts else None


def _number(value: object) -> float | None:
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) and not isinstance(value, bool) else None


def _entries(value: Any) -> set[str]:
    return set(value) if isinstance(value, frozenset) else {value}


_SHAPES = {
    "text": "a text",
    "country": "a country code of two letters",
    "number": "a number",
    "flag": "true or false",
    "set": "a list of texts",
    "shares": "a table of country codes and shares that sum to at most 1",
    "hits": "a table of lists and days",
}
_READ: Final[dict[str, Callable[[Any], Any]]] = {
    "flag": _flag_of,
    "number": _number_of,
    "text": _text_of,
    "country": country_of,
    "set": _set_of,
    "shares": shares_of,
    "hits": hits_of,
}
