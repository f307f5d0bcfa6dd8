"""How fast a log is searched for campaigns, from Parquet to the list of every exchange taken.

python bench/detect_speed.py            four sizes, and other methods on the same rows
python bench/detect_speed.py --full     the event: 28.8 million exchanges (16 GB of disk)

Logs are made first and not timed. Each run is a process tree of its own; its CPU seconds are those
of all its processes, its memory the highest sum of their resident sets, sampled ten times a second.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import speed_log

#: Small enough for a coffee, and far enough apart to see what grows.
SIZES = (100_000, 400_000, 1_600_000, 6_400_000)
_PEERS_ROWS = 3_000
_WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--full", action="store_true", help="the event's own size")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="exchanges of each log")
    parser.add_argument("--folder", type=Path, help="where logs are made (removed afterwards)")
    parser.add_argument("--keep", action="store_true", help="keep the logs, and take those kept")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--memory-mb", type=int, default=2048, help="FoldConfig.memory_bytes")
    parser.add_argument("--json", type=Path, help="append figures to this file, one a line")
    parser.add_argument("--no-peers", action="store_true", help="leave the other methods out")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        _run(options)
        return
    with tempfile.TemporaryDirectory(prefix="stillwatch-speed-") as name:
        folder = options.folder or Path(name)
        sizes = [speed_log.EVENT.exchanges] if options.full else _numbers(options.sizes)
        _print_head()
        peers: list[tuple[str, float]] = []
        for size in sizes:
            log = _made(folder, size, keep=options.keep)
            figures = _measured(log, options)
            _print_row(figures)
            if options.json:
                with options.json.open("a") as file:
                    file.write(json.dumps(figures) + "\n")
            if not options.no_peers and not peers:
                peers = _peers(log)
            if not options.keep:
                shutil.rmtree(log)
        if peers:
            print("\nother methods on the same rows, one core")
            for title, rate in peers:
                print(f"  {title:<58}{rate:>12,.0f}/s")


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _made(folder: Path, size: int, *, keep: bool) -> Path:
    log = folder / f"log-{size}"
    done = folder / f"log-{size}.done"
    if not (keep and done.exists()):
        shutil.rmtree(log, ignore_errors=True)
        begun = time.monotonic()
        speed_log.write_log(log, speed_log.scaled(size))
        done.touch()
        sys.stderr.write(f"made {size:,} exchanges in {time.monotonic() - begun:.0f} s\n")
    return log


def _measured(log: Path, options: argparse.Namespace) -> dict[str, Any]:
    command = [
        sys.executable, __file__, "--run", str(log), "--processes", str(options.processes),
        "--memory-mb", str(options.memory_mb),
    ]  # fmt: skip
    begun = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        peak = _Peak(child.pid)
        text = child.communicate()[0]
        wall = time.monotonic() - begun
        peak.stop()
        if child.returncode:
            raise SystemExit(child.returncode)
    size = sum(path.stat().st_size for path in log.rglob("*.parquet"))
    figures: dict[str, Any] = json.loads(text)
    return figures | {"wall_s": wall, "peak_bytes": peak.highest, "log_bytes": size}


def _run(options: argparse.Namespace) -> None:
    """One run, in a process of its own; figures go to standard output."""
    from stillwatch.detect import DetectConfig, FoldConfig
    from stillwatch.detect.engines.local import fold_logs
    from stillwatch.detect.engines.parquet import split_sources
    from stillwatch.logs.source import find_sources

    config = DetectConfig(fold=FoldConfig(memory_bytes=options.memory_mb * 2**20))
    clock = _Clock()
    with tempfile.TemporaryDirectory(prefix="stillwatch-tape-", dir=options.run.parent) as name:
        tape = Path(name)
        paths = split_sources(find_sources([str(options.run)])).paths
        with clock.stage("fold"):
            profiles = fold_logs(paths, config.fold, processes=options.processes, tape=tape)
        found = _search(profiles, config, tape=tape, clock=clock)
    figures = {
        "exchanges": profiles.n_exchanges,
        "accounts": profiles.n_accounts,
        "level": profiles.level,
        "bytes_per_account": _profile_bytes(profiles) / max(profiles.n_accounts, 1),
        "cpu_s": _cpu_seconds(),
        "stages_s": clock.wall,
        "stages_cpu_s": clock.cpu,
        "first_process_peak_bytes": clock.peak,
        **found,
    }
    sys.stdout.write(json.dumps(figures))


def _search(profiles: Any, config: Any, *, tape: Path, clock: _Clock) -> dict[str, Any]:
    from stillwatch.detect import campaign
    from stillwatch.detect.members.listing import Listing, list_exchanges

    # Listing is the last thing that a search does; its share is timed where it is called.
    vars(campaign)["list_exchanges"] = clock.timed("list", list_exchanges)
    with clock.stage("find"):
        listing = Listing(tape, tape / "exchanges.parquet")
        findings = campaign.find_campaigns(profiles, None, config, listing=listing)
    for spent in (clock.wall, clock.cpu):
        spent["find"] -= spent.setdefault("list", 0.0)
    named = [account for one in findings.campaigns for account in one.accounts]
    right = sum(speed_log.is_campaign(account) for account in named)
    truth = sum(speed_log.is_campaign(account) for account in profiles.accounts.to_pylist())
    return {
        "campaigns": len(findings.campaigns),
        "recall": right / max(truth, 1),
        "precision": right / len(named) if named else None,
        "listed": sum(one.exchanges for one in findings.campaigns),
    }


def _cpu_seconds() -> float:
    usage = [resource.getrusage(who) for who in _WHO]
    return sum(one.ru_utime + one.ru_stime for one in usage)


class _Clock:
    """Wall and CPU seconds of stages, and the highest memory of this process until their end."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = {}
        self.cpu: dict[str, float] = {}
        self.peak: dict[str, int] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        wall, cpu = time.monotonic(), _cpu_seconds()
        yield
        self.wall[name], self.cpu[name] = time.monotonic() - wall, _cpu_seconds() - cpu
        self.peak[name] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def timed(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            with self.stage(name):
                return work(*args, **named)

        return call


def _profile_bytes(profiles: Any) -> int:
    """Bytes of all arrays of profiles."""
    total = profiles.accounts.nbytes
    for column in (*profiles.totals, *profiles.digests):
        parts = (column.values, column.offsets) if hasattr(column, "offsets") else (column,)
        total += sum(part.nbytes for part in parts)
    return int(total)


class _Peak:
    """Watches the memory of a process and all that it starts."""

    def __init__(self, pid: int) -> None:
        self.highest = 0
        self._pid = pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            self.highest = max(self.highest, sum(_resident(pid) for pid in _tree(self._pid)))


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
        children = [
            int(child)
            for task in tasks
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()
        ]
    except OSError:
        return
    for child in children:
        yield from _tree(child)


def _resident(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * resource.getpagesize()


def _peers(log: Path) -> list[tuple[str, float]]:
    """Rates of other methods on the first rows of a log."""
    questions = _questions(log, _PEERS_ROWS)
    peers: list[tuple[str, Callable[[], int]]] = [
        ("datasketch MinHash (128) + LSH, 5-word shingles", lambda: _minhash(questions)),
        ("exact MMD, 4 kernels, windows of 1,500 against 1,500", lambda: _exact_mmd(questions)),
    ]
    rates = []
    for title, work in peers:
        begun = time.process_time()
        n = work()
        rates.append((title, n / (time.process_time() - begun)))
    return rates


def _questions(log: Path, most: int) -> list[str]:
    from stillwatch.record.store import scan_store

    questions: list[str] = []
    for batch in scan_store(log, columns=["messages"]):
        questions += [messages[-1]["content"] for messages in batch["messages"].to_pylist()]
        if len(questions) >= most:
            break
    return questions[:most]


def _minhash(questions: list[str]) -> int:
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=0.5, num_perm=128)
    for number, question in enumerate(questions):
        words = question.split()[:120]
        sketch = MinHash(num_perm=128)
        sketch.update_batch([" ".join(words[i : i + 5]).encode() for i in range(len(words) - 4)])
        index.query(sketch)
        index.insert(str(number), sketch)
    return len(questions)


def _exact_mmd(questions: list[str], window: int = 1500, draws: int = 20) -> int:
    """Score windows as the published detector does, from hashed features of our own."""
    features = _features(questions)
    first, rest = features[:window], features[window:]
    rng = np.random.default_rng(0)
    sample = rest[rng.permutation(len(rest))[:1000]]
    scale = float(np.median(_squares(sample, sample)))
    for _ in range(draws):
        other = rest[rng.integers(len(rest), size=window)]
        _mmd(first, other, scale)
    return len(first)


def _features(questions: list[str]) -> NDArray[np.float64]:
    vectors = np.zeros((len(questions), 384))
    for row, question in enumerate(questions):
        for word in question.split():
            vectors[row, hash(word) % 384] += 1.0
    unit: NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _squares(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.maximum(
        (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2.0 * a @ b.T, 0.0
    )
    return found


def _mmd(a: NDArray[np.float64], b: NDArray[np.float64], scale: float) -> float:
    def kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        square = _squares(x, y)
        total: NDArray[np.float64] = sum(
            (np.exp(-square / (2.0 * scale * s * s)) for s in (0.5, 1.0, 2.0, 4.0)),
            start=np.zeros_like(square),
        )
        return total / 4.0

    n = len(a)
    within = [(kernel(x, x).sum() - n) / (n * (n - 1)) for x in (a, b)]
    return float(within[0] + within[1] - 2.0 * kernel(a, b).mean())


def _print_head() -> None:
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(
        f"{'exchanges':>11}{'accounts':>10}{'level':>6}{'wall s':>8}{'/s':>10}{'CPU s':>8}"
        f"{'us each':>9}{'peak GB':>9}{'B/acct':>8}{'fold':>7}{'find':>7}{'list':>7}"
        f"{'webs':>5}{'recall':>8}{'prec.':>7}"
    )


def _print_row(f: dict[str, Any]) -> None:
    stages = f["stages_s"]
    precision = "-" if f["precision"] is None else f"{f['precision']:.3f}"
    print(
        f"{f['exchanges']:>11,}{f['accounts']:>10,}{f['level']:>6}{f['wall_s']:>8.1f}"
        f"{f['exchanges'] / f['wall_s']:>10,.0f}{f['cpu_s']:>8.1f}"
        f"{f['cpu_s'] / f['exchanges'] * 1e6:>9.1f}{f['peak_bytes'] / 1e9:>9.2f}"
        f"{f['bytes_per_account']:>8,.0f}{stages['fold']:>7.1f}{stages['find']:>7.1f}"
        f"{stages['list']:>7.1f}{f['campaigns']:>5}{f['recall']:>8.3f}{precision:>7}",
        flush=True,
    )


if __name__ == "__main__":
    main()
