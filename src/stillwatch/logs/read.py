"""From a block of records to exchanges; whatever cannot be read is given back with its reason."""

from __future__ import annotations

import contextlib
import gc
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from stillwatch.errors import InvalidInputError
from stillwatch.logs.bodies import without_bodies
from stillwatch.logs.columns import batch_of
from stillwatch.logs.reader import Origin, ReadOptions
from stillwatch.logs.readers.registry import SEPARATE, TYPED, Recognition, reader_of, recognise
from stillwatch.logs.source import records_of
from stillwatch.logs.tally import Tally, fault_of
from stillwatch.logs.unit import Block, Fault
from stillwatch.record.exchange import Exchange

_decode = msgspec.json.Decoder().decode
#: Keys under which services wrap the records of a page or a file.
_WRAPPERS = (
    "data", "records", "Records", "requests", "value", "items", "results", "rows", "logs",
    "observations",
)  # fmt: skip
_MOST_BESIDE = 4  # keys of a wrapper: the list, and counts or cursors beside it
_SAMPLE = 64  # records looked at to recognise a format
_LAST_TIME = 253_402_300_800  # the year 10000, where calendars of the store end
#: Where records stand that waited, when the reader does not say which of them failed.
_WAITED = Origin("(records that waited)", 0)
_MOST_FAILURES = 1000  # in a row
_UNTIMELY = "the record must have a start time between 1970 and 9999"


class Converted(NamedTuple):
    """What a block gave.

    Attributes:
        batch: the exchanges, in the store's schema, in order.
        ids: hash of each exchange's id, shape (n,), uint64.
        contents: hash of each exchange's id, account, time, last turn and answer, likewise.
        faults: records that gave none, in order.
        n_records: records seen (count), the faulty ones included, empty lines not.
        not_asked: parts that ask no model, by what they are (counts).
        n_joined: parts that went into an exchange with another part (count).
        n_split: parts beyond the first of records that hold many (count).
        n_broken: of the faults those that are no records but places in a file (count).
    """

    batch: pa.RecordBatch
    ids: NDArray[np.uint64]
    contents: NDArray[np.uint64]
    faults: list[Fault]
    n_records: int
    not_asked: Mapping[str, int] = {}
    n_joined: int = 0
    n_split: int = 0
    n_broken: int = 0


class Converter:
    """Reads the blocks of one format.

    Args:
        format: the format's name.
        options: how records are read.
    """

    def __init__(self, format: str, options: ReadOptions) -> None:  # noqa: A002 - the user's word
        self._reader = reader_of(format)
        self._options = options
        self._conversion = self._reader.begin(options)
        self._keeps_bodies = options.bodies == "keep"
        self._is_typed = self._reader.name in TYPED

    @property
    def tally(self) -> Tally:
        """What the conversion says of itself; for formats of this package."""
        assert isinstance(self._conversion, Tally), "conversions derive from it"
        return self._conversion

    def convert(self, block: Block) -> Converted:
        """Read a block.

        Args:
            block: of a file of this format.

        Returns:
            Its exchanges and faults.
        """
        with _no_collection():
            return self._convert(block)

    def _convert(self, block: Block) -> Converted:
        faults: list[Fault] = []
        exchanges: list[Exchange] = []
        n_records = 0
        for origin, record in self._records(block):
            n_records += 1
            if isinstance(record, Fault):
                faults.append(record)
                continue
            try:
                # One by one: what a record gave before it failed stays.
                for found in self._conversion.convert(record, origin):
                    self._add(found, origin, exchanges=exchanges, faults=faults)
            except Exception as error:
                faults.append(fault_of(error, origin))
        return self._tallied(exchanges, faults, n_records=n_records)

    def finish(self) -> Converted:
        """Take what waited for its other half.

        Returns:
            Its exchanges, and a fault for each that the reader failed on.
        """
        faults: list[Fault] = []
        exchanges: list[Exchange] = []
        is_done = False
        while not is_done:
            try:
                for found in self._conversion.finish():
                    self._add(found, _place(found), exchanges=exchanges, faults=faults)
                is_done = True
            except Exception as error:
                fault = fault_of(error, _WAITED)
                # What failed has been taken out, so the next call goes on behind it; a reader that
                # fails on the same again and again never would.
                is_done = faults[-_MOST_FAILURES:] == [fault] * _MOST_FAILURES
                faults.append(fault)
        return self._tallied(exchanges, faults, n_records=0)

    def _add(
        self, found: Exchange, origin: Origin, *, exchanges: list[Exchange], faults: list[Fault]
    ) -> None:
        if self._keeps_bodies and _is_timely(found):
            exchanges.append(found)
            return
        # Where records wait, what one gives is of an earlier one.
        place = origin if self._reader.name in SEPARATE else _place(found)
        if not _is_timely(found):
            faults.append(Fault(*place, _UNTIMELY))
            return
        try:
            exchanges.append(without_bodies(found, self._options))
        except Exception as error:
            faults.append(fault_of(error, place))

    def _tallied(
        self, exchanges: list[Exchange], faults: list[Fault], *, n_records: int
    ) -> Converted:
        taken = self._conversion.take()
        return converted(exchanges, [*faults, *taken.faults], n_records=n_records)._replace(
            not_asked=taken.skipped, n_joined=taken.joined, n_split=taken.split
        )

    def _records(self, block: Block) -> Iterator[tuple[Origin, Any]]:
        if block.kind != "lines":
            rows = records_of(block.records) if block.kind == "batch" else block.records
            for number, row in enumerate(rows, start=block.first):
                yield Origin(block.file, number), row
            return
        is_text = self._reader.shape == "text"
        for number, line in enumerate(block.records, start=block.first):
            if not line or line.isspace():
                continue
            origin = Origin(block.file, number)
            if is_text:
                yield origin, self._text_record(line, origin)
                continue
            record = self._typed(line) if self._is_typed else None
            if record is None:
                record = decode_line(line, origin)
            if isinstance(record, dict) and len(record) <= _MOST_BESIDE:
                yield from ((origin, inner) for inner in self._unwrapped(record))
            else:
                yield origin, record

    def _text_record(self, line: bytes, origin: Origin) -> Any:
        try:
            return self._reader.decode(line.rstrip(b"\r"))
        except (InvalidInputError, UnicodeDecodeError) as error:
            is_ours = isinstance(error, InvalidInputError)
            return Fault(*origin, str(error) if is_ours else "the line is not UTF-8")

    def _typed(self, line: bytes) -> Any:
        """Decode a line as the reader wants it; None for one to decode the plain way."""
        try:
            return self._reader.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None

    def _unwrapped(self, record: dict[str, Any]) -> list[Any]:
        return [record] if self._reader.recognise(record) is not None else unwrapped(record)


