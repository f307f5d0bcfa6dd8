"""Resamples of a copy curve's points: other items, and other luck of training.

Two things would differ if everything were done again. *Items*: whole clusters are redrawn, the same
for teacher and all students. *Luck*: students of one budget differ by seed, and fresh luck of the
size that it was seen to have is added (`curve_luck`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stillwatch.distill.curves.curve_luck import Luck, Seen, draw_luck
from stillwatch.distill.curves.curve_point import CurvePoint
from stillwatch.stats.curves import choose_form, fit_form

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Items:
    """The held-out items behind a curve.

    Attributes:
        teacher_correct: the teacher on each, shape (n_items,), 0..1.
        clusters: source number of each item; items of one source stand or fall together.
        strata: part of each item: a share is the mean over parts of the share within the part, so
            that a curve over capabilities counts each the same, whatever its number of items.
    """

    teacher_correct: Floats
    clusters: NDArray[np.int64]
    strata: NDArray[np.int64]

    @property
    def n_clusters(self) -> int:
        """Sources that the items came from (count)."""
        return int(np.unique(np.stack([self.strata, self.clusters]), axis=1).shape[1])

    @staticmethod
    def of(
        teacher_correct: NDArray[np.bool_] | Floats,
        *,
        clusters: NDArray[np.int64] | None = None,
        strata: NDArray[np.int64] | None = None,
    ) -> Items:
        """Fill in what was not given: every item its own source, all in one part."""
        n = teacher_correct.size
        return Items(
            teacher_correct.astype(np.float64),
            np.arange(n) if clusters is None else np.asarray(clusters),
            np.zeros(n, dtype=np.int64) if strata is None else np.asarray(strata),
        )


class ClusterSums:
    """Right answers of several models, summed by cluster: all that a resample needs.

    Args:
        correct: shape (models, n_items), 0..1.
        items: where they come from.
    """

    def __init__(self, correct: Floats, items: Items) -> None:
        pairs = np.stack([items.strata, items.clusters])
        keys, numbers = np.unique(pairs, axis=1, return_inverse=True)
        numbers = numbers.ravel()
        n = keys.shape[1]
        self.sizes = np.bincount(numbers, minlength=n).astype(np.float64)
        self.sums = np.stack([np.bincount(numbers, weights=row, minlength=n) for row in correct])
        self._strata = [np.flatnonzero(keys[0] == part) for part in np.unique(keys[0])]

    def shares(self) -> Floats:
        """Give the share of every model, shape (models,)."""
        once: Floats = self._mean([np.ones((1, own.size)) for own in self._strata])
        return np.asarray(once[0])

    def draw(self, draws: int, *, rng: np.random.Generator) -> Floats:
        """Redraw clusters with replacement within their part; returns shape (draws, models)."""
        counts = [
            rng.multinomial(own.size, np.full(own.size, 1 / own.size), size=draws).astype(float)
            for own in self._strata
        ]
        return self._mean(counts)

    def variance(self, weights: Floats) -> float:
        """Give the variance, over items, of a weighted sum of models' shares; (models,) weights."""
        total = 0.0
        for own in self._strata:
            sums, sizes = weights @ self.sums[:, own], self.sizes[own]
            apart = sums - sizes * sums.sum() / sizes.sum()
            spare = own.size / max(own.size - 1, 1)
            total += spare * float(np.sum(apart**2)) / float(sizes.sum()) ** 2
        return total / len(self._strata) ** 2

    def _mean(self, counts: Sequence[Floats]) -> Floats:
        parts = [
            (weight @ self.sums[:, own].T) / (weight @ self.sizes[own])[:, None]
            for own, weight in zip(self._strata, counts, strict=True)
        ]
        return np.asarray(np.mean(parts, axis=0))


@dataclass(frozen=True)
class Resamples:
    """Mean shares at each budget: row 0 as measured, the others resampled.

    Attributes:
        budgets: distinct questions above 0, rising, shape (m,).
        shares: shape (1 + draws, m).
        floor: share of the untouched student, shape (1 + draws,); 0 where none was scored.
        teacher: share of the teacher on the same resampled items, shape (1 + draws,).
        luck: what was estimated of it.
    """

    budgets: Floats
    shares: Floats
    floor: Floats
    teacher: Floats
    luck: Luck


