"""Opens what batches need: tables, copies, and the one thread that works on them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, Self, TypeVar

from stillwatch.errors import EnvironmentUnfitError
from stillwatch.guard.batch.copies import Copies
from stillwatch.guard.batch.copying import remove_copy
from stillwatch.guard.batch.database import Database
from stillwatch.guard.batch.ids import Ids
from stillwatch.guard.batch.ledger import Ledger
from stillwatch.guard.batch.lines import Pieces

_T = TypeVar("_T")
_IN_FLIGHT_S: Final = 3600.0  # a copy of nobody's is younger than this while its batch is made


class Desk:
    """Everything about batches that rests in the state folder; an async context manager.

    Args:
        state: the gateway's state folder.

    Attributes:
        folder: of the copies.
        ids: whose files and batches are.
        copies: the inputs.
        ledger: the batches.
        pieces: lines cut by ranges.
        claimed: batch and key of rows that are being recorded just now.
    """

    ids: Ids
    copies: Copies
    ledger: Ledger

    def __init__(self, state: Path) -> None:
        self.folder = state / "batches"
        self.pieces = Pieces()
        self.claimed: set[tuple[str, int]] = set()
        self._path = state / "batches.sqlite"
        self._database: Database | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="batches")

    async def __aenter__(self) -> Self:
        await self.run(self._open)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._database is not None:
            await self.run(self._database.close)
        self._worker.shutdown()

    async def run(self, work: Callable[..., _T], /, *args: object, **named: object) -> _T:
        """Run something in the worker thread, after what was given to it before.

        Args:
            work: blocks.
            *args: its arguments.
            **named: its named arguments.

        Returns:
            What it returns.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._worker, partial(work, *args, **named))

    def clean(self, now: float, *, keep_s: float) -> None:
        """Remove copies that no open batch needs, and old entries; blocks.

        Args:
            now: UTC epoch seconds.
            keep_s: how long entries and unused inputs are kept (seconds).
        """
        for number in self.copies.idle(now - keep_s, unused=now - _IN_FLIGHT_S):
            remove_copy(self.copies, self.folder, number)
        self.ledger.prune(now - keep_s)
        self.ids.prune()

    def _open(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            message = f"{self.folder}: the folder of batches cannot be made: {error.strerror}"
            raise EnvironmentUnfitError(message) from error
        self._database = Database(self._path)
        self.ids = Ids(self._database)
        self.copies = Copies(self._database)
        self.ledger = Ledger(self._database)
        # What was being written when a gateway was killed is nobody's now.
        whole = self.copies.keep_whole()
        for path in self.folder.glob("*.rows"):
            if not path.stem.isdigit() or int(path.stem) not in whole:
                path.unlink(missing_ok=True)
