"""A simulated multiple-choice exam of independent models and copies: to calibrate and to plan.

Models differ in ability, items in difficulty and in how tempting each option is. Ability shifts
the tastes, and so does family (a maker's line of models). At the defaults two independent models
that are both wrong agree in about 0.6 of the items, as on public exams of language models (HELM's
MMLU: 0.60 across companies, 0.64 inside one), where chance is 1/3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stillwatch.errors import reject
from stillwatch.trace.similarity.answer_sheet import AnswerSheet, fit_smoothing
from stillwatch.trace.similarity.shared_errors import screen_errors

Floats = NDArray[np.float64]

#: Log-odds of ability: mean and spread; difficulty's spread; log-spread of an item's slope.
_ABILITY, _ABILITY_SPREAD, _DIFFICULTY_SPREAD, _SLOPE_SPREAD = 0.6, 0.9, 1.3, 0.3
#: Spread of an option's appeal, of what ability and what family add to it.
_APPEAL, _ABILITY_PUSH, _FAMILY_PUSH = 1.4, 0.4, 0.7


@dataclass(frozen=True)
class Exam:
    """The size of an exam.

    Attributes:
        n_models: independent models (count); the first is the one that is copied.
        n_items: questions (count).
        n_families: families that models belong to in turn, 0 = none.
        n_options: options of each item (count, at least 2).
        n_copies: copies of the first model (count).
        adopted: share of its answers that a copy took, 0..1; the rest are the copy's own.
    """

    n_models: int = 40
    n_items: int = 1000
    n_families: int = 0
    n_options: int = 4
    n_copies: int = 0
    adopted: float = 0.3

    def __post_init__(self) -> None:
        if self.n_models < 1 or self.n_items < 1 or self.n_options < 2:
            rule = "at least 1 model, 1 item and 2 options"
            reject("trace.Exam", "n_models, n_items and n_options", rule,
                   got=(self.n_models, self.n_items, self.n_options))  # fmt: skip
        if not 0 <= self.adopted <= 1 or self.n_copies < 0 or self.n_families < 0:
            rule = "between 0 and 1, with counts of at least 0"
            reject("trace.Exam", "adopted", rule, got=self.adopted)

    def family(self, model: int) -> int | None:
        """Number of a model's family, or None where there are none."""
        return model % self.n_families if self.n_families else None

    def relatives(self, model: int) -> list[int]:
        """Models of the same family, the model itself among them."""
        if not self.n_families:
            return [model]
        return [n for n in range(self.n_models) if self.family(n) == self.family(model)]


def sit_exam(exam: Exam, *, rng: np.random.Generator) -> AnswerSheet:
    """Let independent models, and then copies of the first, sit an exam.

    Args:
        exam: its size.
        rng: draws items, models and answers.

    Returns:
        Models `m0`, `m1`, ..., then `copy0`, ...
    """
    shape = (exam.n_items, exam.n_options)
    ability = rng.normal(_ABILITY, _ABILITY_SPREAD, exam.n_models + exam.n_copies)
    difficulty = rng.normal(0.0, _DIFFICULTY_SPREAD, exam.n_items)
    slope = rng.lognormal(0.0, _SLOPE_SPREAD, exam.n_items)
    appeal = _APPEAL * rng.gumbel(size=shape)
    drift = rng.normal(0.0, _ABILITY_PUSH, shape)
    pushes = rng.normal(0.0, _FAMILY_PUSH, (max(exam.n_families, 1), *shape))
    right = rng.integers(0, exam.n_options, exam.n_items)
    rows: list[NDArray[np.int64]] = []
    for model, level in enumerate(ability.tolist()):
        taste = appeal + drift * (level - _ABILITY)
        if exam.n_families:
            taste = taste + pushes[model % exam.n_families]
        wrong = taste + rng.gumbel(size=shape)
        wrong[np.arange(exam.n_items), right] = -np.inf
        knows = rng.random(exam.n_items) < 1 / (1 + np.exp(-slope * (level - difficulty)))
        row = np.where(knows, right, wrong.argmax(axis=1))
        if model >= exam.n_models:
            row = np.where(rng.random(exam.n_items) < exam.adopted, rows[0], row)
        rows.append(row)
    names = [f"m{n}" for n in range(exam.n_models)] + [f"copy{n}" for n in range(exam.n_copies)]
    options = np.full(exam.n_items, exam.n_options, dtype=np.int64)
    return AnswerSheet(tuple(names), np.array(rows, dtype=np.int64), right, options)


def plan_errors(
    exam: Exam, *, rng: np.random.Generator, log10_level: float = -3.0, n_exams: int = 20
) -> float:
    """Tell beforehand how likely a copy is to be found among independent models.

    Args:
        exam: items and models there are (the first is mine, those of other families are the
            references) and the share of answers that a copy is thought to have taken.
        rng: draws the exams.
        log10_level: found = `log10_p` at most this, and closer than every reference.
        n_exams: simulated exams, one copy each (count, at least 1).

    Returns:
        Share of copies found, 0..1.

    Raises:
        InvalidInputError: fewer than one exam, or fewer than 3 references.
    """
    if n_exams < 1:
        reject("trace.plan_errors", "n_exams", "at least 1", got=n_exams)
    sized = Exam(exam.n_models, exam.n_items, exam.n_families, exam.n_options, 1, exam.adopted)
    kin = set(exam.relatives(0))
    found = 0
    for _ in range(n_exams):
        sheet = sit_exam(sized, rng=rng)
        rows = [n for n in range(exam.n_models) if n not in kin]
        smoothing = fit_smoothing(sheet, rows, wrong_only=True)
        pool = ["copy0", *(sheet.models[n] for n in rows)]
        told = screen_errors(sheet, "m0", pool, smoothing=smoothing)[0]
        found += told.log10_p <= log10_level and told.closer == 0
    return found / n_exams
