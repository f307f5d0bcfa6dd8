import json

import numpy as np
import pytest

from stillwatch.distill.curves.curve import CurvePoint, fit_copy_curve, pool_capabilities
from stillwatch.errors import InvalidInputError

BUDGETS = (100, 200, 400, 800, 1600, 3200)
ITEMS = 400


def _logistic(n: float, *, ceiling: float = 0.9, half: float = 600.0) -> float:
    return ceiling / (1 + (half / n) ** 2.5) if n else 0.0


def _points(rng, *, seeds=(0, 1, 2), ceiling=0.9, budgets=BUDGETS, half=600.0):
    ease = rng.random(ITEMS)
    return [
        CurvePoint(
            "date",
            n,
            seed,
            ease + rng.normal(0, 0.05, ITEMS) < _logistic(n, ceiling=ceiling, half=half),
        )
        for n in budgets
        for seed in seeds
    ]


@pytest.fixture
def rng():
    """A seeded generator."""
    return np.random.default_rng(3)


def test_curve_finds_the_questions(rng):
    """The questions to half and to 80% come out where the students were made to have them."""
    curve = fit_copy_curve(_points(rng), np.ones(ITEMS, dtype=bool), rng=rng, draws=80)
    half, most = curve.questions_to(0.5), curve.questions_to(0.8)
    assert pytest.approx(656, rel=0.12) == half.n_questions
    assert pytest.approx(1370, rel=0.15) == most.n_questions
    assert half.low < half.n_questions < half.high
    assert not half.extrapolated
    assert half.sentence.startswith("about ")


def test_shares_are_of_the_teacher(rng):
    """A weaker teacher is reached with fewer questions: the share is of its skill, not of all."""
    points = _points(rng)
    strong = fit_copy_curve(points, np.ones(ITEMS, dtype=bool), rng=rng, draws=80)
    weak = fit_copy_curve(points, rng.random(ITEMS) < 0.6, rng=rng, draws=80)
    assert weak.questions_to(0.8).n_questions < 0.8 * strong.questions_to(0.8).n_questions


def test_not_reached_is_said(rng):
    """A copy that levels off too low is not given a number, but told where it levels off."""
    curve = fit_copy_curve(
        _points(rng, ceiling=0.55), np.ones(ITEMS, dtype=bool), rng=rng, draws=80
    )
    never = curve.questions_to(0.9)
    assert not never.reached
    assert never.n_questions is None
    assert "not reached within 12,800 questions; the curve levels off at 5" in never.sentence
    assert curve.questions_to(0.5).reached


def test_extrapolation_is_said_and_bounded(rng):
    """Beyond the budgets trained an estimate carries a warning; beyond four times there is none."""
    points = _points(rng, half=3000.0)
    curve = fit_copy_curve(points, np.ones(ITEMS, dtype=bool), rng=rng, draws=80)
    for reach in curve.reaches:
        if reach.reached and reach.n_questions > 3200:
            assert reach.extrapolated
            assert "an extrapolation" in reach.sentence
            assert any("extrapolation" in note for note in curve.notes)
        assert reach.n_questions is None or reach.n_questions <= 4 * 3200
    assert any(reach.extrapolated or not reach.reached for reach in curve.reaches)


def test_compute_wall_is_said(rng):
    """Students that stop gaining far below the teacher are bound by compute; a note says so."""
    points = _points(rng, ceiling=0.4, half=200.0)
    curve = fit_copy_curve(points, np.ones(ITEMS, dtype=bool), rng=rng, draws=80)
    assert curve.is_compute_bound
    assert any("bound by compute" in note for note in curve.notes)
    assert not fit_copy_curve(
        _points(rng), np.ones(ITEMS, dtype=bool), rng=rng, draws=80
    ).is_compute_bound


def test_more_seeds_widen_the_band_honestly(rng):
    """With one seed the band cannot hold the luck of training, and a note says so."""
    one = fit_copy_curve(_points(rng, seeds=(0,)), np.ones(ITEMS, dtype=bool), rng=rng, draws=80)
    several = fit_copy_curve(_points(rng), np.ones(ITEMS, dtype=bool), rng=rng, draws=80)
    assert any("One training seed" in note for note in one.notes)
    assert not any("One training seed" in note for note in several.notes)


