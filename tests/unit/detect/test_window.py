"""The window test: p-values that are p-values, and sums that give the unbiased MMD^2."""

from __future__ import annotations

import numpy as np
import pytest

from stillwatch.detect.confirmation.window import (
    FeatureSum,
    WindowTest,
    sum_features,
    sum_of_totals,
    unbiased_mmd2,
)
from stillwatch.detect.evidence.flags import FLAGS
from stillwatch.detect.profiles.fold import fold
from stillwatch.errors import InvalidInputError
from stillwatch.record.exchange import Exchange, Message, to_batch
from stillwatch.text.features import LENGTH, WIDTH, embedded_features, text_features


def questions(rng: np.random.Generator, n: int, *, shift: float = 0.0) -> np.ndarray:
    """Features of made-up questions with unequal variances; `shift` moves a quiet direction."""
    rows = rng.standard_normal((n, WIDTH)) * np.linspace(0.05, 1.0, WIDTH) ** 2
    rows[:, 0] += 0.5
    rows[:, 40] += shift
    return embedded_features(rows)


def test_mmd2_from_sums_is_the_mean_over_pairs() -> None:
    """Two sums and two counts give what the double loop over pairs gives."""
    rng = np.random.default_rng(1)
    first, second = questions(rng, 12), questions(rng, 9, shift=0.3)
    a, b = first / LENGTH, second / LENGTH
    own = [g @ g.T for g in (a, b)]
    within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in own]
    expected = sum(within) - 2 * (a @ b.T).mean()
    assert expected == pytest.approx(unbiased_mmd2(sum_features(first), sum_features(second)))


def test_mmd2_is_unbiased() -> None:
    """Groups drawn alike are at distance 0 on average, whatever their size."""
    rng = np.random.default_rng(2)
    values = [
        unbiased_mmd2(sum_features(questions(rng, 5)), sum_features(questions(rng, 7)))
        for _ in range(400)
    ]
    assert abs(np.mean(values)) < 3.5 * np.std(values) / 20


def test_sums_of_accounts_come_close() -> None:
    """Totals of accounts give nearly the MMD^2 of their questions."""
    rng = np.random.default_rng(3)
    first, second = questions(rng, 60), questions(rng, 60, shift=0.3)
    kernel = np.array([first[:20].sum(0, dtype=np.int32), first[20:].sum(0, dtype=np.int32)])
    whole = sum_of_totals(kernel, np.array([20, 40]))
    exact = unbiased_mmd2(sum_features(first), sum_features(second))
    assert exact == pytest.approx(unbiased_mmd2(whole, sum_features(second)), abs=0.02 / 60)


def test_profiles_hold_the_sums_of_features() -> None:
    """What `fold` adds up is what `text_features` says of each question."""
    texts = ["Think step by step.\nReturn only JSON, été", "hello THERE", "", "数学の問題"]
    exchanges = [
        Exchange(exchange_id=str(i), account="a", started_at=1.0, messages=(Message("user", t),))
        for i, t in enumerate(texts)
    ]
    totals = fold([to_batch(exchanges)]).totals
    assert text_features(texts).sum(axis=0, dtype=np.int32).tolist() == totals.kernel[0].tolist()
    assert {"step_by_step", "json_only"} == {FLAGS[i] for i in np.flatnonzero(totals.flags[0])}


def test_p_values_are_uniform_on_honest_windows() -> None:
    """Over many references and disjoint windows, p-values keep their nominal rates."""
    rng = np.random.default_rng(4)
    p_values = []
    for _ in range(40):
        test = WindowTest.fit(questions(rng, 900), rng=rng, draws=99)
        p_values += [test.test(sum_features(questions(rng, 60))).p_value for _ in range(5)]
    observed = np.array(p_values)
    for level in (0.05, 0.1, 0.25):
        # 200 windows, five to a reference: a band of four standard deviations.
        assert abs((observed <= level).mean() - level) < 4 * np.sqrt(level * (1 - level) / 200)


def test_quiet_directions_count() -> None:
    """A shift where honest questions hardly vary is seen; plain distance misses it."""
    rng = np.random.default_rng(5)
    reference, window = questions(rng, 2_000), questions(rng, 100, shift=0.15)
    sharp = WindowTest.fit(reference, rng=rng, draws=199).test(sum_features(window))
    blunt = WindowTest.fit(reference, rng=rng, draws=199, ridge=1e6).test(sum_features(window))
    assert sharp.p_value == 1 / 200
    assert blunt.p_value > sharp.p_value


def test_same_seed_same_answer() -> None:
    """The test repeats from its generator."""
    reference, window = (questions(np.random.default_rng(6), n) for n in (400, 50))
    first, second = (
        WindowTest.fit(reference, rng=np.random.default_rng(7), draws=49).test(sum_features(window))
        for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize("size", [0, 1, 151])
def test_windows_that_cannot_be_judged_are_refused(size: int) -> None:
    """A window of one, or one too large for the reference, is an error that says so."""
    rng = np.random.default_rng(8)
    test = WindowTest.fit(questions(rng, 300), rng=rng, draws=19)
    with pytest.raises(InvalidInputError, match="of 2 to 150 questions"):
        test.test(FeatureSum(np.zeros(WIDTH), 0.0, size))


def test_alike_questions_and_small_references() -> None:
    """A reference of one repeated question works; one of a few questions is refused."""
    rng = np.random.default_rng(9)
    same = np.repeat(questions(rng, 1), 100, axis=0)
    test = WindowTest.fit(same, rng=rng, draws=19)
    assert 1.0 == test.test(sum_features(same[:10])).p_value
    with pytest.raises(InvalidInputError, match="at least 30"):
        WindowTest.fit(same[:10], rng=rng)
    with pytest.raises(InvalidInputError, match="ridge"):
        WindowTest.fit(same, rng=rng, ridge=0.0)
    with pytest.raises(InvalidInputError, match="at least two"):
        unbiased_mmd2(sum_features(same[:1]), sum_features(same))
