"""Features: small integers, one row a question, the same however a log is split."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from stillwatch.errors import InvalidInputError
from stillwatch.text.features import (
    LENGTH,
    WIDTH,
    add_features,
    embedded_features,
    question_features,
    text_features,
)

TEXTS = [
    "What is the best way to sort 12 items in C++?",
    "write me a poem, please",
    "",
    "été à la plage: où aller?",
    "import numpy as np\n\nprint(np.zeros(3))",
    "... !!!",
]


def test_a_row_depends_on_its_own_text_only() -> None:
    """Order and company of a text change nothing in its row."""
    together = text_features(TEXTS)
    alone = np.concatenate([text_features([text]) for text in TEXTS])
    turned = text_features(TEXTS[::-1])[::-1]
    assert together.tolist() == alone.tolist() == turned.tolist()


def test_rows_have_one_length_and_fit_a_byte() -> None:
    """Rows that are not empty have length 127 up to rounding."""
    rows = text_features([*TEXTS, " ".join(TEXTS) * 40]).astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1)
    assert [0.0] == lengths[2:3].tolist()
    assert (np.abs(np.delete(lengths, 2) / LENGTH - 1) < 0.02).all()
    assert rows.shape[1] == WIDTH
    assert np.abs(rows).max() <= 127


def test_values_are_pinned() -> None:
    """Sums kept yesterday add to sums made today: the features of a text never change silently."""
    digest = hashlib.sha256(text_features(TEXTS).tobytes()).hexdigest()
    assert "1bbb82b347296753" == digest[:16]


def test_numbers_are_alike_and_capitals_are_not() -> None:
    """Numbers are one mark; capitals are marks of their own beside the folded word."""
    rows = text_features(["sort 12 items", "sort 7 items", "Sort 12 items"])
    assert rows[0].tolist() == rows[1].tolist()
    assert rows[0].tolist() != rows[2].tolist()


def test_data_may_lie_anywhere_in_a_buffer() -> None:
    """Questions may be cut out of a larger buffer, in any place."""
    raw = b"xxxx" + b"hello, world" + b"yyyy"
    rows = question_features(
        np.frombuffer(raw, np.uint8),
        np.array([4, 0]),
        np.array([16, 0]),
        words=np.array([], np.uint64),
        word_starts=np.array([0, 0, 0]),
    )
    commas = text_features([", "])
    assert commas[0].tolist() == rows[0].tolist()
    assert not rows[1].any()


def test_sums_over_accounts_add_up() -> None:
    """Rows are added to the account they belong to."""
    rows = text_features(TEXTS)
    sums = np.zeros((2, WIDTH), np.int32)
    account = np.array([0, 1, 0, 1, 1, 0])
    add_features(rows, account, sums)
    expected = [rows[account == a].astype(np.int32).sum(axis=0).tolist() for a in (0, 1)]
    assert expected == sums.tolist()


def test_embedded_vectors_keep_their_angles() -> None:
    """A neural embedder's cosine survives the rotation to 256 integers."""
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((40, 100)).astype(np.float32)
    vectors[7] = 0
    rows = embedded_features(vectors).astype(np.float64) / LENGTH
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    assert np.abs(rows @ rows.T - unit @ unit.T).max() < 0.03
    assert not rows[7].any()
    with pytest.raises(InvalidInputError, match="finite"):
        embedded_features(np.array([[np.nan, 1.0]]))
