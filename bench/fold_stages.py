"""Where folding spends its time, stage by stage: one core, Arrow batches in memory.

    python bench/fold_stages.py [--exchanges 200000] [--coarse] [--no-tape]

Questions are distinct and of 1.2 KB, see `speed_log`. CPU time of one thread, so a busy machine
shows less than in seconds; the first fold, which compiles, is not counted.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from speed_log import scaled, write_log
from stillwatch.detect.config import FoldConfig
from stillwatch.detect.profiles.fold import COLUMNS, Folding
from stillwatch.detect.profiles.tape import TapeWriter

#: Functions that are a stage each; what no stage claims is "the rest".
_STAGES = {
    "words, lines and text hash": ("_scan_all",),
    "features of the kernel mean": ("fill_features", "add_rows"),
    "flags": ("find_phrases", "question_flags", "add_bits"),
    "smallest words": ("_bottom_words",),
    "smallest shingles": ("_bottom_shingles",),
    "account numbers": ("_number_accounts", "<listcomp>", "setdefault"),
    "hashes of columns": ("_hash_all", "hash_column", "xxh3_64_intdigest"),
    "turns": ("_find_turns", "_cut_all", "turns_of", "texts_of"),
    "uniting and copying": ("_copy", "concatenate", "_sort_by_key", "_take", "_join", "take"),
    "tape": ("write_batch", "write"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Fold a made-up log and print the table.

    Args:
        arguments: of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exchanges", type=int, default=200_000)
    parser.add_argument("--coarse", action="store_true", help="as for an event-sized log: level 2")
    parser.add_argument("--no-tape", action="store_true")
    options = parser.parse_args(arguments)
    config = FoldConfig(memory_bytes=1) if options.coarse else FoldConfig()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_log(folder / "log", scaled(options.exchanges))
        batches = _read(folder / "log")
        _fold(batches[:1], config, None)
        tape = None if options.no_tape else folder / "tape"
        profiler = cProfile.Profile(time.thread_time)
        started = time.thread_time()
        _fold(batches, config, tape)
        plain_s = time.thread_time() - started
        profiler.runcall(_fold, batches, config, tape)
    n = sum(batch.num_rows for batch in batches)
    print(f"{n:,} exchanges, {n / plain_s:,.0f} a second, {1e6 * plain_s / n:.1f} us each")
    _print(profiler, n)


def _read(folder: Path) -> list[pa.RecordBatch]:
    batches = []
    for path in sorted(folder.rglob("*.parquet")):
        batches += pq.ParquetFile(path).read(columns=list(COLUMNS)).to_batches(16_384)
    return batches


def _fold(batches: list[pa.RecordBatch], config: FoldConfig, tape: Path | None) -> None:
    writer = None if tape is None else TapeWriter(tape)
    folding = Folding(config, tape=writer)
    for batch in batches:
        folding.update(batch)
    folding.profiles()
    if writer is not None:
        writer.close()


def _print(profiler: cProfile.Profile, n: int) -> None:
    stats: dict[Any, Any] = vars(pstats.Stats(profiler))["stats"]
    spent = dict.fromkeys([*_STAGES, "the rest"], 0.0)
    for (_, _, function), (_, _, own_s, _, _) in stats.items():
        owners = (stage for stage, names in _STAGES.items() if _is_of(function, names))
        spent[next(owners, "the rest")] += own_s
    whole = sum(spent.values())
    for stage, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"{stage:30s} {1e6 * seconds / n:6.2f} us {seconds / whole:6.1%}")


def _is_of(function: str, names: tuple[str, ...]) -> bool:
    # Built-in methods are listed as "<method 'take' of ...>".
    return function in names or any(f"'{name}'" in function for name in names)


if __name__ == "__main__":
    main()
