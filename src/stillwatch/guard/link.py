"""The gateway's end of the pipe to the learner. A dead learner stops nobody but itself."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Final, Literal

import msgspec

from stillwatch.errors import EnvironmentUnfitError, StillwatchError
from stillwatch.guard.config import GuardConfig
from stillwatch.guard.learned import Learned

LearnerState = Literal["off", "alive", "dead"]
_GRACE_S: Final = 2.0


class LearnerLink:
    """Starts the learner, asks it to learn, and notices when it is gone.

    Args:
        config: the gateway's.
    """

    def __init__(self, config: GuardConfig) -> None:
        self._config = config
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._turn = asyncio.Lock()

    @property
    def state(self) -> LearnerState:
        """The learner is off (not wanted), alive or dead."""
        if not self._config.learner.enabled:
            return "off"
        alive = self._process is not None and self._process.is_alive()
        return "alive" if alive else "dead"

    @property
    def pid(self) -> int | None:
        """The learner's process id, or None when it never ran."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start a learner; it reads the journal from the beginning when first asked."""
        if not self._config.learner.enabled:
            return
        # Loads the detector, which this process itself has no use for.
        from stillwatch.guard.learner import learner_main

        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=learner_main, args=(theirs, self._config), name="learner", daemon=True
        )
        self._process.start()
        # With our copy closed, the pipe ends when the learner does.
        theirs.close()

    async def learn(self, until: float) -> Learned:
        """Have the learner learn; a dead one is replaced first.

        Args:
            until: UTC epoch seconds up to which to learn.

        Returns:
            What was found.

        Raises:
            EnvironmentUnfitError: no learner is wanted, or it died while it learned.
            StillwatchError: whatever the learner failed with.
        """
        if not self._config.learner.enabled:
            message = "guard: learner.enabled must be true to learn, got False"
            raise EnvironmentUnfitError(message)
        async with self._turn:
            if self.state == "dead":
                self._drop()
                await asyncio.to_thread(self.start)
            answer = await asyncio.to_thread(self._ask, until)
        if isinstance(answer, StillwatchError):
            raise answer
        return msgspec.msgpack.decode(answer, type=Learned)

    def stop(self) -> None:
        """End the learner; a learning under way is given up."""
        self._drop()

    def _ask(self, until: float) -> bytes | StillwatchError:
        assert self._pipe is not None, "started before it is asked"
        try:
            self._pipe.send(until)
            answer: bytes | StillwatchError = self._pipe.recv()
        except (EOFError, OSError) as error:
            message = "guard: the learner ended while it learned; verdicts stay as they were"
            raise EnvironmentUnfitError(message, hint="see its last words on stderr") from error
        return answer

    def _drop(self) -> None:
        process, pipe = self._process, self._pipe
        if process is not None:
            if pipe is not None and not self._turn.locked():
                # Its end is the order to stop; a busy learner is not waited for.
                with contextlib.suppress(OSError):
                    pipe.close()
                process.join(_GRACE_S)
            process.terminate()
            process.join(_GRACE_S)
            process.kill()
            process.join()
        self._process = self._pipe = None
