"""Counting who uses what, over tens of millions of pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillwatch.detect.profiles.profile import Ints
from stillwatch.text.ragged import Ragged

#: Bits of the largest table of buckets: half a gigabyte.
_MOST_BITS = 26
#: Bits beyond those that number the values wanted, so that few others share a bucket with one.
_SPARE_BITS = 3


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


def numbered(values: NDArray[Any]) -> tuple[NDArray[Any], Ints]:
    """Number values as `numpy.unique(values, return_inverse=True)` does, several times as fast.

    Args:
        values: integers, none negative, shape (n,).

    Returns:
        The distinct values, sorted, and the number of each value among them.
    """
    n = len(values)
    bits = max(n - 1, 0).bit_length()
    if n == 0 or int(values.max()).bit_length() + bits > 64:
        distinct, number = np.unique(values, return_inverse=True)
        return distinct, number.astype(np.int64)
    from stillwatch.detect.profiles import loops

    # Sorting values is far faster than sorting places by values; so each takes its place along.
    packed = values.astype(np.uint64)
    packed <<= np.uint64(bits)
    packed |= np.arange(n, dtype=np.uint64)
    packed.sort()
    distinct, number = loops.ranks(packed, bits)
    return distinct.astype(values.dtype), number


def look_up(wanted: NDArray[Any], values: Ragged) -> tuple[Ints, Ints]:
    """Find where values of a list stand.

    Args:
        wanted: the list, sorted, distinct, of the type of `values`.
        values: rows to look in.

    Returns:
        For every value that is in the list, in the order of the rows: its row, and its number in
        the list.
    """
    if not len(wanted):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    from stillwatch.detect.profiles import loops

    width = 8 * values.values.dtype.itemsize
    bits = min(max(len(wanted).bit_length() + _SPARE_BITS, 8), _MOST_BITS)
    wanted = wanted.astype(values.values.dtype, copy=False)
    bucket = (wanted >> wanted.dtype.type(width - bits)).astype(np.int64)
    starts = np.zeros((1 << bits) + 1, dtype=np.int64)
    np.cumsum(np.bincount(bucket, minlength=1 << bits), out=starts[1:])
    found: tuple[Ints, Ints] = loops.look_up(
        values.values, values.offsets, wanted, starts, width - bits
    )
    return found


def rows_of(account: Ints, wanted: Ints) -> Ints:
    """Find the rows of some accounts.

    Args:
        account: account of each row, sorted.
        wanted: account numbers, sorted, distinct.

    Returns:
        Rows, sorted.
    """
    first = np.searchsorted(account, wanted, side="left")
    length = np.searchsorted(account, wanted, side="right") - first
    shift = np.repeat(first - (np.cumsum(length) - length), length)
    return np.asarray(shift + np.arange(int(length.sum())), dtype=np.int64)


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
    from stillwatch.detect.profiles import loops

    found: Ints = loops.shared(
        values.values.astype(np.uint32, copy=False), values.offsets, account, (bits, least)
    )
    return found
