"""Clustered intervals hold the truth about as often as they say, and never much less."""

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from stillwatch.distill.scores.discriminator import tell_apart
from stillwatch.stats.clustered import (
    Layout,
    clustered_difference,
    clustered_ratio,
    clustered_share,
    difference_of,
)
from stillwatch.stats.ranking import paired_auc

DRAWS = 300
# 95 % less three standard errors of a share of 300 draws.
LEAST = 0.95 - 0.038


def _models(rng, *, n_clusters, size, shares, icc):
    """Right or wrong of models that find the same items hard, and whole clusters harder."""
    clusters = np.repeat(np.arange(n_clusters), size)
    item = rng.normal(size=clusters.size)
    rights = []
    for share in shares:
        own = np.sqrt(icc) * rng.normal(size=n_clusters)[clusters]
        rest = rng.normal(size=clusters.size)
        rights.append(own + np.sqrt((1 - icc) / 2) * (item + rest) < ndtri(share))
    return rights, clusters


@pytest.mark.parametrize(
    ("n_clusters", "size", "icc"), [(60, 1, 0.0), (300, 1, 0.0), (40, 5, 0.4), (15, 8, 0.4)]
)
@pytest.mark.parametrize("shares", [(0.5, 0.8, 0.1), (0.9, 0.95, 0.3), (0.97, 0.98, 0.5)])
def test_coverage(n_clusters, size, icc, shares):
    """Share, difference, ratio and gap closed, from many small to few large clusters."""
    rng = np.random.default_rng(11)
    student, teacher, base = shares
    wanted = (
        student,
        student - teacher,
        student / teacher,
        (student - base) / (teacher - base),
    )
    held = np.zeros(4)
    told = np.zeros(4)
    for _ in range(DRAWS):
        (s, t, u), clusters = _models(rng, n_clusters=n_clusters, size=size, shares=shares, icc=icc)
        layout = Layout.of(clusters)
        found = (
            clustered_share(s, layout),
            clustered_difference(s, t, layout),
            clustered_ratio(s, t, layout),
            clustered_ratio(s, t, layout, base=u),
        )
        for n, (estimate, truth) in enumerate(zip(found, wanted, strict=True)):
            if estimate is not None:
                told[n] += 1
                held[n] += estimate.low <= truth <= estimate.high
    assert told.min() > 0.9 * DRAWS
    assert (held / told).min() >= LEAST, held / told


def test_coverage_without_clusters_is_too_low():
    """The worlds above are hard enough: items taken as independent hold the truth too rarely."""
    rng = np.random.default_rng(12)
    held = 0
    for _ in range(DRAWS):
        (s,), clusters = _models(rng, n_clusters=40, size=5, shares=(0.5,), icc=0.4)
        found = clustered_share(s, Layout.of(np.arange(clusters.size)))
        held += found.low <= 0.5 <= found.high
    assert held / DRAWS < 0.90


def test_coverage_of_a_mean_over_skills():
    """Skills of other sizes and shares, some of them nearly always right."""
    rng = np.random.default_rng(13)
    sizes, shares = (100, 30, 20), (0.99, 0.5, 0.1)
    strata = np.repeat(np.arange(3), sizes)
    layout = Layout.of(np.arange(strata.size), strata)
    held = 0
    for _ in range(DRAWS):
        found = clustered_share(rng.random(strata.size) < np.repeat(shares, sizes), layout)
        held += found.low <= np.mean(shares) <= found.high
    assert held / DRAWS >= LEAST


def test_coverage_of_a_difference_of_sets():
    """Two sets of items, one small."""
    rng = np.random.default_rng(14)
    held = 0
    for _ in range(DRAWS):
        a = clustered_share(rng.random(60) < 0.9, Layout.of(range(60)))
        b = clustered_share(rng.random(200) < 0.3, Layout.of(range(200)))
        found = difference_of(a, b)
        held += found.low <= 0.6 <= found.high
    assert held / DRAWS >= LEAST


@pytest.mark.parametrize(("n_clusters", "size", "apart"), [(100, 1, 0.0), (40, 4, 1.0)])
def test_coverage_of_an_area(n_clusters, size, apart):
    """The area under the curve, with scores that whole clusters share, in five folds."""
    rng = np.random.default_rng(15)
    clusters = np.repeat(np.arange(n_clusters), size)
    truth, held = ndtr(apart / np.sqrt(2)), 0
    for _ in range(DRAWS):
        folds = (rng.permutation(n_clusters) % 5)[clusters]
        first, second = (
            np.sqrt(0.5) * (rng.normal(size=n_clusters)[clusters] + rng.normal(size=clusters.size))
            for _ in range(2)
        )
        found = paired_auc(first, second + apart, clusters=clusters, folds=folds, level=0.95)
        held += found.low <= truth <= found.high
    assert held / DRAWS >= LEAST


def test_two_samples_of_one_model_are_not_told_apart():
    """A classifier that learns nothing real holds 0.5 in its interval, about as often as said."""
    rng = np.random.default_rng(16)
    words = np.array(["the", "a", "number", "answer", "is", "it", "of", "so", "then", "about"])
    held, n_worlds = 0, 24
    for _ in range(n_worlds):
        first, second = ([" ".join(rng.choice(words, size=6)) for _ in range(40)] for _ in range(2))
        found = tell_apart(first, second, [str(n) for n in range(40)], rng=rng)
        held += found.low <= 0.5 <= found.high
    assert held / n_worlds >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / n_worlds)
