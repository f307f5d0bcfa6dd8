"""Lines that are put: the system has them at once, the disk soon, and nobody waits for either."""

import fcntl
import os
import resource
import threading
from pathlib import Path

import pytest

from stillwatch.errors import EnvironmentUnfitError, RecordError
from stillwatch.record.exchange import Exchange, Message
from stillwatch.record.journal import Journal, JournalCheck, read_journal, verify_journal
from stillwatch.record.segments import encode_line


def _line(name: str, size: int = 100) -> bytes:
    messages = (Message("user", "x" * size),)
    return encode_line(Exchange(exchange_id=name, account="a", started_at=1.0, messages=messages))


def _ids(folder: Path) -> list[str]:
    return [exchange.exchange_id for _, exchange in read_journal(folder)]


def test_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another reader sees a line when `put` returns, also while the disk hangs."""
    hung = threading.Event()
    monkeypatch.setattr(os, "fdatasync", lambda _: hung.wait())
    journal = Journal.open(tmp_path)
    for n in range(3):
        assert journal.put(_line(f"e{n}")).is_written
        assert [f"e{i}" for i in range(n + 1)] == _ids(tmp_path)
    assert 3 * len(_line("e0")) == journal.queued_bytes
    hung.set()
    journal.close()
    assert 0 == journal.queued_bytes


async def test_synced_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receipt's `synced` returns after a sync that began when the line was there."""
    sizes: list[int] = []
    sync = os.fdatasync
    monkeypatch.setattr(
        os, "fdatasync", lambda handle: (sizes.append(os.fstat(handle).st_size), sync(handle))
    )
    with Journal.open(tmp_path, fsync_interval_s=0.01) as journal:
        for n in range(3):
            receipt = journal.put(_line(f"e{n}"))
            size = (tmp_path / "journal-00000001.jsonl").stat().st_size
            await receipt.synced()
            assert size == sizes[-1]


async def test_segments_and_order(tmp_path: Path) -> None:
    """Puts and appends, long lines and new segments: the record is sound and in order."""
    with Journal.open(tmp_path, fsync_interval_s=0.001, segment_bytes=20_000) as journal:
        for n in range(300):
            receipt = journal.put(_line(f"e{n}", size=400_000 if n % 100 == 50 else 100))
            await receipt.written()
            if n % 7 == 0:
                await receipt.synced()
    assert [f"e{n}" for n in range(300)] == _ids(tmp_path)
    check = verify_journal(tmp_path)
    assert check.n_segments > 3
    assert JournalCheck(check.n_segments, 300, 0, (), 0) == check


async def test_erasure_holds_the_end(tmp_path: Path) -> None:
    """While an erasure holds the journal's end, a put does not wait; its line comes afterwards."""
    with Journal.open(tmp_path) as journal:
        handle = os.open(tmp_path / "tail.lock", os.O_RDWR)
        fcntl.flock(handle, fcntl.LOCK_EX)
        receipt = journal.put(_line("e0"))
        assert not receipt.is_written
        assert [] == _ids(tmp_path)
        os.close(handle)
        await receipt.written()
        assert receipt.is_written
        assert ["e0"] == _ids(tmp_path)


def test_full_disk(tmp_path: Path) -> None:
    """A line that finds no room is refused at once and leaves nothing; a shorter one is kept."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal.open(tmp_path) as journal:
        journal.put(_line("e0"))
        used = (tmp_path / "journal-00000001.jsonl").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (used + 2_000, hard))
        try:
            with pytest.raises(EnvironmentUnfitError, match="may not grow"):
                journal.put(_line("e1", size=5_000))
            assert journal.put(_line("e2")).is_written
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        journal.put(_line("e3", size=5_000))
    assert ["e0", "e2", "e3"] == _ids(tmp_path)
    assert JournalCheck(1, 3, 0, (), 0) == verify_journal(tmp_path)


async def test_failed_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a sync that failed the receipts say so, and nothing more is taken."""

    def refuse(_: int) -> None:
        raise OSError(5, "Input/output error")

    journal = Journal.open(tmp_path, fsync_interval_s=0)
    monkeypatch.setattr(os, "fdatasync", refuse)
    with pytest.raises(RecordError, match="cannot sync"):
        await journal.put(_line("e0")).synced()
    with pytest.raises(RecordError, match="cannot sync"):
        journal.put(_line("e1"))
    journal.close()
    with pytest.raises(RecordError):
        journal.put(_line("e2"))
