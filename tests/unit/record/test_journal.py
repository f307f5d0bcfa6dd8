"""The journal: what was acknowledged survives, what was torn is repaired, what is wrong is said."""

import asyncio
import fcntl
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
import xxhash

from stillwatch.errors import EnvironmentUnfitError, InvalidInputError, RecordError
from stillwatch.record.exchange import Answer, Exchange, Message
from stillwatch.record.journal import (
    Journal,
    Position,
    Recovery,
    _Gate,
    read_journal,
    verify_journal,
)

FIRST = "journal-00000001.jsonl"


def _exchange(n: int, *, size: int = 10) -> Exchange:
    return Exchange(
        exchange_id=f"e{n}",
        account=f"a{n % 7}",
        started_at=1.5 + n,
        messages=(Message(role="user", content=f"Frage {n} \n\u2028 ü " + "x" * size),),
        answers=(Answer(text=str(n), finish_reason="stop"),),
        parameters={"temperature": 0.5, "seed": n},
    )


def _ids(folder: Path, *, after: Position | None = None) -> list[str]:
    return [exchange.exchange_id for _, exchange in read_journal(folder, after=after)]


def _fill(folder: Path, n: int, *, segment_bytes: int = 2**26) -> None:
    with Journal.open(folder, fsync_interval_s=0, segment_bytes=segment_bytes) as journal:
        for i in range(n):
            journal.append_sync(_exchange(i))


def test_round_trip(tmp_path: Path) -> None:
    """What was appended is read back, equal and in order."""
    _fill(tmp_path / "j", 20)
    assert [_exchange(i) for i in range(20)] == [e for _, e in read_journal(tmp_path / "j")]


async def test_append_is_durable_when_it_returns(tmp_path: Path) -> None:
    """Another reader sees an exchange as soon as its append has returned."""
    journal = Journal.open(tmp_path, fsync_interval_s=0)
    for n in range(3):
        await journal.append(_exchange(n))
        assert [f"e{i}" for i in range(n + 1)] == _ids(tmp_path)
    journal.close()