def converted(exchanges: list[Exchange], faults: list[Fault], *, n_records: int) -> Converted:
    """Lay exchanges out in columns.

    Args:
        exchanges: in order.
        faults: found so far; an exchange that no column can hold is added.
        n_records: records seen (count).

    Returns:
        The batch with its keys.
    """
    try:
        batch = batch_of(exchanges)
    except (pa.ArrowException, UnicodeError, OverflowError, TypeError, ValueError):
        sound = []
        for exchange in exchanges:
            if (reason := _unfit(exchange)) is None:
                sound.append(exchange)
            else:
                faults.append(Fault(*_place(exchange), reason))
        exchanges = sound
        batch = batch_of(exchanges)
    ids = np.array(
        [xxhash.xxh3_64_intdigest(e.exchange_id.encode()) for e in exchanges], dtype=np.uint64
    )
    contents = np.array([_content(e) for e in exchanges], dtype=np.uint64)
    return Converted(batch, ids, contents, faults, n_records)


def decode_line(line: bytes, origin: Origin) -> Any:
    """Decode a line of JSON, also one with NaN or half a character pair, which loggers write.

    Args:
        line: without its newline.
        origin: where it stood.

    Returns:
        The value, or a fault.
    """
    try:
        return _decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:
        found = json.loads(line)
        # Half pairs cannot be written as UTF-8; they become question marks.
        clean = json.dumps(found, ensure_ascii=False).encode("utf-8", "replace")
        return json.loads(clean)
    except UnicodeDecodeError as error:
        return Fault(*origin, f"the line is not UTF-8 (byte {error.start})")
    except RecursionError:
        return Fault(*origin, "the line is nested too deep")
    except ValueError as error:
        place = getattr(error, "pos", None)
        return Fault(*origin, f"the line is no JSON (at character {place})")


def unwrapped(record: Mapping[str, Any]) -> list[Any]:
    """Take the records out of a page or file object.

    Args:
        record: an object.

    Returns:
        The elements of its one list of records; the record itself if it has none.
    """
    if len(record) <= _MOST_BESIDE:
        for name in _WRAPPERS:
            inner = record.get(name)
            if isinstance(inner, list) and inner and isinstance(inner[0], dict):
                return inner
    return [record]


def recognise_block(block: Block) -> Recognition | None:
    """Say what format a file is of, by its first block.

    Args:
        block: the first of the file.

    Returns:
        The format and its ground, or None.
    """
    if block.kind == "batch":
        return recognise(records_of(block.records.slice(0, _SAMPLE)))
    if block.kind == "rows":
        return recognise(block.records[:_SAMPLE])
    lines = [line for line in block.records[: 4 * _SAMPLE] if line and not line.isspace()][:_SAMPLE]
    found = [decode_line(line, Origin(block.file, 0)) for line in lines]
    records = [record for record in found if isinstance(record, Mapping)]
    plain = recognise(records, [line.decode("utf-8", "replace") for line in lines])
    if plain is not None:
        return plain
    return recognise([inner for record in records for inner in unwrapped(record)[:_SAMPLE]])


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Decoded JSON has no cycles, and looking for them is a quarter of the time of reading it."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _is_timely(exchange: Exchange) -> bool:
    return 0 < exchange.started_at < _LAST_TIME  # False for NaN


def _place(exchange: Exchange) -> Origin:
    file, _, line = exchange.origin.rpartition(":")
    return Origin(file, int(line)) if line.isdecimal() else Origin(exchange.origin, 0)


def _unfit(exchange: Exchange) -> str | None:
    try:
        batch_of([exchange])
    except (pa.ArrowException, UnicodeError, OverflowError, TypeError, ValueError) as error:
        return f"a value does not fit its column ({type(error).__name__})"
    return None


def _content(exchange: Exchange) -> int:
    said = exchange.messages[-1].content if exchange.messages else ""
    what = f"{exchange.exchange_id}\0{exchange.account}\0{exchange.started_at}\0{said}\0"
    return xxhash.xxh3_64_intdigest((what + exchange.answer).encode())
