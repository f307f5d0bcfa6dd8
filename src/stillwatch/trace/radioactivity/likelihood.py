"""What a model would have written: its chances of every next token at given places.

The radioactivity tests compare what a suspect wrote, or its own chances, with the chances of the
marked model *without* its mark at the same places. Both come from here, for any model folder that
transformers can load as a causal language model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stillwatch.errors import extra, reject
from stillwatch.model.folder import load_weights
from stillwatch.trace.radioactivity.weights import Excess, Floats
from stillwatch.trace.radioactivity.windows import Ids, TokenSequence, check_ids

#: Chances of every next token at every place of a text: token ids, shape (n,) -> shape (n - 1, V),
#: row i for the token at place i + 1; a row of NaN where they cannot be read.
NextChances = Callable[[Sequence[Ids]], Iterator[npt.NDArray[np.float32]]]
#: Chances below this are left out of the expectation: they are many and add up to little.
LEAST_CHANCE = 1e-4
#: Up to this vocabulary a table of all (context, token) pairs is added up: 32 MB at most.
_DENSE_VOCAB = 2048
_BATCH = 32


class FolderChances:
    """The chances of a model folder, computed in this process; a `NextChances`.

    Args:
        folder: a model folder.
        temperature: what the logits are divided by, above 0; the marked model is read at the
            temperature that it answers with.
    """

    def __init__(self, folder: Path, *, temperature: float = 1.0) -> None:
        if not temperature > 0:
            reject("FolderChances", "temperature", "above 0", got=temperature)
        self._model: Any = load_weights(folder)
        self._temperature = temperature

    def __call__(self, texts: Sequence[Ids]) -> Iterator[npt.NDArray[np.float32]]:
        """Read texts and tell the chances of every next token.

        Args:
            texts: token ids each, shape (n,), n >= 1, shorter than the model's context.

        Yields:
            One array a text, in order, shape (n - 1, V): row i for the token at place i + 1.
        """
        with extra("train"):
            import torch
        order = sorted(range(len(texts)), key=lambda i: (len(texts[i]), i))
        found: dict[int, npt.NDArray[np.float32]] = {}
        wanted = 0
        for start in range(0, len(texts), 16 * _BATCH):
            # Blocks bound the memory; within one, texts of like length share a batch.
            block = [i for i in order if start <= i < start + 16 * _BATCH]
            for first in range(0, len(block), _BATCH):
                chosen = block[first : first + _BATCH]
                ids = np.zeros((len(chosen), max(len(texts[i]) for i in chosen)), dtype=np.int64)
                for row, i in enumerate(chosen):
                    ids[row, : len(texts[i])] = texts[i]
                with torch.inference_mode():
                    # Padding stands to the right, where a causal model cannot see it.
                    logits = self._model(input_ids=torch.from_numpy(ids)).logits
                    chances = torch.softmax(logits / self._temperature, dim=-1).numpy()
                found.update((i, chances[row, : len(texts[i]) - 1]) for row, i in enumerate(chosen))
            while wanted in found:
                yield found.pop(wanted)
                wanted += 1


class Places(NamedTuple):
    """Windows with a weight each, not yet added up.

    Attributes:
        codes: window codes, shape (n,), int64.
        amounts: shape (n,), float64.
    """

    codes: Ids
    amounts: Floats


def written_excess(
    sequences: Sequence[TokenSequence],
    unmarked: NextChances,
    *,
    vocab_size: int,
    context_width: int = 1,
) -> Excess:
    """Compare what a suspect wrote with what the unmarked model would have written there.

    Args:
        sequences: the suspect's texts with the questions they answer.
        unmarked: the marked model's own chances, without its mark.
        vocab_size: size of the vocabulary.
        context_width: tokens of context in a window (count).

    Returns:
        Times written and times expected, over windows that no question holds.
    """
    shape = _shape(vocab_size, context_width)
    written = _codes_of(sequences, shape, answered=True)
    seen = Places(written, np.ones(len(written)))
    expected = _summed(sequences, unmarked, shape)
    return _excess(_add_up(iter([seen])), expected, (sequences, shape))


def read_excess(
    sequences: Sequence[TokenSequence],
    suspect: NextChances,
    unmarked: NextChances,
    *,
    vocab_size: int,
    context_width: int = 1,
) -> Excess:
    """Compare a suspect's own chances with the unmarked model's at the same places.

    Args:
        sequences: texts to read, chosen without the key: ordinary text, or the suspect's own
            answers; *never* answers that carry the mark, whose windows lean green by themselves.
        suspect: the suspect's chances.
        unmarked: the marked model's own chances, without its mark.
        vocab_size: size of the vocabulary.
        context_width: tokens of context in a window (count).

    Returns:
        Both chances added up, over windows that no question holds.
    """
    shape = _shape(vocab_size, context_width)
    theirs = _summed(sequences, suspect, shape)
    ours = _summed(sequences, unmarked, shape)
    return _excess(theirs, ours, (sequences, shape))


def _shape(vocab_size: int, context_width: int) -> tuple[int, int]:
    if context_width < 1:
        reject("likelihood", "context_width", "at least 1", got=context_width)
    if vocab_size ** (context_width + 1) >= 2**63:
        rule = f"small enough for {vocab_size} ** (context_width + 1) < 2 ** 63"
        reject("likelihood", "context_width", rule, got=context_width)
    return vocab_size, context_width


def _codes_of(sequences: Sequence[TokenSequence], shape: tuple[int, int], *, answered: bool) -> Ids:
    """Number the windows that end in an answer, or those that end in a question."""
    vocab_size, width = shape
    parts = [np.empty(0, dtype=np.int64)]
    for sequence in sequences:
        ids = np.asarray(sequence.token_ids, dtype=np.int64)
        check_ids("likelihood", "token_ids", ids=ids, vocab_size=vocab_size)
        first = max(sequence.n_prompt, width)
        ends = np.arange(first, len(ids)) if answered else np.arange(width, sequence.n_prompt)
        parts.append(_contexts(ids, ends, shape) * vocab_size + ids[ends])
    return np.concatenate(parts)


def _contexts(ids: Ids, ends: Ids, shape: tuple[int, int]) -> Ids:
    """Number the context in front of each place."""
    vocab_size, width = shape
    codes = np.zeros(len(ends), dtype=np.int64)
    for back in range(width, 0, -1):
        codes = codes * vocab_size + ids[ends - back]
    return codes


def _summed(
    sequences: Sequence[TokenSequence], chances: NextChances, shape: tuple[int, int]
) -> Places:
    """Add up a model's chances of each window over all places of the answers."""
    vocab_size, width = shape
    texts = [np.asarray(sequence.token_ids, dtype=np.int64) for sequence in sequences]
    read = (
        (_contexts(ids, ends, shape), rows[ends - 1, :vocab_size])
        for sequence, ids, rows in zip(sequences, texts, chances(texts), strict=True)
        for ends in [_readable(np.arange(max(sequence.n_prompt, width, 1), len(ids)), rows)]
    )
    if width == 1 and vocab_size <= _DENSE_VOCAB:
        table = np.zeros((vocab_size, vocab_size))
        for contexts, rows in read:
            for context, row in zip(
                contexts, rows, strict=True
            ):  # np.add.at takes 10 times as long
                table[context] += row
        codes = np.flatnonzero(table.ravel() >= LEAST_CHANCE)
        return Places(codes, table.ravel()[codes])
    return _add_up(_sparse(contexts, rows) for contexts, rows in read)


