"""What is under way, on the disk: so that a kill does not forget what may be billed.

An attempt takes a slot of a small file before it is sent, and gives it back once the journal has
what came of it. Whoever opens the journal after a kill finds the slots that were never given back;
each is an attempt that was sent and may be billed at its worst case. The file holds hashes and
counts, no texts, and is as long as the window is wide. What it holds is with the kernel at once,
not on the disk: it outlives the process, not a power cut.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

from stillwatch.distill.asking.answer_index import AnswerIndex
from stillwatch.distill.money.budget import CHARGED_TAG, Ledger, Reservation, charged_text
from stillwatch.record.disk import from_os_error
from stillwatch.record.exchange import Exchange
from stillwatch.record.journal import Journal

#: Beside a journal's segments; hidden, for it is no part of what a run made.
_NAME = ".under-way"
#: Request key, number of the attempt, tokens in and out at most, when it was sent.
_SLOT = struct.Struct("<32s4sQQd4x")
_EMPTY = bytes(_SLOT.size)
#: Why such an attempt has no answer on record.
LOST = "lost"


class Sent(NamedTuple):
    """An attempt that was sent.

    Attributes:
        key: its request key, 64 hex digits.
        number: tells it from other attempts at the same, 8 hex digits.
        n_input: input tokens held (count).
        max_output: output tokens held (count).
        sent_at: UTC epoch seconds.
        slot: its place in the file.
    """

    key: str
    number: str
    n_input: int
    max_output: int
    sent_at: float
    slot: int = 0

    @property
    def exchange_id(self) -> str:
        """The id of the exchange that it becomes."""
        return f"{self.key[:24]}-{self.number}"

    def lost(self) -> Exchange:
        """Give the attempt as an exchange of which nothing came, charged at its worst case.

        Returns:
            The exchange; who was asked what is not known any more.
        """
        return Exchange(
            exchange_id=self.exchange_id,
            account="",
            started_at=self.sent_at,
            ended_at=self.sent_at,
            wire="other",
            model="",
            messages=(),
            status=0,
            error=LOST,
            tags={
                "request_key": self.key,
                "outcome": "failed",
                CHARGED_TAG: charged_text(self.n_input, self.max_output),
            },
        )


class UnderWay:
    """The slots of one run of asking. Use it with `with`; the journal's lock keeps others out.

    Args:
        folder: the journal's.

    Raises:
        EnvironmentUnfitError: the file cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise from_os_error(error, path=self._path, doing="note what is sent") from error
        self._n_slots = os.fstat(self._file).st_size // _SLOT.size
        self._free = [
            n
            for n in range(self._n_slots)
            if os.pread(self._file, _SLOT.size, n * _SLOT.size) == _EMPTY
        ]
        self._n_taken = self._n_slots - len(self._free)

    def begin(self, key: str, reservation: Reservation, *, now: float) -> Sent:
        """Note an attempt that is about to be sent.

        Args:
            key: its request key.
            reservation: what is held for it.
            now: the time (UTC epoch seconds).

        Returns:
            The attempt; give it to `end` once the journal has it.

        Raises:
            EnvironmentUnfitError: the disk is full; nothing may be sent then.
        """
        if not self._free:
            self._free.append(self._n_slots)
            self._n_slots += 1
        slot = self._free[-1]
        sent = Sent(
            key, os.urandom(4).hex(), reservation.n_input, reservation.max_output, now, slot
        )
        told = _SLOT.pack(
            bytes.fromhex(key), bytes.fromhex(sent.number), sent.n_input, sent.max_output, now
        )
        self._write(told, slot)
        self._free.pop()
        self._n_taken += 1
        return sent

    def end(self, sent: Sent) -> None:
        """Give a slot back.

        Args:
            sent: as `begin` gave it.
        """
        self._write(_EMPTY, sent.slot)
        self._free.append(sent.slot)
        self._n_taken -= 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
        if not self._n_taken:
            self._path.unlink(missing_ok=True)

    def _write(self, told: bytes, slot: int) -> None:
        try:
            os.pwrite(self._file, told, slot * _SLOT.size)
        except OSError as error:
            raise from_os_error(error, path=self._path, doing="note what is sent") from error


def left_behind(folder: Path) -> dict[str, Sent]:
    """Read the slots that nobody gave back.

    Args:
        folder: the journal's; one in use shows what is under way now.

    Returns:
        Attempts by the id of their exchange; the journal may hold some of them all the same.
    """
    try:
        content = (folder / _NAME).read_bytes()
    except FileNotFoundError:
        return {}
    found = {}
    for slot in range(len(content) // _SLOT.size):
        told = content[slot * _SLOT.size : (slot + 1) * _SLOT.size]
        if told != _EMPTY:
            key, number, n_input, max_output, at = _SLOT.unpack(told)
            sent = Sent(key.hex(), number.hex(), n_input, max_output, at, slot)
            found[sent.exchange_id] = sent
    return found


def with_lost(folder: Path, exchanges: Iterable[Exchange]) -> Iterator[Exchange]:
    """Give what a journal holds, and behind it what was sent and is not on record.

    Args:
        folder: the journal's.
        exchanges: all that it holds.

    Yields:
        Each exchange, then one for each lost attempt.
    """
    left = left_behind(folder)
    for exchange in exchanges:
        left.pop(exchange.exchange_id, None)
        yield exchange
    for sent in left.values():
        yield sent.lost()


async def charge_journal(journal: Journal, answers: AnswerIndex, ledger: Ledger) -> None:
    """Charge what others appended to a journal, and bring what a kill left behind into it.

    Args:
        journal: open for writing.
        answers: its index; reads on from where it stopped.
        ledger: is charged with all that the index had not read.

    Raises:
        RecordError: the journal is damaged, or cannot be written.
    """
    left = left_behind(journal.folder)

    def reading() -> Iterator[Exchange]:
        for exchange in answers.reading():
            left.pop(exchange.exchange_id, None)
            yield exchange

    ledger.restore(reading())
    for sent in list(left.values()):
        await journal.append(sent.lost())
    (journal.folder / _NAME).unlink(missing_ok=True)
    ledger.restore(reading())


@contextlib.asynccontextmanager
async def charged(
    journal: Journal, answers: AnswerIndex | None, ledger: Ledger
) -> AsyncIterator[AnswerIndex]:
    """Charge a journal before it is asked from, and leave the caller's index at its end.

    Args:
        journal: open for writing.
        answers: its index, for who asks many times with one ledger; None reads it anew.
        ledger: is charged.

    Yields:
        The index.

    Raises:
        RecordError: the journal is damaged, or cannot be written.
    """
    index = AnswerIndex(journal.folder) if answers is None else answers
    await charge_journal(journal, index, ledger)
    try:
        yield index
    finally:
        if answers is not None:
            answers.catch_up()  # the ledger was charged with these as they came
