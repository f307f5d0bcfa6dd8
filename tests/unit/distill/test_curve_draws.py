import numpy as np
import pytest

from stillwatch.distill.curves.curve_axes import axes_of
from stillwatch.distill.curves.curve_draws import ClusterSums, Items, draw_resamples
from stillwatch.distill.curves.curve_point import CurvePoint, Spent

BUDGETS = (100, 200, 400, 800, 1600, 3200)
ITEMS = 600


def _students(rng, *, luck, seeds=3):
    points = []
    for n in BUDGETS:
        for seed in range(seeds):
            share = 0.9 / (1 + (500 / n) ** 1.8) + rng.normal(0, luck)
            points.append(CurvePoint("s", n, seed, rng.random(ITEMS) < share))
    return points


@pytest.fixture
def rng():
    """A seeded generator."""
    return np.random.default_rng(6)


def test_luck_is_told_from_the_choice_of_items(rng):
    """Students that differ only by which items they know show less luck than those that have it."""
    items = Items.of(np.ones(ITEMS, dtype=bool))
    none, some = (
        draw_resamples(_students(rng, luck=luck), items, draws=400, rng=rng) for luck in (0, 0.08)
    )
    assert none.luck.sd < 0.035
    assert pytest.approx(0.09, abs=0.03) == some.luck.sd
    assert some.shares[1:, 3].std() > 1.5 * none.shares[1:, 3].std()


def test_luck_of_a_seed_is_seen_to_go_through_all_budgets(rng):
    """Seeds that are good or bad at every budget are told from seeds that are so by turns."""
    items = Items.of(np.ones(ITEMS, dtype=bool))
    found = []
    for through in (False, True):
        points = []
        for at, n in enumerate(BUDGETS):
            for seed in range(4):
                luck = 0.08 * (1 if (seed < 2) == (through or at % 2 == 0) else -1)
                share = 0.1 + 0.7 / (1 + (500 / n) ** 1.8) + luck
                points.append(CurvePoint("s", n, seed, rng.random(ITEMS) < share))
        found.append(draw_resamples(points, items, draws=100, rng=rng).luck.common)
    assert found[0] < 0.2
    assert found[1] > 0.6


def test_one_seed_is_judged_by_how_it_strays(rng):
    """A single seed a budget shows its luck in how far its points lie off the line."""
    items = Items.of(np.ones(ITEMS, dtype=bool))
    points = _students(rng, luck=0.08, seeds=1)
    found = draw_resamples(points, items, draws=100, rng=rng)
    assert len(BUDGETS) - 3 == found.luck.freedom
    steady = draw_resamples(_students(rng, luck=0, seeds=1), items, draws=100, rng=rng)
    assert found.luck.sd > steady.luck.sd


def test_parts_count_the_same(rng):
    """A share is the mean over parts, whatever the number of items in each."""
    correct = np.array([[1, 1, 1, 1, 0, 0]], dtype=float)
    items = Items.of(correct[0], strata=np.array([0, 0, 0, 0, 1, 1]))
    sums = ClusterSums(correct, items)
    assert [0.5] == sums.shares().tolist()
    assert [[0.5]] * 20 == sums.draw(20, rng=rng).tolist()


def test_resamples_vary_as_their_variance_says(rng):
    """The closed form of the variance over items is that of the resamples, also in clusters."""
    correct = (rng.random((2, 300)) < 0.6).astype(float)
    items = Items.of(correct[0], clusters=np.arange(300) // 4)
    sums = ClusterSums(correct, items)
    drawn = sums.draw(20_000, rng=rng)
    weights = np.array([1.0, -1.0])
    assert pytest.approx(sums.variance(weights), rel=0.06) == (drawn @ weights).var()


def _axis(name, points):
    return next(axis for axis in axes_of(points) if axis.name == name)


def _spending(trained):
    return [
        CurvePoint("s", n, 0, np.ones(1, dtype=bool), Spent(usd_asked=0.01 * n, usd_trained=usd))
        for n, usd in zip((100, 200, 400), trained, strict=True)
    ]


def test_asking_costs_by_the_question_and_training_by_the_rule():
    """Below and beyond the budgets asking is proportional; training goes on as it went."""
    fixed, growing = (_axis("usd", _spending(trained)) for trained in ((3, 3, 3), (1, 2, 4)))
    assert pytest.approx([3.5, 4.5, 7.0, 11.0]) == fixed.at([50, 150, 400, 800])
    assert pytest.approx([1.5, 3.0, 8.0, 16.0]) == growing.at([50, 150, 400, 800])
    assert np.isinf(fixed.at(np.inf))


def test_axes_are_undone():
    """The questions that an amount buys cost that amount."""
    axis = _axis("usd_asked", _spending((3, 3, 3)))
    assert pytest.approx([50, 400, 900]) == axis.questions_for([0.5, 4.0, 9.0])


def test_an_axis_that_a_point_lacks_is_left_out():
    """What one student does not tell is not told of any."""
    points = _spending((1, 2, 4))
    points[1] = points[1]._replace(spent=Spent(usd_asked=2.0))
    assert ["usd_asked"] == [axis.name for axis in axes_of(points)]