def _readable(ends: Ids, rows: npt.NDArray[np.float32]) -> Ids:
    """Leave out places where the chances cannot be read (`shared_tokens`)."""
    return np.asarray(ends[~np.isnan(rows[ends - 1, 0])], dtype=np.int64)


def _sparse(contexts: Ids, rows: npt.NDArray[np.float32]) -> Places:
    place, token = np.nonzero(rows >= LEAST_CHANCE)
    codes = contexts[place] * rows.shape[1] + token
    return Places(codes, rows[place, token].astype(np.float64))


def _add_up(parts: Iterator[Places]) -> Places:
    """Add up the amounts of each distinct window, a block at a time."""
    total = Places(np.empty(0, dtype=np.int64), np.empty(0))
    waiting: list[Places] = []
    size = 0
    for part in parts:
        waiting.append(part)
        size += len(part.codes)
        if size > 2_000_000:
            total, waiting, size = _merged([total, *waiting]), [], 0
    return _merged([total, *waiting])


def _merged(parts: list[Places]) -> Places:
    codes, place = np.unique(np.concatenate([p.codes for p in parts]), return_inverse=True)
    amounts = np.concatenate([p.amounts for p in parts])
    sums = np.bincount(place, weights=amounts, minlength=len(codes)).astype(np.float64)
    return Places(codes, sums)


def _excess(
    seen: Places, expected: Places, scope: tuple[Sequence[TokenSequence], tuple[int, int]]
) -> Excess:
    sequences, (vocab_size, width) = scope
    codes = np.union1d(seen.codes, expected.codes)
    observed, wanted = np.zeros(len(codes)), np.zeros(len(codes))
    observed[np.searchsorted(codes, seen.codes)] = seen.amounts
    wanted[np.searchsorted(codes, expected.codes)] = expected.amounts
    # Whoever wrote a question may have copied it from marked text.
    fresh = ~np.isin(codes, _codes_of(sequences, (vocab_size, width), answered=False))
    codes, token_ids = np.divmod(codes[fresh], vocab_size)
    columns = []
    for _ in range(width):
        codes, column = np.divmod(codes, vocab_size)
        columns.append(column)
    context_ids = np.stack(columns[::-1], axis=1)  # (n_windows, context_width)
    return Excess(context_ids, token_ids, observed[fresh], wanted[fresh])
