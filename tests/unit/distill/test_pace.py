"""The pace: grows while answers come, yields to what the endpoint says, and keeps hard limits."""

import bisect
import heapq
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import pytest

from stillwatch.distill.asking.pace import Pace, Signal, exhausted_s, reset_s
from stillwatch.distill.asking.pace_rates import MinuteBucket

Answer = Callable[[float], tuple[float, Signal, Mapping[str, str]]]


class _Seen(NamedTuple):
    sent: list[float]
    answered: list[float]
    limited: int
    pace: Pace


def _simulate(pace: Pace, answer: Answer, *, seconds: float, tokens: int = 0) -> _Seen:
    """Ask as fast as the pace allows, in simulated time; `answer` says when and how."""
    now, under_way = 0.0, []
    sent, answered, limited = [], [], 0
    while now < seconds:
        wait = pace.wait_s(now, tokens)
        ends = under_way[0][0] if under_way else math.inf
        if wait == 0.0:
            delay, signal, headers = answer(now)
            ticket = pace.begin(now, tokens)
            heapq.heappush(under_way, (now + delay, len(sent), ticket, signal, headers))
            sent.append(now)
            continue
        if ends <= now + wait:
            now, _, ticket, signal, headers = heapq.heappop(under_way)
            pace.end(ticket, now, signal, headers=headers, tokens=tokens)
            limited += signal == "limited"
            if signal == "clean":
                answered.append(now)
        else:
            now += max(wait, 1e-3)  # as coarse as a timer
    return _Seen(sent, answered, limited, pace)


def _bucket(rate: float, burst: float, *, told_s: float | None, delay: float = 0.02) -> Answer:
    level, at = burst, 0.0

    def answer(now: float) -> tuple[float, Signal, Mapping[str, str]]:
        nonlocal level, at
        level, at = min(burst, level + (now - at) * rate), now
        if level >= 1:
            level -= 1
            return delay, "clean", {}
        return 0.001, "limited", {} if told_s is None else {"retry-after": str(told_s)}

    return answer


def _busiest_minute(sent: list[float]) -> int:
    return max(bisect.bisect_left(sent, at + 60) - n for n, at in enumerate(sent))


def _steady(delay: float, signal: Signal = "clean") -> Answer:
    return lambda _: (delay, signal, {})


def test_slow_start() -> None:
    """While all goes well the window doubles each round, to the most that is allowed."""
    seen = _simulate(Pace(most=200), _steady(0.1), seconds=0.65)
    assert (200, 200) == (seen.pace.limit, seen.pace.most_in_flight)
    by_round = [sum(n * 0.1 - 0.01 <= at < n * 0.1 + 0.09 for at in seen.sent) for n in range(5)]
    assert [20, 40, 80, 160, 200] == by_round


def test_unused_window_does_not_grow() -> None:
    """A window that is not used is not widened."""
    pace = Pace(most=200, requests_per_minute=600)
    assert 20 == _simulate(pace, _steady(0.1), seconds=20).pace.limit


def test_cut_once_a_round() -> None:
    """Rate limits cut the window to four fifths, once a round; then it grows by a twentieth."""
    pace = Pace(most=1000, start=100)
    tickets = [pace.begin(0.0) for _ in range(100)]
    for ticket in tickets[:50]:
        pace.end(ticket, 0.1, "limited", headers={"retry-after": "0"})
    assert (80, 50) == (pace.limit, pace.n_limited)
    for ticket in tickets[50:]:
        pace.end(ticket, 0.1, "clean", headers={})
    assert 80 == pace.limit
    pace.rate.per_s = math.inf
    again = [pace.begin(0.2) for _ in range(80)]
    for ticket in again:
        pace.end(ticket, 0.3, "clean", headers={})
    assert 84 == pytest.approx(pace.limit)


def test_trouble_stops_growth() -> None:
    """A failing server cuts nothing, and nothing grows while an eighth of a round fails."""
    assert 20 == _simulate(Pace(most=200), _steady(0.1, "trouble"), seconds=2).pace.limit
    n = 0

    def one_in_twenty(_: float) -> tuple[float, Signal, Mapping[str, str]]:
        nonlocal n
        n += 1
        return 0.1, "trouble" if n % 20 == 0 else "clean", {}

    assert 200 == _simulate(Pace(most=200), one_in_twenty, seconds=2).pace.limit


