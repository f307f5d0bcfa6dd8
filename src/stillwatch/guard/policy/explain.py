"""Why a policy does what it does to one account: every rule, and each of its questions."""

from __future__ import annotations

from typing import NamedTuple

from stillwatch.guard.policy.clauses import Clause
from stillwatch.guard.policy.engine import Engine, Judged
from stillwatch.guard.policy.facts_file import shown
from stillwatch.guard.policy.lists import day_of
from stillwatch.guard.policy.questions import Held
from stillwatch.guard.policy.rules import Rule
from stillwatch.guard.policy.vocabulary import PLACES, Facts

_WORDS_OF = {True: "yes", False: "no", None: "not known"}


class RuleAnswer(NamedTuple):
    """What one rule says.

    Attributes:
        rule: the rule.
        state: fires, fires on missing facts, does not fire, or not in force.
        questions: each question with its answer and the fact, as a person reads it.
    """

    rule: Rule
    state: str
    questions: tuple[str, ...]


class Answered(NamedTuple):
    """What the whole policy says.

    Attributes:
        judged: what is done, and what would be.
        rules: one a rule, in the file's order.
    """

    judged: Judged
    rules: tuple[RuleAnswer, ...]


def explain(engine: Engine, facts: Facts, now: float) -> Answered:
    """Explain what is done to one request.

    Args:
        engine: the policy.
        facts: of the request.
        now: UTC epoch seconds.

    Returns:
        What is done, and what each rule says.
    """
    judged = engine.judge(facts, now)
    fired = {found.rule.id: found for found in judged.fired}
    rules = []
    for rule in engine.policy.rules:
        found = fired.get(rule.id)
        if not rule.holds_at(now):
            state = f"not in force on {day_of(now)}"
        elif found is None:
            state = "does not fire"
        else:
            state = "fires, because a fact is not known" if found.is_missing else "fires"
        rules.append(RuleAnswer(rule, state, tuple(_questions(rule, facts, now))))
    return Answered(judged, tuple(rules))


def _questions(rule: Rule, facts: Facts, now: float) -> list[str]:
    lines = [_question(clause, facts, now) for clause in rule.when]
    for title, groups in (("one of", rule.any), ("none of", rule.unless)):
        for group in groups:
            joined = "; ".join(_question(clause, facts, now) for clause in group)
            lines.append(f"{title}: {joined}")
    return lines


def _question(clause: Clause, facts: Facts, now: float) -> str:
    held: Held = clause.test_at(now)(facts)
    value = shown(clause.word, facts[PLACES[clause.word.name]])
    stale = [found.name for found in clause.lists if now >= found.stale_at]
    why = f"; list {', '.join(stale)} is too old" if stale else ""
    return f"{clause.text}? {_WORDS_OF[held]} ({value}{why})"
