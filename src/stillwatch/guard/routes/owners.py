"""Whose a stored answer or conversation is.

Answers of the Responses API rest at the model server and are built on by their id alone. Behind one
key of the gateway's all of them belong to one customer there, so whoever learns an id could read on
in somebody else's conversation; and a profile that sees single turns sees no conversation. Both
need to know who was given which id.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple, Protocol, get_args

from stillwatch.errors import reject
from stillwatch.guard.keys import Principal
from stillwatch.guard.telling.metrics import Metrics
from stillwatch.guard.wall.ladder import DAY_S

_log = logging.getLogger("stillwatch.guard")
_WRITE_EVERY_S: Final = 0.1  # what a killed gateway forgets; an unknown id is passed, not refused
_RECENT: Final = 65_536  # owners held in memory (count), some 20 MB
_TRIM_EVERY: Final = 4096  # rows written between two looks at the bound
_MOST_IDS: Final = 256  # of one question; each may cost a look at the disk
_LONGEST: Final = 512  # characters of an id; longer ones are nobody's
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS owners (
  key BLOB PRIMARY KEY, account TEXT NOT NULL, org TEXT, session TEXT NOT NULL,
  noted_at REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS owners_by_age ON owners (noted_at);
"""
Unknown = Literal["pass", "refuse"]
Scope = Literal["account", "org"]


@dataclass(frozen=True)
class ResponsesConfig:
    """Whose stored answers may be built on.

    Attributes:
        unknown: what becomes of an id that nobody is known to own: pass (the model server decides)
            or refuse; refuse is for model servers that only this gateway asks.
        scope: account (an answer is its asker's alone) or org (and of all accounts of its
            organisation, by the key table).
        keep: owners held on disk (count), the oldest go first.
        keep_days: days after which an id is forgotten; model servers forget answers too.
    """

    unknown: Unknown = "pass"
    scope: Scope = "account"
    keep: int = 1_000_000
    keep_days: float = 31.0

    def __post_init__(self) -> None:
        for name, known in (("unknown", get_args(Unknown)), ("scope", get_args(Scope))):
            if getattr(self, name) not in known:
                got = getattr(self, name)
                reject("guard.responses", name, f"one of {', '.join(known)}", got=got)
        if self.keep < 1:
            reject("guard.responses", "keep", "at least 1", got=self.keep)
        if self.keep_days <= 0:
            reject("guard.responses", "keep_days", "above 0", got=self.keep_days)


class Owner(NamedTuple):
    """Who was given an answer or a conversation.

    Attributes:
        account: the account.
        org: its organisation, or None.
        session: the conversation: its id, or the id of the first answer of the chain.
    """

    account: str
    org: str | None
    session: str


class Owners(Protocol):
    """Remembers whose an id is."""

    async def find(self, stored_id: str) -> Owner | None:
        """Look up an id.

        Args:
            stored_id: of an answer or a conversation.

        Returns:
            Its owner; None when it is not known, or cannot be known now.
        """
        ...

    def note(self, stored_id: str, owner: Owner) -> None:
        """Remember an id; returns at once, and the first owner of an id stays its owner.

        Args:
            stored_id: of an answer or a conversation.
            owner: who was given it.
        """
        ...

    async def close(self) -> None:
        """Write what is not written yet, and stop."""
        ...


def key_of(stored_id: str) -> bytes:
    """Give the fixed-size key that an id is kept under.

    Args:
        stored_id: the id, of any length.

    Returns:
        16 bytes.
    """
    return hashlib.blake2b(stored_id.encode("utf-8", "replace"), digest_size=16).digest()


class Standing(NamedTuple):
    """How an account stands to the ids that it names.

    Attributes:
        session: the conversation that the first id belongs to, or None.
        fault: foreign (somebody else's), unknown (and unknown ids are refused) or many (too many
            to look up); None when nothing is wrong.
        owner: the account that a foreign id belongs to, or None.
    """

    session: str | None = None
    fault: str | None = None
    owner: str | None = None


SOUND: Final = Standing()


async def standing_of(
    principal: Principal, stored_ids: Iterable[str], *, owners: Owners, config: ResponsesConfig
) -> Standing:
    """Tell whether an account may use ids.

    Args:
        principal: who names them.
        stored_ids: as the client wrote them.
        owners: know whose they are.
        config: says what becomes of unknown ones, and who else may use an account's.

    Returns:
        How it stands; the session is the first id's.
    """
    session: str | None = None
    asked = dict.fromkeys(stored_ids)
    if len(asked) > _MOST_IDS:
        return Standing(fault="many")
    for n, stored_id in enumerate(asked):
        owner = await owners.find(stored_id)
        if owner is None:
            if config.unknown == "refuse":
                return Standing(fault="unknown")
        elif not _may_use(principal, owner, scope=config.scope):
            return Standing(fault="foreign", owner=owner.account)
        elif n == 0:
            session = owner.session
    return Standing(session)


