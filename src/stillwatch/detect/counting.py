"""Counting who uses what, over tens of millions of pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillwatch.detect.profile import Ints
from stillwatch.text.ragged import Ragged

#: Bits of the largest table of buckets: half a gigabyte.
_MOST_BITS = 26


def distinct(values: NDArray[Any]) -> NDArray[Any]:
    """Sort and drop repeats; several times as fast as `numpy.unique`, which hashes.

    Args:
        values: any integers, shape (n,).

    Returns:
        The distinct values, sorted.
    """
    values = np.sort(values)
    if not len(values):
        return values
    return values[np.concatenate(([True], values[1:] != values[:-1]))]


def shared_values(values: Ragged, account: Ints, *, least: int) -> Ints:
    """Find the values that several accounts use, before anything is sorted.

    Args:
        values: one row a digest, sorted by account; 32-bit hashes.
        account: account of each digest.
        least: accounts that must use a value.

    Returns:
        Places in `values.values` of values in a bucket that at least so many accounts use: all
        that are wanted, and few others.
    """
    n = len(values.values)
    bits = int(np.clip(np.ceil(np.log2(max(n, 1))) + 1, 10, _MOST_BITS))
    from stillwatch.detect import loops

    found: Ints = loops.shared(
        values.values.astype(np.uint32, copy=False), values.offsets, account, (bits, least)
    )
    return found
