"""The axes of a copy curve: the same questions as answers kept, tokens, and dollars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stillwatch.distill.curves.curve_point import CurvePoint, Spent

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Axis:
    """What a number of questions comes to in another unit.

    Between the budgets it is interpolated, below them asking costs in proportion and training as
    much as at the smallest; beyond them both go on as they did between the last two.

    Attributes:
        name: key of `AXES`.
        label: what is counted, in words.
        is_money: whether its unit is the US dollar.
        budgets: questions (count), rising, shape (m,).
        asked: what asking came to at each, in the axis's unit.
        trained: what training came to at each, in the axis's unit.
    """

    name: str
    label: str
    is_money: bool
    budgets: Floats
    asked: Floats
    trained: Floats

    def at(self, n: ArrayLike) -> Floats:
        """Convert questions.

        Args:
            n: questions (count); inf stays inf.

        Returns:
            The same in the axis's unit.
        """
        questions = np.asarray(n, dtype=np.float64)
        knots = np.concatenate([[0.0], self.budgets])
        asked = _along(knots, np.concatenate([[0.0], self.asked]), questions)
        trained = _along(knots, np.concatenate([self.trained[:1], self.trained]), questions)
        return np.where(np.isfinite(questions), asked + trained, np.inf)

    def questions_for(self, value: ArrayLike) -> Floats:
        """Convert back: how many questions an amount buys.

        Args:
            value: in the axis's unit.

        Returns:
            Questions (count); inf where asking costs nothing.
        """
        amount = np.asarray(value, dtype=np.float64)
        low, high = np.zeros_like(amount), np.full_like(amount, 1e15)
        for _ in range(80):
            middle = (low + high) / 2
            is_bought = self.at(middle) <= amount
            low, high = np.where(is_bought, middle, low), np.where(is_bought, high, middle)
        return np.where(low > 1e14, np.inf, low)

    def as_dict(self) -> dict[str, Any]:
        """Give the axis as plain JSON data."""
        total = self.asked + self.trained
        return {
            "name": self.name,
            "label": self.label,
            "is_money": self.is_money,
            "at": [[float(n), float(v)] for n, v in zip(self.budgets, total, strict=True)],
            "asked": self.asked.tolist(),
            "trained": self.trained.tolist(),
        }


#: Axis name -> its label, what a point says of asking, and of training.
AXES: dict[str, tuple[str, Callable[[Spent], float | None], Callable[[Spent], float | None]]] = {
    "kept": ("answers kept", lambda s: s.n_kept, lambda s: 0.0),
    "own": ("questions of this skill", lambda s: s.n_own, lambda s: 0.0),
    "input_tokens": ("input tokens", lambda s: s.input_tokens, lambda s: 0.0),
    "output_tokens": ("output tokens", lambda s: s.output_tokens, lambda s: 0.0),
    "usd_asked": ("dollars for asking", lambda s: s.usd_asked, lambda s: 0.0),
    "usd": (
        "dollars for asking and training",
        lambda s: s.usd_asked,
        lambda s: s.usd_trained,
    ),
}


def axes_of(points: Sequence[CurvePoint]) -> tuple[Axis, ...]:
    """Build the axes that every trained point tells of, the mean over seeds at each budget.

    Args:
        points: students; the untouched one is passed over.

    Returns:
        The axes, in the order of `AXES`; none that a point lacks.
    """
    budgets = sorted({point.n_questions for point in points if point.n_questions > 0})
    spent = [[p.spent for p in points if p.n_questions == n] for n in budgets]
    axes = []
    for name, (label, asked, trained) in AXES.items():
        told_asked = [[asked(s) for s in row] for row in spent]
        told_trained = [[trained(s) for s in row] for row in spent]
        flat = [v for row in (*told_asked, *told_trained) for v in row]
        if not flat or any(value is None for value in flat):
            continue
        axes.append(
            Axis(
                name,
                label,
                name.startswith("usd"),
                np.array(budgets, dtype=np.float64),
                _means(told_asked),
                _means(told_trained),
            )
        )
    return tuple(axes)


def _means(rows: Sequence[Sequence[float | None]]) -> Floats:
    means = np.array([np.mean([value or 0.0 for value in row]) for row in rows])
    # Nested budgets cannot cost less; an average of other seeds may seem to.
    return np.maximum.accumulate(means)


def _along(knots: Floats, values: Floats, n: Floats) -> Floats:
    inside = np.interp(n, knots, values)
    slope = (values[-1] - values[-2]) / (knots[-1] - knots[-2])
    beyond = np.where(np.isfinite(n), np.maximum(n - knots[-1], 0.0), 0.0)
    return np.asarray(inside + slope * beyond)
