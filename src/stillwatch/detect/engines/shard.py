"""What one process of the local engine holds: sums of all accounts, digests on their way to disk.

Sums are added in place, so they take the room of one copy. Digests go to disk sorted by account,
cut at the same accounts in every process, so that a range of accounts can be put together without
looking at the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stillwatch.detect.config import FoldConfig
from stillwatch.detect.engines.census import Census
from stillwatch.detect.profiles.fold import Folding, Tape
from stillwatch.detect.profiles.levels import levels_of
from stillwatch.detect.profiles.profile import (
    Digests,
    Ints,
    Totals,
    no_digests,
    no_totals,
    unite_digests,
)
from stillwatch.detect.profiles.tables import _from_arrow as from_arrow
from stillwatch.detect.profiles.tables import _to_arrow as to_arrow


class Shard(Folding):
    """A fold of parts of a log, told beforehand what the whole log holds.

    Every account has its number, every sample its last key, and the level is settled. So digests
    that are made stay, and go to disk.

    Args:
        census: of the whole log.
        bounds: accounts at which digests are cut, from 0 to the number of accounts.
        config: what is kept.
        folder: for temporary files.
        name: of this process, unlike the others'.
    """

    def __init__(
        self, census: Census, bounds: Ints, *, config: FoldConfig, folder: Path, name: str
    ) -> None:
        super().__init__(config)
        self._number = {name: i for i, name in enumerate(census.accounts.to_pylist())}
        self._totals = no_totals(len(census.accounts))
        self._largest, self._level = census.last_key, census.level
        self._bounds, self._folder, self._name = bounds, folder, name
        self._limit = levels_of(config)[census.level].digests
        self._n_flushed = 0

    def read(self, batches: Iterable[pa.RecordBatch], tape: Tape | None) -> None:
        """Fold a part of the log.

        Args:
            batches: its rows.
            tape: takes them down; None keeps none.
        """
        self._tape = tape
        for batch in batches:
            self.update(batch)

    def finish(self) -> None:
        """Write what waits, and the sums."""
        self._unite()
        for name, column in self._totals._asdict().items():
            np.save(self._folder / f"totals-{self._name}-{name}.npy", column)
        self._totals, self._number = no_totals(0), {}

    def _unite(self) -> None:
        """Write the waiting digests, one file a range of accounts."""
        parts, self._waiting = self._waiting, []
        if not parts:
            return
        whole = unite_digests(parts, self._limit)
        cuts = np.searchsorted(whole.account, self._bounds)
        table = _as_table(whole)
        for number, (first, last) in enumerate(itertools.pairwise(cuts.tolist())):
            if last > first:
                path = digest_path(self._folder, number, f"{self._name}-{self._n_flushed:04d}")
                _write(path, table.slice(first, last - first))
        self._n_flushed += 1


def digest_path(folder: Path, number: int, part: str) -> Path:
    """Name a file of digests.

    Args:
        folder: of temporary files.
        number: of the range of accounts.
        part: which process's, or which part of it.

    Returns:
        The path.
    """
    return folder / f"digests-{number:04d}-{part}.arrow"


def merge_range(folder: Path, number: int, limit: int) -> None:
    """Put the digests of a range of accounts together.

    Args:
        folder: of temporary files.
        number: of the range.
        limit: digests kept of an account.
    """
    paths = sorted(folder.glob(f"digests-{number:04d}-*.arrow"))
    parts = [_read_digests(path) for path in paths]
    for path in paths:
        path.unlink()
    if parts:
        whole = unite_digests(parts, limit)
        _write(digest_path(folder, number, "all"), _as_table(whole))


def sum_totals(folder: Path, names: Sequence[str]) -> Totals:
    """Add up the sums of all processes.

    Args:
        folder: of temporary files.
        names: of the processes.

    Returns:
        The sums of all accounts.
    """
    columns: list[Any] = []
    for field in Totals._fields:
        paths = [folder / f"totals-{name}-{field}.npy" for name in names]
        whole = np.load(paths[0])
        for path in paths[1:]:
            part = np.load(path)
            if field == "first_seen":
                np.fmin(whole, part, out=whole)
            elif field == "last_seen":
                np.fmax(whole, part, out=whole)
            else:
                whole += part
        columns.append(whole)
        for path in paths:
            path.unlink()
    return Totals(*columns)


def gather_digests(folder: Path) -> Digests:
    """Lay the digests of all ranges end to end, column by column, so that little is held twice.

    Args:
        folder: of temporary files.

    Returns:
        All digests, sorted by account and key.
    """
    paths = sorted(folder.glob("digests-*-all.arrow"))
    if not paths:
        return no_digests()
    columns: list[Any] = []
    for field in range(len(Digests._fields)):
        chunks = [chunk for path in paths for chunk in _read(path, field).column(0).chunks]
        columns.append(from_arrow(pa.chunked_array(chunks)))
    return Digests(*columns)


def _read_digests(path: Path) -> Digests:
    table = _read(path)
    columns: list[Any] = [from_arrow(table.column(name)) for name in Digests._fields]
    return Digests(*columns)


def _as_table(digests: Digests) -> pa.Table:
    return pa.table({name: to_arrow(column) for name, column in digests._asdict().items()})


def _write(path: Path, table: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _read(path: Path, column: int | None = None) -> pa.Table:
    options = pa.ipc.IpcReadOptions(included_fields=None if column is None else [column])
    with pa.OSFile(str(path), "rb") as file, pa.ipc.open_file(file, options=options) as reader:
        return reader.read_all()
