"""What a watermark scheme is to the tests: values per window, their null, and a sum of them.

A mark gives every window (context, token) a value by a keyed pseudo-random rule, higher = more
marked. Text written without the key draws these values from the mark's null, independently for
each *draw*: two windows that the scheme hashes to the same draw count once. `score` sums the
values over distinct draws and gives the exact, or a provably conservative, upper tail.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from stillwatch.trace.marks.nulls import Null
from stillwatch.trace.radioactivity.windows import Ids, TokenSequence, Windows, distinct_windows

Floats = npt.NDArray[np.float64]


class Evidence(NamedTuple):
    """What one mark found in a set of windows.

    Attributes:
        statistic: the (weighted) sum of values over distinct draws, higher = more marked.
        n_windows: distinct draws that were scored (count).
        p_value: chance of at least this statistic in text independent of the key; 0.0 only where
            the double underflows.
        log10_p: its decimal logarithm, finite even there.
        null: the distribution that the tail was computed from, in words.
    """

    statistic: float
    n_windows: int
    p_value: float
    log10_p: float
    null: str


@runtime_checkable
class Mark(Protocol):
    """A keyed watermark: what it does to logits, and what it leaves in windows.

    Attributes:
        key_id: public name of the key, safe to log.
        context_width: tokens before a token that decide its value (count, 0 or more).
        pad: None where contexts reach back into the question; else contexts hold answer tokens
            only and this id stands before the first one (`distinct_windows(pad=...)`).
        null: what a value is drawn from when the text does not know the key.
    """

    @property
    def key_id(self) -> str:
        """Name the key in public."""
        ...

    @property
    def context_width(self) -> int:
        """Count the tokens of context."""
        ...

    @property
    def pad(self) -> int | None:
        """Give the id before the answer's first token, or None."""
        ...

    @property
    def null(self) -> Null:
        """Give what one value is drawn from under the null."""
        ...

    def values(self, windows: Windows, vocab_size: int) -> Floats:
        """Give each window's value, shape (n,); NaN where the key has no say in it."""
        ...

    def draws(self, windows: Windows, vocab_size: int) -> Ids:
        """Number the windows' draws, shape (n,): equal numbers share one draw of the key."""
        ...

    def token_values(self, context_ids: npt.ArrayLike, vocab_size: int) -> Floats:
        """Give the value of every next token after contexts (B, k), shape (B, vocab_size)."""
        ...

    def score(
        self, windows: Windows, vocab_size: int, *, weights: npt.ArrayLike | None = None
    ) -> Evidence:
        """Sum the values of distinct draws; `weights` (n,) >= 0 may depend on the text alone."""
        ...

    def embed(self, context_ids: npt.ArrayLike, logits: npt.ArrayLike) -> Floats:
        """Mark the logits (B, V) of the next token after contexts (B, k); same shape."""
        ...

    def with_key(self, key: bytes) -> Mark:
        """Make the same scheme with another secret: decoys and sub-keys come from here."""
        ...


def mark_windows(sequences: Iterable[TokenSequence], mark: Mark, *, vocab_size: int) -> Windows:
    """Collect the distinct windows that a mark is looked for in.

    Args:
        sequences: texts with the questions they answer.
        mark: gives the width, and whether contexts reach into the question.
        vocab_size: size of the vocabulary.

    Returns:
        Distinct windows of the whole corpus, without those that a question holds.
    """
    return distinct_windows(
        sequences, vocab_size=vocab_size, context_width=mark.context_width, pad=mark.pad
    )
