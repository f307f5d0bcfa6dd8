"""Near-duplicates: MinHash bands find candidates, the true likeness decides.

Likeness is Jaccard's over the sets of a text's word runs. Texts that share no band of their MinHash
signatures are never compared; those that do are, so nothing is left out that is not really alike.
A question is left out when it is alike to an earlier one that stays: no chains.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stillwatch.distill.questions.fingerprints import word_hashes
from stillwatch.text.ragged import Ragged, starts_of
from stillwatch.text.tokens import mix, shingle

#: Words in a run. Two keep short questions comparable, where three leave too few runs.
RUN = 2
_HASHES = 64
#: Runs kept of a text at most, the smallest ones: likeness of longer texts is estimated on them.
_MOST_RUNS = 256
#: Earlier questions compared in one bucket at most: templates fill buckets without being alike.
_MOST_LEADERS = 48
#: Chance wanted that a pair at the threshold meets in a bucket.
_RECALL = 0.99


def band_rows(threshold: float) -> int:
    """Choose how many hashes make a band.

    Args:
        threshold: likeness from which a pair is to be found (0..1).

    Returns:
        The most hashes a band that still let a pair at the threshold meet with the chance wanted.
    """
    for rows in (16, 8, 4, 2):
        if 1 - (1 - threshold**rows) ** (_HASHES // rows) >= _RECALL:
            return rows
    return 1


class Signatures:
    """Turns texts into sets of word runs, and into the bands of their MinHash.

    Args:
        threshold: likeness from which two are near-duplicates (0..1).
    """

    def __init__(self, threshold: float) -> None:
        self._rows = band_rows(threshold)
        # Fixed multipliers: equal texts must meet across processes and versions.
        draw = np.random.Generator(np.random.PCG64(0x6E656172))
        self._odd = draw.integers(1, 2**63, _HASHES, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        self._add = draw.integers(0, 2**63, _HASHES, dtype=np.uint64)

    def of(
        self, texts: Sequence[str], salts: Sequence[int] | None = None
    ) -> tuple[list[NDArray[np.uint64]], NDArray[np.uint64]]:
        """Read texts.

        Args:
            texts: any number.
            salts: of each; texts of different salts have nothing in common. None for no salts.

        Returns:
            The set of each, sorted, and its bands, shape (n, bands), 0 for a text without words.
        """
        runs = shingle(word_hashes(texts), width=RUN)
        if salts is not None and any(salts):
            salt = np.repeat(mix(np.array(salts, dtype=np.uint64)), runs.lengths)
            runs = Ragged(mix(runs.values ^ salt), runs.offsets)
        sets = [np.unique(row)[:_MOST_RUNS] for row in np.split(runs.values, runs.offsets[1:-1])]
        return sets, self._bands(sets)

    def _bands(self, sets: list[NDArray[np.uint64]]) -> NDArray[np.uint64]:
        offsets = starts_of(np.array([len(row) for row in sets], dtype=np.int64))
        values = np.concatenate(sets) if sets else np.empty(0, np.uint64)
        n_bands = _HASHES // self._rows
        bands = np.zeros((len(sets), n_bands), dtype=np.uint64)
        filled = np.flatnonzero(np.diff(offsets))
        if not len(filled):
            return bands
        starts = offsets[filled]
        for band in range(n_bands):
            key = np.full(len(filled), np.uint64(band + 1))
            for row in range(band * self._rows, (band + 1) * self._rows):
                hashed = (values ^ self._add[row]) * self._odd[row]
                least = np.minimum.reduceat(hashed ^ (hashed >> np.uint64(29)), starts)
                key = mix(key * np.uint64(0x9E3779B97F4A7C15) + least)
            bands[filled, band] = key
        return bands


def likeness(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> float:
    """Measure how alike two sets are.

    Args:
        one: sorted distinct hashes.
        other: likewise.

    Returns:
        Jaccard's likeness, 0..1; for sets cut to their smallest values, its bottom-k estimate.
    """
    if not len(one) or not len(other):
        return 0.0
    if len(one) < _MOST_RUNS and len(other) < _MOST_RUNS:
        shared = len(np.intersect1d(one, other, assume_unique=True))
        return shared / (len(one) + len(other) - shared)
    union = np.union1d(one, other)[:_MOST_RUNS]
    both = np.intersect1d(one, other, assume_unique=True)
    return float(np.isin(union, both, assume_unique=True).sum()) / len(union)


class NearIndex:
    """Questions taken one after the other, each compared with those that stayed.

    Args:
        threshold: likeness from which one is left out (0..1).
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._signatures = Signatures(threshold)
        self._buckets: dict[int, list[int]] = {}
        self._sets: list[NDArray[np.uint64]] = []

    def add(self, texts: Sequence[str], *, always: bool = False) -> list[bool]:
        """Take texts, in order.

        Args:
            texts: any number.
            always: keep them even if they are alike: seeds, or what was accepted before.

        Returns:
            Whether each was kept.
        """
        if not texts:
            return []
        sets, bands = self._signatures.of(texts)
        return [
            self._one(found, [int(b) for b in keys], always=always)
            for found, keys in zip(sets, bands, strict=True)
        ]

    def _one(self, found: NDArray[np.uint64], keys: list[int], *, always: bool) -> bool:
        if not len(found):
            return True
        if not always:
            near = {n for key in keys for n in self._buckets.get(key, ())}
            if any(likeness(found, self._sets[n]) >= self._threshold for n in near):
                return False
        self._sets.append(found)
        for key in keys:
            bucket = self._buckets.setdefault(key, [])
            if len(bucket) < _MOST_LEADERS:
                bucket.append(len(self._sets) - 1)
        return True


