"""A bundle's files, as a folder or as one archive in which no byte is free.

The archive is a plain tar (ustar, files only, sorted, no dates, no owners): unpacking it needs no
tool of ours. But of all the tars that hold the same files only one is read here: the headers and
the padding must be exactly the ones that `pack_files` writes. So there is no byte in it that could
be changed unseen, and no name in it that could lead outside.
"""

from __future__ import annotations

import io
import re
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from stillwatch.errors import RecordError, reject

# ustar keeps 100 bytes of a name in one field; no name of ours needs a second.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
_MAX_NAME, _BLOCK, _END = 100, 512, bytes(1024)
_MAX_BYTES = 8**11 - 1  # what ustar's eleven octal digits hold
_PIECE = 1 << 20


class BundleFiles(Protocol):
    """The files of a bundle, wherever they lie."""

    def names(self) -> list[str]:
        """List the files, sorted."""

    def open(self, name: str) -> BinaryIO:
        """Open one of them for reading."""


def check_name(name: str) -> str:
    """Hold a file's name to what every system can keep.

    Args:
        name: relative, with forward slashes.

    Returns:
        The name.

    Raises:
        InvalidInputError: it is too long, leads elsewhere, or has other characters.
    """
    if len(name) > _MAX_NAME or not _NAME.fullmatch(name):
        rule = f"letters, digits, . _ - and /, {_MAX_NAME} at most, no part beginning with a dot"
        reject("bundle", "a file's name", rule, got=name)
    return name


def check_names(names: Iterable[str]) -> list[str]:
    """Hold all names of a bundle to what every system can keep side by side.

    Args:
        names: any order.

    Returns:
        The names, sorted.

    Raises:
        InvalidInputError: a name breaks a rule, two differ in letter case only, or a file's name is
            also a folder's.
    """
    ordered = sorted(check_name(name) for name in names)
    seen: dict[str, str] = {}
    for name in ordered:
        if (other := seen.setdefault(name.casefold(), name)) != name:
            reject("bundle", "a file's name", f"unlike {other} in more than case", got=name)
    for name in ordered:
        for end in [i for i, letter in enumerate(name) if letter == "/"]:
            if name[:end].casefold() in seen:
                reject("bundle", "a file's name", "no folder's name", got=name[:end])
    return ordered


