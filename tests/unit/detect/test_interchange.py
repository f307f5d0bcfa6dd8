"""The confirming statistics, on groups whose answer is known."""

import numpy as np
import pytest

from stillwatch.detect.confirmation.calibrate import tail_p_value
from stillwatch.detect.confirmation.interchange import (
    confirms,
    first_asked,
    measure_families,
    measure_ownership,
    personal_word_use,
    ratio_limit,
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


@pytest.mark.parametrize("loyalty", [0.0, 0.2, 0.6])
@pytest.mark.parametrize("n_accounts", [8, 20, 32])
def test_many_groups_at_once_are_measured_like_one(n_accounts: int, loyalty: float) -> None:
    """Where a quarter is a whole number of equally busy accounts, both measures are one."""
    account, words = _questions(np.random.default_rng(4), loyalty, n_accounts)
    use = personal_word_use(account, words, n_accounts=n_accounts)
    one = measure_ownership(use, use.everybody)
    two = Ragged.concatenate([words, words])
    group, twice = np.repeat([0, 2], len(account)), np.concatenate([account, account + 7])
    many = measure_families(group, twice, two, n_groups=3)
    for place in (0, 2):
        assert pytest.approx(one.ratio) == many.ratio[place]
        assert pytest.approx(one.upper) == many.upper[place]
    assert [12 * n_accounts, 0, 12 * n_accounts] == many.questions.tolist()
    assert [n_accounts, 0, n_accounts] == many.accounts.tolist()
    assert np.isnan(many.ratio[1])
    assert not many.is_personal(2.5)[1]
    assert not many.is_alike(2.5)[1]


def test_a_busy_account_is_not_trimmed_away() -> None:
    """The most self-possessed leave until a quarter of the questions has left, and no further."""
    rng = np.random.default_rng(1)
    account, words = _questions(rng, 0.0, 12)
    # One account asks half of all, from words of its own: without it nothing would be left to see.
    own = Ragged(rng.integers(5_000_000, 5_000_040, 1440), starts_of(np.full(144, 10)))
    everything = Ragged.concatenate([words, own])
    group = np.zeros(288, dtype=np.int64)
    busy = measure_families(group, np.concatenate([account, np.full(144, 50)]), everything)
    spread = measure_families(
        group, np.concatenate([account, 50 + np.arange(144) % 12]), everything
    )
    assert 1.5 < busy.ratio[0]
    assert busy.is_personal(2.5)[0]
    assert not spread.is_personal(2.5)[0]


def test_few_busy_accounts_have_a_lower_limit() -> None:
    """Among four accounts the ratio cannot pass four; people begin a tenth of the way there."""
    assert pytest.approx(1.3) == float(ratio_limit(0.25, 2.5))
    assert 1.0 == float(ratio_limit(1.0, 2.5))
    assert [2.5, 2.5] == ratio_limit(np.array([0.001, 0.0]), 2.5).tolist()


def test_the_first_of_the_same_question_counts() -> None:
    """Of one account's equal questions the first is new; another account's is new to it."""
    account = np.array([3, 1, 3, 1, 3, 2])
    text = np.array([7, 7, 7, 8, 7, 7], dtype=np.uint64)
    assert [True, True, False, True, False, True] == first_asked(account, text).tolist()
    assert [] == first_asked(account[:0], text[:0]).tolist()


def test_half_of_the_exchanges_confirms() -> None:
    """The split is by the key alone, and about even."""
    key = np.random.default_rng(0).integers(0, 2**64, 10_000, dtype=np.uint64)
    mine = confirms(key)
    assert 0.48 < mine.mean() < 0.52
    assert confirms(key[::-1]).tolist() == mine[::-1].tolist()
