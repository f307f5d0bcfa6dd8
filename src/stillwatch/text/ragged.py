"""Rows of unequal length in two flat arrays, and the few operations that profiles need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Offsets = NDArray[np.int64]


class Ragged:
    """Lists of hashes, one list a row, laid end to end.

    Args:
        values: all rows end to end, shape (n_values,); uint32 (the upper half of a hash, as
            profiles keep it) stays as it is, everything else becomes uint64.
        offsets: row `i` is `values[offsets[i]:offsets[i + 1]]`, shape (n_rows + 1,), from 0.
    """

    __slots__ = ("offsets", "values")

    def __init__(self, values: NDArray[Any], offsets: NDArray[Any]) -> None:
        values = np.asarray(values)
        kind = np.uint32 if values.dtype == np.uint32 else np.uint64
        self.values: NDArray[Any] = np.ascontiguousarray(values, dtype=kind)
        self.offsets: Offsets = np.ascontiguousarray(offsets, dtype=np.int64)

    @classmethod
    def empty(cls, n_rows: int, *, bits: int = 64) -> Ragged:
        """Build rows that hold nothing.

        Args:
            n_rows: how many.
            bits: of the values that are not there, 32 or 64.

        Returns:
            `n_rows` empty rows.
        """
        kind = np.uint32 if bits == 32 else np.uint64
        return cls(np.empty(0, kind), np.zeros(n_rows + 1, np.int64))

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
        from stillwatch.text.runs import copy_runs

        begins = self.offsets[:-1][rows]
        offsets = starts_of(self.offsets[1:][rows] - begins)
        return Ragged(copy_runs(self.values, begins, offsets), offsets)

    def keep(self, mask: NDArray[np.bool_]) -> Ragged:
        """Drop values, keep all rows.

        Args:
            mask: which values stay, shape (n_values,).

        Returns:
            The same number of rows, shorter or empty ones among them.
        """
        counts = np.concatenate(([0], np.cumsum(mask)))
        return Ragged(self.values[mask], counts[self.offsets])

    def heads(self, most: NDArray[Any] | int) -> Ragged:
        """Keep the first values of each row.

        Args:
            most: values kept of a row, one number or one a row.

        Returns:
            The same number of rows.
        """
        from stillwatch.text.runs import copy_runs

        offsets = starts_of(np.minimum(self.lengths, most))
        return Ragged(copy_runs(self.values, self.offsets[:-1], offsets), offsets)

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
