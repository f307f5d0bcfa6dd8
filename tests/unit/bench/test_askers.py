"""The asking bench: it counts at the server what a contender did, and kills what it must."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from askers.environments import contenders, versions
from askers.jobs import Job, run_job
from askers.points import POINTS, Arena, ratio, truncated
from stillwatch.model.fake_endpoint import FakeConfig, FakeEndpoint

CPU = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
pytestmark = pytest.mark.skipif(
    not Path("/usr/bin/taskset").exists(), reason="needs taskset, as the bench does"
)


def test_our_side_is_counted_at_the_server(tmp_path: Path) -> None:
    """A point runs in a process of its own, and its figures are the server's."""
    ours = contenders(tmp_path, ["ours"])[0]
    with FakeEndpoint() as endpoint:
        arena = Arena(endpoint, CPU, tmp_path, scale=0.05, repeats=1)
        found = truncated(arena, ours)
        counts = endpoint.counts()
    assert (50, 50) == (found["paid"], counts.n_billed)
    assert 30 < float(found["kept whole"]) < 50
    assert (0, "done") == (found["kept cut, unmarked"], found["ending"])


def test_a_job_can_be_killed(tmp_path: Path) -> None:
    """A job is killed with all its children when the time has come, and keeps no rows."""
    ours = contenders(tmp_path, ["ours"])[0]
    with FakeEndpoint(FakeConfig(delay_s=0.2)) as endpoint:
        job = Job(endpoint.base_url, [f"q{n}" for n in range(500)], tmp_path / "job")
        ran = run_job(ours, job, cpu=CPU, kill_when=lambda: endpoint.counts().n_requests > 20)
        assert (-9, {}) == (ran.code, ran.rows)
        assert 20 < endpoint.counts().n_requests < 500


def test_the_seven_points_are_there() -> None:
    """The protocol's points keep their numbers, which `--points` chooses by."""
    assert list("1234567") == [name[0] for name in POINTS]
    assert 4.0 == ratio(8.0, [1.0, 2.0])


def test_versions_are_told(tmp_path: Path) -> None:
    """Every contender's packages are named with their versions."""
    assert {"stillwatch", "aiohttp", "msgspec"} == set(versions(contenders(tmp_path, ["ours"])[0]))