def test_clustered_items_widen_the_band(rng):
    """Items that stand or fall together count as one; pretending otherwise would be too sure."""
    clusters = np.repeat(np.arange(ITEMS // 20), 20)
    ease = np.repeat((np.arange(ITEMS // 20) + 0.5) * 20 / ITEMS, 20)
    points = [CurvePoint("date", n, 0, ease < _logistic(n)) for n in BUDGETS]
    teacher = np.ones(ITEMS, dtype=bool)
    widths = []
    for groups in (None, clusters):
        curve = fit_copy_curve(
            points, teacher, rng=np.random.default_rng(0), clusters=groups, draws=80
        )
        band = np.array(curve.as_dict()["fit"]["band"])
        widths.append(float((band[:, 2] - band[:, 1]).mean()))
    assert widths[1] > 1.5 * widths[0]


@pytest.mark.parametrize("budgets", [(100,), (100, 400), (100, 400, 1600)])
def test_few_budgets_promise_little(rng, budgets):
    """One budget gives dots, two a line between them, three a form that nothing checked."""
    curve = fit_copy_curve(
        _points(rng, budgets=budgets), np.ones(ITEMS, dtype=bool), rng=rng, draws=80
    )
    assert curve.notes
    assert (curve.fitted is None) == (len(budgets) == 1)
    if len(budgets) == 2:
        assert "" == curve.fitted.form
        assert "not reached within 400 questions" == curve.questions_to(0.9).sentence


def test_untouched_skill_gets_no_line_from_nowhere(rng):
    """A skill of which nothing was copied is not fitted: a form would only repeat its prior."""
    points = [CurvePoint("regex", n, 0, np.zeros(ITEMS, dtype=bool)) for n in BUDGETS]
    curve = fit_copy_curve(points, np.ones(ITEMS, dtype=bool), rng=rng, draws=80)
    assert "" == curve.fitted.form
    assert curve.fitted.ceiling is None
    assert not any(reach.reached for reach in curve.reaches)


def test_untrained_student_is_the_floor(rng):
    """A point at zero questions sets where the curve starts and is not fitted as a budget."""
    points = [*_points(rng), CurvePoint("date", 0, 0, rng.random(ITEMS) < 0.2)]
    curve = fit_copy_curve(points, np.ones(ITEMS, dtype=bool), rng=rng, draws=80)
    assert pytest.approx(0.2, abs=0.06) == curve.fitted.resamples.floor[0]
    assert 100 == curve.fitted.resamples.budgets[0]


def test_curve_repeats_and_is_plain_data(rng):
    """The same points and seed give the same JSON, and it is JSON."""
    points, teacher = _points(rng), np.ones(ITEMS, dtype=bool)
    first, again = (
        json.dumps(
            fit_copy_curve(points, teacher, rng=np.random.default_rng(5), draws=80).as_dict(),
            allow_nan=False,
        )
        for _ in range(2)
    )
    assert first == again


def test_pooling_joins_students_item_by_item(rng):
    """Capabilities are joined within a student; a student that lacks one is left out."""
    points = [
        CurvePoint("date", 100, 0, np.array([True, False])),
        CurvePoint("roman", 100, 0, np.array([True])),
        CurvePoint("date", 200, 0, np.array([True, True])),
    ]
    teacher = {"date": np.array([True, True]), "roman": np.array([False])}
    pooled, truth = pool_capabilities(points, teacher, "both")
    assert [(100, [True, False, True])] == [(p.n_questions, p.correct.tolist()) for p in pooled]
    assert [True, True, False] == truth.tolist()


@pytest.mark.parametrize(
    "points",
    [
        [],
        [
            CurvePoint("a", 1, 0, np.ones(ITEMS, dtype=bool)),
            CurvePoint("b", 2, 0, np.ones(ITEMS, dtype=bool)),
        ],
        [CurvePoint("a", -1, 0, np.ones(ITEMS, dtype=bool))],
        [CurvePoint("a", 1, 0, np.ones(3, dtype=bool))],
    ],
)
def test_unfit_points_are_refused(rng, points):
    """No students, mixed capabilities, negative budgets and other items are refused."""
    with pytest.raises(InvalidInputError):
        fit_copy_curve(points, np.ones(ITEMS, dtype=bool), rng=rng, draws=80)


def test_only_computed_shares_are_answered(rng):
    """A share that was not fitted is refused by name, not interpolated."""
    curve = fit_copy_curve(_points(rng), np.ones(ITEMS, dtype=bool), rng=rng, draws=80)
    with pytest.raises(InvalidInputError, match="one of"):
        curve.questions_to(0.7)
