"""Weighted sums of green windows: the weights, and the exact chance of the sum."""

import math

import numpy as np
import pytest
from scipy import stats

from stillwatch.errors import InvalidInputError
from stillwatch.trace.radioactivity.weights import (
    Excess,
    WeightedNull,
    entropy_weights,
    spread_of,
    whole_weights,
)


def excess(observed, expected):
    """Windows with these counts."""
    n = len(observed)
    return Excess(
        np.zeros((n, 1), dtype=np.int64),
        np.arange(n),
        np.asarray(observed, dtype=np.float64),
        np.asarray(expected, dtype=np.float64),
    )


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_tail_equals_the_sum_over_all_outcomes(seed):
    """Every tail of a small weighted sum equals the sum over all outcomes."""
    weights = np.random.default_rng(seed).integers(-5, 6, 12)
    null = WeightedNull.of(weights, 0.3)
    bits = (np.arange(2**12)[:, None] >> np.arange(12)) & 1 == 1
    totals, chances = bits @ weights, np.where(bits, 0.3, 0.7).prod(axis=1)
    for total in range(int(totals.min()) - 2, int(totals.max()) + 1):
        expected = chances[totals >= total].sum()
        assert expected == pytest.approx(null.p_value(total).p_value, rel=1e-9)
        assert expected == pytest.approx(null.p_values([total])[0], abs=1e-12)
    assert null.p_values([int(totals.max()) + 1])[0] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("green", [200, 250, 300, 500, 900, 999, 1000])
def test_equal_weights_are_a_binomial_count(green):
    """With equal weights the tail is the binomial one, to 1e-9 in the logarithm, beyond 1e-300."""
    tail = WeightedNull.of(np.full(1000, 3), 0.25).p_value(3 * green)
    expected = stats.binom.logsf(green - 1, 1000, 0.25) / math.log(10)
    if np.isinf(expected):
        pmf = stats.binom.logpmf(np.arange(green, 1001), 1000, 0.25)
        expected = np.logaddexp.reduce(pmf) / math.log(10)
    assert expected == pytest.approx(tail.log10_p, rel=1e-9, abs=1e-9)


def test_e_values_have_expectation_one():
    """Averaged over the null's own chances, the e-value is 1."""
    null = WeightedNull.of(np.array([1, 1, 2, 3, -2]), 0.25)
    totals = np.arange(-2, 8)
    reach = np.append(null.p_values(totals), 0.0)
    mean = sum((reach[:-1] - reach[1:]) * [10 ** null.log10_e(int(total)) for total in totals])
    assert 1.0 == pytest.approx(mean, rel=1e-9)


def test_nothing_weighed_is_no_evidence():
    """Without weights every p-value is 1 and every e-value too."""
    null = WeightedNull.of(np.zeros(4, dtype=np.int64), 0.25)
    assert (1.0, 0.0) == null.p_value(0)
    assert [1.0] == null.p_values([0]).tolist()
    assert null.log10_e(0) == 0.0


def test_expected_windows_weigh_nothing():
    """What was written as often as expected weighs nothing; rare surprises outweigh common ones."""
    weights = entropy_weights(excess([5.0, 8.0, 103.0, 0.0], [5.0, 5.0, 100.0, 2.0]), spread=0.3)
    assert weights[0] == 0.0
    assert weights[1] > weights[2] > 0.0 > weights[3]


def test_spread_is_recovered():
    """The scatter of a suspect's habits around the model's is estimated from its counts."""
    rng = np.random.default_rng(0)
    expected = rng.exponential(30.0, 20_000)
    habits = rng.normal(0.0, 0.4, 20_000) - 0.08
    found = spread_of(excess(rng.poisson(expected * np.exp(habits)), expected))
    # The sd of exp(N(-0.08, 0.4)) is 0.417.
    assert found == pytest.approx(0.417, abs=0.03)
    assert spread_of(excess([1.0], [0.2])) == 0.0


def test_whole_weights_keep_order_and_sign():
    """Rounding keeps sign and size, and cuts the few largest down to the top level."""
    weights = whole_weights(np.concatenate([[50.0, -50.0], np.linspace(-1, 1, 20_001)]), levels=10)
    assert (10, -10) == (weights[0], weights[1])
    assert (np.diff(weights[2:]) >= 0).all()
    assert (-10, 0, 10) == (weights[2:].min(), weights[10_002], weights[2:].max())
    assert [0, 0] == whole_weights([0.0, 0.0]).tolist()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: whole_weights([1.0], levels=0), "levels must be at least 1, got 0"),
        (lambda: whole_weights([np.nan]), "weights must be finite"),
        (lambda: WeightedNull.of(np.array([1]), 1.0), "gamma must be strictly between 0 and 1"),
        (lambda: WeightedNull.of(np.array([1]), 0.5).p_value(2), "total must be between 0 and 1"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    """Values out of range are refused by name."""
    with pytest.raises(InvalidInputError, match=message):
        call()
