"""Lone accounts: how honest the p-values are, and what they see of copiers that work alone.

    python bench/detect_lone.py --data DIR [--families report] [--seeds 2] [--honest 1500]

Traffic is scenario S2 with twelve lone copiers; its honest history is the reference.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stillwatch.detect.evidence.lone import AccountSums, LoneScores, score_lone
from stillwatch.detect.profiles.fold import fold
from stillwatch.detect.profiles.profile import Profiles
from stillwatch.siege.traffic.scenarios import Scenario, build_traffic

LEVELS = (0.01, 0.05, 0.1)
_COPIERS = 12
_ALL, _NEW = "honest, all", "honest, unseen"


class World(NamedTuple):
    """One log, scored: what each account is, and whether the reference had seen it."""

    scores: LoneScores
    roles: NDArray[np.str_]
    is_new: NDArray[np.bool_]


def run_world(data: Path, scenario: Scenario) -> World:
    """Build one log and its history, and score every account."""
    traffic = build_traffic(scenario, data)
    live, history = fold(traffic.batches()), fold(traffic.history())
    rng = np.random.default_rng(scenario.seed)
    scores = score_lone(_sums(live), _sums(history), rng=rng)
    truth = traffic.truth
    role_of = dict(zip(truth.accounts.tolist(), truth.roles.tolist(), strict=True))
    names, seen = live.accounts.to_pylist(), set(history.accounts.to_pylist())
    is_new = np.array([name not in seen for name in names])
    return World(scores, np.array([role_of[name] for name in names]), is_new)


def _sums(profiles: Profiles) -> AccountSums:
    totals = profiles.totals
    return AccountSums(totals.kernel, totals.exchanges, totals.flags)


def collect(worlds: list[tuple[str, World]]) -> dict[str, NDArray[np.float64]]:
    """Group accounts by kind: rows of p-value, whether listed, wording and forms."""
    found: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    for level, world in worlds:
        scores = world.scores
        table = np.column_stack([scores.p_value, scores.is_unlike, scores.wording, scores.forms])
        known, honest = np.isfinite(scores.p_value), world.roles != "campaign"
        for role in np.unique(world.roles):
            name = str(role) if role != "campaign" else f"copiers {level}"
            found[name].append(table[known & (world.roles == role)])
        found[_ALL].append(table[known & honest])
        found[_NEW].append(table[known & honest & world.is_new])
    return {name: np.concatenate(rows) for name, rows in found.items()}


def _auc(high: NDArray[np.float64], low: NDArray[np.float64]) -> float:
    order = np.sort(low)
    below, upto = (np.searchsorted(order, high, side=side) for side in ("left", "right"))
    return float((below + upto).mean() / (2 * max(len(low), 1)))


def main() -> None:
    """Print one line a kind of account."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--families", choices=("tuning", "report"), default="report")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--honest", type=int, default=1500)
    options = parser.parse_args()
    worlds = []
    for seed in range(options.seeds):
        for level in ("E0", "E2", "E3"):
            scenario = Scenario(
                name="S2", evasion=level, seed=seed, n_honest=options.honest, share=0.02,
                n_campaign=_COPIERS, n_campaigns=_COPIERS, families=options.families,
            )  # fmt: skip
            worlds.append((level, run_world(options.data, scenario)))
    found = collect(worlds)
    print(f"{'accounts':<18}{'n':>6}{'p<=1%':>8}{'5%':>8}{'10%':>8}{'listed':>8}"
          f"{'AUC wording':>13}{'forms':>7}")  # fmt: skip
    for name, rows in sorted(found.items()):
        rates = "".join(f"{(rows[:, 0] <= level).mean():>8.1%}" for level in LEVELS)
        aucs = [_auc(rows[:, column], found[_ALL][:, column]) for column in (2, 3)]
        print(f"{name:<18}{len(rows):>6}{rates}{rows[:, 1].sum():>8.0f}"
              f"{aucs[0]:>13.2f}{aucs[1]:>7.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
