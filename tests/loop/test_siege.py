"""The contest from the command line, in its smallest size: real processes, sockets and models."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stillwatch.siege.folder import changed_files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
MARK = "STILLWATCH_TEST_RUN"


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "stillwatch.cli.main", "siege", *words]


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_command(*words), capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, made once."""
    out = tmp_path_factory.mktemp("siege") / "run"
    done = _run("--tiny", "--seed", "3", "--out", str(out))
    assert 0 == done.returncode, done.stderr
    assert "The page:" in done.stdout
    return out


def _report(out: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((out / "moat.json").read_bytes())
    return report


def test_every_room_was_entered(run: Path) -> None:
    """Honest users and the campaign were answered, students trained, the page written."""
    report = _report(run)
    for wall in ("off", "on"):
        told = report["runs"][wall]
        assert told["honest"]["asked"] == told["honest"]["answered"] > 100
        assert told["campaign"]["asked"] > 100
        assert sum(d["honest"] + d["harvest"] + d["dilution"] for d in told["days"]) == (
            told["honest"]["answered"] + told["campaign"]["answered"]
        )
    assert report["copy"]["student"]["parameters"] > 10_000
    assert 0.95 < report["copy"]["overall"]["teacher_share"] <= 1
    assert "<!doctype html>" in (run / "moat.html").read_text("utf-8")[:100].lower()


def test_verify_holds_and_finds_a_change(run: Path) -> None:
    """Verification computes the report again, and names a number that was touched."""
    done = _run("verify", str(run))
    assert 0 == done.returncode, done.stdout
    assert "differs" not in done.stdout
    path = run / "moat.json"
    kept = path.read_bytes()
    report = json.loads(kept)
    report["runs"]["off"]["campaign"]["answered"] += 1
    path.write_text(json.dumps(report))
    try:
        done = _run("verify", str(run))
        assert 1 == done.returncode
        assert "moat.json: changed since the run" in done.stdout
        assert "/runs/off/campaign/answered" in done.stdout
    finally:
        path.write_bytes(kept)


def test_a_second_run_is_the_same(run: Path, tmp_path: Path) -> None:
    """The same seed gives the same record, campaigns, curve points and proof; --json too."""
    again = tmp_path / "again"
    done = _run("--tiny", "--seed", "3", "--json", "--out", str(again))
    assert 0 == done.returncode, done.stderr
    one, other = _report(run), _report(again)
    assert other == json.loads(done.stdout)
    assert [] == changed_files(again)
    for report in (one, other):
        for varies in ("run", "cost", "verify"):
            del report[varies]
        report["copy"]["student"].pop("cpu_s")
    assert one == other
    assert (run / "on/copier.jsonl").read_bytes() == (again / "on/copier.jsonl").read_bytes()


def _processes(mark: str) -> Iterator[int]:
    wanted = f"{MARK}={mark}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)
        except OSError:
            continue


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")
@pytest.mark.parametrize(
    ("sign", "after"),
    [
        (signal.SIGKILL, "drawing the world"),
        (signal.SIGKILL, "users and campaign ask"),
        (signal.SIGKILL, "training and asking"),
        (signal.SIGTERM, "users and campaign ask"),
        (signal.SIGINT, "training and asking"),
    ],
)
def test_killing_leaves_nothing(sign: signal.Signals, after: str, tmp_path: Path) -> None:
    """Killed at any stage, the siege leaves no process behind and no half-written report."""
    mark, out = uuid.uuid4().hex, tmp_path / "run"
    siege = subprocess.Popen(
        _command("--tiny", "--out", str(out)),
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, MARK: mark},
    )
    assert siege.stderr is not None
    for line in siege.stderr:
        if after in line:
            break
    siege.send_signal(sign)
    siege.wait(timeout=60)
    siege.stderr.close()
    deadline = time.monotonic() + 30
    while (left := list(_processes(mark))) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [] == left
    assert not out.exists()


def test_bad_arguments(tmp_path: Path) -> None:
    """A negative seed, a file as folder, and somebody's folder are one sentence and exit 2."""
    (tmp_path / "file").write_text("")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "thesis.txt").write_text("years of work")
    for words in (
        ("--tiny", "--seed", "-1", "--out", str(tmp_path / "run")),
        ("--tiny", "--out", str(tmp_path / "file")),
        ("--tiny", "--out", str(tmp_path / "kept")),
        ("verify", str(tmp_path / "kept")),
        ("verify", str(tmp_path / "absent")),
    ):
        done = _run(*words)
        assert 2 == done.returncode, words
        assert "Traceback" not in done.stderr
        assert len(done.stderr.strip().splitlines()) <= 5
    assert "years of work" == (tmp_path / "kept" / "thesis.txt").read_text()
