"""Multiple testing: many hypotheses, one stated error rate."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stillwatch.errors import reject


class Rejections(NamedTuple):
    """Which hypotheses fall, in the order given.

    Attributes:
        rejected: shape (m,), bool; True = a finding.
        adjusted: shape (m,); the smallest error rate at which each would fall (0..1).
    """

    rejected: NDArray[np.bool_]
    adjusted: NDArray[np.float64]


def benjamini_hochberg(p_values: ArrayLike, fdr: float) -> Rejections:
    """Find with a false discovery rate of at most `fdr`.

    Valid for independent or positively dependent p-values; for any dependence use `e_bh`.

    Args:
        p_values: shape (m,), m >= 0, each in 0..1.
        fdr: expected share of false findings among all findings, 0..1.

    Returns:
        The findings, with q-values.

    Raises:
        InvalidInputError: a p-value or the rate is outside 0..1.
    Source: Benjamini and Hochberg 1995.
    Example:
        >>> benjamini_hochberg([0.001, 0.9, 0.02], fdr=0.05).rejected.tolist()
        [True, False, True]
    """
    p, level = _check_p("stats.benjamini_hochberg", p_values, fdr)
    order = np.argsort(p, kind="stable")
    raised = p[order] * p.size / np.arange(1, p.size + 1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.minimum.accumulate(raised[::-1])[::-1], 1.0)
    return Rejections(adjusted <= level, adjusted)


def e_bh(e_values: ArrayLike, fdr: float) -> Rejections:
    """Find with a false discovery rate of at most `fdr`, whatever the dependence.

    Args:
        e_values: shape (m,), each >= 0; large = surprising, expectation at most 1 under its null.
        fdr: expected share of false findings among all findings, above 0 and at most 1.

    Returns:
        The findings; `adjusted` is the smallest rate at which each would fall.

    Raises:
        InvalidInputError: an e-value is negative or NaN, or the rate is out of range.
    Source: Wang and Ramdas 2022, the base e-BH procedure.
    Example:
        >>> e_bh([100.0, 0.5, 50.0], fdr=0.05).rejected.tolist()
        [True, False, True]
    """
    e = np.asarray(e_values, dtype=np.float64).ravel()
    if e.size and not e.min() >= 0:
        reject("stats.e_bh", "e_values", "at least 0", got=float(e.min()))
    if not 0 < fdr <= 1:
        reject("stats.e_bh", "fdr", "above 0 and at most 1", got=fdr)
    order = np.argsort(-e, kind="stable")
    with np.errstate(divide="ignore"):
        raised = e.size / (e[order] * np.arange(1, e.size + 1))
    adjusted = np.empty_like(e)
    adjusted[order] = np.minimum(np.minimum.accumulate(raised[::-1])[::-1], 1.0)
    return Rejections((adjusted <= fdr) & (e > 0), adjusted)


def holm(p_values: ArrayLike, alpha: float = 0.05) -> Rejections:
    """Find with a chance of at most `alpha` that any finding is false, whatever the dependence.

    Args:
        p_values: shape (m,), m >= 0, each in 0..1.
        alpha: family-wise error rate, 0..1.

    Returns:
        The findings, with adjusted p-values.

    Raises:
        InvalidInputError: a p-value or the rate is outside 0..1.
    Source: Holm 1979.
    Example:
        >>> holm([0.01, 0.04, 0.03]).adjusted.tolist()
        [0.03, 0.06, 0.06]
    """
    p, level = _check_p("stats.holm", p_values, alpha)
    order = np.argsort(p, kind="stable")
    raised = p[order] * np.arange(p.size, 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(raised), 1.0)
    return Rejections(adjusted <= level, adjusted)


def holm_log10(log10_p: ArrayLike) -> NDArray[np.float64]:
    """Adjust p-values by Holm in logarithms, for proofs below what a double can hold.

    Args:
        log10_p: decimal logarithms, shape (m,), each at most 0; -inf is allowed.

    Returns:
        Adjusted decimal logarithms, shape (m,), at most 0.

    Raises:
        InvalidInputError: a logarithm is above 0 or NaN.

    Example:
        >>> holm_log10([-400.0, -1.0]).round(2).tolist()
        [-399.7, -1.0]
    """
    logs = np.asarray(log10_p, dtype=np.float64).ravel()
    if logs.size and not logs.max() <= 0:
        reject("stats.holm_log10", "log10_p", "at most 0", got=float(logs.max()))
    order = np.argsort(logs, kind="stable")
    raised = logs[order] + np.log10(np.arange(logs.size, 0, -1))
    adjusted = np.empty_like(logs)
    adjusted[order] = np.minimum(np.maximum.accumulate(raised), 0.0)
    return adjusted


def _check_p(where: str, p_values: ArrayLike, level: float) -> tuple[NDArray[np.float64], float]:
    p = np.asarray(p_values, dtype=np.float64).ravel()
    if p.size and not (p.min() >= 0 and p.max() <= 1):
        bad = next(float(x) for x in p if math.isnan(x) or not 0 <= x <= 1)
        reject(where, "p_values", "between 0 and 1", got=bad)
    if not 0 <= level <= 1:
        reject(where, "the error rate", "between 0 and 1", got=level)
    return p, level
