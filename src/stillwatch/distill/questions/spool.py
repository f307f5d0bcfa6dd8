"""Items on disk, read one at a time: a pool of a million questions must not lie in memory."""

from __future__ import annotations

import tempfile
import weakref
from array import array
from collections.abc import Iterator, Sequence
from typing import overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from stillwatch.distill.items import Item, item_id_of
from stillwatch.errors import StillwatchError
from stillwatch.record.disk import from_os_error

_AHEAD = 2**20  # bytes read at once when places follow one another


class Spool:
    """A file without a name that holds items; the system removes it with the process."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="stillwatch-questions-")  # noqa: SIM115 - it lives as long as the items do
        self._closing = weakref.finalize(self, self._file.close)
        self._starts = array("Q", [0])
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(Item)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def add(self, items: Sequence[Item]) -> None:
        """Take items.

        Args:
            items: any number.

        Raises:
            StillwatchError: the disk is full.
        """
        lines = [self._encoder.encode(item) for item in items]
        try:
            self._file.seek(0, 2)
            self._file.write(b"".join(lines))
        except OSError as error:
            raise _translated(error) from error
        for line in lines:
            self._starts.append(self._starts[-1] + len(line))

    def item(self, place: int) -> Item:
        """Read one back.

        Args:
            place: in the order of adding, from 0.

        Returns:
            The item.
        """
        start, end = self._starts[place], self._starts[place + 1]
        self._file.seek(start)
        return self._decoder.decode(self._file.read(end - start))

    def __iter__(self) -> Iterator[Item]:
        for place in range(len(self)):
            yield self.item(place)


class SpooledItems(Sequence[Item]):
    """Items of a spool in an order of their own, several samples of each.

    Args:
        spool: the items.
        places: place of each in the spool, shape (n,).
        samples: sample of each, shape (n,).
    """

    def __init__(self, spool: Spool, places: NDArray[np.int64], samples: NDArray[np.int64]) -> None:
        self._spool = spool
        self._places = places
        self._samples = samples

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> SpooledItems: ...
    def __getitem__(self, index: int | slice) -> Item | SpooledItems:
        """Read one, or take a part without reading it."""
        if isinstance(index, slice):
            return SpooledItems(self._spool, self._places[index], self._samples[index])
        item = self._spool.item(int(self._places[index]))
        sample = int(self._samples[index])
        if not sample:
            return item
        item_id = item_id_of(item.messages, item.tools, sample=sample)
        return msgspec.structs.replace(item, sample=sample, item_id=item_id)

    def __iter__(self) -> Iterator[Item]:
        return (self[n] for n in range(len(self)))


def _translated(error: OSError) -> StillwatchError:
    from pathlib import Path

    return from_os_error(error, path=Path(tempfile.gettempdir()), doing="write questions to")
