"""Ids that have been seen, for repeated deliveries, at 16 bytes an exchange."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
#: Exchanges remembered: 384 MiB at most.
_REMEMBERED = 24 * 2**20


class Repeats(NamedTuple):
    """Which exchanges of a batch have an id that came before.

    Attributes:
        same: repeated deliveries, the same content under the same id, shape (n,), bool.
        reused: other content under an id that is taken, shape (n,), bool.
    """

    same: NDArray[np.bool_]
    reused: NDArray[np.bool_]


class SeenIds:
    """Remembers ids in sorted runs, each at least twice as long as the next.

    Args:
        remembered: exchanges remembered at most; beyond them the oldest are forgotten.

    Attributes:
        forgotten: exchanges forgotten (count).
    """

    def __init__(self, *, remembered: int = _REMEMBERED) -> None:
        self.forgotten = 0
        self._remembered = remembered
        self._ids: list[Hashes] = []
        self._contents: list[Hashes] = []

    def add(self, ids: Hashes, contents: Hashes) -> Repeats:
        """Look exchanges up and remember them.

        Args:
            ids: hash of each id, shape (n,).
            contents: hash of each id with its content, shape (n,).

        Returns:
            Which came before, in this batch or earlier.
        """
        known_id, known_content = _again(ids), _again(contents)
        for run in self._ids:
            known_id |= _isin(ids, run)
        if known_id.any():
            for run in self._contents:
                known_content |= _isin(contents, run)
        self._remember(self._ids, ids)
        self._remember(self._contents, contents)
        while sum(map(len, self._ids)) > self._remembered and len(self._ids) > 1:
            self.forgotten += len(self._ids.pop(0))
            self._contents.pop(0)
        return Repeats(known_id & known_content, known_id & ~known_content)

    def _remember(self, runs: list[Hashes], values: Hashes) -> None:
        runs.append(np.sort(values))
        largest = self._remembered // 4
        while len(runs) > 1 and len(runs[-2]) < 2 * len(runs[-1]) and len(runs[-2]) < largest:
            last, before = runs.pop(), runs.pop()
            runs.append(np.sort(np.concatenate((before, last)), kind="stable"))


def _isin(values: Hashes, run: Hashes) -> NDArray[np.bool_]:
    if not len(run):
        return np.zeros(len(values), dtype=bool)
    place = np.minimum(np.searchsorted(run, values), len(run) - 1)
    return np.asarray(run[place] == values)


def _again(values: Hashes) -> NDArray[np.bool_]:
    """Which values stand earlier in the same array."""
    _, first = np.unique(values, return_index=True)
    again = np.ones(len(values), dtype=bool)
    again[first] = False
    return again
