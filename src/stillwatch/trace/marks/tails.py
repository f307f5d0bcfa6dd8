"""Upper tails of sums of independent terms, exact wherever they lie.

The sum is tilted so that what was seen becomes its mean, inverted there by a Fourier sum (lattice)
or a contour integral (exponentials), and tilted back in logarithms. So 1e-300 costs no more digits
than 0.05. Only sums of fewer than eight weighted exponentials fall back on Chernoff's bound, which
is never too small.

Source: exponential tilting is Esscher 1932, the contour at the saddle point Daniels 1954; this use
of both without their asymptotic step is ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from stillwatch.errors import reject
from stillwatch.stats.pvalues import PValue, gamma_upper_tail

Floats = npt.NDArray[np.float64]
#: Standard deviations of the tilted sum that the Fourier window holds on each side.
_REACH = 16.0
#: Points of a Fourier window at most: 2 ** 24 complex numbers are 256 MB.
_MOST_POINTS = 2**24
#: Fewer exponentials than this and the contour integrand fades too slowly to be summed.
_FEWEST_TERMS = 8


class Term(NamedTuple):
    """Independent copies of one integer-valued variable.

    Attributes:
        values: what it can be, shape (k,), int64, distinct.
        chances: with which probability, shape (k,), summing to 1.
        n_copies: how many copies are summed.
    """

    values: npt.NDArray[np.int64]
    chances: Floats
    n_copies: int


def bernoulli_term(weight: int, chance: float, count: int) -> Term:
    """Make the term of `count` coins that pay `weight` with probability `chance`.

    Args:
        weight: what a success pays, above 0.
        chance: of a success, strictly between 0 and 1.
        count: coins (count).

    Returns:
        The term.
    """
    return Term(np.array([0, weight]), np.array([1 - chance, chance]), count)


def lattice_upper_tail(statistic: int, terms: Sequence[Term]) -> PValue:
    """Compute P[sum >= statistic] for independent integer terms, exact into any tail.

    Args:
        statistic: what was seen.
        terms: the variables that are summed, each with its number of copies.

    Returns:
        The p-value; 1 for no terms and a statistic of 0 or less.

    Example:
        >>> lattice_upper_tail(5, [bernoulli_term(1, 0.1, 5)]).log10_p
        -5.0
    """
    terms = [term for term in terms if term.n_copies]
    low = sum(term.n_copies * int(term.values.min()) for term in terms)
    high = sum(term.n_copies * int(term.values.max()) for term in terms)
    if statistic <= low:
        return PValue(1.0, 0.0)
    if statistic > high:
        return PValue(0.0, -math.inf)
    if statistic == high:
        tops = ((term.n_copies, term.chances[term.values.argmax()]) for term in terms)
        return _from_log(sum(count * math.log(chance) for count, chance in tops))
    tilt = _lattice_tilt(statistic, terms)
    log_mgf, mean, variance = _moments(terms, tilt)
    n_points = _n_points(variance, high - low, terms)
    centre = statistic if tilt else round(mean)
    first = min(max(centre - n_points // 2, low), max(high + 1 - n_points, low))
    tilted = _tilted_chances(terms, tilt, (first, n_points))
    above = np.arange(n_points) + (first - statistic)
    kept = above >= 0
    mass = float(np.exp(-tilt * above[kept]) @ tilted[kept])
    return _from_log(log_mgf - tilt * statistic + math.log(max(mass, 1e-300)))


def exponential_upper_tail(statistic: float, weights: Floats, counts: npt.ArrayLike) -> PValue:
    """Compute P[sum >= statistic] for a weighted sum of standard exponentials.

    Args:
        statistic: what was seen, 0 or more.
        weights: shape (m,), above 0.
        counts: exponentials with each weight, shape (m,), above 0.

    Returns:
        The p-value: exact for one weight or for eight exponentials and more, else Chernoff's
        bound, which is at least the p-value.

    Raises:
        InvalidInputError: a weight or count is not above 0.

    Example:
        >>> tail = exponential_upper_tail(700.0, np.array([1.0, 0.5]), [90, 90])
        >>> round(tail.log10_p, 2)
        -164.8
    """
    scales = np.asarray(weights, dtype=np.float64)
    numbers = np.asarray(counts, dtype=np.float64)
    if scales.size and not (scales.min() > 0 and numbers.min() > 0):
        reject("exponential_upper_tail", "weights and counts", "above 0", got=float(scales.min()))
    if scales.size == 0 or statistic <= 0:
        return PValue(1.0, 0.0)
    if scales.size == 1:
        return gamma_upper_tail(statistic / float(scales[0]), float(numbers[0]))
    scales, level = scales / scales.max(), statistic / float(scales.max())

    def log_mgf(z: npt.ArrayLike) -> npt.NDArray[np.complex128]:
        logs = np.log(1 - np.multiply.outer(np.asarray(z, complex), scales))
        return np.asarray(-(logs @ numbers), dtype=np.complex128)

    tilt = _exponential_tilt(level, scales, numbers)
    if numbers.sum() < _FEWEST_TERMS:
        bound = float(log_mgf(tilt).real) - tilt * level if level > scales @ numbers else 0.0
        return _from_log(min(bound, 0.0))
    spread = _spread(tilt, scales, numbers)
    # The tail is the integral along any line between the pole at 0 and the first one at 1.
    line = max(tilt, min(0.5 / spread, 0.5))
    spread = _spread(line, scales, numbers)
    step = min(2 * math.pi * min(line, 1 - line) / 40, 0.5 / spread)
    return _from_log(_contour(log_mgf, (line, step), level))


def _contour(
    log_mgf: Callable[[npt.ArrayLike], npt.NDArray[np.complex128]],
    line_and_step: tuple[float, float],
    level: float,
) -> float:
    """Integrate exp(log_mgf(z) - z level) / z along a vertical line by the trapezoid rule.

    Its error is exp(-2 pi d / step) times the integrand at distance d from the line, for any d
    short of a pole: steps of 2 pi d / 40 and of half a standard deviation leave 1e-17.
    """
    line, step = line_and_step
    peak = float(log_mgf(line).real) - line * level
    total, start, block = 0.0, 0, 4096
    while True:
        heights = np.arange(start, start + block) * step
        z = line + 1j * heights
        parts = np.exp(log_mgf(z) - z * level - peak) / z
        real = parts.real
        total += float(real.sum()) - (0.5 * float(real[0]) if start == 0 else 0.0)
        if abs(parts[-1]) < 1e-18 * abs(total) / block or start > 2**23:
            break
        start += block
    return peak + math.log(max(total * step / math.pi, 1e-300))


def _spread(tilt: float, scales: Floats, numbers: Floats) -> float:
    return math.sqrt(float((numbers * (scales / (1 - tilt * scales)) ** 2).sum()))


def _exponential_tilt(level: float, scales: Floats, numbers: Floats) -> float:
    """Solve for the tilt in (0, 1) at which the mean is `level`; 0 at or below the mean."""

    def excess(tilt: float) -> float:
        return float((numbers * scales / (1 - tilt * scales)).sum()) - level

    if excess(0.0) >= 0:
        return 0.0
    # One term alone reaches the level before 1 - n_top / level, so the root lies below it.
    upper = 1 - float(numbers[scales == scales.max()].sum()) / level * 0.5
    return float(optimize.brentq(excess, 0.0, upper, xtol=1e-15))


def _lattice_tilt(statistic: int, terms: Sequence[Term]) -> float:
    def excess(tilt: float) -> float:
        return _moments(terms, tilt)[1] - statistic

    if excess(0.0) >= 0:
        return 0.0
    upper = 1.0 / max(int(np.abs(term.values).max()) for term in terms)
    while excess(upper) < 0:
        upper *= 2
    return float(optimize.brentq(excess, 0.0, upper, rtol=1e-12))


def _moments(terms: Sequence[Term], tilt: float) -> tuple[float, float, float]:
    """Give log-mgf, mean and variance of the sum under a tilt."""
    log_mgf = mean = variance = 0.0
    for values, chances, count in terms:
        top, tilted = _tilted_term(values, chances, tilt)
        centre = float(tilted @ values)
        log_mgf += count * top
        mean += count * centre
        variance += count * float(tilted @ (values - centre) ** 2)
    return log_mgf, mean, variance


def _tilted_term(
    values: npt.NDArray[np.int64], chances: Floats, tilt: float
) -> tuple[float, Floats]:
    """Give one variable's log-mgf and its chances under a tilt."""
    with np.errstate(divide="ignore"):
        logs = tilt * values + np.log(chances)
    top = float(special.logsumexp(logs))
    return top, np.exp(logs - top)


