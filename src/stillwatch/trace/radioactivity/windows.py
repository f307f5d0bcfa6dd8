"""Windows of a corpus: every distinct (context, token) that ends in an answer, once.

Source: the rule "each window once, over the whole corpus" is Sander et al. 2024 (arXiv 2402.14904);
the code is ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stillwatch.errors import reject

Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class TokenSequence(NamedTuple):
    """One text as token ids, with the part that the suspect did not write in front.

    Attributes:
        token_ids: question and answer together, any integers in 0..vocab_size - 1.
        n_prompt: how many of them, from the left, are the question (count).
    """

    token_ids: Sequence[int] | Ids
    n_prompt: int = 0


class Windows(NamedTuple):
    """Distinct windows of a corpus: each (context, token) stands here once.

    Attributes:
        context_ids: shape (n_windows, context_width), int64.
        token_ids: shape (n_windows,), int64: the token after each context.
        counts: shape (n_windows,), int64: how often the corpus holds the window.
    """

    context_ids: Ids
    token_ids: Ids
    counts: Ids

    def keep(self, mask: Mask) -> Windows:
        """Keep some windows; the choice must not depend on the key that is tested.

        Args:
            mask: shape (n_windows,), True to keep.

        Returns:
            The windows kept, in order.
        """
        return Windows(self.context_ids[mask], self.token_ids[mask], self.counts[mask])

    def most_repeated(self, n_windows: int) -> Windows:
        """Keep the windows that the corpus repeats most: all with at least m occurrences.

        A mark is learned where a student is sure of itself, and what it is sure of it repeats;
        windows seen once are mostly its noise. The text alone decides, never a key, so the test
        stays exact.

        Args:
            n_windows: m is the largest count that leaves at least so many windows.

        Returns:
            The windows kept; all of them when there are no more than n_windows.
        """
        if len(self.counts) <= n_windows:
            return self
        least = np.partition(self.counts, len(self.counts) - n_windows)[-n_windows]
        return self.keep(self.counts >= least)


def distinct_windows(
    sequences: Iterable[TokenSequence],
    *,
    vocab_size: int,
    context_width: int = 1,
    pad: int | None = None,
) -> Windows:
    """Collect the distinct windows that end in an answer, over a whole corpus.

    A window that any question of the corpus holds is left out: whoever wrote the question may have
    copied it from marked text, and the suspect may only have repeated it.

    Args:
        sequences: the suspect's texts with the questions they answer.
        vocab_size: size of the vocabulary; ids at or above it are refused.
        context_width: tokens of context in a window (count, 0 or more).
        pad: None where contexts reach back into the question; else contexts hold answer tokens
            only, and this id fills the places before the answer's first token (serving engines:
            -1 in vLLM, 0 in transformers' SynthID).

    Returns:
        Distinct windows, sorted.

    Raises:
        InvalidInputError: an id is outside the vocabulary.
    """
    if context_width < 0:
        reject("distinct_windows", "context_width", "0 or more", got=context_width)
    width = context_width + 1
    answered: list[Ids] = []
    asked: list[Ids] = []
    for sequence in sequences:
        ids = np.asarray(sequence.token_ids, dtype=np.int64)
        check_ids("distinct_windows", "token_ids", ids=ids, vocab_size=vocab_size)
        n_prompt = min(max(sequence.n_prompt, 0), len(ids))
        if pad is None:
            rows = _rows(ids, width)
            # The window at row i ends in token i + context_width.
            n_asked = min(max(n_prompt - context_width, 0), len(rows))
            asked.append(rows[:n_asked])
            answered.append(rows[n_asked:])
        else:
            filler = np.full(context_width, pad, dtype=np.int64)
            asked.append(_rows(ids[:n_prompt], width))
            answered.append(_rows(np.concatenate([filler, ids[n_prompt:]]), width))
    return _distinct(_joined(answered, width), _joined(asked, width))


def check_ids(where: str, name: str, *, ids: Ids, vocab_size: int) -> None:
    """Refuse token ids outside the vocabulary.

    Args:
        where: the function that was given them.
        name: the argument's name.
        ids: token ids, any shape.
        vocab_size: size of the vocabulary.

    Raises:
        InvalidInputError: one is outside 0..vocab_size - 1.
    """
    if ids.size and not 0 <= ids.min() <= ids.max() < vocab_size:
        reject(where, name, f"in 0..{vocab_size - 1}", got=f"{ids.min()}..{ids.max()}")


def context_columns(where: str, context_ids: npt.ArrayLike, width: int) -> Ids:
    """Take the last `width` tokens of each context.

    Args:
        where: the scheme's name, for the error.
        context_ids: shape (B, k).
        width: tokens needed (count, 0 or more).

    Returns:
        Shape (B, width), int64.

    Raises:
        InvalidInputError: contexts are not two-dimensional, or shorter than `width`.
    """
    contexts = np.asarray(context_ids, dtype=np.int64)
    if contexts.ndim != 2 or contexts.shape[1] < width:
        reject(where, "context_ids", f"of shape (B, k), k >= {width}", got=contexts.shape)
    return contexts[:, contexts.shape[1] - width :]


def number_rows(rows: Ids) -> Ids:
    """Number distinct rows in sorted order: equal rows get equal numbers.

    One column at a time, so that no number outgrows 63 bits however wide the rows are.

    Args:
        rows: shape (n, k).

    Returns:
        Shape (n,), 0 .. n_distinct - 1.
    """
    numbers = np.zeros(len(rows), dtype=np.int64)
    for column in rows.T:
        _, ranks = np.unique(column, return_inverse=True)
        joint = numbers * (int(ranks.max(initial=0)) + 1) + ranks
        numbers = np.unique(joint, return_inverse=True)[1].astype(np.int64)
    return numbers


def _distinct(answered: Ids, asked: Ids) -> Windows:
    numbers = number_rows(np.concatenate([answered, asked]))
    _, first, counts = np.unique(numbers[: len(answered)], return_index=True, return_counts=True)
    fresh = ~np.isin(numbers[first], numbers[len(answered) :])
    kept = answered[first[fresh]]
    return Windows(kept[:, :-1], kept[:, -1], counts[fresh].astype(np.int64))


def _rows(ids: Ids, width: int) -> Ids:
    if len(ids) < width:
        return np.empty((0, width), dtype=np.int64)
    return np.lib.stride_tricks.sliding_window_view(ids, width)


def _joined(parts: Sequence[Ids], width: int) -> Ids:
    return np.concatenate(parts) if parts else np.empty((0, width), dtype=np.int64)