async def test_appends_share_a_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Appends that wait together go to the disk together."""
    syncs: list[int] = []
    sync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda handle: (syncs.append(handle), sync(handle))[1])
    journal = Journal.open(tmp_path, fsync_interval_s=0.05)
    await asyncio.gather(*(journal.append(_exchange(n)) for n in range(500)))
    journal.close()
    assert 500 == len(_ids(tmp_path))
    assert 3 >= len(syncs)


async def test_cancelled_append_is_kept(tmp_path: Path) -> None:
    """A caller that goes away neither loses its exchange nor disturbs its neighbours."""
    journal = Journal.open(tmp_path, fsync_interval_s=0.05)
    await journal.append(_exchange(0))
    tasks = [asyncio.create_task(journal.append(_exchange(n))) for n in (1, 2)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await tasks[1]
    await journal.flush()
    journal.close()
    assert tasks[0].cancelled()
    assert ["e0", "e1", "e2"] == _ids(tmp_path)


def test_threads_and_segments(tmp_path: Path) -> None:
    """Many threads may append; the journal steps to new segments and links them."""
    journal = Journal.open(tmp_path, fsync_interval_s=0, segment_bytes=4096)

    def work(start: int) -> None:
        for n in range(start, start + 25):
            journal.append_sync(_exchange(n))

    threads = [threading.Thread(target=work, args=(k * 25,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    check = verify_journal(tmp_path)
    assert {f"e{n}" for n in range(100)} == set(_ids(tmp_path))
    assert (100, 0, (), 0) == check[1:]
    assert check.n_segments > 3
    assert all(path.stat().st_size <= 4096 for path in tmp_path.glob("*.jsonl"))


@pytest.mark.parametrize("segment_bytes", [2**26, 700])
def test_tailing(tmp_path: Path, segment_bytes: int) -> None:
    """Reading goes on from where it stopped, over the ends of segments."""
    folder, seen, place = tmp_path / "j", [], None
    with Journal.open(folder, fsync_interval_s=0, segment_bytes=segment_bytes) as journal:
        for n in range(12):
            journal.append_sync(_exchange(n))
            if n % 5 == 0:
                news = list(read_journal(folder, after=place))
                seen += [exchange.exchange_id for _, exchange in news]
                place = news[-1][0]
    seen += _ids(folder, after=place)
    assert [f"e{n}" for n in range(12)] == seen


@pytest.mark.parametrize("cut", [1, 2, 40, 150])
def test_torn_tail(tmp_path: Path, cut: int) -> None:
    """An unfinished last line ends the reading, is cut off by the next writer, and counted."""
    _fill(tmp_path, 5)
    path = tmp_path / FIRST
    line = len(path.read_bytes().splitlines(keepends=True)[-1])
    os.truncate(path, path.stat().st_size - cut)
    assert ["e0", "e1", "e2", "e3"] == _ids(tmp_path)
    with Journal.open(tmp_path) as journal:
        assert Recovery(4, line - cut, 0) == journal.recovery
        journal.append_sync(_exchange(9))
    assert ["e0", "e1", "e2", "e3", "e9"] == _ids(tmp_path)
    assert () == verify_journal(tmp_path).broken_links


def test_rotten_tail_is_set_aside(tmp_path: Path) -> None:
    """Whole lines at the end that do not fit their checksum are kept beside the segment."""
    _fill(tmp_path, 3)
    path = tmp_path / FIRST
    raw = path.read_bytes()
    path.write_bytes(raw[:-20] + b"\0\0" + raw[-18:])
    with pytest.raises(RecordError, match=f"{FIRST}:4: the line's checksum must fit"):
        _ids(tmp_path)
    with Journal.open(tmp_path) as journal:
        assert 2 == journal.recovery.n_exchanges
    kept = list(tmp_path.glob("*.torn-*"))
    assert [raw.splitlines(keepends=True)[-1][-18:]] == [p.read_bytes()[-18:] for p in kept]
    assert ["e0", "e1"] == _ids(tmp_path)


def test_damage_in_the_midst(tmp_path: Path) -> None:
    """A rotten line among sound ones is named, may be skipped, and is never cut away."""
    _fill(tmp_path, 6)
    path = tmp_path / FIRST
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"Frage", b"Frarg")
    path.write_bytes(b"".join(lines))
    with pytest.raises(RecordError, match=f"{FIRST}:3: the line's checksum"):
        _ids(tmp_path)
    with Journal.open(tmp_path) as journal:
        assert Recovery(5, 0, 1) == journal.recovery
        journal.append_sync(_exchange(6))
    skipped = [e.exchange_id for _, e in read_journal(tmp_path, on_damage="skip")]
    assert ["e0", "e2", "e3", "e4", "e5", "e6"] == skipped
    assert 1 == verify_journal(tmp_path).damaged_lines


def test_exchanged_segment_shows(tmp_path: Path) -> None:
    """A shortened old segment breaks the link of the next."""
    _fill(tmp_path, 12, segment_bytes=700)
    assert () == verify_journal(tmp_path).broken_links
    path = tmp_path / FIRST
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert (2,) == verify_journal(tmp_path).broken_links


@pytest.mark.parametrize("n_segments", [1, 2])
@pytest.mark.parametrize("rest", [b"", b'{"journal":1,"journal_'])
def test_killed_while_making_a_segment(tmp_path: Path, rest: bytes, n_segments: int) -> None:
    """A segment without its finished first line is begun anew."""
    _fill(tmp_path, 3)
    path = tmp_path / f"journal-{n_segments:08d}.jsonl"
    path.write_bytes(rest)
    with Journal.open(tmp_path) as journal:
        assert len(rest) == journal.recovery.torn_bytes
        journal.append_sync(_exchange(7))
    assert ["e0", "e1", "e2", "e7"][(n_segments == 1) * 3 :] == _ids(tmp_path)
    assert () == verify_journal(tmp_path).broken_links


def test_foreign_file(tmp_path: Path) -> None:
    """A file that no journal wrote is refused, and left as it is."""
    (tmp_path / FIRST).write_text('{"something":"else"}\n')
    with pytest.raises(RecordError, match="must name a journal of version 1"):
        Journal.open(tmp_path)
    assert '{"something":"else"}\n' == (tmp_path / FIRST).read_text()


def test_one_writer(tmp_path: Path) -> None:
    """A second writer is refused in one sentence that names the first, until that has closed."""
    first = Journal.open(tmp_path)
    with pytest.raises(EnvironmentUnfitError, match=f"and process {os.getpid()} is writing"):
        Journal.open(tmp_path)
    first.close()
    first.close()
    Journal.open(tmp_path).close()


def test_failed_open_lets_go(tmp_path: Path) -> None:
    """A journal that could not be opened is not locked."""
    (tmp_path / FIRST).write_text("{}\n")
    with pytest.raises(RecordError):
        Journal.open(tmp_path)
    handle = os.open(tmp_path / "journal.lock", os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(handle)


def test_loop_that_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that is closed while its append is under way harms neither the append nor the next."""
    held, sync = threading.Event(), os.fdatasync

    def slow(handle: int) -> None:
        held.wait()
        sync(handle)

    journal = Journal.open(tmp_path, fsync_interval_s=0)
    monkeypatch.setattr(os, "fdatasync", slow)
    loop = asyncio.new_event_loop()
    task = loop.create_task(journal.append(_exchange(0)))
    loop.run_until_complete(asyncio.sleep(0))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()
    held.set()
    journal.append_sync(_exchange(1))
    journal.close()
    assert ["e0", "e1"] == _ids(tmp_path)


