"""One Parquet file of a store: how it is opened, and what it is called before it is whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stillwatch.errors import RecordError


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
