"""One student as a point of a copy curve: what it scored, what it cost, how it was trained."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Spent(NamedTuple):
    """What a student's record and training cost; None where it was not counted.

    Attributes:
        n_kept: questions whose answers were kept for training (count).
        n_own: questions of the point's own capability among those asked (count).
        input_tokens: tokens sent to the teacher (count).
        output_tokens: tokens that the teacher answered with (count).
        usd_asked: price of asking, US dollars.
        usd_trained: price of training this student, US dollars.
    """

    n_kept: int | None = None
    n_own: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    usd_asked: float | None = None
    usd_trained: float | None = None


class Training(NamedTuple):
    """How a student was trained; None where it is not known.

    Attributes:
        steps: training steps (count).
        train_loss: mean nats per answer token at the end, on the student's own record.
    """

    steps: int | None = None
    train_loss: float | None = None


class CurvePoint(NamedTuple):
    """One student.

    Attributes:
        capability: the skill that was scored.
        n_questions: questions asked for its record (count); 0 = the untouched student.
        seed: its training seed.
        correct: right or wrong on each held-out item, or the share of several samples that was
            right, shape (n_items,); the same items in the same order for every point of a
            capability.
        spent: what it cost.
        training: how it was trained.
        is_probe: trained longer than the rule, to see whether training is the wall; such a student
            is evidence beside the curve, not a point of it.
    """

    capability: str
    n_questions: int
    seed: int
    correct: NDArray[np.bool_] | NDArray[np.float64]
    spent: Spent = Spent()
    training: Training = Training()
    is_probe: bool = False
