"""Where the parts of a log went that did not become exchanges one by one.

A part is what could be an exchange of its own: a line, a row, one span of an export, one call of an
archive, one event of a stream. Counted so, nothing can be lost between reading and writing:
records + split = exchanges + quarantined + repeated + not asked + joined.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from stillwatch.errors import InvalidInputError
from stillwatch.logs.unit import Fault
from stillwatch.record.exchange import Exchange

#: Where a record stood, as `Origin`: file and line.
_Place = tuple[str, int]


class Tallied(NamedTuple):
    """What a tally had since it was last taken; see `Tally`."""

    skipped: Counter[str]
    joined: int
    split: int
    faults: list[Fault]


class Tally:
    """The base of conversions; those that read one exchange a record leave it as it is.

    Attributes:
        skipped: parts that ask no model, by what they are (counts).
        joined: parts that went into an exchange with another part, or that only say something about
            other records (count).
        split: parts beyond the first of records that hold many (count).
        faults: parts that could not be read, each at its own place, while others could.
        is_apart: whether no record so far needed another, or what another had said.
        keys: what parts so far are joined by, kept when it is a set to begin with.
        weight: bytes that they weigh.
        window: parts and bytes of parts that wait at most before they go on alone; None where they
            wait longer.
    """

    window: tuple[int, int] | None = None

    def __init__(self) -> None:
        self.skipped: Counter[str] = Counter()
        self.joined = 0
        self.split = 0
        self.faults: list[Fault] = []
        self.is_apart = True
        self.keys: set[str] | None = None
        self.weight = 0

    def take(self) -> Tallied:
        """Take what has been tallied since the last call.

        Returns:
            It; the tally begins anew.
        """
        taken = Tallied(self.skipped, self.joined, self.split, self.faults)
        self.skipped, self.joined, self.split, self.faults = Counter(), 0, 0, []
        return taken

    def built(self, build: Callable[[], Exchange], origin: _Place) -> Iterator[Exchange]:
        """Build an exchange of parts that waited; one that cannot be built costs no other.

        Args:
            build: gives the exchange.
            origin: where its first part stood.

        Yields:
            The exchange, or nothing and a fault is kept.
        """
        try:
            found = build()
        except Exception as error:
            self.faults.append(fault_of(error, origin))
        else:
            yield found

    def each(
        self, parts: Sequence[Any], origin: _Place, *, read: Callable[[Any], Iterable[Exchange]]
    ) -> Iterator[Exchange]:
        """Read the parts of one record; one of many that cannot be read costs no other.

        Args:
            parts: any number.
            origin: where the record stood.
            read: reads a part.

        Yields:
            Exchanges.

        Raises:
            InvalidInputError: the only part cannot be read.
        """
        if not parts:
            self.skipped["record that holds none"] += 1
        self.split += max(0, len(parts) - 1)
        if len(parts) == 1:
            yield from read(parts[0])
            return
        for part in parts:
            try:
                yield from read(part)
            except Exception as error:
                self.faults.append(fault_of(error, origin))


def fault_of(error: Exception, origin: _Place) -> Fault:
    """Say why a record could not be read, without its content.

    Args:
        error: what a reader raised.
        origin: where the record stood.

    Returns:
        The fault.
    """
    file, line = origin
    if isinstance(error, InvalidInputError):
        return Fault(file, line, str(error).removeprefix(f"{file}:{line}: "))
    # A shape that the reader did not foresee costs one record, never the file.
    return Fault(file, line, f"the reader failed on it ({type(error).__name__})")
