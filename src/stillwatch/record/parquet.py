"""One Parquet file of a store: how it is opened, and what it is called before it is whole."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stillwatch.errors import RecordError
from stillwatch.record.disk import sync_folder
from stillwatch.record.exchange import ARROW_SCHEMA

#: Columns hardly any two rows of which are alike: looking for repeats in them costs time and room.
_DIFFERENT = frozenset({
    "exchange_id", "started_at", "first_output_at", "ended_at", "origin",
    "answers.list.element.text",
})  # fmt: skip


def _paths(name: str, kind: pa.DataType) -> list[str]:
    """Name the columns of a field as Parquet does."""
    if pa.types.is_map(kind):
        return [f"{name}.key_value.{part}" for part in ("key", "value")]
    if pa.types.is_list(kind):
        return _paths(f"{name}.list.element", kind.value_type)
    if pa.types.is_struct(kind):
        return [path for field in kind for path in _paths(f"{name}.{field.name}", field.type)]
    return [name]


_REPEATED = [
    path
    for field in ARROW_SCHEMA
    for path in _paths(field.name, field.type)
    if path not in _DIFFERENT
]


@contextlib.contextmanager
def reading(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a file to read from it, and do nothing else meanwhile: every error is taken for its.

    Args:
        path: the file.

    Yields:
        The open file.

    Raises:
        RecordError: it cannot be read.
    """
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        message = f"{path}: file must be readable Parquet, and is not"
        raise RecordError(message, hint="remove it, or write the store again") from error


def hidden_path(path: Path) -> Path:
    """Name a file of a store while it is written.

    Args:
        path: its name when it is whole.

    Returns:
        A name beside it that no reader takes for a file of the store: some tools' `*.parquet` finds
        names that begin with a dot.
    """
    return path.with_name(f".{path.name}.part")


class DayFile(abc.ABC):
    """The file of one day while it is written: hidden, then whole and named, or gone.

    What waits to be written, and in which form, is its subclass's.

    Args:
        folder: the day's; made if absent.
        name: what the file is called.
    """

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(exist_ok=True)
        self.path = folder / f"{name}.parquet"
        self._hidden = hidden_path(self.path)
        self.writer = pq.ParquetWriter(
            self._hidden, ARROW_SCHEMA, compression="zstd", use_dictionary=_REPEATED
        )

    @abc.abstractmethod
    def flush(self) -> int:
        """Write what waits.

        Returns:
            How much it was, in the measure that the subclass counts memory by.
        """

    def finish(self) -> None:
        """Write what waits and make the hidden file durable."""
        self.flush()
        self.writer.close()
        sync_folder(self._hidden)

    def publish(self) -> None:
        """Give the finished file its name."""
        self._hidden.replace(self.path)
        sync_folder(self.path.parent)

    def discard(self) -> None:
        """Drop what was not published; harmless afterwards."""
        with contextlib.suppress(OSError):
            self.writer.close()
        self._hidden.unlink(missing_ok=True)


def publish_files(files: Sequence[DayFile], store: Path, name: str, *, replace: bool) -> None:
    """Finish every file before the first can be seen, then publish them all.

    Args:
        files: one a day, in order.
        store: the store's folder.
        name: what the files are called.
        replace: whether files of that name on other days go.
    """
    for file in files:
        file.finish()
    if replace:
        kept = {file.path for file in files}
        for old in store.glob(f"day=*/{name}.parquet"):
            if old not in kept:
                old.unlink()
    for file in files:
        file.publish()
    sync_folder(store)
