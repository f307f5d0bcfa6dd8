"""Whoever is told how far a run is; the command line shows it, tests ignore it."""

from __future__ import annotations

import time
from typing import Protocol


class Watcher(Protocol):
    """Is told how far the work is."""

    def stage(self, name: str, total: int | None = None) -> None:
        """Hear that a stage begins.

        Args:
            name: of the stage.
            total: its steps, when they are known (count).
        """

    def advance(self, name: str, done: int, note: str = "") -> None:
        """Hear how far a stage is.

        Args:
            name: of the stage.
            done: steps done (count).
            note: a word on them.
        """

    def say(self, line: str) -> None:
        """Hear a line that should stay on the screen.

        Args:
            line: one line.
        """


class Unwatched:
    """Nobody looks."""

    def stage(self, name: str, total: int | None = None) -> None:
        """Do nothing.

        Args:
            name: not looked at.
            total: not looked at.
        """

    def advance(self, name: str, done: int, note: str = "") -> None:
        """Do nothing.

        Args:
            name: not looked at.
            done: not looked at.
            note: not looked at.
        """

    def say(self, line: str) -> None:
        """Do nothing.

        Args:
            line: not looked at.
        """


class Laps:
    """Hands everything on to another watcher and notes how long each stage took.

    Args:
        watcher: whoever looks.
    """

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._begun: list[tuple[str, float]] = []

    def stage(self, name: str, total: int | None = None) -> None:
        """Note that a stage begins and the one before it ends.

        Args:
            name: of the stage.
            total: its steps, when they are known (count).
        """
        self._begun.append((name, time.monotonic()))
        self._watcher.stage(name, total)

    def advance(self, name: str, done: int, note: str = "") -> None:
        """Hand on.

        Args:
            name: of the stage.
            done: steps done (count).
            note: a word on them.
        """
        self._watcher.advance(name, done, note)

    def say(self, line: str) -> None:
        """Hand on.

        Args:
            line: one line.
        """
        self._watcher.say(line)

    def seconds(self) -> dict[str, float]:
        """Tell how long each stage took, the last one until now.

        Returns:
            Stage -> real seconds.
        """
        ends = [at for _, at in self._begun[1:]] + [time.monotonic()]
        return {name: round(end - at, 2) for (name, at), end in zip(self._begun, ends, strict=True)}
