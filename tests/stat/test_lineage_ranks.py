"""Lineage ranks: uniform for independent models, and far out for students."""

import numpy as np
from style_world import answers_of, styles

from stillwatch.trace.similarity.kin import Panel
from stillwatch.trace.similarity.lineage import find_teacher
from stillwatch.trace.similarity.ngrams import Feature, similarities

WORDS = (Feature("word", 1),)


def test_ranks_of_independent_models_are_uniform():
    """Of 100 models, each suspected in turn, exactly one has each rank: 1, 5 and 10 % hold."""
    n_candidates = 3
    table = answers_of(5, styles(5, 100 + n_candidates), n_questions=6, length=30)
    compared = similarities(table, WORDS)
    candidates, pool = table.models[:n_candidates], table.models[n_candidates:]
    ranks = []
    for suspect in pool:
        panel = Panel(suspect, candidates, tuple(m for m in pool if m != suspect))
        told = find_teacher(
            table, panel, rng=np.random.default_rng(0), compared=compared, n_draws=1
        )
        ranks.append(told.of(candidates[0]).closer)
    assert list(range(100)) == sorted(ranks)


def test_students_are_found_at_a_stated_effect():
    """With half of the style learned, nearly all students are beyond 19 references."""
    found = 0
    for seed in range(8):
        table = answers_of(seed, styles(100 + seed, 20, students=(0,), learned=0.5))
        panel = Panel("m20", ("m0",), table.models[1:20])
        told = find_teacher(table, panel, rng=np.random.default_rng(0), features=WORDS, n_draws=1)
        found += told.first.closer == 0
    assert found >= 7
