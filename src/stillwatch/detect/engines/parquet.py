"""Parquet in the store's schema, cut into units that any process can read by itself."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from stillwatch.detect.profiles.fold import COLUMNS
from stillwatch.logs.source import Source
from stillwatch.record.exchange import ARROW_SCHEMA
from stillwatch.record.parquet import reading
from stillwatch.record.store import store_files

#: Rows of a unit at least, and of a batch at most: long enough that calls do not show, short
#: enough that two processes end together and that a batch stays in tens of megabytes.
UNIT_ROWS, BATCH_ROWS = 65_536, 16_384
_NEEDED = ("exchange_id", "account", "started_at")


class Unit(NamedTuple):
    """Some row groups of a file.

    Attributes:
        path: the file.
        groups: numbers of row groups.
        n_rows: of all of them.
    """

    path: str
    groups: tuple[int, ...]
    n_rows: int


class Split(NamedTuple):
    """The sources of a log by how they are read.

    Attributes:
        paths: Parquet in the store's schema: shared out over processes.
        others: whatever must be read in order.
    """

    paths: tuple[Path, ...]
    others: tuple[Source, ...]


def split_sources(sources: Iterable[Source]) -> Split:
    """Tell Parquet in the store's schema from all else.

    Args:
        sources: as `logs.source.find_sources` lists them.

    Returns:
        Both, each in the order given.

    Raises:
        RecordError: a store's folder holds none.
    """
    paths: list[Path] = []
    others: list[Source] = []
    for source in sources:
        if source.kind == "store":
            paths += store_files(Path(source.name))
        elif source.kind == "file" and _is_own(Path(source.name)):
            paths.append(Path(source.name))
        else:
            others.append(source)
    return Split(tuple(paths), tuple(others))


def units_of(paths: Iterable[Path], *, unit_rows: int = UNIT_ROWS) -> list[Unit]:
    """Cut files into units.

    Args:
        paths: Parquet files.
        unit_rows: rows of a unit at least, unless the file ends.

    Returns:
        Units, in order; empty files give none.

    Raises:
        RecordError: a file cannot be read.
    """
    units = []
    for path in paths:
        if not path.exists():  # all in it was forgotten since the folder was read
            continue
        with reading(path) as file:
            sizes = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
        groups: list[int] = []
        for group, size in enumerate(sizes):
            groups += [group] if size else []
            n_rows = sum(sizes[g] for g in groups)
            if groups and (n_rows >= unit_rows or group == len(sizes) - 1):
                units.append(Unit(str(path), tuple(groups), n_rows))
                groups = []
    return units


def read_unit(unit: Unit, columns: Sequence[str] = COLUMNS) -> Iterator[pa.RecordBatch]:
    """Read a unit's rows.

    Args:
        unit: where they are.
        columns: fields of `Exchange`; those that the file lacks are left out. Of messages only
            roles and texts are read.

    Yields:
        Batches.

    Raises:
        RecordError: the file cannot be read.
    """
    with reading(Path(unit.path)) as file:
        leaves = [
            path
            for path in (file.schema.column(i).path for i in range(len(file.schema)))
            if path.partition(".")[0] in columns and not path.endswith(".extra")
        ]
        yield from file.iter_batches(
            BATCH_ROWS, row_groups=list(unit.groups), columns=leaves, use_threads=False
        )


def _is_own(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = os.read(file.fileno(), 4)
    if head != b"PAR1":
        return False
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError):
        return False  # whoever reads it in order says what is wrong with it
    fields = [schema.field(name) for name in COLUMNS if name in schema.names]
    return all(name in schema.names for name in _NEEDED) and all(
        field.type == ARROW_SCHEMA.field(field.name).type for field in fields
    )
