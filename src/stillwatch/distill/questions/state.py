"""A file of JSON lines in which bought work rests: appended, checked, never paid twice."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from stillwatch.distill.money.budget import Ledger
from stillwatch.errors import InvalidInputError, RecordError
from stillwatch.record.disk import from_os_error
from stillwatch.record.exchange import Exchange, canonical_json

_decode = msgspec.json.Decoder().decode


class StateFile:
    """One line of head, which says what the rest was bought with, and lines of results.

    Args:
        path: the file; made by the first append.
        kind: what it holds.
        settings: what its lines depend on; with others they must not be used.

    Raises:
        InvalidInputError: the file was made with other settings, or is another kind of file.
    """

    def __init__(self, path: Path, *, kind: str, settings: Mapping[str, Any]) -> None:
        self.path = path
        written = canonical_json(dict(settings)).encode()
        self._head = {"stillwatch": kind, "settings": hashlib.sha256(written).hexdigest()[:16]}
        self._lines = self._read()

    def lines(self) -> Iterator[dict[str, Any]]:
        """Give back the results.

        Yields:
            Lines in the order of writing.
        """
        yield from self._lines

    def append(self, line: dict[str, Any], *, sync: bool = True) -> None:
        """Add a result; on disk before this returns, unless told otherwise.

        Args:
            line: plain data.
            sync: False leaves it to a later `sync`.

        Raises:
            StillwatchError: the disk refuses.
        """
        is_new = not self.path.exists()
        head = msgspec.json.encode(self._head) + b"\n" if is_new else b""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(head + msgspec.json.encode(line) + b"\n")
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            raise from_os_error(error, path=self.path, doing="write") from error
        self._lines.append(line)

    def sync(self) -> None:
        """Bring what was appended to the disk."""
        with self.path.open("ab") as file:
            os.fsync(file.fileno())

    def charge(self, ledger: Ledger | None) -> None:
        """Charge what earlier processes bought, so that a budget holds across restarts.

        Args:
            ledger: the run's, or None.
        """
        if ledger is None:
            return
        ledger.restore(
            Exchange(
                exchange_id="", account="", started_at=0, input_tokens=n_in, output_tokens=n_out
            )
            for line in self._lines
            for n_in, n_out in zip(line["input_tokens"], line["output_tokens"], strict=True)
        )

    def _read(self) -> list[dict[str, Any]]:
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise from_os_error(error, path=self.path, doing="read") from error
        whole, _, torn = raw.rpartition(b"\n")
        if torn:  # a process died while it wrote: its line was never acknowledged
            os.truncate(self.path, len(raw) - len(torn))
        found: list[dict[str, Any]] = []
        for number, line in enumerate(whole.split(b"\n") if whole else [], start=1):
            try:
                found.append(_decode(line))
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                message = f"{self.path.name}:{number}: the line is damaged"
                raise RecordError(message, hint="remove the file to buy its lines anew") from error
        if not found:
            self.path.unlink()
            return []
        if found[0] != self._head:
            message = f"{self.path.name}: the file was made with other settings or seeds"
            hint = "set another `path` to make new ones, or remove the file to buy them again"
            raise InvalidInputError(message, hint=hint)
        return found[1:]