def _n_points(variance: float, reach: int, terms: Sequence[Term]) -> int:
    widest = max(int(term.values.max() - term.values.min()) for term in terms)
    needed = 2 * _REACH * (math.sqrt(variance) + widest) + 2
    n_points = 1 << math.ceil(math.log2(min(needed, reach + 1) + 1))
    if n_points > _MOST_POINTS:
        rule = f"spread over at most {_MOST_POINTS} values; use coarser weights"
        reject("lattice_upper_tail", "terms", rule, got=n_points)
    return n_points


def _tilted_chances(terms: Sequence[Term], tilt: float, window: tuple[int, int]) -> Floats:
    """Give the tilted sum's probabilities at first .. first + n_points - 1 by a Fourier sum."""
    first, n_points = window
    angles = np.arange(n_points // 2 + 1) * (-2 * np.pi / n_points)
    spectrum = np.exp(-1j * (angles * (first % n_points)))
    for values, chances, count in terms:
        _, tilted = _tilted_term(values, chances, tilt)
        if len(values) <= 2:
            one = np.exp(1j * np.multiply.outer(angles, values)) @ tilted
        else:
            one = np.fft.rfft(np.bincount(values % n_points, tilted, minlength=n_points))
        spectrum *= one**count
    chances_here: Floats = np.fft.irfft(spectrum, n=n_points)
    return np.maximum(chances_here, 0.0)


def _from_log(log_p: float) -> PValue:
    return PValue.of_log(min(log_p, 0.0))
