"""An Arrow table in a file of its own that appears whole, with the checksum of its bytes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import xxhash

from stillwatch.detect.profiles.tables import BATCH_ROWS
from stillwatch.errors import RecordError
from stillwatch.record.disk import sync_folder

_READ_AT_ONCE = 2**22  # bytes


class FileHead(msgspec.Struct, frozen=True):
    """A file that was written.

    Attributes:
        name: within its folder.
        size: bytes.
        xxh3: hex digits of the 128-bit checksum of its bytes.
    """

    name: str
    size: int
    xxh3: str


def write_table(folder: Path, kind: str, table: pa.Table) -> FileHead:
    """Write a table under a name that follows from its bytes.

    Args:
        folder: an existing folder.
        kind: how the name begins.
        table: all of it.

    Returns:
        The file, which is durable now.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    hidden = folder / f".{kind}.part"
    with hidden.open("wb") as file:
        summed = _Summed(file)
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with (
            pa.PythonFile(summed, mode="w") as sink,
            pa.ipc.new_file(sink, table.schema, options=options) as writer,
        ):
            writer.write_table(table, max_chunksize=BATCH_ROWS)
        file.flush()
        os.fsync(file.fileno())
    digits = summed.sum.hexdigest()
    name = f"{kind}-{digits[:16]}.arrow"
    hidden.replace(folder / name)
    sync_folder(folder)
    return FileHead(name, summed.size, digits)


def read_table(folder: Path, head: FileHead) -> pa.Table:
    """Read a table, and compare the checksum first.

    Args:
        folder: where it was written.
        head: the file.

    Returns:
        The table, which borrows the file's memory.

    Raises:
        RecordError: the bytes are others than were written.
    """
    path, found = folder / head.name, xxhash.xxh3_128()
    with path.open("rb") as file:
        while piece := file.read(_READ_AT_ONCE):
            found.update(piece)
    if found.hexdigest() != head.xxh3:
        message = f"{path}: must fit its checksum, and does not"
        raise RecordError(message, hint="take it from a backup, or fold the logs again")
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
        return reader.read_all()


class _Summed:
    """A file that sums what is written to it."""

    closed = False

    def __init__(self, file: Any) -> None:
        self._file, self.sum, self.size = file, xxhash.xxh3_128(), 0

    def write(self, data: Any) -> int:
        """Write and count.

        Args:
            data: bytes.

        Returns:
            How many there were.
        """
        self.sum.update(data)
        self.size += len(data)
        self._file.write(data)
        return len(data)

    def flush(self) -> None:
        """Leave it to the file's owner."""

    def close(self) -> None:
        """Leave it to the file's owner."""
