"""The compiled loops of numbering and looking up; importing this module imports numba."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillwatch.text.runs import compiled


@compiled
def ranks(packed: NDArray[np.uint64], bits: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Run `counting.numbered`: sorted values, each with its place in the lowest `bits` bits."""
    shift = np.uint64(bits)
    mask = (np.uint64(1) << shift) - np.uint64(1)
    n = 0
    for i in range(len(packed)):
        if i == 0 or packed[i] >> shift != packed[i - 1] >> shift:
            n += 1
    distinct = np.empty(n, dtype=np.uint64)
    number = np.empty(len(packed), dtype=np.int64)
    n = -1
    for i in range(len(packed)):
        if i == 0 or packed[i] >> shift != packed[i - 1] >> shift:
            n += 1
            distinct[n] = packed[i] >> shift
        number[packed[i] & mask] = n
    return distinct, number


@compiled
def look_up(  # noqa: PLR0917 - numba takes no keywords
    values: NDArray[Any],
    offsets: NDArray[np.int64],
    wanted: NDArray[Any],
    starts: NDArray[np.int64],
    shift: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Run `counting.look_up`; those wanted of bucket `b` are `wanted[starts[b]:starts[b + 1]]`."""
    n = 0
    for place in range(len(values)):
        bucket = np.int64(np.uint64(values[place]) >> np.uint64(shift))
        for k in range(starts[bucket], starts[bucket + 1]):
            if wanted[k] == values[place]:
                n += 1
                break
    rows, numbers = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    n = 0
    for row in range(len(offsets) - 1):
        for place in range(offsets[row], offsets[row + 1]):
            bucket = np.int64(np.uint64(values[place]) >> np.uint64(shift))
            for k in range(starts[bucket], starts[bucket + 1]):
                if wanted[k] == values[place]:
                    rows[n], numbers[n] = row, k
                    n += 1
                    break
    return rows, numbers
