"""The house's Gumbel mark: the key decides which of the likely tokens is taken.

Every next token draws a keyed uniform u after its context; the token with the largest
logit - ln(-ln u) is taken. Averaged over keys this is ordinary sampling: no token's probability
changes. A window's value is -ln(1 - u): standard exponential in text that does not know the key,
larger where it does.

Source: Aaronson 2022 (lecture), Kuditipudi et al. 2023 (arXiv 2307.15593); the key schedule is
ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from stillwatch.errors import reject
from stillwatch.trace.marks.base import WindowScoring, largest_only
from stillwatch.trace.marks.nulls import Null
from stillwatch.trace.marks.protocol import Floats
from stillwatch.trace.radioactivity.windows import Ids, Windows, context_columns
from stillwatch.trace.watermark import keyed_bits, mark_key_id

_UNIT = 2.0**-53
_LABEL = b"stillwatch gumbel 1\0"


@dataclass(frozen=True)
class GumbelMark(WindowScoring):
    """A keyed choice among likely tokens that leaves every token's probability as it was.

    Attributes:
        key: 16 bytes or more.
        key_id: public name of the key.
        context_width: tokens before a token that decide its draw (count, at least 1).
    """

    key: bytes = field(repr=False)
    key_id: str
    context_width: int = 1

    def __post_init__(self) -> None:
        if len(self.key) < 16:
            got = f"{len(self.key)} bytes"
            reject("GumbelMark", "key", "at least 16 bytes long", got=got)
        if self.context_width < 1:
            reject("GumbelMark", "context_width", "at least 1", got=self.context_width)

    @property
    def pad(self) -> int | None:
        """None: contexts reach back into the question."""
        return None

    @property
    def null(self) -> Null:
        """Each value is a standard exponential."""
        return Null("exponential", 1.0)

    def values(self, windows: Windows, vocab_size: int) -> Floats:
        """Give -ln(1 - u) of each window.

        Args:
            windows: of this mark's width.
            vocab_size: not needed here.

        Returns:
            Shape (n,), 0 or more.
        """
        contexts = context_columns("GumbelMark", windows.context_ids, self.context_width)
        return -np.log1p(-self._uniforms(contexts, windows.token_ids))

    def token_values(self, context_ids: npt.ArrayLike, vocab_size: int) -> Floats:
        """Give -ln(1 - u) of every next token.

        Args:
            context_ids: shape (B, k), k at least the width.
            vocab_size: size of the vocabulary, V.

        Returns:
            Shape (B, V).
        """
        return -np.log1p(-self._grid(context_ids, vocab_size))

    def embed(self, context_ids: npt.ArrayLike, logits: npt.ArrayLike) -> Floats:
        """Leave the token that the key chooses; divide the logits by the temperature before.

        Args:
            context_ids: shape (B, k).
            logits: shape (B, V).

        Returns:
            Shape (B, V): 0 at the chosen token, minus infinity elsewhere.
        """
        given = np.asarray(logits, dtype=np.float64)
        uniforms = self._grid(context_ids, given.shape[1])
        return largest_only(given - np.log(-np.log(np.maximum(uniforms, _UNIT / 2))))

    def with_key(self, key: bytes) -> GumbelMark:
        """Make the same mark under another secret.

        Args:
            key: 16 bytes or more.

        Returns:
            The mark.
        """
        return gumbel_mark(key, context_width=self.context_width)

    def _grid(self, context_ids: npt.ArrayLike, vocab_size: int) -> Floats:
        contexts = context_columns("GumbelMark", context_ids, self.context_width)
        tokens = np.arange(vocab_size, dtype=np.int64)[None, :]
        return self._uniforms(contexts, tokens)

    def _uniforms(self, contexts: Ids, token_ids: Ids) -> Floats:
        # 53 bits rounded down: the value is then never above a true exponential.
        drawn = keyed_bits(_LABEL + self.key, contexts, token_ids)
        return (drawn >> np.uint64(11)).astype(np.float64) * _UNIT


def gumbel_mark(key: bytes, *, context_width: int = 1) -> GumbelMark:
    """Make a Gumbel mark from a secret.

    Args:
        key: 16 bytes or more, for example `sub_key(master_key, campaign_id)`.
        context_width: tokens before a token that decide its draw (count).

    Returns:
        The mark.
    """
    return GumbelMark(key, mark_key_id(_LABEL + key), context_width)
