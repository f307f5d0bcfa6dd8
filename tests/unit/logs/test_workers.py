"""Processes that share a log: strict as one, and nothing lost in silence when one of them dies."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stillwatch.errors import EnvironmentUnfitError, InvalidInputError
from stillwatch.logs.convert import convert_logs
from stillwatch.logs.reader import ReadOptions
from stillwatch.logs.reading import Reading, ReadRequest
from stillwatch.record.exchange import from_batch
from stillwatch.record.privacy import KeyedHash
from stillwatch.record.store import read_store

OPTIONS = ReadOptions(KeyedHash(bytes(32)))


def _line(n: int) -> str:
    row = {"exchange_id": f"x{n}", "account": "u", "started_at": 1.7e9 + n}
    return json.dumps({**row, "messages": [{"role": "user", "content": "words " * 2000}]}) + "\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of a dozen blocks."""
    path = tmp_path / "log.jsonl"
    path.write_text("".join(map(_line, range(2000))))
    return path


def _request(log: Path, *, strict: bool = False, processes: int = 2) -> ReadRequest:
    return ReadRequest((str(log),), OPTIONS, format="own", strict=strict, processes=processes)


def _ids(reading: Reading) -> Iterator[str]:
    for batch in reading.batches():
        yield from (exchange.exchange_id for exchange in from_batch(batch))


def _kill(processes: list[multiprocessing.process.BaseProcess]) -> None:
    assert processes
    for process in processes:
        os.kill(process.pid or 0, signal.SIGKILL)


def _break(log: Path, *numbers: int) -> None:
    lines = log.read_text().splitlines(keepends=True)
    for number in numbers:
        lines[number - 1] = '{"broken\n'
    log.write_text("".join(lines))


def test_strict_over_processes(log: Path) -> None:
    """Several processes stop at the same first record as one, having given out the same before."""
    _break(log, 700, 1500)
    ended = []
    for processes in (1, 2):
        found: list[str] = []
        reading = Reading(_request(log, strict=True, processes=processes))
        with pytest.raises(InvalidInputError, match=rf"^{log}:700: the line is no JSON") as error:
            found.extend(_ids(reading))
        ended.append((found, str(error.value), error.value.exit_code, reading.counts))
    assert ended[0] == ended[1]
    assert 2 == ended[0][2]
    assert [] == multiprocessing.active_children()


def test_a_failed_conversion_leaves_the_one_before(log: Path, tmp_path: Path) -> None:
    """Store, counts and quarantine stay those of the last conversion that ended."""
    out = tmp_path / "store"
    _break(log, 3)
    convert_logs(_request(log, processes=1), out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    _break(log, 1500)
    with pytest.raises(InvalidInputError):
        convert_logs(_request(log, strict=True), out)
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_a_killed_worker_ends_the_reading(log: Path) -> None:
    """A worker killed in the midst costs the run, with a sentence, and no exchange in silence."""
    reading = Reading(_request(log))
    found: list[str] = []
    ids = _ids(reading)
    found.append(next(ids))
    _kill(multiprocessing.active_children())
    with pytest.raises(EnvironmentUnfitError, match="was killed") as error:
        found.extend(ids)
    assert 2 == error.value.exit_code
    assert [f"x{n}" for n in range(len(found))] == found  # what was given out is a beginning
    assert len(found) == reading.counts.exchanges < 2000


def test_a_killed_worker_publishes_nothing(log: Path, tmp_path: Path) -> None:
    """A conversion whose worker is killed, as soon as it lives, writes no day of the store."""
    is_over = threading.Event()

    def kill() -> None:
        while not (workers := multiprocessing.active_children()) and not is_over.wait(0.005):
            pass
        _kill(workers)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(EnvironmentUnfitError, match="was killed"):
        convert_logs(_request(log), tmp_path / "store")
    is_over.set()
    killer.join()
    assert [] == list(read_store(tmp_path / "store"))
    assert 2000 == convert_logs(_request(log, processes=1), tmp_path / "store").counts.exchanges


_PARENT = """
import multiprocessing, os, sys, time
from stillwatch.logs.reader import ReadOptions
from stillwatch.logs.reading import Reading, ReadRequest
from stillwatch.record.privacy import KeyedHash

if __name__ == "__main__":
    options = ReadOptions(KeyedHash(bytes(32)))
    request = ReadRequest((sys.argv[1],), options, format="own", processes=2)
    batches = Reading(request).batches()
    next(batches)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    time.sleep(600)
"""


def test_workers_end_with_their_parent(log: Path, tmp_path: Path) -> None:
    """When the reading process is killed, its workers do not stay behind."""
    program = tmp_path / "parent.py"
    program.write_text(_PARENT)
    command = [sys.executable, str(program), str(log)]
    # Its tracker of semaphores would complain on the way out.
    silent = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=silent, text=True) as parent:
        assert parent.stdout is not None
        workers = [int(word) for word in parent.stdout.readline().split()]
        parent.kill()
    assert workers
    deadline = time.monotonic() + 30
    while any(map(_lives, workers)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [] == [pid for pid in workers if _lives(pid)]


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
