"""A census before the fold: who is in a log, how often, and which exchanges will be kept.

Two narrow columns, read for a fiftieth of the price of the texts, settle everything that a process
which folds a part of the log would otherwise learn too late: the numbers of the accounts, the
level of the profiles, and for each account the largest key that its sample keeps. So no digest is
made in vain, and no sums of accounts are carried about.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stillwatch.detect.config import FoldConfig
from stillwatch.detect.engines.parquet import Unit, read_unit
from stillwatch.detect.profiles.fold import _REFUSALS as REFUSALS
from stillwatch.detect.profiles.levels import level_of, levels_of
from stillwatch.text.ragged import Hashes, starts_of

#: Tables of counts that are summed at once.
_SUM_EVERY = 16
_AHEAD = 8  # units read before they are asked for
_T = TypeVar("_T")
_COUNTS = pa.schema([("account", pa.large_string()), ("n", pa.int64())])


class Census(NamedTuple):
    """What is known of a log before it is folded.

    Attributes:
        accounts: account ids, sorted, unique, large strings.
        exchanges: exchanges of each that will be folded (count).
        level: of the profiles.
        last_key: largest key that the sample of each account keeps, uint64.
    """

    accounts: pa.Array
    exchanges: NDArray[np.int64]
    level: int
    last_key: Hashes


def take_census(units: list[Unit], config: FoldConfig, *, threads: int = 2) -> Census:
    """Read who asked, and under which ids.

    Args:
        units: the log.
        config: how it will be folded.
        threads: readers at once.

    Returns:
        The census.

    Raises:
        RecordError: a file cannot be read.
    """
    with ThreadPoolExecutor(threads) as pool:
        counts = _summed(_in_order(pool, _count, units))
        order = pc.sort_indices(counts["account"])
        accounts = counts["account"].take(order).combine_chunks()
        accounts = accounts.chunk(0) if isinstance(accounts, pa.ChunkedArray) else accounts
        exchanges = counts["n"].take(order).to_numpy()
        level = level_of(exchanges, config)
        kept = levels_of(config)[level].digests
        last_key = _last_keys(
            _in_order(pool, _numbered(accounts), units), np.minimum(exchanges, kept)
        )
    pa.default_memory_pool().release_unused()  # whoever folds needs the room
    return Census(accounts, exchanges, level, last_key)


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[Unit], _T], units: list[Unit]
) -> Iterator[_T]:
    """Map without running far ahead of whoever takes the results."""
    waiting: deque[Future[_T]] = deque()
    for unit in units:
        waiting.append(pool.submit(work, unit))
        if len(waiting) > _AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _count(unit: Unit) -> pa.Table:
    parts = []
    for batch in read_unit(unit, ("account", "action")):
        found = pc.value_counts(_folded(batch)["account"].cast(pa.large_string()))
        parts.append(pa.table([found.field("values"), found.field("counts")], schema=_COUNTS))
    return _sum(parts)


def _numbered(accounts: pa.Array) -> Callable[[Unit], tuple[NDArray[np.int64], Hashes]]:
    from stillwatch.detect.profiles.columns import texts_of
    from stillwatch.text.kernels import hash_texts

    def keys(unit: Unit) -> tuple[NDArray[np.int64], Hashes]:
        batches = read_unit(unit, ("account", "action", "exchange_id"))
        table = pa.Table.from_batches([_folded(batch) for batch in batches])
        names = table["account"].cast(pa.large_string())
        number = pc.index_in(names, value_set=accounts).to_numpy().astype(np.int64)
        found = [hash_texts(texts_of(chunk)) for chunk in table["exchange_id"].chunks]
        return number, np.concatenate([np.empty(0, np.uint64), *found])

    return keys


def _folded(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Leave out what `fold` leaves out."""
    known = pc.fill_null(pc.not_equal(batch["account"], ""), False)
    if "action" in batch.schema.names:
        refused = pc.is_in(batch["action"], pa.array(REFUSALS, batch["action"].type))
        known = pc.and_(known, pc.invert(refused))
    return batch if pc.all(known).as_py() else batch.filter(known)


def _last_keys(
    found: Iterable[tuple[NDArray[np.int64], Hashes]], room: NDArray[np.int64]
) -> Hashes:
    """Keep each account's smallest keys in a heap with the largest on top."""
    from stillwatch.detect.engines.heaps import empty_heaps, offer

    heaps = empty_heaps(starts_of(room))
    for number, keys in found:
        offer(heaps, number, keys)
    return heaps.keys[heaps.starts[:-1]]


def _summed(tables: Iterator[pa.Table]) -> pa.Table:
    """Add up counts, parts of one size with each other, so that none is copied often."""
    stack: list[tuple[int, pa.Table]] = []
    for table in tables:
        stack.append((1, table))
        while len(stack) >= _SUM_EVERY and len({size for size, _ in stack[-_SUM_EVERY:]}) == 1:
            last = stack[-_SUM_EVERY:]
            stack[-_SUM_EVERY:] = [(last[0][0] * _SUM_EVERY, _sum([t for _, t in last]))]
    return _sum([table for _, table in stack])


def _sum(tables: list[pa.Table]) -> pa.Table:
    whole = pa.concat_tables([_COUNTS.empty_table(), *tables])
    grouped = whole.group_by("account", use_threads=False).aggregate([("n", "sum")])
    return grouped.select(["account", "n_sum"]).rename_columns(["account", "n"])
