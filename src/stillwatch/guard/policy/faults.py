"""A policy that breaks a rule is refused with file, line and reason: here, and only here."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple, NoReturn

from stillwatch.errors import ConfigError
from stillwatch.guard.policy import locate


class Source(NamedTuple):
    """A policy file as it was read.

    Attributes:
        path: the file.
        lines: key path -> line.
    """

    path: Path
    lines: dict[locate.Path, int]


class Spot(NamedTuple):
    """One place in a policy file.

    Attributes:
        source: the file.
        where: path of the key; () is the file itself.
    """

    source: Source
    where: locate.Path = ()

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
            message: what is wrong with it, one sentence.
            hint: what to do.

        Raises:
            ConfigError: always; begins with the file and the line.
        """
        full = f"{self.source.path}:{self.line}: {message}"
        raise ConfigError(full, hint=hint)

    def only(self, table: Iterable[str], known: Collection[str], *, what: str = "key") -> None:
        """Refuse a table that holds an unknown key.

        Args:
            table: what stands here.
            known: the keys that it may have.
            what: what its keys are called.

        Raises:
            ConfigError: a key is not known.
        """
        for key in table:
            if key not in known:
                self.at(key).refuse(f"unknown {what} '{key}'; known are {', '.join(known)}")

    @property
    def line(self) -> int:
        """The line that this stands on."""
        return locate.line_of(self.source.lines, self.where)


def read_text(path: Path, *, what: str, most: int) -> tuple[bytes, str]:
    """Read a policy's file, or a list's.

    Args:
        path: the file.
        what: policy or list.
        most: longest file read (bytes).

    Returns:
        Its bytes, and the same as text.

    Raises:
        ConfigError: it cannot be read, is longer, or is not UTF-8; then names the line.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(most + 1)
    except OSError as error:
        message = f"{path}: the {what} cannot be read: {error.strerror}"
        raise ConfigError(message) from error
    if len(raw) > most:
        message = f"{path}: the {what} must be at most {most} bytes long"
        raise ConfigError(message)
    try:
        return raw, raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"{path}:{line}: the {what} must be UTF-8"
        raise ConfigError(message) from error
