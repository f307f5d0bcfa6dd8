"""The area under a ranking's curve when pairs come in clusters and scores in folds."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from stillwatch.errors import reject
from stillwatch.stats.intervals import Estimate, wilson_at

Floats = NDArray[np.float64]


def paired_auc(
    first: ArrayLike,
    second: ArrayLike,
    *,
    clusters: ArrayLike,
    folds: ArrayLike,
    level: float,
    inflation: float = 1.0,
) -> Estimate:
    """Bound the chance that a score of the second kind is above one of the first kind.

    Scores are compared inside a fold only: two folds were scored by two classifiers, whose numbers
    have no common scale. A tie counts one half.

    Args:
        first: a score of each item's first text, shape (n,).
        second: of its second text, shape (n,).
        clusters: what each item shares with others, shape (n,), any labels; a cluster lies in one
            fold.
        folds: the fold of each item, shape (n,), any labels.
        level: coverage, strictly between 0 and 1.
        inflation: what the variance is multiplied by; above 1 where the folds are not independent.

    Returns:
        The area, 0..1, with Wilson's interval at the number of trials that has the area's variance
        over clusters.

    Raises:
        InvalidInputError: the shapes differ, nothing was given, or the level is out of range.
    Source: DeLong 1988, summed over clusters as Obuchowski 1997 does.
    Example:
        >>> scores = [0, 1, 2, 3], [4, 5, 6, 7]
        >>> paired_auc(*scores, clusters=range(4), folds=[0] * 4, level=0.95).value
        1.0
    """
    if not 0 < level < 1:
        reject("stats.paired_auc", "level", "strictly between 0 and 1", got=level)
    a, b = (np.asarray(v, dtype=np.float64).ravel() for v in (first, second))
    group, fold = (np.unique(np.asarray(v), return_inverse=True)[1] for v in (clusters, folds))
    _check(a.size, b.size, group.size, fold.size)
    # Of the item's second text over all first ones, and the reverse.
    wins, losses = np.zeros(a.size), np.zeros(a.size)
    for number in range(int(fold.max()) + 1):
        own = fold == number
        wins[own], losses[own] = _placements(a[own], b[own])
    area = float(wins.mean())
    return _bound(
        area, np.bincount(group, wins + losses - 2 * area) / a.size, inflation, level=level
    )


def _bound(area: float, sums: Floats, inflation: float, *, level: float) -> Estimate:
    """Bound an area by what each cluster adds to its error."""
    n_groups = sums.size
    if n_groups < 2:
        return Estimate(area, 0.0, 1.0)
    variance = inflation * float(np.sum(sums**2)) * n_groups / (n_groups - 1)
    spread = area * (1 - area)
    n = spread / variance if spread > 1e-12 and variance > 1e-12 else n_groups / inflation
    return wilson_at(area, n, t=float(special.stdtrit(n_groups - 1, 0.5 + level / 2)))


def _check(n_first: int, *others: int) -> None:
    if not n_first or any(n != n_first for n in others):
        rule = f"as many as first ({n_first}), at least 1"
        reject("stats.paired_auc", "second, clusters and folds", rule, got=others)


def _placements(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """For each b the share of a below it, for each a the share of b above it; ties one half."""
    ranks = stats.rankdata(np.concatenate([a, b]))
    below = (ranks[a.size :] - stats.rankdata(b)) / a.size
    above = 1.0 - (ranks[: a.size] - stats.rankdata(a)) / b.size
    return below, above
