"""The compiled loop of near-duplicates in a large pool; importing this imports numba."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillwatch.text.runs import compiled


@compiled
def _alike(values: Any, one: Any, other: Any, cut: Any, threshold: Any) -> Any:  # noqa: PLR0917 - a compiled loop takes flat arrays
    """Whether two sorted sets, given by begin and end, are alike enough."""
    (i, end), (j, stop) = one, other
    less, more = min(end - i, stop - j), max(end - i, stop - j)
    # Sets of such sizes cannot be, unless they were cut.
    if less < threshold * more and more < cut:
        return False
    most = cut if more >= cut else less + more
    both, union = 0, 0
    while i < end and j < stop and union < most:
        x, y = values[i], values[j]
        both += x == y
        i += x <= y
        j += y <= x
        union += 1
    union = min(union + end - i + stop - j, most)
    return both >= threshold * union


@compiled
def find_alike(  # noqa: PLR0917 - a compiled loop takes flat arrays
    values: NDArray[np.uint32],
    offsets: NDArray[np.int64],
    buckets: NDArray[np.int32],
    sizes: tuple[int, int, int],
    threshold: float,
) -> NDArray[np.bool_]:
    """Leave rows out that are alike to an earlier one that stays.

    Args:
        values: the sets, sorted, end to end.
        offsets: where each begins, shape (n + 1,).
        buckets: of each row in each band, -1 for one of its own, shape (n, bands).
        sizes: buckets, leaders of a bucket at most, and members of a set at which it was cut.
        threshold: likeness from which a row is left out.

    Returns:
        Rows left out, shape (n,).
    """
    (n_buckets, most_leaders, cut), (n, n_bands) = sizes, buckets.shape
    newest, count = np.full(n_buckets, -1, np.int64), np.zeros(n_buckets, np.int64)
    older = np.empty(n * n_bands, dtype=np.int32)
    leader = np.empty(n * n_bands, dtype=np.int32)
    looked_at, out = np.full(n, -1, dtype=np.int64), np.zeros(n, dtype=np.bool_)
    n_links = 0
    for row in range(n):
        mine = (offsets[row], offsets[row + 1])
        for band in range(n_bands):
            bucket = buckets[row, band]
            link = newest[bucket] if bucket >= 0 else -1
            while link >= 0 and not out[row]:
                head = leader[link]
                link = older[link]
                if looked_at[head] != row:
                    looked_at[head] = row
                    theirs = (offsets[head], offsets[head + 1])
                    out[row] = _alike(values, mine, theirs, cut, threshold)
        if out[row]:
            continue
        for band in range(n_bands):
            bucket = buckets[row, band]
            if bucket >= 0 and count[bucket] < most_leaders:
                older[n_links] = newest[bucket]
                leader[n_links] = row
                newest[bucket] = n_links
                count[bucket] += 1
                n_links += 1
    return out
