"""The gateway's end of the pipe to the learner. A dead learner stops nobody but itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, Literal

import msgspec

import stillwatch
from stillwatch.errors import EnvironmentUnfitError, StillwatchError
from stillwatch.guard.config import GuardConfig
from stillwatch.guard.learning.learned import Learned

LearnerState = Literal["off", "alive", "dead"]
_GRACE_S: Final = 2.0
_LOOK_S: Final = 0.25
_MAIN: Final = "from stillwatch.guard.learning.learner import main; main()"


class LearnerStuckError(EnvironmentUnfitError):
    """The learner did not answer before its deadline; it was killed and replaced."""


class LearnerLink:
    """Starts the learner, asks it to learn, and notices when it is gone or stuck.

    Args:
        config: the gateway's.

    Attributes:
        last: what the last learning came to, or None before the first.
    """

    def __init__(self, config: GuardConfig) -> None:
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._turn = asyncio.Lock()
        self._is_alive, self._look_again_at = False, 0.0
        self.last: Learned | None = None

    @property
    def state(self) -> LearnerState:
        """The learner is off (not wanted), alive or dead."""
        if not self._config.learner.enabled:
            return "off"
        now = time.monotonic()
        if now >= self._look_again_at:
            # Every question asks; the kernel is asked now and then.
            self._is_alive = self._process is not None and self._process.poll() is None
            self._look_again_at = now + _LOOK_S
        return "alive" if self._is_alive else "dead"

    @property
    def pid(self) -> int | None:
        """The learner's process id, or None when it never ran."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start a learner; it reads what its predecessor kept when it is first asked."""
        if not self._config.learner.enabled:
            return
        ours, theirs = socket.socketpair()
        # A plain interpreter: multiprocessing would run the caller's own main module again, which
        # inside another program loads all of that program.
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _MAIN, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=_environment(),
            )
        self._look_again_at = 0.0
        # With our copy of its end closed, the pipe ends when the learner does.
        self._pipe = Connection(ours.detach())
        with contextlib.suppress(OSError):  # it is gone already, which shows when it is asked
            self._pipe.send(self._config)

    async def learn(self, until: float) -> Learned:
        """Have the learner learn; a dead one is replaced first.

        Args:
            until: UTC epoch seconds up to which to learn.

        Returns:
            What was found.

        Raises:
            LearnerStuckError: it did not answer in time, and was replaced.
            EnvironmentUnfitError: no learner is wanted, or it died while it learned.
            StillwatchError: whatever the learner failed with.
        """
        if not self._config.learner.enabled:
            message = "guard: learner.enabled must be true to learn, got False"
            raise EnvironmentUnfitError(message)
        async with self._turn:
            self._look_again_at = 0.0
            if self.state == "dead":
                await self._replace()
            try:
                answer = await asyncio.to_thread(self._ask, until)
            except LearnerStuckError:
                await self._replace()
                raise
        if isinstance(answer, StillwatchError):
            raise answer
        self.last = msgspec.msgpack.decode(answer, type=Learned)
        return self.last

    def stop(self) -> None:
        """End the learner; a learning under way is given up."""
        self._drop(in_order=not self._turn.locked())

    async def _replace(self) -> None:
        await asyncio.to_thread(self._drop, in_order=False)
        await asyncio.to_thread(self.start)

    def _ask(self, until: float) -> bytes | StillwatchError:
        assert self._pipe is not None, "started before it is asked"
        deadline_s = self._config.learner.deadline_s
        try:
            self._pipe.send(until)
            if not self._pipe.poll(deadline_s):
                message = f"guard: the learner has not answered for {deadline_s:g} s"
                hint = "another was started; raise learner.deadline_s if it is only slow"
                raise LearnerStuckError(message, hint=hint)
            answer: bytes | StillwatchError = self._pipe.recv()
        except (EOFError, OSError) as error:
            message = "guard: the learner ended while it learned; verdicts stay as they were"
            raise EnvironmentUnfitError(message, hint="see its last words on stderr") from error
        return answer

    def _drop(self, *, in_order: bool) -> None:
        process, pipe = self._process, self._pipe
        if process is not None:
            if pipe is not None and in_order:
                # Its end is the order to stop; a busy learner is not waited for.
                with contextlib.suppress(OSError):
                    pipe.close()
                _wait(process)
            if process.poll() is None:
                process.terminate()
                _wait(process)
            if process.poll() is None:
                process.kill()
            process.wait()
        self._process = self._pipe = None
        self._look_again_at = 0.0


def _wait(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_S)


def _environment() -> dict[str, str]:
    """See to it that the learner is of the same installation as the gateway."""
    ours = str(Path(stillwatch.__file__).parents[1])
    before = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": ours if not before else os.pathsep.join((ours, before))}
