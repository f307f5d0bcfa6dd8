"""The radioactivity test: what it finds, what it names, what it refuses."""

import numpy as np
import pytest

from stillwatch.errors import InvalidInputError
from stillwatch.trace.radioactivity import closed as radioactivity
from stillwatch.trace.watermark import GreenListMark, TokenSequence, campaign_mark

VOCAB = 256
MASTER = b"a master key of the house, long enough"


def bigram_text(seed, *, mark=None, n_texts=200, length=30):
    """Sample texts from a random bigram matrix, tilted by a mark when one is given."""
    rng = np.random.default_rng(7)
    chances = rng.dirichlet(np.full(VOCAB, 0.2), size=VOCAB) + 1e-9
    if mark is not None:
        chances = chances * np.exp(mark.bias(np.arange(VOCAB)[:, None], VOCAB))
    reach = np.cumsum(chances, axis=1)
    rng = np.random.default_rng(seed)
    columns = [rng.integers(0, VOCAB, n_texts)]
    for _ in range(length):
        last = reach[columns[-1]]
        columns.append((last < (rng.random(n_texts) * last[:, -1])[:, None]).sum(axis=1))
    return [TokenSequence(row, n_prompt=1) for row in np.stack(columns, axis=1)]


def faint(mark, delta):
    """The mark as a student has learned it: the same colours, a smaller push."""
    return GreenListMark(mark.key, mark.key_id, mark.gamma, delta)


def test_marked_text_is_found():
    """A student with a faint trace of the mark is found far below the decoys."""
    mark = campaign_mark(MASTER, "c-1")
    found = radioactivity.test_radioactivity(
        bigram_text(1, mark=faint(mark, 0.5)),
        mark,
        vocab_size=VOCAB,
        rng=np.random.default_rng(0),
        n_decoys=399,
    )
    assert found.log10_p < -10
    assert 10**found.log10_p == pytest.approx(found.p_value)
    assert found.n_green / found.n_windows == found.green_rate
    assert 1 / 400 == found.decoy_rank_p
    assert (399,) == found.decoy_p_values.shape
    assert found.decoy_p_values.min() > 1e-5
    assert found.ks_p_value_of_decoys > 1e-3


def test_finding_repeats():
    """The same texts, key and seed give the same finding, decoys included."""
    mark = campaign_mark(MASTER, "c-1")
    first, second = (
        radioactivity.test_radioactivity(
            bigram_text(1), mark, vocab_size=VOCAB, rng=np.random.default_rng(3), n_decoys=20
        )
        for _ in range(2)
    )
    assert first.p_value == second.p_value
    assert first.decoy_p_values.tolist() == second.decoy_p_values.tolist()
    assert first.ks_p_value_of_decoys == second.ks_p_value_of_decoys


def test_decoys_come_from_the_schedule_of_the_real_keys():
    """A decoy is what `campaign_mark` would give to a provider with another master key."""
    mark = campaign_mark(MASTER, "c-1", gamma=0.5, delta=1.0)
    decoys = radioactivity.decoy_marks(mark, 3, rng=np.random.default_rng(5))
    master_key = np.random.default_rng(5).bytes(32)
    expected = [campaign_mark(master_key, f"decoy-{i}", gamma=0.5, delta=1.0) for i in range(3)]
    assert expected == list(decoys)


def test_naming_picks_the_campaign_whose_key_fed_the_student():
    """Of many campaigns the one whose mark was learned is named, corrected for all of them."""
    marks = {f"c-{i}": campaign_mark(MASTER, f"c-{i}") for i in range(40)}
    texts = bigram_text(2, mark=faint(marks["c-17"], 0.7))
    named = radioactivity.name_campaign(texts, marks, vocab_size=VOCAB)
    assert named is not None
    assert ("c-17", marks["c-17"].key_id) == (named.campaign_id, named.key_id)
    assert named.log10_p + np.log10(40) == pytest.approx(named.adjusted_log10_p)
    findings = radioactivity.rank_campaigns(texts, marks, vocab_size=VOCAB)
    assert named == findings[0]
    assert all(finding.adjusted_p_value > 1e-6 for finding in findings[1:])


