"""Exact tails of weighted sums of independent draws, as far out as a proof needs.

Both randomised tests, canaries and the withheld split, come down to one question: item i adds its
weight w_i (an integer) with a chance q_i that we fixed ourselves; how rare is a sum so high? The
distribution is computed by adding one item after the other. Far in the tail every double would
underflow, so the chances are first tilted until the sum that was seen is the expected one; the tilt
is undone in logarithms. The relative error stays below 1e-9, however small the p-value.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from stillwatch.errors import reject
from stillwatch.stats.pvalues import PValue

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_LN10 = math.log(10.0)
#: Items times sum above which the transform is the faster way.
_MOST_STEPS = 10_000_000
#: Standard scores that the e-value bets on: half octaves, from barely visible to overwhelming.
_BETS = 2.0 ** np.arange(0.0, 5.5, 0.5)


def sum_upper_tail(weights: npt.ArrayLike, chances: npt.ArrayLike, *, at_least: int) -> PValue:
    """Compute P[sum of w_i z_i >= at_least] for independent z_i ~ Bernoulli(q_i).

    Args:
        weights: integers, at least 0, shape (n,); their sum is what it costs.
        chances: q_i, strictly between 0 and 1, shape (n,) or one number for all.
        at_least: the sum seen.

    Returns:
        The p-value, exact into any tail; 1 when `at_least` is not above 0.

    Raises:
        InvalidInputError: a weight or a chance is out of range, or the sum cannot be reached.

    Example:
        >>> sum_upper_tail([1, 1, 1], 0.1, at_least=3).log10_p
        -3.0
        >>> round(sum_upper_tail([1] * 2000, 0.1, at_least=1500).log10_p, 2)
        -1036.11
    """
    w, q = _checked(weights, chances)
    if w.size and not np.issubdtype(w.dtype, np.integer):
        reject("trace.sum_upper_tail", "weights", "integers", got=str(w.dtype))
    if at_least > w.sum():
        rule = f"at most the sum of the weights ({w.sum()})"
        reject("trace.sum_upper_tail", "at_least", rule, got=at_least)
    if at_least <= 0:
        return PValue(1.0, 0.0)
    tilt = _tilt(w, q, float(at_least))
    log_mgf = _log_mgf(w, q, tilt)
    masses = _masses(w, special.expit(special.logit(q) + tilt * w))
    excess = np.arange(w.sum() - at_least + 1, dtype=np.float64)
    tail = float(np.sum(masses[at_least:] * np.exp(-tilt * excess)))
    log_p = min(log_mgf - tilt * at_least + math.log(tail), 0.0)
    return PValue.of_log(log_p)


def sum_survival(weights: npt.ArrayLike, chances: npt.ArrayLike) -> Floats:
    """Compute P[S >= s] for every s at once, for many sums of one null.

    Args:
        weights: integers, as in `sum_upper_tail`.
        chances: as in `sum_upper_tail`.

    Returns:
        Shape (sum of the weights + 1,): entry s is P[S >= s], to an absolute error of 1e-12.

    Raises:
        InvalidInputError: a weight or a chance is out of range.

    Example:
        >>> sum_survival([1, 2], 0.5)
        array([1.  , 0.75, 0.5 , 0.25])
    """
    w, q = _checked(weights, chances)
    if w.size and not np.issubdtype(w.dtype, np.integer):
        reject("trace.sum_survival", "weights", "integers", got=str(w.dtype))
    return np.minimum(np.cumsum(_masses(w, q)[::-1])[::-1], 1.0)


def sum_log10_e(weights: npt.ArrayLike, chances: npt.ArrayLike, *, seen: float) -> float:
    """Bet that the sum is higher than chance, by how much in particular being left open.

    Each bet exp(t S) / E[exp(t S)] has expectation 1; the e-value is the mean over bets on eleven
    standard scores from 1 to 32.

    Args:
        weights: at least 0, shape (n,); need not be integers.
        chances: as in `sum_upper_tail`.
        seen: the sum seen.

    Returns:
        log10 of the e-value; above 0 = evidence against the null; 0 when nothing has weight.

    Raises:
        InvalidInputError: a weight or a chance is out of range.

    Example:
        >>> round(sum_log10_e([1] * 100, 0.1, seen=40), 1)
        12.5
    """
    w, q = _checked(weights, chances)
    spread = math.sqrt(float(np.sum(w * w * q * (1 - q))))
    if spread == 0:
        return 0.0
    tilts = _BETS / spread
    logs = np.array([t * seen - _log_mgf(w, q, t) for t in tilts])
    return float((special.logsumexp(logs) - math.log(len(logs))) / _LN10)


def _checked(weights: npt.ArrayLike, chances: npt.ArrayLike) -> tuple[Ints | Floats, Floats]:
    where = "trace.sum_upper_tail"
    w = np.asarray(weights)
    if w.ndim != 1 or (w.size and not (np.isfinite(w).all() and w.min() >= 0)):
        reject(where, "weights", "one row of numbers, each at least 0", got=w.shape)
    q = np.broadcast_to(np.asarray(chances, dtype=np.float64), w.shape)
    if q.size and not (q.min() > 0 and q.max() < 1):
        reject(where, "chances", "strictly between 0 and 1", got=float(q.min()))
    return w, q


def _log_mgf(w: Ints | Floats, q: Floats, tilt: float) -> float:
    """Logarithm of E[exp(tilt S)]."""
    return float(np.sum(np.logaddexp(np.log1p(-q), np.log(q) + tilt * w)))


def _tilt(w: Ints | Floats, q: Floats, target: float) -> float:
    """Find the tilt under which the expected sum is the target; 0 for targets below the mean."""

    def short(tilt: float) -> float:
        return float(np.sum(w * special.expit(special.logit(q) + tilt * w))) - target

    if short(0.0) >= 0:
        return 0.0
    top = 1.0 / float(w.max())
    # At the very top no finite tilt reaches the target; a large one is then just as exact.
    while short(top) < 0 and top < 700.0:
        top *= 2.0
    return top if short(top) <= 0 else float(optimize.brentq(short, 0.0, top, xtol=1e-12))


def _masses(w: Ints | Floats, q: Floats) -> Floats:
    """Compute P[S = s] for s in 0..sum(w)."""
    if len(w) * float(w.sum()) > _MOST_STEPS:
        return _masses_by_transform(w, q)
    masses = np.zeros(int(w.sum()) + 1)
    masses[0] = 1.0
    top = 0
    # Small weights first keep the occupied part short for as long as possible.
    for i in np.argsort(w, kind="stable"):
        step, chance = int(w[i]), float(q[i])
        if step == 0:
            continue
        moved = masses[: top + 1] * chance
        masses[: top + 1] *= 1.0 - chance
        masses[step : top + step + 1] += moved
        top += step
    return masses


def _masses_by_transform(w: Ints | Floats, q: Floats) -> Floats:
    """Do the same through the characteristic function: fast for many items of few kinds.

    Its error is about 1e-15 of the largest mass, which is enough after tilting: the tail that is
    asked for then lies where the mass is.
    """
    n_points = int(w.sum()) + 1
    angles = -2.0j * np.pi / n_points * np.arange(n_points // 2 + 1)
    kinds, counts = np.unique(np.stack([w, q]), axis=1, return_counts=True)
    log_phi = np.zeros(len(angles), dtype=np.complex128)
    with np.errstate(divide="ignore"):
        for (step, chance), count in zip(kinds.T, counts, strict=True):
            log_phi += count * np.log(1.0 - chance + chance * np.exp(angles * step))
    return np.maximum(np.fft.irfft(np.exp(log_phi), n_points), 0.0)
