"""Tails of weighted sums agree with rational arithmetic, by both ways of computing them."""

from fractions import Fraction
from math import log10

import numpy as np
import pytest

from stillwatch.errors import InvalidInputError
from stillwatch.stats.pvalues import binomial_upper_tail
from stillwatch.trace.radioactivity import lattice


def exact_tail(weights, chances, at_least):
    """The same tail in rational numbers."""
    masses = {0: Fraction(1)}
    for w, q in zip(weights, chances, strict=True):
        grown = {}
        for s, mass in masses.items():
            grown[s] = grown.get(s, 0) + mass * (1 - q)
            grown[s + w] = grown.get(s + w, 0) + mass * q
        masses = grown
    return sum(mass for s, mass in masses.items() if s >= at_least)


@pytest.mark.parametrize("by_transform", [False, True])
def test_sum_upper_tail_is_exact(by_transform, monkeypatch):
    """Every tail of a mixed sum equals the rational one to nine digits."""
    if by_transform:
        monkeypatch.setattr(lattice, "_MOST_STEPS", 0)
    rng = np.random.default_rng(1)
    weights = [int(w) for w in rng.integers(0, 9, 24)]
    chances = [Fraction(1, int(m)) for m in rng.integers(2, 12, 24)]
    for at_least in range(0, sum(weights) + 1, 7):
        found = lattice.sum_upper_tail(weights, [float(q) for q in chances], at_least=at_least)
        truth = exact_tail(weights, chances, at_least)
        assert pytest.approx(log10(truth.numerator) - log10(truth.denominator), abs=1e-9) == (
            found.log10_p
        )


@pytest.mark.parametrize("by_transform", [False, True])
@pytest.mark.parametrize("seen", [40, 200, 700, 1000])
def test_equal_weights_are_the_binomial(seen, by_transform, monkeypatch):
    """With all weights 1 the tail is the binomial one, far below 1e-300."""
    if by_transform:
        monkeypatch.setattr(lattice, "_MOST_STEPS", 0)
    found = lattice.sum_upper_tail(np.ones(1000, dtype=np.int64), 0.1, at_least=seen)
    assert pytest.approx(binomial_upper_tail(seen, 1000, 0.1).log10_p, abs=1e-8) == found.log10_p


def test_survival_gives_every_tail_at_once():
    """The survival function holds the same tails."""
    weights, chances = [3, 1, 4, 1, 5], [0.1, 0.5, 0.3, 0.25, 0.2]
    survival = lattice.sum_survival(weights, chances)
    for s in range(15):
        tail = lattice.sum_upper_tail(weights, chances, at_least=s)
        assert pytest.approx(tail.p_value, rel=1e-12) == survival[s]


def test_e_value_has_expectation_one():
    """Summed over all outcomes with their chances, the e-value is exactly 1."""
    weights, chances = np.array([3, 1, 4]), np.array([0.1, 0.5, 0.3])
    total = 0.0
    for outcome in np.ndindex(2, 2, 2):
        z = np.array(outcome)
        mass = np.prod(np.where(z == 1, chances, 1 - chances))
        total += mass * 10 ** lattice.sum_log10_e(weights, chances, seen=float(weights @ z))
    assert pytest.approx(1.0, abs=1e-12) == total


def test_nothing_proves_nothing():
    """No items, or items without weight, give p = 1 and e = 1."""
    none = np.empty(0, dtype=np.int64)
    assert (1.0, 0.0) == lattice.sum_upper_tail(none, 0.5, at_least=0)
    assert lattice.sum_log10_e(none, 0.5, seen=0) == 0.0
    assert (1.0, 0.0) == lattice.sum_upper_tail([0, 0], 0.5, at_least=0)


@pytest.mark.parametrize(
    ("weights", "chances", "at_least", "rule"),
    [
        ([1, -1], 0.5, 0, "weights must be"),
        ([0.5], 0.5, 0, "weights must be integers"),
        ([1], 1.0, 0, "chances must be"),
        ([1], 0.5, 2, "at_least must be"),
    ],
)
def test_sums_refuse(weights, chances, at_least, rule):
    """What is no weighted sum of tosses is refused."""
    with pytest.raises(InvalidInputError, match=rule):
        lattice.sum_upper_tail(weights, chances, at_least=at_least)
