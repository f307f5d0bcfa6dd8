"""Canaries, planned and tested: how many are needed, and what the suspect's picks prove.

Under the null the suspect's picks do not depend on our draw. Given the picks, each one is therefore
the drawn variant with chance 1/m, independently, whatever habits the suspect has: the test is an
exact binomial one. Where reference models tell which variants are given by habit, a match on a rare
variant counts for more than a match on a popular one; that raises the power and cannot touch the
level, since the weights are fixed before the draw is looked at.

Source: the randomised-variant idea is that of data taggants and of keyed rephrasings (arXiv
2410.09101, 2504.13416); the weighting, the e-value and the code are ours.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from stillwatch.errors import reject
from stillwatch.stats.intervals import wilson
from stillwatch.stats.pvalues import PValue, binomial_upper_tail
from stillwatch.trace.canaries.canary import Assignment, drawn_index
from stillwatch.trace.radioactivity.lattice import sum_survival, sum_upper_tail
from stillwatch.trace.verdicts.finding import Finding

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Picks = Mapping[str, int | None]
Shares = Mapping[str, Sequence[float]]

#: Adoptions that the e-value bets on at once: none has to be guessed before looking.
_BETS = np.array([0.02, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 0.95])
#: The heaviest match counts 60 units: rounding changes a weight by less than 1 %.
_UNITS = 60
#: What weights are made for when nothing is planned; 0.1 and 0.6 give nearly the same weights.
_ADOPTION = 0.3
_MOST = 1_000_000  # canaries: more are no plan
NULL = "the suspect's answers do not depend on which variants we drew and served"


@dataclass(frozen=True)
class Adoption:
    """How a suspect that learned from us is expected to take up canaries.

    Attributes:
        mean: chance that it gives a variant because it was taught it; for the rest it picks by
            habit, and habit meets the draw in 1 of m.
        spread: standard deviation of `mean` between suspects (a beta distribution); 0 = known.
        named: share of canaries for which its answers show exactly one variant.
    """

    mean: float
    spread: float = 0.0
    named: float = 1.0

    def __post_init__(self) -> None:
        """Refuse impossible shares.

        Raises:
            InvalidInputError: a share is out of range, or the spread is too wide for the mean.
        """
        if not 0 < self.mean <= 1:
            reject("Adoption", "mean", "above 0 and at most 1", got=self.mean)
        if not 0 < self.named <= 1:
            reject("Adoption", "named", "above 0 and at most 1", got=self.named)
        widest = math.sqrt(self.mean * (1 - self.mean))
        if self.spread and not 0 < self.spread < widest:
            reject("Adoption", "spread", f"0, or above 0 and below {widest:.3f}", got=self.spread)

    def after(self, exposures: int) -> Adoption:
        """Give the adoption of what was served several times, each time with the same chance.

        Args:
            exposures: how often each canary is served (count, at least 1).

        Returns:
            The same assumptions with mean 1 - (1 - mean) ** exposures; docs/canary.md compares it
            with trained students.

        Raises:
            InvalidInputError: no exposure.
        """
        if exposures < 1:
            reject("Adoption.after", "exposures", "at least 1", got=exposures)
        return Adoption(1 - (1 - self.mean) ** exposures, self.spread, self.named)

    def means(self) -> Floats:
        """Give equally likely adoptions, shape (k,), that stand for the spread."""
        if not self.spread:
            return np.array([self.mean])
        size = self.mean * (1 - self.mean) / self.spread**2 - 1
        places = (np.arange(40) + 0.5) / 40
        return np.asarray(stats.beta.ppf(places, self.mean * size, (1 - self.mean) * size))


class CanaryPlan(NamedTuple):
    """A planned canary test.

    Attributes:
        n: canaries to serve (count).
        m: variants of each (count).
        adoption: what was assumed.
        alpha: p-value to reach.
        power: chance of reaching it, exact under the assumptions.
        critical: matches that reach alpha when all n are named; n + 1 when not even n do.
    """

    n: int
    m: int
    adoption: Adoption
    alpha: float
    power: float
    critical: int


def plan_canaries(
    n: int | None = None,
    m: int = 10,
    *,
    adoption: Adoption | float,
    alpha: float = 1e-6,
    power: float = 0.9,
) -> CanaryPlan:
    """Plan a canary test: how many canaries, or how much power a given number has.

    Args:
        n: canaries; None asks for the smallest number from which the power stays at or above
            `power` (it moves in teeth, because counts are whole).
        m: variants of each canary, at least 2.
        adoption: assumptions, or the mean alone.
        alpha: p-value to reach, divided by the number of suspects and claims beforehand.
        power: chance of reaching it, for n = None.

    Returns:
        The plan.

    Raises:
        InvalidInputError: a number is out of range, or a million canaries are not enough.

    Example:
        >>> plan_canaries(m=10, adoption=0.3).n
        79
    """
    where = "plan_canaries"
    if m < 2:
        reject(where, "m", "at least 2", got=m)
    for name, value in (("alpha", alpha), ("power", power)):
        if not 0 < value < 1:
            reject(where, name, "strictly between 0 and 1", got=value)
    assumed = adoption if isinstance(adoption, Adoption) else Adoption(adoption)
    if n is not None and n < 1:
        reject(where, "n", "at least 1", got=n)
    count = n if n is not None else _smallest(assumed, m, (alpha, power))
    reached = float(_powers(np.array([count]), m, (assumed, alpha))[0])
    return CanaryPlan(
        count, m, assumed, alpha, reached, int(_critical(np.array([count]), m, alpha)[0])
    )


def prove_canaries(
    assignment: Assignment,
    picks: Picks,
    *,
    void: Collection[str] = (),
    priors: Shares | None = None,
    plan: CanaryPlan | None = None,
    sequential: bool = False,
) -> Finding:
    """Test whether a suspect gives the variants that we drew.

    Args:
        assignment: what was drawn and committed.
        picks: canary id -> index of the variant that the suspect shows, or None.
        void: canaries left out because the record says that they were not served, or leaked.
        priors: canary id -> share of each variant among reference models: `canary.prior_shares`.
        plan: what was planned, for `needed` and for the weights; None where nothing was.
        sequential: the canaries are asked in the assignment's order and may be watched: the
            e-value is then the largest so far. Otherwise it is the one at the end.

    Returns:
        The finding: p exact for the picks given, and an e-value for the same null; watched, p is 1
        over the largest evidence so far and holds at every moment.

    Raises:
        InvalidInputError: a pick is no variant, or a prior does not fit its canary.
    """
    rows = _rows(assignment, picks, (frozenset(void), priors))
    weights = _weights(rows, plan.adoption.mean if plan else _ADOPTION)
    z = np.array([row.match for row in rows], dtype=np.int64)
    chances = np.array([1 / row.m for row in rows])
    found = PValue(1.0, 0.0)
    if rows:
        found = sum_upper_tail(weights, chances, at_least=int(weights @ z))
    running = _running_log10_e(rows)
    best = float(running.max())
    return Finding(
        test="canary",
        statistic=float(z.sum()),
        p_value=10.0**-best if sequential else found.p_value,
        log10_p=-best if sequential else found.log10_p,
        e_log10=best if sequential else float(running[-1]),
        randomisation=assignment.randomisation,
        n=len(rows),
        needed=plan.n if plan else None,
        sequential=sequential,
        null=NULL,
        notes=_notes(rows, len(assignment.canaries) - len(void), plan),
        details=_details(rows, z, (len(assignment.canaries), len(void), priors is not None)),
    )


def redrawn_log10_p(
    assignment: Assignment, picks: Picks, *, draws: int, rng: np.random.Generator
) -> Floats:
    """Repeat the test with draws that nobody served: the audit of the whole pipeline.

    Args:
        assignment: whose canaries to draw again.
        picks: the suspect's.
        draws: how many (count).
        rng: makes the decoys' keys.

    Returns:
        log10 of each p-value, shape (draws,).
    """
    named = [c for c in assignment.canaries if picks.get(c.canary_id) is not None]
    chosen = np.array([picks[c.canary_id] for c in named], dtype=np.int64)
    rows = _rows(assignment, picks, (frozenset(), None))
    weights = _weights(rows, _ADOPTION)
    survival = sum_survival(weights, np.array([1 / row.m for row in rows]))
    sums = []
    for _ in range(draws):
        key = rng.bytes(32)
        drawn = np.array([drawn_index(canary, key=key) for canary in named], dtype=np.int64)
        sums.append(int(weights @ (chosen == drawn)))
    return np.asarray(np.log10(np.maximum(survival[sums], 1e-300)))


class _Row(NamedTuple):
    """One canary with a pick: variants, whether it is the drawn one, and its share by habit."""

    m: int
    match: bool
    share: float


def _rows(
    assignment: Assignment, picks: Picks, scope: tuple[frozenset[str], Shares | None]
) -> list[_Row]:
    void, priors = scope
    rows = []
    for canary, served in zip(assignment.canaries, assignment.served, strict=True):
        pick = picks.get(canary.canary_id)
        if pick is None or canary.canary_id in void:
            continue
        m = len(canary.variants)
        if not 0 <= pick < m:
            reject("prove_canaries", canary.canary_id, f"in 0..{m - 1}", got=pick)
        shares = priors.get(canary.canary_id) if priors else None
        if shares is not None and not (len(shares) == m and min(shares) > 0):
            rule = f"{m} shares above 0"
            reject("prove_canaries", f"priors[{canary.canary_id!r}]", rule, got=len(shares))
        share = 1 / m if shares is None else shares[pick] / math.fsum(shares)
        rows.append(_Row(m, pick == served, share))
    return rows


def _weights(rows: Sequence[_Row], adoption: float) -> Ints:
    """Weigh a match by its log-likelihood ratio against a miss, in whole units."""
    if not rows:
        return np.empty(0, dtype=np.int64)
    a = min(adoption, 0.99)
    ratios = np.array([math.log1p(a / ((1 - a) * row.share)) for row in rows])
    if ratios.max() - ratios.min() < 1e-9:
        return np.ones(len(rows), dtype=np.int64)
    units = np.maximum(np.rint(ratios / ratios.max() * _UNITS), 1)
    return np.asarray(units, dtype=np.int64)


def _running_log10_e(rows: Sequence[_Row]) -> Floats:
    """Bet on each canary in turn; every factor has mean 1 over our draw, whatever the pick."""
    a = _BETS[:, None]
    share = np.array([row.share for row in rows])
    m = np.array([row.m for row in rows], dtype=np.float64)
    match = np.array([row.match for row in rows], dtype=np.float64)
    habit = (1 - a) * share
    factors = np.log(a * match + habit) - np.log(a / m + habit)  # (bets, canaries)
    paths = np.concatenate([np.zeros((len(_BETS), 1)), np.cumsum(factors, axis=1)], axis=1)
    mixed = special.logsumexp(paths, axis=0) - math.log(len(_BETS))
    return np.asarray(mixed / math.log(10.0))


def _notes(rows: Sequence[_Row], n_asked: int, plan: CanaryPlan | None) -> tuple[str, ...]:
    notes = []
    if len(rows) < n_asked:
        notes.append(f"{n_asked - len(rows)} of {n_asked} canaries show no single variant")
    if plan is not None and n_asked < plan.n:
        notes.append(f"{n_asked} canaries asked, {plan.n} planned: the power is below the plan's")
    if plan is None:
        notes.append("no plan was given: the power is not known")
    return tuple(notes)


def _details(rows: Sequence[_Row], z: Ints, counts: tuple[int, int, bool]) -> dict[str, Any]:
    n_drawn, n_void, weighted = counts
    matches = int(z.sum())
    rate = wilson(matches, len(rows))
    expected = math.fsum(1 / row.m for row in rows)
    details: dict[str, Any] = {
        "asked": n_drawn - n_void,
        "void": n_void,
        "named": len(rows),
        "matches": matches,
        "expected": expected,
        "match_rate_low": rate.low,
        "match_rate_high": rate.high,
        "weighted_by_references": weighted,
    }
    sizes = {row.m for row in rows}
    if len(sizes) == 1:
        (m,) = sizes
        plain = binomial_upper_tail(matches, len(rows), 1 / m)
        details["unweighted_log10_p"] = plain.log10_p
        details["adoption"] = max((matches / len(rows) - 1 / m) / (1 - 1 / m), 0.0)
    return details


def _critical(n: Ints, m: int, alpha: float) -> Ints:
    """Give the smallest count whose exact p-value is at most alpha."""
    return np.asarray(stats.binom.isf(alpha, n, 1 / m) + 1, dtype=np.int64)


def _powers(n: Ints, m: int, aim: tuple[Adoption, float]) -> Floats:
    """Compute the exact power for each number of canaries, shape (k,)."""
    assumed, alpha = aim
    rates = assumed.means() * (1 - 1 / m) + 1 / m
    if assumed.named == 1:
        below = _critical(n, m, alpha) - 1
        reached = np.asarray(stats.binom.sf(below[:, None], n[:, None], rates))
        return np.asarray(reached.mean(axis=1))
    powers = []
    for count in n:
        low, high = stats.binom.interval(1 - 1e-9, count, assumed.named)
        named = np.arange(int(low), int(high) + 1)
        below = _critical(named, m, alpha) - 1
        reached = np.asarray(stats.binom.sf(below[:, None], named[:, None], rates))
        powers.append(float(stats.binom.pmf(named, count, assumed.named) @ reached.mean(axis=1)))
    return np.array(powers)


def _smallest(assumed: Adoption, m: int, aim: tuple[float, float]) -> int:
    alpha, power = aim
    high = 8
    while _powers(np.array([high]), m, (assumed, alpha))[0] < power:
        high *= 2
        if high > _MOST:
            hint = "more variants a canary, or more exposures, raise what one canary tells"
            rule = "reachable with a million canaries"
            reject("plan_canaries", "power", rule, got=power, hint=hint)
    # Teeth are a few canaries wide: beyond twice the first success none comes down so far.
    step = max(high // 4096, 1)
    tried = np.arange(1, 2 * high + 1, step)
    short = np.flatnonzero(_powers(tried, m, (assumed, alpha)) < power)
    return int(tried[short[-1] + 1]) if short.size else 1
