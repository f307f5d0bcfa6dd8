"""How fast to ask: as fast as the endpoint answers, and no faster than it says.

Three controls, each of them silent until it is needed:

- how many questions are under way at once: doubled each clean round until the first rate limit,
  then grown by a twentieth a round, and by more the longer none is met; cut to four fifths by a
  rate limit, once a round; a server
  that fails more than an eighth of a round stops the growth and cuts nothing;
- how many questions go out a second: set by the first rate limit to what the endpoint let through,
  because no number of questions under way holds a rate when answers are fast; probed upwards, the
  slower the better the limit is known;
- hard limits of questions and tokens a minute, if the user sets them.

What an endpoint asks for (`retry-after`, the reset headers) is waited. Times come from the caller.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Literal, NamedTuple

from stillwatch.distill.asking.pace_rates import LearntRate, MinuteBucket
from stillwatch.model.client import number_in, retry_after_s

#: What came of a question, as far as the pace is concerned.
Signal = Literal["clean", "limited", "trouble", "neutral"]

_CUT = 0.8  # of the questions under way, after a rate limit
_GROWTH = 1.05  # of them, a clean round, once a limit was met
_SLOW_START = 2.0  # of them, a clean round, before that
_SATURATED = 0.8  # share of the slots that must have been used for a round to count
_TROUBLED = 1 / 8  # share of a round's questions whose failure stops the growth
_BACKOFF_S = (0.5, 60.0)  # first and longest wait when a limit says nothing (seconds)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_KINDS = ("requests", "tokens", "input-tokens", "output-tokens")
_PARTS = ("remaining", "reset", "limit")
_HEADERS = (
    *(tuple(f"x-ratelimit-{part}-{kind}" for part in _PARTS) for kind in _KINDS[:2]),
    *(tuple(f"anthropic-ratelimit-{kind}-{part}" for part in _PARTS) for kind in _KINDS),
)


class Ticket(NamedTuple):
    """A question that went out.

    Attributes:
        begun_at: monotonic seconds.
        tokens: taken from the token bucket (count).
    """

    begun_at: float
    tokens: int


class Pace:
    """Says when the next question may go out.

    Args:
        most: questions under way at once, at most (count).
        start: at once, to begin with (count).
        requests_per_minute: a hard limit, or None.
        tokens_per_minute: a hard limit on questions and answers together, or None.

    Attributes:
        limit: questions allowed under way now.
        in_flight: questions under way.
        most_in_flight: the most that were.
        n_limited: rate limits met (count).
    """

    def __init__(
        self,
        *,
        most: int,
        start: int = 20,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
    ) -> None:
        self.limit = float(min(start, most))
        self.in_flight = self.most_in_flight = self.n_limited = 0
        self.rate = LearntRate()
        self._most = most
        self._growth = _SLOW_START
        self._requests = MinuteBucket(requests_per_minute) if requests_per_minute else None
        self._tokens = MinuteBucket(tokens_per_minute) if tokens_per_minute else None
        self._held_until = -math.inf
        self._cut_at = self._round_at = -math.inf
        self._round_done = self._round_peak = self._round_failed = 0
        self._silent_limits = self._clean_rounds = 0

    def wait_s(self, now: float, tokens: int = 0) -> float:
        """Say when a question may go out.

        Args:
            now: monotonic seconds.
            tokens: of the question and its answer at most (count).

        Returns:
            0 for now, seconds for later, infinity for "when one under way has ended".
        """
        if self.in_flight >= int(self.limit):
            return math.inf
        wait = max(self._held_until - now, self.rate.wait_s(now))
        if self._requests is not None:
            wait = max(wait, self._requests.wait_s(now, 1))
        if self._tokens is not None:
            wait = max(wait, self._tokens.wait_s(now, tokens))
        return max(0.0, wait)

    def begin(self, now: float, tokens: int = 0) -> Ticket:
        """Count a question that goes out now.

        Args:
            now: monotonic seconds.
            tokens: as `wait_s` was told.

        Returns:
            The ticket to hand to `end`.
        """
        self.in_flight += 1
        self._round_peak = max(self._round_peak, self.in_flight)
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        if self._requests is not None:
            self._requests.take(now, 1)
        if self._tokens is not None:
            self._tokens.take(now, tokens)
        self.rate.send(now)
        return Ticket(now, tokens)

    def end(
        self,
        ticket: Ticket,
        now: float,
        signal: Signal,
        *,
        headers: Mapping[str, str],
        tokens: int | None = None,
    ) -> None:
        """Learn from what came of a question.

        Args:
            ticket: as `begin` gave it.
            now: monotonic seconds.
            signal: clean (answered), limited (429), trouble (the server failed), neutral.
            headers: of the reply.
            tokens: billed (count), or None when not told.
        """
        self.in_flight -= 1
        if self._tokens is not None and tokens is not None:
            self._tokens.take(now, tokens - ticket.tokens)
        if signal == "limited":
            self._limit(ticket, now, headers)
        elif signal == "trouble":
            self._round_failed += 1
        elif signal == "clean":
            self._silent_limits = 0
        told = exhausted_s(headers, now_utc=None) if headers else None
        if told is not None:
            self._hold(now, told)
        self._finish_round(ticket, now)

    def held_s(self, now: float) -> float:
        """Say how long the endpoint wants nothing (seconds, 0 when it takes questions)."""
        return max(0.0, self._held_until - now)

    def _limit(self, ticket: Ticket, now: float, headers: Mapping[str, str]) -> None:
        self.n_limited += 1
        self.rate.refuse(ticket.begun_at)
        told = retry_after_s(headers)
        if told is None:
            told = exhausted_s(headers, now_utc=None)
        if ticket.begun_at >= self._cut_at:  # those sent before the last cut tell nothing new
            self._growth, self._clean_rounds = _GROWTH, 0
            self.limit = max(1.0, self.limit * _CUT)
            self.rate.limit(now)
            if told is None:
                first, longest = _BACKOFF_S
                told = min(longest, first * 2**self._silent_limits)
                self._silent_limits = min(self._silent_limits + 1, 10)
            self._hold(now, told)
            self._cut_at = max(now, self._held_until)
            self._begin_round(self._cut_at)
        elif told is not None:
            self._hold(now, told)

    def _hold(self, now: float, seconds: float) -> None:
        until = now + seconds
        if until > self._held_until:
            self.rate.hold(until - max(now, self._held_until))
            self._held_until = until

    def _finish_round(self, ticket: Ticket, now: float) -> None:
        if ticket.begun_at < self._round_at:
            return
        self._round_done += 1
        if self._round_done < self.limit:
            return
        is_sound = self._round_failed <= _TROUBLED * self._round_done
        if is_sound and self._round_peak >= _SATURATED * int(self.limit):
            growth = self._growth
            if growth < _SLOW_START:  # the longer no limit is met, the bolder
                growth **= 1 + self._clean_rounds / 4
                self._clean_rounds += 1
            self.limit = min(float(self._most), max(self.limit * growth, self.limit + 1))
        self._begin_round(now)

    def _begin_round(self, now: float) -> None:
        self._round_at, self._round_peak = now, self.in_flight
        self._round_done = self._round_failed = 0


def exhausted_s(headers: Mapping[str, str], *, now_utc: datetime | None) -> float | None:
    """Read from a reply's headers how long until a used-up allowance has room again.

    Vendors tell when an allowance will be full again. Of an allowance of 600 that is full in 60
    seconds, one is back after a tenth of a second, so that is what is waited.

    Args:
        headers: of the reply, looked up without regard to case.
        now_utc: the time, for resets told as a date; None takes the machine's.

    Returns:
        Seconds; None when nothing is used up, or nothing is told.
    """
    found: float | None = None
    for remaining, reset, limit in _HEADERS:
        left = headers.get(remaining)
        if left is None or number_in(left) != 0:
            continue
        wait = reset_s(headers.get(reset), now_utc=now_utc)
        if wait is not None:
            most = number_in(headers.get(limit)) or 1.0
            found = max(found or 0.0, wait / max(1.0, most))
    return found


def reset_s(text: str | None, *, now_utc: datetime | None) -> float | None:
    """Read a reset header.

    Args:
        text: seconds ("1.5"), a duration ("6m0s", "20ms") or a date (RFC 3339); or None.
        now_utc: the time; None takes the machine's.

    Returns:
        Seconds from now, never negative; None when it says nothing.

    Example:
        >>> reset_s("1m30s", now_utc=None)
        90.0
    """
    if not text:
        return None
    plain = number_in(text)
    if plain is not None:
        return plain
    pieces = _DURATION.findall(text)
    if pieces and "".join(n + unit for n, unit in pieces) == text:
        return sum(float(n) * _UNITS_S[unit] for n, unit in pieces)
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        return None
    if date.tzinfo is None:
        return None
    now = now_utc or datetime.now(date.tzinfo)
    return max(0.0, (date - now).total_seconds())
