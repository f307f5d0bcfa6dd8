"""The writing end of a journal's files: lock, recovery, write, sync, the next segment."""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from stillwatch.errors import EnvironmentUnfitError, RecordError, StillwatchError
from stillwatch.record.disk import from_os_error, sync_folder
from stillwatch.record.erasure import TailLock, finish_erasure
from stillwatch.record.segments import SegmentHead, scan_segment, segment_numbers, segment_path
from stillwatch.record.tombstone import SegmentDigest

_log = logging.getLogger(__name__)


#: A segment no longer than this holds its first line only (bytes), and is not left for the next.
_LONGEST_HEAD = 256


class Recovery(NamedTuple):
    """What opening a journal found.

    Attributes:
        n_exchanges: sound exchanges in the last segment (count).
        torn_bytes: bytes behind the last sound line that were cut off (an unfinished line, never
            acknowledged; finished but rotten lines are kept beside the segment as `.torn-OFFSET`).
        damaged_lines: lines in the midst of the last segment whose checksum does not fit (count);
            they are left where they are and a new segment begins.
    """

    n_exchanges: int
    torn_bytes: int
    damaged_lines: int


class SegmentFile:
    """The one segment that is open for appending; used by one thread at a time, but for `sync`.

    Args:
        folder: the journal; made if absent.
        segment_bytes: size beyond which a new segment begins.

    Attributes:
        recovery: what opening found.
    """

    def __init__(self, folder: Path, *, segment_bytes: int) -> None:
        self._folder = folder
        self._limit = segment_bytes
        self._broken: StillwatchError | None = None
        self._handle = self._lock = -1
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._tail = TailLock(folder)
        except OSError as error:
            raise from_os_error(error, path=folder, doing="open the journal") from error
        try:
            self._lock = _lock(folder / "journal.lock")
            finish_erasure(folder)
            with self._tail:
                self.recovery = self._recover()
        except OSError as error:
            self.close()
            raise from_os_error(error, path=folder, doing="open the journal") from error
        except StillwatchError:
            self.close()
            raise

    def append(self, lines: Sequence[bytes]) -> None:
        """Hand lines to the system, which keeps them when this process is killed.

        Args:
            lines: whole lines; none does nothing.

        Raises:
            EnvironmentUnfitError: the disk is full or not writable; the file is as it was before.
            RecordError: the disk failed, now or at an earlier sync.
        """
        if self._broken is not None:
            raise self._broken
        if not lines:
            return
        data = b"".join(lines)
        with self._tail:  # an erasure must not look at lines that may be cut off again
            if self._is_over(len(data)):
                self._next_segment()
            self._append(data)
        for line in lines:
            self._hash.update(line)

    def append_now(self, line: bytes) -> bool:
        """Hand one line to the system, unless anything would have to be waited for.

        Args:
            line: a whole line.

        Returns:
            False, and nothing done, when a new segment is due or an erasure holds the end.

        Raises:
            EnvironmentUnfitError: as of `append`.
            RecordError: as of `append`.
        """
        if self._broken is not None:
            raise self._broken
        if self._is_over(len(line)) or not self._tail.try_enter():
            return False
        try:
            self._append(line)
        finally:
            self._tail.__exit__()
        self._hash.update(line)
        return True

    def sync(self) -> None:
        """Bring to the disk what was appended. May run beside `append_now` of another thread.

        After a failed sync nothing more is accepted: the system may have dropped the very pages
        that it failed on, so another try could succeed without them.

        Raises:
            RecordError: the disk failed.
        """
        if self._broken is not None:
            raise self._broken
        try:
            os.fdatasync(self._handle)
        except OSError as error:
            path = segment_path(self._folder, self._number)
            self._broken = from_os_error(error, path=path, doing="sync")
            raise self._broken from error

    def _is_over(self, n_bytes: int) -> bool:
        return self._size + n_bytes > self._limit and self._size > _LONGEST_HEAD

    def _next_segment(self) -> None:
        self.sync()  # nothing syncs the old one once it is closed
        try:
            self._begin(self._number + 1, previous=self._hash.hexdigest())
        except OSError as error:
            path = segment_path(self._folder, self._number)
            raise from_os_error(error, path=path, doing="append") from error

    def _append(self, data: bytes) -> None:
        try:
            _write_all(self._handle, data)
        except OSError as error:
            self._cut()
            path = segment_path(self._folder, self._number)
            raise from_os_error(error, path=path, doing="append") from error
        self._size += len(data)

    def close(self) -> None:
        """Let go of the segment and the lock."""
        for handle in (self._handle, self._lock):
            if handle >= 0:
                os.close(handle)
        self._handle = self._lock = -1
        self._tail.close()

    def _cut(self) -> None:
        try:
            os.ftruncate(self._handle, self._size)
        except OSError as error:
            path = segment_path(self._folder, self._number)
            self._broken = from_os_error(error, path=path, doing="cut a torn end")

    def _recover(self) -> Recovery:
        numbers = segment_numbers(self._folder)
        if not numbers:
            self._journal_id = secrets.token_hex(8)
            self._begin(1, previous="")
            return Recovery(0, 0, 0)
        self._number = numbers[-1]
        path = segment_path(self._folder, self._number)
        scan = scan_segment(path)
        if scan.head is None:
            return self._restart(path, torn_bytes=scan.size, before=numbers[:-1])
        self._journal_id = scan.head.journal_id
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND)
        self._size, self._hash = scan.sound_end, scan.digest
        torn_bytes = scan.size - scan.sound_end
        if torn_bytes:
            self._set_aside(path, torn_bytes=torn_bytes)
        if scan.damaged_lines:
            _log.warning("%s: %d damaged lines are left in place", path, scan.damaged_lines)
            self._begin(self._number + 1, previous=self._hash.hexdigest())
        return Recovery(scan.n_exchanges, torn_bytes, scan.damaged_lines)

    def _set_aside(self, path: Path, *, torn_bytes: int) -> None:
        with path.open("rb") as file:
            file.seek(self._size)
            torn = file.read()
        if b"\n" in torn:  # whole lines that rotted, not one that was never finished: keep them
            path.with_suffix(f".torn-{self._size}").write_bytes(torn)
        os.ftruncate(self._handle, self._size)
        os.fsync(self._handle)
        _log.warning("%s: cut a torn end of %d bytes", path, torn_bytes)

    def _restart(self, path: Path, *, torn_bytes: int, before: list[int]) -> Recovery:
        # Killed between making a segment and finishing its first line; anything else is not ours.
        if b"\n" in path.read_bytes():
            message = f"{path}:1: the first line must name a journal of version 1, and does not"
            raise RecordError(message)
        previous, self._journal_id = "", secrets.token_hex(8)
        if before:
            last = scan_segment(segment_path(self._folder, before[-1]))
            previous = last.digest.hexdigest()
            self._journal_id = last.head.journal_id if last.head else self._journal_id
        path.unlink()
        self._begin(self._number, previous=previous)
        return Recovery(0, torn_bytes, 0)

    def _begin(self, number: int, *, previous: str) -> None:
        head = SegmentHead(journal_id=self._journal_id, segment=number, previous=previous)
        line = msgspec.json.encode(head) + b"\n"
        path = segment_path(self._folder, number)
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _write_all(handle, line)
            os.fsync(handle)
            sync_folder(self._folder)
        except OSError:
            os.close(handle)
            path.unlink()
            raise
        if self._handle >= 0:
            os.close(self._handle)
        self._handle, self._number = handle, number
        self._size = len(line)
        self._hash = SegmentDigest()
        self._hash.update(line)


def _lock(path: Path) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(handle, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(handle)
        message = (
            f"{path.parent}: the journal must have one writer, and process {holder} is writing"
        )
        raise EnvironmentUnfitError(
            message, hint="stop that process, or use another folder"
        ) from None
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    return handle


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
