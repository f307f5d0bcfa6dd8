"""One rule: whom it is about, what is done, who answers for it, its days and its tests."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, get_args

from stillwatch.errors import InvalidInputError
from stillwatch.guard.policy.clauses import Clause, Known, parse_clauses
from stillwatch.guard.policy.facts_file import parse_facts
from stillwatch.guard.policy.faults import Spot
from stillwatch.guard.policy.lists import midnight
from stillwatch.guard.policy.questions import Part, Test, all_of, any_of, none_of
from stillwatch.guard.policy.vocabulary import Facts
from stillwatch.guard.wall.decide import Action
from stillwatch.guard.wall.ladder import DAY_S, Rung

RuleKind = Literal["legal", "identity", "abuse", "service"]
Scope = Literal["account", "org", "rule"]
#: Rules of these kinds fail closed, always.
STRICT_KINDS: Final = frozenset({"legal", "identity"})
_REQUIRED: Final = ("id", "kind", "owner", "reason", "action", "shadow", "from", "review_by")
_OPTIONAL: Final = (
    "fail", "until", "limit_per_day", "burst", "per", "message", "when", "any", "unless", "tests",
)  # fmt: skip
_ID: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


class Case(NamedTuple):
    """One inline test.

    Attributes:
        facts: what is known; everything else is not.
        fires: whether the rule must fire on them.
        at: the moment (UTC epoch seconds), or None for one at which every list is fresh.
        line: where it stands.
    """

    facts: Facts
    fires: bool
    at: float | None
    line: int


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, checked.

    Attributes:
        id: its name in records; small letters, digits and hyphens.
        kind: legal, identity, abuse or service.
        owner: who answers for it.
        reason: why it is there.
        rung: what is done, with its limit; None for an exemption.
        per: whose token bucket a throttle has: each account's, each organisation's, the rule's.
        fails_closed: fires when a fact that decides is not known.
        shadow: only counts what it would have done.
        from_at: first moment (UTC epoch seconds).
        until_at: first moment after its last day; infinite without one.
        review_by: day by which its owner must look at it (UTC epoch seconds).
        message: one sentence for a client that is refused, or None for the gateway's own.
        when: clauses that must all hold.
        any: groups of clauses of which one must hold.
        unless: groups of clauses of which none may hold.
        cases: its inline tests.
        line: where it stands.
    """

    id: str
    kind: RuleKind
    owner: str
    reason: str
    rung: Rung | None
    per: Scope
    fails_closed: bool
    shadow: bool
    from_at: float
    until_at: float
    review_by: float
    message: str | None
    when: tuple[Clause, ...]
    any: tuple[tuple[Clause, ...], ...]
    unless: tuple[tuple[Clause, ...], ...]
    cases: tuple[Case, ...]
    line: int

    @property
    def effect(self) -> Action:
        """What it does when it fires; allow is an exemption."""
        return "allow" if self.rung is None else self.rung.action

    @property
    def is_strict(self) -> bool:
        """Whether no exemption lifts it."""
        return self.kind in STRICT_KINDS

    @property
    def clauses(self) -> tuple[Clause, ...]:
        """Every clause, wherever it stands."""
        groups = (self.when, *self.any, *self.unless)
        return tuple(clause for group in groups for clause in group)

    def holds_at(self, now: float) -> bool:
        """Say whether the rule is in force.

        Args:
            now: UTC epoch seconds.

        Returns:
            True from its first day to its last.
        """
        return self.from_at <= now < self.until_at

    def parts_at(self, now: float) -> list[Part]:
        """Compile its conditions, each of which must hold.

        Args:
            now: UTC epoch seconds.

        Returns:
            At least one part.
        """
        parts = [Part(clause.test_at(now), clause.word.of_account) for clause in self.when]
        for groups, join in ((self.any, any_of), (self.unless, none_of)):
            if groups:
                fixed = all(clause.word.of_account for group in groups for clause in group)
                parts.append(Part(join([_joint(group, now) for group in groups]), fixed))
        return parts


def _joint(group: tuple[Clause, ...], now: float) -> Test:
    return all_of([clause.test_at(now) for clause in group])


def parse_rule(table: object, spot: Spot, *, known: Known) -> Rule:
    """Read one rule.

    Args:
        table: as TOML gave it.
        spot: where it stands.
        known: lists and tiers of the file.

    Returns:
        The rule.

    Raises:
        ConfigError: a key is missing or unknown, or a value breaks a rule; names file and line.
    """
    if not isinstance(table, dict):
        spot.refuse("a rule must be a table: [[rules]]")
    spot.only(table, (*_REQUIRED, *_OPTIONAL))
    for key in _REQUIRED:
        if key not in table:
            spot.refuse(f"rule {table.get('id', '')!r}: {key} must be given")
    name = _name(table["id"], spot.at("id"))
    kind = choice(table, "kind", get_args(RuleKind), spot=spot)
    groups = _conditions(table, spot, known=known)
    rung = _rung(table, spot)
    if rung is None and kind in STRICT_KINDS:
        hint = "write the exception into the rule itself: unless = [...]"
        spot.at("action").refuse(f"allow must not be of kind {kind}", hint=hint)
    from_at, until_at, review_by = _dates(table, spot)
    return Rule(
        id=name,
        kind=kind,
        owner=_text(table, "owner", spot),
        reason=_text(table, "reason", spot),
        rung=rung,
        per=choice(table, "per", get_args(Scope), spot=spot, default="account"),
        fails_closed=_fails_closed(table, spot, kind=kind),
        shadow=_flag(table, "shadow", spot),
        from_at=from_at,
        until_at=until_at,
        review_by=review_by,
        message=_text(table, "message", spot) if "message" in table else None,
        when=groups[0],
        any=groups[1],
        unless=groups[2],
        cases=_cases(table.get("tests", []), spot.at("tests"), known=known),
        line=spot.line,
    )


