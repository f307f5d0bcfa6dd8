"""What linters cannot hold: sizes, names, and directions."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import stillwatch

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py")) + sorted((ROOT / "bench").rglob("*.py"))
FORBIDDEN = {"utils", "util", "helpers", "common", "misc", "manager"}
MAX_FILE, MAX_FUNCTION, MAX_CLASS = 400, 50, 200


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_sizes(path: Path) -> None:
    """A file has at most 400 lines, a function 50, a class 200."""
    text = path.read_text()
    found = [f"file {len(text.splitlines())}"] if len(text.splitlines()) > MAX_FILE else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            limit = MAX_CLASS if isinstance(node, ast.ClassDef) else MAX_FUNCTION
            size = (node.end_lineno or 0) - node.lineno + 1
            if size > limit:
                found.append(f"{node.name} {size}")
    assert [] == found


def test_names() -> None:
    """No drawer for odds and ends."""
    assert [] == [_name(p) for p in SOURCES if p.stem in FORBIDDEN]


def test_layers() -> None:
    """A layer imports only what stands below it."""
    lint = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == lint.returncode, lint.stdout


@pytest.mark.parametrize("module", ["cli.main", "detect", "guard", "record.exchange"])
def test_light_start(module: str) -> None:
    """The command line, detect and guard start without torch."""
    code = f"import sys, stillwatch.{module}; sys.exit('torch' in sys.modules)"
    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode


def test_tested_what_was_built() -> None:
    """With STILLWATCH_FROM set, the tests import the built wheel and not the source tree."""
    wanted = os.environ.get("STILLWATCH_FROM", str(ROOT / "src"))
    assert Path(stillwatch.__file__).is_relative_to(wanted)
