"""Processes that share the reading of a log, and what happens when one of them dies.

A worker that is killed ends the reading with one sentence, whatever it was doing: its block is
neither read twice nor left out. Each has a pipe of its own, held by nobody else, so that a death is
seen from either end: a write into a queue that all share would never return once its readers are
dead, and workers would outlive a parent that was killed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Self

from stillwatch.errors import EnvironmentUnfitError
from stillwatch.logs.order import Apart, read_apart
from stillwatch.logs.read import Converted, Converter
from stillwatch.logs.reader import ReadOptions
from stillwatch.logs.readers.registry import SEPARATE
from stillwatch.logs.unit import Block

Outcome = Converted | Apart | None
_ALONE = "read with --processes 1"


class Workers:
    """Processes that read blocks; a context that ends them.

    Args:
        n: how many.
        options: how records are read.
    """

    def __init__(self, n: int, options: ReadOptions) -> None:
        context = multiprocessing.get_context("spawn")
        self._free: SimpleQueue[Connection] = SimpleQueue()
        self._pipes: list[Connection] = []
        self._processes = []
        for _ in range(n):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, options), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._free.put(ours)
            self._processes.append(process)
        self._threads = ThreadPoolExecutor(n)  # one waits for each process

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
        for pipe in self._pipes:
            pipe.close()  # who waits for a block sees that none comes
        for process in self._processes:
            process.join()

    def submit(self, name: str, block: Block) -> Future[Outcome]:
        """Hand a block to whoever is free first.

        Args:
            name: the format, of `SEPARATE` or `LOOSE`.
            block: of a file of it.

        Returns:
            What it will have given; of a loose format as `read_apart` says. Its `result` raises
            `EnvironmentUnfitError` when the worker is killed or has no memory left.
        """
        return self._threads.submit(self._read, name, block)

    def _read(self, name: str, block: Block) -> Outcome:
        pipe = self._free.get()
        try:
            pipe.send((name, block))
            found: Outcome | MemoryError = pipe.recv()
        except (EOFError, OSError) as error:
            message = "a process that read logs was killed, perhaps for want of memory"
            raise EnvironmentUnfitError(message, hint=_ALONE) from error
        finally:
            self._free.put(pipe)
        if isinstance(found, MemoryError):
            message = "a process that read logs had no memory left"
            raise EnvironmentUnfitError(message, hint=_ALONE)
        return found


class _Worker:
    def __init__(self, options: ReadOptions) -> None:
        self._options = options
        self._converters: dict[str, Converter] = {}

    def read(self, name: str, block: Block) -> Outcome:
        if name not in SEPARATE:
            return read_apart(name, self._options, block)
        if name not in self._converters:
            self._converters[name] = Converter(name, self._options)
        return self._converters[name].convert(block)


def _work(pipe: Connection, options: ReadOptions) -> None:
    """Live as a process: read blocks until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's to handle
    worker = _Worker(options)
    with contextlib.suppress(EOFError, OSError):  # the parent is gone, or done
        while True:
            name, block = pipe.recv()
            found: Outcome | MemoryError
            try:
                found = worker.read(name, block)
            except MemoryError:
                found = MemoryError()
            pipe.send(found)