def _conditions(
    table: dict[str, Any], spot: Spot, *, known: Known
) -> tuple[tuple[Clause, ...], tuple[tuple[Clause, ...], ...], tuple[tuple[Clause, ...], ...]]:
    when: tuple[Clause, ...] = ()
    if "when" in table:
        when = tuple(parse_clauses(table["when"], spot.at("when"), known=known))
    either, unless = (_groups(table, key, spot=spot, known=known) for key in ("any", "unless"))
    if not when and not either:
        spot.refuse("a rule must say whom it is about: when, or any")
    return when, either, unless


def _groups(
    table: dict[str, Any], key: str, *, spot: Spot, known: Known
) -> tuple[tuple[Clause, ...], ...]:
    if key not in table:
        return ()
    rows, here = table[key], spot.at(key)
    if isinstance(rows, dict):
        return (tuple(parse_clauses(rows, here, known=known)),)
    if not isinstance(rows, list) or not rows:
        here.refuse(f"{key} must be a table, or a list of tables with at least one")
    return tuple(tuple(parse_clauses(row, here.at(n), known=known)) for n, row in enumerate(rows))


def _rung(table: dict[str, Any], spot: Spot) -> Rung | None:
    action = choice(table, "action", get_args(Action), spot=spot)
    limits = {key: table[key] for key in ("limit_per_day", "burst") if key in table}
    if action != "throttle" and (limits or "per" in table):
        key = next(key for key in ("limit_per_day", "burst", "per") if key in table)
        spot.at(key).refuse(f'{key} goes with action = "throttle" only')
    for key, value in limits.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            spot.at(key).refuse(f"{key} must be a number, got {value!r}")
    if action == "allow":
        return None
    try:
        return Rung(action, **limits)
    except InvalidInputError as error:
        spot.refuse(str(error))


def _fails_closed(table: dict[str, Any], spot: Spot, *, kind: RuleKind) -> bool:
    strict = kind in STRICT_KINDS
    default = "closed" if strict else "open"
    fail = choice(table, "fail", ("open", "closed"), spot=spot, default=default)
    if strict and fail == "open":
        spot.at("fail").refuse(f"a rule of kind {kind} must fail closed")
    if table["action"] == "allow" and fail == "closed":
        spot.at("fail").refuse("an exemption must fail open: it is not given on missing facts")
    return bool(fail == "closed")


def _dates(table: dict[str, Any], spot: Spot) -> tuple[float, float, float]:
    from_at, review_by = (parse_day(table[key], spot.at(key)) for key in ("from", "review_by"))
    until_at = float("inf")
    if "until" in table:
        until_at = parse_day(table["until"], spot.at("until")) + DAY_S
        if until_at <= from_at:
            spot.at("until").refuse("until must not lie before from")
    return from_at, until_at, review_by


def parse_day(value: object, spot: Spot) -> float:
    """Read a day.

    Args:
        value: as TOML gave it.
        spot: where it stands.

    Returns:
        Its beginning (UTC epoch seconds).

    Raises:
        ConfigError: it is no day, or one with a time.
    """
    if not isinstance(value, datetime.date) or isinstance(value, datetime.datetime):
        spot.refuse(f"{spot.where[-1]} must be a day like 2026-11-01, unquoted, got {value!r}")
    return midnight(value)


def _name(value: object, spot: Spot) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 64 or not _ID.issuperset(value):
        spot.refuse(f"id must be 1 to 64 small letters, digits and hyphens, got {value!r}")
    return value


def _text(table: dict[str, Any], key: str, spot: Spot) -> str:
    value = table[key]
    if not isinstance(value, str) or not value.strip() or len(value) > 400:
        spot.at(key).refuse(f"{key} must be a text of 1 to 400 characters, got {value!r}")
    return value


def _flag(table: dict[str, Any], key: str, spot: Spot) -> bool:
    value = table[key]
    if not isinstance(value, bool):
        spot.at(key).refuse(f"{key} must be true or false, got {value!r}")
    return value


def choice(
    table: dict[str, Any], key: str, options: tuple[str, ...], *, spot: Spot, default: str = ""
) -> Any:
    """Read one of several words.

    Args:
        table: as TOML gave it.
        key: of the word.
        options: the words that there are.
        spot: where the table stands.
        default: the word where there is none.

    Returns:
        The word.

    Raises:
        ConfigError: it is none of them.
    """
    value = table.get(key, default)
    if value not in options:
        spot.at(key).refuse(f"{key} must be one of {', '.join(options)}, got {value!r}")
    return value


def _cases(rows: object, spot: Spot, *, known: Known) -> tuple[Case, ...]:
    if not isinstance(rows, list):
        spot.refuse("tests must be a list of tables: [[rules.tests]]")
    cases = []
    for n, row in enumerate(rows):
        here = spot.at(n)
        if not isinstance(row, dict) or not {"facts", "fires"} <= row.keys() <= {
            "facts", "fires", "at",
        }:  # fmt: skip
            here.refuse("a rule's test must be a table of facts and fires, with or without at")
        facts = parse_facts(row["facts"], here.at("facts"), known=known)
        at = parse_day(row["at"], here.at("at")) if "at" in row else None
        cases.append(Case(facts, _flag(row, "fires", here), at, here.line))
    if {case.fires for case in cases} != {True, False}:
        hint = "facts and fires, at least one true and one false"
        spot.refuse("a rule must have a test that fires and one that does not", hint=hint)
    return tuple(cases)
