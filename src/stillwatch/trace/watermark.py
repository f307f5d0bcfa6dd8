"""The green-list watermark: one key schedule and one rule for embedding a mark and for proving it.

Given the tokens just before it, every token is *green* or not by a keyed pseudo-random rule, green
with probability gamma. The model server adds delta to the logits of green tokens; the proof counts
green tokens among distinct windows. This module holds numbers only: it knows no model, no tokenizer
and no text.

Text written without the key hits green windows at rate gamma exactly, window by window and
independently, as long as each distinct (context, token) is counted once. That is why everything
here is de-duplicated over the whole corpus: without it, innocent text looks marked (docs/
watermark.md).

Source: Kirchenbauer et al. 2023 (arXiv 2301.10226) for the rule; the key schedule is ours.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stillwatch.errors import reject
from stillwatch.stats.pvalues import PValue, binomial_upper_tail
from stillwatch.trace.radioactivity.windows import (
    Ids,
    Mask,
    TokenSequence,
    Windows,
    check_ids,
    context_columns,
    distinct_windows,
)

__all__ = [
    "GreenListMark",
    "Ids",
    "Mask",
    "TokenSequence",
    "WindowCounts",
    "Windows",
    "campaign_mark",
    "distinct_windows",
    "keyed_bits",
    "mark_key_id",
    "score_windows",
]

_SCHEDULE = b"stillwatch green list 1\0"
_KEY_ID = b"stillwatch mark key id 1\0"
#: Steele et al. 2014 (SplitMix64): the increment and the two multipliers of its finaliser.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)
#: Up to this vocabulary a table of all (context, token) pairs is kept: 16 MB at most.
_TABLE_VOCAB = 4096


class WindowCounts(NamedTuple):
    """What a count of green windows found.

    Attributes:
        n_windows: distinct windows scored (count).
        n_green: green ones among them (count).
        gamma: the rate of green windows in text that is independent of the key.
    """

    n_windows: int
    n_green: int
    gamma: float

    @property
    def green_rate(self) -> float:
        """Green windows as a ratio 0..1; NaN when none was scored."""
        return self.n_green / self.n_windows if self.n_windows else float("nan")

    def p_value(self) -> PValue:
        """Compute the exact chance of so many green windows in text independent of the key.

        Returns:
            P[Binomial(n_windows, gamma) >= n_green]; 1 when nothing was scored.
        """
        if self.n_windows == 0:
            return PValue(1.0, 0.0)
        return binomial_upper_tail(self.n_green, self.n_windows, self.gamma)


@dataclass(frozen=True)
class GreenListMark:
    """A green-list mark: which tokens are green after which context, and how hard they are pushed.

    Attributes:
        key: 16 bytes or more; two marks with the same key and widths are the same mark.
        key_id: public name of the key, safe to log.
        gamma: share of green tokens, in (0, 1).
        delta: added to the logits of green tokens (nats), 0 or more.
        context_width: how many tokens before a token decide its colour (count).
    """

    key: bytes = field(repr=False)
    key_id: str
    gamma: float = 0.25
    delta: float = 2.0
    context_width: int = 1

    def __post_init__(self) -> None:
        where = "GreenListMark"
        if len(self.key) < 16:
            reject(where, "key", "at least 16 bytes long", got=f"{len(self.key)} bytes")
        if not 0 < self.gamma < 1:
            reject(where, "gamma", "between 0 and 1", got=self.gamma)
        if not (0 <= self.delta < np.inf):
            reject(where, "delta", "finite and not negative", got=self.delta)
        if self.context_width < 1:
            reject(where, "context_width", "at least 1", got=self.context_width)

    def green(self, context_ids: npt.ArrayLike, vocab_size: int) -> Mask:
        """Tell which tokens are green after each context.

        Args:
            context_ids: shape (B, k), k >= context_width; the last context_width columns count.
            vocab_size: size of the vocabulary, V.

        Returns:
            Shape (B, V), True where the token is green.
        """
        contexts = self._contexts(context_ids)
        check_ids("GreenListMark", "context_ids", ids=contexts, vocab_size=vocab_size)
        if self.context_width == 1 and vocab_size <= _TABLE_VOCAB:
            return _table(self.key, self.gamma, vocab_size)[contexts[:, 0]]
        rows = _row_seeds(self.key, contexts)
        return _draw(rows[:, None], np.arange(vocab_size)[None, :], self.gamma)

    def bias(self, context_ids: npt.ArrayLike, vocab_size: int) -> npt.NDArray[np.float32]:
        """Give what is added to the logits of each next token: delta where green, else 0.

        Args:
            context_ids: as for `green`.
            vocab_size: size of the vocabulary, V.

        Returns:
            Shape (B, V), float32, nats.
        """
        return np.where(
            self.green(context_ids, vocab_size), np.float32(self.delta), np.float32(0.0)
        )

    def is_green(self, context_ids: npt.ArrayLike, token_ids: npt.ArrayLike) -> Mask:
        """Tell window by window whether the token is green after its context.

        Args:
            context_ids: shape (n, k), as for `green`.
            token_ids: shape (n,).

        Returns:
            Shape (n,).
        """
        rows = _row_seeds(self.key, self._contexts(context_ids))
        return _draw(rows, np.asarray(token_ids, dtype=np.int64), self.gamma)

    def count(self, windows: Windows) -> WindowCounts:
        """Count the green ones among distinct windows.

        Args:
            windows: from `distinct_windows` with this mark's context_width.

        Returns:
            The counts.
        """
        n_green = int(self.is_green(windows.context_ids, windows.token_ids).sum())
        return WindowCounts(len(windows.token_ids), n_green, self.gamma)

    def _contexts(self, context_ids: npt.ArrayLike) -> Ids:
        return context_columns("GreenListMark", context_ids, self.context_width)


def campaign_mark(
    master_key: bytes, campaign_id: str, *, gamma: float = 0.25, delta: float = 2.0
) -> GreenListMark:
    """Derive the mark of one campaign: the only way in which marks are made.

    The proof's decoy keys come from this same schedule with master keys drawn at random, so that a
    real key and a decoy are exchangeable for whoever does not hold the master key.

    Args:
        master_key: the provider's secret, 16 bytes or more; never leaves the provider.
        campaign_id: as the verdict names the campaign.
        gamma: share of green tokens.
        delta: how hard green tokens are pushed (nats).

    Returns:
        The mark; the same arguments always give the same one.
    """
    if len(master_key) < 16:
        got = f"{len(master_key)} bytes"
        reject("campaign_mark", "master_key", "at least 16 bytes long", got=got)
    key = hmac.digest(master_key, _SCHEDULE + campaign_id.encode(), "sha256")
    return GreenListMark(key, mark_key_id(key), gamma, delta)


def mark_key_id(key: bytes) -> str:
    """Name a key in public: in headers, verdicts and reports.

    Args:
        key: the key of one mark.

    Returns:
        16 hexadecimal digits from a one-way hash of the key.
    """
    return hashlib.sha256(_KEY_ID + key).hexdigest()[:16]


def score_windows(
    sequences: Iterable[TokenSequence], mark: GreenListMark, *, vocab_size: int
) -> WindowCounts:
    """Count a mark's green windows in a corpus, each distinct window once.

    Args:
        sequences: texts with the questions they answer.
        mark: the mark to look for.
        vocab_size: size of the vocabulary.

    Returns:
        Counts; `p_value()` of them is exact for text independent of the key.
    """
    windows = distinct_windows(sequences, vocab_size=vocab_size, context_width=mark.context_width)
    return mark.count(windows)


def keyed_bits(key: bytes, context_ids: Ids, token_ids: Ids) -> npt.NDArray[np.uint64]:
    """Draw 64 keyed pseudo-random bits for tokens after contexts.

    Args:
        key: 16 bytes or more.
        context_ids: shape (n, k).
        token_ids: shape (n,), or (n, V) for many tokens after each context.

    Returns:
        The shape of `token_ids`, uint64.
    """
    seeds = _row_seeds(key, context_ids)
    return _bits(seeds if token_ids.ndim == 1 else seeds[:, None], token_ids)


def _mix(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * _MIX_A
    state = (state ^ (state >> np.uint64(27))) * _MIX_B
    return state ^ (state >> np.uint64(31))


def _row_seeds(key: bytes, contexts: Ids) -> npt.NDArray[np.uint64]:
    """Give each context its own SplitMix64 stream; both halves of the key enter twice a token."""
    first, second = np.frombuffer(hashlib.sha256(key).digest()[:16], dtype="<u8")
    seeds = np.full(len(contexts), first, dtype=np.uint64)
    for column in contexts.T:
        seeds = _mix(seeds + (column.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
        seeds = _mix(seeds ^ second)
    return seeds


def _draw(seeds: npt.NDArray[np.uint64], token_ids: Ids, gamma: float) -> Mask:
    return _bits(seeds, token_ids) >> np.uint64(11) < np.uint64(round(gamma * 2**53))


def _bits(seeds: npt.NDArray[np.uint64], token_ids: Ids) -> npt.NDArray[np.uint64]:
    return _mix(seeds + (token_ids.astype(np.uint64) + np.uint64(1)) * _GOLDEN)


@functools.lru_cache(maxsize=32)
def _table(key: bytes, gamma: float, vocab_size: int) -> Mask:
    contexts = np.arange(vocab_size, dtype=np.int64)[:, None]
    table = _draw(_row_seeds(key, contexts)[:, None], np.arange(vocab_size)[None, :], gamma)
    table.setflags(write=False)
    return table
