"""The seven points of the comparison, each counted at the server."""

from __future__ import annotations

import json
import math
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

from askers.environments import Contender
from askers.jobs import Job, Ran, import_cost, run_job
from stillwatch.model.fake_endpoint import FakeConfig, FakeEndpoint, question_key

#: A second run that has not ended after this long, twice what the slowest needs, is hung (seconds).
_HUNG_S = 150.0
#: A figure of the table: a number, or words where there is none.
Figure = float | str


class Arena(NamedTuple):
    """Where the contest is held.

    Attributes:
        endpoint: the server, pinned to another core.
        cpu: the clients' core.
        folder: for the contenders' files.
        scale: of the numbers of questions; 1 is the protocol's.
        repeats: how often the first point is run; the best counts.
    """

    endpoint: FakeEndpoint
    cpu: int
    folder: Path
    scale: float = 1.0
    repeats: int = 2

    def n(self, count: int) -> int:
        """Scale a number of questions."""
        return max(20, int(count * self.scale))

    def job(self, name: str, count: int, **changes: Any) -> Job:
        """Lay out a job in a fresh folder."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        questions = [f"{name}: what is {n} times {n + 7}? Please show how." for n in range(count)]
        return Job(self.endpoint.base_url, questions, folder)._replace(**changes)

    def behave(self, config: FakeConfig) -> None:
        """Set the server and begin its counts anew."""
        self.endpoint.configure(config)
        self.endpoint.reset()


def speed(arena: Arena, contender: Contender) -> dict[str, Figure]:
    """1: requests a second, CPU, memory, start; at several delays and widths."""
    found: dict[str, Figure] = {}
    count = arena.n(5000)
    import_wall, import_cpu = import_cost(contender, cpu=arena.cpu)
    found["import s"], found["import CPU s"] = round(import_wall, 2), round(import_cpu, 2)
    for delay_s in (0.0, 0.05, 0.5):
        for width in (64, 256):
            best: dict[str, Figure] = {}
            for _ in range(arena.repeats):
                now = _one_speed(arena, contender, delay_s=delay_s, width=width, count=count)
                now["CPU s/1000"] = round((now.pop("cpu") - import_cpu) * 1000 / count, 3)
                if not best or float(now["req/s"]) > float(best["req/s"]):
                    best = dict(now)
            label = f"{delay_s * 1000:.0f} ms x{width}"
            found |= {f"{label} {name}": value for name, value in best.items()}
    return found


def _one_speed(
    arena: Arena, contender: Contender, *, delay_s: float, width: int, count: int
) -> dict[str, float]:
    arena.behave(FakeConfig(answer_bytes=1000, delay_s=delay_s))
    job = arena.job(f"speed-{contender.name}", count, concurrency=width)
    ran = run_job(contender, job, cpu=arena.cpu)
    counts = arena.endpoint.counts()
    return {
        "req/s": round(counts.n_delivered / max(counts.seconds, 1e-9)),
        "end to end/s": round(len(ran.rows) / ran.wall_s),
        "kept": len(ran.rows),
        "peak MB": round(ran.peak_mb),
        "cpu": ran.cpu_s,
    }


def killed(arena: Arena, contender: Contender) -> dict[str, Figure]:
    """2: `kill -9` at half way, then the same command again."""
    count = arena.n(5000)
    arena.behave(FakeConfig(answer_bytes=1000, delay_s=0.05))
    job = arena.job(f"killed-{contender.name}", count)
    ran = run_job(
        contender, job, cpu=arena.cpu,
        kill_when=lambda: arena.endpoint.counts().n_delivered >= count // 2,
    )  # fmt: skip
    time.sleep(0.5)  # what was under way is billed and cannot be delivered
    before = arena.endpoint.counts(with_keys=True)
    if ran.code >= 0:
        return {"killed": "it was done before it could be killed"}
    arena.endpoint.reset()
    again = run_job(contender, job, cpu=arena.cpu, limit_s=_HUNG_S)
    after = arena.endpoint.counts(with_keys=True)
    twice = len(before.asked.keys() & after.asked.keys())
    return {
        "answers lost": count - len(again.rows),
        "asked twice": twice,
        # A client has 64 under way at the kill, and may have some on their way to the disk.
        "beyond the 64 under way": max(0, twice - job.concurrency),
        "delivered at the kill": before.n_delivered,
        "paid twice": before.n_billed + after.n_billed - len(before.billed | after.billed),
        "kept": len(again.rows),
        "of": count,
        "second run": _ending(again),
    }


def limited(arena: Arena, contender: Contender) -> dict[str, Figure]:
    """3: a bucket of 200 a second that answers 429 with Retry-After."""
    count = arena.n(3000)
    arena.behave(FakeConfig(answer_bytes=1000, delay_s=0.02, rate_per_s=200, burst=20))
    job = arena.job(f"limited-{contender.name}", count)
    ran = run_job(contender, job, cpu=arena.cpu)
    counts = arena.endpoint.counts()
    refused = counts.statuses.get(429, 0)
    return {
        "share of 429": round(refused / max(1, counts.n_requests), 3),
        "429s": refused,
        "goodput of 200/s": round(counts.n_delivered / max(counts.seconds, 1e-9) / 200, 3),
        "kept": len(ran.rows),
        "of": count,
        "seconds": round(counts.seconds, 1),
        "ending": _ending(ran),
    }


def faulty(arena: Arena, contender: Contender) -> dict[str, Figure]:
    """4: five in a hundred 500s, two cut bodies, one stall of 30 s."""
    count = arena.n(1000)
    arena.behave(
        FakeConfig(
            answer_bytes=1000, delay_s=0.02, error_share=0.05, cut_share=0.02,
            stalled_share=0.01, stall_s=30.0,
        )
    )  # fmt: skip
    job = arena.job(f"faulty-{contender.name}", count)
    ran = run_job(contender, job, cpu=arena.cpu)
    counts = arena.endpoint.counts(with_keys=True)
    cut = counts.faults.get("cut", 0)
    return {
        "kept": len(ran.rows),
        "of": count,
        "rows lost": count - len(ran.rows),
        "paid": counts.n_billed,
        # A cut answer must be bought again; more than that need not be.
        "paid needlessly": max(0, counts.n_billed_again - cut),
        "attempts": counts.n_requests,
        "seconds": round(counts.seconds, 1),
        "seconds in all": round(ran.wall_s, 1),
        "ending": _ending(ran),
    }


def truncated(arena: Arena, contender: Contender) -> dict[str, Figure]:
    """5: one answer in ten ends for length."""
    count = arena.n(1000)
    arena.behave(FakeConfig(answer_bytes=1000, delay_s=0.02, truncated_share=0.1))
    job = arena.job(f"truncated-{contender.name}", count)
    ran = run_job(contender, job, cpu=arena.cpu)
    counts = arena.endpoint.counts()
    whole = sum(len(answer) > 900 for answer in ran.rows.values())
    return {
        "paid": counts.n_billed,
        "kept whole": whole,
        "kept cut, unmarked": len(ran.rows) - whole,
        "paid per whole row": round(counts.n_billed / max(1, whole), 3),
        "ending": _ending(ran),
    }


def changed(arena: Arena, contender: Contender) -> dict[str, Figure]:
    """6: another system prompt in the same folder."""
    count = arena.n(500)
    arena.behave(FakeConfig(answer_bytes=200, delay_s=0.01))
    job = arena.job(f"changed-{contender.name}", count, system="Answer as a pirate.")
    first = run_job(contender, job, cpu=arena.cpu)
    system = "Answer as a lawyer."
    second = run_job(contender, job._replace(system=system), cpu=arena.cpu)
    fresh = sum(
        answer.startswith(question_key([("system", system), ("user", question)]))
        for question, answer in second.rows.items()
    )
    return {
        "first run": len(first.rows),
        "second run": len(second.rows),
        "stale rows": len(second.rows) - fresh,
        "ending": _ending(second),
    }


def capped(arena: Arena, contender: Contender) -> dict[str, Figure]:
    """7: a cap on tokens that three tenths of the questions would use up."""
    count, width = arena.n(2000), 64
    arena.behave(FakeConfig(answer_bytes=1000, delay_s=0.02))
    each = 250 + 14
    cap = int(0.3 * count * each)
    job = arena.job(
        f"capped-{contender.name}", count, concurrency=width, budget_tokens=cap, max_tokens=300
    )
    ran = run_job(contender, job, cpu=arena.cpu)
    counts = arena.endpoint.counts()
    spent = counts.input_tokens + counts.output_tokens
    return {
        "cap": cap,
        "spent": spent,
        "past the cap": max(0, spent - cap),
        "windows past it": round(max(0, spent - cap) / (width * each), 2),
        "kept": len(ran.rows),
        "ending": _ending(ran),
    }


POINTS = {
    "1 speed": speed,
    "2 kill -9 at half": killed,
    "3 bucket of 200/s": limited,
    "4 faults": faulty,
    "5 truncation": truncated,
    "6 changed prompt": changed,
    "7 cap on tokens": capped,
}


def _ending(ran: Ran) -> str:
    if ran.code == 0:
        return "done"
    return f"killed after {ran.wall_s:.0f} s" if ran.code < 0 else f"failed ({ran.code})"


def write(path: Path, found: dict[str, Any]) -> None:
    """Write what was found as JSON."""
    path.write_text(json.dumps(found, indent=1, default=str) + "\n")


def ratio(ours: float, others: list[float]) -> float:
    """Say how many times the better of the others we are; NaN without others."""
    return ours / max(others) if others and max(others) > 0 else math.nan
