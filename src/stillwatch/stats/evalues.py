"""e-values: evidence that may be multiplied, averaged, and looked at any time.

An e-value has expectation at most 1 under its null, so by Markov's inequality 1 / e is a p-value,
and by Ville's inequality the running maximum of a growing product keeps that promise whenever one
chooses to stop. All values here are decimal logarithms: real evidence exceeds a double.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from stillwatch.errors import reject

_LN10 = math.log(10.0)


def bernoulli_log10_e(
    successes: ArrayLike, total: ArrayLike, probability: float
) -> NDArray[np.float64]:
    """Bet that successes come more often than `probability`, at no rate in particular.

    The bet is the likelihood ratio averaged over all rates above the null, uniformly; so no effect
    size has to be guessed before looking, at a price of about half the digits of the count.

    Args:
        successes: running counts, any shape.
        total: trials so far, the same shape.
        probability: chance of a success under the null, strictly between 0 and 1.

    Returns:
        log10 of the e-value, the same shape; above 0 = evidence against the null.

    Raises:
        InvalidInputError: a count or the probability is out of range.

    Example:
        >>> bernoulli_log10_e([0, 25, 60], [0, 100, 100], 0.25).round(2)
        array([ 0.  , -1.12, 11.1 ])
    """
    k = np.asarray(successes, dtype=np.float64)
    n = np.asarray(total, dtype=np.float64)
    if not 0 < probability < 1:
        where = "stats.bernoulli_log10_e"
        reject(where, "probability", "strictly between 0 and 1", got=probability)
    if (k < 0).any() or (k > n).any():
        reject("stats.bernoulli_log10_e", "successes", "between 0 and total", got=float(k.max()))
    # Integral of (q/p)^k ((1-q)/(1-p))^(n-k) over q in (p, 1), divided by its length 1 - p.
    log_e = special.betaln(k + 1, n - k + 1) + _log_beta_tail(k + 1, n - k + 1, probability)
    log_e -= k * math.log(probability) + (n - k + 1) * math.log1p(-probability)
    return np.asarray(log_e / _LN10, dtype=np.float64)


def log10_e_from_p(p_value: float) -> float:
    """Turn a p-value into an e-value by averaging all power calibrators.

    Args:
        p_value: above 0 and at most 1.

    Returns:
        log10 of (1 - p + p ln p) / (p (ln p)^2); -0.3 at p = 1.

    Raises:
        InvalidInputError: the p-value is out of range.
    Source: Vovk and Wang 2021, equation 2.
    Example:
        >>> round(log10_e_from_p(1e-6), 2)
        3.72
    """
    if not 0 < p_value <= 1:
        reject("stats.log10_e_from_p", "p_value", "above 0 and at most 1", got=p_value)
    log_p = math.log(p_value)
    if log_p > -1e-4:
        return math.log10(0.5)
    return math.log10((1 - p_value + p_value * log_p) / (p_value * log_p * log_p))


def average_log10_e(log10_e: ArrayLike) -> float:
    """Combine e-values under any dependence: their mean is an e-value.

    Args:
        log10_e: logarithms, shape (m,), m >= 1.

    Returns:
        log10 of the mean.

    Raises:
        InvalidInputError: none given.

    Example:
        >>> round(average_log10_e([400.0, 0.0]), 3)
        399.699
    """
    logs = np.asarray(log10_e, dtype=np.float64).ravel()
    if logs.size == 0:
        reject("stats.average_log10_e", "log10_e", "at least one number", got=0)
    return float((special.logsumexp(logs * _LN10) - math.log(logs.size)) / _LN10)


def product_log10_e(log10_e: ArrayLike) -> float:
    """Combine e-values whose randomness is independent: their product is an e-value.

    Args:
        log10_e: logarithms, shape (m,).

    Returns:
        log10 of the product; 0 for none.

    Example:
        >>> product_log10_e([2.0, 1.5])
        3.5
    """
    return float(np.sum(np.asarray(log10_e, dtype=np.float64)))


def anytime_log10_p(running_log10_e: ArrayLike) -> NDArray[np.float64]:
    """Turn a running e-value into p-values that hold at every moment at once.

    Args:
        running_log10_e: log10 of the e-process in order of time, shape (n,).

    Returns:
        log10 of the p-value at each moment, never rising, at most 0.

    Example:
        >>> anytime_log10_p([-0.2, 2.0, 1.0]).tolist()
        [0.0, -2.0, -2.0]
    """
    running = np.maximum.accumulate(np.asarray(running_log10_e, dtype=np.float64).ravel())
    return -np.maximum(running, 0.0)


def _log_beta_tail(a: NDArray[np.float64], b: NDArray[np.float64], x: float) -> NDArray[np.float64]:
    """Logarithm of P[Beta(a, b) > x]; where that underflows, a lower bound keeps e valid."""
    tail = special.betaincc(a, b, x)
    # For a tail this small the first term of its series is a bound from below: a smaller e-value.
    bound = b * math.log1p(-x) + a * math.log(x) - special.betaln(a, b) - np.log(b)
    with np.errstate(divide="ignore"):
        return np.where(tail > 1e-280, np.log(tail), bound)