class FolderFiles:
    """A bundle unpacked.

    Args:
        folder: the bundle's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: list[str] | None = None

    def names(self) -> list[str]:
        """List the files, sorted, whatever their names, as they were at the first call.

        Returns:
            Paths relative to the folder.

        Raises:
            RecordError: something in it is neither a file nor a folder.
        """
        if self._names is None:
            self._names = sorted(self._listed())
        return self._names

    def open(self, name: str) -> BinaryIO:
        """Open a file.

        Args:
            name: one of `names`.

        Returns:
            The open file.
        """
        return (self._folder / name).open("rb")

    def _listed(self) -> Iterator[str]:
        for path in self._folder.rglob("*"):
            name = path.relative_to(self._folder).as_posix()
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                message = f"{name}: a bundle holds files only, this is a link or a device"
                raise RecordError(message, hint="copy the bundle anew")
            if path.is_file():
                yield name


class ArchiveFiles:
    """A bundle as one archive.

    Args:
        file: the archive, open for reading; it stays open as long as files are read.
        where: its path, for errors.

    Raises:
        RecordError: it is not byte for byte what `pack_files` writes.
    """

    def __init__(self, file: BinaryIO, where: str) -> None:
        self._file, self._where = file, where
        self._spans = dict(self._scan())

    def names(self) -> list[str]:
        """List the files, sorted.

        Returns:
            Their names.
        """
        return list(self._spans)

    def open(self, name: str) -> BinaryIO:
        """Open a file inside the archive; one at a time.

        Args:
            name: one of `names`.

        Returns:
            The open file.
        """
        return io.BufferedReader(_Span(self._file, self._spans[name]), _PIECE)

    def _scan(self) -> Iterator[tuple[str, tuple[int, int]]]:
        at, last = 0, ""
        while (block := self._read(at, _BLOCK)) != bytes(_BLOCK):
            name, size = self._header(block, last)
            start, at = at + _BLOCK, at + _BLOCK + size
            if self._read(at, -at % _BLOCK).strip(b"\0"):
                self._refuse(f"the padding behind {name} was altered")
            at += -at % _BLOCK
            yield name, (start, size)
            last = name
        if self._read(at, 2 * _BLOCK) != _END or self._file.read(1):
            self._refuse(f"the end, behind {last}, was altered")

    def _header(self, block: bytes, last: str) -> tuple[str, int]:
        try:
            told = tarfile.TarInfo.frombuf(block, "ascii", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError):
            return self._refuse(f"the header behind {last or 'the beginning'} was altered")
        is_ours = _NAME.fullmatch(told.name) is not None and told.name > last
        if not is_ours or header_of(told.name, told.size) != block:
            self._refuse(f"the header of {told.name!r} is not as it was written")
        return told.name, told.size

    def _read(self, at: int, size: int) -> bytes:
        self._file.seek(at)
        block = self._file.read(size)
        if len(block) != size:
            self._refuse("it is cut short")
        return block

    def _refuse(self, detail: str) -> tuple[str, int]:
        hint = "unpack it with tar and verify the folder to see whether the files are sound"
        raise RecordError(f"{Path(self._where).name}: {detail}", hint=hint)  # noqa: EM102


class _Span(io.RawIOBase):
    """A stretch of an open file, read as a file of its own."""

    def __init__(self, file: BinaryIO, span: tuple[int, int]) -> None:
        super().__init__()
        self._file, (self._at, size) = file, span
        self._end = self._at + size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._at)
        piece = self._file.read(min(len(buffer), self._end - self._at))
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


def header_of(name: str, n_bytes: int) -> bytes:
    """Write the one header that a file of this name and size has in an archive.

    Args:
        name: as `check_name` lets it through.
        n_bytes: the file's size.

    Returns:
        512 bytes.
    """
    told = tarfile.TarInfo(name)
    told.size, told.mode = n_bytes, 0o644
    return told.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def pack_files(folder: Path, archive: Path) -> None:
    """Pack a folder into the one archive that its files have.

    Args:
        folder: the bundle's folder.
        archive: where to write; must not stand yet.

    Raises:
        InvalidInputError: a name breaks a rule, or a file is larger than 8 GiB.
        RecordError: the archive stands already, or the folder holds something else than files.
    """
    files = FolderFiles(folder)
    names = check_names(files.names())
    try:
        out = archive.open("xb")
    except FileExistsError as error:
        message = f"{archive}: stands already"
        raise RecordError(message, hint="name another file, or move this one away") from error
    with out:
        for name in names:
            size = (folder / name).stat().st_size
            if size > _MAX_BYTES:
                reject(name, "size", "at most 8 GiB", got=size)
            out.write(header_of(name, size))
            with files.open(name) as file:
                shutil.copyfileobj(file, out, _PIECE)
            out.write(bytes(-size % _BLOCK))
        out.write(_END)


@contextmanager
def open_files(path: Path) -> Iterator[BundleFiles]:
    """Open a bundle, packed or not.

    Args:
        path: a folder or an archive.

    Yields:
        Its files.

    Raises:
        RecordError: there is none, or the archive is not as it was written.
    """
    if path.is_dir():
        yield FolderFiles(path)
        return
    if not path.is_file():
        message = f"{path}: there is no bundle"
        raise RecordError(message, hint="give its folder or its .tar")
    with path.open("rb") as file:
        yield ArchiveFiles(file, str(path))


def unpack_files(files: BundleFiles, folder: Path) -> None:
    """Copy a bundle's files into a folder.

    Args:
        files: from `open_files`; verified before.
        folder: an empty folder.

    Raises:
        InvalidInputError: a name could lead outside.
    """
    for name in check_names(files.names()):
        copy_file(files, name, folder / name)


def copy_file(files: BundleFiles, name: str, target: Path) -> None:
    """Copy one of a bundle's files, making the folders above it.

    Args:
        files: from `open_files`.
        name: one of `files.names()`.
        target: where to; must not stand yet.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.open(name) as source, target.open("xb") as copy:
        shutil.copyfileobj(source, copy, _PIECE)
