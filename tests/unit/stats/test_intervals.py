import math

import numpy as np
import pytest

from stillwatch.errors import InvalidInputError
from stillwatch.stats.intervals import (
    paired_difference,
    percentile_interval,
    resample_clusters,
    wilson,
)


def test_wilson_by_hand():
    """The published example of Wilson's interval: 15 of 148 (Newcombe 1998)."""
    got = wilson(15, 148)
    assert (0.0624, 0.1605) == (round(got.low, 4), round(got.high, 4))


def test_wilson_at_the_ends():
    """Nothing or everything seen closes one end only; nothing tried leaves all open."""
    assert 0.0 == wilson(0, 20).low
    assert 1.0 == wilson(20, 20).high
    assert (0.0, 1.0) == wilson(0, 0)


def test_pairing_narrows():
    """On the same items the difference is bounded more closely than two shares would allow."""
    rng = np.random.default_rng(0)
    teacher = rng.random(600) < 0.9
    student = teacher & (rng.random(600) < 0.95)
    got = paired_difference(student, teacher)
    apart = wilson(int(student.sum()), 600).high - wilson(int(student.sum()), 600).low
    assert got.low < got.value < got.high < 0
    assert got.high - got.low < apart


def test_percentiles_keep_infinity():
    """A draw that never got there stays at infinity instead of being averaged away."""
    draws = [*range(1, 95), *[math.inf] * 6]
    assert (3.0, math.inf) == percentile_interval(draws)


def test_clusters_stay_together():
    """A resample holds each cluster wholly or not at all, as often as it was drawn."""
    clusters = np.array([7, 7, 7, 2, 2, 9])
    for picked in resample_clusters(clusters, draws=20, rng=np.random.default_rng(1)):
        counts = np.bincount(picked, minlength=6)
        assert counts[0] == counts[1] == counts[2]
        assert counts[3] == counts[4]
        assert 3 == counts[0] + counts[3] + counts[5]


def test_resamples_repeat():
    """The same generator gives the same resamples."""
    runs = [
        [list(r) for r in resample_clusters(np.arange(9), draws=3, rng=np.random.default_rng(4))]
        for _ in range(2)
    ]
    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    "call",
    [
        lambda: wilson(3, 2),
        lambda: wilson(1, 2, level=1.0),
        lambda: paired_difference([True], [True, False]),
        lambda: paired_difference([], []),
        lambda: percentile_interval([]),
        lambda: next(resample_clusters(np.array([]), draws=1, rng=np.random.default_rng(0))),
    ],
)
def test_out_of_range_is_refused(call):
    """Counts, levels and empty samples are refused."""
    with pytest.raises(InvalidInputError):
        call()
