"""Adds whole Arrow batches to a store: what `write_store` does for exchanges, without unpacking."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.record.exchange import ARROW_SCHEMA
from stillwatch.record.parquet import DayFile, publish_files
from stillwatch.record.store import ROW_GROUP, StoreSummary, day_name, exclusive, free_name

_DAY_S = 86_400
_HELD_BYTES = 64 * 2**20  # of rows in memory, all days together, before the fullest is written out


def write_batches(
    folder: Path, batches: Iterable[pa.RecordBatch], *, name: str | None = None
) -> StoreSummary:
    """Add batches to a store, one file a day.

    Args:
        folder: the store; made if absent.
        batches: of the store's schema, rows in any order, with finite start times.
        name: what the files are called; files of that name are replaced. None takes the next free
            number.

    Returns:
        What was written; nothing of it can be seen before all is read.

    Raises:
        InvalidInputError: a start time beyond the calendar.
        EnvironmentUnfitError: the disk is full or the folder cannot be written.
        RecordError: the disk failed.
    """
    folder = Path(folder)
    with exclusive(folder):
        writer = _BatchWriter(folder, name or free_name(folder))
        with contextlib.closing(writer):
            for batch in batches:
                writer.add(batch)
            return writer.publish(replace=name is not None)


class _BatchWriter:
    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._days: dict[int, _DayFile] = {}
        self._held = 0
        self._n_rows = 0

    def add(self, batch: pa.RecordBatch) -> None:
        if not batch.num_rows:
            return
        self._n_rows += batch.num_rows
        numbers = np.floor(batch["started_at"].to_numpy() / _DAY_S).astype(np.int64)
        days = np.unique(numbers)
        for number in days.tolist():
            part = batch if len(days) == 1 else batch.filter(pa.array(numbers == number))
            day = self._days.get(number)
            if day is None:
                place = self._folder / f"day={day_name(number)}"
                day = self._days[number] = _DayFile(place, self._name)
            self._held += day.add(part)
            if day.n_rows >= ROW_GROUP:
                self._held -= day.flush()
        while self._held > _HELD_BYTES:
            self._held -= max(self._days.values(), key=lambda d: d.held).flush()

    def publish(self, *, replace: bool) -> StoreSummary:
        days = sorted(self._days)
        publish_files([self._days[n] for n in days], self._folder, self._name, replace=replace)
        return StoreSummary(self._n_rows, len(days), tuple(map(day_name, days)))

    def close(self) -> None:
        for day in self._days.values():
            day.discard()


class _DayFile(DayFile):
    """A day's file, filled from batches."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder, name)
        self.n_rows = 0
        self.held = 0
        self._parts: list[pa.RecordBatch] = []

    def add(self, part: pa.RecordBatch) -> int:
        size = int(part.nbytes)
        self._parts.append(part)
        self.n_rows += part.num_rows
        self.held += size
        return size

    def flush(self) -> int:
        if self._parts:
            table = pa.Table.from_batches(self._parts, ARROW_SCHEMA).combine_chunks()
            self.writer.write_table(table, row_group_size=ROW_GROUP)
        size, self._parts, self.held, self.n_rows = self.held, [], 0, 0
        return size


def with_column(batch: pa.RecordBatch, name: str, values: pa.Array) -> pa.RecordBatch:
    """Replace a column.

    Args:
        batch: of the store's schema.
        name: a column of it.
        values: as many as rows, castable to the column's type.

    Returns:
        The new batch.
    """
    place = batch.schema.get_field_index(name)
    field = batch.schema.field(place)
    return batch.set_column(place, field, pc.cast(values, field.type))
