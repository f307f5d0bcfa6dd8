"""Audit of the worlds that `detect` is measured on: trivial fields, people, and what evasion costs.

    python bench/traffic_audit.py --data DIR [--families report] [--seeds 3]

Three tables. For each scenario and level: how many of the trivial fields tell a campaign's accounts
from honest ones (AUC outside .2-.8), and which come nearest. Then how alike one person's questions
are, simulated people beside real ones, at equal numbers of questions. Then the price of each level.
"""

from __future__ import annotations

import argparse
import collections
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stillwatch.siege.traffic import Scenario, build_traffic
from stillwatch.siege.traffic.audit import telling_fields, trivial_fields
from stillwatch.siege.traffic.cost import evasion_cost
from stillwatch.siege.traffic.pools import Pools, load_pools
from stillwatch.siege.world_audit import likeness

_WORLDS = [("S3", f"E{n}") for n in range(6)] + [(f"S{n}", "E2") for n in (4, 5, 6, 7)]
_Questions = Mapping[str, Sequence[str]]


def print_fields(pools: Pools, families: str, seeds: int) -> None:
    """Print the most telling trivial fields of each world, averaged over seeds."""
    print("| world | fields that tell | nearest others (AUC, mean over seeds) |\n|---|---|---|")
    for name, evasion in _WORLDS:
        found = [
            trivial_fields(build_traffic(Scenario(name, evasion=evasion, seed=seed, share=0.1,
                                                  n_honest=500, families=families), pools))
            for seed in range(seeds)
        ]  # fmt: skip
        mean = {field: float(np.nanmean([f[field] for f in found])) for field in found[0]}
        telling = telling_fields(mean, evasion)
        quiet = sorted(set(mean) - set(telling), key=lambda f: -abs(mean[f] - 0.5))[:5]
        named = ", ".join(f"{field} {auc:.2f}" for field, auc in telling.items()) or "none"
        print(f"| {name} {evasion} | {named} | {', '.join(f'{f} {mean[f]:.2f}' for f in quiet)} |")


def print_people(data: Path, pools: Pools, families: str, *, seeds: int) -> None:
    """Print how alike the questions of one person are, simulated beside real."""
    print("\n| people | one-way F | intraclass correlation | n | questions |")
    print("|---|---|---|---|---|")
    rng = np.random.default_rng(0)
    rows = [
        json.loads(line)
        for line in (data / "human/arena_users/arena_prompts_clean.jsonl").read_text().split("\n")
        if line
    ]
    real: dict[str, list[str]] = collections.defaultdict(list)
    for row in sorted(rows, key=lambda row: float(row["t"])):
        real[row["user"]].append(row["turns"][0])
    kept = _several(real)
    _print_likeness("arena_users, real", kept, rng)
    counts = [len(own) for own in kept.values()]
    for seed in range(seeds):
        scenario = Scenario("S3", seed=seed, families=families, n_campaign=0, share=0.0,
                            n_honest=500, per_account=12.0)  # fmt: skip
        own = _several(_questions(scenario, pools))
        few = {who: texts[: counts[int(rng.integers(len(counts)))]] for who, texts in own.items()}
        _print_likeness(f"simulated persons, seed {seed}", few, rng)


def _several(questions: _Questions) -> dict[str, list[str]]:
    distinct = {who: list(dict.fromkeys(own)) for who, own in questions.items()}
    return {who: own for who, own in distinct.items() if len(own) >= 3}


def _questions(scenario: Scenario, pools: Pools) -> dict[str, list[str]]:
    traffic = build_traffic(scenario, pools)
    role = dict(zip(traffic.truth.accounts, traffic.truth.roles, strict=True))
    questions: dict[str, list[str]] = collections.defaultdict(list)
    for batch in traffic.batches():
        turns = batch["messages"].to_pylist()
        for account, messages in zip(batch["account"].to_pylist(), turns, strict=True):
            if role[account] == "person":
                questions[account].append(messages[-1]["content"])
    return questions


def _print_likeness(name: str, questions: _Questions, rng: np.random.Generator) -> None:
    found = likeness(questions, rng)
    print(f"| {name} | {found.f_ratio:.2f} (shuffled {found.shuffled_f:.2f}) | {found.icc:.3f} "
          f"| {found.n_accounts} | {found.n_questions} |")  # fmt: skip


def print_costs(pools: Pools, families: str) -> None:
    """Print what each level costs the copier, for the same share of traffic."""
    print("\n| level | accounts | networks | payment marks | exchanges per harvest | tokens per "
          "harvest |\n|---|---|---|---|---|---|")  # fmt: skip
    for level in range(6):
        scenario = Scenario("S3", evasion=f"E{level}", families=families, n_honest=500, share=0.1)
        cost = evasion_cost(build_traffic(scenario, pools))
        print(f"| E{level} | {cost.accounts} | {cost.networks} | {cost.payment_marks} "
              f"| {cost.exchanges_per_harvest:.2f} | {cost.tokens_per_harvest:.0f} |")  # fmt: skip


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--families", choices=("tuning", "report"), default="report")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    pools = load_pools(options.data, options.families)
    print_fields(pools, options.families, options.seeds)
    print_people(options.data, pools, options.families, seeds=options.seeds)
    print_costs(pools, options.families)


if __name__ == "__main__":
    main()
