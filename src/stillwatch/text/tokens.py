"""Words, lines and shingles as 64-bit hashes, straight from Arrow's bytes.

A Python loop over the words of 10,000 questions costs more than everything else that `detect` does,
so the bytes of all rows are classified and hashed at once. Letters of other scripts are bytes above
127 and count as letters; upper case is folded for ASCII only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stillwatch.text.ragged import Hashes, Offsets, Ragged, starts_of

#: Words longer than this are cut: a base64 blob must not be one word a row.
LONGEST_WORD = 64
#: Kinds of bytes, the base of rolling hashes, and what stands for every number.
LETTER, DIGIT, BREAK, _OTHER = 1, 2, 3, 0
BASE = np.uint64(0x9E3779B97F4A7C15)
NUMBER = np.uint64(0x6E756D626572)


def _byte_classes() -> NDArray[np.uint8]:
    classes = np.full(256, _OTHER, dtype=np.uint8)
    for first, last in ((ord("a"), ord("z")), (ord("A"), ord("Z")), (128, 255)):
        classes[first : last + 1] = LETTER
    classes[ord("'")] = LETTER
    classes[ord("_")] = LETTER
    classes[ord("0") : ord("9") + 1] = DIGIT
    classes[[10, 13]] = BREAK
    return classes


def _folded_bytes() -> NDArray[np.uint8]:
    folded = np.arange(256, dtype=np.uint8)
    folded[ord("A") : ord("Z") + 1] += 32
    return folded


def _powers() -> Hashes:
    with np.errstate(over="ignore"):
        return np.cumprod(np.full(LONGEST_WORD, BASE, dtype=np.uint64), dtype=np.uint64)


BYTE_CLASSES, FOLDED_BYTES, POWERS = _byte_classes(), _folded_bytes(), _powers()


class Tokens(NamedTuple):
    """The words of a column of texts.

    Attributes:
        masked: hashes with every number replaced by one mark: what a template leaves standing.
        exact: hashes with numbers kept.
    """

    masked: Ragged
    exact: Ragged


def mix(values: Hashes) -> Hashes:
    """Scramble 64-bit values so that near ones end far apart (the finaliser of MurmurHash3).

    Args:
        values: any shape, uint64.

    Returns:
        The same shape; one to one.
    """
    values = values ^ (values >> np.uint64(33))
    values = values * np.uint64(0xFF51AFD7ED558CCD)
    values = values ^ (values >> np.uint64(33))
    values = values * np.uint64(0xC4CEB9FE1A85EC53)
    return values ^ (values >> np.uint64(33))


def tokenize(texts: pa.Array, *, max_bytes: int) -> Tokens:
    """Cut texts into words and numbers and hash them.

    Args:
        texts: strings, nulls read as empty.
        max_bytes: only so much of the beginning of a text is read.

    Returns:
        Word hashes, one row a text.
    """
    data, starts = _bytes_of(texts, max_bytes)
    n_rows = len(starts) - 1
    classes = BYTE_CLASSES[data]
    word = (classes == LETTER) | (classes == DIGIT)
    row_start = np.zeros(len(data) + 1, dtype=bool)
    row_start[starts] = True
    begins = word.copy()
    # A run ends where the class changes, so "v2" is a word and a number.
    begins[1:] &= (classes[1:] != classes[:-1]) | row_start[1:-1]
    token_starts = np.flatnonzero(begins)
    if len(token_starts) == 0:
        return Tokens(Ragged.empty(n_rows), Ragged.empty(n_rows))
    word_positions = np.flatnonzero(word)
    exact = hash_runs(data, token_starts, word_positions, begins=begins)
    is_number = classes[token_starts] == DIGIT
    masked = np.where(is_number, NUMBER, exact)
    offsets = np.searchsorted(token_starts, starts).astype(np.int64)
    return Tokens(Ragged(masked, offsets), Ragged(exact, offsets))


def hash_runs(
    data: NDArray[np.uint8],
    token_starts: Offsets,
    positions: Offsets,
    *,
    begins: NDArray[np.bool_],
) -> Hashes:
    """Hash runs of bytes, folded, each as far as the longest word.

    Args:
        data: bytes of all texts, end to end.
        token_starts: where a run begins, shape (n_runs,).
        positions: the bytes that belong to runs.
        begins: whether a run begins at each byte, shape (n_bytes,).

    Returns:
        One hash a run, shape (n_runs,).
    """
    token_of = np.cumsum(begins[positions]) - 1
    place = positions - token_starts[token_of]
    inside = place < LONGEST_WORD
    positions, token_of, place = positions[inside], token_of[inside], place[inside]
    terms = (FOLDED_BYTES[data[positions]].astype(np.uint64) + np.uint64(1)) * POWERS[place]
    first = np.flatnonzero(np.concatenate(([True], token_of[1:] != token_of[:-1])))
    return mix(np.add.reduceat(terms, first))


def _bytes_of(texts: pa.Array, max_bytes: int) -> tuple[NDArray[np.uint8], Offsets]:
    texts = texts.cast(pa.large_binary())
    if texts.null_count:
        texts = texts.fill_null(b"")
    _, offset_buffer, data_buffer = texts.buffers()
    offsets = np.frombuffer(offset_buffer, dtype=np.int64)[texts.offset :][: len(texts) + 1]
    if data_buffer is None or len(texts) == 0:
        return np.empty(0, np.uint8), np.zeros(len(texts) + 1, np.int64)
    data = np.frombuffer(data_buffer, dtype=np.uint8)
    lengths = np.minimum(np.diff(offsets), max_bytes)
    starts = starts_of(lengths)
    if starts[-1] == offsets[-1] - offsets[0]:
        return data[offsets[0] : offsets[-1]], starts
    within = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
    return data[np.repeat(offsets[:-1], lengths) + within], starts


def shingle(tokens: Ragged, *, width: int, max_tokens: int | None = None) -> Ragged:
    """Hash every run of `width` consecutive words, order kept: the skeleton of a text.

    A text shorter than `width` words gives one shingle of all its words.

    Args:
        tokens: word hashes, one row a text.
        width: words in a shingle.
        max_tokens: words read from the beginning of a row; None for all.

    Returns:
        Shingle hashes, one row a text, in order of appearance.
    """
    if max_tokens is not None:
        tokens = tokens.keep(_place(tokens) < max_tokens)
    lengths = tokens.lengths
    counts = np.where(lengths >= width, lengths - width + 1, np.minimum(lengths, 1))
    offsets = starts_of(counts)
    first = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
    start = np.repeat(tokens.offsets[:-1], counts) + first
    end = np.repeat(tokens.offsets[1:], counts)
    value = np.zeros(len(start), dtype=np.uint64)
    for step in range(width):
        position = start + step
        inside = position < end
        word = tokens.values[np.minimum(position, max(len(tokens.values) - 1, 0))]
        value = np.where(inside, mix(value * BASE + word), value)
    return Ragged(value, offsets)


def hash_rows(tokens: Ragged) -> Hashes:
    """Hash each row as a whole, order of the words kept.

    Args:
        tokens: word hashes, one row a text.

    Returns:
        One hash a row, shape (n_rows,); 0 for an empty row.
    """
    result = np.zeros(len(tokens), dtype=np.uint64)
    place = _place(tokens)
    if len(place) == 0:
        return result
    powers = np.cumprod(np.full(int(place.max()) + 1, BASE, dtype=np.uint64), dtype=np.uint64)
    filled = np.flatnonzero(tokens.lengths)
    sums = np.add.reduceat(tokens.values * powers[place], tokens.offsets[filled])
    result[filled] = mix(sums)
    return result


def bigrams(tokens: Ragged) -> Ragged:
    """Hash every pair of neighbouring words.

    Args:
        tokens: word hashes, one row a text.

    Returns:
        Pair hashes, one row a text; a row of one word has none.
    """
    lengths = np.maximum(tokens.lengths - 1, 0)
    offsets = starts_of(lengths)
    first = np.repeat(tokens.offsets[:-1], lengths) + (
        np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    )
    return Ragged(mix(tokens.values[first] * BASE + tokens.values[first + 1]), offsets)


def _place(tokens: Ragged) -> Offsets:
    return np.arange(len(tokens.values), dtype=np.int64) - np.repeat(
        tokens.offsets[:-1], tokens.lengths
    )
