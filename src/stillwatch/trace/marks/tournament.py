"""The house's tournament mark: in each of thirty layers the key prefers half of the tokens.

Layer by layer a token's probability p becomes p (1 + g - m): g is its keyed bit in that layer and m
the probability mass of all tokens with a one. Averaged over keys no probability changes. A window's
value is the mean of its thirty bits.

Source: Dathathri et al. 2024 (SynthID-Text, doi 10.1038/s41586-024-08025-4); the key schedule and
the exact test are ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import special

from stillwatch.errors import reject
from stillwatch.trace.marks.base import WindowScoring
from stillwatch.trace.marks.nulls import Null
from stillwatch.trace.marks.protocol import Floats
from stillwatch.trace.radioactivity.windows import Ids, Windows, context_columns
from stillwatch.trace.watermark import keyed_bits, mark_key_id

_LABEL = b"stillwatch tournament 1\0"


@dataclass(frozen=True)
class TournamentMark(WindowScoring):
    """Thirty keyed bits for every window, and a sampler that leans towards ones.

    Attributes:
        key: 16 bytes or more.
        key_id: public name of the key.
        context_width: tokens before a token that decide its bits (count, at least 1).
        depth: layers (count, 1..64).
    """

    key: bytes = field(repr=False)
    key_id: str
    context_width: int = 1
    depth: int = 30

    def __post_init__(self) -> None:
        if len(self.key) < 16:
            got = f"{len(self.key)} bytes"
            reject("TournamentMark", "key", "at least 16 bytes long", got=got)
        if self.context_width < 1:
            reject("TournamentMark", "context_width", "at least 1", got=self.context_width)
        if not 1 <= self.depth <= 64:
            reject("TournamentMark", "depth", "between 1 and 64", got=self.depth)

    @property
    def pad(self) -> int | None:
        """None: contexts reach back into the question."""
        return None

    @property
    def null(self) -> Null:
        """The mean of independent fair bits."""
        return Null("layers", 0.5, (1 / self.depth,) * self.depth)

    def values(self, windows: Windows, vocab_size: int) -> Floats:
        """Give each window's share of ones.

        Args:
            windows: of this mark's width.
            vocab_size: not needed here.

        Returns:
            Shape (n,), 0..1.
        """
        contexts = context_columns("TournamentMark", windows.context_ids, self.context_width)
        bits = keyed_bits(_LABEL + self.key, contexts, windows.token_ids)
        return self._ones(bits) / self.depth

    def token_values(self, context_ids: npt.ArrayLike, vocab_size: int) -> Floats:
        """Give the share of ones of every next token.

        Args:
            context_ids: shape (B, k).
            vocab_size: size of the vocabulary, V.

        Returns:
            Shape (B, V).
        """
        return self._ones(self._grid(context_ids, vocab_size)) / self.depth

    def embed(self, context_ids: npt.ArrayLike, logits: npt.ArrayLike) -> Floats:
        """Play the tournament on the logits; divide them by the temperature before.

        Args:
            context_ids: shape (B, k).
            logits: shape (B, V).

        Returns:
            Log-probabilities, shape (B, V).
        """
        given = np.asarray(logits, dtype=np.float64)
        bits = self._grid(context_ids, given.shape[1])
        layers = (((bits >> np.uint64(i)) & np.uint64(1)).astype(float) for i in range(self.depth))
        return tournament_logits(given, layers)

    def with_key(self, key: bytes) -> TournamentMark:
        """Make the same mark under another secret.

        Args:
            key: 16 bytes or more.

        Returns:
            The mark.
        """
        return tournament_mark(key, context_width=self.context_width, depth=self.depth)

    def _grid(self, context_ids: npt.ArrayLike, vocab_size: int) -> npt.NDArray[np.uint64]:
        contexts = context_columns("TournamentMark", context_ids, self.context_width)
        tokens: Ids = np.arange(vocab_size, dtype=np.int64)[None, :]
        return keyed_bits(_LABEL + self.key, contexts, tokens)

    def _ones(self, bits: npt.NDArray[np.uint64]) -> Floats:
        kept = bits & np.uint64(2**self.depth - 1)
        return np.asarray(np.bitwise_count(kept), dtype=np.float64)


def tournament_mark(key: bytes, *, context_width: int = 1, depth: int = 30) -> TournamentMark:
    """Make a tournament mark from a secret.

    Args:
        key: 16 bytes or more, for example `sub_key(master_key, campaign_id)`.
        context_width: tokens before a token that decide its bits (count).
        depth: layers (count).

    Returns:
        The mark.
    """
    return TournamentMark(key, mark_key_id(_LABEL + key), context_width, depth)


def tournament_logits(logits: Floats, layers: Iterable[Floats]) -> Floats:
    """Tilt probabilities layer by layer towards ones.

    Args:
        logits: shape (B, V).
        layers: arrays of shape (B, V) holding 0 and 1, one a layer.

    Returns:
        Log-probabilities, shape (B, V); the smallest float where nothing is left.
    """
    probabilities = special.softmax(logits, axis=1)
    for layer in layers:
        mass = (layer * probabilities).sum(axis=1, keepdims=True)
        # Rounding may put the mass of everything a little above one.
        probabilities = probabilities * (1 + layer - np.minimum(mass, 1.0))
    with np.errstate(divide="ignore"):
        logs = np.log(probabilities)
    return np.asarray(np.where(np.isfinite(logs), logs, np.finfo(np.float32).min))
