"""Intervals: for a share, for a difference of shares, and for anything by resampling."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from stillwatch.errors import reject


class Interval(NamedTuple):
    """Two ends that hold the unknown value with the stated level.

    Attributes:
        low: the lower end.
        high: the upper end.
    """

    low: float
    high: float


class Estimate(NamedTuple):
    """A value with the interval around it.

    Attributes:
        value: as measured.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    value: float
    low: float
    high: float


def wilson(successes: int, total: int, level: float = 0.95) -> Interval:
    """Bound a share by Wilson's score interval, which stays inside 0..1 and is honest near 0.

    Args:
        successes: count, 0..total.
        total: trials (count, >= 0); independent trials are assumed.
        level: coverage, strictly between 0 and 1.

    Returns:
        The interval; 0..1 when nothing was tried.

    Raises:
        InvalidInputError: a count or the level is out of range.
    Source: Wilson 1927.
    Example:
        >>> [round(end, 3) for end in wilson(0, 600)]
        [0.0, 0.006]
    """
    if not 0 <= successes <= total:
        reject("stats.wilson", "successes", f"between 0 and total ({total})", got=successes)
    z = _quantile("stats.wilson", level)
    if total == 0:
        return Interval(0.0, 1.0)
    _, low, high = wilson_at(successes / total, total, t=z)
    return Interval(low, high)


def wilson_at(share: float, n: float, *, t: float) -> Estimate:
    """Give Wilson's interval for any effective number of trials.

    Args:
        share: as measured, 0..1.
        n: effective trials, above 0, not always whole.
        t: the quantile.

    Returns:
        The share and its interval, inside 0..1.
    """
    square = t * t / n
    centre = (share + square / 2) / (1 + square)
    half = t * math.sqrt(max(share * (1 - share), 0.0) / n + square / (4 * n)) / (1 + square)
    low = 0.0 if share <= 0 else max(centre - half, 0.0)
    return Estimate(share, low, 1.0 if share >= 1 else min(centre + half, 1.0))


def paired_difference(first: ArrayLike, second: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Bound the difference of two shares that were measured on the same items.

    Pairing removes the difficulty of the items from the error, which an interval for two separate
    samples would count twice.

    Args:
        first: right or wrong, shape (n,), bool.
        second: the same items in the same order, shape (n,), bool.
        level: coverage, strictly between 0 and 1.

    Returns:
        first minus second, with an interval that adds half a pair of each kind (Agresti and Min).

    Raises:
        InvalidInputError: the shapes differ, nothing was given, or the level is out of range.
    Source: Agresti and Min 2005, adjusted Wald interval for matched pairs.
    Example:
        >>> paired_difference([True, True, False, True], [True, False, False, False]).value
        0.5
    """
    a, b = np.asarray(first, dtype=np.bool_), np.asarray(second, dtype=np.bool_)
    if a.shape != b.shape or a.size == 0:
        rule = f"as many items as first ({a.size}), at least 1"
        reject("stats.paired_difference", "second", rule, got=b.size)
    z = _quantile("stats.paired_difference", level)
    gained = float(np.count_nonzero(a & ~b)) + 0.5
    lost = float(np.count_nonzero(~a & b)) + 0.5
    n = a.size + 2.0
    centre = (gained - lost) / n
    half = z * math.sqrt(max(gained + lost - (gained - lost) ** 2 / n, 0.0)) / n
    return Estimate(float(a.mean() - b.mean()), max(centre - half, -1.0), min(centre + half, 1.0))


def percentile_interval(draws: ArrayLike, level: float = 0.95) -> Interval:
    """Take the middle `level` of resampled values; infinite draws are kept as such.

    Args:
        draws: resampled statistics, shape (n,), n >= 1; inf means "never".
        level: coverage, strictly between 0 and 1.

    Returns:
        The interval; an end is inf when that many draws are.

    Raises:
        InvalidInputError: no draws, or the level is out of range.

    Example:
        >>> percentile_interval([1.0, 2.0, 3.0, float("inf")], level=0.5)
        Interval(low=1.0, high=3.0)
    """
    values = np.sort(np.asarray(draws, dtype=np.float64).ravel())
    if values.size == 0:
        reject("stats.percentile_interval", "draws", "at least one number", got=0)
    _quantile("stats.percentile_interval", level)
    tail = (1 - level) / 2
    # Order statistics, not interpolation: halfway to infinity has no meaning.
    low = values[max(math.ceil(tail * values.size) - 1, 0)]
    high = values[min(math.ceil((1 - tail) * values.size) - 1, values.size - 1)]
    return Interval(float(low), float(high))


def resample_clusters(
    clusters: NDArray[np.int64], *, draws: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Draw item indices with replacement, whole clusters at a time.

    Items made from one source stand or fall together; drawing them one by one would make an
    interval too narrow, up to three times.

    Args:
        clusters: cluster number of each item, shape (n,); one number each for independent items.
        draws: how many resamples.
        rng: source of randomness.

    Yields:
        Item indices, about n of them; a cluster drawn twice comes twice.

    Raises:
        InvalidInputError: no items.
    """
    if clusters.size == 0:
        reject("stats.resample_clusters", "clusters", "at least one item", got=0)
    _, numbers = np.unique(clusters, return_inverse=True)
    order = np.argsort(numbers, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(numbers))[:-1])
    for _ in range(draws):
        picked = rng.integers(0, len(members), size=len(members))
        if len(members) == clusters.size:
            yield order[picked]
        else:
            yield np.concatenate([members[i] for i in picked])


def _quantile(where: str, level: float) -> float:
    if not 0 < level < 1:
        reject(where, "level", "strictly between 0 and 1", got=level)
    return float(special.ndtri(0.5 + level / 2))
