"""Files of questions: which there are, how they are opened, and how their rows are named."""

from __future__ import annotations

import glob
import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn, cast

import pyarrow as pa

from stillwatch.distill.questions.hub import hub_files
from stillwatch.distill.questions.table import Formats
from stillwatch.errors import InvalidInputError
from stillwatch.record.disk import from_os_error

#: What a folder is searched for, and how files of these names are read.
ENDINGS: dict[str, Formats] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "csv",
    ".parquet": "parquet", ".arrow": "arrow", ".txt": "text",
}  # fmt: skip
_PACKED = (".gz", ".zst", ".zstd")


class Record(NamedTuple):
    """A row as it was read.

    Attributes:
        origin: file and line, row, or place in an array, from 1.
        fields: its columns; mostly a mapping, a text or a list where rows are such.
    """

    origin: str
    fields: Any


class Place(NamedTuple):
    """A file to be read.

    Attributes:
        path: where it lies.
        name: as errors and origins call it.
    """

    path: Path
    name: str


def find_files(path: str, base: Path, *, split: str = "") -> list[Place]:
    """Say which files a path means.

    Args:
        path: a file, a folder, a saved data set or a glob pattern.
        base: what it is relative to.
        split: of a data set.

    Returns:
        Files in the order of their names.

    Raises:
        InvalidInputError: nothing there.
    """
    whole = base / path
    if whole.is_dir():
        found = hub_files(whole, split=split) or [
            file
            for file in sorted(whole.rglob("*"))
            if file.is_file() and not _is_hidden(file, whole) and ending_of(file) in ENDINGS
        ]
    elif whole.exists():
        found = [whole]
    else:
        found = [Path(name) for name in sorted(glob.glob(str(whole), recursive=True))]
        found = [file for file in found if file.is_file()]
    if not found:
        message = f"{path}: no file of questions there"
        hint = f"a folder is searched for {', '.join(ENDINGS)}, plain, .gz or .zst"
        raise InvalidInputError(message, hint=hint)
    return [Place(file, _name(file, base)) for file in found]


def value_at(fields: Any, name: str) -> Any:
    """Take a value out of a row.

    Args:
        fields: the row.
        name: the column; dotted for what lies deeper, numbers for places in a list.

    Returns:
        The value, or None when there is none.

    Example:
        >>> value_at({"prompt": {"turns": ["a", "b"]}}, "prompt.turns.1")
        'b'
    """
    if isinstance(fields, dict) and name in fields:
        return fields[name]
    for part in name.split("."):
        if isinstance(fields, dict):
            fields = fields.get(part)
        elif isinstance(fields, list | tuple) and part.isdecimal():
            fields = fields[int(part)] if int(part) < len(fields) else None
        else:
            return None
    return fields


def refuse_row(origin: str, rule: str, *, hint: str | None = None) -> NoReturn:
    """Raise the error about a row; its text is never shown.

    Args:
        origin: file and line.
        rule: what is wrong.
        hint: what to do.

    Raises:
        InvalidInputError: always.
    """
    message = f"{origin}: {rule}"
    raise InvalidInputError(message, hint=hint)


def text_lines(place: Place) -> Iterator[tuple[int, str]]:
    """Read the lines of a text file, packed or not.

    Args:
        place: the file.

    Yields:
        Line number from 1, and the line without its end.

    Raises:
        InvalidInputError: a line is not UTF-8.
        EnvironmentUnfitError: the file cannot be opened.
    """
    with opened(place) as file:
        for number, raw in enumerate(file, start=1):
            try:
                line = raw.decode()
            except UnicodeDecodeError as error:
                rule = f"the line is not UTF-8 (byte {error.start})"
                refuse_row(f"{place.name}:{number}", rule, hint="write the file as UTF-8")
            yield number, line.rstrip("\r\n").removeprefix("\ufeff")


def opened(place: Place) -> BinaryIO:
    """Open a file, packed or not.

    Args:
        place: the file.

    Returns:
        Its bytes, unpacked.

    Raises:
        EnvironmentUnfitError: it cannot be opened.
    """
    try:
        if place.path.suffix == ".gz":
            return cast("BinaryIO", gzip.open(place.path))
        if place.path.suffix in {".zst", ".zstd"}:
            packed = pa.CompressedInputStream(str(place.path), "zstd")
            return cast("BinaryIO", io.BufferedReader(packed))
        return place.path.open("rb")
    except OSError as error:
        raise from_os_error(error, path=place.path, doing="read") from error


def ending_of(path: Path) -> str:
    """Take the ending of a file's name.

    Args:
        path: the file.

    Returns:
        The ending in small letters, that of packing aside.
    """
    name = path.name.lower()
    for packed in _PACKED:
        name = name.removesuffix(packed)
    return Path(name).suffix


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _name(file: Path, base: Path) -> str:
    return str(file.relative_to(base)) if file.is_relative_to(base) else str(file)
