"""Which family's wording an exchange carries, looked up at memory speed.

Importing this module imports numba.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stillwatch.text.ragged import Ragged
from stillwatch.text.runs import compiled

#: Fibonacci hashing: bottom-k shingles are all small numbers, and must be spread.
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
#: A gate of 2^20 bits stays in the processor's cache, and turns most of honest wording away.
_GATE_BITS = 20
_GATE_SHIFT, _LOW, _EIGHT = np.uint64(64 - _GATE_BITS), np.uint64(7), np.uint64(3)
#: Shingles of a row that are looked at; a tape holds 20 at most.
_MOST = 64


class _Table(NamedTuple):
    """An open-addressing table.

    Attributes:
        shingles: shape (2^b,), uint32.
        family: of each slot, -1 where it is free, int32.
        gate: bits that say "perhaps there", uint8.
        shift: 64 - b.
        least: shingles that each family asks for, float64.
    """

    shingles: NDArray[np.uint32]
    family: NDArray[np.int32]
    gate: NDArray[np.uint8]
    shift: np.uint64
    least: NDArray[np.float64]


class WordingTable:
    """Families of wording, ready to be looked up.

    Args:
        wording: distinct shingles, one row a family; none in two families.
        least: shingles of a family that a row must carry to belong to it, shape (n_families,).
    """

    def __init__(self, wording: Ragged, least: NDArray[np.float64]) -> None:
        bits = max(4, int(4 * max(len(wording.values), 1)).bit_length())
        self._table = _Table(
            np.zeros(1 << bits, np.uint32),
            np.full(1 << bits, -1, np.int32),
            np.zeros(1 << (_GATE_BITS - 3), np.uint8),
            np.uint64(64 - bits),
            np.ascontiguousarray(least, np.float64),
        )
        shingles = np.ascontiguousarray(wording.values, np.uint32)
        _fill(self._table, shingles, wording.rows.astype(np.int32))

    def family_of(self, rows: Ragged) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Tell the family of each row.

        Args:
            rows: shingles, one row an exchange.

        Returns:
            The family most of whose shingles the row carries, the lowest number among equals, -1
            when it carries too few of any; and how many. Shape (n_rows,) each.
        """
        family, count = np.full(len(rows), -1, np.int32), np.zeros(len(rows), np.int32)
        values = np.ascontiguousarray(rows.values, np.uint32)
        _look_up(self._table, (values, rows.offsets), (family, count))
        return family, count


@compiled
def _fill(table: Any, shingles: Any, family: Any) -> None:
    for i in range(len(shingles)):
        spread = np.uint64(shingles[i]) * _SPREAD
        door = spread >> _GATE_SHIFT
        table.gate[door >> _EIGHT] |= np.uint8(1) << np.uint8(door & _LOW)
        place = _place(table, shingles[i])
        table.shingles[place] = shingles[i]
        table.family[place] = family[i]


@compiled
def _place(table: Any, shingle: Any) -> Any:
    """Find the slot of a shingle, or the free one where it would stand."""
    place = np.int64((np.uint64(shingle) * _SPREAD) >> table.shift)
    while table.family[place] >= 0 and table.shingles[place] != shingle:
        place = (place + 1) & (len(table.family) - 1)
    return place


@compiled
def _family_of(table: Any, shingle: Any) -> Any:
    door = (np.uint64(shingle) * _SPREAD) >> _GATE_SHIFT
    if not table.gate[door >> _EIGHT] & (np.uint8(1) << np.uint8(door & _LOW)):
        return np.int32(-1)
    return table.family[_place(table, shingle)]


@compiled
def _look_up(table: Any, rows: Any, found: Any) -> None:
    values, offsets = rows
    seen, times = np.empty(_MOST, np.int32), np.empty(_MOST, np.int32)
    for row in range(len(offsets) - 1):
        n = 0
        for at in range(offsets[row], min(offsets[row + 1], offsets[row] + _MOST)):
            family = _family_of(table, values[at])
            if family < 0:
                continue
            k = 0
            while k < n and seen[k] != family:
                k += 1
            if k == n:
                seen[n], times[n] = family, 0
                n += 1
            times[k] += 1
        _choose(table.least, seen[:n], times[:n], (found[0], found[1], row))


@compiled
def _choose(least: Any, seen: Any, times: Any, into: Any) -> None:  # noqa: PLR0917 - compiled
    family, count, row = into
    for k in range(len(seen)):
        if times[k] < least[seen[k]] or times[k] < count[row]:
            continue
        if times[k] > count[row] or seen[k] < family[row]:
            family[row], count[row] = seen[k], times[k]
