import json
from datetime import date

import numpy as np
import pytest

from stillwatch.distill.curves.curve_point import CurvePoint
from stillwatch.distill.curves.curve_set import MACRO, fit_curves
from stillwatch.distill.curves.curve_table import CurveTable, TreadmillTable
from stillwatch.distill.curves.points import PointLine, read_scored, write_point_lines, write_points
from stillwatch.errors import InvalidInputError

BUDGETS = (100, 300, 1000, 3000)
CAPABILITIES = {"regex": (0.9, 500.0), "spelling": (0.8, 1500.0)}


def _correct(rng, share, n=120):
    return (rng.random(n) < share).astype(int).tolist()


def _share(n, top, half, floor=0.05):
    return floor + (top - floor) / (1 + (half / n) ** 1.6) if n else floor


def _lines(rng, *, untouched=True, costs=True):
    lines = []
    for name, (top, half) in CAPABILITIES.items():
        sources = [f"{name} {i // 2}" for i in range(120)]
        lines.append(PointLine(name, _correct(rng, 0.97), clusters=sources))
        if untouched:
            lines.append(PointLine(name, _correct(rng, 0.05), 0))
        for n in BUDGETS:
            for seed in range(2):
                told = (
                    {
                        "n_kept": n - 5,
                        "n_own": n // 2,
                        "output_tokens": 60 * n,
                        "usd_asked": 0.0004 * n,
                        "usd_trained": 0.1,
                    }
                    if costs
                    else {}
                )
                correct = _correct(rng, _share(n, top, half))
                lines.append(PointLine(name, correct, n, seed, **told))
    lines.append(PointLine("regex", _correct(rng, 0.6), out_of_distribution=True))
    lines.extend(
        PointLine("regex", _correct(rng, 0.1), n, 0, out_of_distribution=True) for n in BUDGETS
    )
    return lines


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A points file of two capabilities, read back."""
    path = tmp_path_factory.mktemp("points") / "points.jsonl"
    write_point_lines(path, _lines(np.random.default_rng(2)))
    return read_scored(path)


@pytest.fixture(scope="module")
def curves(scored):
    """Its curves, with a treadmill of two purses."""
    treadmill = TreadmillTable(
        released=date(2026, 1, 1),
        successors=(date(2026, 7, 1), date(2026, 10, 1)),
        per_day=(5.0, 500.0),
        delay_days=10,
    )
    return fit_curves(scored, CurveTable(draws=60, treadmill=treadmill), seed=1)


def test_one_curve_a_capability_and_their_mean(curves):
    """Each capability has its curve, all count the same in the mean, and outside stays apart."""
    assert list(CAPABILITIES) == [curve.capability for curve in curves.curves]
    assert curves.macro.capability == MACRO
    shares = [curve.fitted.resamples.shares[0] for curve in curves.curves]
    assert pytest.approx(np.mean(shares, axis=0)) == curves.macro.fitted.resamples.shares[0]
    teachers = [curve.teacher_share for curve in curves.curves]
    assert pytest.approx(np.mean(teachers)) == curves.macro.teacher_share
    assert ["regex"] == [curve.capability for curve in curves.outside]
    assert curves.main is curves.macro


def test_gap_counts_only_what_was_gained(curves):
    """The gap starts at the untouched student: half of it takes more than half the score."""
    for curve in curves.curves:
        gap = {reach.share: reach for reach in curve.gap.reaches}
        assert curve.gap.is_clear
        assert gap[0.5].n_questions > curve.questions_to(0.5).n_questions
        last = curve.gap.closed[-1]
        assert last["gap_closed"][0] < last["ratio"][0]


def test_every_reach_is_told_in_tokens_and_dollars(curves):
    """Questions become tokens and dollars by what the budgets cost, ends of the interval too."""
    curve = curves.curves[0]
    told = curve.gap.reaches[0].as_dict(curve.axes)
    n, low, high = told["n_questions"], told["low"], told["high"]
    assert {"kept", "own", "output_tokens", "usd_asked", "usd"} == set(told["on_axes"])
    assert pytest.approx([60 * n, 60 * low, 60 * high]) == told["on_axes"]["output_tokens"]
    assert pytest.approx(0.1 + 0.0004 * n) == told["on_axes"]["usd"][0]


def test_curves_are_plain_data_that_repeats(scored, curves):
    """The same points, settings and seed give the same JSON."""
    first = json.dumps(curves.as_dict(), allow_nan=False)
    again = fit_curves(scored, curves.table, seed=1).as_dict()
    assert first == json.dumps(again, allow_nan=False)


def test_lead_is_the_time_to_ask(curves):
    """A copy is out when delay and asking are over; ten times the purse needs a tenth of that."""
    slow, fast = curves.leads
    half = next(r for r in curves.main.gap.reaches if r.share == 0.5)
    assert pytest.approx(10 + half.n_questions / 5) == slow.overtaken[0].days
    assert pytest.approx(10 + half.n_questions / 500) == fast.overtaken[0].days
    assert (181.0, 92.0) == slow.reigns
    assert pytest.approx(half.n_questions / 171) == slow.overtaken[0].per_day_needed
    assert slow.overtaken[0].lead[0] >= fast.overtaken[0].lead[0]


def test_treadmill_is_silent_beyond_four_times_the_budget(curves):
    """A copier that asks more than may be spoken of gets a lower bound, never a promise."""
    slow, fast = curves.leads
    end = fast.at_successor[0]
    assert end["n_questions"] > 4 * 3000
    assert end["gap_closed"] is None
    assert end["at_least"] > 0.5
    assert max(day for day, *_ in fast.line) < 10 + 4 * 3000 / 500 + 3
    assert slow.at_successor[0]["gap_closed"] is not None
    for entry in fast.overtaken:
        if entry.days is None:
            assert entry.is_least == (True, True)


def test_treadmill_needs_what_it_counts_in(tmp_path):
    """A purse in dollars on points that tell none is refused by name."""
    path = tmp_path / "points.jsonl"
    write_point_lines(path, _lines(np.random.default_rng(2), costs=False))
    days = {"released": date(2026, 1, 1), "successors": (date(2026, 7, 1),)}
    table = TreadmillTable(**days, per_day=(1.0,), unit="usd")
    with pytest.raises(InvalidInputError, match="unit must be one that the points tell of"):
        fit_curves(read_scored(path), CurveTable(draws=40, treadmill=table))


def test_no_untouched_student_is_no_floor(tmp_path):
    """Without an untouched student the gap is the teacher's whole share."""
    path = tmp_path / "points.jsonl"
    write_point_lines(path, _lines(np.random.default_rng(2), untouched=False))
    curve = fit_curves(read_scored(path), CurveTable(draws=40)).curves[0]
    assert curve.gap.untouched is None
    assert curve.gap.reaches[0].n_questions == curve.questions_to(0.5).n_questions


