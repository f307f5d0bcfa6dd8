"""Converts logs to a store, with what could not be read beside it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
import pyarrow as pa

from stillwatch.logs.accounts import AccountTable, load_accounts
from stillwatch.logs.describe import Description, Holdings
from stillwatch.logs.reading import FileFound, ReadCounts, Reading, ReadRequest
from stillwatch.logs.source import STDIN
from stillwatch.logs.unit import Fault
from stillwatch.record.batches import write_batches
from stillwatch.record.disk import from_os_error, replace_file
from stillwatch.record.parquet import hidden_path
from stillwatch.record.store import StoreSummary

QUARANTINE = "quarantine.jsonl"


class Conversion(msgspec.Struct, frozen=True, kw_only=True):
    """What a conversion did; rests beside the store as `convert.json`.

    Attributes:
        files: the files, their formats and the grounds.
        counts: what was met.
        description: what the store gained.
        known_accounts: exchanges whose account the side table knows (count); None without a table.
        bodies: keep, hash or drop.
        days: UTC days touched.
        n_files: files written (count).
    """

    files: list[FileFound]
    counts: ReadCounts
    description: Description
    known_accounts: int | None
    bodies: str
    days: tuple[str, ...]
    n_files: int


class Reported(msgspec.Struct, frozen=True, kw_only=True):
    """What `describe_logs` found.

    Attributes:
        files: the files, their formats and the grounds.
        counts: what was met.
        description: what the logs hold.
        known_accounts: exchanges whose account the side table knows (count); None without a table.
        faults: the first faults, at most twenty.
    """

    files: list[FileFound]
    counts: ReadCounts
    description: Description
    known_accounts: int | None
    faults: list[Fault]


def convert_logs(request: ReadRequest, out: Path, *, accounts: str | None = None) -> Conversion:
    """Convert logs to the store at `out`.

    Converting the same files again replaces what they gave before, so that a log that has grown
    can be converted again; standard input is always added.

    Args:
        request: what to read, and how.
        out: the store's folder, made if absent; gains `quarantine.jsonl` and `convert.json`, and
            `accounts.parquet` when there is a table.
        accounts: the accounts table, or None.

    Returns:
        What was done.

    Raises:
        InvalidInputError: nothing to read, no format recognised, or a fault when strict.
        EnvironmentUnfitError: the disk is full or the folder cannot be written.
        RecordError: the disk failed.
    """
    out.mkdir(parents=True, exist_ok=True)
    holdings, known = Holdings(), _Known()
    with _quarantine(out / QUARANTINE) as put_aside:
        table = load_accounts(accounts, request.options, on_fault=put_aside) if accounts else None
        reading = Reading(request, on_fault=put_aside)
        summary: StoreSummary = write_batches(
            out, _joined(reading, holdings, table=table, known=known), name=_store_name(request)
        )
    if table is not None:
        table.write(out / "accounts.parquet")
    done = Conversion(
        files=reading.files,
        counts=reading.counts,
        description=holdings.describe(),
        known_accounts=known.n if table is not None else None,
        bodies=request.options.bodies,
        days=summary.days,
        n_files=summary.n_files,
    )
    replace_file(out / "convert.json", msgspec.json.format(msgspec.json.encode(done)))
    return done


def describe_logs(request: ReadRequest, *, accounts: str | None = None) -> Reported:
    """Read logs once and say what they hold.

    Args:
        request: what to read, and how.
        accounts: the accounts table, or None.

    Returns:
        What was found.

    Raises:
        InvalidInputError: nothing to read, no format recognised, or a fault when strict.
    """
    faults: list[Fault] = []

    def keep(fault: Fault) -> None:
        if len(faults) < 20:
            faults.append(fault)

    holdings, known = Holdings(), _Known()
    table = load_accounts(accounts, request.options, on_fault=keep) if accounts else None
    reading = Reading(request, on_fault=keep)
    for _ in _joined(reading, holdings, table=table, known=known):
        pass
    return Reported(
        files=reading.files,
        counts=reading.counts,
        description=holdings.describe(),
        known_accounts=known.n if table is not None else None,
        faults=faults,
    )


class _Known:
    n = 0


def _joined(
    reading: Reading, holdings: Holdings, *, table: AccountTable | None, known: _Known
) -> Iterator[pa.RecordBatch]:
    for batch in reading.batches():
        joined = batch
        if table is not None:
            joined, n_known = table.join(batch)
            known.n += n_known
        holdings.add(joined)
        yield joined


def _store_name(request: ReadRequest) -> str | None:
    if STDIN in request.names:
        return None
    wanted = "\0".join((request.format, *sorted(str(Path(n).absolute()) for n in request.names)))
    return "log-" + hashlib.sha256(wanted.encode()).hexdigest()[:16]


@contextlib.contextmanager
def _quarantine(path: Path) -> Iterator[Callable[[Fault], None]]:
    """Open the list of faults; a conversion that fails leaves the one before as it was."""
    part = hidden_path(path)
    try:
        with contextlib.ExitStack() as stack:
            opened: list[BinaryIO] = []

            def put_aside(fault: Fault) -> None:
                if not opened:
                    opened.append(stack.enter_context(part.open("wb")))
                row = {"file": fault.file, "line": fault.line, "reason": fault.reason}
                opened[0].write(msgspec.json.encode(row) + b"\n")

            yield put_aside
        if opened:
            part.replace(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise from_os_error(error, path=path, doing="list what was put aside") from error
    finally:
        part.unlink(missing_ok=True)
