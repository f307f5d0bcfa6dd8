"""Lineage: whom a student is traced to, what the references say, what is refused."""

import json
from datetime import date

import numpy as np
import pytest
from style_world import answers_of, styles

from stillwatch.errors import InvalidInputError
from stillwatch.trace.similarity.kin import ModelCard, Panel
from stillwatch.trace.similarity.lineage import (
    centred_cosines,
    contrast_of,
    excess_over_nulls,
    find_teacher,
)
from stillwatch.trace.similarity.ngrams import Feature, similarities

WORDS = (Feature("word", 1),)
TEACHERS = ("m0", "m1", "m2")
REFERENCES = tuple(f"m{number}" for number in range(3, 12))
CARDS = {"m0": ModelCard(released=date(2025, 1, 1)), "m1": ModelCard(released=date(2026, 5, 1)),
         "m12": ModelCard(base="rock", released=date(2026, 1, 1)),
         "m3": ModelCard(base="rock", released=date(2026, 2, 1)),
         "m4": ModelCard(base="rock", released=date(2020, 2, 1))}  # fmt: skip


@pytest.fixture(scope="module")
def table():
    """Twelve independent models, m12 a student of m0."""
    return answers_of(1, styles(1, 12, students=(0,), learned=0.5))


def look(table, suspect="m12", *, candidates=TEACHERS, references=REFERENCES, cards=CARDS):
    """Trace one suspect."""
    panel = Panel(suspect, candidates, references, cards)
    return find_teacher(table, panel, rng=np.random.default_rng(0), features=WORDS, n_draws=200)


def test_the_teacher_is_first_and_no_reference_is_as_close(table):
    """A student that took half its style from m0 is traced to it, beyond every reference."""
    told = look(table)
    assert "m0" == told.first.candidate
    assert (0, 9) == (told.first.closer, told.first.references)
    assert 0.1 == told.first.smallest_level
    assert told.first_stays > 0.95
    assert told.excess_low < told.first.excess < told.excess_high


def test_a_candidate_of_later_date_is_put_last(table):
    """Who was released after the suspect cannot have taught it."""
    last = look(table).kinships[-1]
    assert ("m1", False) == (last.candidate, last.possible)


def test_matched_references_are_counted_apart(table):
    """References with the suspect's base and age are told, others are not among them."""
    told = look(table).first
    assert (0, 1) == (told.closer_matched, told.matched)
    assert not told.same_base


def test_a_candidate_may_be_a_reference_for_others(table):
    """It is left out for itself only."""
    told = look(table, references=(*REFERENCES, *TEACHERS))
    assert {11} == {kinship.references for kinship in told.kinships}


def test_known_students_and_family_are_no_references(table):
    """Who learned from a candidate, or is its sister, says nothing about innocence."""
    cards = {**CARDS, "m5": ModelCard(teachers=frozenset({"m0"})),
             "m6": ModelCard(family="zero"), "m0": ModelCard(family="zero")}  # fmt: skip
    told = look(table, cards=cards)
    assert (7, 9) == (told.of("m0").references, told.of("m2").references)


def test_shuffled_questions_and_models_change_nothing(table):
    """Order is no evidence."""
    rows = np.random.default_rng(2).permutation(len(table.questions))
    first, second = look(table), look(table.keep(rows), references=REFERENCES[::-1])
    assert first.first.excess == pytest.approx(second.first.excess, abs=1e-6)
    assert first.first.contrast == pytest.approx(second.first.contrast, abs=1e-6)


def test_plain_data(table):
    """Everything can be written as JSON."""
    told = json.loads(json.dumps(look(table).as_dict()))
    assert "m0" == told["kinships"][0]["candidate"]
    assert "word-1" == told["features"]


def test_similarities_computed_once_serve_many_panels(table):
    """Given beforehand they change nothing."""
    panel = Panel("m12", TEACHERS, REFERENCES, CARDS)
    told = find_teacher(table, panel, rng=np.random.default_rng(0), features=WORDS, n_draws=200,
                        compared=similarities(table, WORDS))  # fmt: skip
    assert look(table) == told


def test_what_is_common_to_all_falls_out():
    """A constant added to all similarities of a question does not change its centred cosines."""
    rng = np.random.default_rng(3)
    rows = rng.random((1, 5, 8))
    gram = (rows @ rows.transpose(0, 2, 1)).astype(np.float32)
    assert np.allclose(centred_cosines(gram), centred_cosines(gram + np.float32(2.0)), atol=1e-4)


def test_excess_and_contrast_on_a_table_by_hand():
    """D is what a model has above the mean of the others; C subtracts its mean elsewhere."""
    excess = excess_over_nulls(np.array([[3.0, 1.0], [1.0, 2.0], [2.0, np.nan]]))
    assert [[1.5, -1.0], [-1.5, 1.0]] == excess[:2].tolist()
    assert np.isnan(excess[2, 1])
    contrast = contrast_of(excess, ~np.eye(2, dtype=bool))
    assert [2.5, -2.5] == contrast[:2, 0].tolist()


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"candidates": ()}, "at least one model"),
        ({"candidates": ("m0", "m0")}, "named once each"),
        ({"references": ("m12",)}, "other models than the suspect"),
        ({"references": ()}, "independent of m0"),
        ({"suspect": "m99"}, "one of m0"),
    ],
)
def test_a_panel_that_cannot_be(table, change, rule):
    """What is missing or double is named."""
    with pytest.raises(InvalidInputError, match=rule):
        look(table, **change)


def test_too_few_questions_are_refused(table):
    """Four questions are no lineage."""
    with pytest.raises(InvalidInputError, match="at least 5 questions"):
        look(table.keep(range(4)))


def test_an_unknown_candidate_is_refused(table):
    """Only candidates can be looked up."""
    with pytest.raises(InvalidInputError, match="one of m0"):
        look(table).of("m7")
