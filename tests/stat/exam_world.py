"""Models that sit a multiple-choice exam: difficulty, ability, tempting options, families, copies."""

import numpy as np

from stillwatch.trace.answer_sheet import AnswerSheet


def exam(
    seed, *, n_models=40, n_items=600, n_families=0, family_push=0.7, ability_push=0.4,
    tempting=0.7, copies=0, adopted=0.3,
):  # fmt: skip
    """Independent models (families share a taste for options), then copies of model 0.

    A copy takes model 0's answer with chance `adopted`, else its own. The agreement of two models
    that are both wrong is about 0.6 on average, as on public exams of language models.
    """
    rng = np.random.default_rng(seed)
    ability = rng.normal(0.6, 0.9, n_models + copies)
    difficulty = rng.normal(0.0, 1.3, n_items)
    slope = rng.lognormal(0.0, 0.3, n_items)
    taste = rng.gumbel(0.0, 1.0, (n_items, 4)) / tempting
    drift = rng.normal(0.0, ability_push, (n_items, 4))
    pushes = rng.normal(0.0, family_push, (max(n_families, 1), n_items, 4))
    right = rng.integers(0, 4, n_items)
    items = np.arange(n_items)
    rows = []
    for model, level in enumerate(ability):
        logits = taste + drift * (level - 0.6)
        if n_families:
            logits = logits + pushes[model % n_families]
        wrong = logits + rng.gumbel(size=logits.shape)
        wrong[items, right] = -np.inf
        is_right = rng.random(n_items) < 1 / (1 + np.exp(-slope * (level - difficulty)))
        row = np.where(is_right, right, wrong.argmax(axis=1))
        if model >= n_models:
            row = np.where(rng.random(n_items) < adopted, rows[0], row)
        rows.append(row)
    names = [f"m{i}" for i in range(n_models)] + [f"copy{i}" for i in range(copies)]
    return AnswerSheet(tuple(names), np.array(rows), right, np.full(n_items, 4))
