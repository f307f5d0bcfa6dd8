"""The run's folder: built beside its final place and moved there whole, or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from stillwatch.errors import EnvironmentUnfitError, InvalidInputError, StillwatchError

MANIFEST = "manifest.json"
#: The manifest's own word for what the folder is; a folder without it is never replaced.
KIND = "stillwatch siege run"
#: A disk with less room than this (bytes) explains whatever failed on it.
_LEAST_FREE = 65_536


@contextmanager
def staged_folder(out: Path) -> Iterator[Path]:
    """Give a folder to fill; it becomes `out` only when the block ends without an error.

    Args:
        out: the final place: absent, an empty folder, or an earlier run's folder (replaced).

    Yields:
        The folder to write into, `<out>.part`, emptied of what a killed run left there.

    Raises:
        InvalidInputError: `out` holds something that is not a run of ours.
        EnvironmentUnfitError: another run is writing there.
    """
    _check_replaceable(out)
    part = out.with_name(out.name + ".part")
    lock = _take(part)
    try:
        yield part
        write_manifest(part)
        _swap(part, out)
    except BaseException as error:
        # Asked before the folder goes, which frees the disk again.
        is_full = shutil.disk_usage(part).free < _LEAST_FREE
        shutil.rmtree(part, ignore_errors=True)
        if is_full and isinstance(error, StillwatchError):
            message = f"the disk of {out} is full"
            raise EnvironmentUnfitError(
                message, hint="free space, or name another --out"
            ) from error
        raise
    finally:
        lock.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write plain data or structs as indented JSON with a final newline.

    Args:
        path: the file; its folder is made.
        value: what to write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(value, order="sorted")) + b"\n")


def read_json(path: Path) -> Any:
    """Read a JSON file of a run.

    Args:
        path: the file.

    Returns:
        Plain data.

    Raises:
        InvalidInputError: the file is missing or is not JSON.
    """
    try:
        return msgspec.json.decode(path.read_bytes())
    except FileNotFoundError:
        message = f"{path.name} is missing from the run's folder"
        raise InvalidInputError(message, hint="run `stillwatch siege` again") from None
    except msgspec.DecodeError as error:
        message = f"{path.name} is not JSON: {error}"
        raise InvalidInputError(message, hint="run `stillwatch siege` again") from None


def write_lines(path: Path, rows: Iterator[object] | list[Any]) -> None:
    """Write one JSON value a line.

    Args:
        path: the file; its folder is made.
        rows: plain data or structs.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        stream.writelines(msgspec.json.encode(row) + b"\n" for row in rows)


def read_lines(path: Path) -> list[Any]:
    """Read one JSON value a line.

    Args:
        path: the file.

    Returns:
        Plain data, in the file's order.
    """
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines() if line]


def write_manifest(folder: Path) -> None:
    """List every file of a run with its SHA-256, so that a change is found.

    Args:
        folder: the run's folder.
    """
    files = {name: digest(folder / name) for name in _names(folder)}
    write_json(folder / MANIFEST, {"kind": KIND, "sha256": files})


def changed_files(folder: Path) -> list[str]:
    """Compare a run's files with its manifest.

    Args:
        folder: the run's folder.

    Returns:
        One line a difference: changed, missing or added; empty when all is as written.

    Raises:
        InvalidInputError: the folder has no manifest of a run.
    """
    manifest = read_json(folder / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
        message = f"{folder.name} is not the folder of a siege run"
        raise InvalidInputError(message, hint="name the folder given to `stillwatch siege --out`")
    listed: dict[str, str] = manifest["sha256"]
    present = set(_names(folder))
    lines = [f"{name}: missing" for name in sorted(listed.keys() - present)]
    lines += [f"{name}: not in the manifest" for name in sorted(present - listed.keys())]
    lines += [
        f"{name}: changed since the run"
        for name in sorted(present & listed.keys())
        if digest(folder / name) != listed[name]
    ]
    return lines


def digest(path: Path) -> str:
    """Hash a file.

    Args:
        path: the file.

    Returns:
        SHA-256 as hex.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _names(folder: Path) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return sorted(str(path.relative_to(folder)) for path in files)


def _check_replaceable(out: Path) -> None:
    if out.exists() and not out.is_dir():
        message = f"--out: {out} is a file; a folder is needed"
        raise InvalidInputError(message)
    if not out.is_dir() or not any(out.iterdir()):
        return
    manifest = out / MANIFEST
    if not manifest.is_file() or KIND.encode() not in manifest.read_bytes():
        message = f"--out: {out} holds files that are not a siege run"
        raise InvalidInputError(message, hint="name another folder; nothing was touched")


def _take(part: Path) -> Path:
    lock = part.with_name(part.name + ".pid")
    if lock.is_file():
        owner = lock.read_text().strip()
        if owner.isdigit() and _is_running(int(owner)):
            message = f"another siege (process {owner}) is writing to {part.name}"
            raise EnvironmentUnfitError(message, hint="wait for it, or name another --out")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    lock.write_text(str(os.getpid()))
    return lock


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _swap(part: Path, out: Path) -> None:
    old = out.with_name(out.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    part.rename(out)
    shutil.rmtree(old, ignore_errors=True)
