"""Who asks when: how many questions each account asks, at what times, and of which kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stillwatch.siege.traffic.campaigns import Level
from stillwatch.siege.traffic.cast import Member
from stillwatch.siege.traffic.persons import COVER, HARVEST, HONEST
from stillwatch.siege.traffic.rows import Plan, exchange_ids
from stillwatch.siege.traffic.times import (
    DAY_S,
    SESSION_GAP_S,
    Arrivals,
    Floats,
    Ints,
    draw_pauses,
    draw_times,
    leave_pauses,
)

#: Share of a campaign's accounts that ask something ordinary before anything else.
_TRIED = 0.7


class Load(NamedTuple):
    """How much is asked, and when.

    Attributes:
        start: first moment (UTC epoch seconds).
        days: how long (count).
        honest: exchanges of honest accounts, on average (count).
        campaign: exchanges of all campaigns together (count).
        level: how the campaigns ask.
        is_history: whether these are the days before.
    """

    start: float
    days: int
    honest: float
    campaign: int
    level: Level
    is_history: bool


def plan_traffic(
    cast: Sequence[Member], load: Load, *, arrivals: Arrivals, rng: np.random.Generator, seed: int
) -> Plan:
    """Plan who asks when.

    Args:
        cast: every account.
        load: how much, and when.
        arrivals: the patterns of time.
        rng: draws counts, times and kinds.
        seed: of the exchanges' ids.

    Returns:
        The plan.
    """
    honest = [i for i, member in enumerate(cast) if member.seat.campaign < 0]
    if load.is_history:
        honest = [i for i in honest if cast[i].is_early]
    weights = np.array([_weight(cast[i], load) for i in honest])
    # Honest loads are each account's own; a campaign's are parts of one queue.
    counts = rng.poisson(load.honest * weights / weights.sum())
    who, at = _own_times(cast, honest, counts, load=load, arrivals=arrivals, rng=rng)
    kind = np.full(len(who), HONEST, dtype=np.int8)
    for members, total in _shares(cast, load.campaign):
        found = _campaign_times(cast, members, total, load=load, arrivals=arrivals, rng=rng)
        who, at = np.r_[who, found[0]], np.r_[at, found[1]]
        is_cover = rng.random(len(found[0])) < load.level.dilution
        is_cover |= _is_trial(*found, rng=rng)
        kind = np.r_[kind, np.where(is_cover, COVER, HARVEST).astype(np.int8)]
    order = np.lexsort((who, at))
    who, at, kind = who[order], at[order], kind[order]
    return Plan(who, at, kind, _sittings(who, at), exchange_ids(seed, len(who)))


def _weight(member: Member, load: Load) -> float:
    if load.is_history:
        return member.volume
    return member.volume * max(member.gone - member.born, 0.0)


def _span(member: Member, load: Load) -> tuple[float, float]:
    length = load.days * DAY_S
    if load.is_history:
        # Nobody asks before the account is open; who opened at the very end has an hour left.
        opened = member.seat.row.created_at or load.start
        return min(max(load.start, opened), load.start + length - 3600.0), load.start + length
    return load.start + member.born * length, load.start + member.gone * length


def _own_times(
    cast: Sequence[Member],
    members: Sequence[int],
    counts: Ints,
    *,
    load: Load,
    arrivals: Arrivals,
    rng: np.random.Generator,
) -> tuple[Ints, Floats]:
    times = [
        draw_times(arrivals, cast[i].rhythm, rng, n=int(n), span=_span(cast[i], load))
        for i, n in zip(members, counts, strict=True)
    ]
    who = np.repeat(np.array(members, dtype=np.int64), counts)
    return who, np.concatenate(times) if times else np.zeros(0)


def _shares(cast: Sequence[Member], total: int) -> list[tuple[list[int], int]]:
    """Share the campaigns' exchanges out by their sizes."""
    of: dict[int, list[int]] = {}
    for i, member in enumerate(cast):
        if member.seat.campaign >= 0:
            of.setdefault(member.seat.campaign, []).append(i)
    size = sum(len(members) for members in of.values())
    return [(members, round(total * len(members) / size)) for _, members in sorted(of.items())]


def _campaign_times(
    cast: Sequence[Member],
    members: Sequence[int],
    total: int,
    *,
    load: Load,
    arrivals: Arrivals,
    rng: np.random.Generator,
) -> tuple[Ints, Floats]:
    level, span = load.level, (load.start, load.start + load.days * DAY_S)
    # Whoever matches honest people in all else does not stop all accounts at once either.
    pauses = draw_pauses(rng, span, n=0 if level.matched else 2)
    if not level.human_hours:
        return _in_turn(cast, members, total, load=load, pauses=pauses, rng=rng)
    weights = np.array([_weight(cast[i], load) for i in members])
    counts = rng.multinomial(total, weights / weights.sum())
    who, at = _own_times(cast, members, counts, load=load, arrivals=arrivals, rng=rng)
    moved = leave_pauses(at, pauses, rng)
    return who, np.where(moved < span[1], moved, at)


def _is_trial(who: Ints, at: Floats, *, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Mark the first question of most accounts: an account is tried out before it works."""
    order = np.lexsort((at, who))
    first = order[np.r_[True, who[order][1:] != who[order][:-1]]] if len(who) else order
    trial = np.zeros(len(who), dtype=bool)
    trial[first] = rng.random(len(first)) < _TRIED
    return trial


def _in_turn(
    cast: Sequence[Member],
    members: Sequence[int],
    total: int,
    *,
    load: Load,
    pauses: Floats,
    rng: np.random.Generator,
) -> tuple[Ints, Floats]:
    """Ask at an even pace around the clock, one account after the other."""
    begin, end = load.start, load.start + load.days * DAY_S
    at = np.sort(begin + (np.arange(total) + rng.random(total)) / max(total, 1) * (end - begin))
    at = np.sort(np.minimum(leave_pauses(at, pauses, rng), end - 1.0))
    spans = np.array([_span(cast[i], load) for i in members])
    chosen = np.full(total, -1, dtype=np.int64)
    place = 0
    for row, now in enumerate(at.tolist()):
        for _ in range(len(members)):
            place = (place + 1) % len(members)
            if spans[place, 0] <= now < spans[place, 1]:
                chosen[row] = members[place]
                break
    kept = chosen >= 0  # before the first account is open nobody can ask
    return chosen[kept], at[kept]


def _sittings(who: Ints, at: Floats) -> Ints:
    """Number each account's sittings: a long gap begins a new one."""
    order = np.lexsort((at, who))
    w, t = who[order], at[order]
    same = np.r_[False, w[1:] == w[:-1]]
    is_new = ~same | (np.diff(t, prepend=-np.inf) > SESSION_GAP_S)
    run = np.cumsum(is_new)
    first = np.where(same, 0, run)
    sittings = np.empty(len(who), dtype=np.int64)
    sittings[order] = run - np.maximum.accumulate(first)
    return sittings
