"""The journal: exchanges appended by one writer; what was acknowledged survives `kill -9`.

Appends are grouped: whatever is waiting when the disk is free goes out as one write and one sync,
in a thread, so that an event loop never waits for a disk and a busy gateway pays one sync for many
exchanges. `stillwatch.record.segments` knows the files; here is the order of events.
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
    "Journal", "JournalCheck", "Position", "Recovery", "read_journal", "verify_journal"
]  # fmt: skip

#: A new segment begins beyond this size (bytes): small enough to hash and to copy in a second.
_SEGMENT_BYTES = 64 * 2**20


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
        self._pending = _Group()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

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
        group = self._submit(encode_line(exchange))
        await asyncio.shield(group.future(asyncio.get_running_loop()))

    def append_sync(self, exchange: Exchange) -> None:
        """Append from a thread without an event loop, and return once it is on the disk.

        Args:
            exchange: what to keep.

        Raises:
            EnvironmentUnfitError: as in `append`.
            RecordError: as in `append`.
        """
        self._submit(encode_line(exchange)).wait()

    async def flush(self) -> None:
        """Return once everything that was appended before, by anybody, has been tried.

        Raises:
            RecordError: the journal is closed.
        """
        group = self._submit(b"")
        await asyncio.shield(group.future(asyncio.get_running_loop()))

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

    def _submit(self, line: bytes) -> _Group:
        with self._wake:
            if self._closing:
                message = f"{self.folder}: the journal is closed"
                raise RecordError(message)
            if not self._pending.lines:
                self._wake.notify()
            self._pending.lines.append(line)
            return self._pending

    def _run(self) -> None:
        synced_at = -self._interval_s
        while True:
            with self._wake:
                while not self._pending.lines and not self._closing:
                    self._wake.wait()
                if not self._pending.lines:
                    return
                # Let company gather: one sync serves all who come before its time.
                due = synced_at + self._interval_s - time.monotonic()
                if due > 0 and not self._closing:
                    self._wake.wait_for(lambda: self._closing, timeout=due)
                group, self._pending = self._pending, _Group()
            error: StillwatchError | None = None
            try:
                self._file.write([line for line in group.lines if line])
            except StillwatchError as found:
                error = found
            synced_at = time.monotonic()
            group.finish(error)


class _Group:
    """Lines that go to the disk together, and those who wait for it."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
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
        """Block until the group is on the disk."""
        self._done.wait()
        if self._error is not None:
            raise self._error

    def finish(self, error: StillwatchError | None) -> None:
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
