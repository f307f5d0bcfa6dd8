"""Fisher's exact test of two shares, exact into any tail."""

from __future__ import annotations

import numpy as np
from scipy import special

from stillwatch.errors import reject
from stillwatch.stats.pvalues import PValue


def fisher_upper_tail(first: tuple[int, int], second: tuple[int, int]) -> PValue:
    """Compute the chance of so many successes in the first sample, given those of both together.

    Args:
        first: successes and trials of the sample that is thought to have more.
        second: successes and trials of the other.

    Returns:
        The one-sided p-value; 1 where the first has no success.

    Raises:
        InvalidInputError: successes are not between 0 and the trials.
    Source: Fisher 1935; the tail is summed in logarithms.
    Example:
        >>> round(fisher_upper_tail((3, 3), (0, 3)).p_value, 4)
        0.05
        >>> round(fisher_upper_tail((1_000, 1_000), (0, 1_000)).log10_p)
        -600
    """
    for name, (successes, trials) in (("first", first), ("second", second)):
        if not 0 <= successes <= trials:
            rule = f"successes between 0 and the trials ({trials})"
            reject("stats.fisher_upper_tail", name, rule, got=successes)
    most = min(first[1], first[0] + second[0])
    held = np.arange(first[0], most + 1)
    total = first[0] + second[0]
    terms = _log_choose(first[1], held) + _log_choose(second[1], total - held)
    everything = np.arange(max(0, total - second[1]), most + 1)
    whole = _log_choose(first[1], everything) + _log_choose(second[1], total - everything)
    log_p = min(float(special.logsumexp(terms) - special.logsumexp(whole)), 0.0)
    return PValue.of_log(log_p)


def _log_choose(n: int, k: np.ndarray) -> np.ndarray:
    return np.asarray(special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1))
