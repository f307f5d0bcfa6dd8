"""What every scheme promises."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from stillwatch.errors import InvalidInputError
from stillwatch.trace.marks.green import as_mark
from stillwatch.trace.marks.keys import sub_key
from stillwatch.trace.marks.protocol import Mark, mark_windows
from stillwatch.trace.radioactivity.windows import TokenSequence, Windows
from stillwatch.trace.watermark import campaign_mark

# The folder is no package; the schemes stand beside this file.
_spec = importlib.util.spec_from_file_location("mark_schemes", Path(__file__).parent / "schemes.py")
schemes = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(schemes)
VOCAB, MARKS = schemes.VOCAB, schemes.MARKS

pytestmark = pytest.mark.parametrize("name", MARKS)


def test_follows_the_protocol(name):
    """A scheme is a Mark, has a public key id of 16 digits and keeps its key out of its print."""
    mark = MARKS[name]
    assert isinstance(mark, Mark)
    assert 16 == len(mark.key_id)
    printed = repr(mark)
    for secret in ("42", "15485863", "929", "long enough"):
        assert secret not in printed.replace(mark.key_id, "")


def test_sub_keys_are_other_marks(name):
    """One master key gives each campaign its own mark of the same scheme, always the same."""
    mark = MARKS[name]
    first, second, again = (mark.with_key(sub_key(schemes.KEY, c)) for c in ("a", "b", "a"))
    assert 3 == len({mark.key_id, first.key_id, second.key_id})
    assert first.key_id == again.key_id
    assert (mark.context_width, mark.pad, mark.null) == (
        first.context_width,
        first.pad,
        first.null,
    )


def test_marked_text_is_found_and_other_keys_find_nothing(name):
    """480 marked tokens stand out below 1e-6 under their key and not under five others.

    A mark without context has one coin for each of 128 tokens: repeats are weighed instead.
    """
    mark = MARKS[name]
    windows = mark_windows(schemes.written(mark), mark, vocab_size=VOCAB)
    weights = None if mark.context_width else windows.counts
    found = mark.score(windows, VOCAB, weights=weights)
    assert found.log10_p < (-6 if mark.context_width else -2)
    assert 10**found.log10_p == pytest.approx(found.p_value, rel=1e-6, abs=1e-300)
    others = [mark.with_key(bytes([i]) * 16).score(windows, VOCAB).p_value for i in range(5)]
    assert min(others) > 1e-3


def test_values_are_those_of_the_table(name):
    """A window's value is the table's entry at its token, or NaN where the key has no say."""
    mark = MARKS[name]
    windows = mark_windows(schemes.written(seed=3, n_texts=2), mark, vocab_size=VOCAB)
    values = mark.values(windows, VOCAB)
    table = mark.token_values(windows.context_ids, VOCAB)
    assert (len(values), VOCAB) == table.shape
    at_token = table[np.arange(len(values)), windows.token_ids]
    known = ~np.isnan(values)
    assert values[known].tolist() == pytest.approx(at_token[known].tolist())


def test_repeats_and_order_change_nothing(name):
    """Windows given twice and in another order give the same evidence."""
    mark = MARKS[name]
    windows = mark_windows(schemes.written(seed=4, n_texts=3), mark, vocab_size=VOCAB)
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(len(windows.token_ids)), 2))
    twice = Windows(*(part[order] for part in windows))
    expected, found = mark.score(windows, VOCAB), mark.score(twice, VOCAB)
    assert expected.n_windows == found.n_windows
    assert expected.statistic == pytest.approx(found.statistic)
    assert expected.log10_p == pytest.approx(found.log10_p, abs=1e-9)


def test_weights(name):
    """Equal weights change no p-value, a weight of zero drops the window, others stay exact."""
    mark = MARKS[name]
    windows = mark_windows(schemes.written(mark, n_texts=3), mark, vocab_size=VOCAB)
    n = len(windows.token_ids)
    flat = mark.score(windows, VOCAB)
    assert flat.log10_p == pytest.approx(
        mark.score(windows, VOCAB, weights=np.full(n, 0.3)).log10_p, abs=1e-8
    )
    half = np.arange(n) % 2 == 0
    expected = mark.score(windows.keep(half), VOCAB)
    found = mark.score(windows, VOCAB, weights=half.astype(float))
    if expected.n_windows == found.n_windows:
        assert expected.log10_p == pytest.approx(found.log10_p, abs=1e-8)
    mixed = mark.score(windows, VOCAB, weights=np.linspace(0.2, 1.0, n))
    assert -400 < mixed.log10_p < -1
    assert 0 == mark.score(windows, VOCAB, weights=np.zeros(n)).n_windows


def test_nothing_scored_is_no_evidence(name):
    """No text, or text too short for a window, gives p = 1."""
    mark = MARKS[name]
    windows = mark_windows([TokenSequence([], 0)], mark, vocab_size=VOCAB)
    assert (0, 1.0, 0.0) == mark.score(windows, VOCAB)[1:4]


@pytest.mark.parametrize("weights", [[-1.0], [np.nan], [1.0, 1.0]])
def test_wrong_weights_are_refused(name, weights):
    """Weights that are negative, no numbers or too many are refused."""
    mark = MARKS[name]
    width = mark.context_width
    one = Windows(np.ones((1, width), dtype=np.int64), np.array([2]), np.array([1]))
    with pytest.raises(InvalidInputError, match="weights must be"):
        mark.score(one, VOCAB, weights=weights)


def test_short_contexts_are_refused(name):
    """A context shorter than the scheme looks at is refused."""
    mark = MARKS[name]
    if mark.context_width:
        with pytest.raises(InvalidInputError, match="context_ids must be of shape"):
            mark.embed(np.zeros((2, mark.context_width - 1), dtype=int), np.zeros((2, VOCAB)))


def test_an_old_green_list_reads_as_a_mark(name):
    """A mark of `campaign_mark` is the green scheme under its sub-key; others pass unchanged."""
    mark = MARKS[name]
    assert mark is as_mark(mark)
    sub = MARKS["green"].with_key(sub_key(schemes.KEY, "x"))
    assert as_mark(campaign_mark(schemes.KEY, "x")) == sub
