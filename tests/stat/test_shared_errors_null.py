"""Shared errors among independent models: p no smaller than it says, no accusation at 1e-6."""

import numpy as np
import pytest

from stillwatch.trace.similarity.answer_sheet import fit_smoothing
from stillwatch.trace.similarity.exam import Exam, sit_exam
from stillwatch.trace.similarity.shared_errors import screen_errors


@pytest.mark.parametrize(("wrong_only", "n_families"), [(True, 0), (True, 5), (False, 5)])
def test_all_pairs_of_a_pool(wrong_only, n_families):
    """Over all pairs: at most 1, 5 and 10 % below those levels, none below 1e-6."""
    exam = Exam(20, 400, n_families=n_families)
    sheet = sit_exam(exam, rng=np.random.default_rng(7))
    smoothing = fit_smoothing(sheet, range(20), wrong_only=wrong_only)
    logs = []
    for first, mine in enumerate(sheet.models):
        kin = exam.relatives(first)
        pool = [name for number, name in enumerate(sheet.models) if number not in kin]
        told = screen_errors(sheet, mine, pool, wrong_only=wrong_only, smoothing=smoothing)
        logs += [one.log10_p for one in told]
    log10_p = np.array(logs)
    assert log10_p.min() > -6
    for level in (0.01, 0.05, 0.1):
        assert np.mean(log10_p <= np.log10(level)) <= level


def test_copies_are_found_at_a_stated_effect():
    """Of copies that took 40 % of 600 answers, nearly all are closer than 23 references."""
    sheet = sit_exam(Exam(24, 600, n_copies=12, adopted=0.4), rng=np.random.default_rng(8))
    smoothing = fit_smoothing(sheet, range(24), wrong_only=True)
    found = [
        screen_errors(sheet, "m0", [copy, *sheet.models[1:24]], smoothing=smoothing)[0]
        for copy in sheet.models[24:]
    ]
    assert sum(one.closer == 0 for one in found) >= 11
    assert sum(one.log10_p < -3 for one in found) >= 9
