"""The fit under a copy curve: resamples of items and seeds, one refit each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stillwatch.stats.curves import Choice, Fits, choose_form, fit_form, isotonic
from stillwatch.stats.intervals import Interval, percentile_interval, resample_clusters

Floats = NDArray[np.float64]

# A best form that misses its own points by more than this (share) does not describe them.
_POOR_FIT = 0.10
_LINE_POINTS = 60
# Below this rise (share) there is nothing to fit: a form would only repeat its prior.
_NO_RISE = 0.03
# A ceiling is told only where the curve has bent towards it: this share of it was seen.
_BENT = 0.8


class Student(Protocol):
    """What a resample needs of a curve point."""

    @property
    def n_questions(self) -> int:
        """Size of the training record (count)."""

    @property
    def seed(self) -> int:
        """Training seed."""

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Right or wrong on each item."""


@dataclass(frozen=True)
class Resamples:
    """Mean shares at each budget: row 0 as measured, the others resampled.

    Attributes:
        budgets: distinct questions above 0, rising, shape (m,).
        shares: shape (1 + draws, m).
        floor: share of the untrained student, shape (1 + draws,); 0 where none was scored.
        teacher: share of the teacher on the same resampled items, shape (1 + draws,).
    """

    budgets: Floats
    shares: Floats
    floor: Floats
    teacher: Floats

    @staticmethod
    def draw(
        points: Sequence[Student],
        teacher_correct: NDArray[np.bool_],
        *,
        clusters: NDArray[np.int64],
        draws: int,
        rng: np.random.Generator,
    ) -> Resamples:
        """Resample items by cluster and, where a budget has several, its training seeds.

        Args:
            points: at least one with questions above 0.
            teacher_correct: shape (n_items,).
            clusters: source number of each item.
            draws: resamples (count).
            rng: source of randomness.

        Returns:
            The measured row and the draws.
        """
        by_budget: dict[int, list[NDArray[np.bool_]]] = {}
        for point in points:
            by_budget.setdefault(point.n_questions, []).append(point.correct)
        everything = np.arange(teacher_correct.size)
        rows = [_means(by_budget, everything, rng=None)]
        teacher = [float(teacher_correct.mean())]
        for picked in resample_clusters(clusters, draws=draws, rng=rng):
            rows.append(_means(by_budget, picked, rng=rng))
            teacher.append(float(teacher_correct[picked].mean()))
        table = np.array([[row[n] for n in by_budget] for row in rows])
        asked = np.array(list(by_budget), dtype=np.float64)
        order = np.argsort(asked)
        trained = order[asked[order] > 0]
        floor = table[:, order[0]] if asked[order[0]] == 0 else np.zeros(len(table))
        return Resamples(asked[trained], table[:, trained], floor, np.array(teacher))


