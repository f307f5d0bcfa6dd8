"""The learner's side of sharing: profiles go up, and one gateway finds campaigns for all."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from stillwatch.detect.config import FoldConfig
from stillwatch.guard.config import GuardConfig
from stillwatch.guard.learning.daybook import DayBook
from stillwatch.guard.shared.changes import ChangeLog
from stillwatch.guard.shared.connect import connect, demand_one_key, translated
from stillwatch.guard.shared.lease import Lease
from stillwatch.guard.shared.pool import Gathered, ProfilePool
from stillwatch.guard.shared.seal import Seal
from stillwatch.guard.shared.table import SharedVerdictTable
from stillwatch.record.disk import from_os_error, replace_file

_log = logging.getLogger("stillwatch.guard")
_ID_FILE: Final = "gateway-id"


class Shared(NamedTuple):
    """What putting profiles together came to.

    Attributes:
        is_holder: whether this gateway finds campaigns now.
        others: what the other gateways have folded; empty for who does not find.
    """

    is_holder: bool
    others: Gathered | None


class LearnerSharing:
    """One gateway's learner among others.

    Args:
        config: the gateway's.
        fold: how profiles are folded.

    Attributes:
        table: the verdict table, which follows the others'.
    """

    def __init__(self, config: GuardConfig, fold: FoldConfig) -> None:
        shared, secret = config.shared, config.secrets
        self._config, self._seal = shared, Seal(secret.hash_key)
        self._client = connect(shared, secret.redis_password)
        self._gateway = gateway_id(config.state)
        self._lease = Lease(self._client, shared, gateway=self._gateway)
        self._pool = ProfilePool(
            self._client, shared, seal=self._seal, gateway=self._gateway, fold=fold
        )
        self._known_key = False
        self._unsent: set[int] = set()
        log = ChangeLog(self._client, shared, self._seal)
        self.table = SharedVerdictTable(config.verdict_path, log)
        self.table.lease = self._lease.token

    def put_together(self, book: DayBook, touched: Iterable[int], *, now: float) -> Shared:
        """Put up what was folded and, if no other gateway does it, take what the others put up.

        Args:
            book: of this gateway.
            touched: days that it has folded more of since the last time.
            now: UTC epoch seconds.

        Returns:
            Whether to find campaigns, and the others' profiles.

        Raises:
            EnvironmentUnfitError: Redis is away; the next time everything is put up.
            ConfigError: the other gateways have another hash key.
            RecordError: the book is damaged.
        """
        self._unsent |= set(touched)
        if not self._known_key:
            demand_one_key(self._client, self._config, self._seal)
            self._known_key = True
        there = self._pool.days()
        for day in sorted(self._unsent | (set(book.days()) - there)):
            self._pool.push(day, book.day(day), now=now)
            self._unsent.discard(day)
        for day in there - set(book.days()):  # it was forgotten here, and must be there
            self._pool.take_down(day)
        with translated("announce a gateway"):
            key = self._config.key("gateways")
            self._client.hset(key, self._gateway, repr(now))
        is_holder = self._lease.take()
        self.table.pull()
        if not is_holder:
            return Shared(False, None)
        others = self._pool.gather()
        if others.n_unfit:
            _log.error("%d parts of other gateways' profiles are left out", others.n_unfit)
        return Shared(True, others)

    def close(self) -> None:
        """Let another gateway find campaigns."""
        self._lease.close()
        self.table.close()
        self._client.close()


def gateway_id(state: Path) -> str:
    """Tell the id that a state folder's gateway has among others.

    Args:
        state: the folder.

    Returns:
        The id, drawn once.

    Raises:
        EnvironmentUnfitError: the folder cannot be written.
        RecordError: the disk failed.
    """
    path = state / _ID_FILE
    try:
        if not path.exists():
            replace_file(path, secrets.token_hex(6).encode())
        return path.read_text().strip()
    except OSError as error:
        raise from_os_error(error, path=path, doing="keep the gateway's id") from error
