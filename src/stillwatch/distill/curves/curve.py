"""The copy curve: how much of a teacher's skill, for how many questions.

One curve per capability. Points are students trained on nested budgets and scored on the same
held-out items as the teacher; the fit is chosen by how well it foretells larger budgets; the band
resamples items and the luck of training, and chooses and fits anew every time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillwatch.distill.curves.curve_axes import Axis, axes_of
from stillwatch.distill.curves.curve_bound import Bound, find_bound
from stillwatch.distill.curves.curve_draws import Items, draw_resamples
from stillwatch.distill.curves.curve_fit import MAX_EXTRAPOLATION, Fitted, fit_resamples
from stillwatch.distill.curves.curve_gap import Gap, measure_gap
from stillwatch.distill.curves.curve_point import CurvePoint, Spent, Training
from stillwatch.distill.curves.curve_reach import Reach, reach_share
from stillwatch.errors import reject
from stillwatch.stats.intervals import wilson

__all__ = [
    "MAX_EXTRAPOLATION",
    "SHARES_OF_TEACHER",
    "CopyCurve",
    "CurvePoint",
    "Reach",
    "Spent",
    "Training",
    "fit_copy_curve",
    "fit_items",
    "pool_capabilities",
]

Correct = NDArray[np.bool_] | NDArray[np.float64]

#: Shares of the teacher's skill that a curve answers for.
SHARES_OF_TEACHER = (0.5, 0.8, 0.9)


@dataclass(frozen=True)
class CopyCurve:
    """A fitted curve of one capability, with its band.

    Attributes:
        capability: the skill.
        points: the students, by budget and seed; those trained longer as a probe last.
        items: the held-out items, and the teacher on them.
        fitted: the fit and its resamples, or None with fewer than 2 budgets.
        reaches: one for each share asked for; empty without a fit.
        gap: how much of the way from the untouched student to the teacher was gone.
        axes: the same questions in other units.
        bound: what stops the curve.
        notes: what a reader must know, in sentences.
    """

    capability: str
    points: tuple[CurvePoint, ...]
    items: Items
    fitted: Fitted | None
    reaches: tuple[Reach, ...]
    gap: Gap
    axes: tuple[Axis, ...]
    bound: Bound
    notes: tuple[str, ...]

    @property
    def teacher_share(self) -> float:
        """Share of the held-out items that the teacher gets right."""
        return self.gap.teacher

    @property
    def is_compute_bound(self) -> bool:
        """Whether more questions stopped helping far below the teacher, and training may not."""
        return self.bound.kind == "compute"

    def questions_to(self, share: float) -> Reach:
        """Answer for one of the shares that were computed.

        Args:
            share: share of the teacher's skill.

        Returns:
            The questions needed, with an interval, or that it was not reached.

        Raises:
            InvalidInputError: the share is not one that was computed.
        """
        for reach in self.reaches:
            if math.isclose(reach.share, share):
                return reach
        asked = [reach.share for reach in self.reaches]
        return reject("CopyCurve.questions_to", "share", f"one of {asked}", got=share)

    def as_dict(self) -> dict[str, Any]:
        """Give the curve as plain JSON data; the moat report reads its first seven entries."""
        return {
            "skill": self.capability,
            "teacher_share": self.teacher_share,
            "points": [_point_dict(point) for point in self.points if not point.is_probe],
            "fit": None if self.fitted is None else self.fitted.as_dict(),
            "questions_to": [_reach_dict(reach) for reach in self.reaches],
            "compute_bound": self.is_compute_bound,
            "notes": list(self.notes),
            "bound": self.bound.as_dict(),
            "gap": self.gap.as_dict(),
            "axes": [axis.as_dict() for axis in self.axes],
            "reach": [reach.as_dict(self.axes) for reach in (*self.gap.reaches, *self.reaches)],
            "probes": [_point_dict(point) for point in self.points if point.is_probe],
            "n_items": int(self.items.teacher_correct.size),
            "n_clusters": self.items.n_clusters,
            "largest": max((p.n_questions for p in self.points), default=0),
        }


def fit_copy_curve(
    points: Sequence[CurvePoint],
    teacher_correct: Correct,
    *,
    rng: np.random.Generator,
    clusters: NDArray[np.int64] | None = None,
    draws: int = 200,
) -> CopyCurve:
    """Fit the copy curve of one capability.

    Args:
        points: its students; budgets nested, the rule of training the same for all but probes.
        teacher_correct: the teacher on the same items, shape (n_items,), bool or 0..1.
        rng: source of the resamples.
        clusters: source number of each item, shape (n_items,), where items share a source.
        draws: resamples (count) behind the band.

    Returns:
        The curve.

    Raises:
        InvalidInputError: no points, several capabilities, or points scored on other items.
    """
    return fit_items(points, Items.of(teacher_correct, clusters=clusters), rng=rng, draws=draws)


def fit_items(
    points: Sequence[CurvePoint],
    items: Items,
    *,
    rng: np.random.Generator,
    draws: int,
    shares: Sequence[float] = SHARES_OF_TEACHER,
) -> CopyCurve:
    """Fit a copy curve over held-out items in clusters and parts.

    Args:
        points: its students; budgets nested, the rule of training the same for all but probes.
        items: the items, and the teacher on them.
        rng: source of the resamples.
        draws: resamples (count) behind the band.
        shares: shares of the teacher and of the gap to answer for.

    Returns:
        The curve.

    Raises:
        InvalidInputError: no points, several capabilities, or points scored on other items.
    """
    ordered = tuple(sorted(points, key=lambda p: (p.is_probe, p.n_questions, p.seed)))
    _check(ordered, items)
    of_rule = [point for point in ordered if not point.is_probe]
    budgets = sorted({point.n_questions for point in of_rule if point.n_questions > 0})
    fitted: Fitted | None = None
    reaches: tuple[Reach, ...] = ()
    if len(budgets) >= 2:
        fitted = fit_resamples(draw_resamples(of_rule, items, draws=draws, rng=rng))
        targets = [share * fitted.resamples.teacher for share in shares]
        pairs = zip(shares, targets, strict=True)
        reaches = tuple(reach_share(share, at, fitted, of="teacher") for share, at in pairs)
    gap = measure_gap(of_rule, items, fitted, shares=shares)
    bound = find_bound(ordered, items, fitted)
    return CopyCurve(
        ordered[0].capability,
        ordered,
        items,
        fitted,
        reaches,
        gap,
        axes_of(of_rule),
        bound,
        (*_notes(of_rule, fitted, bound=bound, reaches=(*reaches, *gap.reaches)), *gap.notes),
    )


def pool_capabilities(
    points: Iterable[CurvePoint], teacher_correct: Mapping[str, Correct], name: str
) -> tuple[list[CurvePoint], Correct]:
    """Join the items of several capabilities, student by student, for a curve over all of them.

    Args:
        points: students of any capabilities; those missing a capability are left out.
        teacher_correct: the teacher by capability; names what to pool.
        name: capability of the result.

    Returns:
        Points and teacher for `fit_copy_curve`.
    """
    students: dict[tuple[int, int, bool], dict[str, CurvePoint]] = {}
    for point in points:
        key = (point.n_questions, point.seed, point.is_probe)
        students.setdefault(key, {})[point.capability] = point
    pooled = [
        next(iter(parts.values()))._replace(
            capability=name,
            correct=np.concatenate([parts[skill].correct for skill in teacher_correct]),
        )
        for _, parts in sorted(students.items(), key=lambda entry: entry[0])
        if set(teacher_correct) <= set(parts)
    ]
    return pooled, np.concatenate(list(teacher_correct.values()))


def _check(points: Sequence[CurvePoint], items: Items) -> None:
    where = "fit_copy_curve"
    if not points:
        reject(where, "points", "at least one student", got=0)
    capabilities = sorted({point.capability for point in points})
    if len(capabilities) > 1:
        reject(where, "points", "of one capability", got=capabilities)
    for point in points:
        if point.n_questions < 0:
            reject(where, "n_questions", "at least 0", got=point.n_questions)
        if point.correct.shape != items.teacher_correct.shape or not point.correct.size:
            rule = f"scored on the teacher's {items.teacher_correct.size} items, at least 1"
            reject(where, "correct", rule, got=point.correct.size)


def _notes(
    points: Sequence[CurvePoint],
    fitted: Fitted | None,
    *,
    bound: Bound,
    reaches: Sequence[Reach],
) -> tuple[str, ...]:
    notes = []
    if fitted is None:
        notes.append("Too few budgets for a fit: the points stand alone.")
    else:
        notes.extend(fitted.notes)
    if len({point.seed for point in points}) < 2:
        notes.append(
            "One training seed: the luck of training shows only in how the points stray from the "
            "line, and the band rests on that."
        )
    if bound.sentence:
        notes.append(bound.sentence)
    if any(reach.extrapolated for reach in reaches):
        notes.append("A figure beyond the largest budget trained is an extrapolation of the fit.")
    return tuple(notes)


def _reach_dict(reach: Reach) -> dict[str, Any]:
    return {
        "of_teacher": reach.share,
        "reached": reach.reached,
        "n_questions": reach.n_questions,
        "low": reach.low,
        "high": reach.high,
        "extrapolated": reach.extrapolated,
        "sentence": reach.sentence,
    }


def _point_dict(point: CurvePoint) -> dict[str, Any]:
    n_items = point.correct.size
    interval = wilson(round(float(point.correct.sum())), n_items)
    told = point.spent._asdict() | point.training._asdict()
    return {
        "n_questions": point.n_questions,
        "seed": point.seed,
        "share": float(point.correct.mean()),
        "low": interval.low,
        "high": interval.high,
    } | {name: value for name, value in told.items() if value is not None}
