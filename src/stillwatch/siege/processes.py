"""Child processes that never outlive the one that started them.

A child tells readiness over a pipe (with its port), and dies with its parent, however that ends:
a thread of the child waits on the parent's sentinel pipe, which the kernel closes even after
`kill -9`, and then ends the child's whole process group, grandchildren included. Linux's own
parent-death signal is not used: it ends the child before the child can end its group, and it also
strikes when merely the thread ends that started the child.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Self

from stillwatch.errors import EnvironmentUnfitError, StillwatchError

#: How an entry tells that it serves: called once, with the port.
OnReady = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class _Child:
    name: str
    process: SpawnProcess
    pipe: Connection


class ProcessGroup:
    """Starts processes, waits until each is ready, and stops them all; a context manager.

    Args:
        grace_s: seconds that a child gets between the request to end and its end by force.

    Example:
        with ProcessGroup() as processes:
            port = processes.start("model server", run_model_server, config)
    """

    def __init__(self, *, grace_s: float = 5.0) -> None:
        self._grace_s = grace_s
        self._context = multiprocessing.get_context("spawn")
        self._children: list[_Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of the children by name; ended ones too, until `stop`."""
        return {child.name: child.process.pid or 0 for child in self._children}

    def start(
        self,
        name: str,
        entry: Callable[[Any, OnReady], None],
        config: object,
        *,
        timeout_s: float = 60.0,
    ) -> int:
        """Start one child and wait until it says that it serves.

        Args:
            name: what errors call it.
            entry: a module-level function; it gets `config` and a callable to tell its port with,
                and serves until it is told to end (SIGTERM).
            config: what the entry gets; must pickle.
            timeout_s: how long readiness may take (s).

        Returns:
            The port that the child told.

        Raises:
            StillwatchError: whatever error of this tree the child failed with.
            EnvironmentUnfitError: the child ended, or said nothing within `timeout_s`.
        """
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=_run_child,
            args=(entry, config),
            kwargs={"pipe": theirs},
            name=name,
        )
        # Without `with`, an error in the main thread would leave the interpreter waiting for us.
        atexit.register(self.stop)
        process.start()
        theirs.close()
        child = _Child(name, process, ours)
        self._children.append(child)
        try:
            return _await_ready(child, timeout_s)
        except BaseException:
            self._end([child])
            raise

    def check(self) -> None:
        """Make sure that every child still runs.

        Raises:
            EnvironmentUnfitError: one has ended; the message names it and its exit code.
        """
        for child in self._children:
            if not child.process.is_alive():
                raise EnvironmentUnfitError(_ended(child))

    def stop(self) -> None:
        """End every child, last started first; safe to call again."""
        self._end(list(reversed(self._children)))
        atexit.unregister(self.stop)

    def _end(self, children: list[_Child]) -> None:
        for child in children:
            if child.process.is_alive():
                child.process.terminate()
        deadline = time.monotonic() + self._grace_s
        for child in children:
            child.process.join(max(0.0, deadline - time.monotonic()))
            # Also after a tidy end: a grandchild may have been left in the group.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.process.pid or 0, signal.SIGKILL)
            child.process.kill()
            child.process.join()
            child.pipe.close()
            self._children.remove(child)


def _await_ready(child: _Child, timeout_s: float) -> int:
    ready = wait([child.pipe, child.process.sentinel], timeout_s)
    if not ready:
        message = f"process '{child.name}' was not ready after {timeout_s:g} s"
        raise EnvironmentUnfitError(message)
    try:
        told = child.pipe.recv() if child.pipe.poll(1.0) else None
    except EOFError:
        told = None
    if isinstance(told, int):
        return told
    if isinstance(told, StillwatchError):
        raise told
    child.process.join(1.0)
    raise EnvironmentUnfitError(_ended(child) + (f": {told}" if told else ""))


def _ended(child: _Child) -> str:
    return f"process '{child.name}' ended unasked (exit code {child.process.exitcode})"


def _run_child(entry: Callable[[Any, OnReady], None], config: object, *, pipe: Connection) -> None:
    with contextlib.suppress(PermissionError):
        os.setpgid(0, 0)  # Ctrl-C reaches the parent alone, which then stops us in order
    follow_parent()

    def tell_port(port: int) -> None:
        pipe.send(port)

    try:
        entry(config, tell_port)
    except StillwatchError as error:
        _tell(pipe, error)
        sys.exit(error.exit_code)
    except Exception as error:
        _tell(pipe, f"{type(error).__name__}: {error}")
        raise


def _tell(pipe: Connection, what: object) -> None:
    # After readiness nobody listens any more; the exit code then speaks.
    with contextlib.suppress(OSError):
        pipe.send(what)


def follow_parent() -> None:
    """Make this process, and its process group if it leads one, end when its parent does.

    Call it in a process that `multiprocessing` started; elsewhere it does nothing.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    watcher = threading.Thread(
        target=_end_with, args=(parent.sentinel,), name="follow-parent", daemon=True
    )
    watcher.start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