def _may_use(principal: Principal, owner: Owner, *, scope: str) -> bool:
    if owner.account == principal.account:
        return True
    return scope == "org" and owner.org is not None and owner.org == principal.org


class OwnerTable:
    """Owners in memory and, behind, in an SQLite file.

    Args:
        path: the file; its folder must exist.
        config: bounds.
        metrics: counts failures as `owner_failures`; the wall stands without owners.
        clock: tells UTC epoch seconds.
    """

    def __init__(
        self,
        path: Path,
        config: ResponsesConfig,
        *,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._config = config
        self._metrics = metrics
        self._clock = clock
        self._recent: OrderedDict[bytes, Owner] = OrderedDict()
        self._unwritten: dict[bytes, tuple[Owner, float]] = {}
        self._writer: asyncio.Task[None] | None = None
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._n_since_trim = _TRIM_EVERY
        self._is_closed = False

    async def find(self, stored_id: str) -> Owner | None:
        """Look up an id; only one that is not in memory costs a look at the disk.

        Args:
            stored_id: of an answer or a conversation.

        Returns:
            Its owner, or None.
        """
        if len(stored_id) > _LONGEST:
            return None
        key = key_of(stored_id)
        found = self._recent.get(key)
        if found is None:
            found = await asyncio.to_thread(self._read, key)
            if found is not None:
                self._remember(key, found)
        return found

    def note(self, stored_id: str, owner: Owner) -> None:
        """Remember an id; the file follows within a tenth of a second.

        Args:
            stored_id: of an answer or a conversation.
            owner: who was given it.
        """
        key = key_of(stored_id)
        if self._is_closed or not stored_id or len(stored_id) > _LONGEST or key in self._recent:
            return
        self._remember(key, owner)
        self._unwritten[key] = owner, self._clock()
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write_soon())

    async def close(self) -> None:
        """Write what is not written yet, and close the file."""
        self._is_closed = True
        if self._writer is not None:
            await asyncio.wait({self._writer})
        await self._write_all()
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def _remember(self, key: bytes, owner: Owner) -> None:
        if len(self._recent) >= _RECENT:
            self._recent.popitem(last=False)
        self._recent[key] = owner

    async def _write_soon(self) -> None:
        await asyncio.sleep(_WRITE_EVERY_S)
        await self._write_all()
        self._writer = None

    async def _write_all(self) -> None:
        while self._unwritten:
            taken, self._unwritten = self._unwritten, {}
            await asyncio.to_thread(self._write, taken)

    def _write(self, taken: Mapping[bytes, tuple[Owner, float]]) -> None:
        rows = [
            (key, owner.account, owner.org, owner.session, noted_at)
            for key, (owner, noted_at) in taken.items()
        ]
        try:
            with self._lock:
                self._insert(rows)
        except sqlite3.Error as error:
            self._failed(error, "written")

    def _insert(self, rows: Sequence[tuple[object, ...]]) -> None:
        with self._opened() as db:
            db.executemany("INSERT OR IGNORE INTO owners VALUES (?, ?, ?, ?, ?)", rows)
            self._n_since_trim += len(rows)
            if self._n_since_trim < _TRIM_EVERY:
                return
            self._n_since_trim = 0
            oldest = self._clock() - self._config.keep_days * DAY_S
            db.execute("DELETE FROM owners WHERE noted_at < ?", (oldest,))
            db.execute(
                "DELETE FROM owners WHERE noted_at < "
                "(SELECT noted_at FROM owners ORDER BY noted_at DESC LIMIT 1 OFFSET ?)",
                (self._config.keep - 1,),
            )

    def _read(self, key: bytes) -> Owner | None:
        oldest = self._clock() - self._config.keep_days * DAY_S
        ask = "SELECT account, org, session FROM owners WHERE key = ? AND noted_at >= ?"
        try:
            with self._lock:
                row = self._opened().execute(ask, (key, oldest)).fetchone()
        except sqlite3.Error as error:
            self._failed(error, "read")
            return None
        return Owner(*row) if row is not None else None

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            self._db = sqlite3.connect(self._path, timeout=2.0, check_same_thread=False)
            # Keys fall anywhere: a row costs a page, so pages are small and written back seldom.
            self._db.execute("PRAGMA page_size=1024")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA wal_autocheckpoint=16000")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_SCHEMA)
        return self._db

    def _failed(self, error: sqlite3.Error, verb: str) -> None:
        self._metrics.count("owner_failures")
        _log.error("the owners of stored answers cannot be %s, serving on: %s", verb, error)
