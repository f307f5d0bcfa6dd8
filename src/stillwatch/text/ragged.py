"""Rows of unequal length in two flat arrays, and the few operations that profiles need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Offsets = NDArray[np.int64]


class Ragged:
    """Lists of 64-bit hashes, one list a row, laid end to end.

    Args:
        values: all rows end to end, shape (n_values,), uint64.
        offsets: row `i` is `values[offsets[i]:offsets[i + 1]]`, shape (n_rows + 1,), from 0.
    """

    __slots__ = ("offsets", "values")

    def __init__(self, values: NDArray[Any], offsets: NDArray[Any]) -> None:
        self.values: Hashes = np.ascontiguousarray(values, dtype=np.uint64)
        self.offsets: Offsets = np.ascontiguousarray(offsets, dtype=np.int64)

    @classmethod
    def empty(cls, n_rows: int) -> Ragged:
        """Build rows that hold nothing.

        Args:
            n_rows: how many.

        Returns:
            `n_rows` empty rows.
        """
        return cls(np.empty(0, np.uint64), np.zeros(n_rows + 1, np.int64))

    @classmethod
    def concatenate(cls, parts: Sequence[Ragged]) -> Ragged:
        """Put the rows of several one after another.

        Args:
            parts: any number.

        Returns:
            All rows, in order.
        """
        if not parts:
            return cls.empty(0)
        values = np.concatenate([part.values for part in parts])
        lengths = np.concatenate([part.lengths for part in parts])
        return cls(values, starts_of(lengths))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Offsets:
        """Values in each row, shape (n_rows,)."""
        return np.diff(self.offsets)

    @property
    def rows(self) -> Offsets:
        """The row of each value, shape (n_values,)."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    def take(self, rows: NDArray[Any]) -> Ragged:
        """Pick rows, in the order asked for, repeats allowed.

        Args:
            rows: row numbers, shape (n,).

        Returns:
            The rows picked.
        """
        lengths = self.lengths[rows]
        offsets = starts_of(lengths)
        within = np.arange(offsets[-1], dtype=np.int64) - np.repeat(offsets[:-1], lengths)
        return Ragged(self.values[np.repeat(self.offsets[rows], lengths) + within], offsets)

    def keep(self, mask: NDArray[np.bool_]) -> Ragged:
        """Drop values, keep all rows.

        Args:
            mask: which values stay, shape (n_values,).

        Returns:
            The same number of rows, shorter or empty ones among them.
        """
        counts = np.concatenate(([0], np.cumsum(mask)))
        return Ragged(self.values[mask], counts[self.offsets])

    def smallest_distinct(self, limit: int) -> Ragged:
        """Keep the smallest distinct values of each row, sorted: a bottom-k sketch of its set.

        Args:
            limit: values kept at most in a row; which ones does not depend on the other rows.

        Returns:
            The same number of rows.
        """
        rows = self.rows
        order = np.lexsort((self.values, rows))
        values, rows = self.values[order], rows[order]
        fresh = np.ones(len(values), dtype=bool)
        fresh[1:] = (values[1:] != values[:-1]) | (rows[1:] != rows[:-1])
        values, rows = values[fresh], rows[fresh]
        lengths = np.bincount(rows, minlength=len(self)).astype(np.int64)
        starts = starts_of(lengths)
        rank = np.arange(len(values)) - starts[rows]
        return Ragged(values[rank < limit], starts_of(np.minimum(lengths, limit)))


def starts_of(lengths: NDArray[Any]) -> Offsets:
    """Turn lengths of rows into offsets.

    Args:
        lengths: shape (n_rows,).

    Returns:
        Offsets, shape (n_rows + 1,), the first 0.
    """
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
