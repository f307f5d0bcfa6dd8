"""Runs one job of one contender and measures its process tree from outside."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from askers.environments import Contender

#: How often memory is looked at, and whether it is time to kill (seconds).
_LOOK_S = 0.1


class Job(NamedTuple):
    """What is to be asked.

    Attributes:
        base_url: of the server.
        questions: the texts, all different.
        folder: the contender's own; a second job in the same folder goes on from the first.
        concurrency: questions under way at once (count).
        system: a system prompt, or "".
        model: the model's name.
        max_tokens: the longest answer allowed (count).
        budget_tokens: tokens that may be spent, or None; only ours can obey.
    """

    base_url: str
    questions: list[str]
    folder: Path
    concurrency: int = 64
    system: str = ""
    model: str = "bench-model"
    max_tokens: int = 1024
    budget_tokens: int | None = None


class Ran(NamedTuple):
    """What running a job showed.

    Attributes:
        code: the process's exit status, below 0 when it was killed.
        wall_s: from start to end (seconds).
        cpu_s: of the process and its children (seconds).
        peak_mb: memory of the whole tree at once, at most (MB, proportional share).
        rows: answers kept, by question.
        log: the end of what it said.
    """

    code: int
    wall_s: float
    cpu_s: float
    peak_mb: float
    rows: dict[str, str]
    log: str


def run_job(
    contender: Contender,
    job: Job,
    *,
    cpu: int,
    kill_when: Callable[[], bool] | None = None,
    limit_s: float = 600.0,
) -> Ran:
    """Run a job to its end, or kill it.

    Args:
        contender: who runs it.
        job: what.
        cpu: the core that it may use.
        kill_when: asked a few times a second; True kills the whole tree with SIGKILL.
        limit_s: longest time it may take (seconds); beyond it, it is killed.

    Returns:
        What it showed.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    files = {name: job.folder / name for name in ("job.json", "questions.json", "log.txt")}
    out = job.folder / "rows.jsonl"
    out.unlink(missing_ok=True)
    files["questions.json"].write_text(json.dumps(job.questions))
    told = {
        **job._asdict(),
        "questions": str(files["questions.json"]),
        "folder": str(job.folder / "own"),
        "out": str(out),
    }
    files["job.json"].write_text(json.dumps(told))
    command = ["taskset", "--cpu-list", str(cpu), contender.python, contender.script]
    with files["log.txt"].open("wb") as log:
        ran = _watch([*map(str, command), str(files["job.json"])], contender, log.fileno(),
                     kill_when=kill_when, limit_s=limit_s)  # fmt: skip
    rows = {}
    if out.exists():
        for line in out.read_text().splitlines():
            row = json.loads(line)
            rows[row["q"]] = row["a"]
    return ran._replace(rows=rows, log=files["log.txt"].read_text(errors="replace")[-600:])


def import_cost(contender: Contender, *, cpu: int) -> tuple[float, float]:
    """Measure what starting costs before the first question.

    Args:
        contender: who.
        cpu: the core that it may use.

    Returns:
        Wall and CPU seconds of a process that only imports, the least of three.
    """
    command = ["taskset", "--cpu-list", str(cpu), str(contender.python), "-c", contender.imports]
    with Path(os.devnull).open("wb") as log:
        watched = (command, contender, log.fileno())
        ran = [_watch(*watched, kill_when=None, limit_s=120) for _ in range(3)]
    return min(r.wall_s for r in ran), min(r.cpu_s for r in ran)


def _watch(
    command: list[str],
    contender: Contender,
    log: int,
    *,
    kill_when: Callable[[], bool] | None,
    limit_s: float,
) -> Ran:
    began, before = time.monotonic(), _children_cpu()
    child = subprocess.Popen(
        command, env=contender.variables, stdout=log, stderr=log, start_new_session=True
    )
    peak = 0.0
    try:
        while child.poll() is None:
            peak = max(peak, _tree_mb(child.pid))
            too_long = time.monotonic() - began > limit_s
            if too_long or (kill_when is not None and kill_when()):
                break
            time.sleep(_LOOK_S if kill_when is None else 0.01)
    finally:  # its children too, whatever ended it
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    wall_s = time.monotonic() - began
    return Ran(child.returncode, wall_s, _children_cpu() - before, peak, {}, "")


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _tree_mb(session: int) -> float:
    """Memory of all processes of a session; shared pages count by their share."""
    total = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if os.getsid(int(entry.name)) != session:
                continue
            text = (entry / "smaps_rollup").read_text()
        except (OSError, ProcessLookupError):
            continue
        total += next((int(x.split()[1]) for x in text.splitlines() if x.startswith("Pss:")), 0)
    return total / 1024
