"""p-values that stay right in the far tail: each travels with its decimal logarithm.

A proof quotes numbers like 1e-63, and a marked corpus can go far below 1e-308 where a double ends.
So a tail is computed twice: as a double, and as a logarithm from a series that never underflows.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from stillwatch.errors import reject

# Below this the double is near its end and the series takes over; both agree to 1e-9 around it.
_SERIES_BELOW = 1e-280
_LN10 = math.log(10.0)


class PValue(NamedTuple):
    """A probability under the null hypothesis, small = surprising.

    Attributes:
        p_value: in 0..1; 0.0 only where the double underflows.
        log10_p: its decimal logarithm, finite even where `p_value` is 0.0.
    """

    p_value: float
    log10_p: float

    @classmethod
    def of_log(cls, log_p: float) -> PValue:
        """Take a p-value by its natural logarithm, however far below the end of a double."""
        return cls(math.exp(log_p) if log_p > -745 else 0.0, log_p / _LN10)


def binomial_upper_tail(successes: int, total: int, probability: float) -> PValue:
    """Compute P[X >= successes] for X ~ Binomial(total, probability), exact into any tail.

    Args:
        successes: what was seen (count, 0..total).
        total: independent trials (count, >= 0).
        probability: chance of a success under the null, strictly between 0 and 1.

    Returns:
        The p-value; 1 when nothing was tried.

    Raises:
        InvalidInputError: a count or the probability is out of range.

    Example:
        >>> binomial_upper_tail(5, 5, 0.1).log10_p
        -5.0
        >>> round(binomial_upper_tail(9_000, 10_000, 0.25).log10_p)
        -4134
    """
    _check_binomial(successes, total, probability)
    if successes == 0:
        return PValue(1.0, 0.0)
    tail = float(special.betainc(successes, total - successes + 1, probability))
    if tail > _SERIES_BELOW:
        return PValue(tail, math.log10(tail))
    log_p = _log_binomial_pmf(successes, total, probability)
    log_p += math.log(_binomial_tail_ratio(successes, total, probability))
    return PValue.of_log(log_p)


def gamma_upper_tail(value: float, shape: float) -> PValue:
    """Compute P[X >= value] for X ~ Gamma(shape, 1), the null of a sum of exponentials.

    Args:
        value: the sum seen, >= 0.
        shape: number of terms, > 0.

    Returns:
        The p-value, finite in logarithm however far the value lies.

    Raises:
        InvalidInputError: the value is negative or the shape is not positive.

    Example:
        >>> round(gamma_upper_tail(1000.0, 1.0).log10_p, 3)
        -434.294
    """
    if not value >= 0:
        reject("stats.gamma_upper_tail", "value", "at least 0", got=value)
    if not shape > 0:
        reject("stats.gamma_upper_tail", "shape", "above 0", got=shape)
    tail = float(special.gammaincc(shape, value))
    if tail > _SERIES_BELOW:
        return PValue(tail, math.log10(tail))
    log_p = shape * math.log(value) - value - float(special.gammaln(shape))
    log_p += math.log(_gamma_fraction(value, shape))
    return PValue.of_log(log_p)


def permutation_p(observed: float, null: ArrayLike) -> float:
    """Rank a statistic among draws of its own null: (1 + #{null >= observed}) / (1 + n).

    The added one is the observation itself; without it the p-value of the most extreme value would
    be 0, which no finite number of draws can support.

    Args:
        observed: the statistic, higher = more suspicious.
        null: the same statistic under the null, shape (n,), n >= 1.

    Returns:
        A valid p-value, never below 1 / (1 + n); ties count against the observation.

    Raises:
        InvalidInputError: the null is empty or holds NaN, or the observation is NaN.

    Example:
        >>> permutation_p(3.0, [1.0, 2.0, 0.5])
        0.25
    """
    draws = _check_sample("stats.permutation_p", "null", null)
    if math.isnan(observed):
        reject("stats.permutation_p", "observed", "a number", got=observed)
    return float((1 + np.count_nonzero(draws >= observed)) / (1 + draws.size))


def conformal_p(
    scores: ArrayLike, reference: ArrayLike, *, rng: np.random.Generator | None = None
) -> NDArray[np.float64]:
    """Rank each score among reference scores (split conformal).

    Valid when a score under the null is exchangeable with the reference, for example whole honest
    accounts that were held out. The p-values of one call share their reference and so are
    dependent in the way that Benjamini-Hochberg tolerates.

    Args:
        scores: shape (m,), higher = more suspicious.
        reference: shape (n,), n >= 1.
        rng: breaks ties at random, which makes the p-values exactly uniform; None counts a tie
            against the score, which is conservative.

    Returns:
        p-values of shape (m,), each at least 1 / (1 + n) when `rng` is None.

    Raises:
        InvalidInputError: the reference is empty or a number is NaN.

    Example:
        >>> conformal_p([10.0, 0.0], [1.0, 2.0, 3.0])
        array([0.25, 1.  ])
    """
    null = np.sort(_check_sample("stats.conformal_p", "reference", reference))
    values = np.asarray(scores, dtype=np.float64)
    if np.isnan(values).any():
        reject("stats.conformal_p", "scores", "numbers", got=math.nan)
    above = null.size - np.searchsorted(null, values, side="right")
    ties = null.size - np.searchsorted(null, values, side="left") - above
    share = np.ones(values.shape) if rng is None else 1.0 - rng.random(values.shape)
    return np.asarray((above + share * (ties + 1)) / (null.size + 1), dtype=np.float64)


def ks_uniform(p_values: ArrayLike) -> float:
    """Test that p-values are uniform on 0..1 (two-sided Kolmogorov-Smirnov, exact).

    A small result means that the p-values are not what they claim to be, in either direction.

    Args:
        p_values: independent p-values of true nulls, shape (n,), n >= 1.

    Returns:
        The p-value of the uniformity; small = not uniform.

    Raises:
        InvalidInputError: none given, or one is outside 0..1.

    Example:
        >>> ks_uniform([0.01] * 20) < 1e-6
        True
    """
    values = _check_sample("stats.ks_uniform", "p_values", p_values)
    if values.min() < 0 or values.max() > 1:
        reject("stats.ks_uniform", "p_values", "between 0 and 1", got=float(values.max()))
    return float(stats.kstest(values, "uniform").pvalue)


def _check_binomial(successes: int, total: int, probability: float) -> None:
    where = "stats.binomial_upper_tail"
    if total < 0:
        reject(where, "total", "at least 0", got=total)
    if not 0 <= successes <= total:
        reject(where, "successes", f"between 0 and total ({total})", got=successes)
    if not 0 < probability < 1:
        reject(where, "probability", "strictly between 0 and 1", got=probability)


def _check_sample(where: str, name: str, values: ArrayLike) -> NDArray[np.float64]:
    sample = np.asarray(values, dtype=np.float64).ravel()
    if sample.size == 0:
        reject(where, name, "at least one number", got=0)
    if np.isnan(sample).any():
        reject(where, name, "numbers", got=math.nan)
    return sample


def _log_binomial_pmf(successes: int, total: int, probability: float) -> float:
    """Binomial log-probability by deviances: lgamma of large counts would cancel digits."""
    misses = total - successes
    log_p = _stirling_error(total) - _stirling_error(successes) - _stirling_error(misses)
    log_p -= _deviance(successes, total * probability)
    log_p -= _deviance(misses, total * (1 - probability))
    if misses == 0:
        return total * math.log(probability)
    return log_p + 0.5 * math.log(total / (2 * math.pi * successes * misses))


def _stirling_error(n: int) -> float:
    """Compute ln n! minus Stirling's formula (Loader 2000, section 2)."""
    if n == 0:
        return 0.0
    if n < 16:
        return math.lgamma(n + 1) - (n + 0.5) * math.log(n) + n - 0.5 * math.log(2 * math.pi)
    square = n * n
    return (1 / 12 - (1 / 360 - (1 / 1260 - 1 / 1680 / square) / square) / square) / n


def _deviance(seen: int, expected: float) -> float:
    """Compute seen ln(seen / expected) + expected - seen, the saddle-point deviance."""
    return (seen * math.log(seen / expected) if seen else 0.0) + expected - seen


def _binomial_tail_ratio(successes: int, total: int, probability: float) -> float:
    """P[X >= k] / P[X = k] as a sum of falling ratios; called only far above the mean."""
    odds = probability / (1 - probability)
    term, tail = 1.0, 1.0
    for k in range(successes, total):
        term *= (total - k) / (k + 1) * odds
        tail += term
        if term < tail * 1e-17:
            break
    return tail


def _gamma_fraction(value: float, shape: float) -> float:
    """Continued fraction of the upper incomplete gamma, by Lentz's method (DLMF 8.9.2)."""
    b = value + 1 - shape
    c, d = 1e300, 1 / b
    fraction = d
    for i in range(1, 10_000):
        a = -i * (i - shape)
        b += 2
        d = 1 / (a * d + b)
        c = b + a / c
        fraction *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return fraction
