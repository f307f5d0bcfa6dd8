"""Intervals of a copy curve hold the truth about as often as they say."""

import numpy as np
import pytest

from stillwatch.distill.curves.curve import CurvePoint, fit_copy_curve

BUDGETS = (100, 200, 400, 800, 1600, 3200)
ITEMS, WORLDS = 400, 8
CEILING, HALF, STEEPNESS, TEACHER = 0.95, 450.0, 1.8, 0.97


def _truth(share: float) -> float:
    """Questions at which the expected student has this share of the teacher."""
    way = share * TEACHER / CEILING
    return HALF * (way / (1 - way)) ** (1 / STEEPNESS)


def _world(rng: np.random.Generator, *, seeds: int, luck: float) -> list[CurvePoint]:
    """Draw students: half of the items go by how hard they are, half by chance."""
    ease = rng.random(ITEMS)
    points = []
    for n in BUDGETS:
        for seed in range(seeds):
            share = CEILING / (1 + (HALF / n) ** STEEPNESS) + luck * rng.normal()
            judged = np.where(rng.random(ITEMS) < 0.5, ease, rng.random(ITEMS))
            points.append(CurvePoint("s", n, seed, judged < share))
    return points


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "luck"), [(2, 0.05), (3, 0.0)])
def test_questions_are_held(seeds, luck):
    """With few seeds and much luck the interval still holds the true number of questions.

    At a true 95 % fewer than 6 of 8 happen once in 170; bench/curve_coverage.py has more worlds.
    """
    rng = np.random.default_rng(70 + seeds)
    held = np.zeros(3)
    for _ in range(WORLDS):
        points = _world(rng, seeds=seeds, luck=luck)
        teacher = rng.random(ITEMS) < TEACHER
        curve = fit_copy_curve(points, teacher, rng=rng, draws=60)
        for i, share in enumerate((0.5, 0.8, 0.9)):
            reach, truth = curve.questions_to(share), _truth(share)
            held[i] += (reach.low or np.inf) <= truth <= (reach.high or np.inf)
    assert (held >= 6).all(), held