def test_retry_after_is_waited() -> None:
    """Nothing goes out before the time that a 429 names."""
    pace = Pace(most=50)
    ticket = pace.begin(0.0)
    pace.end(ticket, 0.5, "limited", headers={"retry-after-ms": "1500"})
    assert (1.5, 1.0, 0.0) == (pace.wait_s(0.5), pace.held_s(1.0), pace.held_s(2.5))


def test_silent_limits_back_off() -> None:
    """Limits that name no time are waited ever longer."""
    pace, now, waits = Pace(most=50), 0.0, []
    for _ in range(4):
        pace.end(pace.begin(now), now, "limited", headers={})
        waits.append(pace.held_s(now))
        now += 100
    assert [0.5, 1.0, 2.0, 4.0] == waits


@pytest.mark.parametrize(
    ("burst", "delay", "share"), [(100, 0.001, 0.9), (100, 1.0, 0.9), (10, 0.05, 0.85)]
)
@pytest.mark.parametrize("told_s", [1.0, 0.05, None])
def test_goodput_under_a_bucket(
    burst: int, delay: float, share: float, told_s: float | None
) -> None:
    """Nearly all that a bucket gives is used, and little is refused."""
    answer = _bucket(100, burst, told_s=told_s, delay=delay)
    seen = _simulate(Pace(most=512), answer, seconds=60)
    late = [at for at in seen.answered if at >= 30]
    assert len(late) >= share * 100 * 30
    assert seen.limited <= 0.03 * len(seen.sent)


def test_limit_that_goes_away() -> None:
    """Once an endpoint takes more, more is sent."""
    slow, quick = _bucket(50, 50, told_s=0.2), _bucket(500, 500, told_s=0.2)
    seen = _simulate(Pace(most=512), lambda at: (slow if at < 60 else quick)(at), seconds=240)
    before = sum(30 <= at < 60 for at in seen.answered) / 30
    after = sum(at >= 210 for at in seen.answered) / 30
    assert before == pytest.approx(50, rel=0.1)
    assert after > 250


@pytest.mark.parametrize("per_minute", [1, 3, 60, 90, 1_200])
def test_hard_limit(per_minute: int) -> None:
    """No minute sees more questions than the hard limit, and most of it is used."""
    pace = Pace(most=512, requests_per_minute=per_minute)
    sent = _simulate(pace, _steady(0.01), seconds=300).sent
    busiest = _busiest_minute(sent)
    assert busiest <= per_minute
    assert len(sent) >= per_minute * 5 * 0.5


def test_hard_token_limit() -> None:
    """Tokens are limited by what may be used, and what was not used is given back."""
    pace = Pace(most=512, tokens_per_minute=60_000)
    seen = _simulate(pace, _steady(0.01), seconds=120, tokens=500)
    busiest = _busiest_minute(seen.sent)
    assert 100 <= busiest <= 120
    bucket = MinuteBucket(60_000)
    bucket.take(0.0, 1_000)
    bucket.take(0.0, -900)
    assert 0.0 == bucket.wait_s(0.0, 900)
    assert bucket.wait_s(0.0, 1_000) > 0


def test_exhausted_headers() -> None:
    """A used-up allowance is waited for, by the time in which one is back."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    openai = {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1m0s",
        "x-ratelimit-limit-requests": "600",
    }
    anthropic = {
        "anthropic-ratelimit-output-tokens-remaining": "0",
        "anthropic-ratelimit-output-tokens-reset": "2026-01-01T00:00:30Z",
    }
    plenty = openai | {"x-ratelimit-remaining-requests": "5"}
    found = [exhausted_s(headers, now_utc=now) for headers in (openai, anthropic, plenty, {})]
    assert [0.1, 30.0, None, None] == found


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1.5", 1.5), ("20ms", 0.02), ("6m0s", 360.0), ("1h2m3.5s", 3723.5), ("1d", 86_400.0),
        ("2026-01-01T00:00:30+00:00", 30.0), ("2025-01-01T00:00:00Z", 0.0),
        ("soon", None), ("2026-01-01T00:00:30", None), ("5 min", None), ("", None), (None, None),
    ],
)  # fmt: skip
def test_reset(text: str | None, seconds: float | None) -> None:
    """Resets are told as seconds, durations or dates; anything else says nothing."""
    assert seconds == reset_s(text, now_utc=datetime(2026, 1, 1, tzinfo=UTC))
