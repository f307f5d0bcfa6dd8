"""How many of many unequal coins fall heads: the generalised binomial, exact into any tail."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from stillwatch.errors import reject
from stillwatch.stats.pvalues import PValue

#: Beyond this the tilted coins fall heads for certain; nothing is left to gain.
_STEEPEST = 700.0


def poisson_binomial_upper_tail(successes: int, probabilities: ArrayLike) -> PValue:
    """Compute P[X >= successes], X the number of heads of independent, unequal coins.

    Convolution loses a far tail to rounding and underflow. So the coins are tilted until
    `successes` is what one expects of them, convolved there, where every term is positive and of
    ordinary size, and the result is weighted back.

    Args:
        successes: heads seen (count, 0..number of coins).
        probabilities: chance of heads of each coin under the null, shape (n,), each in 0..1.

    Returns:
        The p-value; `log10_p` is finite however far the tail, and -inf only where so many heads
        cannot be.

    Raises:
        InvalidInputError: the count or a probability is out of range.
    Source: Esscher tilting; O(n^2) additions.
    Example:
        >>> round(poisson_binomial_upper_tail(2, [0.5, 0.5, 0.1]).p_value, 4)
        0.3
        >>> round(poisson_binomial_upper_tail(900, [0.25] * 1_000).log10_p, 3)
        -414.526
    """
    chances = np.asarray(probabilities, dtype=np.float64).ravel()
    where = "stats.poisson_binomial_upper_tail"
    if not 0 <= successes <= chances.size:
        rule = f"between 0 and the number of coins ({chances.size})"
        reject(where, "successes", rule, got=successes)
    if chances.size and not (chances.min() >= 0 and chances.max() <= 1):
        reject(where, "probabilities", "between 0 and 1", got=float(np.max(np.abs(chances))))
    certain = int(np.count_nonzero(chances == 1.0))
    chances = chances[(chances > 0) & (chances < 1)]
    wanted = successes - certain
    if wanted <= 0:
        return PValue(1.0, 0.0)
    if wanted > chances.size:
        return PValue(0.0, -math.inf)
    log_p = min(_log_tail(wanted, chances), 0.0)
    return PValue.of_log(log_p)


def _log_tail(wanted: int, chances: NDArray[np.float64]) -> float:
    """Natural logarithm of the tail; chances strictly between 0 and 1, 1 <= wanted <= n."""
    if wanted == chances.size:
        return float(np.log(chances).sum())
    odds = special.logit(chances)
    tilt = 0.0
    if wanted > chances.sum():
        tilt = float(
            optimize.brentq(lambda t: special.expit(odds + t).sum() - wanted, 0.0, _steep(odds))
        )
    mass = _convolve(special.expit(odds + tilt))[wanted:]
    back = np.exp(-tilt * np.arange(mass.size))
    # ln E[e^(tilt X)], each coin's 1 - p + p e^tilt in logarithms.
    growth = np.logaddexp(np.log1p(-chances), np.log(chances) + tilt).sum()
    return float(math.log(float(mass @ back)) + growth - tilt * wanted)


def _steep(odds: NDArray[np.float64]) -> float:
    return float(_STEEPEST - odds.min())


def _convolve(chances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities of 0..n heads, shape (n + 1,)."""
    mass = np.zeros(chances.size + 1)
    mass[0] = 1.0
    for n, chance in enumerate(chances.tolist(), start=1):
        heads = mass[:n] * chance
        mass[: n + 1] *= 1.0 - chance
        mass[1 : n + 1] += heads
    return mass
