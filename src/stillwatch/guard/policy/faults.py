"""A policy that breaks a rule is refused with file, line and reason: here, and only here."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, NoReturn

from stillwatch.errors import ConfigError
from stillwatch.guard.policy import locate


class Source(NamedTuple):
    """A policy file as it was read, able to say where a key stands.

    Attributes:
        path: the file.
        lines: key path -> line.
    """

    path: Path
    lines: dict[locate.Path, int]

    def refuse(self, where: locate.Path, message: str, *, hint: str | None = None) -> NoReturn:
        """Refuse the file.

        Args:
            where: the key at fault.
            message: what is wrong with it, one sentence.
            hint: what to do.

        Raises:
            ConfigError: always; begins with the file and the line.
        """
        line = locate.line_of(self.lines, where)
        full = f"{self.path}:{line}: {message}"
        raise ConfigError(full, hint=hint)

    def within(self, where: locate.Path) -> Spot:
        """Point at a key.

        Args:
            where: its path.

        Returns:
            The key's place.
        """
        return Spot(self, where)


class Spot(NamedTuple):
    """One place in a policy file.

    Attributes:
        source: the file.
        where: path of the key.
    """

    source: Source
    where: locate.Path

    def at(self, *keys: str | int) -> Spot:
        """Go deeper.

        Args:
            *keys: further keys.

        Returns:
            The place there.
        """
        return Spot(self.source, (*self.where, *keys))

    def refuse(self, message: str, *, hint: str | None = None) -> NoReturn:
        """Refuse the file because of what stands here.

        Args:
            message: one sentence.
            hint: what to do.

        Raises:
            ConfigError: always.
        """
        self.source.refuse(self.where, message, hint=hint)

    @property
    def line(self) -> int:
        """The line that this stands on."""
        return locate.line_of(self.source.lines, self.where)
