"""The generalised binomial: exact against enumeration, the plain binomial and far tails."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from stillwatch.errors import InvalidInputError
from stillwatch.stats.poisson_binomial import poisson_binomial_upper_tail
from stillwatch.stats.pvalues import binomial_upper_tail


@pytest.mark.parametrize("successes", range(7))
def test_equals_enumeration(successes):
    """Six unequal coins, every outcome summed."""
    chances = [0.05, 0.3, 0.5, 0.77, 0.9, 0.999]
    total = sum(
        math.prod(p if heads else 1 - p for heads, p in zip(faces, chances, strict=True))
        for faces in itertools.product((0, 1), repeat=6)
        if sum(faces) >= successes
    )
    assert total == pytest.approx(poisson_binomial_upper_tail(successes, chances).p_value)


@pytest.mark.parametrize(("n", "successes"), [(50, 12), (1000, 260), (1000, 900), (3000, 2950)])
def test_equals_the_plain_binomial(n, successes):
    """Equal coins give the binomial tail, down to thousands of digits."""
    told = poisson_binomial_upper_tail(successes, np.full(n, 0.25)).log10_p
    assert told == pytest.approx(binomial_upper_tail(successes, n, 0.25).log10_p, rel=1e-9)


def test_a_tail_of_two_kinds_of_coins_equals_a_sum_of_products():
    """Below 1e-300 it is what two binomials convolved in exact integers give."""
    few, many, wanted = 60, 240, 297
    first, second = Fraction(1, 10), Fraction(1, 20)
    total = sum(
        math.comb(few, i) * first**i * (1 - first) ** (few - i)
        * math.comb(many, j) * second**j * (1 - second) ** (many - j)
        for i in range(few + 1) for j in range(many + 1) if i + j >= wanted
    )  # fmt: skip
    expected = (math.log(total.numerator) - math.log(total.denominator)) / math.log(10)
    told = poisson_binomial_upper_tail(wanted, [0.1] * few + [0.05] * many)
    assert expected < -300
    assert expected == pytest.approx(told.log10_p, rel=1e-10)


def test_certain_and_impossible_coins():
    """Coins of chance one and zero need no randomness."""
    assert (1.0, 0.0) == poisson_binomial_upper_tail(2, [1.0, 1.0, 0.0, 0.5])
    assert 0.5 == poisson_binomial_upper_tail(3, [1.0, 1.0, 0.0, 0.5]).p_value
    assert (0.0, -math.inf) == poisson_binomial_upper_tail(4, [1.0, 1.0, 0.0, 0.5])
    assert (1.0, 0.0) == poisson_binomial_upper_tail(0, [])


@pytest.mark.parametrize(("successes", "chances"), [(3, [0.5]), (-1, [0.5]), (1, [1.5]),
                                                    (1, [math.nan])])  # fmt: skip
def test_out_of_range_is_refused(successes, chances):
    """A count above the coins, and a chance that is none."""
    with pytest.raises(InvalidInputError, match=r"stats\.poisson_binomial_upper_tail"):
        poisson_binomial_upper_tail(successes, chances)


def test_conservative_under_its_null():
    """Tossed coins give p at most 1, 5 and 10 % no more often than that."""
    rng = np.random.default_rng(4)
    chances = rng.uniform(0.02, 0.9, 60)
    tails = [poisson_binomial_upper_tail(k, chances).p_value for k in range(61)]
    tossed = (rng.random((20_000, 60)) < chances).sum(axis=1)
    p_values = np.array(tails)[tossed]
    for level in (0.01, 0.05, 0.1):
        assert np.mean(p_values <= level) <= level + 3 * math.sqrt(level / 20_000)
        assert np.mean(p_values <= level) >= 0.5 * level
