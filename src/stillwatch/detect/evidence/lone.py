"""Lone accounts: whose questions are unlike those of every kind of honest account.

Two scores, each a distance d = (account's mean - the reference accounts' mean):

    wording  sum_j d_j^2 / (b_j + w_j / n + ridge)            over directions of the features
    forms    sum_j max(d_j, 0)^2 / (b_j + w_j / n + ridge)    over the training-value flags

b is how much honest accounts differ, w how much one account's questions do, n the account's
questions; all fitted on half of the reference. The other half is scored likewise and gives each
p-value: the share of honest accounts of like volume that score as high. The account's is the
smaller of 4 times that of wording and 4/3 times that of forms (Bonferroni with weights). Split
conformal: valid when account and reference are drawn alike, whatever the
distribution, and under Benjamini-Hochberg too (Bates et al. 2023).

A small p-value says *unlike the reference* and nothing else. A new kind of honest customer is
unlike it; a copier who asks as customers do is not, and one who asks across many subjects has a
wording nearer to the average than most people (docs/kernel-mean.md). So lone accounts are listed
for a look, and never called a campaign.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stillwatch.errors import reject
from stillwatch.stats.multiple import benjamini_hochberg
from stillwatch.text.features import LENGTH, WIDTH

Floats = NDArray[np.float64]

#: Honest accounts below which there is nothing to compare with.
LEAST_REFERENCE = 40
#: Honest accounts that a stratum of volume needs before it is worth being one.
_STRATUM = 100
_MOST_STRATA = 4
#: How the chance of a false alarm is shared between wording and forms: copiers asked for forms far
#: more often than they had odd wording (docs/kernel-mean.md).
_SHARES = (0.25, 0.75)
#: Of the mean variance between persons: as in the window test.
_RIDGE = 0.03
_FIT_ROUNDS = 3
#: Share of questions that show a form, at least, where its variance is fitted.
_RAREST = 0.002


class AccountSums(NamedTuple):
    """Accounts by the sums of their questions.

    Attributes:
        kernel: `Totals.kernel`, shape (n_accounts, WIDTH).
        exchanges: `Totals.exchanges`, shape (n_accounts,).
        flags: `Totals.flags`, shape (n_accounts, n_flags).
    """

    kernel: NDArray[np.number]
    exchanges: NDArray[np.number]
    flags: NDArray[np.number]


class LoneScores(NamedTuple):
    """How unlike the reference accounts are, shape (n_accounts,) each.

    Attributes:
        wording: distance of its wording; higher = more unlike; NaN when it cannot be said.
        forms: distance of its flags, likewise.
        p_value: NaN when the account asked too little, or no text is known.
        compared: honest accounts of like volume behind the p-value (count).
        is_unlike: whether it is among those listed at the false discovery rate.
    """

    wording: Floats
    forms: Floats
    p_value: Floats
    compared: NDArray[np.int64]
    is_unlike: NDArray[np.bool_]


class _Shape(NamedTuple):
    """What the fitted half says; `directions` is None where columns are compared as they are."""

    centre: Floats
    directions: Floats | None
    between: Floats
    within: Floats


def score_lone(
    accounts: AccountSums,
    reference: AccountSums,
    *,
    rng: np.random.Generator,
    fdr: float = 0.1,
    min_exchanges: int = 8,
) -> LoneScores:
    """Compare each account with honest accounts of like volume.

    The smallest p-value is 1 / (1 + honest accounts of like volume): with few of them, or very
    many accounts to compare, nothing can be listed, and nothing is.

    Args:
        accounts: to be compared, none of them in the reference.
        reference: honest accounts; with fewer than `LEAST_REFERENCE` of `min_exchanges` questions
            with text, nothing is compared.
        rng: splits the reference.
        fdr: share of listed accounts that may be honest ones like the reference.
        min_exchanges: an account with fewer questions is not compared.

    Returns:
        Scores and p-values, in the order of `accounts`.

    Raises:
        InvalidInputError: sums of another shape.
    """
    usable = _usable(reference, min_exchanges)
    found = LoneScores(*_blank(len(accounts.exchanges)))
    if usable.size < LEAST_REFERENCE:
        return found
    order = rng.permutation(usable)
    fitted, held = _pick(reference, order[: len(order) // 2]), order[len(order) // 2 :]
    asked = _usable(accounts, min_exchanges)
    n_strata = min(max(len(held) // _STRATUM, 1), _MOST_STRATA)
    edges = np.unique(np.quantile(fitted.exchanges, np.arange(1, n_strata) / n_strata))
    own, honest = _pick(accounts, asked), _pick(reference, held)
    strata = tuple(np.searchsorted(edges, part.exchanges) for part in (own, honest))
    scored = [_score_both(fitted, part) for part in (own, honest)]
    p_values = [_conformal(s, null, strata=strata) for s, null in zip(*scored, strict=True)]
    n_honest = np.bincount(strata[1], minlength=n_strata)
    found.wording[asked], found.forms[asked] = scored[0]
    weighed = [p / share for p, share in zip(p_values, _SHARES, strict=True)]
    found.p_value[asked] = np.minimum(1.0, np.minimum(*weighed))
    found.compared[asked] = n_honest[strata[0]]
    found.is_unlike[asked] = benjamini_hochberg(found.p_value[asked], fdr).rejected
    return found


def _blank(n: int) -> tuple[Floats, Floats, Floats, NDArray[np.int64], NDArray[np.bool_]]:
    return (
        np.full(n, np.nan),
        np.full(n, np.nan),
        np.full(n, np.nan),
        np.zeros(n, dtype=np.int64),
        np.zeros(n, dtype=bool),
    )


def _pick(accounts: AccountSums, rows: NDArray[np.int64]) -> AccountSums:
    return AccountSums(*(np.asarray(column)[rows] for column in accounts))


def _conformal(scores: Floats, null: Floats, *, strata: tuple[NDArray[np.int64], ...]) -> Floats:
    p_values = np.ones(len(scores))
    for number in np.unique(strata[0]):
        honest = np.sort(null[strata[1] == number])
        rows = strata[0] == number
        exceed = len(honest) - np.searchsorted(honest, scores[rows], side="left")
        p_values[rows] = (1 + exceed) / (1 + len(honest))
    return p_values


def _usable(accounts: AccountSums, min_exchanges: int) -> NDArray[np.int64]:
    kernel = np.asarray(accounts.kernel)
    if kernel.ndim != 2 or kernel.shape != (len(accounts.exchanges), WIDTH):
        reject("lone", "kernel", f"shape (n_accounts, {WIDTH})", got=kernel.shape)
    enough = np.asarray(accounts.exchanges) >= min_exchanges
    return np.flatnonzero(enough & kernel.any(axis=1))


def _score_both(fitted: AccountSums, accounts: AccountSums) -> tuple[Floats, Floats]:
    wording = _fit(_means(fitted.kernel, fitted) / LENGTH, _thin(fitted), turn=True)
    forms = _fit(_means(fitted.flags, fitted), _thin(fitted), turn=False)
    return (
        _score(wording, _means(accounts.kernel, accounts) / LENGTH, _thin(accounts)),
        _score(forms, _means(accounts.flags, accounts), _thin(accounts)),
    )


def _thin(accounts: AccountSums) -> Floats:
    return np.asarray(1 / accounts.exchanges.astype(np.float64)[:, None])


def _means(sums: NDArray[np.number], accounts: AccountSums) -> Floats:
    return np.asarray(sums.astype(np.float64) * _thin(accounts))


def _fit(means: Floats, thin: Floats, *, turn: bool) -> _Shape:
    centre = means.mean(axis=0)
    directions = np.linalg.eigh(np.cov(means, rowvar=False))[1] if turn else None
    away = means - centre if directions is None else (means - centre) @ directions
    between, within = _variances(away**2, thin[:, 0])
    if directions is None:
        # A form that nobody of the fitted half asked for has a variance, too.
        within = np.maximum(within, _RAREST)
    return _Shape(centre, directions, between, within)


def _score(shape: _Shape, means: Floats, thin: Floats) -> Floats:
    away = means - shape.centre
    away = np.maximum(away, 0) if shape.directions is None else away @ shape.directions
    variance = shape.between + shape.within * thin + _RIDGE * shape.between.mean() + 1e-12
    return np.asarray((away**2 / variance).mean(axis=1))


def _variances(squares: Floats, thin: Floats) -> tuple[Floats, Floats]:
    """Fit E[square] = between + within * thin in each column, neither below 0.

    Least squares weighted by the inverse of the fitted variance of a square, in a few rounds.
    """
    mean = squares.mean(axis=0)
    between, within = mean / 2, mean / (2 * thin.mean())
    for _ in range(_FIT_ROUNDS):
        weight = 1 / (between + within * thin[:, None] + 1e-3 * mean + 1e-12) ** 2
        s0, s1, s2 = (
            weight.sum(0),
            (weight * thin[:, None]).sum(0),
            (weight * thin[:, None] ** 2).sum(0),
        )
        y0, y1 = (weight * squares).sum(0), (weight * squares * thin[:, None]).sum(0)
        spread = s0 * s2 - s1 * s1
        # Accounts of one volume cannot tell the two apart: all of it then counts as persons'.
        apart = spread > 1e-6 * s0 * s2
        slope = np.where(apart, (s0 * y1 - s1 * y0) / np.where(apart, spread, 1), 0)
        slope = np.clip(slope, 0, y1 / s2)
        between, within = np.maximum((y0 - slope * s1) / s0, 0), slope
    return between, within
