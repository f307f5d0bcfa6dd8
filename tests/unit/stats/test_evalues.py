import math

import numpy as np
import pytest
from scipy import integrate, stats

from stillwatch.errors import InvalidInputError
from stillwatch.stats.evalues import (
    anytime_log10_p,
    average_log10_e,
    bernoulli_log10_e,
    log10_e_from_p,
    product_log10_e,
)


@pytest.mark.parametrize(("k", "n"), [(0, 0), (3, 10), (9, 10), (40, 100), (0, 30)])
def test_bernoulli_bet_is_the_integral(k, n):
    """The closed form is the average likelihood ratio over all rates above the null."""
    p = 0.25

    def ratio(q: float) -> float:
        return (q / p) ** k * ((1 - q) / (1 - p)) ** (n - k) / (1 - p)

    want = integrate.quad(ratio, p, 1)[0]
    assert pytest.approx(math.log10(want), abs=1e-6) == float(bernoulli_log10_e(k, n, p))


@pytest.mark.parametrize("n", [1, 7, 40])
def test_bernoulli_bet_is_fair(n):
    """Under the null the e-value's expectation is exactly 1."""
    k = np.arange(n + 1)
    e = 10.0 ** bernoulli_log10_e(k, np.full(n + 1, n), 0.3)
    assert pytest.approx(1.0, abs=1e-9) == float(np.sum(e * stats.binom.pmf(k, n, 0.3)))


def test_bernoulli_bet_survives_any_count():
    """Far in either tail the logarithm stays finite and on the right side."""
    assert float(bernoulli_log10_e(90_000, 100_000, 0.25)) > 30_000
    low = float(bernoulli_log10_e(0, 100_000, 0.25))
    assert math.isfinite(low)
    assert low < 0


def test_calibrator_is_fair():
    """Uniform p-values give e-values whose mean is 1; p = exp(-t) tames the end near 0."""

    def weighted(t: float) -> float:
        return float(10 ** log10_e_from_p(math.exp(-t)) * math.exp(-t))

    # Beyond t = 700 the integrand is 1 / t^2, which leaves 1 / 700.
    mean = integrate.quad(weighted, 0, 700, limit=200)[0] + 1 / 700
    assert pytest.approx(1.0, abs=1e-4) == mean
    assert pytest.approx(math.log10(0.5), abs=1e-3) == log10_e_from_p(1.0)


def test_combining():
    """Means and products act on e-values, though only logarithms are handed over."""
    assert pytest.approx(math.log10(5.5)) == average_log10_e([0.0, 1.0])
    assert 3.0 == product_log10_e([1.0, 2.0])
    assert 0.0 == product_log10_e([])


def test_anytime_p_never_rises():
    """Looking on cannot take evidence back."""
    assert [0.0, -1.5, -1.5, -2.0] == anytime_log10_p([-1.0, 1.5, 0.2, 2.0]).tolist()


@pytest.mark.parametrize(
    "call",
    [
        lambda: bernoulli_log10_e(3, 2, 0.5),
        lambda: bernoulli_log10_e(1, 2, 0.0),
        lambda: log10_e_from_p(0.0),
        lambda: average_log10_e([]),
    ],
)
def test_out_of_range_is_refused(call):
    """Counts, probabilities and p-values out of range are refused."""
    with pytest.raises(InvalidInputError):
        call()
