"""The cast of a world: every account with its seat, its writer, its rhythm and its share."""

from __future__ import annotations

from dataclasses import dataclass

from stillwatch.siege.traffic.persons import Asker
from stillwatch.siege.traffic.seats import Seat
from stillwatch.siege.traffic.times import Rhythm


@dataclass(frozen=True)
class Member:
    """One account of the cast.

    Attributes:
        seat: what the provider sees of it.
        asker: who writes its questions; fresh in every cast.
        rhythm: when it asks.
        volume: how much it asks, relative to the others.
        born: share of the live days that had passed when it began, 0 or less for before (..1).
        gone: share of them that had passed when it stopped.
        is_early: whether it also asks in the history.
        moves: from when on (UTC epoch seconds) what share of its questions goes to the new model.
    """

    seat: Seat
    asker: Asker
    rhythm: Rhythm
    volume: float
    born: float = 0.0
    gone: float = 1.0
    is_early: bool = True
    moves: tuple[float, float] = (float("inf"), 0.0)
