"""A text is tested against any mark; wrong keys on the same text behave as the null says."""

import numpy as np
import pytest

from stillwatch.errors import InvalidInputError
from stillwatch.stats.pvalues import ks_uniform
from stillwatch.trace.marked import find_marks
from stillwatch.trace.marks.gumbel import gumbel_mark
from stillwatch.trace.marks.tournament import tournament_mark
from stillwatch.trace.radioactivity.windows import TokenSequence

VOCAB = 200


def _text(mark=None):
    """Forty answers of forty tokens, chosen by a mark or by chance alone."""
    rng = np.random.default_rng(1)
    rows = []
    for _ in range(40):
        ids = [int(rng.integers(VOCAB))]
        for _ in range(40):
            logits = rng.normal(size=(1, VOCAB))
            marked = logits if mark is None else mark.embed([[ids[-1]]], logits)
            ids.append(int(np.argmax(marked + (rng.gumbel(size=VOCAB) if mark is None else 0))))
        rows.append(TokenSequence(ids, 1))
    return rows


@pytest.mark.parametrize("make", [gumbel_mark, tournament_mark])
@pytest.mark.parametrize("n_repeated", [None, 1000])
def test_wrong_keys_are_uniform(make, n_repeated):
    """On text without a mark 300 wrong keys give p-values as small as chance does, no smaller."""
    (found,) = find_marks(
        _text(), {"m": make(b"k" * 16)}, vocab_size=VOCAB, rng=np.random.default_rng(2),
        n_decoys=300, n_repeated=n_repeated,
    )  # fmt: skip
    p_values = 10**found.decoy_log10_p
    assert ks_uniform(p_values) > 0.001
    for level in (0.01, 0.05, 0.1):
        spread = (level * (1 - level) / 300) ** 0.5
        assert (p_values <= level).mean() < level + 3.3 * spread


def test_the_key_that_marked_is_first():
    """Of two keys the one that chose the tokens is named, before every wrong key."""
    marks = {name: gumbel_mark(name.encode() * 16) for name in ("a", "b")}
    first, second = find_marks(
        _text(marks["b"]), marks, vocab_size=VOCAB, rng=np.random.default_rng(3), n_decoys=99
    )
    assert ("b", "a") == (first.name, second.name)
    assert first.adjusted_log10_p < -20 < -2 < second.adjusted_log10_p
    assert (0.01, None) == (first.decoy_rank_p, second.decoy_rank_p)


def test_no_mark_is_refused():
    """A test without a key is none."""
    with pytest.raises(InvalidInputError, match="marks"):
        find_marks(_text()[:1], {}, vocab_size=VOCAB, rng=np.random.default_rng(0))
