"""Waits for checks that are async, from code that is not."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class Waiting:
    """One event loop in a thread of its own, the same for every call.

    A judge's connections belong to the loop that opened them, and the caller may be inside a loop
    of its own: so neither a new loop a call nor the caller's will do. The thread ends with the
    last call's owner.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="stillwatch-checks")
        self._runner = asyncio.Runner()

    def result(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end.

        Args:
            work: the coroutine.

        Returns:
            What it returned; what it raises is raised here.
        """
        return self._thread.submit(self._runner.run, work).result()

    def close(self) -> None:
        """Close the loop and end the thread."""
        self._thread.submit(self._runner.close).result()
        self._thread.shutdown()
