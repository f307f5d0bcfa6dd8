"""Weighted counts of green windows: which windows speak, and the exact chance of the sum.

A student that learned from marked answers writes green windows more often *than it would have*. How
often it would have is known to whoever owns the marked model: its own chances, without the mark, at
the very places where the suspect wrote. So each window weighs what was seen beyond what was
expected: windows that any speaker of the language must write (low entropy) weigh nothing, and those
whose excess is a surprise weigh most.

The weights come from the suspect's text and the unmarked model alone, never from the key. So for
text that is independent of the key, the sum of the green windows' weights is a sum of independent
coin flips, and its tail is computed exactly, however far out.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from stillwatch.errors import reject
from stillwatch.stats.evalues import average_log10_e
from stillwatch.stats.pvalues import PValue
from stillwatch.trace.radioactivity.windows import Ids

Floats = npt.NDArray[np.float64]

#: Weights are rounded to whole numbers of at most this size, so that the sum has exact chances.
LEVELS = 63
#: The tilted sum is computed on a circle this many standard deviations long: what wraps around it
#: has a chance below 1e-40.
_CIRCLE_SD = 28.0
#: Standard deviations beyond the mean that an e-value bets on, in equal parts.
_BETS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_LN10 = math.log(10.0)


class Excess(NamedTuple):
    """How often each window of a corpus was written, and how often it was to be expected.

    Attributes:
        context_ids: shape (n_windows, context_width), int64.
        token_ids: shape (n_windows,), int64.
        observed: shape (n_windows,), float64: times it was written, or the suspect's chances
            summed.
        expected: shape (n_windows,), float64: the unmarked model's chances at the same places,
            summed.
    """

    context_ids: Ids
    token_ids: Ids
    observed: Floats
    expected: Floats


def entropy_weights(excess: Excess, *, spread: float | None = None) -> Floats:
    """Weigh windows by what was seen beyond what was expected, in units of its noise.

    The weight is the score of a student whose chances are the model's times exp(beta * green), in
    front of counts that scatter as Poisson counts and, beyond that, by `spread` in the logarithm.

    Args:
        excess: counts seen and expected; nothing of it may depend on the key.
        spread: standard deviation of the logarithm of the suspect's chances around the model's;
            None estimates it from the counts.

    Returns:
        Shape (n_windows,), higher = more telling when green; negative where less was seen than
        expected.
    """
    difference = excess.observed - excess.expected
    variance = spread_of(excess) ** 2 if spread is None else spread**2
    return np.asarray(difference / (1.0 + variance * excess.expected), dtype=np.float64)


def spread_of(excess: Excess) -> float:
    """Estimate how far the suspect's habits lie from the model's: the sd of the log chances.

    Args:
        excess: counts seen and expected.

    Returns:
        By moments over windows expected at least once: variance beyond a Poisson count's, divided
        by the squared expectation; 0 when there is none.
    """
    often = excess.expected >= 1.0
    if not often.any():
        return 0.0
    expected = excess.expected[often]
    beyond = (excess.observed[often] - expected) ** 2 - expected
    # Weighted by 1 / expected: a sum over the few commonest windows alone would be a coin flip.
    return math.sqrt(max(float(np.sum(beyond / expected) / np.sum(expected)), 0.0))


def whole_weights(weights: npt.ArrayLike, *, levels: int = LEVELS) -> Ids:
    """Round weights to whole numbers, so that their sum has exact chances.

    Args:
        weights: any finite numbers, shape (n,).
        levels: size of the largest after rounding (count, at least 1); one weight in a thousand
            may be cut down to it.

    Returns:
        Shape (n,), int64, within -levels..levels; all zero when the weights are.

    Raises:
        InvalidInputError: `levels` is below 1, or a weight is not finite.
    """
    values = np.asarray(weights, dtype=np.float64)
    if levels < 1:
        reject("whole_weights", "levels", "at least 1", got=levels)
    if not np.isfinite(values).all():
        reject("whole_weights", "weights", "finite", got="a weight that is not")
    sizes = np.abs(values[values != 0])
    if not sizes.size:
        return np.zeros(values.shape, dtype=np.int64)
    # The root of the sum of squares decides the power, and it hangs on few when nothing is cut.
    top = float(np.quantile(sizes, 0.999))
    return np.clip(np.rint(values * (levels / top)), -levels, levels).astype(np.int64)


@dataclass(frozen=True)
class WeightedNull:
    """The sum of whole weights, each counted with chance gamma independently: its distribution.

    Attributes:
        values: distinct weights other than 0, shape (m,), int64.
        counts: how many windows have each, shape (m,), int64.
        gamma: chance that a window counts.
    """

    values: Ids
    counts: Ids
    gamma: float

    @classmethod
    def of(cls, weights: Ids, gamma: float) -> WeightedNull:
        """Describe the null of some weights.

        Args:
            weights: whole numbers, shape (n,).
            gamma: chance that a window is green, strictly between 0 and 1.

        Returns:
            The distribution.

        Raises:
            InvalidInputError: `gamma` is out of range.
        """
        if not 0 < gamma < 1:
            reject("WeightedNull", "gamma", "strictly between 0 and 1", got=gamma)
        values, counts = np.unique(weights[weights != 0], return_counts=True)
        return cls(values.astype(np.int64), counts.astype(np.int64), gamma)

    @property
    def mean(self) -> float:
        """Expected sum without knowledge of the key."""
        return self.gamma * float(self.values @ self.counts)

    @property
    def sd(self) -> float:
        """Standard deviation of the sum without knowledge of the key."""
        return math.sqrt(self.gamma * (1 - self.gamma) * float(self.values**2 @ self.counts))

    def p_value(self, total: int) -> PValue:
        """Compute the chance of a sum of at least `total`, to full precision in any tail.

        Args:
            total: the sum seen.

        Returns:
            P[S >= total]; 1 when there are no weights or nothing lies below the total.
        """
        highest = int(self.counts[self.values > 0] @ self.values[self.values > 0])
        lowest = int(self.counts[self.values < 0] @ self.values[self.values < 0])
        if total <= lowest:
            return PValue(1.0, 0.0)
        if total > highest:
            message = f"between {lowest} and {highest}, which the weights allow"
            reject("WeightedNull.p_value", "total", message, got=total)
        if total == highest:
            return PValue.of_log(self._log_of_highest())
        tilt = self._tilt_to(total)
        sums, chances = self._tilted(total, tilt)
        above = sums >= total
        tail = float(np.sum(chances[above] * np.exp(-tilt * (sums[above] - total))))
        log_p = min(self.log_moment(tilt) - tilt * total + math.log(max(tail, 1e-300)), 0.0)
        return PValue.of_log(log_p)

    def p_values(self, totals: npt.ArrayLike) -> Floats:
        """Compute many tails at once, as doubles: for decoys, none of which lies far out.

        Args:
            totals: sums seen, shape (n,).

        Returns:
            P[S >= total] each, shape (n,); right to about 1e-13.
        """
        asked = np.asarray(totals, dtype=np.int64)
        if not self.values.size:
            return np.ones(asked.shape)
        sums, reach = self._reach
        place = np.searchsorted(sums, asked, side="left")
        return np.asarray(np.clip(reach[place], 0.0, 1.0))

    def log10_e(self, total: int) -> float:
        """Turn the sum into an e-value: likelihood ratios of six fixed tilts, averaged.

        Args:
            total: the sum seen.

        Returns:
            log10 of the e-value; above 0 = evidence; 0 when there are no weights.
        """
        if not self.values.size:
            return 0.0
        tilts = [size / self.sd for size in _BETS]
        logs = [tilt * total - self.log_moment(tilt) for tilt in tilts]
        return average_log10_e(np.array(logs) / _LN10)

    def log_moment(self, tilt: float) -> float:
        """Compute ln E[exp(tilt * S)] without knowledge of the key.

        Args:
            tilt: any number.

        Returns:
            The cumulant generating function at `tilt`, nats.
        """
        stay, go = math.log1p(-self.gamma), math.log(self.gamma)
        return float(self.counts @ np.logaddexp(stay, go + tilt * self.values))

    @functools.cached_property
    def _reach(self) -> tuple[Ids, Floats]:
        """The sums that have a chance, and P[S >= sum] for each, one more 0 at the end."""
        sums, chances = self._tilted(round(self.mean), 0.0)
        return sums, np.append(np.cumsum(chances[::-1])[::-1], 0.0)

    def _log_of_highest(self) -> float:
        positive = int(self.counts[self.values > 0].sum())
        negative = int(self.counts[self.values < 0].sum())
        return positive * math.log(self.gamma) + negative * math.log1p(-self.gamma)

    def _shares(self, tilt: float) -> Floats:
        logit = math.log(self.gamma) - math.log1p(-self.gamma)
        return np.asarray(special.expit(logit + tilt * self.values))

    def _tilt_to(self, total: int) -> float:
        """Find the tilt under which `total` is the mean; 0 for a total at or below the mean."""
        if total <= self.mean:
            return 0.0
        low, high = 0.0, 1.0 / self.sd
        weighted = self.counts * self.values
        for _ in range(200):
            if weighted @ self._shares(high) >= total or high > 60.0:
                break
            low, high = high, 2 * high
        for _ in range(60):
            middle = (low + high) / 2
            if weighted @ self._shares(middle) < total:
                low = middle
            else:
                high = middle
        return high

    def _tilted(self, total: int, tilt: float) -> tuple[Ids, Floats]:
        """Compute the tilted sum's chances by its characteristic function around the total."""
        shares = self._shares(tilt)
        centre = round(float(self.counts * self.values @ shares)) if tilt == 0.0 else total
        sd = math.sqrt(float(self.counts * self.values**2 @ (shares * (1 - shares))))
        half = 1 << max(6, math.ceil(math.log2(_CIRCLE_SD / 2 * sd + abs(total - centre) + 1)))
        angles = np.arange(half + 1) * (np.pi / half)  # half the circle; the rest is conjugate
        log_size, phase = np.zeros(half + 1), np.zeros(half + 1)
        for value, count, share in zip(self.values, self.counts, shares, strict=True):
            turn = float(value) * angles
            real, imaginary = 1 - share + share * np.cos(turn), share * np.sin(turn)
            log_size += count * 0.5 * np.log(np.maximum(real**2 + imaginary**2, 1e-300))
            phase += count * np.arctan2(imaginary, real)
        phase -= angles * centre
        # irfft divides by the length, which is the inversion formula on whole numbers.
        chances = np.fft.irfft(np.exp(log_size - 1j * phase), n=2 * half)
        offsets = np.arange(2 * half)
        offsets[half:] -= 2 * half
        order = np.argsort(offsets, kind="stable")
        return (centre + offsets[order]).astype(np.int64), np.maximum(chances[order], 0.0)
