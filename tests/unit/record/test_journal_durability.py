"""The journal against kill -9, power cuts and full disks: what was acknowledged stays, once."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stillwatch.errors import EnvironmentUnfitError
from stillwatch.record.exchange import Exchange, Message
from stillwatch.record.journal import Journal, JournalCheck, read_journal, verify_journal
from stillwatch.record.store import compact, count_exchanges, read_store, write_store


def _exchange(name: str, *, size: int = 100, at: float = 1.0) -> Exchange:
    messages = (Message(role="user", content="x" * size),)
    return Exchange(exchange_id=name, account="a", started_at=at, messages=messages)


def _ids(folder: Path) -> list[str]:
    return [exchange.exchange_id for _, exchange in read_journal(folder)]


# A parent that has imported everything and forks one writer a round: a hundred fresh interpreters
# would take a minute. Each writer serves appends on a socket and answers once they are durable.
WRITERS = """
import asyncio, os, sys
from pathlib import Path
from stillwatch.record.exchange import Exchange, Message
from stillwatch.record.journal import Journal

async def serve():
    journal = Journal.open(Path("journal"), fsync_interval_s=0.002, segment_bytes=200_000)
    with open("recoveries", "a") as file:
        file.write(f"{journal.recovery.torn_bytes} {journal.recovery.damaged_lines}\\n")

    async def client(reader, writer):
        while line := await reader.readline():
            name = line.decode().strip()
            number = int(name.split("-")[1])
            text = "x" * (2_000_000 if number % 16 == 15 else 300)
            messages = (Message(role="user", content=text),)
            await journal.append(
                Exchange(exchange_id=name, account="a", started_at=float(number), messages=messages)
            )
            writer.write(line)

    server = await asyncio.start_unix_server(client, "socket")
    await server.serve_forever()

for _ in sys.stdin:
    Path("socket").unlink(missing_ok=True)
    pid = os.fork()
    if pid == 0:
        asyncio.run(serve())
    print(pid, flush=True)
    os.waitpid(pid, 0)
    print("gone", flush=True)
"""


class Client(threading.Thread):
    """Sends one exchange after the other, none twice, and keeps the receipts."""

    def __init__(self, path: Path, number: int) -> None:
        super().__init__()
        self.sent: list[str] = []
        self.receipts: list[str] = []
        self.stop = threading.Event()
        self._path = path
        self._number = number

    def run(self) -> None:
        """Connect again and again: the writer dies all the time."""
        while not self.stop.is_set():
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as line:
                line.connect(str(self._path))
                self._talk(line)
            self.stop.wait(0.001)

    def _talk(self, line: socket.socket) -> None:
        with line.makefile("rb") as replies:
            while not self.stop.is_set():
                self.sent.append(f"c{self._number}-{len(self.sent)}")
                line.sendall(self.sent[-1].encode() + b"\n")
                if replies.readline() != self.sent[-1].encode() + b"\n":
                    return
                self.receipts.append(self.sent[-1])


def _kill_writers(folder: Path, rounds: int, clients: list[Client]) -> None:
    rng = np.random.default_rng(3)
    command = [sys.executable, "-c", WRITERS]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=folder) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        for _ in range(rounds):
            parent.stdin.write("\n")
            parent.stdin.flush()
            writer = int(parent.stdout.readline())
            time.sleep(rng.uniform(0.0, 0.12))
            os.kill(writer, signal.SIGKILL)
            assert "gone\n" == parent.stdout.readline()
        for client in clients:
            client.stop.set()
        parent.stdin.close()


@pytest.mark.parametrize("rounds", [8, pytest.param(100, marks=pytest.mark.slow)])
def test_kill_9_at_random_moments(tmp_path: Path, rounds: int) -> None:
    """Four clients append while the writer is killed: each receipt has its line, no line is twice,
    none was sent by nobody, and the order of each client is kept.
    """  # noqa: D205 - one sentence
    clients = [Client(tmp_path / "socket", k) for k in range(4)]
    for client in clients:
        client.start()
    _kill_writers(tmp_path, rounds, clients)
    for client in clients:
        client.join()
    with Journal.open(tmp_path / "journal") as journal:
        journal.append_sync(_exchange("last"))
    found = _ids(tmp_path / "journal")
    receipts = [name for client in clients for name in client.receipts]
    sent = {name for client in clients for name in client.sent} | {"last"}
    assert len(receipts) > rounds
    assert set() == set(receipts) - set(found)
    assert len(found) == len(set(found))
    assert set() == set(found) - sent
    for k in range(4):
        numbers = [int(name.split("-")[1]) for name in found if name.startswith(f"c{k}-")]
        assert sorted(numbers) == numbers
    check = verify_journal(tmp_path / "journal")
    assert JournalCheck(check.n_segments, len(found), 0, (), 0) == check
    torn = [line.split() for line in (tmp_path / "recoveries").read_text().splitlines()]
    assert {"0"} == {damaged for _, damaged in torn}


def test_every_torn_end(tmp_path: Path) -> None:
    """Cut anywhere in its last line, a journal opens with the whole lines before the cut."""
    whole = tmp_path / "whole"
    with Journal.open(whole, fsync_interval_s=0) as journal:
        for n in range(3):
            journal.append_sync(_exchange(f"e{n}", size=0))
    raw = (whole / "journal-00000001.jsonl").read_bytes()
    ends = [match.end() for match in re.finditer(b"\n", raw)]
    for cut in range(ends[2] - 1, len(raw) + 1):
        folder = tmp_path / "cut"
        folder.mkdir()
        (folder / "journal-00000001.jsonl").write_bytes(raw[:cut])
        n_whole = sum(end <= cut for end in ends) - 1
        with Journal.open(folder, fsync_interval_s=0) as journal:
            assert (n_whole, cut - ends[n_whole]) == journal.recovery[:2]
            journal.append_sync(_exchange("next"))
        assert [*(f"e{n}" for n in range(n_whole)), "next"] == _ids(folder)
        assert ((), 0) == (
            verify_journal(folder).broken_links,
            verify_journal(folder).damaged_lines,
        )
        shutil.rmtree(folder)


def test_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was synced when an append returns holds the exchange, its segment's name included."""
    platter: dict[str, bytes] = {}  # what a disk keeps that loses everything not yet synced
    names: set[str] = set()

    def sync(handle: int, real: object) -> None:
        assert callable(real)
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        if path.is_dir():
            names.update(os.listdir(path))
        else:
            platter[path.name] = path.read_bytes()
        real(handle)

    for name in ("fsync", "fdatasync"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda handle, real=real: sync(handle, real))
    missing: list[str] = []

    def work(k: int) -> None:
        for n in range(30):
            name = f"w{k}-{n}."
            journal.append_sync(_exchange(name))
            kept = [file for file, raw in list(platter.items()) if name.encode() in raw]
            if not set(kept) & names:
                missing.append(name)

    with Journal.open(tmp_path, fsync_interval_s=0.001, segment_bytes=3000) as journal:
        threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert ([], 120) == (missing, len(_ids(tmp_path)))
    assert verify_journal(tmp_path).n_segments > 5


