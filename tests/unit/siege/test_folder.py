"""The run's folder appears whole or not at all."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from stillwatch.errors import EnvironmentUnfitError, InvalidInputError
from stillwatch.siege.folder import (
    changed_files,
    read_json,
    read_lines,
    staged_folder,
    write_json,
    write_lines,
)


def _run(out: Path, text: str) -> None:
    with staged_folder(out) as folder:
        write_json(folder / "deep" / "a.json", {"text": text})
        write_lines(folder / "rows.jsonl", [{"n": 1}, {"n": 2}])


def test_round_trip(tmp_path: Path) -> None:
    """What was written is read back, and the manifest holds."""
    out = tmp_path / "run"
    _run(out, "first")
    assert {"text": "first"} == read_json(out / "deep" / "a.json")
    assert [{"n": 1}, {"n": 2}] == read_lines(out / "rows.jsonl")
    assert [] == changed_files(out)
    assert ["run"] == [path.name for path in tmp_path.iterdir()]


def test_replaces_an_earlier_run(tmp_path: Path) -> None:
    """A second run takes the first one's place."""
    out = tmp_path / "run"
    _run(out, "first")
    _run(out, "second")
    assert {"text": "second"} == read_json(out / "deep" / "a.json")


def test_an_error_leaves_the_earlier_run(tmp_path: Path) -> None:
    """A run that fails changes nothing that was there."""
    out = tmp_path / "run"
    _run(out, "first")
    with pytest.raises(RuntimeError), staged_folder(out) as folder:  # noqa: PT012 - the block is it
        write_json(folder / "deep" / "a.json", {"text": "half"})
        raise RuntimeError
    assert {"text": "first"} == read_json(out / "deep" / "a.json")
    assert ["run"] == [path.name for path in tmp_path.iterdir()]


def test_kill_leaves_the_earlier_run(tmp_path: Path) -> None:
    """A run that is killed changes nothing, and the next one cleans up after it."""
    out = tmp_path / "run"
    _run(out, "first")
    code = textwrap.dedent("""
        import os, signal, sys
        from pathlib import Path
        from stillwatch.siege.folder import staged_folder, write_json
        with staged_folder(Path(sys.argv[1])) as folder:
            write_json(folder / "deep" / "a.json", {"text": "half"})
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    assert -9 == subprocess.run([sys.executable, "-c", code, str(out)], check=False).returncode
    assert {"text": "first"} == read_json(out / "deep" / "a.json")
    assert [] == changed_files(out)
    _run(out, "third")
    assert ["run"] == [path.name for path in tmp_path.iterdir()]


def test_refuses_what_is_not_a_run(tmp_path: Path) -> None:
    """A folder with somebody's files is refused and left alone."""
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InvalidInputError, match="not a siege run"):
        _run(tmp_path, "first")
    assert "years of work" == (tmp_path / "thesis.txt").read_text()


def test_refuses_two_at_once(tmp_path: Path) -> None:
    """Two runs never write to one folder."""
    out = tmp_path / "run"
    (tmp_path / "run.part.pid").write_text(str(os.getppid()))
    with pytest.raises(EnvironmentUnfitError, match="another siege"):
        _run(out, "first")


def test_finds_changes(tmp_path: Path) -> None:
    """A changed, a missing and an added file are each named."""
    out = tmp_path / "run"
    _run(out, "first")
    write_json(out / "deep" / "a.json", {"text": "forged"})
    (out / "rows.jsonl").unlink()
    (out / "extra").write_text("")
    assert [
        "rows.jsonl: missing",
        "extra: not in the manifest",
        "deep/a.json: changed since the run",
    ] == changed_files(out)
