"""What happens to an attempt: rate limits first, then faults drawn from the seed."""

from __future__ import annotations

import math
import time
from email.utils import formatdate
from typing import NamedTuple

import xxhash

from stillwatch.model.fake_server.config import FakeConfig

#: 2**64, what a 64-bit hash is divided by to give a number in 0..1.
_SPAN = float(1 << 64)


class Limited(NamedTuple):
    """Why an attempt was not let in.

    Attributes:
        reason: `rate` or `at_once`.
        wait_s: until a place is free (seconds).
    """

    reason: str
    wait_s: float


class Behaviour:
    """Decides what an endpoint of this configuration does with an attempt.

    Args:
        config: how it behaves.
    """

    def __init__(self, config: FakeConfig) -> None:
        self.config = config
        self._faults = [(name, share) for name, share in config.line_faults() if share]
        self._burst = config.burst or max(1.0, config.rate_per_s)
        self._level = self._burst
        self._filled_at = time.monotonic()

    def limit(self, under_way: int) -> Limited | None:
        """Take a place for an attempt.

        Args:
            under_way: questions under way, this one included (count).

        Returns:
            Why there is none, or None.
        """
        most = self.config.most_at_once
        if most and under_way > most:
            return Limited("at_once", 1.0)
        rate = self.config.rate_per_s
        if not rate:
            return None
        now = time.monotonic()
        self._level = min(self._burst, self._level + (now - self._filled_at) * rate)
        self._filled_at = now
        if self._level < 1.0:
            return Limited("rate", (1.0 - self._level) / rate)
        self._level -= 1.0
        return None

    def fault(self, key: str, *, attempt: int) -> str | None:
        """Draw the fault of the line that an attempt meets.

        Args:
            key: the question's.
            attempt: which attempt at it, from 1.

        Returns:
            The fault's name in `FakeConfig.line_faults`, or None.
        """
        if not self._faults:
            return None
        drawn = self.draw(f"line:{attempt}", key)
        for name, share in self._faults:
            if drawn < share:
                return name
            drawn -= share
        return None

    def draw(self, what: str, key: str) -> float:
        """Draw a number from the seed, what it is for, and the question.

        Args:
            what: what is drawn.
            key: the question's.

        Returns:
            A number in 0..1.
        """
        return xxhash.xxh64_intdigest(f"{self.config.seed}:{what}:{key}".encode()) / _SPAN

    def rate_headers(self, limited: Limited | None) -> str:
        """Write the headers that tell a client of the limits.

        Args:
            limited: why the attempt was not let in, or None.

        Returns:
            Header lines, each with its line end; "" when there is nothing to tell.
        """
        lines = ""
        if self.config.rate_per_s:
            full_s = (self._burst - self._level) / self.config.rate_per_s
            lines += (
                f"x-ratelimit-limit-requests: {self._burst:.0f}\r\n"
                f"x-ratelimit-remaining-requests: {math.floor(self._level)}\r\n"
                f"x-ratelimit-reset-requests: {full_s * 1000:.0f}ms\r\n"
            )
        if limited is not None:
            lines += _wait_header(self.config.retry_after, limited.wait_s)
        return lines


def _wait_header(kind: str, wait_s: float) -> str:
    if kind == "seconds":
        return f"retry-after: {max(1, math.ceil(wait_s))}\r\n"
    if kind == "ms":
        return f"retry-after-ms: {max(1, math.ceil(wait_s * 1000))}\r\n"
    if kind == "date":
        return f"retry-after: {formatdate(time.time() + math.ceil(wait_s) + 1, usegmt=True)}\r\n"
    return ""
