"""Opens a log of exchanges in any of the house's own forms: store, journal, or lines of JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import msgspec
import pyarrow as pa

from stillwatch.errors import InvalidInputError
from stillwatch.record.exchange import Exchange, to_batch
from stillwatch.record.segments import read_journal, segment_numbers
from stillwatch.record.store import scan_store

_BATCH_ROWS = 8192


def scan_logs(paths: Iterable[Path]) -> Iterator[pa.RecordBatch]:
    """Read logs one after the other in bounded memory.

    Args:
        paths: a store's folder, a gateway's journal folder, or a `.jsonl` file with one exchange a
            line, by the field names of `Exchange`.

    Yields:
        Batches of the store's schema.

    Raises:
        InvalidInputError: a path is none of these, or a line is not an exchange.
    """
    for path in paths:
        if path.is_file() and path.suffix in {".jsonl", ".ndjson"}:
            yield from _batches(_lines(path))
        elif path.is_dir() and segment_numbers(path):
            yield from _batches(exchange for _, exchange in read_journal(path))
        elif path.is_dir():
            yield from scan_store(path)
        else:
            message = f"{path}: is no store, no journal and no .jsonl file of exchanges"
            raise InvalidInputError(message, hint="docs/record.md says what each of them holds")


def _lines(path: Path) -> Iterator[Exchange]:
    decoder = msgspec.json.Decoder(Exchange)
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                yield decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                message = f"{path}:{number}: the line must be an exchange: {error}"
                hint = "each line is a JSON object with exchange_id, account and started_at"
                raise InvalidInputError(message, hint=hint) from error


def _batches(exchanges: Iterable[Exchange]) -> Iterator[pa.RecordBatch]:
    rows = iter(exchanges)
    while chunk := list(islice(rows, _BATCH_ROWS)):
        yield to_batch(chunk)
