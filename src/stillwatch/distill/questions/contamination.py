"""Questions that the score set has seen: what training on them would prove is memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stillwatch.distill.items import Item, item_id_of
from stillwatch.distill.questions.fingerprints import word_hashes
from stillwatch.distill.questions.rows import said_by_users
from stillwatch.distill.questions.table import ContaminationTable
from stillwatch.text.ragged import Hashes, Ragged
from stillwatch.text.tokens import hash_rows, shingle

#: exact: the same question, byte for byte; normalised: the same but for case, spacing and sentence
#: punctuation; ngram: shares a run of words that is no boilerplate; cluster: of the same origin.
Reason = Literal["exact", "normalised", "ngram", "cluster"]
#: In a small score set a run is boilerplate from this share (1 in 20) of its questions on.
_BOILERPLATE_SHARE = 20


class HeldOut:
    """The score set, ready to be looked up.

    What is looked for is the question of a score item (its last user turn) in every user turn and
    tool result of an item. Score questions of fewer words than a run are looked for whole inside
    others from `least` words on. Below that they count only where both sides are a single turn:
    "Yes, please" ends many conversations that have nothing in common.

    Args:
        items: the score set.
        table: what counts as seen.
    """

    def __init__(self, items: Iterable[Item], table: ContaminationTable) -> None:
        questions: list[str] = []
        are_single: list[bool] = []
        self._ids: set[str] = set()
        self._clusters: set[str] = set()
        for item in items:
            self._ids.add(item_id_of(item.messages, item.tools))
            if item.question:
                questions.append(item.question)
                are_single.append(len(said_by_users(item)) == 1)
            if item.cluster:
                self._clusters.add(item.cluster)
        self._table = table
        words = word_hashes(questions)
        telling = np.flatnonzero(np.array(are_single, dtype=bool) | (words.lengths >= table.least))
        questions = [questions[n] for n in telling.tolist()]
        words = words.take(telling)
        self._texts = set(questions)
        self._whole = np.unique(hash_rows(words))
        self._whole = self._whole[self._whole != 0]
        self._runs = self._runs_of(words)

    def __len__(self) -> int:
        return len(self._ids)

    def reasons(self, items: Sequence[Item]) -> list[Reason | None]:
        """Say which items the score set has seen, and why.

        Args:
            items: any number, held in memory.

        Returns:
            The strongest reason of each, None for an item that may be asked.
        """
        if not self._ids or not self._table.enabled:
            return [None] * len(items)
        texts = [said_by_users(item) for item in items]
        row_of = np.repeat(np.arange(len(items)), [len(turns) for turns in texts])
        words = word_hashes([turn for turns in texts for turn in turns])
        is_single = np.array([len(turns) == 1 for turns in texts], dtype=bool)
        telling = is_single[row_of] | (words.lengths >= self._table.least)
        normalised = np.zeros(len(items), dtype=bool)
        normalised[row_of[telling & _among(hash_rows(words), self._whole)]] = True
        shared = np.zeros(len(items), dtype=bool)
        shared[row_of[self._shares(words)]] = True
        found: list[Reason | None] = []
        for n, item in enumerate(items):
            if item_id_of(item.messages, item.tools) in self._ids:
                found.append("exact")
            elif normalised[n]:
                is_same = not self._texts.isdisjoint(texts[n])
                found.append("exact" if is_same else "normalised")
            elif shared[n]:
                found.append("ngram")
            elif self._table.clusters and item.cluster in self._clusters:
                found.append("cluster")
            else:
                found.append(None)
        return found

    def _runs_of(self, words: Ragged) -> dict[int, _Runs]:
        """Run lengths -> runs: of the full length, and of the lengths of shorter questions."""
        if not self._table.ngram:
            return {}
        full = self._table.ngram
        lengths = words.lengths
        found: dict[int, _Runs] = {}
        for width in range(min(self._table.least, full), full + 1):
            rows = np.flatnonzero(lengths >= full if width == full else lengths == width)
            if len(rows):
                # In a small score set a template shows in few questions.
                few = max(1, len(rows) // _BOILERPLATE_SHARE)
                most = min(self._table.boilerplate, few) if width == full else len(rows)
                found[width] = _Runs(shingle(words.take(rows), width=width), most)
        return found

    def _shares(self, words: Ragged) -> NDArray[np.bool_]:
        found = np.zeros(len(words), dtype=bool)
        for width, known in self._runs.items():
            rows = np.flatnonzero(words.lengths >= width)
            runs = shingle(words.take(rows), width=width)
            found[rows[known.found_in(runs, self._table.coverage)]] = True
        return found


class _Runs:
    """Runs of one length, and the score questions that they tell of.

    Args:
        runs: of the score questions, one row a question.
        most: a run of more questions is a template's, and gives nothing away (count).
    """

    def __init__(self, runs: Ragged, most: int) -> None:
        values, questions = _distinct(runs)
        _, code, counts = np.unique(values, return_inverse=True, return_counts=True)
        telling = counts[code] <= most
        self._values, self._questions = values[telling], questions[telling]
        self._sizes = np.bincount(self._questions, minlength=len(runs))

    def found_in(self, runs: Ragged, coverage: float) -> NDArray[np.int64]:
        """Find texts that hold runs of a score question.

        Args:
            runs: one row a text.
            coverage: share of a question's runs that a text must hold, 0 for any one.

        Returns:
            The rows, each once.
        """
        values, rows = _distinct(runs)
        begins = np.searchsorted(self._values, values, "left")
        counts = np.searchsorted(self._values, values, "right") - begins
        if not coverage:
            return np.unique(rows[counts > 0])
        step = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        questions = self._questions[np.repeat(begins, counts) + step]
        pairs, held = np.unique(
            np.repeat(rows, counts) * len(self._sizes) + questions, return_counts=True
        )
        enough = held >= coverage * self._sizes[pairs % len(self._sizes)]
        return np.unique(pairs[enough] // len(self._sizes))


def _distinct(runs: Ragged) -> tuple[Hashes, NDArray[np.int64]]:
    """Runs and their rows, each pair once, by value."""
    rows = runs.rows
    order = np.lexsort((rows, runs.values))
    values, rows = runs.values[order], rows[order]
    first = np.ones(len(values), dtype=bool)
    first[1:] = (values[1:] != values[:-1]) | (rows[1:] != rows[:-1])
    return values[first], rows[first]


def find_contaminated(
    items: Sequence[Item], held_out: Iterable[Item], table: ContaminationTable | None = None
) -> list[Reason | None]:
    """Say which items the score set has seen.

    Args:
        items: what would be asked, or learnt from.
        held_out: the score set.
        table: what counts as seen; None for the defaults.

    Returns:
        The reason of each item, None for one that may be asked.
    """
    return HeldOut(held_out, table or ContaminationTable()).reasons(items)


def _among(values: Hashes, known: Hashes) -> NDArray[np.bool_]:
    """Whether each value is in a sorted array."""
    if not len(known):
        return np.zeros(len(values), dtype=bool)
    place = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.asarray(known[place] == values)
