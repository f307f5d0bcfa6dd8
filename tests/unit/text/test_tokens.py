"""Words, shingles and lines from Arrow's bytes."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.text.ragged import Ragged, starts_of
from stillwatch.text.tokens import bigrams, hash_rows, shingle, tokenize

TEXTS = st.lists(st.text(max_size=60), max_size=12)


def _words(text: str, max_bytes: int = 1000):
    return tokenize(pa.array([text]), max_bytes=max_bytes)


def test_same_words_same_hashes() -> None:
    """Case, spacing and punctuation do not show; words and their order do."""
    first, second = _words("Convert  this, NOW!").exact, _words("convert this now").exact
    assert first.values.tolist() == second.values.tolist()
    assert _words("now this convert").exact.values.tolist() != first.values.tolist()


def test_numbers_are_masked_once() -> None:
    """Numbers look alike in the masked hashes and differ in the exact ones."""
    first, second = _words("add 12 to 7"), _words("add 3000 to 45")
    assert first.masked.values.tolist() == second.masked.values.tolist()
    assert first.exact.values.tolist() != second.exact.values.tolist()


def test_rows_stay_apart() -> None:
    """A word at the end of a text does not run into the next text; nulls are empty rows."""
    texts = pa.array(["abc", "def", None, "", "abc def"])
    tokens = tokenize(texts, max_bytes=100).exact
    assert [1, 1, 0, 0, 2] == tokens.lengths.tolist()
    assert tokens.values[:2].tolist() == tokens.values[2:].tolist()


def test_slices_and_cuts() -> None:
    """A slice of a column gives the rows of the slice; only the beginning of a text is read."""
    texts = pa.array(["zero", "one two", "three"]).slice(1, 2)
    assert [2, 1] == tokenize(texts, max_bytes=100).exact.lengths.tolist()
    assert [1, 1] == tokenize(texts, max_bytes=3).exact.lengths.tolist()


@given(TEXTS)
def test_batching_does_not_show(texts: list[str]) -> None:
    """A text's hashes do not depend on its neighbours in the column."""
    together = tokenize(pa.array(texts, pa.string()), max_bytes=500).exact
    apart = [_words(text, 500).exact.values.tolist() for text in texts]
    assert apart == [together.take(np.array([i])).values.tolist() for i in range(len(texts))]


def test_shingles_count_and_order() -> None:
    """Seven words give three shingles of five; a shorter text gives one; order matters."""
    tokens = tokenize(pa.array(["a b c d e f g", "a b", "", "b a"]), max_bytes=100).masked
    shingles = shingle(tokens, width=5, max_tokens=50)
    assert [3, 1, 0, 1] == shingles.lengths.tolist()
    assert shingles.values[3] != shingles.values[4]


def test_shared_wording_shares_shingles() -> None:
    """The same five words in other surroundings give the same shingle."""
    tokens = tokenize(
        pa.array(["x one two three four five", "one two three four five y"]), max_bytes=99
    )
    shingles = shingle(tokens.masked, width=5, max_tokens=50)
    first, second = (set(shingles.take(np.array([i])).values.tolist()) for i in (0, 1))
    assert 1 == len(first & second)


def test_rows_hash_as_a_whole() -> None:
    """Equal rows hash alike, other orders differ, an empty row is 0."""
    tokens = tokenize(pa.array(["a b", "b a", "A  b", ""]), max_bytes=100).exact
    hashes = hash_rows(tokens)
    assert hashes[0] == hashes[2]
    assert hashes[0] != hashes[1]
    assert 0 == hashes[3]


def test_bigrams() -> None:
    """Neighbouring words pair up inside a row only."""
    tokens = tokenize(pa.array(["a b c", "c"]), max_bytes=100).exact
    assert [2, 0] == bigrams(tokens).lengths.tolist()


@given(st.lists(st.lists(st.integers(0, 9), max_size=8), max_size=8), st.integers(1, 4))
def test_smallest_distinct(rows: list[list[int]], limit: int) -> None:
    """Each row keeps its smallest distinct values, sorted, whatever the other rows hold."""
    values = np.array([v for row in rows for v in row], dtype=np.uint64)
    ragged = Ragged(values, starts_of(np.array([len(row) for row in rows], dtype=np.int64)))
    kept = ragged.smallest_distinct(limit)
    expected = [sorted(set(row))[:limit] for row in rows]
    assert expected == [kept.take(np.array([i])).values.tolist() for i in range(len(rows))]


def test_take_repeats_and_keeps_order() -> None:
    """Rows are picked in the order asked for, as often as asked for."""
    ragged = Ragged(np.arange(4), np.array([0, 1, 1, 4]))
    assert [1, 2, 3, 0, 0] == ragged.take(np.array([2, 1, 0, 0])).values.tolist()
    assert [1, 0, 2] == ragged.keep(np.array([True, False, True, True])).lengths.tolist()
