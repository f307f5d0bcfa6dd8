"""Hashes of files, each read once: what has not changed since is not read again.

A file counts as unchanged while device, inode, size and both times (of its bytes and of its entry)
are the same, and the times were old enough when it was hashed that a later write would have moved
them. Who checks what others may have written asks for a fresh hash.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from stillwatch.errors import RecordError, reject
from stillwatch.record.exchange import canonical_json

T = TypeVar("T")
#: Files of a model folder that decide what it answers, besides its weights.
_MODEL_FILES = (".json", ".jinja", ".model", ".txt")
_WEIGHTS = (".safetensors", ".bin")
#: The coarsest file times in use (FAT): two writes within it may look like one.
_TICK_NS = 2_000_000_000
_MOST = 65_536


class FileCache(Generic[T]):
    """What was worked out of files, by path, while they stay as they were.

    Args:
        work: reads a file.
    """

    def __init__(self, work: Callable[[Path], T]) -> None:
        self._work = work
        self._known: dict[str, tuple[tuple[int, ...], T]] = {}

    def of(self, path: Path, *, fresh: bool = False) -> T:
        """Give what a file comes to.

        Args:
            path: the file; a link stands for what it points to.
            fresh: read it whatever is known.

        Returns:
            What `work` gave for these bytes.

        Raises:
            OSError: it cannot be read.
        """
        name, before = str(path.absolute()), _stamp(path)
        known = self._known.get(name)
        if known is not None and known[0] == before and not fresh:
            return known[1]
        found = self._work(path)
        self._known.pop(name, None)
        if _stamp(path) == before and time.time_ns() - max(before[-2:]) > _TICK_NS:
            self._known[name] = (before, found)
            if len(self._known) > _MOST:
                del self._known[next(iter(self._known))]
        return found


def _stamp(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_HASHES = FileCache(_sha256)


def file_sha256(path: Path, *, fresh: bool = False) -> str:
    """Hash a file.

    Args:
        path: the file.
        fresh: read it whatever is known.

    Returns:
        SHA-256, 64 hex digits.

    Raises:
        OSError: it cannot be read.
    """
    return _HASHES.of(path, fresh=fresh)


def model_digest(folder: Path) -> str:
    """Hash what decides a local model's answers: weights, configuration, tokenizer, template.

    Args:
        folder: a Hugging Face folder.

    Returns:
        SHA-256 over the names and SHA-256 of those files, 64 hex digits.

    Raises:
        InvalidInputError: the folder holds no `config.json`.
    """
    if not (folder / "config.json").is_file():
        reject("[teacher]", "folder", "a folder with a config.json in it", got=str(folder))
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in _MODEL_FILES or path.suffix in _WEIGHTS:
            digest.update(f"{path.name}\0{file_sha256(path)}\n".encode())
    return digest.hexdigest()


def folder_digest(folder: Path) -> str:
    """Hash all files of a folder: names and contents, whatever their dates.

    Args:
        folder: a model folder; what begins with a dot is left out.

    Returns:
        SHA-256, hex.

    Raises:
        RecordError: the folder cannot be read or holds no file.
    """
    files = {}
    try:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if path.is_file() and not any(part.startswith(".") for part in name.parts):
                files[name.as_posix()] = file_sha256(path)
    except OSError as error:
        message = f"{folder}: cannot be read: {error.strerror or error}"
        raise RecordError(message) from error
    if not files:
        message = f"{folder}: there is no model"
        raise RecordError(message, hint="give a model folder")
    return hashlib.sha256(canonical_json(files).encode()).hexdigest()
