"""Whoever is told how far a run is; the command line shows it, tests ignore it."""

from __future__ import annotations

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
