import numpy as np
import pytest

from stillwatch.distill.curves.curve import CurvePoint, Training, fit_copy_curve

BUDGETS = (100, 300, 1000, 3000, 9000)
ITEMS = 500
TEACHER = np.ones(ITEMS, dtype=bool)


def _points(rng, shares, *, losses=None, steps=600):
    ease = rng.random(ITEMS)
    points = []
    for i, (n, share) in enumerate(zip(BUDGETS, shares, strict=True)):
        training = Training() if losses is None else Training(steps, losses[i])
        points.extend(
            CurvePoint("s", n, seed, ease + rng.normal(0, 0.03, ITEMS) < share, training=training)
            for seed in (0, 1)
        )
    return points


@pytest.fixture
def rng():
    """A seeded generator."""
    return np.random.default_rng(4)


FLAT = (0.02, 0.22, 0.4, 0.41, 0.4)
RISING = (0.02, 0.12, 0.35, 0.6, 0.78)


def test_losses_that_rise_show_compute(rng):
    """Flat scores while students learn their own records less and less: training is the wall."""
    points = _points(rng, FLAT, losses=(0.01, 0.03, 0.1, 0.25, 0.4))
    bound = fit_copy_curve(points, TEACHER, rng=rng, draws=80).bound
    assert ("compute", True) == (bound.kind, bound.is_shown)
    assert "0.250 to 0.400 nats a token on as many steps" in bound.sentence


def test_learnt_records_clear_compute(rng):
    """Flat scores of students that learnt all they were given are not a matter of training."""
    curve = fit_copy_curve(_points(rng, FLAT, losses=(0.01,) * 5), TEACHER, rng=rng, draws=80)
    assert ("student", True) == (curve.bound.kind, curve.bound.is_shown)
    assert not curve.is_compute_bound


def test_flat_without_evidence_is_only_likely(rng):
    """Without losses the wall of compute is the likely reading, and is marked as that."""
    curve = fit_copy_curve(_points(rng, FLAT), TEACHER, rng=rng, draws=80)
    assert ("compute", False) == (curve.bound.kind, curve.bound.is_shown)
    assert curve.is_compute_bound


def test_longer_training_that_gains_is_proof(rng):
    """Students of the largest budget trained longer settle it, even where scores still rise."""
    points = _points(rng, RISING, losses=(0.01,) * 5)
    ease = rng.random(ITEMS)
    probes = [
        CurvePoint("s", 9000, seed, ease < 0.9, training=Training(1200, 0.01), is_probe=True)
        for seed in (0, 1)
    ]
    curve = fit_copy_curve([*points, *probes], TEACHER, rng=rng, draws=80)
    assert ("compute", True) == (curve.bound.kind, curve.bound.is_shown)
    assert "2 times the training gains" in curve.bound.sentence
    assert 2 == len(curve.as_dict()["probes"])
    assert 0.8 > curve.fitted.resamples.shares[0, -1]


def test_rising_curves_have_no_wall(rng):
    """Where more questions still help, nothing is said to stop the copy."""
    curve = fit_copy_curve(
        _points(rng, RISING, losses=(0.1, 0.2, 0.3, 0.4, 0.5)), TEACHER, rng=rng, draws=80
    )
    assert "questions" == curve.bound.kind
    assert "" == curve.bound.sentence


def test_a_student_near_its_teacher_has_no_wall(rng):
    """A curve that ends beside the teacher is flat because there is nothing left to take."""
    near = (0.3, 0.7, 0.93, 0.95, 0.95)
    assert "questions" == fit_copy_curve(_points(rng, near), TEACHER, rng=rng, draws=80).bound.kind
