"""Timing: each test is uniform or careful under its null and finds what it is for."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from stillwatch.detect.config import FoldConfig
from stillwatch.detect.confirmation.activity import (
    DAY,
    Activity,
    Background,
    Lives,
    TimingTest,
    activity_of,
    background_of,
    lives_of,
    untested,
)
from stillwatch.detect.confirmation.lifetimes import births_after_closures, joint_switch
from stillwatch.detect.confirmation.rhythm import measure_rhythm
from stillwatch.detect.confirmation.timing import (
    even_load,
    measure_timing,
    rank_timing,
    think_time,
    timing_p_value,
)
from stillwatch.detect.facts import facts_of
from stillwatch.detect.profiles.fold import fold
from stillwatch.logs.accounts import AccountRow, AccountTable
from stillwatch.record.exchange import Exchange, to_batch

START, DAYS = 19_700 * DAY, 28


def _persons(rng: np.random.Generator, n: int, *, per_day: float = 4.0) -> Activity:
    """Draw people: hours of their own, bursts, lives that begin and end when they like."""
    account, times, tokens = [], [], []
    for i in range(n):
        born, died = rng.uniform(0, 8), rng.uniform(DAYS - 8, DAYS)
        peak, rate = rng.uniform(0, 24), rng.gamma(2.0, per_day / 6.0)
        days = np.floor(rng.uniform(born, died, rng.poisson(rate * (died - born))))
        for start in days + (peak + rng.normal(0, 3, len(days))) % 24 / 24:
            size = 1 + rng.poisson(2)
            account.append(np.full(size, i))
            times.append(start + np.cumsum(rng.lognormal(4.5, 1.0, size)) / DAY)
            tokens.append(rng.integers(10, 800, size))
    joined = (np.concatenate(account), START + DAY * np.concatenate(times), np.concatenate(tokens))
    return Activity.of(*joined)


def _background(rng: np.random.Generator) -> Background:
    times = _persons(rng, 150).started_at
    counts = np.bincount(((times - START) // 3600).astype(int), minlength=(DAYS + 2) * 24)
    return Background(START, 3600.0, counts / counts.sum(), times.max())


def _few_rejections(p_values: list[float], rate: float) -> bool:
    """Tell whether so many rejections agree with a rate, three standard errors allowed."""
    made = np.array([p_value for p_value in p_values if p_value is not None])
    n = len(made)
    return np.mean(made <= rate) <= rate + 3 * np.sqrt(rate * (1 - rate) / n)


@pytest.fixture(scope="module")
def honest() -> list[tuple[TimingTest, ...]]:
    """Every test on independent people."""
    rng = np.random.default_rng(1)
    background = _background(rng)
    return [measure_timing(_persons(rng, 20), background, seed=i) for i in range(30)]


@pytest.mark.parametrize("name", ["even load", "co-activity", "joint pauses", "think time"])
def test_independent_people_are_seldom_rejected(honest, name: str) -> None:
    """People who know nothing of each other are rejected no oftener than said."""
    p_values = [t.p_value for tests in honest for t in tests if t.name == name]
    assert 30 == len(p_values)
    assert all(_few_rejections(p_values, rate) for rate in (0.05, 0.1, 0.3))


def test_even_load_is_exact_for_equal_callers() -> None:
    """For callers of one rate the p-value is uniform, not only careful."""
    rng = np.random.default_rng(2)
    found = []
    for seed in range(80):
        n = rng.poisson(20 * DAYS)
        times = START + DAY * rng.uniform(0, DAYS, n)
        load = Activity.of(rng.integers(0, 10, n), times, np.ones(n, dtype=np.int64))
        found.append(even_load(load, seed=seed).p_value)
    assert 0.33 < np.mean(np.array(found) <= 0.5) < 0.67
    assert all(_few_rejections(found, rate) for rate in (0.05, 0.1))


def test_a_balancer_is_seen() -> None:
    """Questions dealt out in turn load the members more evenly than chance."""
    people = _persons(np.random.default_rng(3), 25)
    order = np.argsort(people.started_at)
    turn = np.empty(len(order), dtype=np.int64)
    turn[order] = np.arange(len(order)) % 25
    dealt = Activity.of(turn, people.started_at, people.output_tokens)
    found = even_load(dealt)
    assert found.p_value < 0.01
    assert found.statistic < 0.5
    assert even_load(people).p_value > 0.5


def test_large_groups_are_even_too() -> None:
    """A web of thousands is tested without drawing every member's day."""
    rng = np.random.default_rng(4)
    n = 60_000
    times = np.sort(START + DAY * rng.uniform(0, DAYS, n))
    ones = np.ones(n, dtype=np.int64)
    assert even_load(Activity.of(np.arange(n) % 3000, times, ones)).p_value < 1e-6
    assert even_load(Activity.of(rng.integers(0, 3000, n), times, ones)).p_value > 0.001


