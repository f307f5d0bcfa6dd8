"""The audit log: every change of a verdict, chained so that a line cannot be changed unseen.

JSON lines; each carries the hash of the one before it and of itself. Whoever notes the newest hash
elsewhere (a mail, a ticket, another machine) can prove later that nothing before it was rewritten:
the chain alone shows changes within, not a chain that was computed anew as a whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from stillwatch.errors import RecordError
from stillwatch.record.exchange import canonical_json

#: What the first line is chained to.
GENESIS = "0" * 64
_TAIL = 65_536  # bytes first read from the end to find the last line; more when it is longer


class AuditEvent(NamedTuple):
    """One change.

    Attributes:
        kind: named, renewed, lapsed, cleared, learned, ...
        at: when it takes effect (UTC epoch seconds, simulated time in a simulation).
        detail: plain data: campaign, accounts, figures, version; never keys or addresses.
    """

    kind: str
    at: float
    detail: Mapping[str, Any]


class AuditSummary(NamedTuple):
    """What a verified log is.

    Attributes:
        n_lines: lines (count).
        head: the newest hash, to be noted elsewhere.
    """

    n_lines: int
    head: str


class AuditLine(NamedTuple):
    """One event as it stands in the log.

    Attributes:
        seq: number of the line, from 1.
        event: what happened.
        hash: of the line, to be noted elsewhere.
    """

    seq: int
    event: AuditEvent
    hash: str


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    seq: int
    at: float
    kind: str
    detail: dict[str, Any]
    prev: str
    hash: str


def append_audit(path: Path, events: Iterable[AuditEvent]) -> str:
    """Append events, durable when it returns; several processes may do so in turn.

    Args:
        path: the log; made when absent.
        events: in order.

    Returns:
        The newest hash.

    Raises:
        RecordError: the log cannot be written, or its last line is no line of such a log.
    """
    try:
        with path.open("a+b") as log:
            fcntl.flock(log, fcntl.LOCK_EX)
            seq, prev = _last(log.fileno(), path)
            lines = []
            for event in events:
                seq += 1
                body = {"seq": seq, "at": event.at, "kind": event.kind}
                body |= {"detail": dict(event.detail), "prev": prev}
                prev = _digest(body)
                lines.append(canonical_json({**body, "hash": prev}) + "\n")
            log.write("".join(lines).encode())
            log.flush()
            os.fsync(log.fileno())
    except OSError as error:
        message = f"{path}: the audit log cannot be written: {error.strerror}"
        raise RecordError(message) from error
    return prev


def verify_audit(path: Path, *, expect: Iterable[str] = ()) -> AuditSummary:
    """Walk the chain from the first line to the last.

    Args:
        path: the log.
        expect: hashes that were noted elsewhere as the newest at some time; each must be the hash
            of a line, or the log was cut off before it or computed anew since.

    Returns:
        Its length and newest hash.

    Raises:
        RecordError: a line is missing, changed, or not a line of such a log, and names the line;
            or an expected hash is not there.
    """
    prev, count = GENESIS, 0
    missing = {anchor.lower() for anchor in expect} - {GENESIS}
    for count, line in enumerate(_lines(path), start=1):
        body = {"seq": line.seq, "at": line.at, "kind": line.kind}
        body |= {"detail": line.detail, "prev": line.prev}
        if line.seq != count or line.prev != prev or _digest(body) != line.hash:
            message = f"{path}:{count}: the chain is broken here"
            hint = "this line or the one before it was changed, removed or added afterwards"
            raise RecordError(message, hint=hint)
        prev = line.hash
        missing.discard(prev)
    if missing:
        message = f"{path}: no line has the expected hash {min(missing)}"
        hint = "the log was cut off before that line, or computed anew as a whole"
        raise RecordError(message, hint=hint)
    return AuditSummary(count, prev)


def read_audit(path: Path) -> Iterator[AuditEvent]:
    """Read the events without checking the chain.

    Args:
        path: the log.

    Yields:
        Events, oldest first.

    Raises:
        RecordError: a line is not a line of such a log.
    """
    for line in _lines(path):
        yield AuditEvent(line.kind, line.at, line.detail)


def tail_audit(path: Path, n: int) -> list[AuditLine]:
    """Read the newest events, without walking the log.

    Args:
        path: the log.
        n: how many at most.

    Returns:
        Newest first; empty when there is no log yet.

    Raises:
        RecordError: the log cannot be read, or its end is not of such a log.
    """
    try:
        with path.open("rb") as log:
            size = os.fstat(log.fileno()).st_size
            reach, tail = _TAIL, b""
            while True:
                tail = os.pread(log.fileno(), reach, max(0, size - reach))
                if reach >= size or tail.count(b"\n") > n:
                    break
                reach *= 4
    except FileNotFoundError:
        return []
    except OSError as error:
        message = f"{path}: the audit log cannot be read: {error.strerror}"
        raise RecordError(message) from error
    found = []
    # What stands behind the last line feed is being written.
    for raw in tail.rpartition(b"\n")[0].split(b"\n")[-n:]:
        if not raw:
            continue
        try:
            line = msgspec.json.decode(raw, type=_Line)
        except msgspec.MsgspecError as error:
            message = f"{path}: its end is not of an audit log"
            raise RecordError(message) from error
        found.append(AuditLine(line.seq, AuditEvent(line.kind, line.at, line.detail), line.hash))
    return found[::-1]


def _lines(path: Path) -> Iterator[_Line]:
    try:
        with path.open("rb") as log:
            for number, raw in enumerate(log, start=1):
                try:
                    yield msgspec.json.decode(raw, type=_Line)
                except msgspec.MsgspecError as error:
                    message = f"{path}:{number}: not a line of an audit log"
                    raise RecordError(message) from error
    except OSError as error:
        message = f"{path}: the audit log cannot be read: {error.strerror}"
        raise RecordError(message) from error


def _last(descriptor: int, path: Path, *, reach: int = _TAIL) -> tuple[int, str]:
    size = os.fstat(descriptor).st_size
    if size == 0:
        return 0, GENESIS
    tail = os.pread(descriptor, reach, max(0, size - reach))
    torn = b"" if tail.endswith(b"\n") else tail.rpartition(b"\n")[2]
    if torn:
        # A write that was cut off was never acknowledged: drop it and go on from the line before.
        os.ftruncate(descriptor, size - len(torn))
        return _last(descriptor, path, reach=reach)
    _, newline, last = tail[:-1].rpartition(b"\n")
    if not newline and reach < size:
        return _last(descriptor, path, reach=4 * reach)
    try:
        line = msgspec.json.decode(last, type=_Line)
    except msgspec.MsgspecError as error:
        message = f"{path}: its last line is not a line of an audit log"
        raise RecordError(message, hint="move the file away to begin a new log") from error
    return line.seq, line.hash


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(body).encode()).hexdigest()
