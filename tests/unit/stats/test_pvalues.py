import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.errors import InvalidInputError
from stillwatch.stats.pvalues import (
    binomial_upper_tail,
    conformal_p,
    gamma_upper_tail,
    ks_uniform,
    permutation_p,
)


def _exact_binomial_log10(successes: int, total: int, probability: Fraction) -> float:
    terms = (
        math.comb(total, i) * probability**i * (1 - probability) ** (total - i)
        for i in range(successes, total + 1)
    )
    exact = sum(terms, Fraction(0))
    return math.log10(exact.numerator) - math.log10(exact.denominator)


@pytest.mark.parametrize(
    ("successes", "total", "probability"),
    [
        (30, 100, Fraction(1, 4)),
        (1, 10, Fraction(1, 128)),
        (420, 1000, Fraction(1, 4)),
        (800, 1000, Fraction(1, 4)),
        (999, 1000, Fraction(1, 4)),
        (1000, 1000, Fraction(1, 4)),
        (390, 500, Fraction(1, 128)),
        (600, 600, Fraction(1, 1024)),
    ],
)
def test_binomial_tail_is_exact(successes, total, probability):
    """The tail agrees with rational arithmetic to nine digits, far below what a double holds."""
    got = binomial_upper_tail(successes, total, float(probability))
    want = _exact_binomial_log10(successes, total, Fraction(float(probability)))
    assert pytest.approx(want, rel=1e-9) == got.log10_p


def test_binomial_tail_has_no_seam():
    """Where the series takes over from the double, the tail keeps falling smoothly."""
    logs = [binomial_upper_tail(k, 3000, 0.25).log10_p for k in range(1500, 1900)]
    steps = np.diff(logs)
    assert (steps < 0).all()
    assert np.abs(np.diff(steps)).max() < 0.01


def test_binomial_tail_underflows_only_as_a_double():
    """Beyond 1e-308 the p-value is 0 and its logarithm is still told."""
    got = binomial_upper_tail(90_000, 100_000, 0.25)
    assert got.p_value == 0.0
    assert -50_000 < got.log10_p < -30_000


@given(st.integers(0, 400), st.integers(0, 400), st.floats(0.01, 0.99))
def test_binomial_tail_falls(successes, misses, probability):
    """One more success in as many trials is never less surprising."""
    total = successes + misses
    here = binomial_upper_tail(successes, total, probability)
    assert 0.0 >= here.log10_p
    if misses:
        assert binomial_upper_tail(successes + 1, total, probability).log10_p <= here.log10_p


@pytest.mark.parametrize(("successes", "total"), [(0, 0), (0, 50)])
def test_binomial_tail_of_nothing(successes, total):
    """Nothing seen is no evidence."""
    assert (1.0, 0.0) == binomial_upper_tail(successes, total, 0.3)


@pytest.mark.parametrize(
    ("successes", "total", "probability"),
    [(-1, 3, 0.5), (4, 3, 0.5), (0, -1, 0.5), (1, 3, 0.0), (1, 3, 1.0), (1, 3, math.nan)],
)
def test_binomial_tail_refuses(successes, total, probability):
    """Counts and probabilities out of range are refused, not guessed."""
    with pytest.raises(InvalidInputError):
        binomial_upper_tail(successes, total, probability)


@pytest.mark.parametrize(
    ("shape", "value"), [(3, 1), (40, 60), (5, 900), (700, 3000), (2000, 9000)]
)
def test_gamma_tail_is_exact(shape, value):
    """For a whole shape the tail is a Poisson sum, computed here with rational numbers."""
    total, term = Fraction(0), Fraction(1)
    for k in range(shape):
        total += term
        term = term * value / (k + 1)
    want = (math.log(total.numerator) - math.log(total.denominator) - value) / math.log(10)
    assert pytest.approx(want, rel=1e-9, abs=1e-9) == gamma_upper_tail(value, shape).log10_p


@pytest.mark.parametrize(("value", "shape"), [(-1.0, 1.0), (1.0, 0.0), (math.nan, 1.0)])
def test_gamma_tail_refuses(value, shape):
    """Sums and shapes out of range are refused."""
    with pytest.raises(InvalidInputError):
        gamma_upper_tail(value, shape)


def test_permutation_p_counts_itself():
    """The observation belongs to its own null, so the p-value never is 0; ties count against it."""
    assert 1 / 1001 == permutation_p(5.0, np.zeros(1000))
    assert 1.0 == permutation_p(0.0, np.zeros(1000))


@pytest.mark.parametrize(("observed", "null"), [(1.0, []), (math.nan, [1.0]), (1.0, [math.nan])])
def test_permutation_p_refuses(observed, null):
    """An empty null and NaN are refused."""
    with pytest.raises(InvalidInputError):
        permutation_p(observed, null)


def test_conformal_p_ranks():
    """Without a generator a score is ranked among the reference, ties against it."""
    got = conformal_p([5.0, 2.0, 0.0], [1.0, 2.0, 3.0])
    assert [0.25, 0.75, 1.0] == got.tolist()


def test_conformal_p_breaks_ties_within_their_step():
    """With a generator a tie lands anywhere within its step, never beyond."""
    rng = np.random.default_rng(0)
    got = conformal_p(np.full(2000, 2.0), [1.0, 2.0, 3.0], rng=rng)
    assert got.min() > 0.25
    assert got.max() <= 0.75
    assert pytest.approx(0.5, abs=0.01) == got.mean()


@pytest.mark.parametrize(("scores", "reference"), [([1.0], []), ([math.nan], [1.0])])
def test_conformal_p_refuses(scores, reference):
    """An empty reference and NaN are refused."""
    with pytest.raises(InvalidInputError):
        conformal_p(scores, reference)


def test_ks_sees_both_failures():
    """p-values that are too small or too large are both found out; even ones are not."""
    even = (np.arange(200) + 0.5) / 200
    assert ks_uniform(even) > 0.99
    assert ks_uniform(even**2) < 1e-6
    assert ks_uniform(np.sqrt(even)) < 1e-6


@pytest.mark.parametrize("values", [[], [1.5], [-0.1], [math.nan]])
def test_ks_refuses(values):
    """What is no p-value is refused."""
    with pytest.raises(InvalidInputError):
        ks_uniform(values)
