"""Rows of token ids in an order that a seed fixes, laid out as padded batches of like length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stillwatch.distill.training.signals import Signal, pack_rows

Ids = npt.NDArray[np.int64]

#: Batches whose rows are sorted by length together; more saves padding and shuffles less.
_BUCKET_BATCHES = 24


class Row(NamedTuple):
    """One example as the student sees it.

    Attributes:
        token_ids: prompt and answer.
        is_answer: shape (n_tokens,), bool: targets inside the answer, the end of turn included.
        signal: where the teacher's distribution is known, or None.
    """

    token_ids: Ids
    is_answer: npt.NDArray[np.bool_]
    signal: Signal | None = None


def row_of(token_ids: Sequence[int] | Ids, n_prompt: int, signal: Signal | None = None) -> Row:
    """Lay out a prompt with the answer to learn.

    Args:
        token_ids: both.
        n_prompt: tokens before the answer (count); all that follow are targets.
        signal: where the teacher's distribution is known, or None.

    Returns:
        The row.
    """
    return Row(np.asarray(token_ids, np.int64), np.arange(len(token_ids)) >= n_prompt, signal)


class Batch(NamedTuple):
    """Rows of one forward pass, right-padded.

    Attributes:
        token_ids: shape (n_rows, length), int64, padded with `pad_id`.
        is_token: shape (n_rows, length), bool: a target that counts for the prompt loss.
        is_answer: shape (n_rows, length), bool: a target inside an answer, its end included.
        signal: of all rows, its places counted over the flattened batch; None without any.
    """

    token_ids: Ids
    is_token: npt.NDArray[np.bool_]
    is_answer: npt.NDArray[np.bool_]
    signal: Signal | None = None


def batch_order(lengths: Ids, *, batch_size: int, seed: int) -> Iterator[Ids]:
    """Yield the indices of batches of like length without end.

    Every row is shown once an epoch. Fewer rows than a batch are repeated to fill it.

    Args:
        lengths: of the rows, in tokens, shape (n_rows,).
        batch_size: rows of a batch (count).
        seed: fixes the order.

    Yields:
        Shape (batch_size,).
    """
    rng = np.random.default_rng(seed)
    span = batch_size * _BUCKET_BATCHES
    waiting = np.zeros(0, dtype=np.int64)
    while True:
        while len(waiting) < span:
            waiting = np.concatenate([waiting, rng.permutation(len(lengths))])
        bucket, waiting = waiting[:span], waiting[span:]
        bucket = bucket[np.argsort(lengths[bucket], kind="stable")]
        for start in rng.permutation(np.arange(0, span, batch_size)):
            yield bucket[start : start + batch_size]


def pad_rows(rows: Sequence[Row], *, pad_id: int) -> Batch:
    """Lay rows out as one batch and mark which targets count.

    Args:
        rows: at least one.
        pad_id: fills rows to the longest.

    Returns:
        The batch; the first token of a row is never a target.
    """
    length = max(len(row.token_ids) for row in rows)
    token_ids = np.full((len(rows), length), pad_id, dtype=np.int64)
    is_token = np.zeros((len(rows), length), dtype=bool)
    is_answer = np.zeros((len(rows), length), dtype=bool)
    for i, row in enumerate(rows):
        token_ids[i, : len(row.token_ids)] = row.token_ids
        is_token[i, 1 : len(row.token_ids)] = True
        is_answer[i, : len(row.token_ids)] = row.is_answer
    has_signal = any(row.signal is not None for row in rows)
    signal = pack_rows([row.signal for row in rows], length) if has_signal else None
    return Batch(token_ids, is_token, is_answer, signal)
