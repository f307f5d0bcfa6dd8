"""Texts as runs of word hashes: what likeness and contamination are measured on.

Words are folded and numbers kept, as in `text.tokens`; symbols are words of their own, because in
`3 + 4` and `3 - 4` they are the question, and sentence punctuation is nothing. Letters of scripts
without spaces are words each.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stillwatch.text.ragged import Ragged, starts_of
from stillwatch.text.tokens import BYTE_CLASSES, DIGIT, LETTER, hash_runs

#: Bytes of a text that are looked at; a longer one is told by its beginning.
MOST_BYTES = 32_768
_SYMBOL = 7
_AT_ONCE = 2**17  # bytes
#: Scripts that are written without spaces: Thai, Lao, Khmer, Myanmar, kana, Han, Hangul.
_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
    "\U00020000-\U0002fa1f])"
)
_SENTENCE = re.compile(
    "[\u00a1\u00bf\u2018-\u201f\u2026\u3001-\u3003\u3008-\u3011\uff01\uff08\uff09\uff0c\uff1a\uff1b"
    "\uff1f\u0964\u060c\u061b\u061f]"
)
_DASHES = re.compile("[\u2010-\u2015\u2212]")


def _classes() -> NDArray[np.uint8]:
    classes = BYTE_CLASSES.copy()
    classes[(classes != LETTER) & (classes != DIGIT)] = 0
    for symbol in b"+-*/=<>^%$#@&|~\\()[]{}":
        classes[symbol] = _SYMBOL
    classes[ord("'")] = 0
    classes[ord("_")] = _SYMBOL
    return classes


_CLASSES = _classes()


def word_hashes(texts: Sequence[str]) -> Ragged:
    """Cut texts into words and symbols and hash them.

    Args:
        texts: any number, held in memory.

    Returns:
        One row a text, in order; equal for texts that differ in case, spacing and sentence
        punctuation only.
    """
    parts: list[Ragged] = []
    held: list[bytes] = []
    size = 0
    for text in texts:
        held.append(_cut(text))
        size += len(held[-1])
        if size >= _AT_ONCE:  # a few arrays as long as the bytes: small ones stay in the cache
            parts.append(_hashed(held))
            held, size = [], 0
    if held or not parts:
        parts.append(_hashed(held))
    return parts[0] if len(parts) == 1 else Ragged.concatenate(parts)


def _hashed(cut: list[bytes]) -> Ragged:
    starts = starts_of(np.array([len(text) for text in cut], dtype=np.int64))
    data = np.frombuffer(b"".join(cut), dtype=np.uint8)
    classes = _CLASSES[data]
    word = classes != 0
    row_start = np.zeros(len(data) + 1, dtype=bool)
    row_start[starts] = True
    begins = word.copy()
    changed = (classes[1:] != classes[:-1]) | row_start[1:-1] | (classes[1:] == _SYMBOL)
    begins[1:] &= changed
    token_starts = np.flatnonzero(begins)
    if len(token_starts) == 0:
        return Ragged.empty(len(cut))
    positions = np.flatnonzero(word)
    values = hash_runs(data, token_starts, positions, begins=begins)
    return Ragged(values, np.searchsorted(token_starts, starts).astype(np.int64))


def _cut(text: str) -> bytes:
    if text.isascii():
        return text[:MOST_BYTES].encode()
    text = unicodedata.normalize("NFKC", text[:MOST_BYTES]).casefold()
    text = _DASHES.sub("-", _SENTENCE.sub(" ", _UNSPACED.sub(r" \1 ", text)))
    return text.encode("utf-8", "replace")[:MOST_BYTES]
