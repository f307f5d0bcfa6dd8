"""The published window test on prompts, re-implemented: MMD^2 of a window against honest traffic.

Source: Liu, Guo, Dong 2026 (arXiv 2606.05725) by its public code: four RBF kernels at 1/2, 1, 2
and 4 times the median distance; null of 1,000 draws of two disjoint reference windows; a window's
score is the mean of 20 values against other reference windows; alarm above the null's 95th
percentile. Changed: the embedding is a TF-IDF random projection of words (theirs needs a
download); the null is drawn at the window's own size, rounded down to a power of two. Their null
is one draw and their score a mean of 20, which makes nominal levels conservative; kept as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy import sparse

from yardstick.observed import Ints, Observed
from yardstick.score import Group

Singles = NDArray[np.float32]
PUBLISHED = "p < 0.05"
_WIDTH = 384
_NULL_DRAWS = 1000
_SCORE_DRAWS = 20
_BANK = 200
_POOL = 4000
_SMALL_POOL = 1024
_WINDOW = 1500
_SMALLEST = 8


class Alarm(NamedTuple):
    """One window's verdict.

    Attributes:
        score: mean MMD^2 in standard deviations of the null at its size.
        p_value: (1 + null draws as great) / (1 + draws), against the mean score.
    """

    score: float
    p_value: float


class WindowTest:
    """The test, ready for windows of one log.

    Args:
        observed: the log; its history is the reference.
        rng: draws the projection, the pool and all windows.
        window: prompts of a window, at most (count).
    """

    def __init__(
        self, observed: Observed, *, rng: np.random.Generator, window: int = _WINDOW
    ) -> None:
        self._observed, self._rng, self._window = observed, rng, window
        self._vectors = embed(observed.question, rng)
        history = np.flatnonzero(~observed.live)
        rows = rng.permutation(history)[:_POOL]
        self._pool = self._vectors[rows]
        near = squares(self._pool[:2000], self._pool[:2000])
        self._median = float(np.sqrt(np.median(near[np.triu_indices(len(near), 1)])))
        self._kernel = kernel(self._pool, self._pool, median=self._median)
        self._nulls: dict[int, NDArray[np.float64]] = {}
        self._banks: dict[int, tuple[Singles, Singles]] = {}

    def test(self, rows: Ints) -> Alarm | None:
        """Test the prompts of some rows as one window.

        Args:
            rows: row numbers; a random part is taken when there are more than a window holds.

        Returns:
            The verdict; None for fewer than eight prompts.
        """
        limit = min(self._window, len(self._pool) // 2)
        if min(len(rows), limit) < _SMALLEST:
            return None
        size = 2 ** int(np.log2(min(len(rows), limit)))
        size = limit if len(rows) >= limit else size
        rows = self._rng.permutation(rows)[:size]
        vectors = self._vectors[rows]
        own = kernel(vectors, vectors, median=self._median)
        across = kernel(vectors, self._pool[: self._reach(size)], median=self._median).sum(axis=0)
        draws, within = self._bank(size)
        chosen = self._rng.permutation(len(draws))[:_SCORE_DRAWS]
        values = (
            (own.sum() - np.trace(own)) / (size * (size - 1))
            + within[chosen]
            - 2 * (draws[chosen] @ across) / size**2
        )
        null, score = self._null(size), float(values.mean())
        p_value = (1 + int((null >= score).sum())) / (1 + len(null))
        return Alarm((score - float(null.mean())) / float(null.std()), p_value)

    def _reach(self, size: int) -> int:
        """Say how much of the pool small windows are drawn from: room for eight, for less work."""
        return min(len(self._pool), _SMALL_POOL if 8 * size <= _SMALL_POOL else _POOL)

    def _null(self, size: int) -> NDArray[np.float64]:
        if size not in self._nulls:
            n = self._reach(size)
            both = [self._rng.permutation(n)[: 2 * size] for _ in range(_NULL_DRAWS)]
            first, second = (
                _indicators([b[part] for b in both], n)
                for part in (slice(0, size), slice(size, None))
            )
            cross = ((first @ self._kernel[:n, :n]) * second).sum(axis=1)
            self._nulls[size] = (
                self._within(first, size) + self._within(second, size) - 2 * cross / size**2
            ).astype(np.float64)
        return self._nulls[size]

    def _bank(self, size: int) -> tuple[Singles, Singles]:
        """Draw reference windows to score against, apart from the null's; made once a size."""
        if size not in self._banks:
            n = self._reach(size)
            draws = _indicators([self._rng.permutation(n)[:size] for _ in range(_BANK)], n)
            self._banks[size] = draws, self._within(draws, size)
        return self._banks[size]

    def _within(self, draws: Singles, size: int) -> Singles:
        """Mean kernel inside each window, pairs with oneself (kernel 1) left out."""
        n = draws.shape[1]
        inner = ((draws @ self._kernel[:n, :n]) * draws).sum(axis=1)
        within: Singles = (inner - size) / (size * (size - 1))
        return within


