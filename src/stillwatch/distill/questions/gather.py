"""The pool of questions while it is read: texts on disk, and a few numbers of each in memory."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from stillwatch.distill.items import Item
from stillwatch.distill.questions.contamination import HeldOut
from stillwatch.distill.questions.dedup import NearRows, first_of_equal
from stillwatch.distill.questions.order import Pool
from stillwatch.distill.questions.rows import Row
from stillwatch.distill.questions.spool import Spool
from stillwatch.distill.questions.table import QuestionsTable
from stillwatch.record.exchange import canonical_json

_AT_ONCE = 2048


class Gatherer:
    """Takes questions in, leaves out what must not be asked, and keeps the rest on disk.

    Args:
        table: the table.
        held_out: the score set.
    """

    def __init__(self, table: QuestionsTable, held_out: HeldOut) -> None:
        self.held_out = held_out
        self.spool = Spool()
        self.contaminated: Counter[str] = Counter()
        self._taken: dict[str, int] = {}
        self.n_questions = 0
        self._table = table
        self._near = NearRows(table.near_duplicates) if table.near_duplicates else None
        self._ids = array("Q")
        self._clusters = array("Q")
        self._scores = array("d")
        self._capabilities: dict[str, int] = {}
        self._sources: dict[str, int] = {}
        self._capability = array("q")
        self._source = array("q")

    def take(self, rows: Iterable[Row], *, source: str) -> None:
        """Take the questions of a source.

        Args:
            rows: its questions.
            source: its name.
        """
        number = self._sources.setdefault(source, len(self._sources))
        before = self.n_questions
        iterator = iter(rows)
        while chunk := list(islice(iterator, _AT_ONCE)):
            self.n_questions += len(chunk)
            reasons = self.held_out.reasons([row.item for row in chunk])
            self.contaminated.update(reason for reason in reasons if reason is not None)
            self._keep([r for r, why in zip(chunk, reasons, strict=True) if why is None], number)
        self._taken[source] = self._taken.get(source, 0) + self.n_questions - before

    def _keep(self, rows: list[Row], source: int) -> None:
        items = [row.item for row in rows]
        self.spool.add(items)
        if self._near is not None:
            self._near.add([_asked_text(item) for item in items], [_around(i) for i in items])
        known = self._capabilities
        self._ids.extend(int(item.item_id[:16], 16) for item in items)
        self._clusters.extend(_hash(item.cluster) for item in items)
        self._capability.extend(known.setdefault(i.capability, len(known)) for i in items)
        self._source.extend([source] * len(items))
        self._scores.extend(float("nan") if row.score is None else row.score for row in rows)

    def duplicates(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Find what came before.

        Returns:
            Rows equal to an earlier one, and rows nearly alike to one that stays, shape (n,) each.
        """
        equal = ~first_of_equal(_whole(self._ids, np.uint64))
        near = np.zeros(len(equal), dtype=bool)
        if self._near is not None:
            near = self._near.left_out(equal)
        return equal, near

    def pool(self) -> Pool:
        """Lay out what the order is made from, rows left out later included.

        Returns:
            One entry a row of the spool.
        """
        strata = self._source if self._table.strata == "source" else self._capability
        return Pool(
            _whole(self._ids, np.uint64),
            _whole(strata, np.int64),
            _whole(self._clusters, np.uint64),
            _whole(self._scores, np.float64),
        )

    def counts(self, places: NDArray[np.int64]) -> dict[str, Any]:
        """Count what was read and what is asked, by the names of `Counts`.

        Args:
            places: of the items in the spool.

        Returns:
            Questions, in all and by source; those that the score set has seen, by reason; items, in
            all and by capability (counts).
        """
        numbers = _whole(self._capability, np.int64)[places]
        found = np.bincount(numbers, minlength=len(self._capabilities))
        named = sorted(self._capabilities.items())
        return {
            "sources": self._taken,
            "questions": self.n_questions,
            "contaminated": dict(sorted(self.contaminated.items())),
            "items": len(places),
            "capabilities": {name: int(found[n]) for name, n in named if found[n]},
        }


def _asked_text(item: Item) -> str:
    """The turn to be answered: what likeness is measured on."""
    return item.messages[-1].content


def _around(item: Item) -> int:
    """Hash of what the turn stands in; the same words after another talk are another question."""
    before = [f"{turn.role}\0{turn.content}\0{turn.extra or ''}" for turn in item.messages[:-1]]
    extra = item.messages[-1].extra or ""
    if not (before or extra or item.tools):
        return 0
    return _hash("\0".join([*before, extra, canonical_json(item.tools)]))


def _hash(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode()) or 1 if text else 0


def _whole(column: array[int] | array[float], kind: type[np.generic]) -> NDArray[Any]:
    return np.array(column, dtype=kind)
