"""How often the intervals of a copy curve hold the truth, over simulated worlds.

    python bench/curve_coverage.py [--worlds 60] [--draws 150] [--seeds 1,2,3,5]

Students are drawn from a known curve. Their luck is drawn anew for each of them, and partly shared
by all students of a training seed (`common`), as it is in real runs. Half of the items go by how
hard they are, the same for all students, half by chance.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from stillwatch.distill.curves.curve import CurvePoint, fit_copy_curve

BUDGETS = (100, 200, 400, 800, 1600, 3200)
ITEMS, TEACHER = 400, 0.97
SHARES = (0.5, 0.8, 0.9)


class Truth(NamedTuple):
    """A known curve.

    Attributes:
        name: its form.
        share: expected share right after n questions.
        questions: questions at which the expected share is so much.
    """

    name: str
    share: Callable[[float], float]
    questions: Callable[[float], float]


TRUTHS = (
    Truth(
        "logistic",
        lambda n: 0.95 / (1 + (450.0 / n) ** 1.8),
        lambda share: 450.0 * (share / 0.95 / (1 - share / 0.95)) ** (1 / 1.8),
    ),
    Truth(
        "weibull",
        lambda n: 0.95 * (1 - np.exp(-((n / 600.0) ** 1.2))),
        lambda share: 600.0 * (-np.log(1 - share / 0.95)) ** (1 / 1.2),
    ),
)


def main() -> int:
    """Print a row a cell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=60)
    parser.add_argument("--draws", type=int, default=150)
    parser.add_argument("--seeds", default="1,2,3,5")
    options = parser.parse_args()
    print(f"| truth | seeds | luck | common | held of {options.worlds} at 50, 80, 90 % |")
    print("|---|---|---|---|---|")
    for truth in TRUTHS:
        for seeds in map(int, options.seeds.split(",")):
            for luck, common in ((0.0, 0.0), (0.05, 0.0), (0.08, 0.7)):
                held = count(truth, (seeds, luck, common), options.worlds, draws=options.draws)
                told = ", ".join(str(n) for n in held)
                print(f"| {truth.name} | {seeds} | {luck} | {common} | {told} |", flush=True)
    return 0


def count(truth: Truth, cell: tuple[int, float, float], worlds: int, *, draws: int) -> list[int]:
    """Count the worlds whose intervals hold the true number of questions."""
    seeds, luck, common = cell
    rng = np.random.default_rng([seeds, round(100 * luck), round(100 * common)])
    held = [0] * len(SHARES)
    for _ in range(worlds):
        points = world(truth, cell, rng)
        teacher = rng.random(ITEMS) < TEACHER
        curve = fit_copy_curve(points, teacher, rng=rng, draws=draws)
        for i, share in enumerate(SHARES):
            reach, n = curve.questions_to(share), truth.questions(share * TEACHER)
            held[i] += (reach.low or np.inf) <= n <= (reach.high or np.inf)
    return held


def world(
    truth: Truth, cell: tuple[int, float, float], rng: np.random.Generator
) -> list[CurvePoint]:
    """Draw the students of a world."""
    seeds, luck, common = cell
    ease, shared = rng.random(ITEMS), rng.normal(size=seeds)
    points = []
    for n in BUDGETS:
        for seed in range(seeds):
            own = np.sqrt(common) * shared[seed] + np.sqrt(1 - common) * rng.normal()
            judged = np.where(rng.random(ITEMS) < 0.5, ease, rng.random(ITEMS))
            points.append(CurvePoint("s", n, seed, judged < truth.share(n) + luck * own))
    return points


if __name__ == "__main__":
    sys.exit(main())
