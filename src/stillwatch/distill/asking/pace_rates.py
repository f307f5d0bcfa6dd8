"""Rates: a hard limit per minute, and the limit that an endpoint shows by refusing."""

from __future__ import annotations

import math
from typing import NamedTuple

_MARGIN = 0.97  # of the lowest rate known to be refused
_AGREED = 1.3  # the bounds are this near to one another when the limit is known
_PLATEAU_S = (4.0, 120.0)  # shortest and longest rest before probing (seconds)
_PROBE = 1.02  # of the refused rate a second, when a known limit is probed
_SEARCH = 1.2  # of it a second, while the limit is not known well
_DROP = 0.5  # of the rate, that one refusal leaves at least
_FORGET_S = 300.0  # without a refusal the limit is forgotten (seconds)
_LATE_S = 0.005  # what a late timer may make up for (seconds)


class MinuteBucket:
    """A hard limit per minute: what goes out in any 60 seconds stays within it.

    Args:
        per_minute: the limit (count).

    Attributes:
        per_s: how fast it fills.
        capacity: what it holds: a second's worth, at least one.
    """

    def __init__(self, per_minute: int) -> None:
        self.capacity = max(1.0, per_minute / 60)
        # A full bucket and a minute's filling are together the limit.
        self.per_s = max(per_minute - self.capacity, per_minute / 2) / 60
        self._level = self.capacity
        self._at = -math.inf

    def wait_s(self, now: float, amount: float) -> float:
        """Say how long until an amount may go out.

        Args:
            now: monotonic seconds.
            amount: to be taken; more than the bucket holds waits for a full one.

        Returns:
            Seconds, 0 for now.
        """
        self._fill(now)
        missing = min(amount, self.capacity) - self._level
        return 0.0 if missing <= 1e-9 else missing / self.per_s

    def take(self, now: float, amount: float) -> None:
        """Take an amount, below nothing if it is more than the bucket holds.

        Args:
            now: monotonic seconds.
            amount: what goes out; negative gives back what was not used.
        """
        self._fill(now)
        self._level = min(self.capacity, self._level - amount)

    def _fill(self, now: float) -> None:
        if now > self._at:
            gained = (now - self._at) * self.per_s if self._at > -math.inf else 0.0
            self._level = min(self.capacity, self._level + gained)
            self._at = now


class _Count(NamedTuple):
    """What went out between two refusals: how many, in how many seconds, at what rate."""

    since: float
    n_passed: int
    elapsed: float
    sending: float
    before: float


class LearntRate:
    """Questions a second that the endpoint lets through; unlimited until it refuses one.

    Between two refusals an endpoint that hands out r a second let through n. What it stored up
    while nothing was sent is in n too, so r is at least n over all the time and at most n over the
    time in which questions were sent. The rate starts in the middle of these bounds and moves to
    the upper one, to rest just below it, the longer the more often the bounds agreed, before it
    tries more. The upper bound fails where a full store ran over while nothing was sent, so as long
    as the bounds do not agree it is searched for upwards without a rest.

    Attributes:
        per_s: questions a second, infinity while no limit is known.
    """

    def __init__(self) -> None:
        self.per_s = math.inf
        self._refused_per_s = math.inf
        self._n_passed = 0
        self._since = -math.inf  # the last refusal, or the first question
        self._held_s = 0.0  # since then
        self._next_at = -math.inf
        self._moved_at = self._limited_at = -math.inf
        self._plateau_s = _PLATEAU_S[0]
        self._count = _Count(-math.inf, 0, 0.0, 0.0, math.inf)
        self._is_known = False
        self._is_binding = False  # whether any question waited for the rate since it moved

    def wait_s(self, now: float) -> float:
        """Say how long until the next question may go out.

        Args:
            now: monotonic seconds.

        Returns:
            Seconds, 0 for now.
        """
        if self.per_s == math.inf:
            return 0.0
        if now - self._moved_at >= 1.0:
            self._move(now)
        wait = self._next_at - now
        if wait > 0.0:
            self._is_binding = True
            return wait
        return 0.0

    def send(self, now: float) -> None:
        """Count a question that goes out.

        Args:
            now: monotonic seconds.
        """
        if self._since == -math.inf:
            self._since = now
        self._n_passed += 1
        if self.per_s < math.inf:
            self._next_at = max(self._next_at, now - _LATE_S) + 1 / self.per_s

    def refuse(self, begun_at: float) -> None:
        """Take back a question that was refused for the rate.

        Args:
            begun_at: when it went out (monotonic seconds).
        """
        if begun_at >= self._since:
            self._n_passed -= 1
        elif begun_at >= self._count.since:  # it was counted as passed when its fellow was refused
            self._count = self._count._replace(n_passed=self._count.n_passed - 1)
            self._learn(self._count)

    def limit(self, now: float) -> None:
        """Learn from a refusal, and begin to count anew.

        Args:
            now: monotonic seconds.
        """
        elapsed = max(now - self._since, 0.02)
        self._count = _Count(
            since=self._since,
            n_passed=self._n_passed,
            elapsed=elapsed,
            sending=max(elapsed - self._held_s, 0.02),
            before=self.per_s,
        )
        self._since = self._moved_at = self._limited_at = now
        self._n_passed, self._held_s = 0, 0.0
        self._next_at = max(self._next_at, now)
        self._learn(self._count)
        shortest, longest = _PLATEAU_S
        self._plateau_s = min(longest, self._plateau_s * 2) if self._is_known else shortest

    def hold(self, seconds: float) -> None:
        """Count time in which nothing may go out.

        Args:
            seconds: how long.
        """
        self._held_s += seconds

    def _learn(self, count: _Count) -> None:
        n_passed, is_first = max(1, count.n_passed), count.before == math.inf
        # The first time the endpoint had stored up all that it can: take a second for it.
        least = n_passed / (max(count.elapsed, 1.0) if is_first else count.elapsed)
        most = max(n_passed / count.sending, least)
        floor = 0.0 if is_first else _DROP * count.before
        self._is_known = most < _AGREED * least
        self._refused_per_s = max(most, floor)
        self.per_s = max(_MARGIN * math.sqrt(least * most), floor)

    def _move(self, now: float) -> None:
        self._moved_at = now
        was_binding, self._is_binding = self._is_binding, False
        rested = now - self._limited_at - self._plateau_s
        if rested > _FORGET_S:
            self.per_s = self._refused_per_s = math.inf
        elif self.per_s < 0.95 * self._refused_per_s:
            self.per_s = min(
                _MARGIN * self._refused_per_s, math.sqrt(self.per_s * self._refused_per_s)
            )
        elif was_binding and (rested > 0 or not self._is_known):
            # After a long time without a refusal the old limit is doubted ever faster.
            self._refused_per_s *= _PROBE ** (1 + rested / 5) if self._is_known else _SEARCH
            self.per_s = _MARGIN * self._refused_per_s
