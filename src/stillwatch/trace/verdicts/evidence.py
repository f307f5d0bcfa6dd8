"""How findings become one number: averaged where they share a draw, multiplied where they do not.

Everything here keeps one promise: the largest value that the number ever has, over all time and
however one decides when to look, has expectation at most 1 if the suspect knows none of our draws.
So 1 over it is a p-value at every moment (Markov), the number never falls, and it does not matter
what is looked at when. Three rules make it so.

1. A test that may be watched gives its running maximum M. 1 / M is a p-value that holds at all
   times (Ville), and a calibrator turns it back into evidence. The detour is needed: M itself is no
   e-value, and averaging the plain processes of two tests that share a key is not safe against
   stopping either, since one test may show early what the other will see.
2. A test that is looked at k times, at sizes fixed beforehand, puts 1/k of its stake on each look.
3. A draw that is planned and not (yet) reported counts as nothing: leaving a bad result out cannot
   help. Of the stake put on a draw only the share `hedge` is at risk.

Source: Vovk and Wang 2021 (calibrators, averages, products); Dawid et al. 2011 (insuring a running
maximum); the hedge is ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from stillwatch.errors import reject
from stillwatch.stats.evalues import average_log10_e
from stillwatch.trace.preregister import PlannedTest
from stillwatch.trace.verdicts.finding import Finding

#: Exponent of the calibrator kappa p ** (kappa - 1): within a fifth of a digit of the best exponent
#: for p between 1e-3 and 1e-20, where verdicts are decided (docs/verdict.md).
KAPPA = 0.05


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """What one draw of ours says about one suspect.

    Attributes:
        randomisation: the draw.
        log10_e: evidence of all tests that rest on it, averaged; None = nothing reported yet.
        log10_p: the smallest p-value among them, times their number.
        tests: the planned tests that were reported.
        missing: the planned tests that were not: they count as nothing.
        n: units scored by the largest of them.
        needed: units that its power plan asked for, where known.
    """

    randomisation: str
    log10_e: float | None
    log10_p: float
    tests: tuple[str, ...]
    missing: tuple[str, ...]
    n: int = 0
    needed: int | None = None


def calibrated_log10_e(log10_p: float) -> float:
    """Turn a p-value into an e-value.

    Args:
        log10_p: at most 0.

    Returns:
        log10 of kappa p ** (kappa - 1), whose expectation is 1 for uniform p.

    Example:
        >>> round(calibrated_log10_e(-8.0), 2)
        6.3
    """
    return math.log10(KAPPA) + (KAPPA - 1) * min(log10_p, 0.0)


def weigh(planned: Sequence[PlannedTest], findings: Sequence[Finding]) -> tuple[Channel, ...]:
    """Weigh one suspect's findings for one claim, draw by draw.

    Args:
        planned: every test of the claim.
        findings: the suspect's; several of one test are its looks, in order of time. What is not
            planned is passed over.

    Returns:
        One channel for every planned draw, in the plan's order.

    Raises:
        InvalidInputError: a test was looked at more often than planned, or is to be watched at any
            time and its finding is not `sequential`.
    """
    by_draw: dict[str, list[PlannedTest]] = {}
    for test in planned:
        by_draw.setdefault(test.randomisation, []).append(test)
    found: dict[tuple[str, str], list[Finding]] = {}
    for one in findings:
        found.setdefault((one.randomisation or "", one.test), []).append(one)
    return tuple(_channel(draw, tests, found) for draw, tests in by_draw.items())


def combine(channels: Sequence[Channel], hedge: float) -> float:
    """Multiply the evidence of independent draws.

    Args:
        channels: from `weigh`, one for each planned draw.
        hedge: share of the stake that is put on each; with one draw all of it is.

    Returns:
        log10 of the evidence against "the suspect knows none of our draws"; -inf for one draw of
        which nothing is reported.
    """
    if len(channels) == 1:
        only = channels[0].log10_e
        return -math.inf if only is None else only
    total = 0.0
    for channel in channels:
        kept = math.log10(1 - hedge) if hedge < 1 else -math.inf
        won = -math.inf if channel.log10_e is None else math.log10(hedge) + channel.log10_e
        total += float(np.logaddexp(kept * math.log(10), won * math.log(10))) / math.log(10)
    return total


def claim_log10_p(channels: Sequence[Channel], hedge: float) -> float:
    """Give the p-value of one claim against one suspect, valid whenever it is looked at.

    Args:
        channels: from `weigh`.
        hedge: as for `combine`.

    Returns:
        log10 of it, at most 0. With several draws 1 / evidence; with one draw its own p-value,
        which has not paid for being multiplied.
    """
    if len(channels) == 1:
        return min(channels[0].log10_p, 0.0)
    return min(-combine(channels, hedge), 0.0)


def _channel(
    draw: str,
    tests: Sequence[PlannedTest],
    found: Mapping[tuple[str, str], Sequence[Finding]],
) -> Channel:
    stakes: list[float] = []
    logs_p: list[float] = []
    reported: list[PlannedTest] = []
    largest: Finding | None = None
    for test in tests:
        looks = found.get((draw, test.test), ())
        evidence, log10_p = _test_evidence(test, looks)
        stakes.append(evidence)
        logs_p.append(log10_p)
        if looks:
            reported.append(test)
            largest = max((one for one in (largest, *looks) if one), key=lambda one: one.n)
    names = {test.test for test in reported}
    needed = next((t.needed for t in reported if largest and t.test == largest.test), None)
    return Channel(
        randomisation=draw,
        log10_e=_mean(stakes) if reported else None,
        log10_p=min(min(logs_p) + math.log10(len(tests)), 0.0),
        tests=tuple(test.test for test in reported),
        missing=tuple(test.test for test in tests if test.test not in names),
        n=largest.n if largest else 0,
        needed=needed or (largest.needed if largest else None),
    )


def _test_evidence(test: PlannedTest, looks: Sequence[Finding]) -> tuple[float, float]:
    """Give log10 of one test's evidence so far, and of its p-value so far."""
    if not looks:
        return -math.inf, 0.0
    where = f"verdict: {test.test} on {test.randomisation}"
    if test.looks == 0:
        if not all(one.sequential and one.e_log10 is not None for one in looks):
            hint = "plan a number of looks at fixed sizes, or use a test that may be watched"
            reject(where, "the finding", "sequential with an e-value", got="another", hint=hint)
        best = max(max(one.e_log10 or 0.0, 0.0) for one in looks)
        return calibrated_log10_e(-best), -best
    if len(looks) > test.looks:
        rule = f"at most the {test.looks} planned"
        reject(where, "the number of looks", rule, got=len(looks))
    spent = math.log10(test.looks)
    evidence = _mean([_look_log10_e(one) for one in looks]) + math.log10(len(looks))
    return evidence - spent, min(min(_look_log10_p(one) for one in looks) + spent, 0.0)


def _mean(log10_e: Sequence[float]) -> float:
    return log10_e[0] if len(log10_e) == 1 else average_log10_e(log10_e)


def _look_log10_e(one: Finding) -> float:
    """An e-value for one look; a running maximum is none and goes through its p-value."""
    if one.e_log10 is not None and not one.sequential:
        return one.e_log10
    return calibrated_log10_e(_look_log10_p(one))


def _look_log10_p(one: Finding) -> float:
    """A p-value for one look; of a watched test only 1 over its running maximum is one."""
    if one.log10_p is not None and not one.sequential:
        return min(one.log10_p, 0.0)
    return -max(one.e_log10 or 0.0, 0.0)
