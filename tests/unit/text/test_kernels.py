"""The compiled loops give what the array operations of `tokens` and `ragged` say."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillwatch.text.kernels import (
    Texts,
    Words,
    cut_texts,
    gather_texts,
    hash_texts,
    scan_texts,
    scratch_needed,
)
from stillwatch.text.ragged import Ragged, starts_of
from stillwatch.text.smallest import smallest_skeletons, smallest_words
from stillwatch.text.tokens import bigrams, hash_rows, shingle, tokenize

ALPHABET = "ab Z'_09\n\r.-\u00e9\u4e2d\U0001f600"
TEXTS = st.lists(st.text(ALPHABET, max_size=90), max_size=8)


def _texts(rows: list[str]) -> Texts:
    """Texts in one buffer, with other bytes before, between and behind."""
    raw = [row.encode() for row in rows]
    begins = np.cumsum([2] + [len(text) + 1 for text in raw], dtype=np.int64)[:-1]
    data = np.frombuffer(b"a9" + b"a".join(raw) + b"b7", np.uint8)
    return Texts(data, begins, begins + np.array([len(text) for text in raw], np.int64))


def _scan(texts: Texts, **limits: int) -> Words:
    return scan_texts(texts, np.empty(scratch_needed(texts), np.uint64), **{"lines": 3, **limits})


def _upper(hashes: Ragged) -> Ragged:
    return Ragged((hashes.values >> np.uint64(32)).astype(np.uint32), hashes.offsets)


def _rows(ragged: Ragged) -> list[list[int]]:
    return [ragged.take(np.array([i])).values.tolist() for i in range(len(ragged))]


@given(TEXTS)
def test_words_and_texts(rows: list[str]) -> None:
    """Masked words, their places and the hash of a whole text are those of `tokens`."""
    words = _scan(_texts(rows))
    expected = tokenize(pa.array(rows, pa.string()), max_bytes=10_000)
    assert expected.masked.values.tolist() == words.masked.tolist()
    assert expected.masked.offsets.tolist() == words.starts.tolist()
    assert hash_rows(expected.exact).tolist() == words.text.tolist()


@given(TEXTS, st.integers(0, 4))
def test_lines(rows: list[str], limit: int) -> None:
    """The smallest distinct lines are kept, numbers told apart, blank lines left out."""
    found = _scan(_texts(rows), lines=limit).lines
    for row, text in enumerate(rows):
        lines = hash_rows(tokenize(pa.array(text.split("\n")), max_bytes=10_000).exact)
        expected = sorted({int(line) >> 32 for line in lines if line})[:limit]
        assert expected == _rows(found)[row]


@given(TEXTS, st.integers(1, 30))
def test_smallest_words(rows: list[str], limit: int) -> None:
    """Words and word pairs: the smallest distinct of both together."""
    masked = tokenize(pa.array(rows, pa.string()), max_bytes=10_000).masked
    found = smallest_words(_scan(_texts(rows)), np.arange(len(rows)), limit=limit)
    for row in range(len(rows)):
        mine = masked.take(np.array([row]))
        both = np.concatenate((mine.values, bigrams(mine).values))
        assert sorted({int(value) >> 32 for value in both})[:limit] == _rows(found)[row]


@given(TEXTS, st.sampled_from([(5, 120, 12), (2, 6, 3), (1, 4, 2)]), st.integers(0, 3))
def test_skeletons(rows: list[str], limits: tuple[int, int, int], beside: int) -> None:
    """The question's smallest shingles, then the system prompt's that the question has not."""
    width, window, most = limits
    masked = tokenize(pa.array(rows, pa.string()), max_bytes=10_000).masked
    every = _upper(shingle(masked, width=width, max_tokens=window))
    told = every.smallest_distinct(window)
    own = np.arange(len(rows))[::-1].copy()
    found, n_asked = smallest_skeletons(
        _scan(_texts(rows)), np.arange(len(rows)), (told, own), limits=(*limits, beside)
    )
    for row in range(len(rows)):
        known = set(_rows(every)[row])
        asked = sorted(known)[:most]
        rest = [value for value in _rows(told)[int(own[row])] if value not in known][:beside]
        assert [*asked, *rest] == _rows(found)[row]
        assert len(asked) == n_asked[row]


@pytest.mark.parametrize("limit", [1, 24, 96, 700])
def test_long_texts(limit: int) -> None:
    """The guess at what is small holds on texts of a thousand words, many of them repeated."""
    rng = np.random.default_rng(0)
    rows = [" ".join(f"w{i}" for i in rng.integers(0, most, 1000)) for most in (3, 200, 10**6)]
    rows = [row.translate(str.maketrans("0123456789", "abcdefghij")) for row in rows]
    masked = tokenize(pa.array(rows), max_bytes=10**6).masked
    found = smallest_words(_scan(_texts(rows)), np.arange(3), limit=limit)
    for row in range(3):
        mine = masked.take(np.array([row]))
        both = np.concatenate((mine.values, bigrams(mine).values))
        assert sorted({int(value) >> 32 for value in both})[:limit] == _rows(found)[row]


def test_long_words_are_cut() -> None:
    """Of a word of a thousand letters the first 64 count, as in `tokens`."""
    rows = ["x" * 1000, "x" * 64, "x" * 63, "y" + "x" * 999]
    exact = tokenize(pa.array(rows), max_bytes=10_000).exact
    words = _scan(_texts(rows))
    assert exact.values.tolist() == words.masked.tolist()
    assert words.masked[0] == words.masked[1]
    assert words.masked[1] != words.masked[2]


def test_reading_stops_after_enough_words() -> None:
    """A bound on words gives the first words of every text."""
    rows = ["one two three", "", "four", "five six seven eight"]
    words = _scan(_texts(rows), most_words=2)
    whole = _scan(_texts(rows))
    firsts = [whole.masked[s : min(s + 2, e)] for s, e in itertools.pairwise(whole.starts)]
    assert np.concatenate(firsts).tolist() == words.masked.tolist()
    assert [0, 2, 2, 3, 5] == words.starts.tolist()


@given(TEXTS, st.integers(0, 20))
def test_cuts_are_by_characters(rows: list[str], n_chars: int) -> None:
    """A text is cut between characters, never inside one."""
    data, offsets = gather_texts(cut_texts(_texts(rows), n_chars))
    found = [data[a:b].tobytes().decode() for a, b in itertools.pairwise(offsets)]
    assert [row[:n_chars] for row in rows] == found


@given(TEXTS)
def test_equal_texts_have_equal_hashes(rows: list[str]) -> None:
    """A hash follows from the bytes alone, tells texts apart, and is 0 for an empty one."""
    hashes = hash_texts(_texts(rows)).tolist()
    assert [hash_texts(_texts([row]))[0] for row in rows] == hashes
    assert len(set(rows)) == len(set(hashes))
    assert ["" == row for row in rows] == [value == 0 for value in hashes]


def test_hashes_are_spread_evenly() -> None:
    """Ids that count up give hashes of which each bit is set half of the time."""
    hashes = hash_texts(_texts([f"exchange-{i:08d}" for i in range(20_000)]))
    bits = (hashes[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    # Five standard deviations of a fair coin.
    assert abs(bits.mean(axis=0) - 0.5).max() < 5 * 0.5 / np.sqrt(20_000)


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(0, 99), max_size=5), max_size=6), st.data())
def test_rows_are_picked(rows: list[list[int]], data: st.DataObject) -> None:
    """Rows may be picked in any order and cut short; 32 bits stay 32 bits."""
    flat = np.array([value for row in rows for value in row], np.uint32)
    ragged = Ragged(flat, starts_of([len(row) for row in rows]))
    picked = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8)) if rows else []
    assert [rows[i] for i in picked] == _rows(ragged.take(np.array(picked, np.int64)))
    assert [row[:2] for row in rows] == _rows(ragged.heads(2))
    assert [row[:i] for i, row in enumerate(rows)] == _rows(ragged.heads(np.arange(len(rows))))
    assert np.uint32 == ragged.take(np.array(picked, np.int64)).values.dtype
