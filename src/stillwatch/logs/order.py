"""Blocks of formats whose records may wait for each other, read ahead by any process.

A worker reads a block as if it were the whole log and says whether that was right: nothing in it
waited for another record, or which keys others would be joined by. Here the blocks are put in order
again. One that stood for itself is taken as it is. The others are read once more, in order and by
this process, so that the result is that of one process reading everything.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from stillwatch.logs.read import Converted, Converter
from stillwatch.logs.reader import ReadOptions
from stillwatch.logs.unit import Block

#: Blocks that were read twice before reading ahead is given up, and their share of all at least.
_MOST_TWICE, _TWICE_SHARE = 4, 0.5


class Apart(NamedTuple):
    """A block that was read by itself.

    Attributes:
        found: what it gave.
        keys: hashes of what its records are joined to others by, sorted, shape (n,), uint64.
        weight: bytes that its records weigh while they wait.
    """

    found: Converted
    keys: NDArray[np.uint64]
    weight: int


def read_apart(name: str, options: ReadOptions, block: Block) -> Apart | None:
    """Read a block as if it were the whole log.

    Args:
        name: the format.
        options: how records are read.
        block: of a file of it.

    Returns:
        What it gave, or None when some of its records need others.
    """
    converter = Converter(name, options)
    keys: set[str] = set()
    converter.tally.keys = keys
    first = converter.convert(block)
    if not converter.tally.is_apart:
        return None
    rest = converter.finish()
    hashes = np.array([xxhash.xxh3_64_intdigest(key.encode()) for key in keys], dtype=np.uint64)
    return Apart(_together(first, rest), np.sort(hashes), converter.tally.weight)


class Order:
    """Takes the blocks of one format, in the order of the log.

    Args:
        name: the format.
        options: how records are read.
    """

    def __init__(self, name: str, options: ReadOptions) -> None:
        self._how = (name, options)
        self._reading: Converter | None = None  # reads in order what does not stand for itself
        self._window = Converter(name, options).tally.window
        self._recent: deque[Apart] = deque()  # what `_reading` may still have waiting
        self._held: deque[tuple[Block, Apart]] = deque()  # later parts may still belong to them
        self._n_twice = self._n_taken = 0
        self._is_in_line = False

    @property
    def is_worth_it(self) -> bool:
        """Whether blocks should go on being read ahead."""
        return self._n_twice < max(_MOST_TWICE, _TWICE_SHARE * self._n_taken)

    def take(self, block: Block, ahead: Apart | None) -> Iterator[Converted]:
        """Take a block.

        Args:
            block: the next of the log.
            ahead: what reading it by itself gave; None when it needs others, or was not read.

        Yields:
            What can be given out, in order.
        """
        self._n_taken += 1
        self._n_twice += ahead is None
        if self._window is None:
            yield self._in_order(block) if ahead is None else ahead.found
        elif ahead is None or self._is_in_line:
            self._is_in_line = True  # the keys of this block are not known to those after it
            yield from self._read_held()
            yield self._in_order(block)
        else:
            yield from self._take_keyed(block, ahead)

    def finish(self) -> Iterator[Converted]:
        """End the log.

        Yields:
            What still waits, in order.
        """
        if self._reading is not None:
            yield self._reading.finish()
        while self._held:
            yield self._held.popleft()[1].found

    def _take_keyed(self, block: Block, ahead: Apart) -> Iterator[Converted]:
        known = [*self._recent, *(held for _, held in self._held)]
        self._held.append((block, ahead))
        if any(np.intersect1d(ahead.keys, one.keys, assume_unique=True).size for one in known):
            self._n_twice += len(self._held)
            yield from self._read_held()
            return
        if self._reading is not None and self._is_past([held for _, held in self._held]):
            yield self._reading.finish()  # nothing that waits there can be met any more
            self._reading = None
            self._recent.clear()
        while self._reading is None and self._is_past([h for _, h in self._held][1:]):
            yield self._held.popleft()[1].found

    def _read_held(self) -> Iterator[Converted]:
        while self._held:
            block, ahead = self._held.popleft()
            self._recent.append(ahead)
            while self._is_past([*self._recent][1:]):
                self._recent.popleft()
            yield self._in_order(block)

    def _is_past(self, later: list[Apart]) -> bool:
        """Whether so much came that what stood before it no longer waits."""
        assert self._window is not None
        n, n_bytes = self._window
        return sum(len(a.keys) for a in later) > n or sum(a.weight for a in later) > n_bytes

    def _in_order(self, block: Block) -> Converted:
        if self._reading is None:
            self._reading = Converter(*self._how)
        return self._reading.convert(block)


def _together(first: Converted, rest: Converted) -> Converted:
    reasons = dict(first.not_asked)
    for reason, n in rest.not_asked.items():
        reasons[reason] = reasons.get(reason, 0) + n
    both = pa.Table.from_batches([first.batch, rest.batch]).combine_chunks().to_batches()
    return Converted(
        both[0] if both else first.batch,
        np.concatenate((first.ids, rest.ids)),
        np.concatenate((first.contents, rest.contents)),
        first.faults + rest.faults,
        first.n_records + rest.n_records,
        reasons,
        first.n_joined + rest.n_joined,
        first.n_split + rest.n_split,
        first.n_broken + rest.n_broken,
    )
