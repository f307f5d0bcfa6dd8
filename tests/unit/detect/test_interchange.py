"""The confirming statistics, on groups whose answer is known."""

import numpy as np
import pytest

from stillwatch.detect.calibrate import tail_p_value
from stillwatch.detect.interchange import (
    measure_ownership,
    personal_word_use,
    revisited_share,
    revisits,
)
from stillwatch.text.ragged import Ragged, starts_of


def _questions(rng: np.random.Generator, loyalty: float, n_accounts: int = 30):
    """12 questions of 10 words an account; loyal ones draw from 40 words of their own."""
    account = np.repeat(np.arange(n_accounts), 12)
    own = rng.integers(0, 40, (len(account), 10)) + 1000 * (account[:, None] + 1)
    any_ = rng.integers(0, 1000 * (n_accounts + 1), (len(account), 10)) // 25 * 25
    words = np.where(rng.random((len(account), 10)) < loyalty, own, any_)
    return account, Ragged(words.ravel(), starts_of(np.full(len(account), 10)))


def _measure(loyalty: float, seed: int = 0):
    account, words = _questions(np.random.default_rng(seed), loyalty)
    use = personal_word_use(account, words, n_accounts=30)
    return measure_ownership(use, np.ones(30, dtype=bool))


def test_workers_of_a_queue_stand_near_one() -> None:
    """When chance decides who asks, the ratio is about one."""
    ratios = [_measure(0.0, seed).ratio for seed in range(10)]
    assert 0.5 < np.mean(ratios) < 2.0


def test_people_stand_far_above() -> None:
    """When questions are drawn from words of one's own, the ratio is many times chance."""
    assert _measure(0.5).ratio > 5.0


def test_more_loyal_means_higher() -> None:
    """The ratio grows with how much people are themselves."""
    ratios = [_measure(loyalty).ratio for loyalty in (0.0, 0.1, 0.3, 0.6)]
    assert sorted(ratios) == ratios


def test_little_evidence_is_not_suspicious() -> None:
    """Two questions an account without a common word give a bound far above one, or none."""
    account = np.repeat(np.arange(10), 2)
    words = Ragged(np.arange(40), starts_of(np.full(20, 2)))
    found = measure_ownership(personal_word_use(account, words, n_accounts=10), np.ones(10, bool))
    assert not found.upper <= 10.0


def test_shared_wording_drops_out() -> None:
    """A template that all members use does not change the statistic."""
    account, words = _questions(np.random.default_rng(3), 0.3)
    template = np.full((len(account), 1), 999_999)
    longer = np.hstack([words.values.reshape(-1, 10).astype(np.int64), template])
    with_template = Ragged(longer.ravel(), starts_of(np.full(len(account), 11)))
    everybody = np.ones(30, dtype=bool)
    one = measure_ownership(personal_word_use(account, words, n_accounts=30), everybody)
    two = measure_ownership(personal_word_use(account, with_template, n_accounts=30), everybody)
    assert pytest.approx(one.ratio) == two.ratio


def test_revisits_are_across_members() -> None:
    """Asking oneself again is no revisit; asking what another asked is; a new line is enough."""
    account = np.array([0, 0, 1, 1])
    lines = Ragged(np.array([7, 7, 7, 5, 5, 8]), np.array([0, 1, 2, 4, 6]))
    # Rows: [7], [7], [7, 5], [5, 8]; line 7 is known to both, 5 and 8 to account 1 only.
    assert [True, True, False, False] == revisits(account, lines).tolist()
    assert 0.5 == revisited_share(account, lines)
    assert 0.0 == revisited_share(np.empty(0, np.int64), Ragged.empty(0))


def test_tail_is_monotone_and_never_below_what_it_rests_on() -> None:
    """Further out is smaller, never above the rank, and not tiny on few groups."""
    null = np.sort(np.exp(np.random.default_rng(0).normal(2.0, 0.3, 150)))
    values = [tail_p_value(x, null, 10.0) for x in (8.0, 4.0, 3.0, 2.0, 1.0)]
    assert sorted(values, reverse=True) == values
    assert values[-1] > 1e-6
    assert tail_p_value(0.2, null, 10.0) == values[-1]


def test_small_nulls_give_ranks_only() -> None:
    """With fewer than 50 groups nothing is extrapolated."""
    assert 1 / 41 == tail_p_value(1.0, np.linspace(5, 9, 40), 40.0)