async def test_late_waiter() -> None:
    """Who begins to wait after the disk was done is told at once."""
    loop, done, failed = asyncio.get_running_loop(), _Gate(), _Gate()
    done.open()
    failed.open(RecordError("gone"))
    await asyncio.shield(done.future(loop))
    with pytest.raises(RecordError, match="gone"):
        await asyncio.shield(failed.future(loop))


def test_line_of_a_later_version(tmp_path: Path) -> None:
    """A line that is whole but not an exchange as known here is damage, not a crash."""
    body = b'{"later":1}'
    code = xxhash.xxh3_64_hexdigest(body).encode()
    _fill(tmp_path, 1)
    with (tmp_path / FIRST).open("ab") as file:
        file.write(b'{"sum":"' + code + b'","exchange":' + body + b"}\n")
    with pytest.raises(RecordError, match=f"{FIRST}:3: the line's checksum"):
        _ids(tmp_path)


async def test_closed(tmp_path: Path) -> None:
    """A closed journal accepts nothing, and says so."""
    journal = Journal.open(tmp_path)
    journal.close()
    with pytest.raises(RecordError, match="the journal is closed"):
        await journal.append(_exchange(0))


def test_no_journal(tmp_path: Path) -> None:
    """Reading a folder that holds no journal is an error; an empty journal reads as empty."""
    with pytest.raises(RecordError, match="no journal here"):
        _ids(tmp_path / "absent")
    _fill(tmp_path / "empty", 0)
    assert [] == _ids(tmp_path / "empty")


def test_folder_under_a_file(tmp_path: Path) -> None:
    """A path that leads through a file is a user's error, said in one sentence."""
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentUnfitError, match="a part of the path is a file"):
        Journal.open(tmp_path / "file" / "j")
    with pytest.raises(EnvironmentUnfitError, match="a file stands in the way"):
        Journal.open(tmp_path / "file")


def test_full_disk(tmp_path: Path) -> None:
    """When the disk is full the append fails clearly; the journal stays sound and goes on later."""
    journal = Journal.open(tmp_path, fsync_interval_s=0)
    journal.append_sync(_exchange(0))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(EnvironmentUnfitError, match="cannot append: the file may not grow"):
            journal.append_sync(_exchange(1, size=5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ["e0"] == _ids(tmp_path)
    journal.append_sync(_exchange(2))
    journal.close()
    assert ["e0", "e2"] == _ids(tmp_path)


def test_full_disk_between_segments(tmp_path: Path) -> None:
    """When not even a new segment's first line fits, the old one stays in use for later."""
    journal = Journal.open(tmp_path, fsync_interval_s=0, segment_bytes=700)
    for n in range(2):
        journal.append_sync(_exchange(n))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, hard))
    try:
        with pytest.raises(EnvironmentUnfitError, match="cannot append"):
            journal.append_sync(_exchange(2, size=300))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ["e0", "e1"] == _ids(tmp_path)
    journal.append_sync(_exchange(3, size=300))
    journal.close()
    assert ["e0", "e1", "e3"] == _ids(tmp_path)
    assert ((), 0) == (
        verify_journal(tmp_path).broken_links,
        verify_journal(tmp_path).damaged_lines,
    )


