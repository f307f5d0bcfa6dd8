"""Lone accounts: valid p-values by volume, and listing at a false discovery rate."""

from __future__ import annotations

import numpy as np
import pytest

from stillwatch.detect.evidence.lone import AccountSums, score_lone
from stillwatch.errors import InvalidInputError
from stillwatch.text.features import LENGTH, WIDTH


def accounts(
    rng: np.random.Generator, n: int, *, shift: float = 0.0, forms: float = 0.0
) -> AccountSums:
    """Sums of persons: each has a mean of its own, and asks 8 to 400 questions."""
    exchanges = np.exp(rng.uniform(np.log(8), np.log(400), n)).astype(np.int64)
    spread = np.linspace(0.2, 1.0, WIDTH)
    means = 0.3 + rng.standard_t(4, (n, WIDTH)) * 0.03 * spread
    means[:, 100] += shift
    noise = rng.standard_normal((n, WIDTH)) * 0.06 / np.sqrt(exchanges)[:, None]
    kernel = np.rint((means + noise) * LENGTH * exchanges[:, None]).astype(np.int32)
    rates = rng.beta(0.2, 20.0, (n, 6))
    rates[:, 2] += forms
    flags = rng.binomial(exchanges[:, None], rates).astype(np.int32)
    return AccountSums(kernel, exchanges, flags)


def test_p_values_hold_at_every_volume() -> None:
    """Honest accounts keep the nominal rates, the small as the large ones."""
    rng = np.random.default_rng(1)
    p_values, volumes = [], []
    for _ in range(12):
        honest = accounts(rng, 100)
        p_values.append(score_lone(honest, accounts(rng, 600), rng=rng).p_value)
        volumes.append(honest.exchanges)
    p, volume = np.concatenate(p_values), np.concatenate(volumes)
    for part in (volume < 60, volume >= 60):
        for level in (0.05, 0.1):
            # Accounts that share one reference are not independent: twice the binomial band.
            band = 6 * np.sqrt(level * (1 - level) / part.sum())
            assert (p[part] <= level).mean() < level + band


def test_unlike_accounts_are_listed_and_like_ones_are_not() -> None:
    """Twenty accounts far from everybody are listed among a hundred honest ones."""
    rng = np.random.default_rng(2)
    honest, odd = accounts(rng, 100), accounts(rng, 20, shift=1.0)
    both = AccountSums(*(np.concatenate(pair) for pair in zip(honest, odd, strict=True)))
    found = score_lone(both, accounts(rng, 3_000), rng=rng)
    assert found.is_unlike[100:].sum() >= 18
    assert found.is_unlike[:100].sum() <= 6
    assert (found.compared > 300).all()


def test_asking_for_training_forms_is_enough() -> None:
    """Accounts whose wording is everybody's are listed for the forms that they ask for."""
    rng = np.random.default_rng(6)
    honest, odd = accounts(rng, 100), accounts(rng, 20, forms=0.5)
    both = AccountSums(*(np.concatenate(pair) for pair in zip(honest, odd, strict=True)))
    found = score_lone(both, accounts(rng, 3_000), rng=rng)
    assert found.is_unlike[100:].sum() >= 18
    assert found.is_unlike[:100].sum() <= 6


def test_one_account_among_few_honest_ones_is_not_listed() -> None:
    """Where the smallest p-value is too large for the rate, nothing is listed."""
    rng = np.random.default_rng(3)
    odd = accounts(rng, 1, shift=2.0)
    found = score_lone(odd, accounts(rng, 60), rng=rng, fdr=0.01)
    assert [False] == found.is_unlike.tolist()
    assert 1 / 31 <= found.p_value[0] <= 4 / 31


def test_accounts_that_cannot_be_compared_say_so() -> None:
    """Few questions, or no text at all, give no p-value instead of an alarm."""
    rng = np.random.default_rng(4)
    some = accounts(rng, 3)
    some.kernel[1] = 0
    some.exchanges[2] = 3
    found = score_lone(some, accounts(rng, 80), rng=rng)
    assert [False, True, True] == np.isnan(found.p_value).tolist()
    assert [False, True, True] == np.isnan(found.wording).tolist()
    nobody = score_lone(accounts(rng, 0), accounts(rng, 80), rng=rng)
    assert 0 == len(nobody.p_value)


def test_a_reference_too_small_compares_nobody() -> None:
    """Few honest accounts, or honest accounts without text, give no p-values."""
    rng = np.random.default_rng(5)
    textless = accounts(rng, 80)
    textless.kernel[:] = 0
    for reference in (accounts(rng, 30), textless):
        found = score_lone(accounts(rng, 5), reference, rng=rng)
        assert np.isnan(found.p_value).all()
        assert [0] * 5 == found.compared.tolist()
    with pytest.raises(InvalidInputError, match="kernel"):
        score_lone(
            AccountSums(np.zeros((2, 3)), np.ones(2), np.ones((2, 1))), accounts(rng, 60), rng=rng
        )
