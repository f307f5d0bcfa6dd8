"""A policy file: read, checked, its lists and inline tests with it."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args

from stillwatch.errors import ConfigError
from stillwatch.guard.policy import locate
from stillwatch.guard.policy.clauses import Known
from stillwatch.guard.policy.facts_file import parse_facts
from stillwatch.guard.policy.faults import Source, Spot, read_text
from stillwatch.guard.policy.lists import NamedList, Networks, read_list
from stillwatch.guard.policy.rules import Rule, choice, parse_day, parse_rule
from stillwatch.guard.policy.vocabulary import Facts
from stillwatch.guard.wall.decide import Action

_TABLES: Final = ("lists", "networks", "tiers", "rules", "tests")
_MOST_BYTES: Final = 4 * 1024 * 1024
_MOST_RULES: Final = 2_000


class WholeCase(NamedTuple):
    """A test of the whole policy: what all its rules together do.

    Attributes:
        facts: what is known; everything else is not.
        action: what must be done.
        rule: the rule that must decide, or None when that is not asked.
        at: the moment (UTC epoch seconds), or None for one at which every list is fresh.
        line: where it stands.
    """

    facts: Facts
    action: Action
    rule: str | None
    at: float | None
    line: int


@dataclass(frozen=True)
class PolicyFile:
    """A policy as its file has it.

    Attributes:
        path: the file.
        sha256: of its bytes.
        rules: in the file's order.
        lists: name -> list.
        networks: where addresses lie, or None.
        tiers: (pattern, tier) in order; a pattern is a name, or a beginning with `*` at its end.
        cases: tests of the whole.
    """

    path: Path
    sha256: str
    rules: tuple[Rule, ...]
    lists: Mapping[str, NamedList]
    networks: Networks | None
    tiers: tuple[tuple[str, str], ...]
    cases: tuple[WholeCase, ...]

    @property
    def sources(self) -> list[NamedList]:
        """Every file that it reads facts from, by name: the lists, and where networks lie."""
        found = [self.lists[name] for name in sorted(self.lists)]
        return [*found, self.networks.source] if self.networks is not None else found

    @property
    def files(self) -> list[Path]:
        """Every file that it was read from."""
        return [self.path, *(found.path for found in self.sources)]

    @cached_property
    def words(self) -> frozenset[str]:
        """The facts that some rule asks about."""
        return frozenset(clause.word.name for rule in self.rules for clause in rule.clauses)

    def tier(self, model: str) -> str | None:
        """Find the tier of a model.

        Args:
            model: as the client wrote it.

        Returns:
            The tier of the first pattern that fits, or None.
        """
        for pattern, tier in self.tiers:
            if model == pattern or (pattern[-1] == "*" and model.startswith(pattern[:-1])):
                return tier
        return None


def load_policy(path: Path) -> PolicyFile:
    """Read a policy file and the lists that it names; paths in it are relative to its folder.

    Args:
        path: the TOML file.

    Returns:
        The policy; its inline tests have not run yet.

    Raises:
        ConfigError: a file cannot be read, or something in it breaks a rule; names file, line and
            reason.
    """
    raw, text = read_text(path, what="policy", most=_MOST_BYTES)
    document = _parsed(path, text)
    root = Spot(Source(path, locate.locate_keys(text)))
    root.only(document, _TABLES, what="table")
    tiers = _tiers(document.get("tiers", {}), root.at("tiers"))
    lists = _lists(document.get("lists", {}), root.at("lists"))
    known = Known(lists, tuple(dict.fromkeys(tier for _, tier in tiers)))
    rules = _rules(document.get("rules", []), root.at("rules"), known=known)
    return PolicyFile(
        path=path,
        sha256=hashlib.sha256(raw).hexdigest(),
        rules=rules,
        lists=lists,
        networks=_networks(document, root),
        tiers=tiers,
        cases=_whole_cases(document.get("tests", []), root.at("tests"), rules=rules, known=known),
    )


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        message = f"{path}:1: nested too deep"
        raise ConfigError(message) from None
    except tomllib.TOMLDecodeError as error:
        reason, _, place = str(error).partition(" (at line ")
        number = place.partition(",")[0]
        line = int(number) if number.isdigit() else text.count("\n") + 1
        reason = reason.removesuffix(" (at end of document)")
        message = f"{path}:{line}: not TOML: {reason}"
        raise ConfigError(message) from error


def _tiers(table: object, spot: Spot) -> tuple[tuple[str, str], ...]:
    if not isinstance(table, dict):
        spot.refuse("tiers must be a table: tier = [models]")
    found: list[tuple[str, str]] = []
    for tier, patterns in table.items():
        here = spot.at(tier)
        if not isinstance(patterns, list) or not patterns:
            here.refuse(f"tier {tier!r} must be a list of models with at least one")
        for n, pattern in enumerate(patterns):
            if not isinstance(pattern, str) or not pattern or "*" in pattern[:-1]:
                rule = "a model's name, or a beginning with * at its end"
                here.at(n).refuse(f"tier {tier!r} must hold {rule}, got {pattern!r}")
            found.append((pattern, tier))
    return tuple(found)


def _lists(table: object, spot: Spot) -> dict[str, NamedList]:
    if not isinstance(table, dict):
        spot.refuse("lists must be tables: [lists.NAME]")
    found: dict[str, NamedList] = {}
    for name, entry in table.items():
        here = spot.at(name)
        if name == "networks":
            here.refuse("a list must not be called networks: records name that file so")
        if not isinstance(entry, dict) or not {"path", "kind"} <= entry.keys():
            here.refuse(f"list '{name}' must give path and kind")
        here.only(entry, ("path", "kind", "max_age_days"))
        countries = choice(entry, "kind", ("countries", "names"), spot=here) == "countries"
        file, max_age_days = _file(entry, here)
        try:
            found[name] = read_list(name, file, countries=countries, max_age_days=max_age_days)
        except ConfigError as error:
            here.refuse(f"list '{name}': {error}", hint=error.hint)
    return found


def _networks(document: Mapping[str, Any], root: Spot) -> Networks | None:
    if "networks" not in document:
        return None
    entry, here = document["networks"], root.at("networks")
    if not isinstance(entry, dict) or "path" not in entry:
        here.refuse("networks must be a table that gives path")
    here.only(entry, ("path", "max_age_days"))
    file, max_age_days = _file(entry, here)
    try:
        return Networks.read(file, max_age_days=max_age_days)
    except ConfigError as error:
        here.refuse(f"networks: {error}", hint=error.hint)


def _file(entry: Mapping[str, Any], spot: Spot) -> tuple[Path, int | None]:
    path, age = entry["path"], entry.get("max_age_days")
    if not isinstance(path, str) or not path:
        spot.at("path").refuse(f"path must be a text, got {path!r}")
    if age is not None and (not isinstance(age, int) or isinstance(age, bool) or age < 1):
        spot.at("max_age_days").refuse(f"max_age_days must be a whole number above 0, got {age!r}")
    return spot.source.path.parent / path, age


def _rules(rows: object, spot: Spot, *, known: Known) -> tuple[Rule, ...]:
    if not isinstance(rows, list) or len(rows) > _MOST_RULES:
        spot.refuse(f"rules must be a list of at most {_MOST_RULES} tables: [[rules]]")
    rules: dict[str, Rule] = {}
    for n, row in enumerate(rows):
        rule = parse_rule(row, spot.at(n), known=known)
        if rule.id in rules:
            message = f"id {rule.id!r} is the id of the rule on line {rules[rule.id].line} too"
            spot.at(n, "id").refuse(message)
        rules[rule.id] = rule
    return tuple(rules.values())


def _whole_cases(
    rows: object, spot: Spot, *, rules: tuple[Rule, ...], known: Known
) -> tuple[WholeCase, ...]:
    if not isinstance(rows, list):
        spot.refuse("tests must be a list of tables: [[tests]]")
    found = []
    ids = [rule.id for rule in rules]
    for n, row in enumerate(rows):
        here = spot.at(n)
        if not isinstance(row, dict) or not {"facts", "action"} <= row.keys():
            here.refuse("a test of the whole policy must give facts and action")
        here.only(row, ("facts", "action", "rule", "at"))
        action = choice(row, "action", get_args(Action), spot=here)
        if "rule" in row and row["rule"] not in ids:
            here.at("rule").refuse(f"there is no rule {row['rule']!r}")
        facts = parse_facts(row["facts"], here.at("facts"), known=known)
        at = parse_day(row["at"], here.at("at")) if "at" in row else None
        found.append(WholeCase(facts, action, row.get("rule"), at, here.line))
    return tuple(found)
