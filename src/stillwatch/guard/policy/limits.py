"""What a policy counts in memory: token buckets of its throttles, and the volume of accounts.

Both are bounded whatever clients do: buckets that have filled up again are forgotten, and of the
volumes only two windows are kept. A restart begins anew.
"""

from __future__ import annotations

from typing import Final

from stillwatch.guard.wall.ladder import DAY_S, Rung, stepped

_MOST_BUCKETS: Final = 100_000
HOUR_S: Final = 3600.0


class Buckets:
    """Token buckets by (rule, whose).

    Args:
        most: buckets kept (count).
    """

    def __init__(self, *, most: int = _MOST_BUCKETS) -> None:
        self._levels: dict[tuple[str, str], tuple[float, float, Rung]] = {}
        self._most = most

    def __len__(self) -> int:
        return len(self._levels)

    def wait_s(self, key: tuple[str, str], now: float, *, rung: Rung) -> float:
        """Tell how long until a token is there; takes none.

        Args:
            key: rule id, and whose bucket.
            now: UTC epoch seconds.
            rung: rate and capacity.

        Returns:
            Seconds; 0.0 when one is there.
        """
        return rung.wait_s(self._level(key, now, rung=rung))

    def take(self, key: tuple[str, str], now: float, *, rung: Rung) -> None:
        """Take a token.

        Args:
            key: rule id, and whose bucket.
            now: UTC epoch seconds.
            rung: rate and capacity.
        """
        level = max(0.0, self._level(key, now, rung=rung) - 1.0)
        known = self._levels.get(key)
        last = now if known is None else max(now, stepped(known[1], now))
        if known is None and len(self._levels) >= self._most:
            self._forget(now)
        self._levels[key] = (level, last, rung)

    def _level(self, key: tuple[str, str], now: float, *, rung: Rung) -> float:
        known = self._levels.get(key)
        if known is None:
            return rung.capacity
        level, last, _ = known
        return rung.refilled(level, now - stepped(last, now))

    def _forget(self, now: float) -> None:
        kept = {
            key: held
            for key, held in self._levels.items()
            if self._level(key, now, rung=held[2]) < held[2].capacity - 1e-9
        }
        # Still full of empty buckets: the older half goes. Dictionaries keep their order.
        surplus = len(kept) - self._most // 2
        if surplus > 0:
            kept = dict(list(kept.items())[surplus:])
        self._levels = kept


class Window:
    """Counts by account over a sliding span, from the last two whole spans.

    The count of the span before is taken to be spread evenly, so the figure is exact for steady
    accounts and off by at most that count for bursts; in return an account costs two numbers.

    Args:
        span_s: length (seconds).
    """

    def __init__(self, span_s: float) -> None:
        self.span_s = span_s
        self._number = -1
        self._now: dict[str, float] = {}
        self._before: dict[str, float] = {}

    def add(self, account: str, now: float, *, amount: float = 1.0) -> float:
        """Count.

        Args:
            account: whose.
            now: UTC epoch seconds.
            amount: how much; 0 only looks.

        Returns:
            The account's count over the last span, with this.
        """
        number, rest = divmod(now, self.span_s)
        if number > self._number:
            self._before = self._now if number == self._number + 1 else {}
            self._now = {}
            self._number = int(number)
        current = self._now.get(account, 0.0) + amount
        if amount:
            self._now[account] = current
        before = self._before.get(account)
        return current if before is None else current + before * (1.0 - rest / self.span_s)


class Volumes:
    """What accounts ask and get, for the words that ask about it.

    Args:
        words: the words that the policy uses; others are not counted.
    """

    def __init__(self, words: frozenset[str]) -> None:
        self.per_hour = Window(HOUR_S) if "questions_per_hour" in words else None
        self.per_day = Window(DAY_S) if "questions_per_day" in words else None
        self.tokens = Window(DAY_S) if "output_tokens_per_day" in words else None

    def answered(self, account: str, now: float, *, output_tokens: int) -> None:
        """Count what was given out.

        Args:
            account: to whom.
            now: UTC epoch seconds.
            output_tokens: tokens (count).
        """
        if self.tokens is not None and output_tokens:
            self.tokens.add(account, now, amount=float(output_tokens))

    def carry(self, other: Volumes) -> None:
        """Take over what another one has counted, when a policy follows on another.

        Args:
            other: the earlier one.
        """
        self.per_hour = self.per_hour and (other.per_hour or self.per_hour)
        self.per_day = self.per_day and (other.per_day or self.per_day)
        self.tokens = self.tokens and (other.tokens or self.tokens)