@dataclass(frozen=True)
class Fitted:
    """A fit of a copy curve and of each of its resamples.

    Attributes:
        resamples: what was fitted.
        choice: how each form did; `form` is the one taken.
        fits: row 0 the fit, the others its resamples; None for the rising step curve.
        notes: what a reader must know.
    """

    resamples: Resamples
    choice: Choice
    fits: Fits | None
    notes: tuple[str, ...]

    @property
    def form(self) -> str:
        """Name of the form, "" for the rising step curve."""
        return "" if self.fits is None else self.fits.form

    @property
    def ceiling(self) -> tuple[float, Interval] | None:
        """The share at which the fit levels off, with its interval; None while it still rises."""
        if self.fits is None:
            return None
        top = float(self.fits.ceiling[0])
        if self.fits.share(self.resamples.budgets[-1:])[0, 0] < _BENT * top:
            return None
        return top, percentile_interval(self.fits.ceiling[1:])

    def questions_to(self, share: float) -> tuple[float, Floats]:
        """Invert the fit and each resample at a share of the teacher's skill.

        Args:
            share: share of the teacher's skill, 0..1.

        Returns:
            The estimate, and the resampled ones; inf where it is never reached.
        """
        targets = share * self.resamples.teacher
        if self.fits is not None:
            questions = self.fits.questions_to(targets)
        else:
            rows = zip(self.resamples.shares, targets, strict=True)
            questions = np.array([
                _step_to(self.resamples.budgets, row, target=target) for row, target in rows
            ])
        return float(questions[0]), questions[1:]

    def line(self) -> tuple[Floats, Floats]:
        """Evaluate the fit and its resamples over the budgets that were trained.

        Returns:
            Questions of shape (k,), and shares of shape (1 + draws, k).
        """
        budgets = self.resamples.budgets
        n = np.geomspace(budgets[0], budgets[-1], _LINE_POINTS)
        if self.fits is not None:
            return n, self.fits.share(n)
        rows = [isotonic(budgets, row)[1] for row in self.resamples.shares]
        return n, np.array([np.interp(np.log(n), np.log(budgets), row) for row in rows])

    def as_dict(self) -> dict[str, Any]:
        """Give the fit as plain JSON data: its line, its band, its ceiling and its rivals."""
        n, shares = self.line()
        low, high = np.percentile(shares[1:], [2.5, 97.5], axis=0)
        result: dict[str, Any] = {
            "form": self.form or "rising steps",
            "compared": dict(self.choice.errors),
            "held_out": self.choice.held_out,
            "held_out_error": self.choice.errors.get(self.form),
            "line": [[float(x), float(y)] for x, y in zip(n, shares[0], strict=True)],
            "band": [[float(x), *map(float, e)] for x, *e in zip(n, low, high, strict=True)],
            "parameters": None,
            "asymptote": None,
            "asymptote_low": None,
            "asymptote_high": None,
        }
        if self.fits is not None:
            result["parameters"] = {
                "floor": float(self.fits.floor[0]),
                "ceiling": float(self.fits.ceiling[0]),
                "scale": float(self.fits.scale[0]),
                "steepness": float(self.fits.steepness[0]),
            }
        if self.ceiling is not None:
            result["asymptote"], ends = self.ceiling
            result["asymptote_low"], result["asymptote_high"] = ends
        return result


def fit_resamples(resamples: Resamples) -> Fitted:
    """Choose a form on the measured row and fit it to every row.

    Args:
        resamples: at least 2 budgets.

    Returns:
        The fit; the rising step curve where too few budgets were trained or no form describes them.
    """
    if np.max(resamples.shares[0] - resamples.floor[0]) < _NO_RISE:
        note = "The copy shows next to nothing of this skill: no form was fitted."
        return Fitted(resamples, Choice("", {}, held_out=False), None, (note,))
    choice = choose_form(resamples.budgets, resamples.shares[0], floor=float(resamples.floor[0]))
    if not choice.form:
        note = "Fewer than 3 budgets: the line joins the points and promises nothing beyond them."
        return Fitted(resamples, choice, None, (note,))
    fits = fit_form(choice.form, resamples.budgets, resamples.shares, floor=resamples.floor)
    if fits.rmse[0] > _POOR_FIT:
        note = "No form describes the points: the line joins them, never falling."
        return Fitted(resamples, choice, None, (note,))
    if not choice.held_out:
        note = "Three budgets: the form was chosen by its fit, with no larger budget left to check."
        return Fitted(resamples, choice, fits, (note,))
    return Fitted(resamples, choice, fits, ())


def _means(
    by_budget: dict[int, list[NDArray[np.bool_]]],
    picked: NDArray[np.int64],
    *,
    rng: np.random.Generator | None,
) -> dict[int, float]:
    """Mean share of each budget over the picked items and, with a generator, picked seeds."""
    means = {}
    for n, students in by_budget.items():
        shares = np.array([correct[picked].mean() for correct in students])
        mean = float(shares.mean())
        if rng is not None and shares.size > 1:
            redrawn = shares[rng.integers(0, shares.size, size=shares.size)].mean()
            # A resample of k values varies by (k - 1) / k of what it should; with 2 or 3 seeds
            # that matters.
            mean += float(redrawn - mean) * math.sqrt(shares.size / (shares.size - 1))
        means[n] = min(max(mean, 0.0), 1.0)
    return means


def _step_to(budgets: Floats, row: Floats, *, target: float) -> float:
    """First questions at which the joined rising steps reach a share, inf for never."""
    _, steps = isotonic(budgets, row)
    if target > steps[-1]:
        return float("inf")
    at = int(np.searchsorted(steps, target))
    if at == 0:
        return float(budgets[0])
    way = (target - steps[at - 1]) / max(steps[at] - steps[at - 1], 1e-12)
    logs = np.log(budgets)
    return float(np.exp(logs[at - 1] + way * (logs[at] - logs[at - 1])))
