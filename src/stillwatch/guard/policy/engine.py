"""Which rules fire on one request, and what they do together.

Precedence, in this order:
1. Rules of kind legal and identity are never lifted. An exemption (action allow) that fires lifts
   the others, and the ladder of campaigns.
2. Among what is left the strictest wins: block, then challenge (unless the account is verified),
   then a throttle whose bucket is empty. What refuses nobody is done all together, and goes by the
   name of the strongest: canary, watermark, strip, log_full, observe. Between equals the first of
   the file decides.
3. A throttle within its limit lets the rest decide. A token is taken only when the question is
   not refused.
4. A shadow rule does nothing; what it would have done is worked out beside the real decision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from stillwatch.guard.policy.document import PolicyFile
from stillwatch.guard.policy.limits import Buckets
from stillwatch.guard.policy.lists import day_of
from stillwatch.guard.policy.questions import Part, Test
from stillwatch.guard.policy.rules import Rule
from stillwatch.guard.policy.vocabulary import PLACES, WORDS, Facts
from stillwatch.guard.wall.decide import REFUSALS, Action
from stillwatch.guard.wall.ladder import DAY_S, NOBODY, QUIET, Rung

_REMEMBERED: Final = 8192  # accounts whose remaining rules are kept
_ACCOUNT, _ORG, _VERIFIED = PLACES["account"], PLACES["org"], PLACES["verified"]
_LOGGED: Final = frozenset({"log_full"})


class Fired(NamedTuple):
    """A rule that fires.

    Attributes:
        rule: the rule.
        is_missing: it fires because a fact is not known, by its fail mode.
    """

    rule: Rule
    is_missing: bool


class Ruling(NamedTuple):
    """What rules do together.

    Attributes:
        effect: what is done; None when no rule has a say (an unfilled throttle has none).
        rule: the one that decides, or None.
        retry_after_s: for throttle, seconds until a token will be there.
        effects: everything that is done quietly: log_full, strip, watermark, canary.
    """

    effect: Action | None = None
    rule: Rule | None = None
    retry_after_s: float | None = None
    effects: frozenset[str] = NOBODY

    @property
    def is_refusal(self) -> bool:
        """Whether the question is not answered."""
        return self.effect in REFUSALS

    @property
    def action(self) -> Action:
        """What is done; allow when no rule has a say."""
        return self.effect or "allow"

    @property
    def rule_id(self) -> str | None:
        """Name of the rule that decides, or None."""
        return self.rule.id if self.rule is not None else None


class Judged(NamedTuple):
    """What the policy says to one request.

    Attributes:
        ruling: what is done.
        would: what would be done if the shadow rules were not; None when that is the same.
        fired: every rule that fires, shadow or not, in the file's order.
    """

    ruling: Ruling
    would: Ruling | None = None
    fired: tuple[Fired, ...] = ()

    @property
    def would_have(self) -> Ruling | None:
        """What would be done, where that is another action by a rule; else None."""
        would = self.would
        if would is None or would.rule is None or would.effect == self.ruling.effect:
            return None
        return would


NOTHING_FIRES: Final = Judged(Ruling())


#: A compiled rule: its first test, at which most requests end, the others, whether it fails closed,
#: the rule. A bare tuple, because a named one takes longer to unpack than a test to ask.
_Gate = tuple[Test, tuple[Test, ...], bool, Rule]
_Gates = tuple[_Gate, ...]


class Engine:
    """A policy, compiled.

    Args:
        policy: as its file has it.

    Attributes:
        policy: as given.
        buckets: of its throttles; shared with the engine before when a file is read again.
        stamp: policy hash, and each list's date and hash, as records carry them.
    """

    def __init__(self, policy: PolicyFile) -> None:
        self.policy = policy
        self.buckets = Buckets()
        self.stamp: Mapping[str, str] = {
            "policy": policy.sha256,
            **{f"list:{s.name}": f"{s.day} {s.sha256}" for s in policy.sources},
        }
        self._compiled: dict[float, list[tuple[Rule, list[Part]]]] = {}
        self._whole: dict[float, _Gates] = {}
        self._left: dict[tuple[str, str | None, float], _Gates] = {}

    def judge(self, facts: Facts, now: float, *, remember: bool = False) -> Judged:
        """Judge one request.

        Args:
            facts: of the request.
            now: UTC epoch seconds.
            remember: as of `firing`.

        Returns:
            What is done, what would be, and why.
        """
        fired = self.firing(facts, now, remember=remember)
        return self.settle(fired, facts, now) if fired else NOTHING_FIRES

    def firing(self, facts: Facts, now: float, *, remember: bool = False) -> list[Fired]:
        """Find the rules that fire.

        Args:
            facts: of the request.
            now: UTC epoch seconds.
            remember: the account's own facts are always these while this engine lives, so that
                rules which they rule out need not be asked again today.

        Returns:
            Rules in the file's order.
        """
        fired: list[Fired] = []
        day = now // DAY_S
        if remember:
            gates = self._left.get((facts[_ACCOUNT], facts[_ORG], day))
            if gates is None:
                gates = self._narrow(facts, day)
        else:
            gates = self._gates(day)
        for first, rest, fails_closed, rule in gates:
            held = first(facts)
            if held is False:
                continue
            for test in rest:
                found = test(facts)
                if found is False:
                    break
                if found is None:
                    held = None
            else:
                if held or fails_closed:
                    fired.append(Fired(rule, held is None))
        return fired

    def settle(self, fired: Sequence[Fired], facts: Facts, now: float) -> Judged:
        """Work out what rules do together, and take the tokens that this costs.

        Args:
            fired: rules that fire.
            facts: of the request.
            now: UTC epoch seconds.

        Returns:
            What is done, what would be, and why.
        """
        waits: dict[str, float] = {}
        keyed: list[tuple[Rule, tuple[str, str], Rung]] = []
        for rule, _ in fired:
            if rule.rung is not None and rule.rung.action == "throttle":
                key = _bucket_of(rule, facts)
                keyed.append((rule, key, rule.rung))
                waits[rule.id] = self.buckets.wait_s(key, now, rung=rule.rung)
        live = [found for found in fired if not found.rule.shadow]
        is_verified = facts[_VERIFIED] is True
        ruling = _ruling(live, waits, is_verified=is_verified)
        would = ruling
        if len(live) < len(fired):
            would = _ruling(fired, waits, is_verified=is_verified)
        for rule, key, rung in keyed:
            if not (would if rule.shadow else ruling).is_refusal:
                self.buckets.take(key, now, rung=rung)
        return Judged(ruling, would if would != ruling else None, tuple(fired))

    def _gates(self, day: float) -> _Gates:
        gates = self._whole.get(day)
        if gates is None:
            gates = tuple(_gate(rule, [p.test for p in parts]) for rule, parts in self._parts(day))
            self._whole = {day: gates}
        return gates

    def _narrow(self, facts: Facts, day: float) -> _Gates:
        """Leave out what the account's own facts have settled for the day."""
        gates = []
        for rule, parts in self._parts(day):
            held = [part.test(facts) if part.of_account else None for part in parts]
            if False not in held:
                open_tests = [p.test for p, known in zip(parts, held, strict=True) if not known]
                gates.append(_gate(rule, open_tests or [_settled]))
        if len(self._left) >= _REMEMBERED:
            self._left.clear()
        self._left[facts[_ACCOUNT], facts[_ORG], day] = tuple(gates)
        return tuple(gates)

    def _parts(self, day: float) -> list[tuple[Rule, list[Part]]]:
        # Dates and ages of lists are whole days, so what was compiled holds for one.
        parts = self._compiled.get(day)
        if parts is None:
            now = day * DAY_S
            parts = [(r, r.parts_at(now)) for r in self.policy.rules if r.holds_at(now)]
            self._compiled = {day: parts}
        return parts


