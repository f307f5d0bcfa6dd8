"""The store: exchanges at rest in Parquet, a folder a day, written and read in bounded memory.

``day=2025-01-31/NAME.parquet``, zstd, the columns of `ARROW_SCHEMA`. A file is written under a
hidden name, synced, and then given its name, so a reader never sees half of one. Any tool that
reads hive-partitioned Parquet (DuckDB, Spark, pandas) reads it as it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow as pa

from stillwatch.errors import RecordError, reject
from stillwatch.record.disk import from_os_error, replace_file
from stillwatch.record.exchange import ARROW_SCHEMA, Exchange, from_batch, to_batch
from stillwatch.record.parquet import DayFile, publish_files, reading
from stillwatch.record.segments import (
    Position,
    SegmentHead,
    read_head,
    read_journal,
    segment_numbers,
    segment_path,
)

_MARKER = "stillwatch-store.json"
ROW_GROUP = 8192  # rows; what a reader must hold at least
#: Characters of text in memory before the fullest day is written out as a row group, however few
#: rows it has: long conversations must not multiply the bound.
_TEXT_IN_MEMORY = 32 * 2**20
_DAY_S = 86_400


class StoreSummary(NamedTuple):
    """What a call wrote.

    Attributes:
        n_exchanges: exchanges written (count).
        n_files: files written (count).
        days: the UTC days touched, ascending, as YYYY-MM-DD.
    """

    n_exchanges: int
    n_files: int
    days: tuple[str, ...]


def write_store(
    folder: Path, exchanges: Iterable[Exchange], *, name: str | None = None
) -> StoreSummary:
    """Add exchanges to a store, one file a day.

    Args:
        folder: the store; made if absent.
        exchanges: any number in any order; held in memory a row group a day at most.
        name: what the files are called. Files of that name are replaced, which makes a repeated
            call harmless. None takes the next free number, so that a repeated call adds twice.

    Returns:
        What was written; nothing of it can be seen before all is read. A call at the same time
        from elsewhere waits.

    Raises:
        InvalidInputError: an exchange has no finite start time.
        EnvironmentUnfitError: the disk is full or the folder cannot be written.
        RecordError: the disk failed.
    """
    folder = Path(folder)
    with exclusive(folder):
        return _write(folder, exchanges, name=name)


def scan_store(
    folder: Path, *, columns: Sequence[str] | None = None, batch_size: int = ROW_GROUP
) -> Iterator[pa.RecordBatch]:
    """Read a store in the order of days, then of files, then of writing.

    Args:
        folder: the store.
        columns: fields of `Exchange` to read, in the order wanted; None reads all.
        batch_size: rows of a batch at most; bounds the memory.

    Yields:
        Batches with exactly the columns asked for; a field that a file lacks is null.

    Raises:
        RecordError: the folder is no store, or a file cannot be read.
        InvalidInputError: a column that is no field of `Exchange`.
    """
    wanted = list(ARROW_SCHEMA.names if columns is None else columns)
    for name in wanted:
        if name not in ARROW_SCHEMA.names:
            reject("scan_store", "columns", f"among {', '.join(ARROW_SCHEMA.names)}", got=name)
    schema = pa.schema([ARROW_SCHEMA.field(name) for name in wanted])
    for path in store_files(folder):
        if not path.exists():  # all in it was forgotten since the folder was read
            continue
        with reading(path) as file:
            present = [name for name in wanted if name in file.schema_arrow.names]
            for batch in file.iter_batches(batch_size, columns=present):
                yield _completed(batch, schema)


def read_store(folder: Path) -> Iterator[Exchange]:
    """Read a store exchange by exchange, in the order of `scan_store`.

    Args:
        folder: the store.

    Yields:
        Each exchange.
    """
    for batch in scan_store(folder, batch_size=1024):
        yield from from_batch(batch)


def count_exchanges(folder: Path) -> int:
    """Count the exchanges of a store from the files' footers.

    Args:
        folder: the store.

    Returns:
        Rows (count).

    Raises:
        RecordError: the folder is no store, or a file cannot be read.
    """
    total = 0
    for path in store_files(folder):
        with reading(path) as file:
            total += file.metadata.num_rows
    return total


def compact(journal_folder: Path, store_folder: Path) -> StoreSummary:
    """Bring what a journal has gained since the last call into a store.

    Killed anywhere and called again, it leaves every exchange in the store once: the files are
    named by the place in the journal where they begin, and that place moves on after they stand.
    The journal may be in use; a call at the same time from elsewhere waits.

    Args:
        journal_folder: read, never changed.
        store_folder: made if absent.

    Returns:
        What was added; zeros when there was nothing new.

    Raises:
        RecordError: no journal there, or a damaged line in it.
        EnvironmentUnfitError: the disk is full or the folder cannot be written.
    """
    journal_folder, store_folder = Path(journal_folder), Path(store_folder)
    head = _journal_head(journal_folder)
    if head is None:  # absent, which reading reports, or opened and still without a line
        return write_store(store_folder, [e for _, e in read_journal(journal_folder)])
    with exclusive(store_folder):
        state = _place_path(store_folder, head)
        start = _load_place(state)
        end = start

        def news() -> Iterator[Exchange]:
            nonlocal end
            for end, exchange in read_journal(journal_folder, after=start):  # noqa: B007 - read below
                yield exchange

        name = f"journal-{head.journal_id}-{start.segment:08d}-{start.offset:012d}"
        summary = _write(store_folder, news(), name=name)
        if end != start:
            replace_file(state, msgspec.json.encode(end))
    return summary


def store_files(folder: Path) -> list[Path]:
    """List the files of a store.

    Args:
        folder: the store.

    Returns:
        Their paths, in the order of days, then of names.

    Raises:
        RecordError: the folder is no store.
    """
    folder = Path(folder)
    files = sorted(folder.glob("day=*/[!.]*.parquet"))
    if not files and not (folder / _MARKER).exists():
        message = f"{folder}: no store here"
        raise RecordError(message, hint="a store is a folder with files day=YYYY-MM-DD/*.parquet")
    return files


def compacted_until(journal_folder: Path, store_folder: Path) -> Position:
    """Tell how far a journal has been brought into a store.

    Args:
        journal_folder: the journal.
        store_folder: the store.

    Returns:
        The place behind the last exchange that the store has; before all places when none.

    Raises:
        RecordError: what the store keeps about the journal cannot be read.
    """
    head = _journal_head(Path(journal_folder))
    return Position(0, 0) if head is None else _load_place(_place_path(Path(store_folder), head))


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a store against other writers; what a killed one left half done goes.

    Args:
        folder: the store; made if absent.

    Yields:
        Once.

    Raises:
        EnvironmentUnfitError: the disk is full or the folder cannot be written.
        RecordError: the disk failed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / _MARKER).exists():
                replace_file(folder / _MARKER, b'{"store":1}\n')
            for left in folder.glob("day=*/.*.part"):
                left.unlink()
            yield
    except OSError as error:
        raise from_os_error(error, path=folder, doing="write the store") from error


def _write(folder: Path, exchanges: Iterable[Exchange], *, name: str | None) -> StoreSummary:
    with contextlib.closing(_Writer(folder, name=name or free_name(folder))) as writer:
        for exchange in exchanges:
            writer.add(exchange)
        return writer.publish(replace=name is not None)


class _Writer:
    """One hidden file a day, filled by row groups, published together."""

    def __init__(self, folder: Path, *, name: str) -> None:
        self._folder = folder
        self._name = name
        self._days: dict[int, _Day] = {}
        self._text = 0
        self._n_exchanges = 0

    def add(self, exchange: Exchange) -> None:
        if not math.isfinite(exchange.started_at):
            reject("write_store", "started_at", "finite epoch seconds", got=exchange.started_at)
        number = math.floor(exchange.started_at / _DAY_S)
        day = self._days.get(number)
        if day is None:
            day = self._days[number] = _Day(self._folder / f"day={day_name(number)}", self._name)
        self._n_exchanges += 1
        self._text += day.add(exchange)
        if len(day.rows) >= ROW_GROUP:
            self._text -= day.flush()
        elif self._text > _TEXT_IN_MEMORY:
            self._text -= max(self._days.values(), key=lambda d: d.text).flush()

    def publish(self, *, replace: bool) -> StoreSummary:
        days = sorted(self._days)
        publish_files([self._days[n] for n in days], self._folder, self._name, replace=replace)
        return StoreSummary(self._n_exchanges, len(days), tuple(day_name(n) for n in days))

    def close(self) -> None:
        for day in self._days.values():
            day.discard()


class _Day(DayFile):
    """A day's file, filled from exchanges."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder, name)
        self.rows: list[Exchange] = []
        self.text = 0

    def add(self, exchange: Exchange) -> int:
        size = sum(len(m.content) for m in exchange.messages)
        size += sum(len(a.text) for a in exchange.answers)
        self.rows.append(exchange)
        self.text += size
        return size

    def flush(self) -> int:
        if self.rows:
            self.writer.write_batch(to_batch(self.rows))
        size, self.rows, self.text = self.text, [], 0
        return size


