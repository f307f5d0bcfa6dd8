"""Children that start, tell, stop, and never outlive their parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stillwatch.errors import ConfigError, EnvironmentUnfitError
from stillwatch.siege.processes import ProcessGroup

ENTRIES = """
import os, signal, subprocess, sys, time
from pathlib import Path

from stillwatch.errors import ConfigError

def serve(config, on_ready):
    on_ready(config)
    time.sleep(300)

def serve_deaf(config, on_ready):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    serve(config, on_ready)

def serve_with_child(config, on_ready):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    Path(config).write_text(str(child.pid))
    serve(1, on_ready)

def fail_known(config, on_ready):
    raise ConfigError("entry: port must be free", hint="choose another")

def fail_unknown(config, on_ready):
    os._exit(7)

def hang(config, on_ready):
    time.sleep(300)

def end_later(config, on_ready):
    on_ready(1)
"""
PARENT = """
import sys, threading, time
sys.path.insert(0, sys.argv[1])
import entries
from stillwatch.siege.processes import ProcessGroup

def main():
    group = ProcessGroup()
    def begin():
        group.start("one", entries.serve, 1)
        group.start("two", entries.serve_with_child, sys.argv[1] + "/grandchild")
    if sys.argv[2] == "thread":
        thread = threading.Thread(target=begin)
        thread.start()
        thread.join()
        time.sleep(1.0)
        group.check()
    else:
        begin()
    print(*group.pids.values(), flush=True)
    time.sleep(300)

if __name__ == "__main__":
    main()
"""


@pytest.fixture
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a module of process entries that a spawned child can import."""
    (tmp_path / "entries.py").write_text(ENTRIES)
    monkeypatch.syspath_prepend(str(tmp_path))
    import entries

    yield entries
    del sys.modules["entries"]


def runs(pid: int) -> bool:
    """Say whether a process is alive (a zombie is not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def ends(pid: int) -> bool:
    """Wait for a process to end."""
    for _ in range(200):
        if not runs(pid):
            return True
        time.sleep(0.05)
    return False


def test_start_tells_port_and_stop_ends(entries) -> None:
    """A child's port comes back, and leaving the block ends the child."""
    with ProcessGroup() as group:
        assert 4711 == group.start("server", entries.serve, 4711)
        pid = group.pids["server"]
        group.check()
        assert runs(pid)
    assert not runs(pid)
    assert {} == group.pids


def test_stop_by_force(entries) -> None:
    """A child that does not listen is ended by force after the grace."""
    group = ProcessGroup(grace_s=0.2)
    group.start("deaf", entries.serve_deaf, 1)
    pid = group.pids["deaf"]
    group.stop()
    group.stop()
    assert not runs(pid)


def test_stop_takes_grandchildren(entries, tmp_path: Path) -> None:
    """What a child started ends with it."""
    with ProcessGroup() as group:
        group.start("server", entries.serve_with_child, str(tmp_path / "pid"))
        grandchild = int((tmp_path / "pid").read_text())
        assert runs(grandchild)
    assert ends(grandchild)


def test_known_failure_comes_back(entries) -> None:
    """An error of the house's tree arrives in the parent with its hint."""
    with ProcessGroup() as group, pytest.raises(ConfigError, match="port must be free") as caught:
        group.start("server", entries.fail_known, 1)
    assert "choose another" == caught.value.hint


def test_unknown_failure_is_named(entries) -> None:
    """A child that ends before it is ready is reported by name and exit code."""
    with ProcessGroup() as group, pytest.raises(EnvironmentUnfitError, match=r"'x' ended.*code 7"):
        group.start("x", entries.fail_unknown, 1)


def test_silence_ends(entries) -> None:
    """A child that is never ready is ended, and the error says how long was waited."""
    with ProcessGroup() as group:
        with pytest.raises(EnvironmentUnfitError, match="not ready after 3 s"):
            group.start("x", entries.hang, 1, timeout_s=3)
        assert {} == group.pids


def test_check_sees_an_ended_child(entries) -> None:
    """A child that ends later is found by `check`."""
    with ProcessGroup() as group:
        group.start("x", entries.end_later, 1)
        assert ends(group.pids["x"])
        with pytest.raises(EnvironmentUnfitError, match="'x' ended unasked"):
            group.check()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("starter", ["main", "thread"])
def test_children_die_with_their_parent(
    entries, tmp_path: Path, starter: str, number: signal.Signals
) -> None:
    """Whatever ends the parent, no child and no grandchild is left."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen(
        [sys.executable, str(script), str(tmp_path), starter],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        pids.append(int((tmp_path / "grandchild").read_text()))
        assert [True] * 3 == [runs(pid) for pid in pids]
        os.kill(parent.pid, number)
        parent.wait(timeout=30)
    assert [True] * 3 == [ends(pid) for pid in pids]
