"""The gateway beside LiteLLM's proxy, over one mock model server: `make bench-guard`.

    python bench/guard_bench.py [--make-env FOLDER | --litellm PYTHON] [--only cpu,added] [--quick]

Two cores: one for who is measured, one for the model server and the askers. Processor time comes
from the kernel's accounts of the measured processes, medians over repeats in which all take turns.
Added times are differences to asking the model server directly, in turn and at the same moments.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from guardbench import cases, memory
from guardbench.cases import Effort
from guardbench.load import Kind, Target
from guardbench.mock import N_EVENTS, MockConfig, run_mock
from guardbench.process import rss_mb
from guardbench.subjects import (
    GatewayPlan,
    Subject,
    litellm,
    make_environment,
    start_gateway,
)
from stillwatch.siege.processes import ProcessGroup

_RATES = (250.0, 500.0, 1000.0, 1500.0, 2000.0, 2500.0, 3000.0, 3500.0, 4000.0, 5000.0)
_SLOW_RATES = (10.0, 20.0, 40.0, 60.0, 80.0, 100.0, 120.0)


@dataclass
class Bench:
    """Everything that the cases need.

    Attributes:
        ours: the gateway.
        direct: the model server, asked without anybody in between.
        theirs: LiteLLM, or None.
        effort: how long measuring may take.
        folder: for files.
        upstream: the mock's port.
        cpus: of who is measured.
        figures: found so far.
    """

    ours: Subject
    direct: Subject
    theirs: Subject | None
    effort: Effort
    folder: Path
    upstream: int
    cpus: frozenset[int]
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def proxies(self) -> list[Subject]:
        """Those with a process."""
        return [each for each in (self.ours, self.theirs) if each is not None]


def measure_cpu(bench: Bench) -> None:
    """Processor time a question."""
    kinds = {
        "whole answer, 1.2 KB question": cases.WHOLE,
        "whole answer, 100 KB question": cases.LONG,
        f"stream of {N_EVENTS} events": cases.STREAMED,
    }
    for title, kind in kinds.items():
        found = cases.cpu_us(bench.proxies, kind, bench.effort)
        bench.figures[f"cpu_us: {title}"] = found
        for name, values in found.items():
            middle = statistics.median(values)
            frame = f", {cases.a_frame_us(middle):.0f} an event" if kind.streamed else ""
            spread = f"{min(values):.0f}-{max(values):.0f}"
            print(f"{title}: {name}: {middle:.0f} us CPU a question ({spread}){frame}")


def measure_added(bench: Bench) -> None:
    """Added milliseconds at a rate."""
    rates = [(bench.ours, cases.WHOLE, 1000.0), (bench.ours, cases.STREAMED, 40.0)]
    if bench.theirs is not None:
        rates += [(bench.theirs, cases.WHOLE, 50.0), (bench.theirs, cases.STREAMED, 5.0)]
    for subject, kind, rate_hz in rates:
        _print_added(bench, subject, kind, rate_hz=rate_hz)


def _print_added(bench: Bench, subject: Subject, kind: Kind, *, rate_hz: float) -> None:
    added = cases.added_ms(subject, bench.direct, kind, rate_hz=rate_hz, effort=bench.effort)
    what = "to a stream's first byte" if kind.streamed else "to a whole answer"
    title = f"added {what} at {rate_hz:.0f} a second"
    bench.figures[f"{title}: {subject.name}"] = asdict(added)
    print(
        f"{title}: {subject.name}: p50 {added.p50:.2f} ms, p99 {added.p99:.2f} ms"
        f" (sender late by {added.lateness_p99:.2f} ms at p99, {added.n_failed} failed)"
    )


def measure_blocking(bench: Bench) -> None:
    """Small questions beside slow, huge and streamed ones."""
    for title, company in cases.COMPANY.items():
        p50, p99 = cases.blocked_ms(bench.ours, company, bench.effort)
        bench.figures[f"small questions, company: {title}"] = {"p50": p50, "p99": p99}
        print(f"200 small questions a second, company: {title}: p50 {p50:.2f} ms, p99 {p99:.2f} ms")


def measure_frontier(bench: Bench) -> None:
    """Highest rate under each bound of the 99th percentile."""
    for subject in bench.proxies:
        rates = _RATES if subject is bench.ours else _SLOW_RATES
        p99, reached = cases.frontier(subject, rates, bench.effort)
        bench.figures[f"frontier: {subject.name}"] = {"p99_ms": p99, "reached": reached}
        told = ", ".join(f"<= {bound:.0f} ms: {rate:.0f}/s" for bound, rate in reached.items())
        print(f"highest rate with p99 {told}: {subject.name}")


def measure_memory(bench: Bench) -> None:
    """Memory of gateway and learner, empty and with a hundred thousand accounts."""
    with ProcessGroup() as processes:
        found = {}
        for name, n_accounts in (("empty", 1), ("full", 100_000)):
            plan = GatewayPlan(bench.upstream, bench.folder / name, bench.cpus, n_accounts)
            found[name] = memory.measure(processes, plan, each=2, name=name)
            bench.figures[f"memory: {name}"] = asdict(found[name])
        empty, full = found["empty"], found["full"]
        print(
            f"memory, 100,000 accounts: gateway {full.gateway_mb:.0f} MB"
            f" (+{full.gateway_mb - empty.gateway_mb:.0f}), learner {full.learner_mb:.0f} MB"
            f" (+{full.learner_mb - empty.learner_mb:.0f}); learning 200,000 exchanges took"
            f" {full.learn_cpu_s - empty.learn_cpu_s:.0f} s CPU, {full.n_campaigns} campaigns"
        )
    for subject in bench.proxies:
        assert subject.pid is not None
        bench.figures[f"memory after load: {subject.name}"] = rss_mb(subject.pid)
        print(f"memory after the load above: {subject.name}: {rss_mb(subject.pid):.0f} MB")


CASES = {
    "cpu": measure_cpu,
    "added": measure_added,
    "blocking": measure_blocking,
    "frontier": measure_frontier,
    "memory": measure_memory,
}


@contextlib.contextmanager
def _bench(given: argparse.Namespace, folder: Path) -> Iterator[Bench]:
    cores = sorted(os.sched_getaffinity(0))
    measured, others = frozenset({cores[0]}), frozenset({cores[-1]})
    effort = Effort(1000, 3, 2.0) if given.quick else Effort()
    python = make_environment(given.make_env) if given.make_env else given.litellm
    os.sched_setaffinity(0, others)
    with ProcessGroup() as processes, contextlib.ExitStack() as stack:
        upstream = processes.start("model server", run_mock, MockConfig(others))
        ours = start_gateway(processes, GatewayPlan(upstream, folder / "ours", measured))
        theirs = None
        if python is None:
            print("LiteLLM is left out: give --litellm PYTHON or --make-env FOLDER")
        else:
            beside = litellm(python, folder / "theirs", upstream=upstream, cpus=measured)
            theirs = stack.enter_context(beside)
        direct = Subject("direct", Target(upstream, "none"), None)
        yield Bench(ours, direct, theirs, effort, folder, upstream, measured)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/guard_bench.py")
    parser.add_argument("--litellm", type=Path, help="interpreter of an environment with LiteLLM")
    parser.add_argument("--make-env", type=Path, help="make that environment here, once")
    parser.add_argument("--only", default=",".join(CASES), help=f"some of {', '.join(CASES)}")
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--out", type=Path, help="write all figures as JSON")
    return parser.parse_args()


def _machine() -> dict[str, Any]:
    return {"cores": os.cpu_count(), "load": os.getloadavg(), "python": platform.python_version()}


def main() -> None:
    """Run the cases and print the figures."""
    given = _arguments()
    before = _machine()
    print(f"{before['cores']} cores, load {before['load'][0]:.1f} at the beginning")
    with tempfile.TemporaryDirectory() as folder, _bench(given, Path(folder)) as bench:
        for name in given.only.split(","):
            CASES[name](bench)
        bench.figures["machine"] = {"before": before, "after": _machine()}
    print(f"load {os.getloadavg()[0]:.1f} at the end")
    if given.out is not None:
        given.out.write_text(json.dumps(bench.figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
