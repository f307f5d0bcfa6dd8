"""Every mark keeps its word on innocent text that repeats itself, and has its stated power."""

import numpy as np
import pytest

from stillwatch.trace.marks.entropy import (
    entropy_weights,
    expected_green_value,
    expected_gumbel_value,
    expected_tournament_value,
)
from stillwatch.trace.marks.green import as_mark
from stillwatch.trace.marks.gumbel import gumbel_mark
from stillwatch.trace.marks.kgw import TransformersGreenMark
from stillwatch.trace.marks.nulls import Null
from stillwatch.trace.marks.protocol import mark_windows
from stillwatch.trace.marks.synthid import SynthIdMark
from stillwatch.trace.marks.tournament import tournament_mark
from stillwatch.trace.marks.vllm import VllmGreenMark, VllmGumbelMark
from stillwatch.trace.radioactivity.windows import TokenSequence
from stillwatch.trace.watermark import campaign_mark

VOCAB = 256
KEY = b"a key of the tests, long enough"
MARKS = {
    "green": as_mark(campaign_mark(KEY, "c")),
    "gumbel": gumbel_mark(KEY),
    "tournament": tournament_mark(KEY),
    "lefthash": TransformersGreenMark(1, VOCAB),
    "selfhash": TransformersGreenMark(1, VOCAB, "selfhash", 4),
    "synthid": SynthIdMark(tuple(range(30)), ngram_len=3, falling=False),
    "vllm gumbel": VllmGumbelMark(1, context_width=2),
    "vllm dual": VllmGumbelMark(1, context_width=2, alpha=0.1),
    "vllm sbw": VllmGreenMark(1, "selfhash"),
}
N_KEYS = 150


def letters(n=60, *, seed=0):
    """One template of 40 tokens in which six change: innocent, and far from independent."""
    rng = np.random.default_rng(seed)
    skeleton = np.random.default_rng(99).integers(1, VOCAB, 40)
    texts = []
    for _ in range(n):
        ids = skeleton.copy()
        ids[[3, 9, 15, 21, 27, 33]] = rng.integers(1, VOCAB, 6)
        texts.append(TokenSequence(ids, n_prompt=2))
    return texts


@pytest.mark.parametrize(
    ("name", "weighted"),
    [*((name, False) for name in MARKS), ("green", True), ("gumbel", True), ("tournament", True)],
)
def test_templated_text_is_not_accused(name, weighted):
    """Over 150 random keys, no more than 1, 5 and 10 % of p-values fall below these levels."""
    mark = MARKS[name]
    windows = mark_windows(letters(), mark, vocab_size=VOCAB)
    weights = np.log1p(windows.counts) if weighted else None
    rng = np.random.default_rng(5)
    p = np.array([
        mark.with_key(rng.bytes(32)).score(windows, VOCAB, weights=weights).p_value
        for _ in range(N_KEYS)
    ])
    for level in (0.01, 0.05, 0.10):
        # 4 standard deviations of a level, and never less than four keys.
        slack = 4 * np.sqrt(level * (1 - level) / N_KEYS)
        assert np.mean(p <= level) <= level + slack
    # Not merely careful: half of the p-values are still at or below about one half.
    assert 0.3 < np.mean(p <= 0.5) < 0.65


def test_counting_every_ngram_accuses_the_innocent():
    """Under selfhash, n-grams counted as the published detector counts them reject 1 % of keys
    several times too often, even with each n-gram counted once.
    """  # noqa: D205 - one sentence
    mark = MARKS["selfhash"]
    windows = mark_windows(letters(), mark, vocab_size=VOCAB)
    rng = np.random.default_rng(6)
    values = np.array([
        mark.with_key(rng.bytes(32)).values(windows, VOCAB).sum() for _ in range(N_KEYS)
    ])
    n = len(windows.token_ids)
    z = (values - n / 4) / np.sqrt(n * 3 / 16)
    assert np.mean(z > 2.326) > 0.03


@pytest.mark.parametrize("name", ["green", "gumbel", "tournament"])
def test_power_at_a_stated_effect(name):
    """A token chosen among four equally likely ones is found in 150 windows, 19 times of 20."""
    mark = MARKS[name]
    rng = np.random.default_rng(8)
    found = 0
    for _ in range(20):
        sub = mark.with_key(rng.bytes(32))
        contexts = rng.permutation(VOCAB)[:150, None]
        logits = np.full((150, VOCAB), -np.inf)
        rows = np.arange(150)[:, None]
        logits[rows, rng.integers(0, VOCAB, (150, 4))] = 0.0
        marked = sub.embed(contexts, logits)
        tokens = (marked + rng.gumbel(size=marked.shape)).argmax(axis=1)
        texts = [TokenSequence([int(c), int(t)], 1) for c, t in zip(contexts[:, 0], tokens)]  # noqa: B905 - as long
        windows = mark_windows(texts, sub, vocab_size=VOCAB)
        found += sub.score(windows, VOCAB).p_value < 1e-6
    assert found >= 19


def test_expected_values_are_those_of_marked_tokens():
    """Means over marked draws match the formulas: Gumbel and first layer exactly, green closely."""
    rng = np.random.default_rng(9)
    chances = np.array([0.4, 0.3, 0.2, 0.1])
    n = 20_000
    noise = rng.random((n, 4))
    chosen = (np.log(chances) - np.log(-np.log(noise))).argmax(axis=1)
    surprise = -np.log1p(-noise[np.arange(n), chosen])
    bits = rng.integers(0, 2, (n, 4))
    tilted = chances * (1 + bits - (bits * chances).sum(axis=1, keepdims=True))
    layer = (np.log(tilted) + rng.gumbel(size=(n, 4))).argmax(axis=1)
    expected_bits = expected_tournament_value(chances)
    for token in range(4):
        here = chosen == token
        assert expected_gumbel_value(chances)[token] == pytest.approx(
            surprise[here].mean(), rel=0.06
        )
        here = layer == token
        # The others' mass is not spread evenly here, so the formula is a little high.
        assert abs(expected_bits[token] - bits[here, token].mean()) < 0.09
    many = np.full(400, 1 / 400)
    green = rng.random((2000, 400)) < 0.25
    shares = many * np.where(green, np.exp(2.0), 1.0)
    shares /= shares.sum(axis=1, keepdims=True)
    rate = (shares * green).sum(axis=1).mean()
    assert float(expected_green_value(1 / 400)) == pytest.approx(rate, abs=0.01)


def test_weights_follow_entropy():
    """A certain token has weight 0, an unlikely one weight 1, for every null."""
    nulls = [Null("bernoulli", 0.25), Null("exponential", 1.0), Null("layers", 0.5, (0.5, 0.5))]
    for null in nulls:
        weights = entropy_weights(null, [1.0, 0.5, 0.01])
        assert (0.0, 1.0) == (weights[0], weights[2])
        assert 0.0 < weights[1] < 1.0
        assert [0.0, 0.0] == entropy_weights(null, [1.0, 1.0]).tolist()