def test_innocent_text_names_nobody():
    """Text that no key touched names no campaign, and no keys name nobody."""
    marks = {f"c-{i}": campaign_mark(MASTER, f"c-{i}") for i in range(40)}
    assert radioactivity.name_campaign(bigram_text(3), marks, vocab_size=VOCAB) is None
    assert radioactivity.name_campaign(bigram_text(3), {}, vocab_size=VOCAB) is None


def test_only_the_most_repeated_windows_are_scored():
    """The most repeated windows are scored, ties included; None scores all."""
    texts = [TokenSequence([1, 2, 1, 2, 1, 2, 3, 4]), TokenSequence([5, 1, 3])]
    for n_repeated, expected in [(1, 1), (2, 2), (3, 6), (6, 6), (None, 6)]:
        found = radioactivity.test_radioactivity(
            texts,
            campaign_mark(MASTER, "c-1"),
            vocab_size=10,
            rng=np.random.default_rng(0),
            n_decoys=5,
            n_repeated=n_repeated,
        )
        assert expected == found.n_windows


def test_nothing_scored_is_no_finding():
    """Without windows the p-values are 1 and nothing is claimed."""
    found = radioactivity.test_radioactivity(
        [], campaign_mark(MASTER, "c"), vocab_size=10, rng=np.random.default_rng(0), n_decoys=9
    )
    assert (0, 1.0, 0.0, 1.0) == (found.n_windows, found.p_value, found.log10_p, found.decoy_rank_p)
    assert [1.0] * 9 == found.decoy_p_values.tolist()


def test_planned_windows_reach_their_power():
    """As many windows as planned reach the p-value in about the planned share of trials."""
    needed = radioactivity.windows_needed(0.30, alpha=1e-6, power=0.9)
    greens = np.random.default_rng(0).binomial(needed, 0.30, size=2000)
    mark = campaign_mark(MASTER, "c")
    limit = radioactivity.WindowCounts(needed, int(np.quantile(greens, 0.1)), mark.gamma)
    assert -7 < limit.p_value().log10_p < -5


@pytest.mark.parametrize("green_rate", [0.25, 0.2, 1.0])
def test_planning_needs_an_effect(green_rate):
    """Planning for no effect is refused."""
    with pytest.raises(InvalidInputError, match="green_rate must be between gamma"):
        radioactivity.windows_needed(green_rate)


def test_scoring_no_window_is_refused():
    """Keeping no window at all is refused."""
    with pytest.raises(InvalidInputError, match="n_repeated must be at least 1, or None, got 0"):
        radioactivity.name_campaign(
            [], {"c": campaign_mark(MASTER, "c")}, vocab_size=4, n_repeated=0
        )


def test_decoys_are_needed():
    """A test without decoys is refused."""
    with pytest.raises(InvalidInputError, match="n_decoys must be at least 1, got 0"):
        radioactivity.test_radioactivity(
            [], campaign_mark(MASTER, "c"), vocab_size=4, rng=np.random.default_rng(0), n_decoys=0
        )


def test_the_finding_repeats_the_counts_and_names_the_key():
    """The plain record carries p-value, e-value, windows and the key that makes them valid."""
    mark = campaign_mark(MASTER, "c-1")
    found = radioactivity.test_radioactivity(
        bigram_text(1, mark=faint(mark, 0.5)),
        mark,
        vocab_size=VOCAB,
        rng=np.random.default_rng(0),
        n_decoys=9,
    )
    record = found.finding(needed=500)
    assert (found.log10_p, found.n_windows, 500) == (record.log10_p, record.n, record.needed)
    assert f"key:{mark.key_id}" == record.randomisation
    assert record.e_log10 is not None
    assert 5 < record.e_log10 < -found.log10_p
    nothing = radioactivity.test_radioactivity(
        [], mark, vocab_size=VOCAB, rng=np.random.default_rng(0), n_decoys=9
    )
    assert (1.0, 0.0) == (nothing.finding().p_value, nothing.finding().e_log10)
