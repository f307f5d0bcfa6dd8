"""Cuts a stream of JSON into records: lines, or the elements of an array, or documents in a row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import msgspec

from stillwatch.logs.unit import BLOCK_BYTES, LONGEST, Block, Fault

#: What moves the depth of JSON: a whole string (skipped), a bracket, or a string still open.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[{}\[\]]|"', re.DOTALL)
_OPENING = b"{["
_BETWEEN = b" \t\r\n,[]\0"


class Pieces:
    """The records of one text file, in bounded memory.

    Args:
        name: the file's name.
        head: its first bytes, which tell lines from arrays and documents.
    """

    def __init__(self, name: str, head: bytes) -> None:
        self._name = name
        self._is_nested = is_nested(head)

    def blocks(self, chunks: Iterable[bytes]) -> Iterator[Block | Fault]:
        """Cut.

        Args:
            chunks: the file's bytes.

        Yields:
            Blocks of kind lines, and faults.
        """
        records = self._elements(chunks) if self._is_nested else self._lines(chunks)
        held: list[bytes] = []
        first, size = 1, 0
        for found in records:
            if isinstance(found, Fault):
                if held:
                    yield Block(self._name, first, "lines", held)
                yield found
                held, size, first = [], 0, found.line + 1
                continue
            held.extend(found)
            size += sum(map(len, found))
            if size >= BLOCK_BYTES:
                yield Block(self._name, first, "lines", held)
                first, held, size = first + len(held), [], 0
        if held:
            yield Block(self._name, first, "lines", held)

    def _lines(self, chunks: Iterable[bytes]) -> Iterator[list[bytes] | Fault]:
        rest: list[bytes] = []
        n_rest, line, too_long = 0, 1, False
        for chunk in chunks:
            *whole, last = chunk.split(b"\n")
            if whole:
                if too_long:
                    yield self._too_long(line)
                    whole = whole[1:]
                    line += 1
                else:
                    whole[0] = b"".join((*rest, whole[0]))
                rest, n_rest, too_long = [], 0, False
                yield whole
                line += len(whole)
            rest.append(last)
            n_rest += len(last)
            if n_rest > LONGEST:
                rest, too_long = [], True
        if too_long:
            yield self._too_long(line)
        elif final := b"".join(rest):
            yield [final]

    def _elements(self, chunks: Iterable[bytes]) -> Iterator[list[bytes] | Fault]:
        scan = _Scan()
        count = 1
        for chunk in chunks:
            found = scan.feed(chunk)
            count += len(found)
            if found:
                yield found
            if scan.n_waiting > LONGEST:
                yield Fault(self._name, count, f"a record longer than {LONGEST:,} bytes; stopped")
                return
        if left := scan.rest():
            yield [left]  # the decoder will refuse it, with its place

    def _too_long(self, line: int) -> Fault:
        return Fault(self._name, line, f"a line longer than {LONGEST:,} bytes")


class _Scan:
    """Finds where elements begin and end; their insides are left to the decoder."""

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0  # scanned up to here
        self._start: int | None = None  # where the open element begins
        self._depth = 0
        self._base = 0  # depth at which elements lie: 1 inside an array
        self._done = 0  # the last element ended here

    @property
    def n_waiting(self) -> int:
        """Bytes held of an element that is not complete."""
        return len(self._buffer)

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take bytes; give the elements that they complete."""
        self._buffer += chunk
        found: list[bytes] = []
        for match in _TOKEN.finditer(self._buffer, self._at):
            token = match[0]
            if token == b'"':  # the string goes on in the next chunk
                self._at = match.start()
                break
            self._at = match.end()
            if len(token) > 1:
                continue
            if token in _OPENING:
                self._open(token, match.start(), found)
            else:
                self._close(match.end(), found)
        else:
            self._at = len(self._buffer)
        self._cut()
        return found

    def rest(self) -> bytes:
        """What is left when the file ends: an element cut off, or nothing."""
        if self._start is None:
            return self._buffer.strip(_BETWEEN)
        return self._buffer[self._start :]

    def _open(self, token: bytes, at: int, found: list[bytes]) -> None:
        if self._depth == self._base:
            # Numbers and texts between the elements are no records; the decoder will say so.
            if between := self._buffer[self._done : at].strip(_BETWEEN):
                found.append(between)
            self._done = at
            if token == b"[" and self._depth == 0:
                self._base = 1
                self._done = at + 1
            else:
                self._start = at
        self._depth += 1

    def _close(self, at: int, found: list[bytes]) -> None:
        self._depth = max(0, self._depth - 1)
        if self._depth == self._base and self._start is not None:
            found.append(self._buffer[self._start : at])
            self._start = None
            self._done = at
        elif self._depth == 0:
            self._base = 0

    def _cut(self) -> None:
        keep = self._done if self._start is None else self._start
        if keep:
            self._buffer = self._buffer[keep:]
            self._at -= keep
            self._done = 0
            self._start = None if self._start is None else 0


def is_nested(head: bytes) -> bool:
    """Tell an array or indented documents from lines.

    Args:
        head: the first bytes of a file.

    Returns:
        True when records are not one a line.
    """
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"["):
        # `[31/Jan/2025...` is an access log: inside an array stands an object, or nothing.
        return text[1:].lstrip()[:1] in {b"{", b"]", b""}
    first, newline, then = text.partition(b"\n")
    if not text.startswith(b"{") or not newline or _is_json(first):
        return False
    second = then.lstrip(b"\r\n")[:1]
    return second in {b" ", b"\t", b'"', b"}", b""} and not first.rstrip().endswith(b"}")


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
