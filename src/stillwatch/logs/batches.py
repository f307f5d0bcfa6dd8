"""What the two vendors' batches share: when a line was asked, which batch it is of, who asked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

from stillwatch.logs.api_bodies import Person
from stillwatch.logs.envelope import UNKNOWN_TIME
from stillwatch.logs.fields import account_of, epoch, text
from stillwatch.logs.halves import Pair
from stillwatch.logs.reader import ReadOptions

#: Ids as the vendors give them to batches and files, where a downloaded file's name holds one.
_ID = re.compile(r"(?:msgbatch|batch|file)[_-][A-Za-z0-9]{6,}")


class When(NamedTuple):
    """When and where a pair's question was asked.

    Attributes:
        started_at: UTC epoch seconds; `UNKNOWN_TIME` when nothing in the log tells.
        tags: batch, end_user, half, pairing and how the time is known.
        origin: where the pair stood, the answer's place first.
        fallback_id: an id that is unique in the log, from the pair's place.
    """

    started_at: float
    tags: dict[str, str]
    origin: str
    fallback_id: str


class Batches:
    """The batches of one log.

    Args:
        options: how times are read.
    """

    def __init__(self, options: ReadOptions) -> None:
        self._options = options
        self._named: dict[str, tuple[str, float | None]] = {}
        self._last: float | None = None

    def note(self, batch: Mapping[str, Any], *, names: Iterable[str]) -> None:
        """Remember a batch object.

        Args:
            batch: the vendor's object.
            names: its fields that hold ids which a file's name may carry.
        """
        options = self._options
        started_at = epoch(batch.get("in_progress_at"), options=options)
        started_at = started_at or epoch(batch.get("created_at"), options=options)
        batch_id = text(batch.get("id"))
        for name in names:
            found = text(batch.get(name))
            if found is not None and batch_id is not None:
                self._named[found] = (batch_id, started_at)

    def time_of(self, pair: Pair, *, answered_at: float | None, person: Person) -> When:
        """Say when a pair was asked, and what else is known of it.

        Args:
            pair: question and answer.
            answered_at: the time that the answer's body tells, or None.
            person: whom the question names.

        Returns:
            Time, place and tags.
        """
        halves = [half for half in (pair.answer, pair.question) if half is not None]
        batch, batch_at = self._batch([half.origin.file for half in halves])
        known = (("answer", answered_at), ("batch", batch_at), ("neighbour", self._last))
        how, started_at = next(
            ((h, t) for h, t in known if t is not None), ("unknown", UNKNOWN_TIME)
        )
        if how in {"answer", "batch"}:
            self._last = started_at
        facts = {
            "time": how,
            "batch": batch,
            "end_user": person.end_user,
            "half": None if len(halves) == 2 else "question" if pair.question else "answer",
            "pairing": "doubtful" if pair.is_doubtful else None,
            # Whoever makes up ids may put an e-mail address there.
            "custom_id": account_of(self._options, halves[0].record.get("custom_id")),
        }
        origin = str(halves[0].origin)
        tags = {name: value for name, value in facts.items() if value is not None}
        # One line can hold a whole batch of questions, so its place alone is no id.
        return When(started_at, tags, origin, f"{origin}#{facts['custom_id']}")

    def _batch(self, files: list[str]) -> tuple[str | None, float | None]:
        ids = [found for file in files for found in _ID.findall(PurePath(file).name)]
        for found in ids:
            if found in self._named:
                return self._named[found]
        own = [found for found in ids if not found.startswith("file")]
        return (own[0], None) if own else (None, None)


def in_requests(record: Mapping[str, Any]) -> list[Any]:
    """Take the lines out of a record that wraps them, as the body that makes a batch does.

    Args:
        record: `{"requests": [...]}`, or a line.

    Returns:
        The lines.
    """
    lines = record.get("requests")
    return lines if isinstance(lines, list) and "custom_id" not in record else [record]
