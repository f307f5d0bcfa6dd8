"""The same words, lines and shingles as `text.tokens`, one text at a time in compiled loops.

`tokens` says what the values are, in array operations that one can read; here each byte is looked
at once and nothing is kept but the words of the texts at hand. Tests hold the two to the same
values, bit for bit. Importing this module imports numba; only `detect.fold` does, when it starts.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stillwatch.text import tokens
from stillwatch.text.ragged import Hashes, Offsets, Ragged, starts_of
from stillwatch.text.runs import compiled, copy_runs

_CLASSES, _POWERS = tokens.BYTE_CLASSES, tokens.POWERS
_TERMS = tokens.FOLDED_BYTES.astype(np.uint64) + np.uint64(1)
_LETTER, _DIGIT, _BREAK = tokens.LETTER, tokens.DIGIT, tokens.BREAK
_BASE, _NUMBER = tokens.BASE, tokens.NUMBER
_LONGEST, _EIGHT = np.uint64(tokens.LONGEST_WORD), np.uint64(8)
_NEWLINE = 10
_UPPER, _ZERO, _ONE = np.uint64(32), np.uint64(0), np.uint64(1)
_M1, _M2, _FOLD = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53), np.uint64(33)
_R1, _R2 = np.uint64(0x9FB21C651E98DF25), np.uint64(0xD6E8FEB86659FD93)
#: Texts looked at together: their words stay in the cache between one step and the next.
ROWS_AT_ONCE = 2048


class Texts(NamedTuple):
    """Texts in one buffer of bytes, which may hold other things between them.

    Attributes:
        data: UTF-8, shape (n_bytes,), uint8.
        begins: where each text begins, shape (n_texts,), int64.
        ends: where it ends, shape (n_texts,), int64.
    """

    data: NDArray[np.uint8]
    begins: Offsets
    ends: Offsets


class Words(NamedTuple):
    """The words of texts.

    Attributes:
        masked: word hashes with numbers masked, all texts end to end, uint64; a view of the
            scratch space, good until that is used again.
        starts: words of text `i` are `masked[starts[i]:starts[i + 1]]`, shape (n_texts + 1,).
        text: hash of each whole text, numbers kept, 0 without words, shape (n_texts,), uint64.
        lines: smallest distinct line hashes of each text, uint32.
    """

    masked: Hashes
    starts: Offsets
    text: Hashes
    lines: Ragged


def scan_texts(
    texts: Texts, scratch: Hashes, *, lines: int, most_words: int | None = None
) -> Words:
    """Cut texts into words and hash words, lines and whole texts, in one pass over the bytes.

    Args:
        texts: the texts.
        scratch: room for the words, at least `scratch_needed(texts)` long.
        lines: distinct line hashes kept of a text.
        most_words: stop after so many words of a text; its text and lines are then incomplete.

    Returns:
        The words.
    """
    n = len(texts.begins)
    starts, whole = np.zeros(n + 1, np.int64), np.zeros(n, np.uint64)
    bottom, counts = np.empty((n, lines), np.uint32), np.zeros(n, np.int64)
    limit = most_words if most_words is not None else 2**62
    _scan_all(texts, scratch, starts, whole, (bottom, counts), limit)
    return Words(scratch[: starts[-1]], starts, whole, ragged_of(bottom, counts))


def scratch_needed(texts: Texts) -> int:
    """Bound the words of texts.

    Args:
        texts: the texts.

    Returns:
        Words, at most.
    """
    return int((texts.ends - texts.begins).sum()) + 1


def cut_texts(texts: Texts, n_chars: int) -> Texts:
    """Keep the first characters of each text.

    Args:
        texts: the texts.
        n_chars: Unicode characters kept of each.

    Returns:
        The same buffer with earlier ends.
    """
    ends = texts.ends.copy()
    _cut_all(texts, ends, n_chars)
    return texts._replace(ends=ends)


def hash_texts(texts: Texts) -> Hashes:
    """Hash texts whole, byte for byte.

    Args:
        texts: the texts.

    Returns:
        One hash a text, 0 for an empty one, shape (n_texts,).
    """
    hashes = np.zeros(len(texts.begins), np.uint64)
    _hash_all(texts, hashes)
    return hashes


def gather_texts(texts: Texts) -> tuple[NDArray[np.uint8], Offsets]:
    """Copy texts into a buffer of their own, end to end.

    Args:
        texts: the texts.

    Returns:
        The bytes, and offsets into them, shape (n_texts + 1,).
    """
    offsets = starts_of(texts.ends - texts.begins)
    return copy_runs(texts.data, texts.begins, offsets), offsets


def ragged_of(table: NDArray[Any], counts: Offsets) -> Ragged:
    """Lay the filled beginnings of a table's rows end to end.

    Args:
        table: shape (n_rows, n_columns).
        counts: values used of each row, shape (n_rows,).

    Returns:
        The rows.
    """
    offsets, begins = starts_of(counts), np.arange(len(counts)) * table.shape[1]
    return Ragged(copy_runs(table.ravel(), begins, offsets), offsets)


@compiled
def mix(value: Any) -> Any:
    """Scramble a 64-bit value as `tokens.mix` does."""
    value ^= value >> _FOLD
    value *= _M1
    value ^= value >> _FOLD
    value *= _M2
    return value ^ (value >> _FOLD)


@compiled
def _keep(bottom: Any, count: Any, value: Any) -> Any:
    """Put a value among the smallest of a sorted list; give how many there are now."""
    most = len(bottom)
    if count == most and (most == 0 or value >= bottom[most - 1]):
        return count
    place = count
    while place > 0 and bottom[place - 1] > value:
        place -= 1
    if place > 0 and bottom[place - 1] == value:
        return count
    last = count if count < most else most - 1
    for move in range(last, place, -1):
        bottom[move] = bottom[move - 1]
    bottom[place] = value
    return last + 1


# Places are unsigned below: a signed one would be checked, byte by byte, for counting from the end.


@compiled
def _find_runs(  # noqa: PLR0917 - a compiled loop takes flat arrays
    data: Any, begin: Any, end: Any, runs: Any
) -> Any:
    """Note where the kind of byte changes; give how many runs there are.

    Without a branch: on text, no processor guesses where a word ends.
    """
    count, before = _ZERO, np.uint8(255)
    place, end = np.uint64(begin), np.uint64(end)
    while place < end:
        kind = _CLASSES[data[place]]
        runs[count] = place
        count += np.uint64(kind != before)
        before = kind
        place += _ONE
    runs[count] = end
    return count


@compiled
def _hash_run(data: Any, begin: Any, end: Any) -> Any:
    """Hash a run of letters or of digits: most have at most eight, which takes no branch."""
    length, total, step = end - begin, _ZERO, _ZERO
    if begin + _EIGHT <= np.uint64(len(data)):
        for early in range(8):
            term = _TERMS[data[begin + np.uint64(early)]] * _POWERS[early]
            total += term if np.uint64(early) < length else _ZERO
        step = _EIGHT
    while step < min(length, _LONGEST):
        total += _TERMS[data[begin + step]] * _POWERS[step]
        step += _ONE
    return mix(total)


@compiled
def _ends_line(data: Any, begin: Any, end: Any) -> Any:
    found = False
    while begin < end:
        found |= data[begin] == _NEWLINE
        begin += _ONE
    return found


@compiled
def _scan_one(  # noqa: PLR0917 - a compiled loop takes flat arrays
    data: Any, runs: Any, n_runs: Any, out: tuple[Any, Any, Any], bottom: Any
) -> tuple[Any, Any, Any]:
    """Hash one text; give the end of its words, its own hash and how many lines are kept."""
    words, at, stop = out
    text, line = _ZERO, _ZERO
    text_power, line_power = _BASE, _BASE
    kept = 0
    for run in range(n_runs):
        begin, end = runs[np.uint64(run)], runs[np.uint64(run) + _ONE]
        kind = _CLASSES[data[begin]]
        if kind in (_LETTER, _DIGIT):
            if at == stop:
                break
            word = _hash_run(data, begin, end)
            text += word * text_power
            line += word * line_power
            text_power *= _BASE
            line_power *= _BASE
            words[at] = _NUMBER if kind == _DIGIT else word
            at += 1
        elif kind == _BREAK and line_power != _BASE and _ends_line(data, begin, end):
            kept = _keep(bottom, kept, np.uint32(mix(line) >> _UPPER))
            line, line_power = _ZERO, _BASE
    if line_power != _BASE:
        kept = _keep(bottom, kept, np.uint32(mix(line) >> _UPPER))
    return at, (mix(text) if text_power != _BASE else _ZERO), kept


@compiled
def _scan_all(  # noqa: PLR0917 - a compiled loop takes flat arrays
    texts: Any, words: Any, starts: Any, whole: Any, lines: tuple[Any, Any], limit: Any
) -> None:
    bottom, counts = lines
    longest = np.int64(0)
    for row in range(len(whole)):
        longest = max(longest, texts.ends[row] - texts.begins[row])
    runs = np.empty(longest + 1, np.uint64)
    at = np.int64(0)
    for row in range(len(whole)):
        n_runs = _find_runs(texts.data, texts.begins[row], texts.ends[row], runs)
        out = (words, at, min(at + limit, len(words)))
        at, whole[row], counts[row] = _scan_one(texts.data, runs, n_runs, out, bottom[row])
        starts[row + 1] = at


@compiled
def _cut_all(texts: Any, ends: Any, n_chars: Any) -> None:
    for row in range(len(ends)):
        place, end, left = texts.begins[row], ends[row], n_chars
        if end - place <= n_chars:
            continue
        while place < end:
            # Bytes 10xxxxxx continue a character; all others begin one.
            if texts.data[place] & 0xC0 != 0x80:
                if left == 0:
                    break
                left -= 1
            place += 1
        ends[row] = place


@compiled
def _hash_all(texts: Any, hashes: Any) -> None:
    data = texts.data
    for row in range(len(hashes)):
        place, end = texts.begins[row], texts.ends[row]
        if place == end:
            continue
        value = np.uint64(end - place) * _R2
        while place + 8 <= end:
            chunk = _ZERO
            for byte in range(8):
                chunk |= np.uint64(data[place + byte]) << np.uint64(8 * byte)
            value = (value ^ (chunk * _R1)) * _R2
            value ^= value >> _UPPER
            place += 8
        chunk = _ZERO
        for byte in range(end - place):
            chunk |= np.uint64(data[place + byte]) << np.uint64(8 * byte)
        hashes[row] = max(mix((value ^ (chunk * _R1)) * _R2), _ONE)
