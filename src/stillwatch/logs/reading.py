"""Reads many files: recognises each, spreads the work over processes, counts whatever happens.

Blocks are handed out and taken back in order, so that the result does not depend on how many
processes there are, and so that no more than a few blocks are in memory.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import chain, groupby, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.errors import InvalidInputError
from stillwatch.logs.envelope import UNKNOWN_TIME
from stillwatch.logs.order import Order
from stillwatch.logs.read import Converted, recognise_block
from stillwatch.logs.reader import ReadOptions
from stillwatch.logs.readers.registry import FORMATS, LOOSE, SEPARATE, Recognition, reader_of
from stillwatch.logs.seen import SeenIds
from stillwatch.logs.source import Source, blocks, find_sources
from stillwatch.logs.unit import Block, Fault
from stillwatch.logs.workers import Outcome, Workers
from stillwatch.record.batches import with_column
from stillwatch.record.exchange import to_batch
from stillwatch.record.segments import read_journal
from stillwatch.record.store import scan_store

_ROWS = 2048
#: Bytes of input below which starting processes costs more than it saves.
_WORTH_PROCESSES = 48 * 2**20
_MOST_PROCESSES = 16
#: Blocks looked at to recognise a file: its first may be one huge line that cannot be read.
_HEAD_BLOCKS = 4
_STEP_BACK_S = 3600.0  # logs are written when calls end, so small steps back are no news


@dataclass(frozen=True)
class ReadRequest:
    """What to read, and how.

    Attributes:
        names: files, folders, glob patterns, or "-".
        options: how records are read.
        format: a format's name, or auto.
        strict: stop at the first record that cannot be read.
        processes: how many to spread the work over; None chooses by cores and size.
    """

    names: tuple[str, ...]
    options: ReadOptions
    format: str = "auto"
    strict: bool = False
    processes: int | None = None


@dataclass
class ReadCounts:
    """What a reading met, in parts: what could be an exchange of its own.

    Most records are one part; one that holds many (an export of spans, a page, an archive) adds its
    others to `split`. Every part is in exactly one place:
    records + split + broken = exchanges + repeated + quarantined + not_asked + joined.

    Attributes:
        records: records seen, empty lines not counted (count).
        exchanges: exchanges given out (count).
        quarantined: faults: records that could not be read, and places where a file broke (count).
        broken: of the quarantined those that are no records but places where a file broke (count).
        not_asked: parts that ask no model: requests of other paths, other spans (count).
        reasons: what they are instead (counts); they sum to `not_asked`.
        joined: parts that went into an exchange with another part (the second half of a pair, later
            rows and events of a call), or that only tell about others (a trace, a batch) (count).
        split: parts beyond the first of a record (count).
        repeated: deliveries of an exchange that came before, left out (count).
        reused_ids: exchanges under an id that another one has, given an id of their own (count).
        steps_back: times that a file's clock went back by more than an hour (count).
        furthest_back_s: the largest step back (seconds).
        forgotten_ids: ids too old to be compared with (count).
    """

    records: int = 0
    exchanges: int = 0
    quarantined: int = 0
    broken: int = 0
    not_asked: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    joined: int = 0
    split: int = 0
    repeated: int = 0
    reused_ids: int = 0
    steps_back: int = 0
    furthest_back_s: float = 0.0
    forgotten_ids: int = 0

    def add(self, found: Converted) -> None:
        """Count what a block held, but for its exchanges and faults.

        Args:
            found: what it gave.
        """
        self.records += found.n_records
        self.broken += found.n_broken
        self.joined += found.n_joined
        self.split += found.n_split
        for reason, n in found.not_asked.items():
            self.not_asked += n
            self.reasons[reason] = self.reasons.get(reason, 0) + n


@dataclass
class FileFound:
    """A file and its format.

    Attributes:
        name: the file.
        format: its format, "" when none fits.
        ground: why, to follow "because it".
    """

    name: str
    format: str
    ground: str


class _Handed(NamedTuple):
    """A block, or a fault, on its way; the future is there when a worker has it."""

    format: str
    item: Block | Fault
    future: Future[Outcome] | None


@dataclass
class Reading:
    """One pass over logs. `batches` runs it; the counts are complete afterwards.

    Attributes:
        request: what to read, and how.
        on_fault: told of each fault as it is met.
        counts: what has been met so far.
        files: the files met so far.
    """

    request: ReadRequest
    on_fault: Callable[[Fault], None] = lambda _: None
    counts: ReadCounts = field(default_factory=ReadCounts)
    files: list[FileFound] = field(default_factory=list)
    _orders: dict[str, Order] = field(default_factory=dict)
    _seen: SeenIds = field(default_factory=SeenIds)
    _clock: tuple[str, float, float] = ("", -np.inf, 0.0)  # file, latest time, lag behind it

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Read everything once.

        Yields:
            Batches of the store's schema, in the order of the sources.

        Raises:
            InvalidInputError: nothing there, no format recognised, or, when strict, the first
                record that cannot be read, with its file and line.
        """
        sources = find_sources(self.request.names)
        if self.request.format != "auto":
            reader_of(self.request.format)  # a wrong name is told before anything is read
        n_processes = self._n_processes(sources)
        if n_processes < 2:
            yield from self._run(sources, None)
            return
        with Workers(n_processes, self.request.options) as workers:
            yield from self._run(sources, workers)

    def _run(self, sources: list[Source], workers: Workers | None) -> Iterator[pa.RecordBatch]:
        self._orders = {}
        waiting: deque[_Handed] = deque()
        room = 0 if workers is None else 2 * self._n_processes(sources) + 1
        for source in sources:
            for name, found in self._blocks(source):
                waiting.append(self._hand_out(name, found, workers))
                while len(waiting) > room:
                    yield from self._take_back(waiting.popleft())
        while waiting:
            yield from self._take_back(waiting.popleft())
        for order in self._orders.values():
            for converted in order.finish():
                yield from self._take(None, converted)
        if not any(found.format for found in self.files):
            message = f"{', '.join(self.request.names)}: no log of a known format"
            hint = f"name it with --format: {', '.join(FORMATS)}"
            raise InvalidInputError(message, hint=hint)

    def _hand_out(self, name: str, found: Block | Fault, workers: Workers | None) -> _Handed:
        if isinstance(found, Fault) or workers is None or name not in SEPARATE | LOOSE:
            return _Handed(name, found, None)
        if name in LOOSE and not self._order(name).is_worth_it:
            return _Handed(name, found, None)
        return _Handed(name, found, workers.submit(name, found))

    def _take_back(self, handed: _Handed) -> Iterator[pa.RecordBatch]:
        name, item, future = handed
        found = None if future is None else future.result()
        if isinstance(item, Fault):
            yield from self._take(None, _fault_only(item))
        elif isinstance(found, Converted):
            yield from self._take(item.file, found)
        else:
            for converted in self._order(name).take(item, found):
                yield from self._take(item.file if name in SEPARATE else None, converted)

    def _order(self, name: str) -> Order:
        if name not in self._orders:
            self._orders[name] = Order(name, self.request.options)
        return self._orders[name]

    def _blocks(self, source: Source) -> Iterator[tuple[str, Block | Fault]]:
        found = _opened(source)
        head: list[Block | Fault] = []
        recognition = self._named(source)
        n_left = _HEAD_BLOCKS
        while recognition is None and n_left and (item := next(found, None)) is not None:
            head.append(item)
            if isinstance(item, Block):
                recognition = recognise_block(item)
                n_left -= 1
        if recognition is None:
            yield from (("", item) for item in head if isinstance(item, Fault))
            if n_left < _HEAD_BLOCKS:
                yield "", Fault(source.name, 1, "no known format; the file was not read")
            return
        self.files.append(FileFound(source.name, recognition.format, recognition.ground))
        yield from ((recognition.format, item) for item in chain(head, found))

    def _named(self, source: Source) -> Recognition | None:
        if source.kind != "file":
            return Recognition("own", f"is a {source.kind}", 1.0)
        if self.request.format != "auto":
            return Recognition(self.request.format.replace("-", "_"), "was named so", 1.0)
        return None

    def _take(self, file: str | None, found: Converted) -> Iterator[pa.RecordBatch]:
        self.counts.add(found)
        for fault in found.faults:
            self.counts.quarantined += 1
            if self.request.strict:
                message = f"{fault.file}:{fault.line}: {fault.reason}"
                raise InvalidInputError(
                    message, hint="without --strict it is put aside and counted"
                )
            self.on_fault(fault)
        for name, part in _by_file(found.batch) if file is None else [(file, found.batch)]:
            self._watch_clock(name, part)
        batch = self._without_repeats(found)
        self.counts.exchanges += batch.num_rows
        if batch.num_rows:
            yield batch

    def _without_repeats(self, found: Converted) -> pa.RecordBatch:
        batch = found.batch
        repeats = self._seen.add(found.ids, found.contents)
        self.counts.forgotten_ids = self._seen.forgotten
        if repeats.reused.any():
            self.counts.reused_ids += int(repeats.reused.sum())
            ids = batch["exchange_id"].to_pylist()
            for row in np.flatnonzero(repeats.reused).tolist():
                ids[row] = f"{ids[row]}#{int(found.contents[row]):016x}"
            batch = with_column(batch, "exchange_id", pa.array(ids, pa.string()))
        if repeats.same.any():
            self.counts.repeated += int(repeats.same.sum())
            batch = batch.filter(pc.invert(pa.array(repeats.same)))
        return batch

    def _watch_clock(self, file: str, batch: pa.RecordBatch) -> None:
        times = batch["started_at"].to_numpy()
        times = times[times != UNKNOWN_TIME]
        if not len(times):
            return
        same_file = self._clock[0] == file
        before, lag = self._clock[1:] if same_file else (-np.inf, 0.0)
        tops = np.maximum.accumulate(np.concatenate(([before], times[:-1])))
        back = np.where(np.isfinite(tops), tops, times) - times
        # A step is where the lag jumps, not every record that still lags.
        jumps = np.diff(np.concatenate(([lag], back))) > _STEP_BACK_S
        self.counts.steps_back += int(jumps.sum())
        self.counts.furthest_back_s = max(self.counts.furthest_back_s, float(back.max()))
        self._clock = (file, max(before, float(times.max())), float(back[-1]))

    def _n_processes(self, sources: Iterable[Source]) -> int:
        if self.request.processes is not None:
            return max(1, self.request.processes)
        size = sum(_size(source) for source in sources)
        cores = len(os.sched_getaffinity(0))
        return min(cores, _MOST_PROCESSES) if size > _WORTH_PROCESSES else 1


def _size(source: Source) -> int:
    path = Path(source.name)
    return path.stat().st_size if source.kind == "file" and path.is_file() else 0


def _opened(source: Source) -> Iterator[Block | Fault]:
    if source.kind == "store":
        row = 1
        for batch in scan_store(Path(source.name), batch_size=_ROWS):
            yield Block(source.name, row, "batch", batch)
            row += batch.num_rows
    elif source.kind == "journal":
        exchanges = (exchange for _, exchange in read_journal(Path(source.name)))
        row = 1
        while held := list(islice(exchanges, _ROWS)):
            yield Block(source.name, row, "rows", held)
            row += len(held)
    else:
        yield from blocks(source)


def _by_file(batch: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Cut a batch where the file changes: what waited is given out among blocks of other files."""
    files = [origin.rpartition(":")[0] for origin in batch["origin"].to_pylist()]
    start = 0
    for file, rows in groupby(files):
        n = len(list(rows))
        yield file, batch.slice(start, n)
        start += n


def _fault_only(fault: Fault) -> Converted:
    nothing = np.zeros(0, dtype=np.uint64)
    return Converted(to_batch(()), nothing, nothing, [fault], 0, n_broken=1)