def test_full_disk_on_opening(tmp_path: Path) -> None:
    """A journal that cannot be begun says so, and leaves no lock behind."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, hard))
    try:
        with pytest.raises(EnvironmentUnfitError, match="cannot open the journal"):
            Journal.open(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    _fill(tmp_path, 1)
    assert ["e0"] == _ids(tmp_path)


def test_torn_end_that_cannot_be_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a failed append cannot be undone either, nothing more is written behind it."""

    def refuse(handle: int, size: int) -> None:
        raise OSError(5, "Input/output error")

    journal = Journal.open(tmp_path, fsync_interval_s=0)
    journal.append_sync(_exchange(0))
    monkeypatch.setattr(os, "ftruncate", refuse)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(EnvironmentUnfitError, match="cannot append"):
            journal.append_sync(_exchange(1, size=5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(RecordError, match="cannot cut a torn end"):
        journal.append_sync(_exchange(2))
    journal.close()
    monkeypatch.undo()
    with Journal.open(tmp_path) as journal:
        assert (1, True) == (journal.recovery.n_exchanges, journal.recovery.torn_bytes > 0)


def test_segment_gone(tmp_path: Path) -> None:
    """A segment that vanishes while others are read is said in one sentence."""
    _fill(tmp_path, 12, segment_bytes=700)
    reading = read_journal(tmp_path)
    next(reading)
    (tmp_path / "journal-00000002.jsonl").unlink()
    with pytest.raises(RecordError, match=r"journal-00000002\.jsonl: cannot read the journal"):
        list(reading)


async def test_failed_sync_stops_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a sync that failed nothing is acknowledged any more, until the journal is reopened."""

    def refuse(handle: int) -> None:
        raise OSError(5, "Input/output error")

    journal = Journal.open(tmp_path, fsync_interval_s=0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", refuse)
        with pytest.raises(RecordError, match="cannot sync"):
            await journal.append(_exchange(0))
    with pytest.raises(RecordError, match="cannot sync"):
        await journal.append(_exchange(1))
    journal.close()
    _fill(tmp_path, 1)


def test_unwritable_exchange(tmp_path: Path) -> None:
    """An exchange that JSON cannot hold is refused and harms no other."""
    bad = msgspec.structs.replace(_exchange(1), account="\ud800")
    with Journal.open(tmp_path) as journal:
        with pytest.raises(InvalidInputError, match="plain data that JSON can hold"):
            journal.append_sync(bad)
        journal.append_sync(_exchange(2))
    assert ["e2"] == _ids(tmp_path)


KILLED = """
import asyncio, sys
from pathlib import Path
from stillwatch.record.exchange import Exchange
from stillwatch.record.journal import Journal

async def main():
    journal = Journal.open(Path(sys.argv[1]), fsync_interval_s=0.001, segment_bytes=20000)
    async def work(k):
        for n in range(10**9):
            name = f"w{k}-{n}"
            await journal.append(Exchange(exchange_id=name, account="a", started_at=float(n)))
            sys.stdout.write(name + "\\n")
            sys.stdout.flush()
    await asyncio.gather(*(work(k) for k in range(8)))

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [1, 333, 2000])
def test_kill_9(tmp_path: Path, lines: int) -> None:
    """Every exchange that was acknowledged before kill -9 is there, once, and the journal opens."""
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        told = [child.stdout.readline() for _ in range(lines)]
        child.kill()
        told += child.stdout.readlines()
    acknowledged = {line.strip() for line in told if line.endswith("\n")}
    with Journal.open(tmp_path) as journal:
        journal.append_sync(_exchange(1))
    found = _ids(tmp_path)
    assert len(acknowledged) >= lines
    assert set() == acknowledged - set(found)
    assert len(found) == len(set(found))
    assert ((), 0) == (
        verify_journal(tmp_path).broken_links,
        verify_journal(tmp_path).damaged_lines,
    )


def test_reading_beside_a_writer(tmp_path: Path) -> None:
    """Another process may read all the while: it sees every exchange once, whole and in order."""
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    seen: list[str] = []
    place: Position | None = None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        while len(seen) < 3000:
            news = list(read_journal(tmp_path, after=place))
            seen += [exchange.exchange_id for _, exchange in news]
            place = news[-1][0] if news else place
            child.stdout.readline()
        child.kill()
        child.stdout.read()
    assert _ids(tmp_path)[: len(seen)] == seen
    by_worker = [[int(s.split("-")[1]) for s in seen if s.startswith(f"w{k}-")] for k in range(8)]
    assert all(list(range(len(numbers))) == numbers for numbers in by_worker)
