"""What the record asks of a disk: names that stay, files that appear whole, errors one can read."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from stillwatch.errors import EnvironmentUnfitError, RecordError, StillwatchError

#: What the machine, not the record, is to blame for.
_UNFIT = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file may not grow further",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission is missing",
    errno.EPERM: "permission is missing",
    errno.ENOTDIR: "a part of the path is a file",
    errno.EEXIST: "a file stands in the way",
}


def replace_file(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write a small file so that it appears whole or not at all, and stays.

    Args:
        path: the file; replaced when it stands.
        content: all of it.
        mode: who may use it, less what the process masks.
    """
    hidden = path.with_name(f".{path.name}")
    hidden.unlink(missing_ok=True)
    try:
        handle = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        hidden.replace(path)
    finally:
        hidden.unlink(missing_ok=True)
    sync_folder(path.parent)


def replace_json(path: Path, document: object, *, mode: int = 0o666) -> None:
    """Write plain data as JSON that people can read; it appears whole or not at all.

    Args:
        path: the file; replaced when it stands.
        document: anything that msgspec encodes, in its own order.
        mode: who may use it, less what the process masks.
    """
    replace_file(path, msgspec.json.format(msgspec.json.encode(document)) + b"\n", mode=mode)


def replace_lines(path: Path, rows: Iterable[object]) -> int:
    """Write rows as JSON lines, as they come; the file appears whole or not at all.

    Args:
        path: the file; replaced when it stands.
        rows: any number of what msgspec encodes, written in the order given.

    Returns:
        Rows written (count).
    """
    encoder = msgspec.json.Encoder()
    part = path.with_name(f".{path.name}.part")
    count = 0
    with part.open("wb") as file:
        for row in rows:
            file.write(encoder.encode(row) + b"\n")
            count += 1
    part.replace(path)
    return count


def sync_folder(folder: Path) -> None:
    """Make new and renamed names in a folder durable.

    Args:
        folder: an existing folder.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def from_os_error(error: OSError, *, path: Path, doing: str) -> StillwatchError:
    """Translate an error of the operating system for all of `record`.

    Args:
        error: what the system said.
        path: the file or folder concerned, unless the error itself names one.
        doing: what was tried, to follow "cannot".

    Returns:
        `EnvironmentUnfitError` when the machine is to blame, else `RecordError`.
    """
    path = Path(os.fsdecode(error.filename)) if error.filename else path
    reason = _UNFIT.get(error.errno or 0)
    if reason is not None:
        message = f"{path}: cannot {doing}: {reason}"
        return EnvironmentUnfitError(message, hint="free space, or choose another folder")
    return RecordError(f"{path}: cannot {doing}: {error.strerror or error}")
