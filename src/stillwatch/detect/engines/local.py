"""Folding on this machine: a log in Parquet shared out over processes, in bounded memory.

A census settles beforehand who is in the log and which exchanges will be kept. Then every process
takes the next piece of the log until none is left, adds to its sums in place and puts digests on
disk by ranges of accounts; the ranges are put together by whoever is free. What comes out is what
`fold` gives, byte for byte, however many processes there are.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from stillwatch.detect.config import FoldConfig
from stillwatch.detect.engines.census import Census, take_census
from stillwatch.detect.engines.parquet import Unit, read_unit, units_of
from stillwatch.detect.engines.shard import Shard, gather_digests, merge_range, sum_totals
from stillwatch.detect.profiles.fold import fold
from stillwatch.detect.profiles.levels import levels_of
from stillwatch.detect.profiles.merge import merge_all
from stillwatch.detect.profiles.profile import Ints, Profiles, no_profiles
from stillwatch.detect.profiles.tape import TapeWriter
from stillwatch.errors import EnvironmentUnfitError, StillwatchError
from stillwatch.text.features import Embedder

#: Rows below which starting processes costs more than it saves.
_WORTH_PROCESSES = 100_000
#: Bytes of digests in a range of accounts: what is put together at once.
_RANGE_BYTES = 128 * 2**20


class _Job(NamedTuple):
    """What a process is told when it starts."""

    folder: str
    config: FoldConfig
    census: Census
    bounds: Ints
    tape: str | None


def fold_logs(
    paths: Sequence[Path],
    config: FoldConfig | None = None,
    *,
    streams: Iterable[pa.RecordBatch] = (),
    processes: int = 2,
    tape: Path | None = None,
    embedder: Embedder | None = None,
) -> Profiles:
    """Fold Parquet files in the store's schema, and whatever else comes in batches.

    Args:
        paths: files that processes can read by themselves, as `split_sources` finds them.
        config: what is kept.
        streams: batches of other sources, folded in this process.
        processes: how many to share the files out over; 1 starts none.
        tape: a folder for the tape; None keeps none.
        embedder: as for `fold`; a model is held once, so the work is not shared out then.

    Returns:
        The profiles of all.

    Raises:
        RecordError: a file cannot be read.
        InvalidInputError: a column that is needed is absent.
        EnvironmentUnfitError: a process was killed, or the disk is full.
    """
    config = config or FoldConfig()
    units = units_of(paths)
    n_rows = sum(unit.n_rows for unit in units)
    if processes < 2 or n_rows < _WORTH_PROCESSES or embedder is not None:
        every = chain(_batches(units), streams)
        return _fold_here(every, config, tape=tape, embedder=embedder)
    parts = [_fold_apart(units, config, processes=processes, tape=tape)]
    parts.append(_fold_here(streams, config, tape=tape, part="streams"))
    return merge_all(parts, config) if parts[1].n_accounts else parts[0]


def _batches(units: Iterable[Unit]) -> Iterator[pa.RecordBatch]:
    for unit in units:
        yield from read_unit(unit)


def _fold_here(
    batches: Iterable[pa.RecordBatch],
    config: FoldConfig,
    *,
    tape: Path | None,
    part: str = "000000",
    embedder: Embedder | None = None,
) -> Profiles:
    if tape is None:
        return fold(batches, config, embedder=embedder)
    with TapeWriter(tape, part) as writer:
        return fold(batches, config, tape=writer, embedder=embedder)


def _fold_apart(
    units: list[Unit], config: FoldConfig, *, processes: int, tape: Path | None
) -> Profiles:
    census = take_census(units, config, threads=processes)
    if not len(census.accounts):
        return no_profiles()
    level = levels_of(config)[census.level]
    with tempfile.TemporaryDirectory(prefix="stillwatch-fold-") as name:
        folder = Path(name)
        bounds = _bounds(census, level.digests, level.digest_bytes(config.excerpt_chars))
        job = _Job(name, config, census, bounds, None if tape is None else str(tape))
        with _Crew(job, processes) as crew:
            crew.share(("fold", number, unit) for number, unit in enumerate(units))
            crew.tell_all(("finish",))
            crew.share(("merge", number, level.digests) for number in range(len(bounds) - 1))
        totals = sum_totals(folder, crew.names)
        return Profiles(census.accounts, totals, gather_digests(folder), census.level)


def _bounds(census: Census, limit: int, digest_bytes: int) -> Ints:
    """Cut the accounts into ranges of about the same weight of digests."""
    weight = np.cumsum(np.minimum(census.exchanges, limit)) * digest_bytes
    n_ranges = int(weight[-1] // _RANGE_BYTES) + 1
    inner = np.searchsorted(weight, weight[-1] * np.arange(1, n_ranges) / n_ranges)
    return np.concatenate(([0], inner, [len(census.accounts)])).astype(np.int64)


class _Crew:
    """Processes that do what they are handed, one piece at a time."""

    def __init__(self, job: _Job, n: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.names = [f"{i:02d}" for i in range(n)]
        self._pipes: list[Connection] = []
        self._processes = []
        for name in self.names:
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, name), daemon=True)
            process.start()
            theirs.close()
            ours.send(job)
            self._pipes.append(ours)
            self._processes.append(process)

    def __enter__(self) -> _Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            pipe.close()  # whoever still works sees that nobody listens
        for process in self._processes:
            process.join(timeout=5.0)
            if process.is_alive():
                process.terminate()
                process.join()

    def share(self, tasks: Iterable[tuple[Any, ...]]) -> None:
        """Hand out tasks to whoever is free, and wait for the last."""
        waiting = iter(tasks)
        busy = {pipe for pipe in self._pipes if self._send(pipe, next(waiting, None))}
        while busy:
            for pipe in multiprocessing.connection.wait(list(busy)):
                assert isinstance(pipe, Connection), "only pipes are waited for"
                self._take(pipe)
                if not self._send(pipe, next(waiting, None)):
                    busy.discard(pipe)

    def tell_all(self, task: tuple[Any, ...]) -> None:
        """Have every process do one thing."""
        for pipe in self._pipes:
            self._send(pipe, task)
        for pipe in self._pipes:
            self._take(pipe)

    @staticmethod
    def _send(pipe: Connection, task: tuple[Any, ...] | None) -> bool:
        if task is None:
            return False
        try:
            pipe.send(task)
        except OSError as error:
            raise _killed() from error
        return True

    @staticmethod
    def _take(pipe: Connection) -> None:
        try:
            answer = pipe.recv()
        except (EOFError, OSError) as error:
            raise _killed() from error
        if isinstance(answer, BaseException):
            raise answer


def _killed() -> EnvironmentUnfitError:
    message = "a process that folded logs was killed, perhaps for want of memory"
    return EnvironmentUnfitError(message, hint="use --processes 1, or free memory")


def _work(pipe: Connection, name: str) -> None:
    """Live as a process: take tasks until the pipe closes."""
    try:
        worker = _Worker(pipe.recv(), name)
        while True:
            task = pipe.recv()
            try:
                worker.do(task)
                answer: BaseException | None = None
            except StillwatchError as error:
                answer = error
            pipe.send(answer)
    except (EOFError, BrokenPipeError):
        return  # nobody waits for more


class _Worker:
    def __init__(self, job: _Job, name: str) -> None:
        self._folder = Path(job.folder)
        self._tape = None if job.tape is None else Path(job.tape)
        self._shard = Shard(
            job.census, job.bounds, config=job.config, folder=self._folder, name=name
        )

    def do(self, task: tuple[Any, ...]) -> None:
        if task[0] == "fold":
            self._fold(task[1], task[2])
        elif task[0] == "merge":
            merge_range(self._folder, task[1], task[2])
        else:
            self._shard.finish()

    def _fold(self, number: int, unit: Unit) -> None:
        if self._tape is None:
            self._shard.read(read_unit(unit), None)
            return
        with TapeWriter(self._tape, f"{number:06d}") as tape:
            self._shard.read(read_unit(unit), tape)
