"""Are the p-values honest on this reference? Half of its accounts judge the other half.

What a campaign's p-value rests on is computed from one half of the honest accounts; groups around
accounts of the other half are then given p-values by it. None of them is a campaign, so at most a
hundredth of them may have a p-value below one hundredth.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stillwatch.detect.config import DetectConfig
from stillwatch.detect.confirmation.calibrate import Neighbourhoods, Scale, tail_p_value
from stillwatch.detect.confirmation.principals import parties_of
from stillwatch.detect.discovery.asked import Asked
from stillwatch.detect.findings import Calibration
from stillwatch.detect.profiles.profile import Profiles
from stillwatch.stats.intervals import wilson

#: Honest accounts without which two halves say nothing.
_LEAST = 160
_NOMINAL = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
_QUESTIONS = 4


def check_calibration(
    reference: Profiles, config: DetectConfig | None = None
) -> Calibration | None:
    """Measure how often honest groups would be named, at nominal rates.

    Args:
        reference: honest accounts.
        config: as campaigns are found with.

    Returns:
        The rates, None when the reference is too small to be halved.
    """
    config = config or DetectConfig()
    if reference.n_accounts < _LEAST:
        return None
    rng = np.random.default_rng([config.seed, reference.n_accounts])
    first = rng.permutation(reference.n_accounts) < reference.n_accounts // 2
    halves = [_neighbourhoods(reference, mask, config) for mask in (first, ~first)]
    scale = Scale(min(config.null_sizes), _QUESTIONS)
    nulls = [half.null(scale) for half in halves]
    if min(map(len, nulls)) == 0:
        return None
    p_values: list[float] = []
    for judges, judged in ((0, 1), (1, 0)):
        apart = halves[judges].n_anchors / scale.accounts
        p_values += [tail_p_value(float(s), nulls[judges], apart) for s in nulls[judged]]
    n_apart = max(1, int(sum(half.n_anchors for half in halves) / scale.accounts))
    points = tuple(_point(np.array(p_values), nominal, n_apart) for nominal in _NOMINAL)
    at = {nominal: seen for nominal, seen, _, _ in points}
    text = (
        f"Half of the {reference.n_accounts:,} reference accounts judged groups of {scale.accounts}"
        f" among the other half, and the other way round: {len(p_values)} honest groups, worth "
        f"about {n_apart} that share no account. At a nominal 1%, 5% and 10%, "
        f"{at[0.01]:.1%}, {at[0.05]:.1%} and {at[0.1]:.1%} of them would have been named."
    )
    return Calibration(points=points, groups=len(p_values), apart=n_apart, text=text)


def _neighbourhoods(
    reference: Profiles, mask: NDArray[np.bool_], config: DetectConfig
) -> Neighbourhoods:
    half = reference.select(mask)
    return Neighbourhoods(Asked(half, parties_of(half)), half, config)


def _point(
    p_values: NDArray[np.float64], nominal: float, n_apart: int
) -> tuple[float, float, float, float]:
    """Count p-values at or below a rate; the interval counts groups that share no account."""
    seen = float(np.mean(p_values <= nominal))
    interval = wilson(round(seen * n_apart), n_apart)
    return (nominal, seen, interval[0], interval[1])
