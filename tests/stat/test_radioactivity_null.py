"""The radioactivity test keeps its word: uniform under the null, powerful at a stated effect."""

import numpy as np
import pytest
from scipy import stats

from stillwatch.trace.radioactivity import closed as radioactivity
from stillwatch.trace.watermark import (
    GreenListMark,
    TokenSequence,
    campaign_mark,
    distinct_windows,
)

VOCAB = 512


def language(seed):
    """A random bigram matrix with the skew of a language: few tokens follow each one."""
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(VOCAB, 0.03), size=VOCAB) + 1e-9


def sample(chances, *, seed, n_texts, length=25):
    """Sample texts from a bigram matrix."""
    rng = np.random.default_rng(seed)
    reach = np.cumsum(chances / chances.sum(axis=1, keepdims=True), axis=1)
    columns = [rng.integers(0, VOCAB, n_texts)]
    for _ in range(length):
        drawn = rng.random(n_texts)[:, None]
        columns.append(np.minimum((reach[columns[-1]] < drawn).sum(axis=1), VOCAB - 1))
    return [TokenSequence(row, n_prompt=1) for row in np.stack(columns, axis=1)]


def random_marks(n, *, seed):
    """Marks of providers with master keys of their own: what a null is drawn from."""
    rng = np.random.default_rng(seed)
    return [campaign_mark(rng.bytes(32), "c-1") for _ in range(n)]


@pytest.mark.parametrize("n_repeated", [10_000, 1_000])
@pytest.mark.parametrize("context_width", [1, 2])
def test_p_values_are_uniform_under_random_keys(context_width, n_repeated):
    """Over 3,000 random keys, shares 1, 5 and 10 % of p-values fall below 1, 5 and 10 %."""
    texts = sample(language(1), seed=2, n_texts=300)
    windows = distinct_windows(texts, vocab_size=VOCAB, context_width=context_width)
    windows = windows.most_repeated(n_repeated)
    p_values = np.array([
        GreenListMark(mark.key, mark.key_id, context_width=context_width)
        .count(windows)
        .p_value()
        .p_value
        for mark in random_marks(3000, seed=3)
    ])
    for level in (0.01, 0.05, 0.10):
        # 4 standard deviations around the level: 1 in 10,000 for each.
        tolerance = 4 * np.sqrt(level * (1 - level) / 3000)
        assert abs(np.mean(p_values <= level) - level) < tolerance
    # The counts are discrete, so the p-values reach uniform from above.
    assert stats.kstest(p_values, "uniform").pvalue > 1e-4


def test_repeated_windows_would_break_the_null():
    """Counting every occurrence instead of every distinct window accuses innocents."""
    texts = sample(language(1), seed=2, n_texts=2000)
    windows = distinct_windows(texts, vocab_size=VOCAB)
    naive = []
    for mark in random_marks(500, seed=4):
        green = mark.is_green(windows.context_ids, windows.token_ids)
        n_green, total = int(windows.counts[green].sum()), int(windows.counts.sum())
        naive.append(stats.binom.sf(n_green - 1, total, mark.gamma))
    assert np.mean(np.array(naive) < 0.01) > 0.05


def test_false_names_are_held_at_alpha():
    """With 30 keys in play an innocent suspect is named in at most about alpha of the trials."""
    texts = sample(language(1), seed=5, n_texts=100)
    named = 0
    for trial in range(150):
        rng = np.random.default_rng(1000 + trial)
        master_key = rng.bytes(32)
        marks = {f"c-{i}": campaign_mark(master_key, f"c-{i}") for i in range(30)}
        found = radioactivity.name_campaign(texts, marks, vocab_size=VOCAB, alpha=0.1)
        named += found is not None
    assert named <= 15 + 4 * np.sqrt(150 * 0.1 * 0.9)


def test_decoys_are_uniform_for_a_marked_suspect_too():
    """A marked suspect's decoys are as uniform as an innocent one's."""
    mark = campaign_mark(b"a master key of the house", "c-1")
    tilt = np.exp(0.5 * mark.green(np.arange(VOCAB)[:, None], VOCAB))
    found = radioactivity.test_radioactivity(
        sample(language(1) * tilt, seed=6, n_texts=300),
        mark,
        vocab_size=VOCAB,
        rng=np.random.default_rng(7),
        n_decoys=2000,
    )
    assert found.p_value < 1e-6
    assert found.ks_p_value_of_decoys > 1e-3
    for level in (0.01, 0.05, 0.10):
        tolerance = 4 * np.sqrt(level * (1 - level) / 2000)
        assert abs(np.mean(found.decoy_p_values <= level) - level) < tolerance


def test_power_at_a_stated_effect():
    """At the planned number of windows a green rate of 0.28 reaches p < 1e-6 nine times in ten."""
    needed = radioactivity.windows_needed(0.28, alpha=1e-6, power=0.9)
    rng = np.random.default_rng(8)
    cells = rng.permutation(VOCAB * VOCAB)[: 4 * needed]
    contexts, tokens = (cells // VOCAB)[:, None], cells % VOCAB
    reached = 0
    for mark in random_marks(200, seed=9):
        green = mark.is_green(contexts, tokens)
        # A suspect that takes green windows a little too often: 28 in 100.
        wanted = rng.binomial(needed, 0.28)
        chosen = np.concatenate([
            np.flatnonzero(green)[:wanted],
            np.flatnonzero(~green)[: needed - wanted],
        ])
        windows = radioactivity.Windows(contexts[chosen], tokens[chosen], np.ones(needed, int))
        reached += mark.count(windows).p_value().p_value < 1e-6
    assert 0.82 < reached / 200 < 0.97
