"""transformers' SynthID (`SynthIDTextWatermarkingConfig`), with a p-value exact over its keys.

The shipped scheme hashes (context, token) to a number, adds a layer's key, and looks the sum up in
one public table of 65,536 bits. So all randomness of a layer is *by how much the table is shifted*,
windows share entries, and "30 n independent coins" holds for short texts only. Here the null is
computed as it is: the layer's count of ones for every possible shift (one circular correlation),
and the sum over independent layers. Layers have 16 bits of key each, so no evidence from L layers
goes below 65,536 ** -L: 1e-144 for thirty.

Source: Dathathri et al. 2024 for the scheme, the Apache-2.0 source of transformers 5.23 for the
hash, read for the rule; the exact null and the code are ours.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from stillwatch.errors import reject
from stillwatch.stats.pvalues import PValue
from stillwatch.trace.marks.base import WindowScoring
from stillwatch.trace.marks.keys import engine_integer, public_id
from stillwatch.trace.marks.nulls import Null
from stillwatch.trace.marks.permutation import random_words
from stillwatch.trace.marks.protocol import Evidence, Floats
from stillwatch.trace.marks.scoring import distinct_draws
from stillwatch.trace.marks.tails import Term, lattice_upper_tail
from stillwatch.trace.marks.tournament import tournament_logits
from stillwatch.trace.radioactivity.windows import Ids, Windows, context_columns

_MULTIPLIER = np.int64(6364136223846793005)


@dataclass(frozen=True)
class SynthIdMark(WindowScoring):
    """The tournament mark that transformers ships.

    Attributes:
        keys: one integer a layer; equal ones make one layer count twice.
        ngram_len: tokens in a window with its context (count, at least 2).
        sampling_table_size: entries of the public table, a power of two.
        sampling_table_seed: that the table is drawn from.
        falling: weight the layers 10, ..., 1 from the first to the last (the published "weighted
            mean", in whole numbers) instead of equally.
    """

    keys: tuple[int, ...] = field(repr=False)
    ngram_len: int = 5
    sampling_table_size: int = 65_536
    sampling_table_seed: int = 0
    falling: bool = True

    def __post_init__(self) -> None:
        if not self.keys:
            reject("SynthIdMark", "keys", "at least one integer", got=0)
        if not all(-(2**63) <= key < 2**63 for key in self.keys):
            reject("SynthIdMark", "keys", "64-bit integers", got="a larger one")
        if self.ngram_len < 2:
            reject("SynthIdMark", "ngram_len", "at least 2", got=self.ngram_len)
        size = self.sampling_table_size
        if not 2 <= size <= 2**24 or size & (size - 1):
            reject("SynthIdMark", "sampling_table_size", "a power of two up to 2 ** 24", got=size)

    @functools.cached_property
    def key_id(self) -> str:
        """Public name of the keys."""
        settings = (self.ngram_len, self.sampling_table_size, self.sampling_table_seed)
        return public_id("transformers synthid", self.keys, *settings)

    @property
    def context_width(self) -> int:
        """Answer tokens before a token that decide its bits (count)."""
        return self.ngram_len - 1

    @property
    def pad(self) -> int | None:
        """0 stands before the answer's first token."""
        return 0

    @property
    def null(self) -> Null:
        """About the mean of independent fair bits; `score` uses the exact null instead."""
        weights = self._layer_weights
        return Null("layers", 0.5, tuple(float(w) / int(weights.sum()) for w in weights))

    def values(self, windows: Windows, vocab_size: int) -> Floats:
        """Give each window's (weighted) share of ones.

        Args:
            windows: of this mark's width.
            vocab_size: not needed here.

        Returns:
            Shape (n,), 0..1.
        """
        return self._shares(self._states(windows.context_ids, windows.token_ids))

    def token_values(self, context_ids: npt.ArrayLike, vocab_size: int) -> Floats:
        """Give the share of ones of every next token.

        Args:
            context_ids: shape (B, k), 0 where the answer has not begun.
            vocab_size: size of the vocabulary, V.

        Returns:
            Shape (B, V).
        """
        return self._shares(self._grid(context_ids, vocab_size))

    def score(
        self, windows: Windows, vocab_size: int, *, weights: npt.ArrayLike | None = None
    ) -> Evidence:
        """Sum the layers' ones and give the exact tail over keys drawn uniformly.

        Args:
            windows: of this mark's width.
            vocab_size: size of the vocabulary.
            weights: shape (n,), 0 or more, chosen without the key; None for equal weights.

        Returns:
            The weighted sum of ones and its tail.
        """
        states = self._states(windows.context_ids, windows.token_ids)
        draws = self.draws(windows, vocab_size)
        scored = distinct_draws(np.zeros(len(states)), draws, weights)
        if len(scored.kept) == 0:
            return Evidence(0.0, 0, 1.0, 0.0, "nothing scored")
        size = self.sampling_table_size
        counts = np.bincount(states[scored.kept] & (size - 1), scored.weights, minlength=size)
        ones = _ones_by_shift(counts.astype(np.int32).tobytes(), size, self.sampling_table_seed)
        shifts = np.array([key & (size - 1) for key in self.keys], dtype=np.int64)
        statistic = int(self._layer_weights @ ones[shifts])
        tail = _exact_tail(statistic, ones.tobytes(), tuple(self._layer_weights.tolist()))
        words = f"{len(self.keys)} layers, each over all {size:,} shifts of the table, exact"
        return Evidence(float(statistic), len(scored.kept), tail.p_value, tail.log10_p, words)

    def embed(self, context_ids: npt.ArrayLike, logits: npt.ArrayLike) -> Floats:
        """Play the tournament on the logits; divide them by the temperature before.

        Args:
            context_ids: shape (B, k).
            logits: shape (B, V).

        Returns:
            Log-probabilities, shape (B, V).
        """
        given = np.asarray(logits, dtype=np.float64)
        states = self._grid(context_ids, given.shape[1])
        layers = (self._bits(states, key).astype(np.float64) for key in self.keys)
        return tournament_logits(given, layers)

    def with_key(self, key: bytes) -> SynthIdMark:
        """Make the same scheme under another secret.

        Args:
            key: 16 bytes or more; layer i's integer is
                `engine_integer(key, "transformers synthid", bits=31, index=i)`.

        Returns:
            The mark.
        """
        scheme = "transformers synthid"
        keys = (engine_integer(key, scheme, bits=31, index=i) for i in range(len(self.keys)))
        return replace(self, keys=tuple(keys))

    @functools.cached_property
    def _layer_weights(self) -> Ids:
        if not self.falling:
            return np.ones(len(self.keys), dtype=np.int64)
        return np.rint(np.linspace(10, 1, len(self.keys))).astype(np.int64)

    def _states(self, context_ids: npt.ArrayLike, token_ids: npt.ArrayLike) -> Ids:
        contexts = context_columns("SynthIdMark", context_ids, self.context_width)
        return _accumulate(_hash_contexts(contexts), np.asarray(token_ids, dtype=np.int64))

    def _grid(self, context_ids: npt.ArrayLike, vocab_size: int) -> Ids:
        contexts = context_columns("SynthIdMark", context_ids, self.context_width)
        tokens = np.arange(vocab_size, dtype=np.int64)[None, :]
        return _accumulate(_hash_contexts(contexts)[:, None], tokens)

    def _bits(self, states: Ids, key: int) -> npt.NDArray[np.int8]:
        return _bits(states, key, (self.sampling_table_size, self.sampling_table_seed))

    def _shares(self, states: Ids) -> Floats:
        weights = self._layer_weights
        total = np.zeros(states.shape)
        for weight, key in zip(weights, self.keys, strict=True):
            total += weight * self._bits(states, key)
        return total / int(weights.sum())


def _hash_contexts(contexts: Ids) -> Ids:
    state = np.ones(len(contexts), dtype=np.int64)
    for column in contexts.T:
        state = _accumulate(state, column)
    return state


def _accumulate(state: Ids, data: Ids | np.int64) -> Ids:
    """One step of the scheme's linear congruential hash, wrapping at 64 bits."""
    with np.errstate(over="ignore"):
        stepped: Ids = (state + data) * _MULTIPLIER + np.int64(1)
    return stepped


def _bits(states: Ids, key: int, size_and_seed: tuple[int, int]) -> npt.NDArray[np.int8]:
    entries = _accumulate(states, np.int64(key)) & (size_and_seed[0] - 1)
    return np.asarray(_sampling_table(*size_and_seed)[entries], dtype=np.int8)


@functools.lru_cache(maxsize=2)
def _ones_by_shift(counts: bytes, size: int, seed: int) -> Ids:
    """Count a layer's ones for every key k: the sum over states x of counts[x] bit(x + k).

    The same text is scored with thousands of decoy keys, so the last texts are kept.
    """
    bits = _bits(np.arange(size, dtype=np.int64), 0, (size, seed)).astype(np.float64)
    product = np.conj(np.fft.rfft(np.frombuffer(counts, dtype=np.int32))) * np.fft.rfft(bits)
    ones: Ids = np.rint(np.fft.irfft(product, n=size)).astype(np.int64)
    ones.setflags(write=False)
    return ones


@functools.lru_cache(maxsize=8192)
def _exact_tail(statistic: int, ones: bytes, layer_weights: tuple[int, ...]) -> PValue:
    values, counts = np.unique(np.frombuffer(ones, dtype=np.int64), return_counts=True)
    chances = counts / counts.sum()
    weights, layers = np.unique(np.array(layer_weights), return_counts=True)
    terms = [Term(values * w, chances, int(n)) for w, n in zip(weights, layers, strict=True)]
    return lattice_upper_tail(statistic, terms)


@functools.lru_cache(maxsize=4)
def _sampling_table(size: int, seed: int) -> npt.NDArray[np.int8]:
    table = (random_words(seed, size) & np.uint32(1)).astype(np.int8)
    table.setflags(write=False)
    return table
