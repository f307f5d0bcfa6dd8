"""Similarity as findings: a rank, no p-value of our own."""

import numpy as np
from style_world import answers_of, styles

from stillwatch.trace.outputs import SuspectOutput
from stillwatch.trace.similarity.exam import Exam, sit_exam
from stillwatch.trace.similarity.findings import (
    errors_finding,
    identity_finding,
    lineage_finding,
)
from stillwatch.trace.similarity.identity import find_identity
from stillwatch.trace.similarity.kin import ModelCard, Panel
from stillwatch.trace.similarity.lineage import find_teacher
from stillwatch.trace.similarity.self_claims import Brand
from stillwatch.trace.similarity.shared_errors import compare_errors


def test_lineage_as_a_finding():
    """The rank of the contrast, the first candidate and the confounders are told."""
    table = answers_of(1, styles(1, 6, students=(0,)), n_questions=8)
    cards = {"m0": ModelCard(base="rock"), "m6": ModelCard(base="rock")}
    panel = Panel("m6", ("m0", "m1"), ("m2", "m3", "m4", "m5"), cards)
    told = find_teacher(table, panel, rng=np.random.default_rng(0), n_draws=10)
    found = lineage_finding(told, "m0")
    assert ("lineage", True, None) == (found.test, found.is_similarity, found.p_value)
    assert (told.of("m0").closer, 4) == found.rank
    assert any("same base model" in note for note in found.notes)
    assert any("19 references" in note for note in found.notes)


def test_errors_as_a_finding():
    """The model's tail stands in the details only."""
    sheet = sit_exam(Exam(6, 120), rng=np.random.default_rng(1))
    told = compare_errors(sheet, "m0", "m1", references=["m2", "m3", "m4", "m5"])
    found = errors_finding(told)
    assert ("shared-errors", (told.closer, 4), None) == (found.test, found.rank, found.p_value)
    assert told.log10_p == found.details["log10_p"]


def test_identity_as_a_finding():
    """The share of claims, and which reference makes them too."""
    said = [SuspectOutput("I am Clara.", "q1"), SuspectOutput("No.", "q2")]
    told = find_identity(said, {"r": said}, brand=Brand(("Clara",)))
    found = identity_finding(told)
    assert ("identity", 0.5, (1, 1)) == (found.test, found.statistic, found.rank)
    assert any("50.0%" in note for note in found.notes)
