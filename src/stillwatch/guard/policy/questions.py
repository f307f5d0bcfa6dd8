"""The tests that clauses are compiled to: closures over a place and a value.

Each answers True, False, or None when its fact is not known. The logic is Kleene's: a conjunction
with one part that is false is false whatever is missing elsewhere, so a fact that is not known
matters only where it decides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from stillwatch.guard.policy.vocabulary import Facts
from stillwatch.guard.wall.ladder import DAY_S

Held = bool | None
Test = Callable[[Facts], Held]


class Part(NamedTuple):
    """One of the conditions that must all hold.

    Attributes:
        test: compiled.
        of_account: it asks about nothing but the account's own facts.
    """

    test: Test
    of_account: bool


def compiled(kind: str, question: str, value: Any, *, place: int, now: float) -> Test:
    """Compile one question.

    Args:
        kind: of the fact.
        question: what is asked of it.
        value: what it is compared with, checked.
        place: of the fact among the facts.
        now: UTC epoch seconds, for questions about dates.

    Returns:
        The test.
    """
    if question == "known":
        return _known(place, value)
    if kind == "hits":
        return _HITS[question](place, value, now)
    if kind == "set":
        return _SETS[question](place, value)
    if kind == "shares":
        return _share(place, value)
    return _ONE[question](place, value)


def all_of(tests: list[Test]) -> Test:
    """Join tests of which all must hold.

    Args:
        tests: at least one.

    Returns:
        The joint test.
    """
    if len(tests) == 1:
        return tests[0]

    def every(facts: Facts) -> Held:
        held: Held = True
        for test in tests:
            found = test(facts)
            if found is False:
                return False
            if found is None:
                held = None
        return held

    return every


def any_of(tests: list[Test]) -> Test:
    """Join tests of which one must hold.

    Args:
        tests: at least one.

    Returns:
        The joint test.
    """

    def some(facts: Facts) -> Held:
        held: Held = False
        for test in tests:
            found = test(facts)
            if found:
                return True
            if found is None:
                held = None
        return held

    return some


def none_of(tests: list[Test]) -> Test:
    """Join tests of which none may hold.

    Args:
        tests: at least one.

    Returns:
        The joint test.
    """
    some = any_of(tests)

    def none(facts: Facts) -> Held:
        held = some(facts)
        return None if held is None else not held

    return none


def cannot_know(facts: Facts) -> Held:
    """Answer nothing: the list that was asked is too old.

    Args:
        facts: not looked at.

    Returns:
        None.
    """
    return None


def _known(place: int, wanted: bool) -> Test:
    return lambda facts: (facts[place] is not None) is wanted


def _is(place: int, value: object) -> Test:
    return lambda facts: None if (v := facts[place]) is None else v == value


def _is_not(place: int, value: object) -> Test:
    return lambda facts: None if (v := facts[place]) is None else v != value


def _in(place: int, value: frozenset[str]) -> Test:
    return lambda facts: None if (v := facts[place]) is None else v in value


def _not_in(place: int, value: frozenset[str]) -> Test:
    return lambda facts: None if (v := facts[place]) is None else v not in value


def _starts(place: int, value: str) -> Test:
    return lambda facts: None if (v := facts[place]) is None else v.startswith(value)


def _ends(place: int, value: str) -> Test:
    return lambda facts: None if (v := facts[place]) is None else v.endswith(value)


def _below(place: int, value: float) -> Test:
    return lambda facts: None if (v := facts[place]) is None else v < value


def _at_most(place: int, value: float) -> Test:
    return lambda facts: None if (v := facts[place]) is None else v <= value


def _above(place: int, value: float) -> Test:
    return lambda facts: None if (v := facts[place]) is None else v > value


def _at_least(place: int, value: float) -> Test:
    return lambda facts: None if (v := facts[place]) is None else v >= value


def _between(place: int, value: tuple[float, float]) -> Test:
    low, high = value
    if low < high:
        return lambda facts: None if (v := facts[place]) is None else low <= v < high
    # Hours of a night: from the evening over midnight.
    return lambda facts: None if (v := facts[place]) is None else v >= low or v < high


def _any(place: int, value: frozenset[str]) -> Test:
    return lambda facts: None if (v := facts[place]) is None else not value.isdisjoint(v)


def _all(place: int, value: frozenset[str]) -> Test:
    return lambda facts: None if (v := facts[place]) is None else value <= v


def _none(place: int, value: frozenset[str]) -> Test:
    return lambda facts: None if (v := facts[place]) is None else value.isdisjoint(v)


def _share(place: int, value: tuple[frozenset[str], float]) -> Test:
    countries, above = value

    def owned(facts: Facts) -> Held:
        shares: Any = facts[place]
        if shares is None:
            return None
        listed = sum(share for country, share in shares.items() if country in countries)
        if listed > above:
            return True
        # What no owner is named for may belong to anybody.
        unnamed = 1.0 - sum(shares.values())
        return None if listed + unnamed > above + 1e-9 else False

    return owned


def _hit(place: int, value: frozenset[str], _: float) -> Test:
    return lambda facts: None if (v := facts[place]) is None else any(n in v for n in value)


def _recent_hit(place: int, value: tuple[frozenset[str], float], now: float) -> Test:
    names, days = value

    def recent(facts: Facts) -> Held:
        hits: Any = facts[place]
        if hits is None:
            return None
        return any(name in hits and hits[name] >= now - days * DAY_S for name in names)

    return recent


_ONE: Final[dict[str, Callable[[int, Any], Test]]] = {
    "is": _is, "is_not": _is_not, "in": _in, "not_in": _not_in, "starts_with": _starts,
    "ends_with": _ends, "below": _below, "at_most": _at_most, "above": _above,
    "at_least": _at_least, "between": _between,
}  # fmt: skip
_SETS: Final[dict[str, Callable[[int, Any], Test]]] = {
    "any": _any, "all": _all, "none": _none,
}  # fmt: skip
_HITS: Final[dict[str, Callable[[int, Any, float], Test]]] = {
    "any": _hit, "within_days": _recent_hit,
}  # fmt: skip
