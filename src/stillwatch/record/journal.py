"""The journal: exchanges appended by one writer; what was acknowledged survives `kill -9`.

Appends are grouped: whatever is waiting when the disk is free goes out as one write and one sync,
in a thread, so that an event loop never waits for a disk and a busy gateway pays one sync for many
exchanges. `put` hands a line to the system at once, when that needs no waiting, and leaves the sync
to the thread: a killed process loses nothing that was put, a machine without power what was put
since the last sync. `stillwatch.record.segments` knows the files; here is the order of events.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from stillwatch.errors import RecordError, StillwatchError
from stillwatch.record.appender import Recovery, SegmentFile
from stillwatch.record.exchange import Exchange
from stillwatch.record.segments import (
    Position,
    encode_line,
    load_removed,
    read_journal,
    scan_segment,
    segment_numbers,
    segment_path,
)

__all__ = [
    "Journal", "JournalCheck", "Position", "Receipt", "Recovery", "read_journal", "verify_journal"
]  # fmt: skip

#: A new segment begins beyond this size (bytes): small enough to hash and to copy in a second.
_SEGMENT_BYTES = 64 * 2**20
#: A longer line (bytes) is left to the thread: copying it would hold an event loop up.
_PUT_BYTES = 256 * 1024


class Receipt:
    """What became of a line that was put.

    Args:
        group: the lines that go to the disk with it.
        is_written: the system has the line already.

    Attributes:
        is_written: the system has the line: a killed process does not lose it.
    """

    __slots__ = ("_group", "is_written")

    def __init__(self, group: _Group, *, is_written: bool) -> None:
        self._group = group
        self.is_written = is_written

    async def written(self) -> None:
        """Return once the system has the line.

        Raises:
            EnvironmentUnfitError: the disk is full; the journal stays sound and may be tried again.
            RecordError: the disk failed.
        """
        if not self.is_written:
            await asyncio.shield(self._group.written.future(asyncio.get_running_loop()))
            self.is_written = True

    async def synced(self) -> None:
        """Return once the disk has the line.

        Raises:
            EnvironmentUnfitError: as of `written`.
            RecordError: the disk failed, in a way that leaves doubt if the line was written.
        """
        await self.written()
        await asyncio.shield(self._group.synced.future(asyncio.get_running_loop()))

    def wait(self) -> None:
        """Block until the disk has the line; not for a thread with an event loop.

        Raises:
            EnvironmentUnfitError: as of `written`.
            RecordError: as of `synced`.
        """
        if not self.is_written:
            self._group.written.wait()
        self._group.synced.wait()


class Journal:
    """An append-only record with one writer. Open it with `Journal.open`, close it, or use `with`.

    Attributes:
        folder: where the segments lie.
        recovery: what opening found.
    """

    def __init__(self, folder: Path, *, fsync_interval_s: float, segment_bytes: int) -> None:
        self.folder = folder
        self._interval_s = fsync_interval_s
        self._file = SegmentFile(folder, segment_bytes=segment_bytes)
        self.recovery = self._file.recovery
        self._wake = threading.Condition()
        self._disk = threading.Lock()  # held while lines are handed over, not while they are synced
        self._pending = _Group()
        self._closing = False
        self._n_queued = 0
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    @property
    def queued_bytes(self) -> int:
        """Bytes of lines in memory that the disk does not have yet."""
        return self._n_queued

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        fsync_interval_s: float = 0.02,
        segment_bytes: int = _SEGMENT_BYTES,
    ) -> Self:
        """Open a journal for appending, making it if absent and repairing a torn end.

        Args:
            folder: where the segments lie.
            fsync_interval_s: least time between two syncs (seconds); the first append after a
                pause does not wait.
            segment_bytes: size beyond which a new segment begins.

        Returns:
            The journal, held by this process alone until it is closed.

        Raises:
            EnvironmentUnfitError: another writer holds it, or the folder cannot be written.
            RecordError: the folder holds a journal that this version cannot read.
        """
        return cls(Path(folder), fsync_interval_s=fsync_interval_s, segment_bytes=segment_bytes)

    async def append(self, exchange: Exchange) -> None:
        """Append, and return once the exchange is on the disk.

        A cancelled caller does not take its exchange back: it is written all the same.

        Args:
            exchange: what to keep.

        Raises:
            EnvironmentUnfitError: the disk is full; the journal stays sound and may be tried again.
            RecordError: the journal is closed, or the disk failed in a way that leaves doubt.
        """
        await self._submit(encode_line(exchange)).synced()

    def append_sync(self, exchange: Exchange) -> None:
        """Append from a thread without an event loop, and return once it is on the disk.

        Args:
            exchange: what to keep.

        Raises:
            EnvironmentUnfitError: as in `append`.
            RecordError: as in `append`.
        """
        self._submit(encode_line(exchange)).wait()

    def put(self, line: bytes) -> Receipt:
        """Append a line without waiting for the disk; for an event loop.

        Args:
            line: as of `stillwatch.record.segments.encode_line`.

        Returns:
            The receipt: mostly of a line that the system has already. A long one, or one that meets
            a new segment or an erasure, is written by the thread.

        Raises:
            EnvironmentUnfitError: the disk is full; the journal stays sound and may be tried again.
            RecordError: the journal is closed, or the disk failed in a way that leaves doubt.
        """
        if len(line) <= _PUT_BYTES and not self._closing and self._disk.acquire(blocking=False):
            try:
                is_written = self._file.append_now(line)
            finally:
                self._disk.release()
        else:
            is_written = False
        return self._submit(line, is_written=is_written, is_urgent=not is_written)

    async def flush(self) -> None:
        """Return once everything that was appended before, by anybody, has been tried.

        Raises:
            RecordError: the journal is closed.
        """
        receipt = self._submit(b"", is_written=True)
        with contextlib.suppress(StillwatchError):  # told to those who appended
            await receipt.synced()

    def close(self) -> None:
        """Write what is waiting, and let the next writer in. A second call does nothing."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _submit(self, line: bytes, *, is_written: bool = False, is_urgent: bool = False) -> Receipt:
        with self._wake:
            if self._closing:
                message = f"{self.folder}: the journal is closed"
                raise RecordError(message)
            group = self._pending
            if not group.is_wanted or (is_urgent and not group.is_urgent):
                group.is_wanted, group.is_urgent = True, is_urgent
                self._wake.notify()
            if not is_written:
                group.lines.append(line)
            group.n_bytes += len(line)
            self._n_queued += len(line)
            return Receipt(group, is_written=is_written)

    def _run(self) -> None:
        synced_at = -self._interval_s
        unsynced: list[_Group] = []
        while (group := self._next_group(synced_at, is_due=bool(unsynced))) is not None:
            unsynced.append(group)
            self._write(group)
            if self._closing or time.monotonic() >= synced_at + self._interval_s:
                self._sync(unsynced)
                synced_at, unsynced = time.monotonic(), []
        self._sync(unsynced)

    def _next_group(self, synced_at: float, *, is_due: bool) -> _Group | None:
        """Wait until there is something to do; None when the journal is to be closed."""
        with self._wake:
            self._wake.wait_for(lambda: is_due or self._pending.is_wanted or self._closing)
            if self._closing and not self._pending.is_wanted:
                return None
            # Let company gather: one sync serves all who come before its time.
            due = synced_at + self._interval_s - time.monotonic()
            if due > 0:
                self._wake.wait_for(lambda: self._closing or self._pending.is_urgent, timeout=due)
            group, self._pending = self._pending, _Group()
        return group

    def _write(self, group: _Group) -> None:
        try:
            if group.lines:
                with self._disk:
                    self._file.append(group.lines)
        except StillwatchError as error:
            group.written.open(error)
        else:
            group.written.open()

    def _sync(self, groups: list[_Group]) -> None:
        error: StillwatchError | None = None
        try:
            self._file.sync()
        except StillwatchError as found:
            error = found
        with self._wake:
            self._n_queued -= sum(group.n_bytes for group in groups)
        for group in groups:
            group.synced.open(error)


