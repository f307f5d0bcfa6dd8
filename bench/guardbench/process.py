"""What a process and its children use, as the kernel counts it; wall times lie."""

from __future__ import annotations

import os
import time
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def family(pid: int) -> list[int]:
    """List a process and all its descendants.

    Args:
        pid: the process.

    Returns:
        Process ids, the process first.
    """
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            found.extend(int(child) for child in task.read_text().split())
    return found


def cpu_s(pid: int) -> float:
    """Add up the processor time of a process, ended threads included, children excluded.

    Args:
        pid: the process.

    Returns:
        Seconds in user and system mode.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def family_cpu_s(pid: int) -> float:
    """Add up the processor time of a process and its living descendants.

    Args:
        pid: the process.

    Returns:
        Seconds.
    """
    return sum(cpu_s(each) for each in family(pid))


def await_rest(pid: int, *, patience_s: float = 60.0) -> None:
    """Wait until a process and its descendants have started: who still loads its modules is busy.

    Args:
        pid: the process.
        patience_s: longest wait (seconds).
    """
    deadline = time.monotonic() + patience_s
    before = family_cpu_s(pid)
    while time.monotonic() < deadline:
        time.sleep(1.0)
        now = family_cpu_s(pid)
        if now - before < 0.05:
            return
        before = now


def rss_mb(pid: int) -> float:
    """Tell what a process holds in memory.

    Args:
        pid: the process.

    Returns:
        MiB.
    """
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 2**20
