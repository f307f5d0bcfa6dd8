"""The files of a journal: their names, their lines, and what a reader makes of them.

A journal is a folder of segments ``journal-00000001.jsonl``. Every line is JSON by itself. The
first names the journal and the digest of the segment before it, so that an exchanged or shortened
old segment shows; each further line holds one exchange and the xxh3-64 of its bytes, so that a torn
or rotten line shows. A line that was forgotten is overwritten where it stands by one of the same
length that keeps nothing but its SHA-256: no place moves and no link breaks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import xxhash

from stillwatch.errors import RecordError, reject
from stillwatch.record.disk import from_os_error
from stillwatch.record.exchange import Exchange
from stillwatch.record.tombstone import SegmentDigest, forgotten_digest

#: The file that says which segments were removed.
REMOVED = "removed.json"
_NAME = re.compile(r"journal-(\d{8})\.jsonl")
_LEFT, _MIDDLE, _RIGHT = b'{"sum":"', b'","exchange":', b"}\n"
_SUM = slice(len(_LEFT), len(_LEFT) + 16)
_MIDDLE_AT = slice(_SUM.stop, _SUM.stop + len(_MIDDLE))
_encode = msgspec.json.Encoder().encode
_decode_exchange = msgspec.json.Decoder(Exchange).decode


class Position(NamedTuple):
    """A place between two lines of a journal; later places compare greater.

    Attributes:
        segment: number of the segment, from 1.
        offset: bytes from the segment's start.
    """

    segment: int
    offset: int


class SegmentHead(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of a segment.

    Attributes:
        journal: version of the format.
        journal_id: random id of the journal, the same in all its segments.
        segment: the segment's number, from 1.
        previous: `SegmentDigest` of the segment before, hex; "" in the first.
    """

    journal: int = 1
    journal_id: str
    segment: int
    previous: str


_decode_head = msgspec.json.Decoder(SegmentHead).decode


def read_journal(
    folder: Path,
    *,
    after: Position | None = None,
    on_damage: Literal["raise", "skip"] = "raise",
) -> Iterator[tuple[Position, Exchange]]:
    """Read exchanges in the order in which they were appended, also while a writer appends.

    An unfinished last line is not an error: it ends the reading, and a later call with the last
    position as `after` goes on from there. Memory is bounded by the longest line.

    Args:
        folder: the journal.
        after: where an earlier reading stopped; None reads from the start.
        on_damage: what to do about a line whose checksum does not fit: raise, or skip it.

    Yields:
        Each exchange with the place behind it.

    Raises:
        RecordError: the folder is no journal, or a line is damaged.
    """
    start = after or Position(0, 0)
    numbers = segment_numbers(folder)
    if not numbers and not (folder / "journal.lock").exists():
        message = f"{folder}: no journal here"
        raise RecordError(message, hint="a journal is a folder with files journal-00000001.jsonl")
    for number in numbers:
        gone = not segment_path(folder, number).exists()
        if gone and number <= load_removed(folder).segment:
            continue
        if number >= start.segment:
            offset = start.offset if number == start.segment else 0
            for line in read_lines(segment_path(folder, number), offset=offset):
                if line.exchange is not None:
                    yield Position(number, line.end), line.exchange
                elif on_damage == "raise":
                    raise RecordError(_damage(folder, number, line=line))


class Removed(msgspec.Struct, frozen=True):
    """Which segments were removed because all in them was forgotten.

    Attributes:
        segment: number of the last one, 0 when none was.
        digest: its `SegmentDigest`, which the next segment names; "" when none was.
    """

    segment: int = 0
    digest: str = ""


def load_removed(folder: Path) -> Removed:
    """Read which segments of a journal were removed.

    Args:
        folder: the journal.

    Returns:
        The last one, and its digest.

    Raises:
        RecordError: the file that says so cannot be read.
    """
    path = folder / REMOVED
    try:
        return msgspec.json.decode(path.read_bytes(), type=Removed)
    except FileNotFoundError:
        return Removed()
    except msgspec.DecodeError as error:
        message = f"{path}: must name a removed segment, and does not"
        raise RecordError(message) from error


class Line(NamedTuple):
    """One finished line of a segment.

    Attributes:
        end: bytes from the segment's start to behind the line.
        exchange: what it holds; None when the line is damaged.
    """

    end: int
    exchange: Exchange | None


