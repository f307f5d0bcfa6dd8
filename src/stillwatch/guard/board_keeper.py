"""Holds the snapshot that decisions are taken from, and the table that it was taken of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from stillwatch.guard.config import GuardConfig
from stillwatch.guard.policy.live import LivePolicy
from stillwatch.guard.recording.books import Books
from stillwatch.guard.wall.orders import Clearance
from stillwatch.guard.wall.verdict import Board, VerdictTable

_T = TypeVar("_T")


class BoardKeeper:
    """The part of a gateway's state that decisions rest on; one thread at a time is in the table.

    Attributes:
        table: the verdict table.
        board: the snapshot that decisions are taken from.
        books: told of every snapshot, for the audit log.
        config: the gateway's.
        policy: the rules, or None without.
    """

    table: VerdictTable
    board: Board
    books: Books
    config: GuardConfig
    policy: LivePolicy | None

    def __init__(self) -> None:
        self._reading = asyncio.Lock()

    async def reload(self) -> None:
        """Take a new snapshot of the verdict table if it has changed."""
        async with self._reading:
            if await asyncio.to_thread(self.table.generation) != self.board.generation:
                await self._take(await asyncio.to_thread(self.table.load))

    async def change(self, act: Callable[[VerdictTable], object]) -> None:
        """Change the verdict table, and decide by it from now on.

        Args:
            act: changes it; runs in a thread.
        """
        async with self._reading:
            await asyncio.to_thread(act, self.table)
            await self._take(await asyncio.to_thread(self.table.load))

    async def in_table(self, act: Callable[[VerdictTable], _T]) -> _T:
        """Use the verdict table, which one thread may at a time; changes no decision.

        Args:
            act: uses it; runs in a thread.

        Returns:
            What it gives.
        """
        async with self._reading:
            return await asyncio.to_thread(act, self.table)

    async def verify(self, clearance: Clearance) -> None:
        """Note that an account has shown who it is, and decide by it from now on.

        Args:
            clearance: whose, and until when.
        """
        async with self._reading:
            generation = await asyncio.to_thread(self.table.verify, clearance)
            board = self.board.with_clearance(clearance, generation=generation)
            if board is None:
                board = await asyncio.to_thread(self.table.load)
            await self._take(board)

    async def _take(self, board: Board) -> None:
        self.board = board
        await self.books.took(board)

    async def audit_running(self, kind: str) -> None:
        """Note in the audit log what the gateway runs by from now on.

        Args:
            kind: started or reloaded.
        """
        policy = self.policy.engine.policy if self.policy is not None else None
        await self.books.running(kind, self.config, policy)
