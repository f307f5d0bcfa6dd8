"""How well `detect` names webs and spares honest groups, on worlds of real questions.

    python bench/detect_campaigns.py --data DIR [--families report] [--seeds 8]

DIR holds the pools (human/, harvest/). Limits were chosen on the `tuning` families; figures to be
told come from the `report` families, which share no text with them.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stillwatch.detect import Findings, find_campaigns, fold
from stillwatch.record.exchange import to_batch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "stat"))


class Row(NamedTuple):
    """Figures of one world."""

    precision: float
    recall: float
    harvest_recall: float
    false_groups: float
    cpu_s: float


def measure(world: Any, *, with_reference: bool) -> Row:
    """Run `detect` on one world and score it against the truth.

    Args:
        world: a `DetectWorld`.
        with_reference: give the honest history, or let the log stand in.

    Returns:
        The figures; precision and recall are NaN where nothing was named or there is no web.
    """
    start = time.process_time()
    profiles = fold([to_batch(world.live)])
    reference = fold([to_batch(world.reference)]) if with_reference else None
    findings: Findings = find_campaigns(profiles, reference)
    cpu_s = time.process_time() - start
    named = {a for c in findings.campaigns for a in c.accounts}
    listed = {x for c in findings.campaigns for x in c.exchange_ids}
    hit = len(named & world.web)
    false = sum(
        2 * len(set(campaign.accounts) & world.web) < len(campaign.accounts)
        for campaign in findings.campaigns
    )
    return Row(
        hit / len(named) if named else float("nan"),
        hit / len(world.web) if world.web else float("nan"),
        len(listed & world.harvest_ids) / max(len(world.harvest_ids), 1),
        float(false),
        cpu_s,
    )


def main() -> None:
    """Print one line a scenario."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--families", choices=("tuning", "report"), default="report")
    parser.add_argument("--seeds", type=int, default=8)
    options = parser.parse_args()
    pools = importlib.import_module("detect_pools")
    worlds = importlib.import_module("detect_world")
    human = [pools.read_pool(options.data, name) for name in pools.HUMAN[options.families]]
    harvest = [pools.read_pool(options.data, name) for name in pools.HARVEST[options.families]]
    scenarios: dict[str, dict[str, Any]] = {
        "random queue": {},
        "split by template": {"web_mode": "template"},
        "half diluted": {"dilution": 0.5},
        "three quarters diluted": {"dilution": 0.75},
        "a third wraps anew": {"bare": 0.33},
        "30 accounts": {"web": 30},
        "5 questions each": {"web_load": 5.0},
        "no web": {"web_mode": "none"},
    }
    print(f"{'scenario':<24}{'ref':<5}{'prec':>6}{'rec':>6}{'harvest':>9}{'false':>7}{'cpu_s':>7}")
    for name, change in scenarios.items():
        shape = worlds.WorldShape(**change)
        for with_reference in (True, False):
            rows = [
                measure(
                    worlds.build_detect_world(7_000 + s, human=human, harvest=harvest, shape=shape),
                    with_reference=with_reference,
                )
                for s in range(options.seeds)
            ]
            table = np.array(rows)
            precision = table[:, 0][np.isfinite(table[:, 0])]
            print(
                f"{name:<24}{'yes' if with_reference else 'no':<5}"
                f"{precision.mean() if len(precision) else np.nan:6.2f}{table[:, 1].mean():6.2f}"
                f"{table[:, 2].mean():9.2f}{table[:, 3].sum():7.0f}{table[:, 4].mean():7.2f}"
            )


if __name__ == "__main__":
    main()
