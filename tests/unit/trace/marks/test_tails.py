"""Tails of sums, against exact arithmetic and known distributions."""

import math
from fractions import Fraction

import numpy as np
import pytest

from stillwatch.errors import InvalidInputError
from stillwatch.stats.pvalues import binomial_upper_tail, gamma_upper_tail
from stillwatch.trace.marks.tails import (
    Term,
    bernoulli_term,
    exponential_upper_tail,
    lattice_upper_tail,
)


def log10_of(share):
    """Take a logarithm that a double could not hold the argument of."""
    top, bottom = share.numerator, share.denominator
    shifts = [max(x.bit_length() - 60, 0) for x in (top, bottom)]
    parts = [math.log10(x >> s) + s * math.log10(2) for x, s in zip((top, bottom), shifts)]  # noqa: B905 - two and two
    return parts[0] - parts[1]


@pytest.mark.parametrize("weights", [[1] * 40, [1, 2, 3, 5, 8, 13] * 12, [15] * 30 + [1] * 200])
def test_weighted_coins_match_whole_number_sums(weights):
    """Every tenth of the range agrees with exact fractions to 1e-10 in log10."""
    ways = [1]
    for weight in weights:
        longer = [3 * way for way in ways] + [0] * weight
        for i, way in enumerate(ways):
            longer[i + weight] += way
        ways = longer
    groups = np.unique(weights, return_counts=True)
    terms = [bernoulli_term(int(w), 0.25, int(n)) for w, n in zip(*groups, strict=True)]
    for total in np.linspace(0, sum(weights), 11).astype(int):
        exact = log10_of(Fraction(sum(ways[total:]), 4 ** len(weights)))
        assert exact == pytest.approx(lattice_upper_tail(int(total), terms).log10_p, abs=1e-10)


@pytest.mark.parametrize("successes", [2_400, 2_500, 2_600, 3_000, 9_000, 9_999, 10_000])
def test_one_weight_is_the_binomial(successes):
    """Coins of one weight, split in two terms, give the binomial tail down to 1e-6000."""
    terms = [bernoulli_term(3, 0.25, 4_000), bernoulli_term(3, 0.25, 6_000)]
    exact = binomial_upper_tail(successes, 10_000, 0.25).log10_p
    assert exact == pytest.approx(lattice_upper_tail(3 * successes, terms).log10_p, abs=1e-9)


def test_terms_of_any_shape():
    """A term may hold any whole numbers; two dice of different kinds are enumerated."""
    first = Term(np.array([-1, 0, 4]), np.array([0.5, 0.3, 0.2]), 2)
    second = Term(np.array([2, 3]), np.array([0.9, 0.1]), 1)
    every = [
        (a + b + c, first.chances[i] * first.chances[j] * second.chances[k])
        for i, a in enumerate(first.values)
        for j, b in enumerate(first.values)
        for k, c in enumerate(second.values)
    ]
    for total in range(-1, 13):
        exact = sum(chance for value, chance in every if value >= total)
        assert exact == pytest.approx(lattice_upper_tail(total, [first, second]).p_value, abs=1e-12)


def test_ends_of_the_range():
    """Nothing below the range is surprising, nothing above it is possible, no term is no news."""
    terms = [bernoulli_term(2, 0.1, 5)]
    assert (1.0, 0.0) == lattice_upper_tail(0, terms)
    assert pytest.approx(-5.0) == lattice_upper_tail(10, terms).log10_p
    assert (0.0, -math.inf) == lattice_upper_tail(11, terms)
    assert (1.0, 0.0) == lattice_upper_tail(0, [])


@pytest.mark.parametrize(
    ("total", "n"), [(9, 8), (30, 8), (900, 1000), (1000, 1000), (1500, 1000), (5000, 1000)]
)
def test_equal_exponentials_are_a_gamma(total, n):
    """Exponentials split in two terms give the gamma tail on both sides of the mean."""
    exact = gamma_upper_tail(float(total), n).log10_p
    # A second weight that differs in the last digit only takes the general way.
    weights = np.array([1.0, 1.0 - 1e-13])
    found = exponential_upper_tail(float(total), weights, [n // 2, n - n // 2])
    assert exact == pytest.approx(found.log10_p, abs=1e-9)


def test_two_weights_of_exponentials():
    """90 exponentials and 90 halves reach 700 as rarely as 60-digit integration says."""
    found = exponential_upper_tail(700.0, np.array([1.0, 0.5]), [90, 90])
    assert -164.800283064375953 == pytest.approx(found.log10_p, abs=1e-10)


def test_few_exponentials_are_bounded():
    """Below eight terms the bound lies above the exact tail, by less than a factor of eight."""
    for total in (3.0, 6.0, 20.0, 600.0):
        # P[X + Y / 2 >= t] = 2 exp(-t) - exp(-2 t).
        exact = math.log10(2) - total / math.log(10) + math.log10(1 - math.exp(-total) / 2)
        found = exponential_upper_tail(total, np.array([1.0, 0.5]), [1, 1]).log10_p
        assert exact <= found
    assert (1.0, 0.0) == exponential_upper_tail(0.0, np.array([1.0, 0.5]), [1, 1])
    assert (1.0, 0.0) == exponential_upper_tail(5.0, np.array([]), [])


def test_wrong_weights_are_refused():
    """A weight of zero is refused."""
    with pytest.raises(InvalidInputError, match="must be above 0"):
        exponential_upper_tail(1.0, np.array([0.0, 1.0]), [1, 1])
