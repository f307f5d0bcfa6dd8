"""Are the p-values of single accounts p-values? Honest accounts against other honest ones."""

from __future__ import annotations

import numpy as np

from stillwatch.detect import Profiles
from stillwatch.detect.evidence.lone import AccountSums, score_lone
from yardstick.score import World

#: Levels at which honest accounts may be rejected as often as the level says.
NOMINAL = (0.01, 0.05, 0.1)


def count_alone(
    profiles: Profiles, reference: Profiles, world: World, *, seed: int
) -> dict[str, list[int]]:
    """Compare half of the accounts with the history of the other half.

    Whole accounts are kept apart: an account's own past would make it look ordinary.

    Args:
        profiles: the log.
        reference: honest history.
        world: with the truth.
        seed: of the halves.

    Returns:
        For `honest` and `campaign` accounts: how many were compared, and how many of them got a
        p-value of at most each level of `NOMINAL`.
    """
    rng = np.random.default_rng(seed)
    number = {name: i for i, name in enumerate(world.observed.accounts.to_pylist())}
    # A large world is observed without its past, whose accounts may be gone by now.
    for name in reference.accounts.to_pylist():
        number.setdefault(name, len(number))
    is_known = rng.random(len(number)) < 0.5
    tested = np.array([number[a] for a in profiles.accounts.to_pylist()])
    known = np.array([number[a] for a in reference.accounts.to_pylist()])
    is_member = world.truth.campaign[tested] >= 0
    rows = np.flatnonzero(~is_known[tested] | is_member)
    scores = score_lone(
        _sums(profiles, rows), _sums(reference, np.flatnonzero(is_known[known])), rng=rng
    )
    counts = {}
    for name, chosen in (("honest", ~is_member[rows]), ("campaign", is_member[rows])):
        p_values = scores.p_value[chosen & np.isfinite(scores.p_value)]
        counts[name] = [len(p_values), *(int((p_values <= level).sum()) for level in NOMINAL)]
    return counts


def _sums(profiles: Profiles, rows: np.ndarray) -> AccountSums:
    totals = profiles.totals
    return AccountSums(totals.kernel[rows], totals.exchanges[rows], totals.flags[rows])
