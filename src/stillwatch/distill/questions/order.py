"""The order of asking: the first n questions are the budget n, so every budget holds the smaller.

Where chance decides, it is a hash of the question and the seed: the order of two questions depends
on nothing else, so a pool that has grown is asked in the order it was asked before.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stillwatch.distill.questions.table import Orders
from stillwatch.text.tokens import mix

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Pool(NamedTuple):
    """What the order is made from, one entry a question.

    Attributes:
        ids: first 64 bits of the items' ids, shape (n,), uint64.
        strata: number of each question's stratum, shape (n,).
        clusters: hash of what it shares its origin with, 0 for nothing, shape (n,), uint64.
        scores: difficulty or disagreement, higher first, NaN for not known, shape (n,).
    """

    ids: NDArray[np.uint64]
    strata: Ints
    clusters: NDArray[np.uint64]
    scores: Floats


def order_pool(
    pool: Pool,
    order: Orders,
    *,
    seed: int,
    balance: Literal["proportional", "equal"] = "proportional",
) -> Ints:
    """Put questions in the order of asking.

    `stratified` deals every stratum out evenly over the whole order, and within it every cluster,
    each in a random order: after n questions each stratum has its share of them, but for rounding.
    `difficulty` and `disagreement` deal the strata out likewise, each from its highest score down.

    Args:
        pool: the questions.
        order: which.
        seed: of what chance decides.
        balance: whether strata come by their shares of the pool or all alike.

    Returns:
        Places in the pool, shape (n,), a permutation.
    """
    n = len(pool.ids)
    if order == "given":
        return np.arange(n, dtype=np.int64)
    chance = draws(pool.ids, seed=seed)
    if order == "random":
        return np.argsort(chance, kind="stable")
    if order == "stratified":
        inner = _dealt(pool.strata, pool.clusters, chance)
    else:
        inner = _falling(pool.scores)
    rank, size = _ranks(pool.strata, inner, chance)
    if balance == "equal":
        # The strata in a fixed random order within each round; a used-up one falls out.
        turn = draws(pool.strata.astype(np.uint64), seed=seed)
        return np.lexsort((turn, rank))
    return np.lexsort((chance, (rank + 0.5) / size))


def with_samples(
    order: Ints, samples: int, *, sampling: Literal["together", "apart"]
) -> tuple[Ints, Ints]:
    """Ask every question several times.

    Args:
        order: places in the pool.
        samples: answers to each (count).
        sampling: all answers to a question before the next, or every question before any again.

    Returns:
        Place and sample of each item, both of shape (n * samples,).
    """
    number = np.arange(samples, dtype=np.int64)
    if sampling == "together":
        return np.repeat(order, samples), np.tile(number, len(order))
    return np.tile(order, samples), np.repeat(number, len(order))


def draws(ids: NDArray[np.uint64], *, seed: int) -> Floats:
    """Draw a number for each id, always the same one for an id and a seed.

    Args:
        ids: shape (n,).
        seed: any whole number.

    Returns:
        Uniform in 0..1, shape (n,).
    """
    start = mix(np.full(1, seed % 2**64, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15))
    return (mix(ids ^ start) >> np.uint64(11)).astype(np.float64) / 2**53


def _dealt(strata: Ints, clusters: NDArray[np.uint64], chance: Floats) -> Floats:
    """Where each question stands in its stratum, 0..1, clusters dealt out evenly."""
    groups = mix(clusters + mix(strata.astype(np.uint64)))
    # A question without a cluster is one by itself, and stands where chance puts it.
    alone = clusters == 0
    inner = chance.copy()
    rows = np.flatnonzero(~alone)
    if len(rows):
        rank, size = _ranks(groups[rows], chance[rows], chance[rows])
        shift = draws(groups[rows], seed=0)  # the same for all of a cluster: else all begin at once
        inner[rows] = (rank + shift) / size
    return inner


def _falling(scores: Floats) -> Floats:
    """Highest first, unknown ones last."""
    return np.where(np.isnan(scores), np.inf, -scores)


def _ranks(groups: NDArray[np.generic], inner: Floats, chance: Floats) -> tuple[Ints, Ints]:
    """Each row's rank in its group by `inner` then `chance`, and its group's size."""
    _, code = np.unique(groups, return_inverse=True)
    order = np.lexsort((chance, inner, code))
    sizes = np.bincount(code)
    starts = np.concatenate(([0], np.cumsum(sizes)))[:-1]
    rank = np.empty(len(groups), dtype=np.int64)
    rank[order] = np.arange(len(groups)) - starts[code[order]]
    return rank, sizes[code].astype(np.int64)
