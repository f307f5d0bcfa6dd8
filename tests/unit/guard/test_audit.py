"""The audit log shows every change made to it afterwards."""

from pathlib import Path

import pytest

from stillwatch.errors import RecordError
from stillwatch.guard.recording.audit import (
    GENESIS,
    AuditEvent,
    append_audit,
    read_audit,
    verify_audit,
)


def _events(n: int) -> list[AuditEvent]:
    return [AuditEvent("named", 10.0 + i, {"campaign_id": f"web-{i}"}) for i in range(n)]


def test_chain(tmp_path: Path) -> None:
    """Appends chain on, over several calls, and read back as written."""
    path = tmp_path / "audit.jsonl"
    append_audit(path, _events(2))
    head = append_audit(path, _events(3))
    assert (5, head) == verify_audit(path)
    assert _events(2) + _events(3) == list(read_audit(path))


def test_empty(tmp_path: Path) -> None:
    """No events leave the genesis hash."""
    path = tmp_path / "audit.jsonl"
    assert GENESIS == append_audit(path, [])
    assert (0, GENESIS) == verify_audit(path)


@pytest.mark.parametrize("line", range(4))
@pytest.mark.parametrize("how", ["change", "remove", "double"])
def test_tampering(tmp_path: Path, line: int, how: str) -> None:
    """A line changed, removed or doubled breaks the chain, but for a cut at the very end."""
    path = tmp_path / "audit.jsonl"
    append_audit(path, _events(4))
    lines = path.read_bytes().splitlines(keepends=True)
    if how == "change":
        lines[line] = lines[line].replace(b'"named"', b'"nomed"')
    elif how == "remove":
        del lines[line]
    else:
        lines.insert(line, lines[line])
    path.write_bytes(b"".join(lines))
    if (how, line) == ("remove", 3):
        assert 3 == verify_audit(path).n_lines  # why the head is noted elsewhere
    else:
        with pytest.raises(RecordError, match="chain is broken"):
            verify_audit(path)


def test_torn_end(tmp_path: Path) -> None:
    """A line cut off by a crash is dropped, and the chain goes on."""
    path = tmp_path / "audit.jsonl"
    append_audit(path, _events(2))
    path.write_bytes(path.read_bytes() + b'{"seq": 3, "at"')
    append_audit(path, _events(1))
    assert 3 == verify_audit(path).n_lines


def test_long_line(tmp_path: Path) -> None:
    """A last line longer than the first look from the end is found all the same."""
    path = tmp_path / "audit.jsonl"
    append_audit(path, [*_events(1), AuditEvent("named", 1.0, {"x": "y" * 200_000})])
    append_audit(path, _events(1))
    assert 3 == verify_audit(path).n_lines


def test_foreign_file(tmp_path: Path) -> None:
    """Another file is not taken for an audit log."""
    path = tmp_path / "audit.jsonl"
    path.write_text("hello\n")
    with pytest.raises(RecordError, match="not a line of an audit log"):
        append_audit(path, _events(1))
    with pytest.raises(RecordError, match=":1: not a line"):
        verify_audit(path)
    with pytest.raises(RecordError, match="cannot be read"):
        verify_audit(tmp_path / "absent")