def _gate(rule: Rule, tests: list[Test]) -> _Gate:
    return tests[0], tuple(tests[1:]), rule.fails_closed, rule


def _settled(_: Facts) -> bool:
    """Hold: all that the rule asks is settled for the account."""
    return True


def facts_asked(fired: Sequence[Fired], facts: Facts) -> dict[str, object]:
    """Collect the facts that the firing rules ask about, as plain data for a record.

    Args:
        fired: the rules.
        facts: of the request.

    Returns:
        word -> value; None is not known.
    """
    words = dict.fromkeys(clause.word.name for found in fired for clause in found.rule.clauses)
    return {word: _plain(word, facts[PLACES[word]]) for word in words}


def _plain(word: str, value: object) -> object:
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, dict) and WORDS[word].kind == "hits":
        return {name: day_of(at) for name, at in value.items()}
    return value


def _ruling(fired: Sequence[Fired], waits: Mapping[str, float], *, is_verified: bool) -> Ruling:
    exemption = next((f.rule for f in fired if f.rule.rung is None), None)
    heard = [
        f.rule for f in fired if f.rule.rung is not None and (exemption is None or f.rule.is_strict)
    ]
    quiet = frozenset(rule.effect for rule in heard if rule.effect in QUIET)
    refusing: tuple[Action, ...] = ("block",) if is_verified else ("block", "challenge")
    for effect in refusing:
        for rule in heard:
            if rule.effect == effect:
                return Ruling(effect, rule, effects=quiet & _LOGGED)
    over = [rule for rule in heard if rule.effect == "throttle" and waits[rule.id] > 0]
    if over:
        rule = max(over, key=lambda r: waits[r.id])
        return Ruling("throttle", rule, waits[rule.id], quiet & _LOGGED)
    for name in (*reversed(QUIET), "observe"):
        for rule in heard:
            if rule.effect == name:
                return Ruling(rule.effect, rule, effects=quiet)

    return Ruling() if exemption is None else Ruling("allow", exemption)


def _bucket_of(rule: Rule, facts: Facts) -> tuple[str, str]:
    if rule.per == "rule":
        return rule.id, ""
    account = facts[_ACCOUNT] or ""
    if rule.per == "org" and facts[_ORG]:
        return rule.id, f"org {facts[_ORG]}"
    return rule.id, f"account {account}"