def read_lines(path: Path, *, offset: int = 0) -> Iterator[Line]:
    """Read the finished exchange lines of one segment.

    Args:
        path: the segment.
        offset: where to begin: 0 or the end of a line.

    Yields:
        Each line; an unfinished last line and forgotten ones are left out.

    Raises:
        EnvironmentUnfitError: permission is missing.
        RecordError: the segment is gone or the disk failed.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise from_os_error(error, path=path, doing="read the journal") from error
    with file:
        file.seek(offset)
        for raw in file:
            if not raw.endswith(b"\n"):
                return
            begin, offset = offset, offset + len(raw)
            if begin == 0 and read_head(raw) is not None:
                continue
            exchange = decode_line(raw)
            if exchange is None:
                # It may have been half overwritten while it was read: what stands there now?
                raw = os.pread(file.fileno(), len(raw), begin)  # noqa: PLW2901 - the same line
                if forgotten_digest(raw):
                    continue
                exchange = decode_line(raw)
            yield Line(offset, exchange)


class SegmentScan(NamedTuple):
    """A whole segment read against its checksums.

    Attributes:
        head: the first line, or None when it is unfinished or foreign.
        n_exchanges: sound exchange lines (count).
        damaged_lines: lines that do not fit their checksum and have a sound line behind (count).
        sound_end: bytes up to the end of the last sound line.
        size: bytes of the file.
        digest: running digest of the lines up to `sound_end`.
        rotten_lines: finished lines behind `sound_end` (count).
        forgotten_lines: lines that were forgotten (count).
    """

    head: SegmentHead | None
    n_exchanges: int
    damaged_lines: int
    sound_end: int
    size: int
    digest: SegmentDigest
    rotten_lines: int
    forgotten_lines: int


def scan_segment(path: Path) -> SegmentScan:
    """Read a whole segment, one line in memory at a time.

    Args:
        path: the segment.

    Returns:
        What is sound and what is not.
    """
    head, n_exchanges, damaged, end, sound_end = None, 0, 0, 0, 0
    running, n_rotten, n_forgotten = SegmentDigest(), 0, 0
    digest = running
    with path.open("rb") as file:
        for raw in file:
            end += len(raw)
            running.update(raw)
            if end == len(raw):
                head = read_head(raw)
                sound = head is not None
            elif forgotten_digest(raw):
                sound, n_forgotten = True, n_forgotten + 1
            else:
                sound = decode_line(raw) is not None
                n_exchanges += sound
            if sound:
                damaged, n_rotten = damaged + n_rotten, 0
                sound_end, digest = end, running.copy()
            else:
                n_rotten += raw.endswith(b"\n")
    return SegmentScan(head, n_exchanges, damaged, sound_end, end, digest, n_rotten, n_forgotten)


def encode_line(exchange: Exchange) -> bytes:
    """Write one exchange as a line with its checksum.

    Args:
        exchange: what to write.

    Returns:
        The line, its line feed included.

    Raises:
        InvalidInputError: a field holds what JSON cannot (a lone surrogate, a huge number).
    """
    try:
        body = _encode(exchange)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        reject("journal", "exchange", "plain data that JSON can hold", got=type(error).__name__)
    return b"".join((_LEFT, xxhash.xxh3_64_hexdigest(body).encode(), _MIDDLE, body, _RIGHT))


def decode_line(raw: bytes) -> Exchange | None:
    """Read one line.

    Args:
        raw: the line, its line feed included.

    Returns:
        The exchange, or None when form or checksum do not fit.
    """
    if not is_sound(raw):
        return None
    try:
        return _decode_exchange(raw[_MIDDLE_AT.stop : -len(_RIGHT)])
    except msgspec.DecodeError:  # written by a later version
        return None


def is_sound(raw: bytes) -> bool:
    """Tell whether an exchange's line fits its checksum.

    Args:
        raw: the line, its line feed included.

    Returns:
        True when form and checksum fit.
    """
    return (
        raw.startswith(_LEFT)
        and raw[_MIDDLE_AT] == _MIDDLE
        and raw.endswith(_RIGHT)
        and raw[_SUM] == xxhash.xxh3_64_hexdigest(raw[_MIDDLE_AT.stop : -len(_RIGHT)]).encode()
    )


def read_head(raw: bytes) -> SegmentHead | None:
    """Read the first line of a segment.

    Args:
        raw: the line, its line feed included.

    Returns:
        The head, or None when the line is none, or of a version that this code does not know.
    """
    try:
        head = _decode_head(raw)
    except msgspec.DecodeError:
        return None
    return head if head.journal == 1 else None


def segment_numbers(folder: Path) -> list[int]:
    """List the segments of a journal.

    Args:
        folder: the journal.

    Returns:
        Their numbers, ascending; none when the folder is absent.
    """
    if not folder.is_dir():
        return []
    found = (_NAME.fullmatch(name) for name in os.listdir(folder))
    return sorted(int(match[1]) for match in found if match)


def segment_path(folder: Path, number: int) -> Path:
    """Name a segment.

    Args:
        folder: the journal.
        number: the segment's number, from 1.

    Returns:
        Its path.
    """
    return folder / f"journal-{number:08d}.jsonl"


def _damage(folder: Path, number: int, *, line: Line) -> str:
    path = segment_path(folder, number)
    with path.open("rb") as file:
        row = file.read(line.end).count(b"\n")
    return f"{path}:{row}: the line's checksum must fit its content, and does not"
