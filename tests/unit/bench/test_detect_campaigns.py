"""The benchmark's own command."""

import msgspec

from detect_campaigns import Job
from yardstick.plan import Cell, full_plan


def test_keys_tell_worlds_apart() -> None:
    """The same world has the same key; another seed, family or cell has another."""
    cell = Cell("evasion", "S3")
    job = Job(cell, 1, "tuning", "data")
    assert job.key == Job(cell, 1, "tuning", "elsewhere").key
    others = [(cell, 2, "tuning"), (cell, 1, "report"), (cell._replace(share=0.1), 1, "tuning")]
    assert 4 == len({job.key, *(Job(*other, "data").key for other in others)})


def test_labels_differ() -> None:
    """No two cells of the plan share part and label, or their lines would be mixed up."""
    plan = full_plan()
    assert len(plan) == len({(cell.part, cell.label) for cell in plan})


def test_cells_survive_the_ledger() -> None:
    """A cell read back from JSON is the same cell."""
    for cell in full_plan():
        assert cell == Cell(**msgspec.json.decode(msgspec.json.encode(cell._asdict())))
