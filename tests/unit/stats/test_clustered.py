"""Intervals over clusters of items."""

import math

import numpy as np
import pytest

from stillwatch.errors import InvalidInputError
from stillwatch.stats.clustered import (
    Layout,
    clustered_difference,
    clustered_ratio,
    clustered_share,
    difference_of,
)
from stillwatch.stats.intervals import Estimate, paired_difference, wilson
from stillwatch.stats.ranking import paired_auc


def _coins(n, share, seed=0):
    return np.random.default_rng(seed).random(n) < share


def test_items_alone_are_wilson():
    """Without clusters the interval is Wilson's, but for the quantile of a few hundred items."""
    right = _coins(400, 0.3)
    got, known = clustered_share(right, Layout.of(range(400))), wilson(int(right.sum()), 400)
    assert pytest.approx((known.low, known.high), abs=0.001) == (got.low, got.high)


def test_pairs_alone_are_agresti_and_min():
    """Without clusters the difference is that of independent pairs, but for the quantile."""
    a, b = _coins(400, 0.6), _coins(400, 0.5, seed=1)
    got, known = clustered_difference(a, b, Layout.of(range(400))), paired_difference(a, b)
    assert pytest.approx(known, abs=0.001) == got


def test_copies_add_nothing():
    """Ten copies of each item tell as much as one of each."""
    right = _coins(60, 0.7)
    alone = clustered_share(right, Layout.of(range(60)))
    copied = clustered_share(np.repeat(right, 10), Layout.of(np.repeat(range(60), 10)))
    assert pytest.approx(alone, abs=1e-9) == copied


def test_all_right_in_few_clusters():
    """Where nothing varies the number of clusters is what was seen."""
    right, layout = np.ones(100), Layout.of(np.arange(100) // 25)
    got = clustered_share(right, layout)
    assert 1.0 == got.high
    assert got.low < 0.45
    assert clustered_difference(right, right, layout).low < -0.3


def test_one_cluster_tells_nothing():
    """One source gives a share and no idea of how it varies."""
    layout = Layout.of([1] * 20)
    assert Estimate(0.5, 0.0, 1.0) == clustered_share([0, 1] * 10, layout)
    assert (-1.0, 1.0) == clustered_difference([0, 1] * 10, [0] * 20, layout)[1:]
    assert clustered_ratio([0, 1] * 10, [1] * 20, layout) is None


def test_strata_weigh_the_same():
    """The mean over strata does not depend on how many items each has."""
    values = [1] * 90 + [0] * 10
    got = clustered_share(values, Layout.of(range(100), ["a"] * 90 + ["b"] * 10))
    assert 0.5 == got.value
    assert got.low < 0.5 < got.high


def test_strata_that_share_sources_are_not_independent():
    """Where one source feeds both strata the mean is less sure than where each has its own."""
    right = _coins(40, 0.5)
    values, strata = np.tile(right, 2), np.repeat(["a", "b"], 40)
    shared = clustered_share(values, Layout.of(np.tile(np.arange(40), 2), strata))
    apart = clustered_share(values, Layout.of(np.arange(80), strata))
    assert shared.high - shared.low > 1.25 * (apart.high - apart.low)


def test_a_ratio_without_a_denominator_is_refused():
    """Where the denominator may be 0 there is no interval, and nothing is made up."""
    a, b = _coins(50, 0.5), _coins(50, 0.5, seed=1)
    assert clustered_ratio(a, b, Layout.of(range(50)), base=b) is None
    assert clustered_ratio(a, np.zeros(50), Layout.of(range(50))) is None


def test_the_gap_may_be_overshot_or_missed():
    """A student better than its teacher closes more than the gap, a worse one less than nothing."""
    base, teacher = _coins(500, 0.2), _coins(500, 0.6, seed=1)
    better, worse = _coins(500, 0.9, seed=2), _coins(500, 0.05, seed=3)
    layout = Layout.of(range(500))
    assert clustered_ratio(better, teacher, layout, base=base).low > 1
    assert clustered_ratio(worse, teacher, layout, base=base).high < 0


def test_the_order_of_items_does_not_matter():
    """Figures are the same whatever order the items come in."""
    rng = np.random.default_rng(5)
    a, b, u, clusters = rng.random(90) < 0.6, rng.random(90) < 0.8, rng.random(90) < 0.1, None
    clusters = np.arange(90) // 3
    order = rng.permutation(90)
    ours = clustered_ratio(a, b, Layout.of(clusters), base=u)
    theirs = clustered_ratio(a[order], b[order], Layout.of(clusters[order]), base=u[order])
    assert pytest.approx(ours, abs=1e-12) == theirs


def test_an_area_by_hand():
    """Three of four pairs in order give three quarters; a tie counts one half."""
    got = paired_auc([1, 3], [2, 4], clusters=[0, 1], folds=[0, 0], level=0.95)
    assert 0.75 == got.value
    tied = paired_auc([1, 1], [1, 1], clusters=[0, 1], folds=[0, 0], level=0.95)
    assert 0.5 == tied.value


def test_folds_have_no_common_scale():
    """Scores of two classifiers are never compared with each other."""
    low, high = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    folds = [0, 0, 1, 1]
    first, second = np.concatenate([low, low + 100]), np.concatenate([high, high + 100])
    got = paired_auc(first, second, clusters=range(4), folds=folds, level=0.95)
    assert 1.0 == got.value


def test_a_difference_of_two_sets():
    """Each side comes from the sides that it depends on."""
    got = difference_of(Estimate(0.6, 0.5, 0.8), Estimate(0.4, 0.3, 0.5))
    assert pytest.approx((0.2, 0.2 - math.sqrt(0.02), 0.2 + math.sqrt(0.05))) == got


@pytest.mark.parametrize(
    "call",
    [
        lambda: Layout.of([]),
        lambda: Layout.of([1, 2], [1]),
        lambda: clustered_share([0.5, 1.5], Layout.of([1, 2])),
        lambda: clustered_share([math.nan, 1.0], Layout.of([1, 2])),
        lambda: clustered_share([1.0], Layout.of([1, 2])),
        lambda: clustered_share([0, 1], Layout.of([1, 2]), level=1.0),
        lambda: clustered_difference([0, 1], [1], Layout.of([1, 2])),
        lambda: clustered_ratio([0, 1], [1, -1], Layout.of([1, 2])),
        lambda: paired_auc([], [], clusters=[], folds=[], level=0.95),
        lambda: paired_auc([1], [1], clusters=[1], folds=[1], level=0.0),
    ],
)
def test_out_of_range_is_refused(call):
    """Shapes, values outside 0..1 and levels are checked."""
    with pytest.raises(InvalidInputError):
        call()
