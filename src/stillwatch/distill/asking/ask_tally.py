"""Counts of one run of asking: what progress and the summary are made of."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sized

from stillwatch.distill.asking.ask_queue import Queue, Sources
from stillwatch.distill.asking.ask_table import AskProgress, AskSummary, Stopped
from stillwatch.distill.asking.attempts import Outcome
from stillwatch.errors import StillwatchError

#: How far back the rate that progress tells remembers (seconds).
_MEMORY_S = 5.0


class Tally:
    """Counts of one run, and how it ended.

    Args:
        sources: what the run works with.
        queue: what it takes from.

    Attributes:
        n_sent: attempts sent (count).
        n_given_up: items that failed for good (count).
        n_failed_in_a_row: of them, since the last answer (count).
        failures: failed attempts by code.
        stopped: why it ended, or None while it goes on.
    """

    def __init__(self, sources: Sources, queue: Queue) -> None:
        self.n_sent = self.n_given_up = self.n_failed_in_a_row = 0
        self.failures: Counter[str] = Counter()
        self.stopped: Stopped | None = None
        self._outcomes: Counter[str] = Counter()
        self._ledger = sources.ledger
        self._items = sources.items
        self._queue = queue
        self._problem: StillwatchError | None = None
        self._began = time.monotonic()
        self._looked = (self._began, 0)
        self._rate = 0.0

    @property
    def n_answered(self) -> int:
        """Final answers (count)."""
        return self._outcomes.total()

    def final(self, outcome: Outcome) -> None:
        """Count a final answer that the journal holds.

        Args:
            outcome: what it is.
        """
        self._outcomes[outcome] += 1
        self.n_failed_in_a_row = 0

    def fail(self, status: int, code: str) -> None:
        """Count an attempt that failed.

        Args:
            status: of HTTP, 0 when none came.
            code: short code of the failure.
        """
        self.failures[f"{status or ''} {code}".strip()] += 1

    def give_up(self) -> None:
        """Count an item that failed for good."""
        self.n_given_up += 1
        self.n_failed_in_a_row += 1

    def end(self, reason: Stopped, problem: StillwatchError | None = None) -> None:
        """Note why it ends; the first reason counts.

        Args:
            reason: why.
            problem: the error behind it, or None.
        """
        if self.stopped is None:
            self.stopped, self._problem = reason, problem

    def progress(self, *, in_flight: int = 0, limit: int = 0, held_s: float = 0.0) -> AskProgress:
        """Say where it stands.

        Args:
            in_flight: questions under way (count).
            limit: questions allowed under way (count).
            held_s: how long the endpoint wants nothing (seconds).

        Returns:
            Plain data.
        """
        queue = self._queue
        n_items = queue.n_seen if queue.is_read else None
        if n_items is None and isinstance(self._items, Sized):
            n_items = len(self._items)
        n_done = queue.n_known + queue.n_repeated + self.n_answered
        rate = self._rate_at(time.monotonic())
        left = None
        if n_items is not None and rate > 0:
            left = max(0, n_items - n_done - self.n_given_up) / rate
        return AskProgress(
            n_items=n_items,
            n_done=n_done,
            n_sent=self.n_sent,
            n_given_up=self.n_given_up,
            in_flight=in_flight,
            limit=limit,
            rate_per_s=rate,
            spend=self._ledger.spent,
            seconds_left=left,
            held_s=held_s,
        )

    def summary(self, *, n_limited: int = 0, most_in_flight: int = 0) -> AskSummary:
        """Say what it came to.

        Args:
            n_limited: attempts that the endpoint put off (count).
            most_in_flight: questions under way at once, at most (count).

        Returns:
            Plain data.
        """
        queue, problem = self._queue, self._problem
        return AskSummary(
            stopped=self.stopped or "done",
            n_items=queue.n_seen,
            n_known=queue.n_known,
            n_repeated=queue.n_repeated,
            n_answered=self.n_answered,
            outcomes=dict(self._outcomes),
            n_given_up=self.n_given_up,
            n_sent=self.n_sent,
            n_limited=n_limited,
            failures=dict(self.failures),
            most_in_flight=most_in_flight,
            seconds=time.monotonic() - self._began,
            spend=self._ledger.spent,
            problem=str(problem) if problem else "",
            hint=(problem.hint or "") if problem else "",
        )

    def _rate_at(self, now: float) -> float:
        before, n_before = self._looked
        elapsed = now - before
        if elapsed >= 0.2:
            found = (self.n_answered - n_before) / elapsed
            # What is older than some seconds counts for little.
            weight = 1.0 if not n_before else 1 - math.exp(-elapsed / _MEMORY_S)
            self._rate += weight * (found - self._rate)
            self._looked = (now, self.n_answered)
        return self._rate
