"""Numbers called p-values behave as such: at most as often small as they say."""

import numpy as np
import pytest

from stillwatch.stats.evalues import anytime_log10_p, bernoulli_log10_e
from stillwatch.stats.intervals import paired_difference, wilson
from stillwatch.stats.multiple import benjamini_hochberg, e_bh, holm
from stillwatch.stats.pvalues import binomial_upper_tail, conformal_p, ks_uniform, permutation_p

DRAWS = 4000
# Three standard errors of a share of 4,000 draws at 1, 5 and 10 percent.
LEVELS = [(0.01, 0.0048), (0.05, 0.0104), (0.10, 0.0143)]


@pytest.mark.parametrize(("level", "slack"), LEVELS)
def test_binomial_p_keeps_its_level(level, slack):
    """Under the null a binomial p-value is below a level no more often than the level."""
    rng = np.random.default_rng(1)
    green = rng.binomial(6000, 0.25, size=DRAWS)
    p = np.array([binomial_upper_tail(int(k), 6000, 0.25).p_value for k in green])
    assert pytest.approx(level, abs=slack) == np.mean(p <= level)


@pytest.mark.parametrize(("level", "slack"), LEVELS)
def test_permutation_p_keeps_its_level(level, slack):
    """A statistic among its own draws is uniform over its ranks."""
    rng = np.random.default_rng(2)
    p = np.array([permutation_p(x[0], x[1:]) for x in rng.normal(size=(DRAWS, 200))])
    assert np.mean(p <= level) <= level + slack


def test_conformal_p_is_uniform():
    """Against a fresh reference each time, randomised conformal p-values are exactly uniform."""
    rng = np.random.default_rng(3)
    scores = rng.poisson(3, size=(DRAWS, 60))
    p = [conformal_p(row[:1], row[1:], rng=rng)[0] for row in scores]
    assert ks_uniform(p) > 0.01


def test_ks_keeps_its_level():
    """The test of uniformity itself raises its voice no more often than it should."""
    rng = np.random.default_rng(4)
    p = np.array([ks_uniform(rng.random(300)) for _ in range(1000)])
    assert pytest.approx(0.05, abs=0.021) == np.mean(p <= 0.05)


def test_peeking_is_paid_for():
    """Looking after every token and stopping at the best moment still keeps the level."""
    rng = np.random.default_rng(5)
    green = np.cumsum(rng.random((1000, 800)) < 0.25, axis=1)
    seen = np.arange(1, 801)
    best = np.array([anytime_log10_p(bernoulli_log10_e(row, seen, 0.25))[-1] for row in green])
    assert np.mean(best <= np.log10(0.05)) <= 0.05
    marked = np.cumsum(rng.random((100, 800)) < 0.35, axis=1)
    found = [anytime_log10_p(bernoulli_log10_e(row, seen, 0.25))[-1] for row in marked]
    assert np.mean(np.array(found) <= np.log10(0.05)) > 0.95


@pytest.mark.parametrize("method", ["bh", "e-bh", "holm"])
def test_false_findings_stay_bounded(method):
    """With 20 effects among 200 hypotheses the false share stays below the stated rate."""
    rng = np.random.default_rng(6)
    shares = []
    for _ in range(200):
        z = rng.normal(size=200)
        z[:20] += 4
        p = np.array([0.5 * np.exp(-0.717 * x - 0.416 * x * x) if x > 0 else 0.5 for x in z])
        p = np.clip(1.02 * p, 0, 1)
        if method == "bh":
            found = benjamini_hochberg(p, 0.1).rejected
        elif method == "holm":
            found = holm(p, 0.1).rejected
        else:
            found = e_bh(np.exp(3 * z - 4.5), 0.1).rejected
        shares.append(found[20:].sum() / max(found.sum(), 1))
        if method == "bh":
            assert found[:20].sum() >= 5
    assert np.mean(shares) <= 0.1


def test_intervals_cover():
    """95% intervals for a share and for a paired difference hold the truth about that often."""
    rng = np.random.default_rng(7)
    held = [
        wilson(int(k), 300).low <= 0.9 <= wilson(int(k), 300).high
        for k in rng.binomial(300, 0.9, size=DRAWS)
    ]
    assert np.mean(held) >= 0.935
    covered = []
    for _ in range(1500):
        teacher = rng.random(300) < 0.9
        student = teacher ^ (rng.random(300) < 0.1)
        got = paired_difference(student, teacher)
        covered.append(got.low <= -0.08 <= got.high)
    assert np.mean(covered) >= 0.935
