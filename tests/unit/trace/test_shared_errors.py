"""Shared errors: copies found, independent models left alone, what is refused."""

import json

import numpy as np
import pytest

from stillwatch.errors import InvalidInputError
from stillwatch.trace.similarity.answer_sheet import (
    AnswerSheet,
    Smoothing,
    fit_smoothing,
    match_chances,
)
from stillwatch.trace.similarity.exam import Exam, plan_errors, sit_exam
from stillwatch.trace.similarity.shared_errors import compare_errors, scatter_of, screen_errors

REFERENCES = tuple(f"m{number}" for number in range(2, 24))


@pytest.fixture(scope="module")
def sheet():
    """Twenty-four models and a copy that took half of m0's answers."""
    return sit_exam(Exam(24, 600, n_copies=1, adopted=0.5), rng=np.random.default_rng(8))


@pytest.mark.parametrize("wrong_only", [True, False])
def test_a_copy_is_found(sheet, wrong_only):
    """Half of the answers taken: closer than every reference, and far beyond the model's null."""
    told = compare_errors(sheet, "m0", "copy0", references=REFERENCES, wrong_only=wrong_only)
    assert 0 == told.closer
    assert told.n_same > told.expected
    assert told.log10_model_p < -8
    assert told.log10_p > told.log10_model_p
    assert told.log10_p == pytest.approx(told.log10_model_p / told.scatter)


def test_an_independent_model_is_not(sheet):
    """Models that only fall for the same tempting options are not accused."""
    told = compare_errors(sheet, "m0", "m1", references=REFERENCES)
    assert told.log10_p > -2
    assert told.n_same / told.n_items > 0.45


def test_screening_says_the_same_as_one_by_one(sheet):
    """Every model in turn, all others its references."""
    pool = ("copy0", "m1", *REFERENCES[:6])
    smoothing = Smoothing(1.0, 1.0)
    told = screen_errors(sheet, "m0", pool, smoothing=smoothing)
    alone = compare_errors(sheet, "m0", "m1", references=("copy0", *REFERENCES[:6]),
                           smoothing=smoothing)  # fmt: skip
    assert alone.z == told[1].z
    assert alone.log10_p == told[1].log10_p
    assert [pool.index("copy0")] == [n for n, one in enumerate(told) if one.closer == 0]


def test_the_chance_of_a_match_by_hand():
    """Two of three references, my own answer, and half a reference that the prior gives."""
    choices = np.array([[1], [1], [1], [2], [1]])
    sheet = AnswerSheet(tuple("abcde"), choices, np.array([0]), np.array([3]))
    chances = match_chances(
        sheet, (0, 4), [1, 2, 3], smoothing=Smoothing(np.inf, 1.0), wrong_only=True
    )
    assert [(2 + 1 + 0.5) / (3 + 1 + 1)] == pytest.approx(chances.tolist())


def test_missing_answers_are_not_compared(sheet):
    """Items that either left open count on neither side."""
    choices = sheet.choices.copy()
    choices[0, :500] = -1
    open_sheet = AnswerSheet(sheet.models, choices, sheet.right, sheet.n_options)
    told = compare_errors(open_sheet, "m0", "copy0", references=REFERENCES, wrong_only=False)
    assert 100 == told.n_items


def test_smoothing_is_chosen_by_prediction(sheet):
    """Tempting options ask for little prior, options at random for much."""
    rng = np.random.default_rng(0)
    noise = AnswerSheet(sheet.models, rng.integers(0, 4, sheet.choices.shape), sheet.right,
                        sheet.n_options)  # fmt: skip
    rows = list(range(24))
    tempting = fit_smoothing(sheet, rows, wrong_only=True)
    random = fit_smoothing(noise, rows, wrong_only=True)
    assert tempting.prior_weight < random.prior_weight


def test_scatter_never_sharpens():
    """References that scatter less than coins leave p as it is."""
    assert 1.0 == scatter_of(np.zeros(30))
    assert scatter_of(np.full(30, 3.0)) > 9.0


def test_plain_data(sheet):
    """Everything can be written as JSON."""
    told = compare_errors(sheet, "m0", "m1", references=REFERENCES[:5])
    assert 5 == json.loads(json.dumps(told.as_dict()))["references"]


@pytest.mark.parametrize(
    ("mine", "suspect", "references", "rule"),
    [
        ("m0", "m1", ("m2", "m3"), "at least 3 models"),
        ("m0", "m0", REFERENCES, "other models than mine"),
        ("m0", "m2", REFERENCES, "other models than mine and the suspect"),
        ("m0", "m1", ("m0", "m3", "m4"), "other models than mine"),
        ("m0", "nobody", REFERENCES, "one of m0"),
    ],
)
def test_who_cannot_be_compared(sheet, mine, suspect, references, rule):
    """A missing, double or unknown model is named."""
    with pytest.raises(InvalidInputError, match=rule):
        compare_errors(sheet, mine, suspect, references=references)


@pytest.mark.parametrize(
    ("choices", "n_options", "rule"),
    [([[0, 4]], [4, 4], "n_options"), ([[-2, 0]], [4, 4], "options of their item"),
     ([[0]], [4, 4], "1 models by 2 items"), ([[0, 0]], [4, 1], "at least 2")],
)  # fmt: skip
def test_a_sheet_that_cannot_be(choices, n_options, rule):
    """Options outside their item and shapes that differ are refused."""
    with pytest.raises(InvalidInputError, match=rule):
        AnswerSheet(("a",), np.array(choices), np.array([0, 0]), np.array(n_options))


def test_power_is_planned_beforehand():
    """More adopted answers are found more often, and a small exam finds none."""
    rng = np.random.default_rng(0)
    large, small = (
        plan_errors(Exam(12, n_items, adopted=0.8), rng=rng, n_exams=4) for n_items in (600, 20)
    )
    assert (1.0, 0.0) == (large, small)


@pytest.mark.parametrize("size", [{"n_items": 0}, {"adopted": 1.5}, {"n_options": 1}])
def test_an_exam_that_cannot_be(size):
    """Sizes and shares out of range are named."""
    with pytest.raises(InvalidInputError, match=r"trace\.Exam"):
        Exam(**size)
