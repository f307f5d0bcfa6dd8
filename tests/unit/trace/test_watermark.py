"""The green-list mark: its schedule, its rule and its counts."""

import numpy as np
import pytest

from stillwatch.errors import InvalidInputError
from stillwatch.trace.watermark import (
    GreenListMark,
    TokenSequence,
    WindowCounts,
    campaign_mark,
    distinct_windows,
    mark_key_id,
    score_windows,
)

MASTER = bytes(range(32))


def test_schedule_repeats_and_separates_campaigns():
    """The same master key and campaign give the same mark; another of either gives another."""
    mark = campaign_mark(MASTER, "c-1")
    assert campaign_mark(MASTER, "c-1") == mark
    others = [campaign_mark(MASTER, "c-2"), campaign_mark(MASTER[::-1], "c-1")]
    assert 3 == len({m.key for m in [mark, *others]})
    assert 3 == len({m.key_id for m in [mark, *others]})


def test_schedule_is_frozen():
    """Marks embedded by this version can be proved by later ones: key, name and colours stay."""
    mark = campaign_mark(MASTER, "c-1")
    assert "07ecb653" == mark.key.hex()[:8]
    assert "e232b97826fcff22" == mark_key_id(mark.key)
    green = np.flatnonzero(mark.green([[7]], 40)[0])
    assert [3, 5, 18, 20, 21, 24, 31, 32, 36, 37] == green.tolist()


def test_key_is_not_shown():
    """Printing a mark shows its public name and not its key."""
    mark = campaign_mark(MASTER, "c-1")
    assert mark.key_id in repr(mark)
    assert repr(mark.key) not in repr(mark)
    assert mark.key.hex() not in repr(mark)


@pytest.mark.parametrize("vocab_size", [1024, 5000])
@pytest.mark.parametrize("context_width", [1, 2])
def test_table_and_windows_agree(vocab_size, context_width):
    """The colours that embedding uses are the colours that the proof counts, at every width."""
    mark = GreenListMark(MASTER, "k", context_width=context_width)
    rng = np.random.default_rng(0)
    contexts = rng.integers(0, vocab_size, (50, 3))
    tokens = rng.integers(0, vocab_size, 50)
    rows = mark.green(contexts, vocab_size)
    assert (50, vocab_size) == rows.shape
    assert np.array_equal(rows[np.arange(50), tokens], mark.is_green(contexts, tokens))


def test_only_the_last_tokens_of_a_context_count():
    """A longer context than the mark looks at changes nothing."""
    mark = GreenListMark(MASTER, "k", context_width=2)
    near, far = mark.green([[5, 6]], 300), mark.green([[9, 5, 6]], 300)
    assert np.array_equal(near, far)
    assert not np.array_equal(near, mark.green([[6, 5]], 300))


@pytest.mark.parametrize("gamma", [0.1, 0.25, 0.5])
def test_green_share_is_gamma_everywhere(gamma):
    """Rows, columns and the whole table are green at rate gamma, within 5 standard deviations."""
    table = GreenListMark(MASTER, "k", gamma=gamma).green(np.arange(1024)[:, None], 1024)
    spread = np.sqrt(gamma * (1 - gamma))
    assert abs(table.mean() - gamma) < 5 * spread / 1024
    assert np.abs(table.mean(axis=0) - gamma).max() < 5 * spread / 32
    assert np.abs(table.mean(axis=1) - gamma).max() < 5 * spread / 32


def test_bias_is_delta_on_green():
    """The bias is delta on green tokens and 0 elsewhere, as float32."""
    mark = GreenListMark(MASTER, "k", delta=3.0)
    bias = mark.bias([[1], [2]], 64)
    assert np.float32 == bias.dtype
    assert np.array_equal(np.where(mark.green([[1], [2]], 64), 3.0, 0.0), bias)


def test_windows_are_counted_once():
    """A window that many texts repeat counts once, and its count is kept beside it."""
    texts = [TokenSequence([1, 2, 3, 1, 2]), TokenSequence([1, 2])]
    windows = distinct_windows(texts, vocab_size=10)
    assert [[1], [2], [3]] == windows.context_ids.tolist()
    assert [2, 3, 1] == windows.token_ids.tolist()
    assert [3, 1, 1] == windows.counts.tolist()


def test_windows_of_questions_are_left_out():
    """A window that any question holds is not scored, wherever an answer repeats it."""
    texts = [TokenSequence([1, 2, 3, 4], n_prompt=2), TokenSequence([5, 1, 2, 6], n_prompt=1)]
    windows = distinct_windows(texts, vocab_size=10)
    pairs = np.column_stack([windows.context_ids, windows.token_ids]).tolist()
    assert [[2, 3], [2, 6], [3, 4], [5, 1]] == pairs


def test_wider_windows():
    """A window of width 2 holds the two tokens before its token, oldest first."""
    windows = distinct_windows(
        [TokenSequence([7, 8, 9, 5], n_prompt=2)], vocab_size=10, context_width=2
    )
    assert [[7, 8], [8, 9]] == windows.context_ids.tolist()
    assert [9, 5] == windows.token_ids.tolist()


@pytest.mark.parametrize("texts", [[], [TokenSequence([])], [TokenSequence([3])]])
def test_nothing_to_score(texts):
    """Without a single window the counts are empty and the p-value is 1."""
    counts = score_windows(texts, GreenListMark(MASTER, "k"), vocab_size=10)
    assert (0, 0) == counts[:2]
    assert np.isnan(counts.green_rate)
    assert (1.0, 0.0) == counts.p_value()


def test_p_value_is_the_exact_tail():
    """The p-value is the binomial tail and its logarithm goes below what a double holds."""
    assert 0.25**4 == pytest.approx(WindowCounts(4, 4, 0.25).p_value().p_value)
    far = WindowCounts(1000, 1000, 0.25).p_value()
    assert 1000 * np.log10(0.25) == pytest.approx(far.log10_p)
    assert 0.0 == far.p_value


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: GreenListMark(b"short", "k"), "key must be at least 16 bytes long, got '5 bytes'"),
        (lambda: GreenListMark(MASTER, "k", gamma=1.0), "gamma must be between 0 and 1"),
        (lambda: GreenListMark(MASTER, "k", delta=-1.0), "delta must be finite and not negative"),
        (lambda: GreenListMark(MASTER, "k", context_width=0), "context_width must be at least 1"),
        (lambda: campaign_mark(b"short", "c"), "master_key must be at least 16 bytes long"),
        (lambda: GreenListMark(MASTER, "k").green([1, 2], 10), "context_ids must be of shape"),
        (lambda: GreenListMark(MASTER, "k").green([[10]], 10), "context_ids must be in 0..9"),
        (lambda: GreenListMark(MASTER, "k").green([[-1]], 10), "context_ids must be in 0..9"),
        (
            lambda: distinct_windows([TokenSequence([1, 10])], vocab_size=10),
            "token_ids must be in 0..9, got '1..10'",
        ),
        (
            lambda: distinct_windows([], vocab_size=100, context_width=-1),
            "context_width must be 0 or more",
        ),
    ],
)
def test_bad_arguments(make, sentence):
    """A value that breaks a rule is refused with one sentence that names it."""
    with pytest.raises(InvalidInputError, match=sentence.replace("(", r"\(")):
        make()
