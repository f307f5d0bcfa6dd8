"""A run that was cut off goes on."""

from yardstick.ledger import Ledger


def test_resumes(tmp_path) -> None:
    """What was added is there again, and a line cut off by a crash is forgotten."""
    path = tmp_path / "out" / "worlds.jsonl"
    ledger = Ledger(path)
    assert "a" not in ledger
    ledger.add("a", {"rows": [1, 2]})
    ledger.add("b", {"rows": []})
    path.write_bytes(path.read_bytes()[:-4])
    again = Ledger(path)
    assert "a" in again
    assert "b" not in again
    assert {"rows": [1, 2]} == again["a"]
    again.add("b", {"rows": [3]})
    assert 2 == len(Ledger(path))
    assert {"rows": [3]} == Ledger(path)["b"]
