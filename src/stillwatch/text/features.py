"""A question as 256 small integers, so that a sum over questions is a kernel mean.

    x(q) = round(127 * v / |v|),   v_j = sign(c_j) * (1 + ln|c_j|),   c_j = count of mark j

The kernel is the cosine of `v`: the mean of x over an account is its kernel mean, and the unbiased
MMD^2 between two groups follows from two sums and two counts (`detect.confirmation.window`). Marks
are capitals, punctuation, numbers and frequent English words, one place each, and all other words
by signed hashing. On pairs of human and harvested questions this beat random Fourier features, word
pairs and character n-grams at the same width, and matched a neural embedder (docs/kernel-mean.md).

A row depends on its own text only: sums over any split of a log agree byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stillwatch.errors import reject
from stillwatch.text.ragged import Hashes, Offsets
from stillwatch.text.tokens import tokenize

#: Integers of a question.
WIDTH = 256
#: Length of every row that is not zero, up to rounding (about 0.1 % of its square).
LENGTH = 127.0
#: What a neural embedder must be: texts to vectors, shape (len(texts), any width).
Embedder = Callable[[Sequence[str]], NDArray[np.float32]]

Features = NDArray[np.int8]

_CAPITAL, _CAPITALS_RUN, _FOREIGN = 0, 1, 2
_MARKS = "\n.,?!:;'\"()[]{}<>-_=+*/\\|#$%&@~`^"
_FIRST_MARK = 3
#: Frequent words keep a place of their own: how often they stand is a matter of style.
_FREQUENT = (
    "a an the this that these it its i my me you your we our they their he she his her is are was "
    "be have has do does can will would should and or but if so not no in on of to for from with "
    "by at as what how why who when which all any some more each between using use write give make "
    "please there where than then into about 7"
)
_DAMPED_SIZES = 4096
_SLOTS = 4096


class _Tables(NamedTuple):
    byte_dims: NDArray[np.int16]
    word_keys: Hashes
    word_dims: NDArray[np.int16]
    damped: NDArray[np.int64]
    first_hashed: int


def question_features(
    data: NDArray[np.uint8],
    begins: Offsets,
    ends: Offsets,
    *,
    words: Hashes,
    word_starts: Offsets,
) -> Features:
    """Turn questions into rows of integers.

    Args:
        data: UTF-8 bytes, shape (n_bytes,).
        begins: where each question begins in `data`, shape (n,).
        ends: where it ends, shape (n,).
        words: masked word hashes in order of appearance, as `tokens.tokenize` gives them.
        word_starts: question `i` has `words[word_starts[i]:word_starts[i + 1]]`, shape (n + 1,).

    Returns:
        Shape (n, WIDTH), each from -127 to 127, length about `LENGTH`; an empty question gives
        zeros.
    """
    from stillwatch.text.feature_kernels import fill_features

    out = np.zeros((len(begins), WIDTH), dtype=np.int8)
    if len(begins):
        fill_features(data, begins, ends, words, word_starts, *_tables(), out)
    return out


def text_features(texts: Sequence[str], *, max_bytes: int = 8000) -> Features:
    """Turn texts into rows of integers, the short way round for a few of them.

    Args:
        texts: any number.
        max_bytes: only so much of the beginning of a text is read.

    Returns:
        As `question_features`.

    Example:
        >>> rows = text_features(["What is a kernel?", "what is a kernel?", ""])
        >>> rows.shape, int((rows[0] != rows[1]).sum() > 0), int(rows[2].any())
        ((3, 256), 1, 0)
    """
    raw = [text.encode()[:max_bytes] for text in texts]
    masked = tokenize(pa.array(raw, pa.large_binary()), max_bytes=max_bytes).masked
    ends = np.cumsum([len(text) for text in raw], dtype=np.int64)
    begins = ends - np.array([len(text) for text in raw], dtype=np.int64)
    data = np.frombuffer(b"".join(raw), dtype=np.uint8)
    return question_features(data, begins, ends, words=masked.values, word_starts=masked.offsets)


def embedded_features(vectors: NDArray[np.floating]) -> Features:
    """Bring an embedder's vectors to the same shape, for use instead of hashed features.

    A fixed rotation to `WIDTH` dimensions; unlike hashed features, the last digit may depend on
    the machine and on the batch.

    Args:
        vectors: shape (n, any width).

    Returns:
        Shape (n, WIDTH), as `question_features`; a vector of zeros gives zeros.

    Raises:
        InvalidInputError: not a table, or numbers that are not finite.
    """
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        reject("features", "vectors", "a table of finite numbers", got=vectors.shape)
    turned = vectors.astype(np.float64) @ _rotation(vectors.shape[1])
    length = np.linalg.norm(turned, axis=1, keepdims=True)
    unit = np.divide(turned, length, out=np.zeros_like(turned), where=length > 0)
    return np.asarray(np.rint(LENGTH * unit), dtype=np.int8)


def add_features(features: Features, account: Offsets, out: NDArray[np.int32]) -> None:
    """Add rows to the sums of their accounts, in place.

    Args:
        features: shape (n, WIDTH).
        account: the row of `out` that each belongs to, shape (n,).
        out: sums, shape (n_accounts, WIDTH); they hold 16.9 million questions of one account.
    """
    from stillwatch.text.feature_kernels import add_rows

    add_rows(features, account, out)


@cache
def _rotation(width: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(0x5EED)
    square = rng.standard_normal((max(width, WIDTH), max(width, WIDTH)))
    rotation, _ = np.linalg.qr(square)
    return np.ascontiguousarray(rotation[:width, :WIDTH])


@cache
def _tables() -> _Tables:
    byte_dims = np.full(256, -1, dtype=np.int16)
    byte_dims[192:] = _FOREIGN
    for place, mark in enumerate(_MARKS):
        byte_dims[ord(mark)] = _FIRST_MARK + place
    frequent = _FREQUENT.split()
    hashes = tokenize(pa.array(frequent), max_bytes=64).masked.values
    keys, dims = np.zeros(_SLOTS, np.uint64), np.full(_SLOTS, -1, np.int16)
    dim = _FIRST_MARK + len(_MARKS)
    for value in hashes.astype(np.uint64):
        slot = int(value >> np.uint64(52))
        # Two words in one slot: the later one is hashed as any other word is.
        if dims[slot] < 0:
            keys[slot], dims[slot] = value, dim
            dim += 1
    sizes = np.arange(1, _DAMPED_SIZES, dtype=np.float64)
    damped = np.concatenate(([0], np.rint(256 * (1 + np.log(sizes))))).astype(np.int64)
    return _Tables(byte_dims, keys, dims, damped, dim)
