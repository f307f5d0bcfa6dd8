"""Run a stranger's Python in a child that can do little, and say how little.

docs/checks.md lists what it protects from and what it does not. In short: time, memory, size of
files, number of processes, the network, other people's files and the environment are closed where
the kernel lets us; the kernel itself, and the verdict against code that looks for the harness, are
not.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from stillwatch.errors import EnvironmentUnfitError

_CHILD = Path(__file__).with_name("sandbox_child.py")
#: The watcher's own grace past the wall time before it is killed from outside.
_GRACE_S = 5.0
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the code may use.

    Attributes:
        wall_s: seconds by the clock.
        cpu_s: seconds of CPU, each process by itself.
        memory_mb: address space of each process (MiB).
        file_mb: largest file that it may write (MiB).
        processes: processes and threads at once (count).
        output_kb: output that is read back (KiB); more is cut.
    """

    wall_s: float = 10.0
    cpu_s: int = 5
    memory_mb: int = 512
    file_mb: int = 8
    processes: int = 16
    output_kb: int = 256


class Outcome(NamedTuple):
    """How the code ended.

    Attributes:
        passed: every source ran to its end.
        ran: the code was run at all; False when the child itself could not be set up.
        reason: why not: timed out, killed, the name of an exception, exited; "" when it passed.
        output: what it wrote to its standard output, as far as `output_kb`.
        no_network: it could not reach any network.
        no_files: it saw only the interpreter and its own folder.
    """

    passed: bool
    ran: bool
    reason: str
    output: bytes
    no_network: bool
    no_files: bool


def run_python(
    sources: Sequence[tuple[str, str]],
    *,
    limits: Limits,
    stdin: bytes = b"",
    packages: bool = False,
    must_confine: bool = True,
) -> Outcome:
    """Run sources one after another in one namespace, in a confined child.

    Args:
        sources: (name, Python source), in order.
        limits: what they may use.
        stdin: what the code reads as its standard input.
        packages: let it import what is installed beside the package, not the standard library only.
        must_confine: refuse to run where network or files cannot be closed.

    Returns:
        How it ended.

    Raises:
        EnvironmentUnfitError: `must_confine` and this machine cannot.
    """
    if must_confine and not can_confine():
        message = "check code: this machine cannot close network and files to a child process"
        hint = "needs Linux 5.13 with Landlock and user namespaces; or set `confine = false`"
        raise EnvironmentUnfitError(message, hint=hint)
    return _run(sources, limits=limits, stdin=stdin, packages=packages, must_confine=must_confine)


@cache
def can_confine() -> bool:
    """Say whether this machine can close network and files to a child; tried once.

    Returns:
        True when a trial child ran with both closed.
    """
    if sys.platform != "linux":
        return False
    trial = [("trial.py", "import decimal, socket, threading")]
    outcome = _run(trial, limits=Limits(), stdin=b"", packages=False, must_confine=False)
    return outcome.passed and outcome.no_network and outcome.no_files


def _run(
    sources: Sequence[tuple[str, str]],
    *,
    limits: Limits,
    stdin: bytes,
    packages: bool,
    must_confine: bool,
) -> Outcome:
    nonce = secrets.token_hex(16)
    report_in, report_out = os.pipe()
    verdict_in, verdict_out = os.pipe()
    try:
        with tempfile.TemporaryDirectory(prefix="stillwatch-") as name:
            # Its owner may be another user by then; the folder above stays ours.
            Path(name).chmod(0o711)
            folder = Path(name, "work")
            folder.mkdir(mode=0o700)
            config = {
                "folder": str(folder),
                "readable": _readable(packages=packages),
                "limits": msgspec.to_builtins(limits),
                "processes": limits.processes,
                "wall_s": limits.wall_s,
                "report_fd": report_out,
                "verdict_fd": verdict_out,
                "nonce": nonce,
                "sources": list(sources),
                "must_confine": must_confine,
            }
            output = _watch(config, packages=packages, stdin=stdin)
        report, verdict = _drain(report_in), _drain(verdict_in)
    finally:
        for fd in (report_in, report_out, verdict_in, verdict_out):
            os.close(fd)
    return _outcome(report, verdict, nonce=nonce, output=output)


def _watch(config: dict[str, Any], *, packages: bool, stdin: bytes) -> bytes:
    """Start the watcher, wait for its end, and give what the code wrote."""
    flags = ["-I", "-B"] if packages else ["-I", "-S", "-B"]
    home = {"HOME": config["folder"], "TMPDIR": config["folder"]}
    with (
        # Files without a name: nobody finds them, and nobody has to delete them.
        tempfile.TemporaryFile() as settings,
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as written,
    ):
        settings.write(msgspec.json.encode(config))
        settings.seek(0)
        given.write(stdin)
        given.seek(0)
        watcher = subprocess.Popen(
            [sys.executable, *flags, str(_CHILD), str(settings.fileno())],
            stdin=given,
            stdout=written,
            stderr=subprocess.DEVNULL,
            env=_ENVIRONMENT | home,
            pass_fds=(settings.fileno(), config["report_fd"], config["verdict_fd"]),
            start_new_session=True,
        )
        try:
            watcher.wait(config["wall_s"] + _GRACE_S)
        finally:
            # Its group too: what is left when the watcher itself did not come to an end.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(watcher.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                watcher.wait(_GRACE_S)
        written.seek(0)
        return written.read(config["limits"]["output_kb"] << 10)


def _readable(*, packages: bool) -> list[str]:
    """List what the code may read: the interpreter and its libraries."""
    paths = {
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("platstdlib"),
        sys.base_prefix + "/lib",
    }
    paths |= {"/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/localtime"}
    if packages:
        paths |= {sys.prefix, *(path for path in sys.path if path)}
    return sorted(path for path in paths if path)


def _drain(pipe: int) -> bytes:
    os.set_blocking(pipe, False)
    try:
        return os.read(pipe, 4096)
    except BlockingIOError:
        return b""


def _outcome(report: bytes, verdict: bytes, *, nonce: str, output: bytes) -> Outcome:
    told: dict[str, Any] = msgspec.json.decode(report) if report else {}
    no_files = verdict.startswith(b"1")
    no_network = bool(told.get("apart"))
    said = verdict[1:].decode("ascii", "replace")
    status = told.get("exit", -1)
    if said == nonce and status == 0:
        reason = ""
    elif not verdict:
        reason = "could not be started"
    elif told.get("timed_out") or not told:
        reason = "ran out of time"
    elif status > 128:
        reason = f"killed by signal {status - 128}"
    elif said and said != nonce:
        reason = f"raised {said}" if said.isidentifier() else "failed"
    else:
        reason = "ended before its tests"
    return Outcome(reason == "", bool(verdict), reason, output, no_network, no_files)