def day_name(number: int) -> str:
    """Name a day.

    Args:
        number: days since 1970-01-01.

    Returns:
        YYYY-MM-DD.

    Raises:
        InvalidInputError: a day beyond the calendar.
    """
    try:
        return datetime.fromtimestamp(number * _DAY_S, UTC).strftime("%Y-%m-%d")
    except (OverflowError, ValueError, OSError):
        reject("write_store", "started_at", "a time between the years 1 and 9999", got=number)


def _completed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    arrays = [
        batch.column(field.name)
        if field.name in batch.schema.names
        else pa.nulls(batch.num_rows, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _place_path(store_folder: Path, head: SegmentHead) -> Path:
    return store_folder / f"compacted-{head.journal_id}.json"


def free_name(folder: Path) -> str:
    """Choose a name that no file of a store has.

    Args:
        folder: the store.

    Returns:
        The next number's, as `part-000001`.
    """
    numbers = [int(p.stem[5:]) for p in folder.glob("day=*/part-*.parquet") if p.stem[5:].isdigit()]
    return f"part-{max(numbers, default=0) + 1:06d}"


def _journal_head(folder: Path) -> SegmentHead | None:
    numbers = segment_numbers(folder)
    if not numbers:
        return None
    with segment_path(folder, numbers[0]).open("rb") as file:
        return read_head(file.readline())


def _load_place(state: Path) -> Position:
    try:
        return msgspec.json.decode(state.read_bytes(), type=Position)
    except FileNotFoundError:
        return Position(0, 0)
    except msgspec.DecodeError as error:
        message = f"{state}: must hold a place in a journal, and does not"
        raise RecordError(message) from error