def test_a_sample_is_not_called_even() -> None:
    """What the profiles cut off makes loads even, so a sample is not tested."""
    sample = _persons(np.random.default_rng(3), 25)._replace(whole=False)
    for found in (even_load(sample), think_time(sample)):
        assert found.p_value is None
        assert "sample" in found.text


def test_a_common_switch_makes_joint_pauses_and_co_activity() -> None:
    """When one hand stops and starts all members, both tests say so."""
    rng = np.random.default_rng(5)
    background = _background(rng)
    people = _persons(rng, 40, per_day=8.0)
    hour = (people.started_at - START) / 3600.0
    awake = np.ones(len(hour), dtype=bool)
    for begin in rng.uniform(9 * 24, 20 * 24, 10):
        awake &= (hour < begin) | (hour > begin + 6)
    columns = (people.account[awake], people.started_at[awake], people.output_tokens[awake])
    together, pauses = measure_rhythm(Activity.of(*columns), background)
    assert together.p_value <= 0.01
    assert pauses.p_value <= 0.01


def test_hours_that_all_keep_are_nobody_s_secret() -> None:
    """People who follow the log's own curve, night and weekend, are not co-active."""
    rng = np.random.default_rng(6)
    hours = np.arange(DAYS * 24)
    curve = np.where((hours % 24 > 8) & (hours % 24 < 20) & (hours // 24 % 7 < 5), 1.0, 0.05)
    background = Background(START, 3600.0, curve / curve.sum(), START + DAYS * DAY)
    found = []
    for seed in range(15):
        drawn = rng.choice(len(hours), size=1500, p=background.share)
        times = START + 3600.0 * (drawn + rng.random(1500))
        group = Activity.of(rng.integers(0, 15, 1500), times, np.ones(1500, dtype=np.int64))
        found += [test.p_value for test in measure_rhythm(group, background, seed=seed)]
    assert all(_few_rejections(found, rate) for rate in (0.05, 0.1))


def test_a_closed_loop_is_seen() -> None:
    """A program that asks again when the answer is complete follows its length."""
    rng = np.random.default_rng(7)
    tokens = rng.integers(10, 800, (8, 60))
    gaps = 1.0 + 0.02 * tokens + rng.gamma(2.0, 2.0, tokens.shape)
    times = START + np.cumsum(gaps, axis=1) - gaps
    group = Activity.of(np.repeat(np.arange(8), 60), times.ravel(), tokens.ravel())
    found = think_time(group)
    assert found.p_value < 0.01
    assert found.statistic > 0.5


def _lives(rng: np.random.Generator, *, replaced: bool) -> Lives:
    died = START + DAY * np.sort(rng.uniform(5, 25, 12))
    born = died[:10] + 3600.0 * rng.uniform(0, 12, 10)
    if not replaced:
        born = START + DAY * rng.uniform(5, 25, 10)
    return Lives(born, died, START + DAY * rng.uniform(0, 28, 400))


def test_replacements_are_seen() -> None:
    """Accounts opened within hours of a closure are unlike the log's other births."""
    rng = np.random.default_rng(8)
    honest = [births_after_closures(_lives(rng, replaced=False)).p_value for _ in range(60)]
    assert _few_rejections(honest, 0.1)
    busy = [births_after_closures(_lives(rng, replaced=True)).p_value for _ in range(10)]
    assert np.median(busy) < 0.05


def _switching(hours: float) -> tuple[object, np.ndarray]:
    """Fold a log in which all change model, twelve accounts within so many hours."""
    rng = np.random.default_rng(9)
    rows = []
    for i in range(112):
        moment = 8 * 24 + rng.uniform(0, hours if i < 12 else 12 * 24)
        for j, hour in enumerate(np.arange(0, DAYS * 24, 8.0)):
            exchange = Exchange(
                exchange_id=f"{i}-{j}",
                account=f"a{i:03}",
                started_at=START + 3600.0 * hour,
                model="new" if hour > moment else "old",
            )
            rows.append(exchange)
    return fold([to_batch(rows)]), np.arange(12)


def test_a_joint_switch_is_seen() -> None:
    """Members that move to a new model within a day do so faster than others do."""
    assert joint_switch(*_switching(20.0)).p_value < 0.01
    assert joint_switch(*_switching(11 * 24.0)).p_value > 0.01


def test_what_cannot_be_tested_says_why(honest) -> None:
    """Too little of anything gives no p-value and a reason, and never a small one."""
    nothing = Activity.of(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0, dtype=np.int64))
    never = Lives(np.full(3, np.nan), np.full(3, np.nan), np.zeros(0))
    background = _background(np.random.default_rng(0))
    tests = measure_timing(nothing, background, lives=never)
    assert 5 == len(tests)
    assert all(test.p_value is None and "not tested" in test.text for test in tests)
    assert 1.0 == timing_p_value(tests)
    empty = fold([])
    assert joint_switch(empty, np.zeros(0, dtype=np.int64)).p_value is None
    assert {} == rank_timing(tests, honest)


def test_one_p_value_of_many() -> None:
    """The smallest counts as often as there were tests."""
    made = [TimingTest("x", 1.0, 1.0, p, 9, "") for p in (0.01, 0.5, 0.9)]
    assert 0.03 == pytest.approx(timing_p_value((*made, untested("y", "no reason"))))


def test_ranks_among_honest_groups(honest) -> None:
    """A score above all honest ones ranks first, a middling one in the middle."""
    high = (TimingTest("co-activity", 9.0, 99.0, 0.002, 9, ""),)
    assert {"co-activity": 1 / 31} == rank_timing(high, honest)
    assert 0.02 < rank_timing(honest[0], honest)["co-activity"] <= 1.0


def _row(i: int, account: str, hour: float) -> Exchange:
    return Exchange(exchange_id=str(i), account=account, started_at=START + 3600.0 * hour)


def test_activity_of_profiles() -> None:
    """A group's activity is its kept exchanges in order, whole only when all were kept."""
    rows = [_row(i, "abc"[i % 3], float(29 - i)) for i in range(30)]
    profiles = fold([to_batch(rows)])
    found = activity_of(profiles, np.array([0, 2]))
    assert (2, True, 20) == (found.n_accounts, found.whole, len(found.account))
    assert np.all(np.diff(found.started_at[:10]) > 0)
    small = fold([to_batch(rows)], FoldConfig(digests_per_account=4))
    assert not activity_of(small, np.array([0, 2])).whole


def test_background_undoes_the_sample() -> None:
    """An account of which a tenth was kept counts ten times as much."""
    rows = [_row(i, "busy", 0.5) for i in range(100)]
    rows += [_row(1000 + i, "calm", 30.5) for i in range(10)]
    share = background_of(fold([to_batch(rows)], FoldConfig(digests_per_account=10))).share
    assert [100 / 110, 10 / 110] == pytest.approx([share[0], share[30]])
    assert 48 == len(share)


def test_wild_times_stay_bounded() -> None:
    """A time in the year 300,000 does not ask for memory."""
    rows = [_row(i, "a", float(i)) for i in range(5)]
    rows.append(Exchange(exchange_id="x", account="a", started_at=9e12))
    assert len(background_of(fold([to_batch(rows)])).share) <= 40_000
    assert 24 == len(background_of(fold([])).share)


def test_lives_come_from_the_table_and_the_log() -> None:
    """Closing times of the table stand; without them silence at the end is death."""
    rows = [_row(i, "abcd"[i % 4], float(i)) for i in range(40)]
    rows += [_row(100 + i, "bc"[i % 2], 24.0 * i) for i in range(10)]
    profiles = fold([to_batch(rows)])
    table = AccountTable({"b": AccountRow(account="b", tags=(f"closed_at={START + 5}",))})
    facts = facts_of(pa.array(profiles.accounts.to_pylist()), table)
    found = lives_of(profiles, facts, np.array([0, 1, 2]))
    assert [True, True, False] == np.isfinite(found.died).tolist()
    assert START + 5 == found.died[1]
    assert [False, False, True] == np.isfinite(found.born).tolist()
    assert 1 == len(found.others_born)


def test_draws_repeat() -> None:
    """The same seed gives the same p-values."""
    rng = np.random.default_rng(10)
    group, background = _persons(rng, 12), _background(rng)
    make: Callable[[], list[float | None]] = lambda: [  # noqa: E731 - two calls of one line
        test.p_value for test in measure_timing(group, background, seed=3)
    ]
    assert make() == make()
