"""The newer radioactivity tests keep their word: uniform or conservative nulls, stated power."""

import numpy as np
import pytest
from radio_language import VOCAB, language, marked, reader, write
from scipy import stats

from stillwatch.trace.radioactivity.likelihood import read_excess, written_excess
from stillwatch.trace.radioactivity.planning import choose_mark, effect_per_token, plan_tokens
from stillwatch.trace.radioactivity.served import (
    served_chances,
    test_served_closed,
    test_served_open,
)
from stillwatch.trace.radioactivity.weighted import test_weighted, weigh_windows
from stillwatch.trace.radioactivity.windows import distinct_windows
from stillwatch.trace.watermark import campaign_mark

for one in (test_served_closed, test_served_open, test_weighted):
    one.__test__ = False
PLAIN = language()
MARK = campaign_mark(b"a master key of the house", "c-1")


def opened(chances):
    """A suspect's chances on ordinary text beside the model's."""
    texts = write(PLAIN, seed=2, n_texts=100)
    return read_excess(texts, reader(chances), reader(PLAIN), vocab_size=VOCAB)


def heard(chances, *, n_texts=150, seed=1):
    """What a suspect wrote beside what the model would have written."""
    texts = write(chances, seed=seed, n_texts=n_texts)
    return written_excess(texts, reader(PLAIN), vocab_size=VOCAB)


def templated():
    """The same few sentences over and over: the trap of fixed keys."""
    texts = [text for text in write(PLAIN, seed=3, n_texts=12) for _ in range(40)]
    return written_excess(texts, reader(PLAIN), vocab_size=VOCAB)


@pytest.mark.parametrize(
    "excess",
    [
        pytest.param(lambda: heard(PLAIN), id="closed"),
        pytest.param(lambda: opened(0.7 * PLAIN + 0.3 * language(8)), id="open"),
        pytest.param(templated, id="templated"),
    ],
)
@pytest.mark.parametrize("spread", [0.3, None])
def test_weighted_p_values_are_uniform_under_random_keys(excess, spread):
    """Over 1,000 random keys, shares 1, 5 and 10 % of p-values fall below 1, 5 and 10 %."""
    weighed = weigh_windows(excess(), spread=spread)
    found = test_weighted(
        weighed, MARK, vocab_size=VOCAB, rng=np.random.default_rng(4), n_decoys=1_000
    )
    for level in (0.01, 0.05, 0.10):
        tolerance = 4 * np.sqrt(level * (1 - level) / 1_000)
        assert abs(np.mean(found.decoy_p_values <= level) - level) < tolerance
    assert found.ks_p_value_of_decoys > 1e-4


def test_counting_a_template_again_and_again_would_break_the_null():
    """Weighing occurrences as if each had a colour of its own accuses innocents."""
    excess = templated()
    weights = np.rint(excess.observed).astype(np.int64)
    n, naive = int(weights.sum()), []
    for i in range(300):
        mark = campaign_mark(np.random.default_rng(i).bytes(32), "c")
        green = mark.is_green(excess.context_ids, excess.token_ids)
        naive.append(stats.binom.sf(int(weights[green].sum()) - 1, n, 0.25))
    assert np.mean(np.array(naive) < 0.01) > 0.2


@pytest.mark.parametrize("route", ["open", "closed"])
def test_the_supervised_e_value_is_safe_when_the_answers_are_drawn_again(route):
    """For suspects that never saw them, e exceeds 1 / alpha in at most alpha of 200 redraws."""
    suspect = 0.7 * PLAIN + 0.3 * language(8)
    excess = heard(suspect)
    model, pushed = reader(PLAIN), marked(PLAIN, MARK)
    logs, scores = [], []
    for seed in range(200):
        served = write(pushed, seed=1_000 + seed, n_texts=2, length=15)
        chances = served_chances(served, model, mark=MARK, vocab_size=VOCAB)
        found = (
            test_served_open(chances, reader(suspect))
            if route == "open"
            else test_served_closed(chances, excess)
        )
        logs.append(found.e_log10)
        scores.append(found.standard_score)
    for level in (0.01, 0.05, 0.10):
        rejected = np.mean(np.array(logs) >= -np.log10(level))
        assert rejected <= level + 4 * np.sqrt(level * (1 - level) / 200)
    # The chances are those that the tokens were drawn from: the score has mean 0 and variance 1.
    assert abs(np.mean(scores)) < 4 / np.sqrt(200)
    assert np.std(scores) == pytest.approx(1.0, abs=0.2)


def test_keys_chosen_on_reference_text_stay_conservative():
    """Innocent text like the reference is accused less often than a key left to chance accuses."""
    reference = distinct_windows(write(PLAIN, seed=5, n_texts=150), vocab_size=VOCAB)
    suspect = distinct_windows(write(PLAIN, seed=6, n_texts=150), vocab_size=VOCAB)
    master_key = np.random.default_rng(7).bytes(32)
    p_values = [
        choose_mark(master_key, f"c-{i}", reference=reference).mark.count(suspect).p_value().p_value
        for i in range(400)
    ]
    for level in (0.01, 0.05, 0.10):
        assert np.mean(np.array(p_values) <= level) < level
    assert np.mean(np.array(p_values) <= 0.1) < 0.07


def test_planned_tokens_reach_the_planned_power():
    """Tokens planned from one rehearsal reach alpha about as often as planned, for other keys."""

    def score(seed, n_texts):
        mark = campaign_mark(np.random.default_rng(seed).bytes(32), "c")
        weighed = weigh_windows(heard(marked(PLAIN, mark, 0.3), n_texts=n_texts, seed=seed))
        return test_weighted(
            weighed, mark, vocab_size=VOCAB, rng=np.random.default_rng(0), n_decoys=1
        )

    rehearsals = [score(seed, 40).standard_score for seed in range(8)]
    effect = effect_per_token(float(np.mean(rehearsals)), 40 * 30)
    plan = plan_tokens(effect, alpha=1e-2, power=0.9)
    reached = [score(100 + seed, plan.needed // 30).p_value <= 1e-2 for seed in range(20)]
    assert 0.7 <= np.mean(reached) <= 1.0
