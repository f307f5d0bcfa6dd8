"""Brings what LiteLLM's spend log in PostgreSQL has gained since the last call into a store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from stillwatch.errors import InvalidInputError, RecordError
from stillwatch.logs.bodies import without_bodies
from stillwatch.logs.postgres import Place, SpendLogs, database_of, scan_spend_logs
from stillwatch.logs.reader import Origin, ReadOptions
from stillwatch.logs.readers.litellm_spend import READER
from stillwatch.logs.unit import Fault
from stillwatch.record.disk import replace_file
from stillwatch.record.exchange import Exchange
from stillwatch.record.store import write_store


class SpendUpdate(NamedTuple):
    """What a call brought.

    Attributes:
        n_rows: rows read (count).
        n_exchanges: exchanges added to the store (count).
        n_faults: rows that could not be read as exchanges (count).
        place: where the next call goes on; None while the table is empty.
    """

    n_rows: int
    n_exchanges: int
    n_faults: int
    place: Place | None


def update_from_spend_logs(
    log: SpendLogs,
    store: Path,
    *,
    options: ReadOptions,
    on_fault: Callable[[Fault], None] = lambda _: None,
) -> SpendUpdate:
    """Add the rows that came since the last call for this table and store.

    Killed anywhere and called again, it leaves every row in the store once: the files are named by
    the place where they begin, and the place moves on after they stand.

    Args:
        log: the table.
        store: the store's folder, made if absent; the place rests there, in `spend-ID.json`.
        options: how rows are read.
        on_fault: told of each row that could not be read, by its number in this call.

    Returns:
        What was brought.

    Raises:
        MissingExtraError: psycopg is not installed.
        EnvironmentUnfitError: the server cannot be reached, or the disk is full.
        InvalidInputError: there is no such table, or no right to read it.
        RecordError: the connection or the disk failed; the next call begins where this one did.
    """
    store = Path(store)
    table_id = hashlib.sha256(database_of(log).encode()).hexdigest()[:16]
    state = store / f"spend-{table_id}.json"
    start = _load(state)
    reading = _Reading(log, options, start=start, on_fault=on_fault)
    begun = "first" if start is None else hashlib.sha256(repr(start).encode()).hexdigest()[:16]
    summary = write_store(store, reading.exchanges(), name=f"spend-{table_id}-{begun}")
    if reading.place is not None and reading.place != start:
        replace_file(state, msgspec.json.encode(reading.place))
    return SpendUpdate(reading.n_rows, summary.n_exchanges, reading.n_faults, reading.place)


class _Reading:
    def __init__(
        self,
        log: SpendLogs,
        options: ReadOptions,
        *,
        start: Place | None,
        on_fault: Callable[[Fault], None],
    ) -> None:
        self.place = start
        self.n_rows = self.n_faults = 0
        self._log = log
        self._options = options
        self._on_fault = on_fault

    def exchanges(self) -> Iterator[Exchange]:
        conversion = READER.begin(self._options)
        for place, row in scan_spend_logs(self._log, after=self.place):
            self.n_rows += 1
            origin = Origin("postgres", self.n_rows)
            try:
                for exchange in conversion.convert(row, origin):
                    yield without_bodies(exchange, self._options)
            except InvalidInputError as error:
                self.n_faults += 1
                self._on_fault(Fault(*origin, str(error).removeprefix(f"{origin}: ")))
            self.place = place


def _load(state: Path) -> Place | None:
    try:
        return msgspec.json.decode(state.read_bytes(), type=Place)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        message = f"{state}: the place in the spend log cannot be read"
        raise RecordError(message, hint="remove it to read the table from its beginning") from error