@dataclass(frozen=True)
class _Budget:
    """Models (rows of the sums) trained on one number of questions, and their mean share."""

    n_questions: float
    members: NDArray[np.intp]
    mean: float


def draw_resamples(
    points: Sequence[CurvePoint], items: Items, *, draws: int, rng: np.random.Generator
) -> Resamples:
    """Resample items by cluster and luck by its estimated size.

    Args:
        points: at least one with questions above 0.
        items: the held-out items and the teacher on them.
        draws: resamples (count).
        rng: source of randomness.

    Returns:
        The measured row and the draws.
    """
    correct = np.stack([items.teacher_correct, *(p.correct.astype(np.float64) for p in points)])
    sums = ClusterSums(correct, items)
    table = np.concatenate([sums.shares()[None], sums.draw(draws, rng=rng)])
    # Model 0 is the teacher.
    asked = np.array([-1, *(point.n_questions for point in points)])
    seeds = np.array([-1, *(point.seed for point in points)])
    untouched, trained = asked == 0, _by_budget(asked, table[0])
    floor = table[:, untouched].mean(axis=1) if untouched.any() else np.zeros(len(table))
    means = np.stack([table[:, own.members].mean(axis=1) for own in trained], axis=1)
    seen, spare = _see(trained, sums, seeds=seeds, floor=float(floor[0]))
    luck, added = draw_luck(seen, spare=spare, draws=draws, rng=rng)
    means[1:] += added
    budgets = np.array([own.n_questions for own in trained])
    return Resamples(budgets, np.clip(means, 0.0, 1.0), floor, table[:, 0], luck)


def _by_budget(asked: NDArray[np.int64], shares: Floats) -> list[_Budget]:
    budgets = []
    for n in np.unique(asked[asked > 0]):
        members = np.flatnonzero(asked == n)
        budgets.append(_Budget(float(n), members, float(shares[members].mean())))
    return budgets


def _see(
    trained: Sequence[_Budget], sums: ClusterSums, *, seeds: NDArray[np.int64], floor: float
) -> tuple[list[Seen], float]:
    """Lay out what the students show of luck, and how many budgets are free to stray.

    The means of the trained stray from the best form: all that one seed can tell. A line of three
    parameters through m means leaves m - 3 of them to stray.
    """
    shares = sums.shares()
    n = np.array([own.n_questions for own in trained])
    means = np.array([own.mean for own in trained])
    strays, spare = np.zeros(n.size), max(n.size - 3, 0)
    if spare:
        choice = choose_form(n, means, floor=floor)
        strays = means - fit_form(choice.form, n, means, floor=floor).share(n)[0]
    seen = [
        Seen(
            shares[own.members],
            seeds[own.members],
            _noise_between(own.members, sums),
            float(strays[i]),
            _own_noise(trained, i, sums) if spare else 0.0,
        )
        for i, own in enumerate(trained)
    ]
    return seen, float(spare)


def _noise_between(members: NDArray[np.intp], sums: ClusterSums) -> float:
    """Give the variance of a student's share, against its fellows, that items explain."""
    k = members.size
    if k < 2:
        return 0.0
    weights = np.zeros((k, len(sums.sums)))
    weights[:, members] = np.eye(k) - 1 / k
    return sum(sums.variance(row) for row in weights) / (k - 1)


def _own_noise(trained: Sequence[_Budget], at: int, sums: ClusterSums) -> float:
    """Bound the variance, over items, of a mean share that its neighbour does not share."""
    found = []
    own = trained[at].members
    for other in (at - 1, at + 1):
        if 0 <= other < len(trained):
            near = trained[other].members
            weights = np.zeros(len(sums.sums))
            weights[own] = 1 / own.size
            weights[near] = -1 / near.size
            found.append(sums.variance(weights) / 2)
    return min(found)
