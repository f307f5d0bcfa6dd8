"""How alike two samples of an answer are, for comparing whole distributions of answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from stillwatch.errors import reject
from stillwatch.trace.similarity.ngrams import Feature, gram_cosines, grams

Floats = NDArray[np.float64]
#: Texts to their similarities, shape (n, n), 1 for equal texts.
Kernel = Callable[[Sequence[str]], Floats]

#: Characters that the Hamming kernel looks at.
_HAMMING_LENGTH = 400
_WORDS = Feature("word", 1)


def hamming_kernel(texts: Sequence[str], *, length: int = _HAMMING_LENGTH) -> Floats:
    """Compare texts place by place: the share of places with the same character.

    One word more shifts all that follows: this kernel sees a change of decoding or of weights that
    leaves the wording alone, and is blind to little.

    Args:
        texts: samples of answers to one question.
        length: characters looked at; a shorter text is filled up with nothing.

    Returns:
        Shape (n, n), 0..1.

    Raises:
        InvalidInputError: the length is not positive.
    """
    if length < 1:
        reject("trace.hamming_kernel", "length", "at least 1", got=length)
    longest = max(1, min(length, max((len(text) for text in texts), default=1)))
    codes = np.zeros((len(texts), longest), dtype=np.int32)
    for row, text in enumerate(texts):
        start = np.array([ord(letter) + 1 for letter in text[:longest]], dtype=np.int32)
        codes[row, : start.size] = start
    same = np.empty((len(texts), len(texts)))
    for row in range(len(texts)):
        same[row] = (codes == codes[row]).mean(axis=1)
    return same


def gram_kernel(texts: Sequence[str], *, feature: Feature = _WORDS) -> Floats:
    """Compare texts by the n-grams that they share, wherever they stand.

    Args:
        texts: samples of answers to one question.
        feature: which n-grams.

    Returns:
        Cosines, shape (n, n); two texts without a gram are equal, one is unlike all others.
    """
    held = grams(texts, feature)
    rows = [held.values[held.offsets[i] : held.offsets[i + 1]] for i in range(len(texts))]
    asked = np.empty(0, dtype=np.uint64)
    cosines = gram_cosines(rows, asked, rarity=feature.rarity).astype(np.float64)
    empty = np.array([not len(row) for row in rows], dtype=bool)
    return np.where(np.isnan(cosines), empty[:, None] & empty[None, :], cosines)
