"""The smallest hashes of texts: a consistent sample of their words and of their skeletons.

Two texts that share wording share the sampled hashes of it, because what is kept does not depend
on anything but the hashes. Compiled; `Ragged.smallest_distinct` says the same in array operations.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillwatch.text import tokens
from stillwatch.text.kernels import Words, mix, ragged_of
from stillwatch.text.ragged import Offsets, Ragged
from stillwatch.text.runs import compiled

_BASE = tokens.BASE
_UPPER, _ZERO = np.uint64(32), np.uint64(0)
_TOP = np.uint32(0xFFFFFFFF)


def smallest_words(words: Words, rows: Offsets, *, limit: int) -> Ragged:
    """Keep the smallest distinct hashes of words and of word pairs.

    Args:
        words: of all texts.
        rows: the texts asked for, shape (n,).
        limit: hashes kept of a text.

    Returns:
        Sorted hashes, one row a text asked for, uint32.
    """
    bottom, counts = np.empty((len(rows), limit), np.uint32), np.zeros(len(rows), np.int64)
    _bottom_words(words.masked, words.starts, rows, (bottom, counts))
    return ragged_of(bottom, counts)


def smallest_skeletons(
    words: Words,
    rows: Offsets,
    told: tuple[Ragged, Offsets],
    *,
    limits: tuple[int, int, int, int],
) -> tuple[Ragged, NDArray[np.int16]]:
    """Keep the smallest distinct shingles of questions, and beside them of their system prompts.

    Args:
        words: of all questions.
        rows: the questions asked for, shape (n,).
        told: sorted distinct shingles of system prompts, and for each question asked for which
            row of them is its own, shape (n,).
        limits: words in a shingle, words read of a question, shingles kept of a question and of
            its system prompt (of those that the question does not have).

    Returns:
        One row a question asked for, uint32, the question's shingles first; and how many they are.
    """
    n, (width, n_tokens, most, beside) = len(rows), limits
    bottom, counts = np.empty((n, most + beside), np.uint32), np.zeros(n, np.int64)
    n_asked = np.zeros(n, np.int16)
    _bottom_shingles(
        words.masked, words.starts, rows,
        (width, n_tokens, most, beside),
        (told[0].values, told[0].offsets, told[1]),
        (bottom, counts, n_asked),
    )  # fmt: skip
    return ragged_of(bottom, counts), n_asked


@compiled
def _select(values: Any, work: Any, bottom: Any) -> Any:
    """Write the smallest distinct values, sorted; give how many.

    Hashes are spread evenly, so those under a guessed limit are about as many as wanted: only
    they are sorted. A guess that was too low (repeated words) is raised.
    """
    most, n_values = len(bottom), len(values)
    if not n_values or not most:
        return 0
    share = (most + 3.0 * np.sqrt(most) + 2.0) / n_values
    while True:
        limit = _TOP if share >= 1.0 else np.uint32(share * _TOP)
        held = _sort_up_to(values, limit, work)
        count = _write_distinct(work[1], held, bottom)
        if count == most or share >= 1.0:
            return count
        share *= 2.0


@compiled
def _sort_up_to(values: Any, limit: Any, work: Any) -> Any:
    """Sort the values up to a limit into `work`; give how many.

    Each is put into one of as many parts of the range as there are values in it, about one to a
    part, in order of the parts; what is left to do is to exchange neighbours.
    """
    few, room, counts = work
    held = 0
    for value in values:
        few[held] = value
        held += value <= limit
    n_parts = min(held, len(counts) - 1)
    scale = n_parts / (np.float64(limit) + 1.0)
    counts[: n_parts + 1] = 0
    for place in range(held):
        counts[np.int64(few[place] * scale) + 1] += 1
    for part in range(n_parts):
        counts[part + 1] += counts[part]
    for place in range(held):
        mine = np.int64(few[place] * scale)
        room[counts[mine]] = few[place]
        counts[mine] += 1
    for place in range(1, held):
        value, back = room[place], place
        while back > 0 and room[back - 1] > value:
            room[back] = room[back - 1]
            back -= 1
        room[back] = value
    return held


@compiled
def _write_distinct(ordered: Any, n_ordered: Any, bottom: Any) -> Any:
    count = 0
    for place in range(n_ordered):
        if count == len(bottom):
            break
        if place == 0 or ordered[place] != ordered[place - 1]:
            bottom[count] = ordered[place]
            count += 1
    return count


@compiled
def _workspace(n_values: Any) -> Any:
    few, room = np.empty(n_values + 1, np.uint32), np.empty(n_values + 1, np.uint32)
    return few, room, np.empty(n_values + 2, np.int32)


@compiled
def _bottom_words(  # noqa: PLR0917 - a compiled loop takes flat arrays
    masked: Any, starts: Any, rows: Any, out: tuple[Any, Any]
) -> None:
    bottom, counts = out
    longest = np.int64(0)
    for row in rows:
        longest = max(longest, starts[row + 1] - starts[row])
    every = np.empty(2 * longest + 1, np.uint32)
    work = _workspace(2 * longest)
    for number in range(len(rows)):
        begin, n_words = starts[rows[number]], starts[rows[number] + 1] - starts[rows[number]]
        for place in range(n_words):
            every[place] = masked[begin + place] >> _UPPER
        for place in range(n_words - 1):
            pair = mix(masked[begin + place] * _BASE + masked[begin + place + 1])
            every[n_words + place] = pair >> _UPPER
        counts[number] = _select(every[: max(2 * n_words - 1, 0)], work, bottom[number])


@compiled
def _every_shingle(  # noqa: PLR0917 - a compiled loop takes flat arrays
    masked: Any, span: tuple[Any, Any], width: Any, work: Any
) -> Any:
    """Hash all runs of `width` words of a span, or the whole of a shorter one; give how many."""
    begin, end = span
    sums, every = work
    width = min(width, end - begin)
    n_shingles = end - begin - width + 1 if width else 0
    for place in range(n_shingles):
        sums[place] = _ZERO
    # Step by step over all runs, not run by run: the steps of one run wait for each other.
    for step in range(width):
        for place in range(n_shingles):
            sums[place] = mix(sums[place] * _BASE + masked[begin + step + place])
    for place in range(n_shingles):
        every[place] = sums[place] >> _UPPER
    return n_shingles


@compiled
def _bottom_shingles(  # noqa: PLR0917 - a compiled loop takes flat arrays
    masked: Any, starts: Any, rows: Any, limits: Any, told: Any, out: Any
) -> None:
    width, n_tokens, most, beside = limits
    told_values, told_offsets, told_row = told
    bottom, counts, n_asked = out
    sums = np.empty(max(n_tokens, 1), np.uint64)
    every, work = np.empty(max(n_tokens, 1), np.uint32), _workspace(max(n_tokens, 1))
    for number in range(len(rows)):
        begin = starts[rows[number]]
        span = (begin, min(starts[rows[number] + 1], begin + n_tokens))
        n_shingles = _every_shingle(masked, span, width, (sums, every))
        count = _select(every[:n_shingles], work, bottom[number, :most])
        n_asked[number] = count
        full, own = count + beside, told_row[number]
        for place in range(told_offsets[own], told_offsets[own + 1]):
            if count == full:
                break
            if not _holds(every, n_shingles, told_values[place]):
                bottom[number, count] = told_values[place]
                count += 1
        counts[number] = count


@compiled
def _holds(values: Any, n_values: Any, wanted: Any) -> Any:
    found = False
    for place in range(n_values):
        found |= values[place] == wanted
    return found
