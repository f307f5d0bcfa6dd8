"""The sandboxed child: confines itself, runs the code, and reports how it ended.

Started by `sandbox` as `python -I -S -B sandbox_child.py CONFIG`. Three processes: the watcher,
which stays outside and kills on time; the first process of the new process table, with which all
others die; and the one that runs the code.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # Started without site-packages: the neighbour is found by its folder, which must not stay on
    # the path, because our `regex` would then stand before the one that the code may want.
    sys.path.insert(0, str(Path(__file__).parent))
    import confine  # type: ignore[import-not-found]

    del sys.path[0]
else:
    from stillwatch.distill.checks import confine

#: Exit statuses of the process that runs the code.
PASSED, FAILED, UNCONFINED = 0, 1, 97


def main(config: dict[str, Any]) -> None:
    """Run the code that the configuration names and write one report to its descriptor.

    Args:
        config: folder, readable, limits, processes, wall_s, report_fd, verdict_fd, nonce, sources.
    """
    confine.die_with_parent()
    apart, new_user = confine.leave_namespaces()
    uid = confine.own_uid() if os.geteuid() == 0 and not new_user else None
    if uid is not None:
        os.chown(config["folder"], uid, uid)
    # Who has no process table and no user of its own shares the count with its owner's others.
    alone = new_user or uid is not None
    config["processes"] += 0 if alone else confine.threads_of(os.geteuid())
    config["uid"] = uid
    first = os.fork()
    if first == 0:
        _first_process(config)
    timed_out = _wait(first, config)
    with contextlib.suppress(ProcessLookupError):
        os.kill(first, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])
    _kill_orphans()
    report = {"exit": status, "timed_out": timed_out, "apart": apart}
    os.write(config["report_fd"], json.dumps(report).encode())


def _wait(first: int, config: dict[str, Any]) -> bool:
    """Wait for the first process; True when the time was over or nobody waits for us any more."""
    handle = os.pidfd_open(first)
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    poll.register(config["report_fd"], select.POLLERR)
    ended = [fd for fd, _ in poll.poll(int(config["wall_s"] * 1000))]
    os.close(handle)
    return not ended


def _kill_orphans() -> None:
    """Kill what escaped its parent; with a process table of its own nothing is left to kill."""
    listing = Path(f"/proc/self/task/{os.getpid()}/children")
    until = time.monotonic() + 2
    while time.monotonic() < until:
        try:
            orphans = [int(pid) for pid in listing.read_text().split()]
        except OSError:
            return
        if not orphans:
            return
        for pid in orphans:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _first_process(config: dict[str, Any]) -> None:
    confine.die_with_parent()
    os.close(config["report_fd"])
    runner = os.fork()
    if runner == 0:
        os._exit(_run(config))
    while True:
        pid, status = os.wait()
        if pid == runner:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def _run(config: dict[str, Any]) -> int:
    os.chdir(config["folder"])
    if config["uid"] is not None:
        confine.become(config["uid"])
    held = confine.close_files(config["readable"], config["folder"])
    if config["uid"] is not None:
        confine.keep_reading(may_read=held)
    confine.limit(config["limits"], processes=config["processes"])
    note = b"1" if held else b"0"
    os.write(config["verdict_fd"], note)
    if config["must_confine"] and not held:
        return UNCONFINED
    return _execute(config)


def _execute(config: dict[str, Any]) -> int:
    nonce, verdict = config.pop("nonce"), config["verdict_fd"]
    sources = config.pop("sources")
    names: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}
    try:
        for name, source in sources:
            exec(compile(source, name, "exec"), names)  # noqa: S102 - what a sandbox is for
    except BaseException as error:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
        with contextlib.suppress(BaseException):
            os.write(verdict, type(error).__name__[:60].encode("ascii", "replace"))
        return FAILED
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
    os.write(verdict, nonce.encode())
    return PASSED


if __name__ == "__main__":
    with open(int(sys.argv[1]), "rb") as settings:
        given = json.load(settings)
    main(given)
