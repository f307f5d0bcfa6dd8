"""Runs the tests that stand in a policy file, each rule's and the whole's."""

from __future__ import annotations

from typing import NamedTuple

from stillwatch.errors import ConfigError
from stillwatch.guard.policy.document import PolicyFile, WholeCase
from stillwatch.guard.policy.engine import Engine
from stillwatch.guard.policy.questions import all_of
from stillwatch.guard.policy.rules import Case, Rule


class CaseResult(NamedTuple):
    """What one test came to.

    Attributes:
        rule: the rule's id, "" for a test of the whole.
        line: where it stands.
        failure: what was expected and what came, or None when it holds.
    """

    rule: str
    line: int
    failure: str | None = None


def run_cases(policy: PolicyFile) -> list[CaseResult]:
    """Run every test of a policy.

    Rules in shadow are tested as if they were not, and a test without a day runs on one at which
    the rule is in force and every list fresh.

    Args:
        policy: the policy.

    Returns:
        One result a test, in the file's order.
    """
    results = [
        CaseResult(rule.id, case.line, _rule_failure(rule, case))
        for rule in policy.rules
        for case in rule.cases
    ]
    results += [CaseResult("", c.line, _whole_failure(policy, c)) for c in policy.cases]
    return results


def check_cases(policy: PolicyFile) -> None:
    """Refuse a policy of which a test fails.

    Args:
        policy: the policy.

    Raises:
        ConfigError: a test fails; names file, line and what came instead.
    """
    for result in run_cases(policy):
        if result.failure is not None:
            name = f"rule {result.rule!r}: " if result.rule else ""
            message = f"{policy.path}:{result.line}: {name}test fails: {result.failure}"
            raise ConfigError(message)


def _rule_failure(rule: Rule, case: Case) -> str | None:
    at = case.at
    if at is None:
        at = max([rule.from_at, *(found.date for c in rule.clauses for found in c.lists)])
        parts = rule.parts_at(at)
    elif rule.holds_at(at):
        parts = rule.parts_at(at)
    else:
        return None if not case.fires else "it must fire and is not in force on that day"
    held = all_of([part.test for part in parts])(case.facts)
    fires = rule.fails_closed if held is None else held
    if fires == case.fires:
        return None
    why = " (a fact that decides is not known)" if held is None else ""
    return f"it must {_verb(case.fires)} and {'does' if fires else 'does not'}{why}"


def _verb(fires: bool) -> str:
    return "fire" if fires else "not fire"


def _whole_failure(policy: PolicyFile, case: WholeCase) -> str | None:
    at = case.at
    if at is None:
        days = [found.date for found in policy.sources]
        at = max([0.0, *days, *(rule.from_at for rule in policy.rules)])
    judged = Engine(policy).judge(case.facts, at)
    ruling = judged.would or judged.ruling
    action, rule = ruling.action, ruling.rule_id
    if action != case.action:
        return f"action must be {case.action}, got {action} by {rule or 'no rule'}"
    if case.rule is not None and case.rule != rule:
        return f"rule {case.rule!r} must decide, got {rule or 'no rule'}"
    return None
