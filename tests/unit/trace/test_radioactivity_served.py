"""The supervised test: knowing the answers that were served, not just their colours."""

import itertools

import numpy as np
import pytest
from radio_language import VOCAB, language, marked, reader, write

from stillwatch.errors import InvalidInputError
from stillwatch.trace.radioactivity.likelihood import written_excess
from stillwatch.trace.radioactivity.served import (
    ServedDraws,
    served_chances,
    test_served_closed,
    test_served_open,
)
from stillwatch.trace.radioactivity.windows import TokenSequence
from stillwatch.trace.watermark import GreenListMark, campaign_mark

test_served_closed.__test__ = test_served_open.__test__ = False
MARK = campaign_mark(b"a master key of the house, long enough", "c-1")
PLAIN = language()
SERVED = write(marked(PLAIN, MARK), seed=3, n_texts=40)


def chances_of(served=SERVED, mark=MARK, **options):
    """The chances that the served tokens were drawn from."""
    return list(served_chances(served, reader(PLAIN), mark=mark, vocab_size=VOCAB, **options))


def learned(share):
    """A suspect that leans towards the bigrams of the served answers."""
    counts = np.zeros((VOCAB, VOCAB))
    for one in SERVED:
        np.add.at(counts, (one.token_ids[:-1], one.token_ids[1:]), 1.0)
    seen = counts.sum(axis=1, keepdims=True)
    return np.where(seen > 0, (1 - share) * PLAIN + share * counts / np.maximum(seen, 1), PLAIN)


def test_a_suspect_that_knows_the_answers_is_found_open_and_closed():
    """A lean of a tenth towards 40 served answers is found in the chances and in what it wrote."""
    read = test_served_open(chances_of(), reader(learned(0.1)))
    texts = write(learned(0.1), seed=4, n_texts=1_000)
    excess = written_excess(texts, reader(PLAIN), vocab_size=VOCAB)
    heard = test_served_closed(chances_of(), excess)
    assert (1200, 1200) == (read.n_places, heard.n_places)
    assert read.e_log10 > 6
    assert heard.e_log10 > 3
    assert min(read.standard_score, heard.standard_score) > 10


@pytest.mark.parametrize("suspect", [PLAIN, marked(PLAIN, MARK), language(8)])
def test_knowing_the_language_or_even_the_mark_is_not_knowing_the_answers(suspect):
    """A suspect that has the language, the mark itself or another language is not accused."""
    found = test_served_open(chances_of(), reader(suspect))
    assert found.e_log10 < 1
    texts = write(suspect, seed=5, n_texts=300)
    excess = written_excess(texts, reader(PLAIN), vocab_size=VOCAB)
    assert test_served_closed(chances_of(), excess).e_log10 < 1


def test_the_naive_supervised_count_accuses_a_good_speaker():
    """The windows of the record lean green for whoever writes them: why they are not counted."""
    windows = {(int(a), int(b)) for s in SERVED for a, b in itertools.pairwise(s.token_ids)}
    innocent = {
        (int(a), int(b))
        for s in write(PLAIN, seed=6, n_texts=300)
        for a, b in itertools.pairwise(s.token_ids)
    }
    both = np.array(sorted(windows & innocent))
    rate = MARK.is_green(both[:, :1], both[:, 1]).mean()
    assert rate > 0.4


def test_unmarked_answers_are_evidence_too():
    """No mark is needed: the sampler's own draws are the randomness."""
    found = test_served_open(chances_of(mark=None), reader(learned(0.3)))
    assert found.e_log10 > 6


def test_the_chances_are_those_that_the_tokens_were_drawn_from():
    """Mark and forbidden tokens enter the chances, and each place adds up to 1."""
    one = chances_of(SERVED[:1], forbidden=(0, 5))[0]
    assert np.exp(one.log_chances).sum(axis=1).tolist() == pytest.approx([1.0] * 30)
    assert np.isneginf(one.log_chances[:, [0, 5]]).all()
    kept = [i for i in range(VOCAB) if i not in {0, 5}]
    expected = marked(PLAIN, MARK)[SERVED[0].token_ids[3], kept]
    assert np.exp(one.log_chances[3, kept]).tolist() == pytest.approx(
        (expected / expected.sum()).tolist(), rel=1e-4
    )


def test_the_finding_names_the_draws():
    """The plain record carries 1 / e as its p-value and the name of the draws."""
    found = test_served_open(chances_of(), reader(learned(0.1)))
    record = found.finding("withheld:answers-1")
    assert ("withheld:answers-1", found.n_places) == (record.randomisation, record.n)
    assert -found.e_log10 == record.log10_p
    assert ServedDraws().finding("withheld:a").p_value == 1.0
    assert ServedDraws().standard_score == 0.0


def test_what_cannot_be_read_is_refused():
    """A mark wider than the question, or wide windows, are refused; empty answers are skipped."""
    wide = GreenListMark(MARK.key, "wide", context_width=3)
    with pytest.raises(InvalidInputError, match="at least 3 tokens of question"):
        chances_of(mark=wide)
    texts = write(PLAIN, seed=1, n_texts=2)
    excess = written_excess(texts, reader(PLAIN), vocab_size=VOCAB, context_width=2)
    with pytest.raises(InvalidInputError, match="excess must be of context width 1, got 2"):
        test_served_closed(chances_of(), excess)
    assert chances_of([TokenSequence([1, 2], n_prompt=2)]) == []