def test_points_are_read_as_written(tmp_path):
    """A points file gives back its models, their costs and their items' sources."""
    path = tmp_path / "points.jsonl"
    lines = _lines(np.random.default_rng(2))
    write_point_lines(path, lines)
    scored = read_scored(path)
    assert [("regex", False), ("spelling", False), ("regex", True)] == [
        (held_out.capability, held_out.out_of_distribution) for held_out in scored.held_out
    ]
    assert lines[0].correct == scored.held_out[0].teacher_correct.astype(int).tolist()
    assert 60 == np.unique(scored.held_out[0].clusters).size
    student = scored.students[0][1]
    assert lines[2].correct == student.correct.astype(int).tolist()
    assert (95, 6000) == (student.spent.n_kept, student.spent.output_tokens)


def test_several_samples_are_shares(tmp_path):
    """Items that were answered several times count by the share that was right."""
    path = tmp_path / "points.jsonl"
    lines = [PointLine("a", [1, 1, 0.75])]
    lines += [PointLine("a", [0.25, 0.5, 0.0], n, 0) for n in BUDGETS]
    write_point_lines(path, lines)
    curve = fit_curves(read_scored(path), CurveTable(draws=40)).curves[0]
    assert pytest.approx(2.75 / 3) == curve.teacher_share
    assert pytest.approx(0.25) == curve.fitted.resamples.shares[0, 0]


def test_siege_writes_what_is_read(tmp_path):
    """Bare points without costs, as `siege` writes them, come back as they were."""
    path = tmp_path / "points.jsonl"
    point = CurvePoint("date", 100, 3, np.array([True, False]))
    write_points(path, [point], {"date": np.array([True, True])})
    scored = read_scored(path)
    assert point.correct.tolist() == scored.students[0][0].correct.tolist()
    assert (100, 3) == scored.students[0][0][1:3]
    assert [True, True] == scored.held_out[0].teacher_correct.tolist()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (PointLine("a", [2.0], 1), "correct must be"),
        (PointLine("a", [1, 0], clusters=["x"]), "clusters must be one an item"),
        (PointLine("a", [1, 0, 1], 5), "scored on 3 items"),
        (PointLine("b", [1, 0], 5), "no line of the teacher for b"),
    ],
)
def test_unfit_lines_are_named(tmp_path, line, told):
    """A line that cannot be used is refused with what is wrong with it."""
    path = tmp_path / "points.jsonl"
    write_point_lines(path, [PointLine("a", [1, 1]), PointLine("a", [1, 1], 5), line])
    with pytest.raises(InvalidInputError, match=told):
        read_scored(path)


@pytest.mark.parametrize(
    "make",
    [
        lambda: CurveTable(shares=(0.8, 0.5)),
        lambda: CurveTable(draws=3),
        lambda: TreadmillTable(
            released=date(2026, 1, 1), successors=(date(2025, 1, 1),), per_day=(1.0,)
        ),
        lambda: TreadmillTable(
            released=date(2026, 1, 1), successors=(date(2026, 2, 1),), per_day=(0.0,)
        ),
    ],
)
def test_unfit_settings_are_refused(make):
    """Shares that fall, too few resamples, successors before the release, an empty purse."""
    with pytest.raises(InvalidInputError):
        make()
