"""The house's green list as a `Mark`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stillwatch.trace.marks.base import WindowScoring
from stillwatch.trace.marks.nulls import Null
from stillwatch.trace.marks.protocol import Floats, Mark
from stillwatch.trace.radioactivity.windows import Windows
from stillwatch.trace.watermark import GreenListMark, mark_key_id


@dataclass(frozen=True)
class GreenMark(WindowScoring):
    """A green list: the value of a window is 1 where its token is green, else 0.

    Attributes:
        inner: the mark of `watermark`; the two share lists, key ids and campaigns.
    """

    inner: GreenListMark

    @property
    def key_id(self) -> str:
        """Public name of the key."""
        return self.inner.key_id

    @property
    def context_width(self) -> int:
        """Tokens before a token that decide its colour (count)."""
        return self.inner.context_width

    @property
    def pad(self) -> int | None:
        """None: contexts reach back into the question."""
        return None

    @property
    def null(self) -> Null:
        """Each token is green with probability gamma."""
        return Null("bernoulli", self.inner.gamma)

    def values(self, windows: Windows, vocab_size: int) -> Floats:
        """Give 1 for a green window and 0 for another.

        Args:
            windows: of this mark's width.
            vocab_size: not needed here.

        Returns:
            Shape (n,).
        """
        return self.inner.is_green(windows.context_ids, windows.token_ids).astype(np.float64)

    def token_values(self, context_ids: npt.ArrayLike, vocab_size: int) -> Floats:
        """Give 1 for every next token that is green.

        Args:
            context_ids: shape (B, k), k at least the width.
            vocab_size: size of the vocabulary, V.

        Returns:
            Shape (B, V).
        """
        return self.inner.green(context_ids, vocab_size).astype(np.float64)

    def bias(self, context_ids: npt.ArrayLike, vocab_size: int) -> npt.NDArray[np.float32]:
        """Give what is added to the logits: delta where green.

        Args:
            context_ids: shape (B, k).
            vocab_size: size of the vocabulary, V.

        Returns:
            Shape (B, V), nats.
        """
        return self.inner.bias(context_ids, vocab_size)

    def embed(self, context_ids: npt.ArrayLike, logits: npt.ArrayLike) -> Floats:
        """Add delta to the logits of green tokens.

        Args:
            context_ids: shape (B, k).
            logits: shape (B, V).

        Returns:
            Shape (B, V).
        """
        given = np.asarray(logits, dtype=np.float64)
        return given + self.inner.bias(context_ids, given.shape[1])

    def with_key(self, key: bytes) -> GreenMark:
        """Make the same green list under another secret.

        Args:
            key: 16 bytes or more; `sub_key(master, id)` gives the mark of `campaign_mark`.

        Returns:
            The mark.
        """
        one = self.inner
        width = one.context_width
        return GreenMark(GreenListMark(key, mark_key_id(key), one.gamma, one.delta, width))


def as_mark(mark: Mark | GreenListMark) -> Mark:
    """Read a green list of `watermark` as a `Mark`; leave every other mark as it is.

    Args:
        mark: either.

    Returns:
        A mark of the protocol.
    """
    return GreenMark(mark) if isinstance(mark, GreenListMark) else mark
