"""Which worlds the benchmark runs."""

from __future__ import annotations

from typing import Any, NamedTuple


class Cell(NamedTuple):
    """One kind of world; a seed makes it one world.

    Attributes:
        part: the table that it belongs to.
        name: scenario, S2 to S9.
        evasion: E0 to E5.
        n_honest: honest accounts (count).
        n_campaign: accounts of all campaigns together (count).
        share: of all exchanges that are asked by campaign accounts, 0..1.
        dilution: share of a campaign account's exchanges that are no harvest; None = as the
            scenario has it.
        partition: how the queue is shared out: random, template or mixed.
        n_campaigns: at once (count).
        has_reference: give `detect` the honest history, or let the log stand in for it.
        taint: share of the history that campaigns asked, 0..1.
        resolution: level of the profiles, 0 finest; a log of 29 million is folded at 2.
        lists_baselines: run the baselines too.
        finds_first: look for the first alarm too.
    """

    part: str
    name: str
    evasion: str = "E1"
    n_honest: int = 1500
    n_campaign: int = 100
    share: float = 0.05
    dilution: float | None = None
    partition: str = "mixed"
    n_campaigns: int = 1
    has_reference: bool = True
    taint: float = 0.0
    resolution: int = 0
    lists_baselines: bool = True
    finds_first: bool = False

    @property
    def label(self) -> str:
        """What a table's row is called."""
        words = [self.name, "no campaign"]
        if self.n_campaign:
            words = [self.name, self.evasion, f"{self.n_campaign} accounts at {self.share:.1%}"]
        words += [self.partition] if self.partition != "mixed" else []
        words += [f"{self.n_campaigns} campaigns"] if self.n_campaigns > 1 else []
        words += [f"{self.dilution:.0%} diluted"] if self.dilution is not None else []
        words += ["no reference"] * (not self.has_reference)
        words += [f"{self.taint:.0%} of the history tainted"] if self.taint else []
        words += [f"resolution {self.resolution}"] if self.resolution else []
        return ", ".join(words)


#: More worlds for the parts that count rare events.
SEEDS_TIMES = {"look-alikes": 2}

_EVASIONS = ("E0", "E1", "E2", "E3", "E4", "E5")


def full_plan() -> list[Cell]:
    """List the cells of the whole benchmark.

    Returns:
        Cells, part by part.
    """
    return [
        *(Cell("evasion", "S3", e, finds_first=True) for e in _EVASIONS),
        Cell("size and share", "S3", n_campaign=30, n_honest=12_000, share=0.001),
        Cell("size and share", "S3", n_campaign=30, share=0.01),
        Cell("size and share", "S3", n_campaign=30, share=0.05),
        Cell("size and share", "S3", n_campaign=100, share=0.1),
        Cell("size and share", "S3", n_campaign=400, share=0.1, n_honest=3000),
        Cell("queue", "S3", partition="random"),
        Cell("queue", "S3", partition="template"),
        Cell("queue", "S3", n_campaign=200, share=0.1, n_campaigns=3),
        Cell("pathways", "S2", n_campaign=1, share=0.01),
        *(Cell("pathways", "S4", dilution=d) for d in (0.5, 0.75, 0.95)),
        *(Cell("pathways", name) for name in ("S5", "S6", "S7", "S9")),
        *(_alone(taint=taint) for taint in (0.01, 0.05)),
        _alone(has_reference=False),
        *(_alone(resolution=level) for level in (1, 2)),
        *(Cell("look-alikes", name, n_campaign=0, share=0.0) for name in ("S8", "S9")),
        _alone("S8", n_campaign=0, has_reference=False),
    ]


def _alone(name: str = "S3", *, n_campaign: int = 100, **changes: Any) -> Cell:
    """Make a cell that asks about `detect` alone."""
    part = "conditions" if n_campaign else "look-alikes"
    share = 0.05 if n_campaign else 0.0
    return Cell(part, name, n_campaign=n_campaign, share=share, lists_baselines=False, **changes)


def quick_plan() -> list[Cell]:
    """List the cells of a run of minutes.

    Returns:
        Two small cells.
    """
    return [
        Cell("evasion", "S3", n_honest=400, n_campaign=40, finds_first=True),
        Cell("look-alikes", "S8", n_honest=400, n_campaign=0, share=0.0),
    ]


def large_plan() -> list[Cell]:
    """List the cells of the size that the news told of.

    Returns:
        Webs of thousands of accounts; hours of computing.
    """
    sizes = ((3_000, 30_000, 0.1), (25_000, 250_000, 0.1))
    return [
        Cell("large", "S3", n_campaign=n, n_honest=h, share=s, lists_baselines=False)
        for n, h, s in sizes
    ]
