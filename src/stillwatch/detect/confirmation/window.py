"""The window test: do pooled questions differ from a reference, with a p-value that is one.

    unbiased MMD^2 = mean_{i!=j} <x_i, x_j> + mean_{i!=j} <y_i, y_j> - 2 <mean x, mean y>
    statistic      = d' (C + ridge * tr(C)/256 * I)^-1 d,      d = mean(window) - mean(reference)

Both follow from sums alone. The statistic weighs a direction by how little the reference itself
varies in it; C comes from a part of the reference that is used for nothing else. The null is the
same statistic for windows of the same size drawn from the rest, each against what it leaves of it,
and the window under test meets a reference of that same size: so if its questions are drawn as the
reference was, its rank among them is uniform.

That *if* is the assumption: questions of one account resemble each other, so a window of one
account is no such draw (use `detect.evidence.lone`); a window is a pool over many accounts.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from stillwatch.errors import reject
from stillwatch.text.features import LENGTH, WIDTH

Floats = NDArray[np.float64]

#: Share of the reference that gives C.
_SHAPE_SHARE = 1 / 3
#: Chosen on tuning pairs (docs/kernel-mean.md): lower gains on most of them and lets one rare
#: mark decide.
RIDGE = 0.03
_DRAWS_AT_ONCE = 128


class FeatureSum(NamedTuple):
    """Questions, added up.

    Attributes:
        total: sum of their features, shape (WIDTH,).
        squares: sum of the squared lengths of their features.
        n_questions: how many (count).
    """

    total: Floats
    squares: float
    n_questions: int


class WindowResult(NamedTuple):
    """What the window test found.

    Attributes:
        p_value: share of honest windows as far from the reference or farther, in (0, 1].
        statistic: distance from the reference; higher = more unlike.
        mmd2: unbiased MMD^2 with the cosine kernel: 0 on average for a window like the reference.
        n_questions: questions in the window (count).
    """

    p_value: float
    statistic: float
    mmd2: float
    n_questions: int


def sum_features(features: NDArray[np.number]) -> FeatureSum:
    """Add up questions.

    Args:
        features: rows of `text.features`, shape (n, WIDTH).

    Returns:
        Their sum.
    """
    rows = features.astype(np.float64)
    return FeatureSum(rows.sum(axis=0), float((rows**2).sum()), len(rows))


def sum_of_totals(kernel: NDArray[np.number], exchanges: NDArray[np.number]) -> FeatureSum:
    """Add up accounts of profiles, whose squares were not kept: each question counts as `LENGTH`.

    Args:
        kernel: `Totals.kernel` of the accounts, shape (n_accounts, WIDTH).
        exchanges: `Totals.exchanges` of them, shape (n_accounts,).

    Returns:
        Their sum; rounding makes the squares about 1 % too high, so an MMD^2 from it is too low
        by up to .01 / n_questions.
    """
    n_questions = int(exchanges.sum())
    return FeatureSum(kernel.sum(axis=0, dtype=np.float64), LENGTH**2 * n_questions, n_questions)


def unbiased_mmd2(first: FeatureSum, second: FeatureSum) -> float:
    """Estimate the squared distance between the kernel means of two groups, without bias.

    Args:
        first: at least two questions.
        second: at least two questions, none of them in `first`.

    Returns:
        MMD^2 with the cosine kernel: 0 on average when both are drawn alike, 2 at most; may be
        below 0.

    Raises:
        InvalidInputError: a group of fewer than two.
    """
    fewest = min(first.n_questions, second.n_questions)
    if fewest < 2:
        reject("unbiased_mmd2", "groups", "of at least two questions", got=fewest)
    across = first.total @ second.total / (first.n_questions * second.n_questions)
    return float((_within(first) + _within(second) - 2 * across) / LENGTH**2)


class WindowTest:
    """A reference that windows of any size are tested against; build with `fit`.

    Args:
        whitened: comparison part of the reference, whitened, shape (m, WIDTH).
        whitening: shape (WIDTH, WIDTH).
        reference: the comparison part, added up.
        rng: of the draws of the null.
        draws: windows in the null.
    """

    def __init__(
        self,
        whitened: NDArray[np.float32],
        whitening: Floats,
        *,
        reference: FeatureSum,
        rng: np.random.Generator,
        draws: int,
    ) -> None:
        self._whitened = whitened
        self._whitening = whitening
        self._reference = reference
        self._rng = rng
        self._draws = draws
        self._nulls: dict[int, tuple[Floats, Floats]] = {}

    @classmethod
    def fit(
        cls,
        reference: NDArray[np.number],
        *,
        rng: np.random.Generator,
        draws: int = 999,
        ridge: float = RIDGE,
    ) -> Self:
        """Learn what honest questions look like.

        Args:
            reference: features of honest questions of many accounts, shape (n, WIDTH).
            rng: splits the reference and draws the null.
            draws: windows in the null; the smallest p-value is 1 / (draws + 1).
            ridge: above 0; towards infinity the statistic becomes the plain squared distance.

        Returns:
            The test.

        Raises:
            InvalidInputError: fewer than 30 questions, or a ridge that is not above 0.
        """
        if len(reference) < 30:
            reject("WindowTest", "reference", "at least 30 questions", got=len(reference))
        if not ridge > 0:
            reject("WindowTest", "ridge", "above 0", got=ridge)
        order = rng.permutation(len(reference))
        n_shape = int(len(order) * _SHAPE_SHARE)
        whitening = _whitening(reference[order[:n_shape]].astype(np.float64), ridge)
        compared = reference[order[n_shape:]]
        whitened = (compared.astype(np.float64) @ whitening).astype(np.float32)
        return cls(whitened, whitening, reference=sum_features(compared), rng=rng, draws=draws)

    @property
    def largest(self) -> int:
        """Questions in the largest window that this reference can judge (count)."""
        return 3 * len(self._whitened) // 4

    def test(self, window: FeatureSum) -> WindowResult:
        """Test a window that shares no question with the reference.

        Args:
            window: from two to `largest` questions.

        Returns:
            The p-value and the distances; a tie with the null counts against the window's alarm.

        Raises:
            InvalidInputError: a window of another size.
        """
        size = window.n_questions
        if not 2 <= size <= self.largest:
            reject(
                "WindowTest", "window", f"of 2 to {self.largest} questions", got=size,
                hint="a larger window needs a larger reference",
            )  # fmt: skip
        if size not in self._nulls:
            self._nulls[size] = self._draw_null(size)
        null, centre = self._nulls[size]
        far = window.total @ self._whitening / size - centre
        statistic = float(far @ far)
        exceed = len(null) - int(np.searchsorted(null, statistic, side="left"))
        return WindowResult(
            (1 + exceed) / (1 + len(null)),
            statistic,
            unbiased_mmd2(window, self._reference),
            size,
        )

    def _draw_null(self, size: int) -> tuple[Floats, Floats]:
        """Give the sorted null of a size, and the centre that a window of that size meets."""
        rows = self._whitened
        whole = rows.sum(axis=0, dtype=np.float64)
        statistics, left = [], np.empty((0, WIDTH))
        for start in range(0, self._draws + 1, _DRAWS_AT_ONCE):
            n_draws = min(_DRAWS_AT_ONCE, self._draws + 1 - start)
            chosen = self._rng.random((n_draws, len(rows)), dtype=np.float32)
            cut = np.partition(chosen, size - 1, axis=1)[:, size - 1 : size]
            masks = (chosen <= cut).astype(np.float32)
            drawn = (masks @ rows).astype(np.float64)
            counts = masks.sum(axis=1, dtype=np.float64)[:, None]
            left = (whole - drawn) / (len(rows) - counts)
            statistics.append(((drawn / counts - left) ** 2).sum(axis=1))
        # The window under test meets what one more draw leaves: a reference as large as theirs.
        return np.sort(np.concatenate(statistics)[:-1]), left[-1]


def _within(group: FeatureSum) -> float:
    pairs = group.n_questions * (group.n_questions - 1)
    return float(group.total @ group.total - group.squares) / pairs


def _whitening(rows: Floats, ridge: float) -> Floats:
    """Give the symmetric square root of the inverse of the ridged covariance of rows."""
    covariance = np.cov(rows, rowvar=False)
    values, vectors = np.linalg.eigh(covariance)
    floor = max(ridge * float(np.trace(covariance)) / WIDTH, 1e-9)
    return np.asarray((vectors / np.sqrt(np.maximum(values, 0) + floor)) @ vectors.T)
