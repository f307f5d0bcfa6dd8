"""Cuts a passing file into lines, and puts the pieces of lines that ranges cut together again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, NamedTuple

_MOST_PIECES: Final = 32 * 2**20  # bytes of cut lines held, all files together


class Line(NamedTuple):
    """One line, or what there was of it.

    Attributes:
        place: of its first byte in the file.
        text: its bytes without the line end; None when it is too long.
        length: bytes, without the line end.
    """

    place: int
    text: bytes | None
    length: int


class LineReader:
    """Cuts bytes into lines, whatever pieces they come in.

    Args:
        limit: longest line that is kept (bytes).
        place: of the first byte in its file.
    """

    def __init__(self, limit: int, *, place: int = 0) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._begun = place
        self._length = 0

    def feed(self, chunk: bytes) -> Iterator[Line]:
        """Read on.

        Args:
            chunk: the next bytes.

        Yields:
            The lines that it ended.
        """
        first, *rest = chunk.split(b"\n")
        self._hold(first)
        for part in rest:
            yield self.rest()
            self._begun += 1  # the line end
            self._hold(part)

    def rest(self) -> Line:
        """Take the line that has begun as if it ended here.

        Returns:
            The line, an empty one when nothing is left.
        """
        text = b"".join(self._parts) if self._length <= self._limit else None
        line = Line(self._begun, text, self._length)
        self._begun += self._length
        self._parts, self._length = [], 0
        return line

    def _hold(self, part: bytes) -> None:
        self._length += len(part)
        if self._length <= self._limit:
            self._parts.append(part)
        else:
            self._parts.clear()


class _Piece(NamedTuple):
    begin: int
    text: bytes
    is_begin: bool
    is_end: bool

    @property
    def end(self) -> int:
        return self.begin + len(self.text)


class Pieces:
    """Lines that were fetched in several ranges; the oldest pieces go when there are too many."""

    def __init__(self, most: int = _MOST_PIECES) -> None:
        self._most = most
        self._files: OrderedDict[str, list[_Piece]] = OrderedDict()
        self._size = 0
        self.n_dropped = 0

    def add(self, file: str, line: Line, *, is_begin: bool, is_end: bool) -> Line | None:
        """Add what a range brought of a line that it cut.

        Args:
            file: the file's id.
            line: the piece.
            is_begin: the line begins here.
            is_end: the line ends here.

        Returns:
            The whole line when this was the last piece that was missing.
        """
        if line.text is None:
            return None
        merged = _Piece(line.place, line.text, is_begin, is_end)
        held = self._files.pop(file, [])
        self._size -= sum(len(piece.text) for piece in held)
        kept: list[_Piece] = []
        for piece in held:
            joined = _join(piece, merged)
            if joined is None:
                kept.append(piece)
            else:
                merged = joined
        whole = merged.is_begin and merged.is_end
        if not whole:
            kept.append(merged)
        if kept:
            self._files[file] = kept
            self._size += sum(len(piece.text) for piece in kept)
        while self._size > self._most:
            _, dropped = self._files.popitem(last=False)
            self._size -= sum(len(piece.text) for piece in dropped)
            self.n_dropped += len(dropped)
        return Line(merged.begin, merged.text, len(merged.text)) if whole else None


def _join(one: _Piece, two: _Piece) -> _Piece | None:
    """Join two pieces of one line that touch or overlap."""
    first, second = (one, two) if one.begin <= two.begin else (two, one)
    # A line's end and the next line's begin have a line end between them: they do not touch.
    if second.begin > first.end or (first.is_end and second.begin == first.end):
        return None
    if first.end >= second.end:
        return first._replace(
            is_begin=first.is_begin or (second.is_begin and second.begin == first.begin),
            is_end=first.is_end or (second.is_end and second.end == first.end),
        )
    text = first.text + second.text[first.end - second.begin :]
    is_begin = first.is_begin or (second.is_begin and second.begin == first.begin)
    return _Piece(first.begin, text, is_begin, second.is_end)
