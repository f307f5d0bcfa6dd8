"""Budgets are nested, strata keep their shares, and chance repeats."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.distill.questions.order import Pool, order_pool, with_samples


def _pool(strata: list[int], clusters: list[int] | None = None) -> Pool:
    n = len(strata)
    rng = np.random.Generator(np.random.PCG64(n))
    return Pool(
        rng.integers(1, 2**63, n, dtype=np.uint64),
        np.array(strata, dtype=np.int64),
        np.array(clusters if clusters is not None else [0] * n, dtype=np.uint64),
        rng.random(n),
    )


@pytest.mark.parametrize("order", ["stratified", "random", "given", "difficulty", "disagreement"])
def test_every_order_is_a_permutation_that_repeats(order: str) -> None:
    """Nothing is lost or doubled, and the seed decides."""
    pool = _pool([n % 3 for n in range(200)], [n // 5 for n in range(200)])
    found = order_pool(pool, order, seed=7)  # type: ignore[arg-type]
    assert list(range(200)) == sorted(found.tolist())
    assert found.tolist() == order_pool(pool, order, seed=7).tolist()  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=120), st.integers(0, 3))
def test_every_budget_holds_its_share_of_every_stratum(strata: list[int], seed: int) -> None:
    """After n questions a stratum of share p has p n of them, but for its rounding."""
    pool = _pool(strata)
    dealt = pool.strata[order_pool(pool, "stratified", seed=seed)]
    n_strata = len(set(strata))
    for stratum in set(strata):
        share = strata.count(stratum) / len(strata)
        had = np.cumsum(dealt == stratum)
        even = share * np.arange(1, len(strata) + 1)
        # Each stratum rounds by a half, and so do all others together, of which it has its share.
        assert np.abs(had - even).max() <= 0.5 + share * n_strata / 2 + 1e-9


def test_clusters_are_dealt_out_within_a_stratum() -> None:
    """The first tenth of a stratum of ten even clusters holds about a tenth of each."""
    pool = _pool([0] * 1000, [1 + n // 100 for n in range(1000)])
    first = order_pool(pool, "stratified", seed=0)[:100]
    counts = np.bincount(first // 100, minlength=10)
    assert (9 <= counts).all(), counts
    assert (counts <= 11).all(), counts


def test_equal_shares_until_a_stratum_is_used_up() -> None:
    """`equal` gives each stratum one in turn."""
    pool = _pool([0] * 50 + [1] * 5 + [2] * 20)
    dealt = pool.strata[order_pool(pool, "stratified", seed=0, balance="equal")]
    assert [5, 5, 5] == np.bincount(dealt[:15]).tolist()
    assert [20, 5, 20] == np.bincount(dealt[:45]).tolist()


def test_difficulty_falls_within_each_stratum() -> None:
    """The hardest of each stratum comes first, unknown ones last, shares are kept."""
    pool = _pool([n % 2 for n in range(100)])
    pool.scores[10] = np.nan
    found = order_pool(pool, "difficulty", seed=0)
    for stratum in (0, 1):
        scores = pool.scores[found[pool.strata[found] == stratum]]
        known = scores[~np.isnan(scores)]
        assert (np.diff(known) <= 0).all()
        assert not np.isnan(scores[:-1]).any()
    assert [5, 5] == np.bincount(pool.strata[found[:10]]).tolist()


def test_a_grown_pool_is_asked_in_the_order_it_was_asked_before() -> None:
    """Questions that were added come between the others, which keep their order."""
    pool = _pool([0] * 300)
    before = order_pool(Pool(*(column[:200] for column in pool)), "random", seed=3)
    after = order_pool(pool, "random", seed=3)
    assert before.tolist() == [place for place in after.tolist() if place < 200]


def test_samples_together_and_apart() -> None:
    """Together keeps a question's answers in one budget, apart asks all once first."""
    order = np.array([2, 0, 1])
    places, samples = with_samples(order, 2, sampling="together")
    assert ([2, 2, 0, 0, 1, 1], [0, 1, 0, 1, 0, 1]) == (places.tolist(), samples.tolist())
    places, samples = with_samples(order, 2, sampling="apart")
    assert ([2, 0, 1, 2, 0, 1], [0, 0, 0, 1, 1, 1]) == (places.tolist(), samples.tolist())
