"""The inner loops of `features` and `detect.evidence.flags`; importing this imports numba."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stillwatch.text.runs import compiled

_ROW_SCALE = 127.0


@compiled
def _count_marks(  # noqa: PLR0917 - flat arrays are what a compiled loop takes
    text: NDArray[np.uint8],
    byte_dims: NDArray[np.int16],
    seen: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> None:
    seen[:] = 0
    # Two tables, as one byte often follows itself or comes again before its count is stored.
    half = len(text) // 2
    for place in range(half):
        seen[text[place]] += 1
        seen[256 + text[half + place]] += 1
    if len(text) > 2 * half:
        seen[text[len(text) - 1]] += 1
    for byte in range(256):
        if byte_dims[byte] >= 0:
            counts[byte_dims[byte]] += seen[byte] + seen[256 + byte]
    # Each byte beside the one before it, without branches: this loop runs on vectors.
    initial, inside = np.int64(0), np.int64(0)
    if len(text) and 65 <= text[0] <= 90:
        initial = np.int64(1)
    for place in range(1, len(text)):
        before, byte = text[place - 1], text[place]
        is_upper = (byte >= 65) & (byte <= 90)
        was_upper = (before >= 65) & (before <= 90)
        was_lower = ((before >= 97) & (before <= 122)) | (before >= 128)
        inside += is_upper & was_upper
        initial += is_upper & (not was_upper) & (not was_lower)
    counts[0] += initial
    counts[1] += inside


@compiled
def _count_words(  # noqa: PLR0917 - flat arrays are what a compiled loop takes
    words: NDArray[np.uint64],
    word_keys: NDArray[np.uint64],
    word_dims: NDArray[np.int16],
    first_hashed: int,
    counts: NDArray[np.int64],
) -> None:
    hashed = np.uint64(len(counts) - first_hashed)
    for word in words:
        slot = word >> np.uint64(52)
        if word_keys[slot] == word and word_dims[slot] >= 0:
            counts[word_dims[slot]] += 1
        else:
            share = (word & np.uint64(0xFFFFFFFF)) * hashed
            dim = first_hashed + np.int64(share >> np.uint64(32))
            counts[dim] += 1 if (word >> np.uint64(40)) & np.uint64(1) else -1


@compiled
def _quantise(counts: NDArray[np.int64], damped: NDArray[np.int64], out: NDArray[np.int8]) -> None:
    most = len(damped) - 1
    squares = np.int64(0)
    for dim in range(len(counts)):
        count = counts[dim]
        size = damped[min(abs(count), most)]
        counts[dim] = size if count >= 0 else -size
        squares += size * size
    if squares:
        scale = _ROW_SCALE / np.sqrt(np.float64(squares))
        for dim in range(len(counts)):
            out[dim] = np.int8(np.floor(np.float64(counts[dim]) * scale + 0.5))


@compiled
def fill_features(  # noqa: PLR0913, PLR0917 - flat arrays are what a compiled loop takes
    data: NDArray[np.uint8],
    begins: NDArray[np.int64],
    ends: NDArray[np.int64],
    words: NDArray[np.uint64],
    word_starts: NDArray[np.int64],
    byte_dims: NDArray[np.int16],
    word_keys: NDArray[np.uint64],
    word_dims: NDArray[np.int16],
    damped: NDArray[np.int64],
    first_hashed: int,
    out: NDArray[np.int8],
) -> None:
    """Count marks and words into `out`, one row a text; see `features.question_features`."""
    counts, seen = np.zeros(out.shape[1], np.int64), np.zeros(512, np.int64)
    for row in range(len(begins)):
        counts[:] = 0
        _count_marks(data[begins[row] : ends[row]], byte_dims, seen, counts)
        own = words[word_starts[row] : word_starts[row + 1]]
        _count_words(own, word_keys, word_dims, first_hashed, counts)
        _quantise(counts, damped, out[row])


@compiled
def add_rows(
    features: NDArray[np.int8], account: NDArray[np.int64], out: NDArray[np.int32]
) -> None:
    """Add each row of `features` to the row of `out` of its account."""
    for row in range(len(account)):
        into = account[row]
        for dim in range(features.shape[1]):
            out[into, dim] += np.int32(features[row, dim])


@compiled
def find_phrases(  # noqa: PLR0913, PLR0917 - flat arrays are what a compiled loop takes
    words: NDArray[np.uint64],
    word_starts: NDArray[np.int64],
    slot_first: NDArray[np.int64],
    phrase_words: NDArray[np.uint64],
    phrase_starts: NDArray[np.int64],
    phrase_atom: NDArray[np.int64],
    next_phrase: NDArray[np.int64],
    out: NDArray[np.uint64],
) -> None:
    """Set in `out` the bit of every phrase that occurs; phrases hang in chains by first word."""
    for row in range(len(out)):
        end = word_starts[row + 1]
        found = np.uint64(0)
        for place in range(word_starts[row], end):
            phrase = slot_first[words[place] >> np.uint64(52)]
            while phrase >= 0:
                start, stop = phrase_starts[phrase], phrase_starts[phrase + 1]
                if place + stop - start <= end:
                    same = True
                    for step in range(stop - start):
                        if words[place + step] != phrase_words[start + step]:
                            same = False
                            break
                    if same:
                        found |= np.uint64(1) << np.uint64(phrase_atom[phrase])
                phrase = next_phrase[phrase]
        out[row] = found


@compiled
def add_bits(bits: NDArray[np.uint32], account: NDArray[np.int64], out: NDArray[np.int32]) -> None:
    """Count each set bit of `bits` in the row of `out` of its account."""
    for row in range(len(account)):
        rest = bits[row]
        dim = 0
        while rest:
            if rest & np.uint32(1):
                out[account[row], dim] += np.int32(1)
            rest >>= np.uint32(1)
            dim += 1
