"""Habits that are not words: when somebody asks, with what software and from where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillwatch.siege.settings import DAY_S
from stillwatch.siege.wording import draw_client

SKILLS_MODEL = "house-skills"
PROSE_MODEL = "house-prose"
#: Carriers whose addresses many strangers share.
_CARRIERS = 14


@dataclass(frozen=True)
class Rhythm:
    """When one person asks.

    Attributes:
        peaks_h: the two hours of the day (UTC) around which sessions begin.
        spread_h: standard deviation around them, in hours.
        weekend: activity on weekend days relative to weekdays.
        pace_s: median gap between the questions of a session.
        session: questions in a session, on average.
    """

    peaks_h: tuple[float, float]
    spread_h: float
    weekend: float
    pace_s: float
    session: float

    def occasions(
        self, n: int, window: tuple[float, float], rng: np.random.Generator
    ) -> list[float]:
        """Draw when somebody of this rhythm asks.

        Args:
            n: questions (count).
            window: first and last moment (UTC epoch s).
            rng: draws days, sessions and gaps.

        Returns:
            `n` times within the window, ascending.
        """
        begin, end = window
        first_day = int(begin // DAY_S)
        days = np.arange(first_day, max(first_day + 1, int(np.ceil(end / DAY_S))))
        # 1970-01-01 was a Thursday: day 2 of the epoch is a Saturday.
        weights = np.where((days + 3) % 7 >= 5, self.weekend, 1.0) * rng.gamma(1.5, size=days.size)
        times: list[float] = []
        while len(times) < n:
            size = min(int(rng.geometric(1.0 / self.session)), n - len(times))
            day = float(rng.choice(days, p=weights / weights.sum()))
            hour = rng.normal(self.peaks_h[int(rng.integers(2))], self.spread_h) % 24.0
            gaps = rng.lognormal(np.log(self.pace_s), 0.8, size)
            moments = day * DAY_S + hour * 3600.0 + np.cumsum(gaps)
            times.extend(moments.tolist())
        return sorted(_into(moment, begin, end) for moment in times)


def _into(moment: float, begin: float, end: float) -> float:
    """Move a moment into a window by whole days, so that the hour of the day stays."""
    if moment >= end:
        moment -= np.ceil((moment - end + 1.0) / DAY_S) * DAY_S
    if moment < begin:
        moment += np.ceil((begin - moment) / DAY_S) * DAY_S
    # A window shorter than a day may miss the hour.
    return float(moment if moment < end else begin + (moment - begin) % max(end - begin, 1.0))


@dataclass(frozen=True)
class Client:
    """The software and the addresses that one account comes from.

    Attributes:
        user_agents: names of the software, the usual one first.
        addresses: client addresses of the private range, the usual one first.
        stream: whether answers are asked for as events.
        exact: sampling parameters for the exact skills.
        prose: sampling parameters for prose, without a seed.
    """

    user_agents: tuple[str, ...]
    addresses: tuple[str, ...]
    stream: bool
    exact: Mapping[str, Any]
    prose: Mapping[str, Any]

    def parameters(self, model: str) -> dict[str, Any]:
        """Give the parameters this client sets for a model.

        Args:
            model: the model asked for.

        Returns:
            Parameters by OpenAI names, a fresh dict.
        """
        chosen = dict(self.exact if model == SKILLS_MODEL else self.prose)
        if self.stream:
            chosen["stream"] = True
        return chosen

    def pick(self, rng: np.random.Generator) -> tuple[str, str]:
        """Draw software and address for one question.

        Args:
            rng: draws; the first of each is the usual one.

        Returns:
            User agent and address.
        """
        agents, addresses = self.user_agents, self.addresses
        agent = agents[0] if rng.random() < 0.8 else agents[int(rng.random() * len(agents))]
        where = (
            addresses[0] if rng.random() < 0.6 else addresses[int(rng.random() * len(addresses))]
        )
        return agent, where


def draw_rhythm(rng: np.random.Generator) -> Rhythm:
    """Draw when and how fast somebody asks; people live in all time zones.

    Args:
        rng: draws every habit.

    Returns:
        The rhythm.
    """
    zone = float(rng.choice([-8.0, -5.0, -3.0, 0.0, 1.0, 2.0, 5.5, 8.0, 9.0]))
    first = float(rng.normal(10.5, 2.0)) - zone
    return Rhythm(
        peaks_h=(first % 24.0, (first + float(rng.uniform(2.0, 10.0))) % 24.0),
        spread_h=float(rng.uniform(0.7, 3.0)),
        weekend=float(rng.choice([0.1, 0.5, 1.0, 1.6])),
        pace_s=float(rng.lognormal(np.log(75.0), 0.9)),
        session=1.0 + float(rng.gamma(2.0, 1.6)),
    )


def draw_client_of(rng: np.random.Generator) -> Client:
    """Draw software, addresses and parameters of one account.

    Args:
        rng: draws every choice.

    Returns:
        The client.
    """
    exact: dict[str, Any] = {"temperature": 0}
    if rng.random() < 0.45:
        exact["max_tokens"] = int(rng.choice([16, 24, 32, 64]))
    if rng.random() < 0.15:
        exact["top_p"] = 1
    prose: dict[str, Any] = {
        "temperature": float(rng.choice([0.7, 0.8, 0.9, 1.0], p=[0.2, 0.15, 0.15, 0.5])),
        "max_tokens": int(rng.choice([24, 28, 32, 40], p=[0.2, 0.2, 0.4, 0.2])),
    }
    if rng.random() < 0.2:
        prose["top_p"] = float(rng.choice([0.9, 0.95, 1.0]))
    agents = [draw_client(rng) for _ in range(1 if rng.random() < 0.8 else 2)]
    return Client(tuple(agents), draw_addresses(rng), bool(rng.random() < 0.3), exact, prose)


def draw_addresses(rng: np.random.Generator) -> tuple[str, ...]:
    """Draw where an account comes from: a home of its own, a carrier, an office.

    Args:
        rng: draws the networks; addresses lie in 10.0.0.0/8.

    Returns:
        One to four addresses, the usual one first.
    """

    def host(first: int, second: int) -> str:
        return f"10.{first}.{second}.{int(rng.integers(2, 250))}"

    found = [host(int(rng.integers(20, 120)), int(rng.integers(256)))]
    if rng.random() < 0.45:
        carrier = int(rng.integers(_CARRIERS))
        found += [host(8, carrier) for _ in range(int(rng.integers(1, 3)))]
    if rng.random() < 0.3:
        found.append(host(int(rng.integers(120, 160)), int(rng.integers(256))))
    if rng.random() < 0.25:
        found.reverse()
    return tuple(found)
