"""One threshold for all worlds."""

import numpy as np

from yardstick.curve import NOTHING, Point, choose, read_at, trace
from yardstick.score import HARVEST, HONEST, Group, Truth


def _truth() -> Truth:
    campaign = np.array([0, 0, -1, -1])
    return Truth(
        role=["campaign", "campaign", "person", "person"],
        group=["web", "web", "", ""],
        campaign=campaign,
        kind=np.array([HARVEST, HARVEST, HONEST, HONEST]),
        row_campaign=campaign,
        live=np.ones(4, dtype=bool),
        tokens=np.ones(4, dtype=int),
    )


def _group(*accounts: int, score: float) -> Group:
    return Group(np.array(accounts), np.array(accounts), score)


def test_trace_adds_up() -> None:
    """Each point counts everything named so far; equal scores are one point."""
    groups = [_group(2, score=2.0), _group(0, score=3.0), _group(1, 3, score=2.0)]
    assert [Point(3.0, 1, 0, 0.5, 0.0), Point(2.0, 3, 1, 1.0, 0.5)] == trace(groups, _truth())
    assert [] == trace([], _truth())


def test_read_at() -> None:
    """A threshold names what scores at least that; above all, nothing."""
    points = [Point(3.0, 1, 0, 0.5, 0.0), Point(2.0, 3, 1, 1.0, 0.5)]
    assert points[0] == read_at(points, 2.5)
    assert points[1] == read_at(points, 2.0)
    assert NOTHING == read_at(points, 3.5)


def test_choose_counts_false_names_of_honest_worlds() -> None:
    """The threshold that an honest world forbids is not chosen, however much it would list."""
    web = {"loose": [Point(9.0, 1, 0, 0.4, 0.0), Point(5.0, 2, 0, 1.0, 0.0)]}
    quiet = {"loose": [Point(6.0, 3, 3, 0.0, 1.0)]}
    choice = choose([web, quiet], [True, False], 0.01)
    assert choice is not None
    assert (9.0, 0.0) == (choice.cut, choice.fdr)
    free = choose([web], [True], 0.01)
    assert free is not None
    assert 5.0 == free.cut
    assert choose([quiet], [False], 0.01) is None
    assert choose([{"loose": []}], [True], 0.01) is None
