"""Results kept a line a world, so that a run that was cut off goes on where it stopped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec


class Ledger:
    """A file of JSON lines, one a finished world.

    Args:
        path: of the file; made when absent. A last line cut off by a crash is forgotten.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: dict[str, dict[str, Any]] = {}
        if path.exists():
            for line in path.read_bytes().split(b"\n"):
                self._take(line)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._write_all()

    def __contains__(self, key: str) -> bool:
        return key in self._lines

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self._lines[key]

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, key: str, facts: dict[str, Any]) -> None:
        """Keep what a world gave; on disk when this returns.

        Args:
            key: of the world and of all that decides the result.
            facts: plain data.
        """
        self._lines[key] = facts
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode({"key": key, **facts}) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _take(self, line: bytes) -> None:
        try:
            facts = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError:
            return
        self._lines[facts.pop("key")] = facts

    def _write_all(self) -> None:
        part = self._path.with_suffix(".part")
        rows = [msgspec.json.encode({"key": k, **v}) + b"\n" for k, v in self._lines.items()]
        part.write_bytes(b"".join(rows))
        os.replace(part, self._path)
