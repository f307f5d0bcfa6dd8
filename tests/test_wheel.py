"""The wheel holds what the source tree holds."""

import os
from pathlib import Path

import pytest

_SOURCE = Path(__file__).parents[1] / "src"
_FROM = os.environ.get("STILLWATCH_FROM")


@pytest.mark.skipif(_FROM is None, reason="make test-wheel says where the wheel was unpacked")
def test_every_file_is_in_the_wheel() -> None:
    """Modules, templates, word lists, teachers: each file of the package, byte for byte."""
    files = [p for p in sorted(_SOURCE.rglob("*")) if p.is_file() and p.suffix != ".pyc"]
    assert len(files) > 500
    unpacked = Path(_FROM or "")
    missing = [
        str(path.relative_to(_SOURCE))
        for path in files
        if not (unpacked / path.relative_to(_SOURCE)).is_file()
        or (unpacked / path.relative_to(_SOURCE)).read_bytes() != path.read_bytes()
    ]
    assert [] == missing