class _Group:
    """Lines that go to the disk together."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.n_bytes = 0
        self.is_wanted = self.is_urgent = False
        self.written = _Gate()
        self.synced = _Gate()


class _Gate:
    """Opens once, and tells all who wait how it went."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._error: StillwatchError | None = None
        self._futures: dict[asyncio.AbstractEventLoop, asyncio.Future[None]] = {}

    def future(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """One future a loop, shared by all its callers: one wake-up a group."""
        with self._lock:
            if loop not in self._futures:
                self._futures[loop] = loop.create_future()
                if self._done.is_set():
                    _settle(self._futures[loop], self._error)
            return self._futures[loop]

    def wait(self) -> None:
        """Block until it opens."""
        self._done.wait()
        self.check()

    def check(self) -> None:
        """Raise what went wrong, once it is open."""
        if self._error is not None:
            raise self._error

    def open(self, error: StillwatchError | None = None) -> None:
        """Tell all who wait how it went."""
        with self._lock:
            self._error = error
            self._done.set()
            futures = list(self._futures.items())
        for loop, future in futures:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits there now
                loop.call_soon_threadsafe(_settle, future, error)


def _settle(future: asyncio.Future[None], error: StillwatchError | None) -> None:
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
        future.exception()  # whoever waited may be gone; that is no news


class JournalCheck(NamedTuple):
    """What reading a whole journal against its checksums found.

    Attributes:
        n_segments: segments present (count).
        n_exchanges: sound exchanges (count).
        damaged_lines: lines whose checksum does not fit (count).
        broken_links: segments that do not follow the one before them as it was written.
        forgotten_lines: exchanges that were forgotten (count); they break no link.
    """

    n_segments: int
    n_exchanges: int
    damaged_lines: int
    broken_links: tuple[int, ...]
    forgotten_lines: int


def verify_journal(folder: Path) -> JournalCheck:
    """Check every line's checksum and every segment's link to the one before.

    Args:
        folder: the journal; it may be in use.

    Returns:
        The counts; sound means no damaged lines and no broken links. Who can rewrite the folder can
        rewrite the links too: they show accidents and clumsy edits, not a patient forger.
    """
    folder = Path(folder)
    numbers = segment_numbers(folder)
    broken, n_exchanges, damaged, forgotten = [], 0, 0, 0
    removed = load_removed(folder)
    expected = (removed.segment + 1, removed.digest)
    for number in numbers:
        if number <= removed.segment:  # it was about to go when its remover was killed
            continue
        scan = scan_segment(segment_path(folder, number))
        n_exchanges += scan.n_exchanges
        damaged += scan.damaged_lines + scan.rotten_lines
        forgotten += scan.forgotten_lines
        link = (scan.head.segment, scan.head.previous) if scan.head else None
        if link != expected:
            broken.append(number)
        expected = (number + 1, scan.digest.hexdigest())
    return JournalCheck(len(numbers), n_exchanges, damaged, tuple(broken), forgotten)
