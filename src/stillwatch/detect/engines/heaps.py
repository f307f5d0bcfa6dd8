"""The smallest keys of many accounts at once: one compiled heap an account.

Importing this module imports numba.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from stillwatch.text.ragged import Hashes, Offsets
from stillwatch.text.runs import compiled


class Heaps(NamedTuple):
    """Heaps end to end, the largest key of each on top.

    Attributes:
        keys: uint64; the largest value where nothing is kept yet.
        starts: heap `i` is `keys[starts[i]:starts[i + 1]]`.
    """

    keys: Hashes
    starts: Offsets


@compiled
def offer(heaps: Any, number: Any, keys: Any) -> None:
    """Offer keys to heaps, which keep the smallest.

    Args:
        heaps: changed in place.
        number: heap of each key.
        keys: uint64.
    """
    for i in range(len(keys)):
        first, end = heaps.starts[number[i]], heaps.starts[number[i] + 1]
        if first < end and keys[i] < heaps.keys[first]:
            _sink(heaps.keys[first:end], keys[i])


@compiled
def _sink(heap: Any, key: Any) -> None:
    """Put a key in the place of the largest."""
    at, child = 0, 1
    while child < len(heap):
        if child + 1 < len(heap) and heap[child + 1] > heap[child]:
            child += 1
        if heap[child] <= key:
            break
        heap[at] = heap[child]
        at, child = child, 2 * child + 1
    heap[at] = key


def empty_heaps(starts: Offsets) -> Heaps:
    """Make heaps that hold nothing.

    Args:
        starts: where each begins, and where the last ends.

    Returns:
        The heaps.
    """
    return Heaps(np.full(int(starts[-1]), np.iinfo(np.uint64).max, np.uint64), starts)
