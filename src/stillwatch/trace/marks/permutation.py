"""torch's CPU draws without torch: what transformers' green lists and tables are made of.

`torch.randperm` on a CPU is a Fisher-Yates shuffle that draws from MT19937 seeded with the low 32
bits of the seed. Only the part that is asked for is run.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from stillwatch.trace.radioactivity.windows import Ids, Mask

_N, _M = 624, 397


def are_in_front(seeds: Ids, token_ids: Ids, *, n_front: int, n: int) -> Mask:
    """Tell whether each token stands among the first of its seed's permutation.

    Args:
        seeds: shape (m,), 0 .. 2 ** 32 - 1.
        token_ids: shape (m,), 0 .. n - 1.
        n_front: how many places count (count, at most n).
        n: length of the permutation.

    Returns:
        Shape (m,).
    """
    found: Mask = _are_in_front(seeds.astype(np.uint32), token_ids, n_front, n)
    return found


def permutation_front(seed: int, n_front: int, n: int) -> Ids:
    """Give the first entries of a seed's permutation of 0 .. n - 1.

    Args:
        seed: 0 .. 2 ** 32 - 1.
        n_front: how many entries (count, at most n).
        n: length of the permutation.

    Returns:
        Shape (n_front,).
    """
    front: Ids = _permutation_front(np.uint32(seed), n_front, n)
    return front


def random_words(seed: int, n: int) -> npt.NDArray[np.uint32]:
    """Give the first words of the generator that a seed starts; `torch.randint` takes remainders.

    Args:
        seed: of which the low 32 bits count.
        n: how many words (count).

    Returns:
        Shape (n,), uint32.
    """
    words: npt.NDArray[np.uint32] = _random_words(np.uint32(seed & 0xFFFFFFFF), n)
    return words


@numba.njit(cache=True)
def _random_words(seed: np.uint32, n: int) -> npt.NDArray[np.uint32]:
    state = np.empty(_N, dtype=np.uint32)
    words = np.empty(n, dtype=np.uint32)
    _seeded(seed, state)
    for i in range(n):
        if i % _N == 0:
            _twist(state)
        words[i] = _tempered(state[i % _N])
    return words


@numba.njit(cache=True)
def _seeded(seed: np.uint32, state: npt.NDArray[np.uint32]) -> None:
    state[0] = seed
    for i in range(1, _N):
        before = np.uint64(state[i - 1] ^ (state[i - 1] >> np.uint32(30)))
        state[i] = np.uint32(
            (np.uint64(1812433253) * before + np.uint64(i)) & np.uint64(0xFFFFFFFF)
        )


@numba.njit(cache=True)
def _twist(state: npt.NDArray[np.uint32]) -> None:
    for i in range(_N):
        mixed = (state[i] & np.uint32(0x80000000)) | (state[(i + 1) % _N] & np.uint32(0x7FFFFFFF))
        other = mixed >> np.uint32(1)
        if mixed & np.uint32(1):
            other ^= np.uint32(0x9908B0DF)
        state[i] = state[(i + _M) % _N] ^ other


@numba.njit(cache=True)
def _tempered(word: np.uint32) -> np.uint32:
    word ^= word >> np.uint32(11)
    word ^= (word << np.uint32(7)) & np.uint32(0x9D2C5680)
    word ^= (word << np.uint32(15)) & np.uint32(0xEFC60000)
    return word ^ (word >> np.uint32(18))


@numba.njit(cache=True)
def _are_in_front(  # noqa: PLR0917 - compiled code takes no keywords
    seeds: npt.NDArray[np.uint32], token_ids: Ids, n_front: int, n: int
) -> npt.NDArray[np.bool_]:
    found = np.zeros(len(seeds), dtype=np.bool_)
    state = np.empty(_N, dtype=np.uint32)
    for row in range(len(seeds)):
        _seeded(seeds[row], state)
        place = token_ids[row]
        for i in range(n_front):
            if i % _N == 0:
                _twist(state)
            swapped = i + np.int64(_tempered(state[i % _N])) % (n - i)
            if swapped == place:
                found[row] = True
                break
            if place == i:
                place = swapped
    return found


@numba.njit(cache=True)
def _permutation_front(seed: np.uint32, n_front: int, n: int) -> Ids:
    state = np.empty(_N, dtype=np.uint32)
    _seeded(seed, state)
    entries = np.arange(n)
    for i in range(n_front):
        if i % _N == 0:
            _twist(state)
        swapped = i + np.int64(_tempered(state[i % _N])) % (n - i)
        entries[i], entries[swapped] = entries[swapped], entries[i]
    return entries[:n_front]
