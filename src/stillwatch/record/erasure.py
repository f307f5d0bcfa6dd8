"""Erases lines of a journal where they stand, also while its writer appends.

What is to go is written down before the first byte is overwritten, so an erasure that was killed is
finished by the next one, or when the journal is opened. The end of the journal is held against the
writer meanwhile: only there can a line be cut off again, and its place taken by another.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from stillwatch.errors import RecordError
from stillwatch.record.disk import from_os_error, replace_file, sync_folder
from stillwatch.record.segments import (
    REMOVED,
    Position,
    Removed,
    load_removed,
    scan_segment,
    segment_numbers,
    segment_path,
)
from stillwatch.record.tombstone import SHORTEST, forgotten_digest, tombstone

_PLAN = "erasing.json"


class Erased(NamedTuple):
    """What an erasure found.

    Attributes:
        n_lines: lines erased (count).
        n_unread: lines that could not be judged, because they are damaged, and stay (count).
    """

    n_lines: int
    n_unread: int


#: Judges a line from the place behind it and its bytes: erase it, keep it, or None: unreadable.
Judge = Callable[[Position, bytes], bool | None]


class TailLock:
    """Held by the writer while it writes, and by an erasure while it looks at the last segment.

    Args:
        folder: an existing journal.
    """

    def __init__(self, folder: Path) -> None:
        self._handle = os.open(folder / "tail.lock", os.O_RDWR | os.O_CREAT, 0o600)

    def __enter__(self) -> Self:
        fcntl.flock(self._handle, fcntl.LOCK_EX)
        return self

    def try_enter(self) -> bool:
        """Take the lock without waiting.

        Returns:
            False when another holds it; when True, `__exit__` lets go of it.
        """
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._handle, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the file. A second call does nothing."""
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = -1


def erase_lines(folder: Path, judge: Judge, *, dry_run: bool = False) -> Erased:
    """Overwrite the lines that a judge names, and sync.

    Places in the journal stay valid and segments stay linked. A copy-on-write file system or an
    SSD may keep the old bytes in places that no file shows.

    Args:
        folder: the journal; its writer may be at work. What is appended meanwhile may be missed.
        judge: called once for every finished line that is not erased already.
        dry_run: count only.

    Returns:
        The counts.

    Raises:
        RecordError: no journal there, or the disk failed.
        EnvironmentUnfitError: the folder cannot be written.
    """
    numbers = segment_numbers(folder)
    if not numbers and not (folder / "journal.lock").exists():
        message = f"{folder}: no journal here"
        raise RecordError(message, hint="a journal is a folder with files journal-00000001.jsonl")
    try:
        if dry_run:
            found = [_look(segment_path(folder, n), n, judge=judge) for n in numbers]
        else:
            found = list(_erase_segments(folder, numbers, judge=judge))
    except OSError as error:
        raise from_os_error(error, path=folder, doing="erase from the journal") from error
    return Erased(sum(len(f.lines) for f in found), sum(f.n_unread for f in found))


def remove_erased(folder: Path) -> int:
    """Remove the oldest segments while all in them is erased; the last two always stay.

    What they were is kept for `verify_journal` as one digest.

    Args:
        folder: the journal; its writer may be at work.

    Returns:
        Segments removed (count).

    Raises:
        EnvironmentUnfitError: the folder cannot be written.
        RecordError: the disk failed.
    """
    gone: list[Path] = []
    try:
        with _alone(folder, wait=True):
            _carry_out(folder)
            removed = load_removed(folder)
            # The last may still lack its first line, and then needs the one before it.
            for number in segment_numbers(folder)[:-2]:
                path = segment_path(folder, number)
                if number <= removed.segment:  # a remover was killed on the way
                    gone.append(path)
                    continue
                scan = scan_segment(path)
                if scan.sound_end != scan.size or scan.n_exchanges or scan.damaged_lines:
                    break
                gone.append(path)
                removed = Removed(number, scan.digest.hexdigest())
            if gone:
                replace_file(folder / REMOVED, msgspec.json.encode(removed))
            for path in gone:
                path.unlink()
            sync_folder(folder)
    except OSError as error:
        raise from_os_error(error, path=folder, doing="remove segments") from error
    return len(gone)


def finish_erasure(folder: Path) -> None:
    """Finish what a killed erasure began; does nothing while one is at work.

    Args:
        folder: the journal.

    Raises:
        OSError: as the system says.
        RecordError: the plan of that erasure cannot be read.
    """
    if (folder / _PLAN).exists():
        with contextlib.suppress(BlockingIOError), _alone(folder, wait=False):
            _carry_out(folder)


class _Found(msgspec.Struct):
    """What is to go from one segment: begin, length and SHA-256 (hex) of each line."""

    segment: int
    lines: list[tuple[int, int, str]]
    n_unread: int = 0


def _erase_segments(folder: Path, numbers: list[int], *, judge: Judge) -> Iterator[_Found]:
    with _alone(folder, wait=True), contextlib.closing(TailLock(folder)) as tail:
        _carry_out(folder)
        for number in numbers:
            path = segment_path(folder, number)
            with tail if number == numbers[-1] else contextlib.nullcontext():
                with path.open("rb") as file:
                    os.fdatasync(file.fileno())  # what is not there after a crash needs no plan
                found = _look(path, number, judge=judge)
                if found.lines:
                    replace_file(folder / _PLAN, msgspec.json.encode(found))
                    _carry_out(folder)
            yield found


def _look(path: Path, number: int, *, judge: Judge) -> _Found:
    found, end = _Found(number, []), 0
    with path.open("rb") as file:
        for raw in file:
            begin, end = end, end + len(raw)
            if begin == 0 or not raw.endswith(b"\n") or forgotten_digest(raw):
                continue
            verdict = judge(Position(number, end), raw)
            if verdict and len(raw) >= SHORTEST:
                found.lines.append((begin, len(raw), hashlib.sha256(raw).hexdigest()))
            elif verdict is not False:
                found.n_unread += 1
    return found


def _carry_out(folder: Path) -> None:
    path = folder / _PLAN
    try:
        plan = msgspec.json.decode(path.read_bytes(), type=_Found)
    except FileNotFoundError:
        return
    except msgspec.DecodeError as error:
        message = f"{path}: must hold the plan of an erasure, and does not"
        raise RecordError(message) from error
    handle = os.open(segment_path(folder, plan.segment), os.O_WRONLY)
    try:
        for begin, length, digest in plan.lines:
            os.pwrite(handle, tombstone(bytes.fromhex(digest), length=length), begin)
        os.fdatasync(handle)
    finally:
        os.close(handle)
    path.unlink()
    sync_folder(folder)


@contextlib.contextmanager
def _alone(folder: Path, *, wait: bool) -> Iterator[None]:
    with (folder / "erasing.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
