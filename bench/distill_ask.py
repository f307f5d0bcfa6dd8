"""Asking beside distilabel and curator: python bench/distill_ask.py [--scale 1] [--only ours].

A mock server of our own is pinned to one core, the client that is measured to another. Each
contender runs in an environment of its own, made on the first run, with what would hold it back
raised. What matters is counted at the server: what was asked twice, what was paid, what was lost.
Prints one table and writes it as JSON. Linux with two cores or more; about a quarter of an hour.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from askers.environments import contenders, versions
from askers.points import POINTS, Arena, Figure, ratio, write
from stillwatch.model.fake_endpoint import FakeConfig, FakeEndpoint


def main() -> None:
    """Run the points and print the table."""
    given = _arguments()
    cores = sorted(os.sched_getaffinity(0))
    server_cpu, client_cpu = cores[0], cores[-1]
    os.sched_setaffinity(0, {server_cpu})
    everyone = contenders(given.envs, given.only.split(","))
    found: dict[str, Any] = {
        "machine": {"cores": len(cores), "load before": os.getloadavg()},
        "versions": {one.name: versions(one) for one in everyone},
        "scale": given.scale,
    }
    for name, told in found["versions"].items():
        print(name, *(f"{package} {version}" for package, version in told.items()))
    chosen = [name for name in POINTS if not given.points or name[0] in given.points]
    with tempfile.TemporaryDirectory() as folder:
        cpus = frozenset({server_cpu})
        with FakeEndpoint(FakeConfig(), process=True, cpus=cpus) as endpoint:
            arena = Arena(endpoint, client_cpu, Path(folder), given.scale, given.repeats)
            for point in chosen:
                found[point] = {}
                for contender in everyone:
                    found[point][contender.name] = POINTS[point](arena, contender)
                    write(given.out, found)
                _print_point(point, found[point])
    found["machine"]["load after"] = os.getloadavg()
    write(given.out, found)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/distill_ask.py")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of questions")
    parser.add_argument("--repeats", type=int, default=2, help="of the first point")
    parser.add_argument("--points", default="", help="digits of the points to run, all if empty")
    parser.add_argument("--only", default="ours,distilabel,curator", help="who runs")
    parser.add_argument("--envs", type=Path, default=Path("bench-envs"), help="environments")
    parser.add_argument("--out", type=Path, default=Path("distill-ask.json"), help="the figures")
    return parser.parse_args()


def _print_point(point: str, rows: dict[str, dict[str, Figure]]) -> None:
    names = list(rows)
    print(f"\n{point:<34}" + "".join(f"{name:>24}" for name in names) + f"{'ours/best':>11}")
    for figure in dict.fromkeys(key for row in rows.values() for key in row):
        values = [rows[name].get(figure, "-") for name in names]
        line = f"  {figure:<32}" + "".join(f"{_shown(value):>24}" for value in values)
        if figure.endswith("/s") and "ours" in names:
            others = [float(rows[name][figure]) for name in names if name != "ours"]
            line += f"{ratio(float(rows['ours'][figure]), others):>10.1f}x"
        if figure.endswith("CPU s/1000") and "ours" in names:  # less is better here
            others = [1 / float(rows[name][figure]) for name in names if name != "ours"]
            line += f"{ratio(1 / float(rows['ours'][figure]), others):>10.1f}x"
        print(line, flush=True)


def _shown(value: Figure) -> str:
    return value if isinstance(value, str) else f"{value:,.10g}"


if __name__ == "__main__":
    main()
