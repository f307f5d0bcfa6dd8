"""The weighted test: closed and open, beside decoys, naming, other schemes."""

import math

import numpy as np
import pytest
from radio_language import VOCAB, language, marked, reader, write

from stillwatch.errors import InvalidInputError
from stillwatch.stats.pvalues import binomial_upper_tail
from stillwatch.trace.marks.gumbel import GumbelMark
from stillwatch.trace.radioactivity.likelihood import read_excess, written_excess
from stillwatch.trace.radioactivity.weighted import (
    WeightedWindows,
    name_weighted,
    rank_weighted,
    test_weighted,
    weigh_windows,
)
from stillwatch.trace.radioactivity.windows import Windows
from stillwatch.trace.watermark import campaign_mark

test_weighted.__test__ = False
MASTER = b"a master key of the house, long enough"
MARKS = {f"c-{i}": campaign_mark(MASTER, f"c-{i}") for i in range(50)}
MARK = MARKS["c-17"]
PLAIN = language()
#: What a suspect has learned: a tenth of the mark.
LEARNED = marked(PLAIN, MARK, delta=0.2)


def closed(chances, *, seed=1, n_texts=200):
    """What a suspect wrote, weighed."""
    texts = write(chances, seed=seed, n_texts=n_texts)
    return weigh_windows(written_excess(texts, reader(PLAIN), vocab_size=VOCAB))


def opened(chances):
    """A suspect's own chances on ordinary text, weighed."""
    texts = write(PLAIN, seed=2, n_texts=100)
    return weigh_windows(read_excess(texts, reader(chances), reader(PLAIN), vocab_size=VOCAB))


def run(weighed, mark=MARK, n_decoys=99):
    """Test with decoys of one seed."""
    rng = np.random.default_rng(0)
    return test_weighted(weighed, mark, vocab_size=VOCAB, rng=rng, n_decoys=n_decoys)


def test_a_faint_mark_is_found_closed_and_open():
    """A tenth of a mark is found in what was written, and far more clearly in the chances."""
    heard, read = run(closed(LEARNED)), run(opened(LEARNED))
    assert read.log10_p < 2 * heard.log10_p < -8
    assert 10**heard.log10_p == pytest.approx(heard.p_value)
    assert (0.01, 0.01) == (heard.decoy_rank_p, read.decoy_rank_p)
    assert min(heard.ks_p_value_of_decoys, read.ks_p_value_of_decoys) > 1e-3
    assert heard.e_log10 < -heard.log10_p
    assert read.standard_score > heard.standard_score > 4


def test_weights_beat_the_plain_count():
    """On the same answers the weighted test is far stronger than counting distinct windows."""
    texts = write(LEARNED, seed=1)
    excess = written_excess(texts, reader(PLAIN), vocab_size=VOCAB)
    seen = excess.observed > 0
    green = MARK.is_green(excess.context_ids[seen], excess.token_ids[seen])
    plain = binomial_upper_tail(int(green.sum()), int(seen.sum()), MARK.gamma)
    assert run(weigh_windows(excess)).log10_p < plain.log10_p - 2


def test_the_right_campaign_of_fifty_is_named():
    """Of 50 keys the one that was learned is named; the others stay unsuspicious after Holm."""
    ranked = rank_weighted(opened(LEARNED), MARKS, vocab_size=VOCAB)
    named = name_weighted(ranked)
    assert named is not None
    assert ("c-17", MARK.key_id) == (named.campaign_id, named.key_id)
    assert all(one.adjusted_log10_p > -2 for one in ranked[1:])
    exact = run(opened(LEARNED)).log10_p
    assert exact == pytest.approx(named.log10_p)
    assert exact + math.log10(50) == pytest.approx(named.adjusted_log10_p)


def test_an_innocent_names_nobody():
    """A suspect of the same language that saw no mark names no campaign; no keys name nobody."""
    innocent = closed(PLAIN, seed=9)
    ranked = rank_weighted(innocent, MARKS, vocab_size=VOCAB)
    assert name_weighted(ranked, alpha=1e-3) is None
    assert rank_weighted(innocent, {}, vocab_size=VOCAB) == []
    assert name_weighted([]) is None
    quick = {one.campaign_id: one.log10_p for one in ranked}
    assert quick["c-17"] == pytest.approx(run(innocent).log10_p)


def test_another_scheme_is_tested_by_its_own_score():
    """A Gumbel mark is tested with the weights above 0, and decoys stay uniform."""
    mark = GumbelMark(b"another key, long enough too", "other")
    found = run(closed(PLAIN, seed=9), mark)
    assert found.p_value > 1e-3
    assert found.ks_p_value_of_decoys > 1e-3
    assert abs(found.standard_score) < 4
    assert found.e_log10 < 1


def test_the_finding_carries_the_key_as_its_randomisation():
    """The plain record repeats the numbers and names the draw that makes them."""
    found = run(closed(LEARNED))
    record = found.finding("radioactivity-closed", needed=10)
    assert f"key:{MARK.key_id}" == record.randomisation
    assert (found.log10_p, found.e_log10, 10) == (record.log10_p, record.e_log10, record.needed)
    assert ("radioactivity-closed", 99) == (record.test, record.details["n_decoys"])


def test_nothing_weighed_is_no_finding():
    """Without windows the p-value is 1."""
    none = np.empty(0, dtype=np.int64)
    weighed = WeightedWindows(Windows(np.empty((0, 1), dtype=np.int64), none, none), none)
    found = run(weighed, n_decoys=3)
    assert (1.0, 0.0, 0.0, 1.0) == (
        found.p_value, found.e_log10, found.standard_score, found.decoy_rank_p,
    )  # fmt: skip


def test_what_does_not_fit_is_refused():
    """No decoys, or windows of another width than the mark's, are refused."""
    with pytest.raises(InvalidInputError, match="n_decoys must be at least 1, got 0"):
        run(closed(PLAIN), n_decoys=0)
    wide = written_excess(
        write(PLAIN, seed=1, n_texts=3), reader(PLAIN), vocab_size=VOCAB, context_width=2
    )
    with pytest.raises(InvalidInputError, match="weighed must be of the mark's context width, 1"):
        run(weigh_windows(wide))
