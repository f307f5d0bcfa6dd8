"""A tape that many tasks write, each exchange once even when tasks are tried again."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from stillwatch.detect.profiles.tape import TapeWriter
from stillwatch.errors import RecordError
from stillwatch.record.disk import from_os_error

_ATTEMPTS = "attempts"
_ENDING = ".tape"


class TapeParts(NamedTuple):
    """The parts of a tape, in a folder that the driver and all workers see under one path.

    Spark may try a task again, or twice at once. So each attempt writes a part of its own, and the
    driver keeps those whose attempts counted.

    Attributes:
        folder: the tape.
    """

    folder: str

    def name(self) -> str:
        """Name the part of the task that is running.

        Returns:
            Partition and attempt.
        """
        from pyspark import TaskContext

        task = TaskContext.get()
        assert task is not None, "only tasks write parts"
        return f"{task.partitionId():06d}-{task.taskAttemptId():08d}"

    @contextlib.contextmanager
    def writer(self) -> Iterator[TapeWriter]:
        """Write the part of the task that is running.

        Yields:
            Its writer, closed afterwards.
        """
        with TapeWriter(Path(self.folder) / _ATTEMPTS, self.name()) as writer:
            yield writer

    def publish(self, names: list[str]) -> None:
        """Keep the parts that count, and drop the others.

        Args:
            names: what the attempts that counted were called.

        Raises:
            RecordError: a part is not there.
            EnvironmentUnfitError: the folder cannot be written.
        """
        folder = Path(self.folder)
        attempts = folder / _ATTEMPTS
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in names:
                (attempts / f"{name}{_ENDING}").replace(folder / f"{name[:6]}{_ENDING}")
            shutil.rmtree(attempts, ignore_errors=True)
        except FileNotFoundError as error:
            message = f"{self.folder}: a part of the tape is missing here"
            hint = "name a folder that the driver and all workers share"
            raise RecordError(message, hint=hint) from error
        except OSError as error:
            raise from_os_error(error, path=folder, doing="keep the tape") from error
