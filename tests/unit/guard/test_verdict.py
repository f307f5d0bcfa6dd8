"""The verdict table: first times stay, all or nothing, and a generation that tells of changes."""

from pathlib import Path

import pytest

from stillwatch.errors import RecordError
from stillwatch.guard.learning.naming import keep_names
from stillwatch.guard.wall.verdict import CampaignVerdict, Verdict, VerdictTable


def _verdict(account: str, *, campaign: str = "web-1", at: float = 10.0) -> Verdict:
    of = CampaignVerdict(campaign, since=at, renewed_at=at, p_value=1e-6, mark_key_id="k")
    return Verdict(account, of, named_at=at, expires_at=at + 100.0)


def test_renewal(tmp_path: Path) -> None:
    """Renewing moves expiry and keeps when campaign and account were first named."""
    table = VerdictTable(tmp_path / "v.sqlite")
    assert 1 == table.write([_verdict("a"), _verdict("b")])
    assert 2 == table.write([_verdict("a", at=50.0), _verdict("c", at=50.0)])
    board = table.load()
    assert 2 == board.generation
    found = board.verdicts["a"]
    assert (10.0, 150.0, 10.0, 50.0) == (
        found.named_at, found.expires_at, found.campaign.since, found.campaign.renewed_at
    )  # fmt: skip
    assert {"web-1": {"a", "b", "c"}} == board.members()
    assert board.verdict("b", 109.0) is not None
    assert board.verdict("b", 110.0) is None
    table.close()


def test_two_processes_worth(tmp_path: Path) -> None:
    """A second connection sees the change by its generation."""
    writer, reader = VerdictTable(tmp_path / "v.sqlite"), VerdictTable(tmp_path / "v.sqlite")
    before = reader.load()
    writer.write([_verdict("a")])
    assert (0, 1) == (before.generation, reader.generation())
    assert {} == dict(before.verdicts)
    assert ["a"] == list(reader.load().verdicts)
    writer.close()
    reader.close()


def test_clear(tmp_path: Path) -> None:
    """A cleared account loses its verdict and is protected until the time said."""
    table = VerdictTable(tmp_path / "v.sqlite")
    table.write([_verdict("a"), _verdict("b")])
    table.clear("a", until=99.0)
    assert ["b"] == list(table.load().verdicts)
    assert frozenset({"a"}) == table.cleared(98.0)
    assert frozenset() == table.cleared(99.0)
    table.close()


def test_moves(tmp_path: Path) -> None:
    """An account belongs to one campaign, the one found last."""
    table = VerdictTable(tmp_path / "v.sqlite")
    table.write([_verdict("a")])
    table.write([_verdict("a", campaign="web-2", at=20.0)])
    assert {"web-2": {"a"}} == table.load().members()
    table.close()


def test_no_table(tmp_path: Path) -> None:
    """A file that is no table is refused, not overwritten."""
    path = tmp_path / "v.sqlite"
    path.write_text("this is not a database, it is a letter to my aunt\n" * 100)
    with pytest.raises(RecordError, match="cannot be opened"):
        VerdictTable(path)


def _sets(*groups: str) -> list[frozenset[str]]:
    return [frozenset(group) for group in groups]


@pytest.mark.parametrize(
    ("found", "known", "expected"),
    [
        (_sets("abcdefgh"), {"old": frozenset("ab")}, ["old"]),  # grown
        (_sets("xyz"), {"old": frozenset("ab")}, ["new0"]),  # another
        (_sets("ab", "cdefg"), {"old": frozenset("abcdefg")}, ["new0", "old"]),  # split
        (_sets("abcd"), {"o1": frozenset("ab"), "o2": frozenset("cdx")}, ["o1"]),  # merged
        (_sets("ab", "xy"), {"new0": frozenset("xy")}, ["new0-2", "new0"]),  # a taken name
        ([], {"old": frozenset("ab")}, []),
    ],
)
def test_names_last(
    found: list[frozenset[str]], known: dict[str, frozenset[str]], expected: list[str]
) -> None:
    """A campaign keeps its name while it grows; of a split one the larger part does."""
    proposed = [f"new{i}" for i in range(len(found))]
    assert expected == keep_names(found, known, proposed=proposed)
