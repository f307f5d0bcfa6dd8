"""What a reader of a log format is: recognise a record, turn records into exchanges.

A reader sees decoded records one at a time, in the log's order, and nothing of files, compression
or counting. Formats whose parts lie apart (a batch's requests and results, a stream's pieces) keep
what waits in their `Conversion` and give it back when its other half comes, or at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from stillwatch.logs.tally import Tallied
from stillwatch.record.exchange import Exchange
from stillwatch.record.privacy import KeyedHash

#: What becomes of the texts of questions and answers at reading time.
Bodies = Literal["keep", "hash", "drop"]


class Origin(NamedTuple):
    """Where a record stood.

    Attributes:
        file: the file's name as the user gave it, "-" for standard input.
        line: its line or row, from 1.
    """

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class ReadOptions:
    """How records are read.

    Attributes:
        keyed_hash: hashes keys, addresses and e-mails on the way; what is hashed is not kept.
        bodies: keep texts, keep only their hashes, or drop them.
        timezone_offset_s: added to times that name no zone (seconds east of UTC, subtracted).
    """

    keyed_hash: KeyedHash
    bodies: Bodies = "keep"
    timezone_offset_s: float = 0.0


class Conversion(Protocol):
    """One log being read; `stillwatch.logs.tally.Tally` is the base that keeps the counts.

    Attributes:
        skipped: parts of records that ask no model, by what they are (counts); empty in formats
            that hold nothing else.
    """

    skipped: Counter[str]

    def take(self) -> Tallied:
        """Take what has been tallied since the last call: what became of parts that gave nothing.

        Returns:
            It; the tally begins anew.
        """
        ...

    def convert(self, record: Any, origin: Origin) -> Iterable[Exchange]:
        """Turn one record into the exchanges that it completes, mostly one.

        Args:
            record: the decoded record.
            origin: where it stood, for `Exchange.origin` and errors.

        Returns:
            Exchanges, none when the record waits for its other half.

        Raises:
            InvalidInputError: the record is not one of the format; it is quarantined and counted.
        """
        ...

    def finish(self) -> Iterable[Exchange]:
        """Give back what still waits: exchanges of which one half never came.

        What waits is taken out before it is read, so that a call after one that raised goes on
        behind what failed.

        Returns:
            Exchanges, marked by `Exchange.error` or a tag for the half that is missing.
        """
        ...


class Reader(Protocol):
    """A log format.

    Attributes:
        name: as `--format` takes it.
        title: as people call it.
        shape: json (lines, or one array, or one object that wraps an array), text (lines), or rows
            (CSV and Parquet as well as JSON lines).
    """

    name: str
    title: str
    shape: Literal["json", "text", "rows"]

    def recognise(self, record: Any) -> str | None:
        """Say on what ground a record is of this format.

        Args:
            record: a decoded record (a mapping; a text line for `text` formats).

        Returns:
            The ground, to follow "because it ", or None.
        """
        ...

    def decode(self, line: bytes) -> Any:
        """Decode a line of a `text` format, or of one listed in `registry.TYPED`.

        Other formats are decoded for them, and so are lines that this refuses.

        Args:
            line: without its newline.

        Returns:
            A record for `Conversion.convert`.
        """
        ...

    def begin(self, options: ReadOptions) -> Conversion:
        """Begin to read a log, of one or many files.

        Args:
            options: how.

        Returns:
            The conversion.
        """
        ...


Record = Mapping[str, Any]


class JsonReader:
    """What readers of plain JSON records have in common; they add name, shape and `recognise`.

    Args:
        conversion: begins to read a log.
    """

    def __init__(self, conversion: Callable[[ReadOptions], Conversion]) -> None:
        self._conversion = conversion

    def decode(self, line: bytes) -> Any:
        """Decode one line of JSON.

        Args:
            line: without its newline.

        Returns:
            The record.
        """
        return msgspec.json.decode(line)

    def begin(self, options: ReadOptions) -> Conversion:
        """Begin to read a log, of one or many files.

        Args:
            options: how.

        Returns:
            The conversion.
        """
        return self._conversion(options)
