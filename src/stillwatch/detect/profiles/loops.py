"""The compiled loops of clustering, counting and looking up; importing this imports numba."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillwatch.text.runs import compiled


@compiled
def lead(
    values: NDArray[np.int64], starts: NDArray[np.int64], sizes: tuple[int, float]
) -> NDArray[np.int64]:
    """Run `clusters.lead`; `sizes` are its `n_members` and `least`."""
    n_members, least = sizes
    n_sets = len(starts) - 1
    cluster = np.zeros(n_sets, dtype=np.int64)
    size = np.zeros(n_sets, dtype=np.int64)
    shared = np.zeros(n_sets, dtype=np.int64)
    touched = np.zeros(n_sets, dtype=np.int64)
    # A linked list of leaders for every member.
    newest = np.full(n_members, -1, dtype=np.int64)
    older = np.empty(len(values), dtype=np.int64)
    leader = np.empty(len(values), dtype=np.int64)
    n_links, n_leaders = 0, 0
    for i in range(n_sets):
        n_touched = 0
        for place in range(starts[i], starts[i + 1]):
            link = newest[values[place]]
            while link >= 0:
                head = leader[link]
                if shared[head] == 0:
                    touched[n_touched] = head
                    n_touched += 1
                shared[head] += 1
                link = older[link]
        length = starts[i + 1] - starts[i]
        best, likeness = -1, least
        for k in range(n_touched):
            head = touched[k]
            alike = shared[head] / (length + size[head] - shared[head])
            if alike > likeness or (alike == likeness and (best < 0 or head < best)):
                best, likeness = head, alike
            shared[head] = 0
        if best < 0:
            best = n_leaders
            size[best] = length
            n_leaders += 1
            for place in range(starts[i], starts[i + 1]):
                older[n_links] = newest[values[place]]
                leader[n_links] = best
                newest[values[place]] = n_links
                n_links += 1
        cluster[i] = best
    return cluster


@compiled
def shared(  # noqa: PLR0917 - numba takes no keywords
    values: NDArray[np.uint32],
    offsets: NDArray[np.int64],
    account: NDArray[np.int64],
    bounds: tuple[int, int],
) -> NDArray[np.int64]:
    """Run `counting.shared_values`; `bounds` are bits of the table and the least users."""
    bits, least = bounds
    shift = np.uint32(32 - bits)
    last = np.full(1 << bits, -1, dtype=np.int32)
    users = np.zeros(1 << bits, dtype=np.int32)
    for row in range(len(offsets) - 1):
        mine = account[row]
        for place in range(offsets[row], offsets[row + 1]):
            bucket = values[place] >> shift
            if last[bucket] != mine:
                last[bucket] = mine
                users[bucket] += 1
    n = 0
    for place in range(len(values)):
        if users[values[place] >> shift] >= least:
            n += 1
    found = np.empty(n, dtype=np.int64)
    n = 0
    for place in range(len(values)):
        if users[values[place] >> shift] >= least:
            found[n] = place
            n += 1
    return found


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