def test_compaction_while_appending(tmp_path: Path) -> None:
    """Compacted again and again while four threads append, the store has every exchange once."""
    journal = Journal.open(tmp_path / "j", fsync_interval_s=0.001, segment_bytes=20_000)

    def work(k: int) -> None:
        for n in range(150):
            journal.append_sync(_exchange(f"w{k}-{n}", at=n * 2000.0))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    n_calls = 0
    while any(thread.is_alive() for thread in threads):
        compact(tmp_path / "j", tmp_path / "s")
        n_calls += 1
    compact(tmp_path / "j", tmp_path / "s")
    journal.close()
    found = [exchange.exchange_id for exchange in read_store(tmp_path / "s")]
    assert n_calls > 1
    assert sorted(f"w{k}-{n}" for k in range(4) for n in range(150)) == sorted(found)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)]
    told = subprocess.run(mount, capture_output=True, text=True, check=False)
    if told.returncode != 0:
        pytest.skip(f"a small tmpfs cannot be mounted here: {told.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _append_until_refused(journal: Journal, kept: list[str]) -> None:
    for n in range(1000):
        journal.append_sync(_exchange(f"e{n}", size=1000))
        kept.append(f"e{n}")


def test_full_disk(small_disk: Path) -> None:
    """A full disk refuses appends in one sentence, keeps all before, and goes on with room."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 100_000)
    kept: list[str] = []
    with Journal.open(small_disk / "j", fsync_interval_s=0, segment_bytes=30_000) as journal:
        with pytest.raises(EnvironmentUnfitError, match="append: the disk is full") as caught:
            _append_until_refused(journal, kept)
        assert "free space, or choose another folder" == caught.value.hint
        assert kept == _ids(small_disk / "j")
        with pytest.raises(EnvironmentUnfitError, match="the disk is full"):
            journal.append_sync(_exchange("refused", size=5000))
        ballast.unlink()
        journal.append_sync(_exchange("after", size=5000))
    assert [*kept, "after"] == _ids(small_disk / "j")
    check = verify_journal(small_disk / "j")
    assert (len(kept) + 1, 0, (), 0) == check[1:]
    assert check.n_segments > 2


def test_full_disk_under_a_writer_that_dies(small_disk: Path) -> None:
    """A journal on a full disk opens again, and compaction of it is refused without a trace."""
    with Journal.open(small_disk / "j", fsync_interval_s=0) as journal:
        journal.append_sync(_exchange("e0"))
        write_store(small_disk / "s", [_exchange("s0")])
        (small_disk / "ballast").write_bytes(b"x" * 4096)
        with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(os.urandom(4096))
        with pytest.raises(EnvironmentUnfitError, match="the disk is full"):
            journal.append_sync(_exchange("e1", size=9000))
    with pytest.raises(EnvironmentUnfitError, match="cannot write the store: the disk is full"):
        compact(small_disk / "j", small_disk / "s")
    assert 1 == count_exchanges(small_disk / "s")
    with Journal.open(small_disk / "j") as journal:
        (small_disk / "filler").unlink()
        journal.append_sync(_exchange("e2"))
    assert 2 == compact(small_disk / "j", small_disk / "s").n_exchanges
    assert 3 == count_exchanges(small_disk / "s")
