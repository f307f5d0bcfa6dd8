"""Forgetting: an account from journal and store, and what is older than its class may become.

Two classes age apart: bodies (what was said) and events (that something was said: who, when, how
much). Detection needs bodies for days and events for months. The journal keeps whole exchanges or
nothing: what has lost its body lives on in the store alone.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stillwatch.errors import EnvironmentUnfitError, reject
from stillwatch.record.appender import SegmentFile
from stillwatch.record.bodies import BODY_COLUMNS, has_body, without_bodies
from stillwatch.record.disk import from_os_error, sync_folder
from stillwatch.record.erasure import Erased, Judge, erase_lines, remove_erased
from stillwatch.record.parquet import hidden_path, reading
from stillwatch.record.segments import Position, decode_line, is_sound
from stillwatch.record.store import ROW_GROUP, compact, compacted_until, exclusive, store_files


class Forgotten(NamedTuple):
    """What was forgotten, or would be in a dry run.

    Attributes:
        n_journal: exchanges erased from the journal (count).
        n_store: exchanges erased from the store (count).
        n_bodies: exchanges in the store that lost their texts (count).
        n_unread: damaged lines of the journal that could not be judged, and stay (count).
    """

    n_journal: int = 0
    n_store: int = 0
    n_bodies: int = 0
    n_unread: int = 0


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How long each class may stay, in seconds since the exchange began; None means for ever.

    Attributes:
        bodies_s: texts of questions and answers, reasoning, tool calls, images, and parameters that
            can hold texts.
        events_s: the whole exchange.
    """

    bodies_s: float | None = None
    events_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("bodies_s", "events_s"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                reject("Retention", name, "0 or more seconds", got=value)


def forget_accounts(
    accounts: Collection[str],
    *,
    store: Path | None = None,
    journal: Path | None = None,
    dry_run: bool = False,
) -> Forgotten:
    """Erase every exchange of some accounts.

    The journal goes first, so that nothing can come back from it into the store. Its writer may be
    at work; what it appends for these accounts meanwhile may stay, so block them before. Called
    again after a kill it finishes what was begun.

    Args:
        accounts: account ids as the record has them; none may be empty.
        store: the store to erase from, or None.
        journal: the journal to erase from, or None.
        dry_run: count only.

    Returns:
        The counts.

    Raises:
        InvalidInputError: no account, an empty one, or neither store nor journal.
        RecordError: a folder holds no store or journal, or cannot be read.
        EnvironmentUnfitError: a folder cannot be written.
    """
    names = _checked(accounts)
    _need_either("forget_accounts", store, journal)
    erased = Erased(0, 0)
    if journal is not None:
        journal = Path(journal)
        needles = [b'"account":%b,"started_at":' % msgspec.json.encode(name) for name in names]
        erased = _erase(journal, _of_accounts(names, needles), dry_run=dry_run)
        if not dry_run:
            _drop_torn(journal, needles)
    kept = pa.array(sorted(names))

    def judge(batch: pa.RecordBatch) -> pa.BooleanArray:
        return pc.is_in(batch.column("account"), value_set=kept)

    n_store = 0
    if store is not None:
        n_store = _rewrite_store(Path(store), _Rule(erase=judge), dry_run=dry_run).n_store
    return Forgotten(erased.n_lines, n_store, 0, erased.n_unread)


def apply_retention(
    retention: Retention,
    *,
    now: float,
    store: Path | None = None,
    journal: Path | None = None,
    dry_run: bool = False,
) -> Forgotten:
    """Take out what has become too old.

    With both, the journal is first brought into the store, and then loses what the store now has.

    Args:
        retention: how old each class may become.
        now: UTC epoch seconds that ages are counted to.
        store: the store, or None.
        journal: the journal, or None. To take bodies from it needs the store.
        dry_run: count only; the journal is not brought into the store either.

    Returns:
        The counts.

    Raises:
        InvalidInputError: neither store nor journal, or bodies of a journal without a store.
        RecordError: a folder holds no store or journal, or cannot be read.
        EnvironmentUnfitError: a folder cannot be written.
    """
    _need_either("apply_retention", store, journal)
    if not math.isfinite(now):
        reject("apply_retention", "now", "finite epoch seconds", got=now)
    events_before = _before(now, retention.events_s)
    bodies_before = max(_before(now, retention.bodies_s), events_before)
    erased = Erased(0, 0)
    if journal is not None:
        if store is None and retention.bodies_s is not None:
            hint = "an exchange without its body lives there"
            reject("apply_retention", "store", "named to take bodies out", got=None, hint=hint)
        moved = _moved(journal, store, dry_run=dry_run)
        judge = _older_than(events_before, bodies_before=bodies_before, moved=moved)
        erased = _erase(Path(journal), judge, dry_run=dry_run)
        if not dry_run:
            remove_erased(Path(journal))
    found = Forgotten()
    if store is not None:
        rule = _Rule(
            erase=lambda batch: pc.less(batch.column("started_at"), events_before),
            empty=lambda batch: pc.less(batch.column("started_at"), bodies_before),
        )
        found = _rewrite_store(Path(store), rule, dry_run=dry_run)
    return found._replace(n_journal=erased.n_lines, n_unread=erased.n_unread)


def _checked(accounts: Collection[str]) -> frozenset[str]:
    rule = "a list of account ids, none empty"
    if isinstance(accounts, str) or not accounts or "" in accounts:
        reject("forget_accounts", "accounts", rule, got=f"{len(accounts)} entries")
    for account in accounts:
        try:
            account.encode()
        except UnicodeEncodeError:
            reject("forget_accounts", "accounts", "valid Unicode", got=account)
    return frozenset(accounts)


def _need_either(where: str, store: Path | None, journal: Path | None) -> None:
    if store is None and journal is None:
        reject(where, "store or journal", "named", got=None)


def _before(now: float, age_s: float | None) -> float:
    return -math.inf if age_s is None else now - age_s


def _moved(journal: Path, store: Path | None, *, dry_run: bool) -> Position:
    """Bring the journal into the store, and tell how far that has come."""
    if store is None:
        return Position(0, 0)
    if not dry_run:
        compact(journal, store)
    return compacted_until(journal, store)


def _erase(journal: Path, judge: Judge, *, dry_run: bool) -> Erased:
    if not dry_run and (journal / "journal.lock").exists():
        # A torn end is cut off, so that nothing of it stays unjudged; a writer at work has none.
        with contextlib.suppress(EnvironmentUnfitError):
            SegmentFile(journal, segment_bytes=2**26).close()
    return erase_lines(journal, judge, dry_run=dry_run)


def _of_accounts(names: frozenset[str], needles: list[bytes]) -> Judge:
    def judge(_: Position, raw: bytes) -> bool | None:
        if not any(needle in raw for needle in needles):
            # A damaged line that does not show the account may be its all the same.
            return False if is_sound(raw) else None
        exchange = decode_line(raw)
        return True if exchange is None else exchange.account in names

    return judge


class _Dated(msgspec.Struct):
    exchange: _Begun


class _Begun(msgspec.Struct):
    started_at: float


_decode_dated = msgspec.json.Decoder(_Dated).decode


def _older_than(events_before: float, *, bodies_before: float, moved: Position) -> Judge:
    def judge(place: Position, raw: bytes) -> bool | None:
        try:
            at = _decode_dated(raw).exchange.started_at
        except msgspec.DecodeError:
            return None
        return at < events_before or (at < bodies_before and place <= moved)

    return judge


def _drop_torn(journal: Path, needles: list[bytes]) -> None:
    """Remove set-aside rotten ends that show one of the accounts."""
    for path in journal.glob("*.torn-*"):
        try:
            raw = path.read_bytes()
            if any(needle in raw for needle in needles):
                path.unlink()
        except OSError as error:
            raise from_os_error(error, path=path, doing="forget") from error


@dataclass(frozen=True)
class _Rule:
    """What is to go from the store: rows, and bodies of rows."""

    erase: Callable[[pa.RecordBatch], pa.BooleanArray]
    empty: Callable[[pa.RecordBatch], pa.BooleanArray] | None = None

    def masks(self, batch: pa.RecordBatch) -> tuple[pa.BooleanArray, pa.BooleanArray]:
        """Rows that stay, and rows that stay and lose a body they still have."""
        stays = pc.invert(pc.fill_null(self.erase(batch), False))
        if self.empty is None:
            return stays, pa.nulls(batch.num_rows, pa.bool_()).fill_null(False)
        return stays, pc.and_(pc.and_(stays, self.empty(batch)), has_body(batch))


def _rewrite_store(folder: Path, rule: _Rule, *, dry_run: bool) -> Forgotten:
    store_files(folder)  # says when there is no store, before one is made
    if dry_run:
        counts = [_count(path, rule) for path in store_files(folder)]
    else:
        with exclusive(folder):
            counts = [_rewrite(path, rule) for path in store_files(folder)]
    return Forgotten(0, sum(c.n_store for c in counts), sum(c.n_bodies for c in counts))


def _count(path: Path, rule: _Rule) -> Forgotten:
    n_erased = n_emptied = 0
    wanted = ["account", "started_at"] + ([] if rule.empty is None else list(BODY_COLUMNS))
    for batch in _batches(path, [name for name in wanted if name in _schema(path).names]):
        stays, emptied = rule.masks(batch)
        n_erased += batch.num_rows - stays.true_count
        n_emptied += emptied.true_count
    return Forgotten(0, n_erased, n_emptied)


def _rewrite(path: Path, rule: _Rule) -> Forgotten:
    found = _count(path, rule)
    if found == Forgotten():
        return found
    hidden = hidden_path(path)
    n_rows = 0
    try:
        with pq.ParquetWriter(hidden, _schema(path), compression="zstd") as writer:
            for batch in _batches(path):
                stays, emptied = rule.masks(batch)
                rest = without_bodies(batch, emptied).filter(stays)
                if rest.num_rows:
                    writer.write_batch(rest)
                n_rows += rest.num_rows
        sync_folder(hidden)
        if n_rows:
            hidden.replace(path)
        else:
            path.unlink()
    finally:
        hidden.unlink(missing_ok=True)
    sync_folder(path.parent)
    return found


def _schema(path: Path) -> pa.Schema:
    with reading(path) as file:
        return file.schema_arrow


def _batches(path: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    with reading(path) as file:
        yield from file.iter_batches(ROW_GROUP, columns=columns)
