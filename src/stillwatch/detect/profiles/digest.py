"""From a lot of exchanges to digests: what `detect` remembers of single exchanges.

Importing this module imports numba.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stillwatch.detect.config import FoldConfig
from stillwatch.detect.profiles.columns import (
    column_of,
    floats,
    hash_column,
    integers,
    take_texts,
    texts_of,
    turns_of,
)
from stillwatch.detect.profiles.levels import Level, blank_texts
from stillwatch.detect.profiles.profile import Digests, Floats, Ints
from stillwatch.text.kernels import (
    Texts,
    Words,
    cut_texts,
    gather_texts,
    hash_texts,
    scan_texts,
    scratch_needed,
)
from stillwatch.text.ragged import Hashes, Ragged
from stillwatch.text.smallest import smallest_skeletons, smallest_words

_ODD = np.uint64(0x9E3779B97F4A7C15)


class Lot(NamedTuple):
    """Exchanges folded together.

    Attributes:
        batch: their columns.
        account: account number of each, shape (n,).
        key: hash of each exchange's id, shape (n,).
        started_at: epoch seconds, NaN when not known, shape (n,).
        counts: input tokens, output tokens, and 1 where there was no answer, shape (3, n).
        question: the questions, cut to the characters that are read.
        words: their words.
        system: the system prompts.
        system_hash: hash of each, 0 when there is none, shape (n,).
    """

    batch: pa.RecordBatch
    account: Ints
    key: Hashes
    started_at: Floats
    counts: Ints
    question: Texts
    words: Words
    system: Texts
    system_hash: Hashes


class Skeletons(NamedTuple):
    """The wording of some exchanges of a lot.

    Attributes:
        shingles: one row an exchange, the question's first, uint32.
        n_asked: how many are the question's.
    """

    shingles: Ragged
    n_asked: NDArray[np.int16]

    def take(self, rows: Ints) -> Skeletons:
        """Pick rows.

        Args:
            rows: which, shape (n,).

        Returns:
            They.
        """
        return Skeletons(self.shingles.take(rows), self.n_asked[rows])


class LotReader:
    """Reads lots; keeps its scratch space from one to the next.

    Args:
        config: what is kept.
    """

    def __init__(self, config: FoldConfig) -> None:
        self._config = config
        self._scratch = np.empty(0, np.uint64)

    def read(self, batch: pa.RecordBatch, account: Ints) -> Lot:
        """Read the texts of a lot.

        Args:
            batch: columns of some exchanges.
            account: their account numbers.

        Returns:
            The lot, whose words are good until the next is read.
        """
        turns = turns_of(batch)
        question = cut_texts(turns.question, self._config.question_chars)
        needed = scratch_needed(question)
        if len(self._scratch) < needed:
            self._scratch = np.empty(2 * needed, np.uint64)
        return Lot(
            batch=batch,
            account=account,
            key=hash_texts(texts_of(batch["exchange_id"])),
            started_at=floats(batch, "started_at"),
            counts=np.stack([
                integers(batch, "input_tokens", 0),
                integers(batch, "output_tokens", 0),
                (integers(batch, "status", 200) >= 400).astype(np.int64),
            ]),
            question=question,
            words=scan_texts(question, self._scratch, lines=self._config.lines_kept),
            system=turns.system,
            system_hash=hash_texts(turns.system),
        )


def skeletons_of(lot: Lot, rows: Ints, *, config: FoldConfig, level: Level) -> Skeletons:
    """Shingle questions and system prompts: a pipeline's wording may stand in either.

    Each has its own window and its own share, or a long system prompt would hide the question.

    Args:
        lot: the exchanges.
        rows: those asked for, shape (n,).
        config: width and window.
        level: how many shingles are kept.

    Returns:
        One row an exchange asked for.
    """
    width, window = config.shingle_width, config.shingle_tokens
    distinct, first, own = np.unique(lot.system_hash[rows], return_index=True, return_inverse=True)
    told = Ragged.empty(max(len(distinct), 1), bits=32)
    if np.any(distinct):
        # A system prompt is said over and over; each is read once a lot, and only its beginning.
        texts = cut_texts(take_texts(lot.system, rows[first]), config.question_chars)
        scratch = np.empty(min(scratch_needed(texts), len(distinct) * window) + 1, np.uint64)
        words = scan_texts(texts, scratch, lines=0, most_words=window)
        nothing = Ragged.empty(1, bits=32), np.zeros(len(distinct), np.int64)
        told, _ = smallest_skeletons(
            words, np.arange(len(distinct)), nothing, limits=(width, window, window, 0)
        )
    limits = width, window, level.shingles, level.system_shingles
    return Skeletons(*smallest_skeletons(lot.words, rows, (told, own), limits=limits))


def digests_of(
    lot: Lot, rows: Ints, skeletons: Skeletons, *, config: FoldConfig, level: Level
) -> Digests:
    """Digest exchanges.

    Args:
        lot: the exchanges.
        rows: those asked for, shape (n,).
        skeletons: of those asked for, at the level.
        config: what is kept.
        level: how much of it.

    Returns:
        One row an exchange asked for.
    """
    batch = lot.batch
    excerpt = exchange_id = blank_texts(len(rows))
    if level.has_text:
        question = take_texts(lot.question, rows)
        excerpt = column_of(*gather_texts(cut_texts(question, config.excerpt_chars)))
        exchange_id = batch["exchange_id"].take(pa.array(rows)).cast(pa.large_string())
    model, parameters = (hash_column(batch, name, rows) for name in ("model", "parameters"))
    return Digests(
        account=lot.account[rows],
        key=lot.key[rows],
        started_at=lot.started_at[rows],
        output_tokens=lot.counts[1][rows],
        text=lot.words.text[rows],
        system=lot.system_hash[rows],
        setup=model * _ODD + parameters,
        tools=hash_column(batch, "tools_hash", rows),
        network=hash_column(batch, "network_hash", rows),
        agent=hash_column(batch, "user_agent", rows),
        org=hash_column(batch, "org", rows),
        exchange_id=exchange_id,
        excerpt=excerpt,
        shingles=skeletons.shingles,
        words=smallest_words(lot.words, rows, limit=level.words),
        lines=lot.words.lines.take(rows).heads(level.lines),
        n_asked=skeletons.n_asked,
    )
