"""The benchmark of `detect`: webs among honest traffic, and what others would have found.

    python bench/detect_campaigns.py --data DIR [--families report] [--seeds 10] [--quick] --out DIR

DIR holds the pools (human/, harvest/, arrivals/). Limits were chosen on the `tuning` families;
figures to be told come from the `report` families, which share neither texts nor seeds with them.
One line a world is kept in OUT/worlds.jsonl: a run that was cut off goes on, and OUT/table.md is
written at the end, also when the run is stopped; run it again to see what the ledger holds.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec

from stillwatch.detect import DetectConfig
from yardstick.contest import run_world
from yardstick.ledger import Ledger
from yardstick.plan import SEEDS_TIMES, Cell, full_plan, large_plan, quick_plan
from yardstick.table import write_tables
from yardstick.worlds import make_world

#: Seeds of the two families never meet.
_FIRST_SEED = {"tuning": 1_000, "report": 7_000}


class Job(msgspec.Struct, frozen=True):
    """One world to run."""

    cell: Cell
    seed: int
    families: str
    data: str

    @property
    def key(self) -> str:
        """What decides the result, short."""
        told = msgspec.json.encode([self.cell, self.seed, self.families, DetectConfig()])
        return hashlib.blake2b(told, digest_size=8).hexdigest()


def run_job(job: Job) -> dict[str, Any]:
    """Make a world and run every method on it.

    Args:
        job: which.

    Returns:
        Its line of the ledger.
    """
    begun = time.process_time()
    world = make_world(job.cell, seed=job.seed, families=job.families, data=Path(job.data))
    made_s = time.process_time() - begun
    facts = run_world(world, job.cell, seed=job.seed)
    return {**facts, "families": job.families, "made_s": made_s,
            "cpu_s": time.process_time() - begun}  # fmt: skip


def finish(jobs: list[Job], processes: int) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Run jobs, one a process at a time.

    Args:
        jobs: worlds not yet run.
        processes: at once.

    Yields:
        Each job with its line, as it is done.
    """
    if processes == 1:
        yield from ((job, run_job(job)) for job in jobs)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(run_job, job): job for job in jobs}
        for done in as_completed(waiting):
            yield waiting[done], done.result()


def main() -> None:
    """Run what is not yet in the ledger, and print the tables."""
    options = _options()
    plan = quick_plan() if options.quick else large_plan() if options.large else full_plan()
    if options.alone:
        plan = [cell._replace(lists_baselines=False) for cell in plan]
    first = _FIRST_SEED[options.families]
    jobs = [
        Job(cell, first + s, options.families, str(options.data))
        for s in range(options.seeds * max(SEEDS_TIMES.values()))
        for cell in plan
        if s < options.seeds * SEEDS_TIMES.get(cell.part, 1)
    ]
    ledger = Ledger(options.out / "worlds.jsonl")
    wanted = [job for job in jobs if options.only in f"{job.cell.part} {job.cell.label}"]
    missing = [job for job in wanted if job.key not in ledger]
    try:
        for job, facts in finish(missing, options.processes):
            ledger.add(job.key, facts)
            print(f"{job.cell.label}, seed {job.seed}: {facts['cpu_s']:.0f} s", file=sys.stderr)
    finally:
        _write(ledger, jobs, options.out)
    print((options.out / "table.md").read_text())


def _write(ledger: Ledger, jobs: list[Job], out: Path) -> None:
    part = out / "table.part"
    part.write_text(write_tables([ledger[job.key] for job in jobs if job.key in ledger]))
    os.replace(part, out / "table.md")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--families", choices=("tuning", "report"), default="report")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="two small worlds a seed")
    parser.add_argument("--large", action="store_true", help="webs of 3,000 and 25,000 accounts")
    parser.add_argument("--alone", action="store_true", help="leave the baselines out")
    parser.add_argument("--only", default="", help="run cells whose part and label hold it")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("bench-detect-out"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
