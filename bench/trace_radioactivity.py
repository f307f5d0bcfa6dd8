"""Radioactivity on the house prose teacher: students at several shares of marked answers.

Trains students on answers of which a share carries the mark, and innocents; asks them; runs every
test; prints p-values, power, tokens needed and who was named among 50 campaigns. Students, answers
and results are kept in the cache folder: a run that was cut off goes on, and `--again` scores every
student once more without training. About 25 CPU-seconds a student on one thread.

    python bench/trace_radioactivity.py --cache DIR [--seeds 10] [--again] [--table]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from radio.scoring import Scorer
from radio.students import Cache, lane
from radio.tables import describe


def main() -> None:
    """Train, score and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--again", action="store_true", help="score again what is in the ledger")
    parser.add_argument("--table", action="store_true", help="print the ledger, train nothing")
    options = parser.parse_args()
    cache = Cache(options.cache)
    ledger = options.cache / "ledger.jsonl"
    if options.again:
        ledger.unlink(missing_ok=True)
    rows = _read(ledger)
    if not options.table:
        import torch

        torch.set_num_threads(1)
        scorer = Scorer(cache)
        for plan in lane(range(1, options.seeds + 1)):
            if plan.name not in rows:
                rows[plan.name] = scorer.score(plan)
                with ledger.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(rows[plan.name]) + "\n")
                print(plan.name, flush=True)
    print(describe(list(rows.values())))


def _read(ledger: Path) -> dict[str, dict[str, Any]]:
    if not ledger.exists():
        return {}
    rows = [json.loads(line) for line in ledger.read_text("utf-8").splitlines()]
    return {row["name"]: row for row in rows}


if __name__ == "__main__":
    main()