def account_groups(observed: Observed, test: WindowTest) -> list[Group]:
    """Test every account by itself, as published.

    Args:
        observed: the log.
        test: made for it.

    Returns:
        One group an alarming account (p < 0.05), scored in standard deviations.
    """
    live = np.flatnonzero(observed.live)
    live = live[np.argsort(observed.account[live], kind="stable")]
    accounts, starts = np.unique(observed.account[live], return_index=True)
    groups = []
    for account, rows in zip(accounts, np.split(live, starts[1:]), strict=True):
        alarm = test.test(rows)
        if alarm is not None and alarm.p_value < 0.05:
            groups.append(Group(np.array([account]), rows, alarm.score))
    return groups


def told_groups(
    observed: Observed, test: WindowTest, told: Sequence[Ints], *, level: float = 0.05
) -> list[Group]:
    """Test groups that somebody else found, each pooled into one window.

    Args:
        observed: the log.
        test: made for it.
        told: account numbers of each group.
        level: alarm below this p-value.

    Returns:
        Those that alarm.
    """
    groups = []
    for accounts in told:
        rows = observed.rows_of(accounts)
        alarm = test.test(rows)
        if alarm is not None and alarm.p_value < level:
            groups.append(Group(accounts, rows, alarm.score))
    return groups


def embed(questions: pa.Array, rng: np.random.Generator) -> Singles:
    """Project TF-IDF weighted words to unit vectors.

    Args:
        questions: texts.
        rng: draws a vector a word.

    Returns:
        Shape (n, 384).
    """
    words = pc.split_pattern_regex(pc.utf8_lower(questions), r"[^\p{L}\p{N}]+")
    row = pc.list_parent_indices(words).to_numpy()
    encoded = words.flatten().dictionary_encode()
    column = encoded.indices.to_numpy()
    shape = (len(questions), len(encoded.dictionary))
    table = sparse.csr_array((np.ones(len(row), np.float32), (row, column)), shape=shape)
    table.sum_duplicates()
    holders = np.bincount(table.indices, minlength=shape[1])
    rarity = np.log(shape[0] / np.maximum(holders, 1)).astype(np.float32)
    table.data = (1 + np.log(table.data)) * rarity[table.indices]
    # A vector of random signs a word; 384 of them keep cosines within about .05.
    signs = rng.integers(0, 2, (shape[1], _WIDTH), dtype=np.int8).astype(np.float32) * 2 - 1
    vectors = table @ signs
    length = np.sqrt((vectors**2).sum(axis=1, keepdims=True))
    unit: Singles = vectors / np.maximum(length, 1e-9)
    return unit


def kernel(first: Singles, second: Singles, *, median: float) -> Singles:
    """Average four RBF kernels, 1/2, 1, 2 and 4 times the median distance wide.

    Args:
        first: shape (n, d).
        second: shape (m, d).
        median: distance.

    Returns:
        Shape (n, m), 0..1.
    """
    # Each width is twice the last, so each kernel is the fourth power of the next wider one.
    power = squares(first, second)
    power *= np.float32(-1 / (2 * (4 * median) ** 2))
    np.exp(power, out=power)
    total = power.copy()
    for _ in range(3):
        np.square(power, out=power)
        np.square(power, out=power)
        total += power
    total /= 4
    return total


def squares(first: Singles, second: Singles) -> Singles:
    """Give squared distances.

    Args:
        first: shape (n, d).
        second: shape (m, d).

    Returns:
        Shape (n, m), >= 0.
    """
    table: Singles = first @ second.T
    table *= -2
    table += (first**2).sum(axis=1)[:, None]
    table += (second**2).sum(axis=1)[None]
    return np.maximum(table, 0, out=table)


def _indicators(chosen: Sequence[NDArray[np.int64]], width: int) -> Singles:
    table = np.zeros((len(chosen), width), dtype=np.float32)
    for row, members in zip(table, chosen, strict=True):
        row[members] = 1.0
    return table
