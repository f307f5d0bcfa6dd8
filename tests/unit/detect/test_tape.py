"""The tape: what is put on it comes back, and every exchange finds its family."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stillwatch.detect.profiles.tape import (
    SCHEMA,
    Taken,
    TapeRows,
    TapeWriter,
    Wording,
    attribute,
    least_carried,
    read_tape,
    write_exchanges,
)
from stillwatch.errors import RecordError
from stillwatch.text.ragged import Ragged, starts_of


def _ragged(*rows: list[int]) -> Ragged:
    values = np.array([value for row in rows for value in row], dtype=np.uint32)
    return Ragged(values, starts_of([len(row) for row in rows]))


def _rows(*shingles: list[int], first: int = 0) -> TapeRows:
    n = len(shingles)
    number = np.arange(first, first + n)
    return TapeRows(
        exchange_id=pa.array([f"x{i}" for i in number]),
        account=pa.array([f"a{i % 2}" for i in number]),
        started_at=number * 10.0,
        input_tokens=np.full(n, 3),
        output_tokens=number + 1,
        system=np.zeros(n, np.uint64),
        shingles=_ragged(*shingles),
    )


def _tape(folder: Path, *shingles: list[int]) -> Path:
    with TapeWriter(folder) as tape:
        tape.write(_rows(*shingles))
    return folder


def _found(folder: Path, wording: Wording) -> list[tuple[str, int, int]]:
    return [
        (row["exchange_id"], row["family"], row["carried"])
        for batch in attribute(folder, wording)
        for row in batch.to_pylist()
    ]


def test_comes_back(tmp_path: Path) -> None:
    """Rows come back as they were put on, parts in the order of their names."""
    for part in ("000002", "000001"):
        with TapeWriter(tmp_path, part) as tape:
            tape.write(_rows([1, 2], [], [2**32 - 1], first=int(part)))
    batches = list(read_tape(tmp_path))
    assert all(batch.schema.equals(SCHEMA) for batch in batches)
    rows = [row for batch in batches for row in batch.to_pylist()]
    assert ["x1", "x2", "x3", "x2", "x3", "x4"] == [row["exchange_id"] for row in rows]
    assert [[1, 2], [], [2**32 - 1]] == [row["shingles"] for row in rows[:3]]
    assert [10.0, 20.0, 30.0] == [row["started_at"] for row in rows[:3]]


def test_family_most_carried(tmp_path: Path) -> None:
    """An exchange belongs to the family most of whose shingles it carries, if it carries enough."""
    folder = _tape(tmp_path, [1, 2, 9], [1, 11, 12], [5, 6], [11], [1, 11], [])
    wording = Wording(_ragged([1, 2, 3], [11, 12]), np.array([1.0, 1.0]))
    assert [("x0", 0, 2), ("x1", 1, 2), ("x3", 1, 1), ("x4", 0, 1)] == _found(folder, wording)
    assert [("x0", 0, 2), ("x1", 1, 2)] == _found(folder, wording._replace(least=np.full(2, 1.5)))


def test_no_family(tmp_path: Path) -> None:
    """Without families nothing is attributed, and an empty tape holds nothing."""
    nothing = Wording(Ragged(np.empty(0, np.uint32), np.zeros(1, np.int64)), np.empty(0))
    assert [] == _found(_tape(tmp_path / "a", [1]), nothing)
    assert [] == _found(tmp_path / "b", Wording(_ragged([1]), np.ones(1)))


def test_agrees_with_sets(tmp_path: Path) -> None:
    """The compiled table finds what plain sets find, among thousands of colliding shingles."""
    rng = np.random.default_rng(0)
    cores = rng.permutation(6_000).reshape(60, 100)
    rows = [np.unique(rng.integers(0, 40_000, size=20)).tolist() for _ in range(500)]
    for i in range(0, 500, 3):
        rows[i] = np.unique([*rows[i][:8], *rng.choice(cores[i % 60], 6)]).tolist()
    wording = Wording(_ragged(*cores.tolist()), np.full(60, 3.0))
    owner = {int(value): family for family, core in enumerate(cores) for value in core}
    expected = []
    for i, row in enumerate(rows):
        counts = np.bincount([owner[v] for v in row if v in owner], minlength=60)
        if counts.max() >= 3:
            expected.append((f"x{i}", int(counts.argmax()), int(counts.max())))
    assert expected == _found(_tape(tmp_path, *rows), wording)


def test_least_carried() -> None:
    """What must be carried is a share of what the family's own exchanges carry."""
    shingles = _ragged([1, 2, 3, 4], [1, 2], [11], [50])
    family = np.array([0, 0, 1, -1])
    least = least_carried(shingles, family, _ragged([1, 2, 3, 4], [11, 12]), share=0.5)
    assert [1.5, 1.0] == least.tolist()


def test_writes_exchanges(tmp_path: Path) -> None:
    """Every exchange of a campaign is listed with its id, and what it took is added up."""
    folder = _tape(tmp_path / "tape", [1], [11], [21], [1, 2])
    wording = Wording(_ragged([1, 2], [11], [21], [31]), np.ones(4))
    path = tmp_path / "out" / "exchanges.parquet"
    taken = write_exchanges(
        path, attribute(folder, wording), campaign_of=["one", "one", "two", "idle"]
    )
    assert {
        "one": Taken(3, 9, 1 + 2 + 4, 0.0, 30.0),
        "two": Taken(1, 3, 3, 20.0, 20.0),
        "idle": Taken(),
    } == taken
    table = pq.read_table(path)
    assert ["x0", "x1", "x2", "x3"] == table["exchange_id"].to_pylist()
    assert ["one", "one", "two", "one"] == table["campaign_id"].to_pylist()


def test_writes_no_exchange(tmp_path: Path) -> None:
    """With no campaign the list is there and empty."""
    assert {} == write_exchanges(tmp_path / "e.parquet", iter(()), campaign_of=[])
    assert 0 == pq.read_table(tmp_path / "e.parquet").num_rows


def test_broken_tape(tmp_path: Path) -> None:
    """A part that is cut off is told, with its name."""
    path = _tape(tmp_path, [1, 2, 3]) / "000000.tape"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(RecordError, match=r"000000\.tape"):
        list(read_tape(tmp_path))