class NearRows:
    """The same for a pool too large for a table of buckets: fingerprints first, then one pass.

    Args:
        threshold: likeness from which a row is left out (0..1).
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._signatures = Signatures(threshold)
        self._bands: list[NDArray[np.uint32]] = []
        self._values = array("I")  # upper halves of the runs' hashes, which keep their order
        self._lengths = array("I")

    def add(self, texts: Sequence[str], salts: Sequence[int] | None = None) -> None:
        """Take texts, in order.

        Args:
            texts: any number.
            salts: of each; texts of different salts are never alike. None for no salts.
        """
        if not texts:
            return
        sets, bands = self._signatures.of(texts, salts)
        # The upper half of a key is enough to meet by: what meets is compared.
        self._bands.append(_upper_half(bands))
        self._lengths.extend(len(row) for row in sets)
        self._values.frombytes(_upper_half(np.concatenate(sets)).tobytes())

    def left_out(self, dropped: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Find the rows that are alike to an earlier one that stays.

        Args:
            dropped: rows that are out already, shape (n,); they are compared with nothing.

        Returns:
            Rows that are alike, shape (n,).
        """
        found = np.zeros(len(dropped), dtype=bool)
        if not self._bands:
            return found
        from stillwatch.distill.questions.near_loop import find_alike

        values = np.frombuffer(self._values, dtype=np.uint32)
        offsets = starts_of(np.array(self._lengths, dtype=np.int64))
        alive = np.flatnonzero(~dropped & (np.diff(offsets) > 0))
        buckets, n_buckets = self._buckets(alive)
        meets = (buckets >= 0).any(axis=1)
        rows = alive[meets]
        sets = Ragged(values, offsets).take(rows)
        sizes = (n_buckets, _MOST_LEADERS, _MOST_RUNS)
        found[rows] = find_alike(sets.values, sets.offsets, buckets[meets], sizes, self._threshold)
        return found

    def _buckets(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int32], int]:
        """Number the buckets that hold more than one row; -1 for a bucket of one."""
        n_bands = self._bands[0].shape[1]
        found = np.full((len(rows), n_bands), -1, dtype=np.int32)
        n_buckets = 0
        for band in range(n_bands):
            keys = np.concatenate([part[:, band] for part in self._bands])[rows]
            _, code, counts = np.unique(keys, return_inverse=True, return_counts=True)
            number = np.where(counts > 1, np.cumsum(counts > 1) - 1 + n_buckets, -1)
            found[:, band] = number[code]
            n_buckets += int((counts > 1).sum())
        return found, n_buckets


def _upper_half(hashes: NDArray[np.uint64]) -> NDArray[np.uint32]:
    return (hashes >> np.uint64(32)).astype(np.uint32)


def first_of_equal(ids: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Find the first row of each id.

    Args:
        ids: shape (n,).

    Returns:
        True where the id comes for the first time.
    """
    first = np.zeros(len(ids), dtype=bool)
    first[np.unique(ids, return_index=True)[1]] = True
    return first


def expected_recall(threshold: float, like: float) -> float:
    """Say how likely a pair is to be compared at all.

    Args:
        threshold: what the bands are made for.
        like: the pair's likeness (0..1).

    Returns:
        The chance, 0..1.
    """
    rows = band_rows(threshold)
    return 1 - math.pow(1 - math.pow(like, rows), _HASHES // rows)
