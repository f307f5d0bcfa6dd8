"""Pairs what a log keeps apart: questions in one file, answers in another, joined by an id.

Ids are unique inside one batch only (`request-1` is in every batch), so halves with the same id
wait in line, and a pair that could have been another is said to be doubtful.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import msgspec

from stillwatch.logs.reader import Origin

Side = Literal["question", "answer"]
#: Bytes that may wait: room for the largest batch that either vendor takes (200 and 256 MB).
LIMIT = 384 * 2**20
_BESIDE = 600  # bytes that a waiting half weighs besides its body, as measured
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Half(NamedTuple):
    """One side of a pair.

    Attributes:
        record: as decoded.
        origin: where it stood.
    """

    record: Any
    origin: Origin


class Pair(NamedTuple):
    """What belongs together.

    Attributes:
        question: None when it never came.
        answer: None when it never came.
        is_doubtful: whether another question with the same id waited too.
    """

    question: Half | None
    answer: Half | None
    is_doubtful: bool = False


class _Waiting(NamedTuple):
    side: Side
    packed: bytes
    origin: Origin


class Halves:
    """Halves that wait, packed, in bounded memory.

    Args:
        limit: bytes that may wait; beyond it the one that waits longest is given up.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._size = 0
        # Lists, because nearly every line has one half in it, and an empty deque weighs 0.6 kB.
        self._lines: OrderedDict[str, list[_Waiting]] = OrderedDict()

    def add(self, key: str, half: Half, *, side: Side) -> Iterator[Pair]:
        """Take a half.

        Args:
            key: the id that both halves carry.
            half: the record.
            side: which half it is.

        Yields:
            The pair that it completes, if any, and halves that are given up for want of room.
        """
        line = self._lines.get(key)
        if line and line[0].side != side:
            other = self._take(key)
            doubtful = key in self._lines
            pair = (other, half) if side == "answer" else (half, other)
            yield Pair(pair[0], pair[1], is_doubtful=doubtful)
            return
        waiting = _Waiting(side, _encode(half.record), half.origin)
        self._lines.setdefault(key, []).append(waiting)
        self._size += len(waiting.packed) + _BESIDE
        while self._size > self._limit and len(self._lines) > 1:
            yield self._alone(next(iter(self._lines)))

    def rest(self) -> Iterator[Pair]:
        """Give back what still waits, in the order in which it came.

        Yields:
            Halves without their other half.
        """
        while self._lines:
            yield self._alone(next(iter(self._lines)))

    def _alone(self, key: str) -> Pair:
        side = self._lines[key][0].side
        half = self._take(key)
        return Pair(half, None) if side == "question" else Pair(None, half)

    def _take(self, key: str) -> Half:
        line = self._lines[key]
        waiting = line.pop(0)
        if not line:
            del self._lines[key]
        self._size -= len(waiting.packed) + _BESIDE
        return Half(_decode(waiting.packed), waiting.origin)
