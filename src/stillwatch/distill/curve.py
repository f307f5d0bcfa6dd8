"""The copy curve: how much of a teacher's skill, for how many questions.

One curve per capability. Points are students trained on nested budgets and scored on the same
held-out items as the teacher; the fit is chosen by how well it foretells larger budgets; the band
resamples items and training seeds and refits every time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stillwatch.distill.curve_fit import Fitted, Resamples, fit_resamples
from stillwatch.errors import reject
from stillwatch.stats.intervals import paired_difference, percentile_interval, wilson

#: Shares of the teacher's skill that a curve answers for.
SHARES_OF_TEACHER = (0.5, 0.8, 0.9)
#: Beyond this multiple of the largest budget a fit is not asked; up to it, with a warning.
MAX_EXTRAPOLATION = 4.0
# A last step that gains less than this (share), far below the teacher, is a wall of compute.
_FLAT_GAIN = 0.03


class CurvePoint(NamedTuple):
    """One student.

    Attributes:
        capability: the skill that was scored.
        n_questions: size of its training record (count); 0 = the untrained student.
        seed: its training seed.
        correct: right or wrong on each held-out item, shape (n_items,), bool; the same items in
            the same order for every point of a capability.
    """

    capability: str
    n_questions: int
    seed: int
    correct: NDArray[np.bool_]


@dataclass(frozen=True)
class Reach:
    """Questions needed for a share of the teacher's skill.

    Attributes:
        of_teacher: the share asked for, 0..1.
        n_questions: the estimate, or None when it is not reached within 4 times the largest budget.
        low: lower end of its 95 % interval, or None when that is not reached either.
        high: upper end, or None for "no upper bound".
        extrapolated: whether the estimate lies beyond the largest budget that was trained.
        sentence: the same in words.
    """

    of_teacher: float
    n_questions: float | None
    low: float | None
    high: float | None
    extrapolated: bool
    sentence: str

    @property
    def reached(self) -> bool:
        """Whether there is an estimate."""
        return self.n_questions is not None


@dataclass(frozen=True)
class CopyCurve:
    """A fitted curve of one capability, with its band.

    Attributes:
        capability: the skill.
        points: the students, by budget and seed.
        teacher_correct: the teacher on the same items, shape (n_items,), bool.
        fitted: the fit and its resamples, or None with fewer than 2 budgets.
        reaches: one for each of `SHARES_OF_TEACHER`; empty without a fit.
        is_compute_bound: whether more questions stopped helping far below the teacher.
        notes: what a reader must know, in sentences.
    """

    capability: str
    points: tuple[CurvePoint, ...]
    teacher_correct: NDArray[np.bool_]
    fitted: Fitted | None
    reaches: tuple[Reach, ...]
    is_compute_bound: bool
    notes: tuple[str, ...]

    @property
    def teacher_share(self) -> float:
        """Share of the held-out items that the teacher gets right."""
        return float(self.teacher_correct.mean())

    def questions_to(self, share: float) -> Reach:
        """Answer for one of `SHARES_OF_TEACHER`.

        Args:
            share: share of the teacher's skill.

        Returns:
            The questions needed, with an interval, or that it was not reached.

        Raises:
            InvalidInputError: the share is not one that was computed.
        """
        for reach in self.reaches:
            if math.isclose(reach.of_teacher, share):
                return reach
        asked = [reach.of_teacher for reach in self.reaches]
        return reject("CopyCurve.questions_to", "share", f"one of {asked}", got=share)

    def as_dict(self) -> dict[str, Any]:
        """Give the curve as plain JSON data, in the shape that the moat report reads."""
        return {
            "skill": self.capability,
            "teacher_share": self.teacher_share,
            "points": [_point_dict(point) for point in self.points],
            "fit": None if self.fitted is None else self.fitted.as_dict(),
            "questions_to": [
                {
                    "of_teacher": reach.of_teacher,
                    "reached": reach.reached,
                    "n_questions": reach.n_questions,
                    "low": reach.low,
                    "high": reach.high,
                    "extrapolated": reach.extrapolated,
                    "sentence": reach.sentence,
                }
                for reach in self.reaches
            ],
            "compute_bound": self.is_compute_bound,
            "notes": list(self.notes),
        }


def fit_copy_curve(
    points: Sequence[CurvePoint],
    teacher_correct: NDArray[np.bool_],
    *,
    rng: np.random.Generator,
    clusters: NDArray[np.int64] | None = None,
    draws: int = 200,
) -> CopyCurve:
    """Fit the copy curve of one capability.

    Args:
        points: its students; budgets nested, the rule of training the same for all.
        teacher_correct: the teacher on the same items, shape (n_items,), bool.
        rng: source of the resamples.
        clusters: source number of each item, shape (n_items,), where items share a source.
        draws: resamples (count) behind the band.

    Returns:
        The curve.

    Raises:
        InvalidInputError: no points, several capabilities, or points scored on other items.
    """
    ordered = tuple(sorted(points, key=lambda p: (p.n_questions, p.seed)))
    _check(ordered, teacher_correct)
    groups = np.arange(teacher_correct.size) if clusters is None else clusters
    trained = [point for point in ordered if point.n_questions > 0]
    budgets = sorted({point.n_questions for point in trained})
    fitted: Fitted | None = None
    reaches: tuple[Reach, ...] = ()
    if len(budgets) >= 2:
        resamples = Resamples.draw(ordered, teacher_correct, clusters=groups, draws=draws, rng=rng)
        fitted = fit_resamples(resamples)
        reaches = tuple(_reach(share, fitted, budgets[-1]) for share in SHARES_OF_TEACHER)
    bound = _is_compute_bound(trained, float(teacher_correct.mean()))
    notes = _notes(ordered, fitted, bound=bound, reaches=reaches)
    return CopyCurve(ordered[0].capability, ordered, teacher_correct, fitted, reaches, bound, notes)


def pool_capabilities(
    points: Iterable[CurvePoint], teacher_correct: Mapping[str, NDArray[np.bool_]], name: str
) -> tuple[list[CurvePoint], NDArray[np.bool_]]:
    """Join the items of several capabilities, student by student, for a curve over all of them.

    Args:
        points: students of any capabilities; those missing a capability are left out.
        teacher_correct: the teacher by capability; names what to pool.
        name: capability of the result.

    Returns:
        Points and teacher for `fit_copy_curve`.
    """
    students: dict[tuple[int, int], dict[str, NDArray[np.bool_]]] = {}
    for point in points:
        students.setdefault((point.n_questions, point.seed), {})[point.capability] = point.correct
    pooled = [
        CurvePoint(name, n, seed, np.concatenate([parts[skill] for skill in teacher_correct]))
        for (n, seed), parts in sorted(students.items())
        if set(teacher_correct) <= set(parts)
    ]
    return pooled, np.concatenate(list(teacher_correct.values()))


def _check(points: Sequence[CurvePoint], teacher_correct: NDArray[np.bool_]) -> None:
    where = "fit_copy_curve"
    if not points:
        reject(where, "points", "at least one student", got=0)
    capabilities = sorted({point.capability for point in points})
    if len(capabilities) > 1:
        reject(where, "points", "of one capability", got=capabilities)
    for point in points:
        if point.n_questions < 0:
            reject(where, "n_questions", "at least 0", got=point.n_questions)
        if point.correct.shape != teacher_correct.shape or not point.correct.size:
            rule = f"scored on the teacher's {teacher_correct.size} items, at least 1"
            reject(where, "correct", rule, got=point.correct.size)


def _reach(share: float, fitted: Fitted, largest: int) -> Reach:
    """Read the questions to a share of the teacher off the fit and each of its resamples."""
    limit = MAX_EXTRAPOLATION * largest
    central, draws = fitted.questions_to(share)
    ends = percentile_interval(draws)
    low = ends.low if ends.low <= limit else None
    high = ends.high if ends.high <= limit else None
    if central > limit:
        tail = ""
        if fitted.ceiling is not None:
            top, ends = fitted.ceiling
            tail = f"; the curve levels off at {top:.0%} [{ends.low:.0%}, {ends.high:.0%}]"
        within = largest if fitted.fits is None else limit
        sentence = f"not reached within {within:,.0f} questions{tail}"
        return Reach(share, None, low, high, extrapolated=False, sentence=sentence)
    sentence = f"about {_round(central)} questions [{_round(low)}, {_round(high)}]"
    extrapolated = central > largest
    if extrapolated:
        sentence += f", beyond the largest budget trained ({largest:,}): an extrapolation"
    return Reach(share, central, low, high, extrapolated=extrapolated, sentence=sentence)


def _round(value: float | None) -> str:
    """Two significant digits are what such an estimate can bear."""
    if value is None:
        return "no bound"
    digits = max(0, math.floor(math.log10(value)) - 1) if value >= 1 else 0
    return f"{round(value / 10**digits) * 10**digits:,}"


def _is_compute_bound(trained: Sequence[CurvePoint], teacher_share: float) -> bool:
    """Whether the last step up in questions gained next to nothing, far below the teacher."""
    budgets = sorted({point.n_questions for point in trained})
    if len(budgets) < 3:
        return False
    before, last = (
        np.concatenate([p.correct for p in trained if p.n_questions == n]) for n in budgets[-2:]
    )
    seeds = [{p.seed for p in trained if p.n_questions == n} for n in budgets[-2:]]
    gain_high = (
        paired_difference(last, before).high
        if seeds[0] == seeds[1]
        else float(last.mean() - before.mean())
    )
    return gain_high < _FLAT_GAIN and float(last.mean()) < 0.9 * teacher_share


def _notes(
    points: Sequence[CurvePoint],
    fitted: Fitted | None,
    *,
    bound: bool,
    reaches: Sequence[Reach],
) -> tuple[str, ...]:
    notes = []
    if fitted is None:
        notes.append("Too few budgets for a fit: the points stand alone.")
    else:
        notes.extend(fitted.notes)
    if len({point.seed for point in points}) < 2:
        notes.append(
            "One training seed: the band holds the choice of test items, not the luck of training."
        )
    if bound:
        notes.append(
            "More questions stopped helping far below the teacher: at this much training the copy "
            "is bound by compute, not by questions."
        )
    if any(reach.extrapolated for reach in reaches):
        notes.append("A figure beyond the largest budget trained is an extrapolation of the fit.")
    return tuple(notes)


def _point_dict(point: CurvePoint) -> dict[str, Any]:
    interval = wilson(int(point.correct.sum()), point.correct.size)
    return {
        "n_questions": point.n_questions,
        "seed": point.seed,
        "share": float(point.correct.mean()),
        "low": interval.low,
        "high": interval.high,
    }
