"""Pictures of a campaign: who shares what, when they asked, and how unlike honest groups it is."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillwatch.report.numbers import count, percent, plural
from stillwatch.report.svg import (
    Scale,
    bottom_axis,
    circle,
    diamond,
    element,
    grid,
    line,
    path,
    picture,
    rect,
    text,
)

Size = tuple[float, float]
_LEFT, _RIGHT = 46.0, 12.0
_DAY_S = 86_400.0
_ROUNDS = 160


def sharing_charts(web: Mapping[str, Any], sizes: Sequence[Size]) -> list[str]:
    """Draw accounts and what they share: a line joins an account to each thing it has.

    Args:
        web: nodes, edges and totals of the web exhibit.
        sizes: width and height of each picture wanted, pixels; the layout is made once.

    Returns:
        One picture a size.
    """
    nodes: Sequence[Mapping[str, Any]] = web["nodes"]
    at = {node["id"]: i for i, node in enumerate(nodes)}
    ends = np.array([[at[a], at[b]] for a, b in web["edges"]], dtype=np.int64).reshape(-1, 2)
    return [_draw_web(web, ends, size=size) for size in sizes]


def _ring_layout(
    nodes: Sequence[Mapping[str, Any]], ends: NDArray[np.int64], size: Size
) -> NDArray[np.float64]:
    """Put what is shared on a ring, and each account between the things that it has.

    Members lie nearer the middle than others, and dots push each other apart.
    """
    n, half = len(nodes), np.array(size) / 2.0
    things = np.array([i for i in range(n) if nodes[i]["kind"] == "trait"], dtype=np.int64)
    accounts = np.array([i for i in range(n) if nodes[i]["kind"] != "trait"], dtype=np.int64)
    turn = 2 * np.pi * np.arange(len(things)) / max(len(things), 1) - np.pi / 2
    places = np.zeros((n, 2))
    ring = half - np.array([72.0, 30.0])
    round_ = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    if len(things) > 1:  # an odd number of things leaves the bottom of the ring empty
        low, high = round_.min(axis=0), round_.max(axis=0)
        round_ = 2.0 * (round_ - low) / np.maximum(high - low, 1e-6) - 1.0
    places[things] = round_ * ring
    sums, degree = np.zeros((n, 2)), np.zeros(n)
    np.add.at(sums, ends[:, 0], places[ends[:, 1]])
    np.add.at(degree, ends[:, 0], 1.0)
    pull = np.array([0.5 if node.get("member") else 1.05 for node in nodes])
    target = sums / np.maximum(degree, 1.0)[:, None] * pull[:, None]
    golden = np.arange(n) * np.pi * (3 - np.sqrt(5))
    spiral = np.sqrt(np.arange(n) + 1.0)[:, None] * np.stack([np.cos(golden), np.sin(golden)], 1)
    places[accounts] = (target + 0.5 * spiral)[accounts]
    apart = 0.62 * np.sqrt(size[0] * size[1] / max(n, 12))
    for _ in range(_ROUNDS):
        gap = places[:, None] - places[None]
        far = np.maximum(np.linalg.norm(gap, axis=2), 1e-6)
        push = np.maximum(apart - far, 0.0) / far
        np.fill_diagonal(push, 0.0)
        step = 0.16 * (gap * push[:, :, None]).sum(axis=1) + 0.02 * (target - places)
        places[accounts] += step[accounts]
    edge = half - np.array([10.0, 10.0])
    return np.asarray(np.clip(places, -edge, edge) + half, dtype=np.float64)


def _draw_web(web: Mapping[str, Any], ends: NDArray[np.int64], *, size: Size) -> str:
    nodes, width = web["nodes"], size[0]
    places = _ring_layout(nodes, ends, size)
    strokes = " ".join(
        f"M{places[a][0]:.0f},{places[a][1]:.0f}L{places[b][0]:.0f},{places[b][1]:.0f}"
        for a, b in ends
    )
    parts = [element("path", {"d": strokes, "class": "web-line"})] if strokes else []
    scale = min(1.0, width / 520)
    accounts = [i for i, node in enumerate(nodes) if node["kind"] == "account"]
    for i in sorted(accounts, key=lambda i: bool(nodes[i].get("member"))):
        node, place = nodes[i], (float(places[i][0]), float(places[i][1]))
        member, asked = node.get("member", False), node.get("exchanges", 0)
        told = f"{node['label']}: {plural(asked, 'exchange')}" + (
            " of the campaign" if member else ", not named"
        )
        style = "dot-campaign" if member else "dot-honest"
        parts.append(circle(place, 4.2 * scale, style=style, hint=told))
    for i, node in enumerate(nodes):
        if node["kind"] == "trait":
            place = (float(places[i][0]), float(places[i][1]))
            parts.append(diamond(place, 6.0 * max(scale, 0.8), style="thing", hint=node["label"]))
            above = (place[0], place[1] - 10.0)
            parts.append(text(*above, node["label"], style="label strong", anchor="middle"))
    return picture(size, "Who shares what", _tell_web(web), *parts)


def _tell_web(web: Mapping[str, Any]) -> str:
    drawn = [node for node in web["nodes"] if node["kind"] == "account"]
    members = sum(bool(node.get("member")) for node in drawn)
    things = [node["label"] for node in web["nodes"] if node["kind"] == "trait"]
    return (
        f"{members} of {plural(web['members'], 'member')} and {len(drawn) - members} of "
        f"{plural(web['others'], 'other account')} that have something of "
        f"{', '.join(things) or 'nothing'}."
    )


def activity_chart(timeline: Mapping[str, Any], *, size: Size = (960, 270)) -> str:
    """Draw a campaign over time: its questions above, its active members below.

    Args:
        timeline: the timeline exhibit.
        size: width and height, pixels.

    Returns:
        The picture.
    """
    width, height = size
    asked, active, joined = (timeline[k] for k in ("questions", "active", "joined"))
    n = len(asked)
    x = Scale(0, n, _LEFT, width - _RIGHT)
    middle = 22 + (height - 100) * 0.6
    top = Scale(0, max([*asked, 1]) * 1.06, middle, 22)
    below = Scale(0, max([*active, 1]) * 1.06, height - 30, middle + 44)
    parts = [
        text(_LEFT, 12, f"questions in {_step_name(timeline['step_s'])}", style="tick"),
        grid(top, (x.start, x.end), [(v, count(v)) for v in top.ticks(3)]),
        text(_LEFT, middle + 34, "members active; darker: for the first time", style="tick"),
        grid(below, (x.start, x.end), [(v, count(v)) for v in below.ticks(2)]),
    ]
    room = 2.0 if (x.end - x.start) / max(n, 1) > 6 else 0.6
    for i in range(n):
        left, wide = x(i) + room / 2, max(x(i + 1) - x(i) - room, 0.8)
        when = _when(timeline["start"] + i * timeline["step_s"], timeline["step_s"])
        told = f"{when}: {plural(asked[i], 'question')}, {active[i]} members, {joined[i]} new"
        bars = ((asked, top, "harvest"), (active, below, "dilution"), (joined, below, "harvest"))
        for values, scale, style in bars:
            value = values[i]
            size_ = (wide, scale(0) - scale(value))
            parts.append(rect((left, scale(value)), size_, style=style, hint=told))
    parts.append(bottom_axis(x, below(0), _dates(timeline, width)))
    told = (
        f"{plural(sum(asked), 'question')} in {n} steps of {_step_name(timeline['step_s'])}; "
        f"at most {max(active)} members active at once."
    )
    return picture(size, "The campaign over time", told, *parts)


def hours_chart(timeline: Mapping[str, Any], *, size: Size = (460, 200)) -> str:
    """Draw the hours of the day in which the campaign and all others ask.

    Args:
        timeline: the timeline exhibit.
        size: width and height, pixels.

    Returns:
        The picture.
    """
    width, height = size
    x = Scale(0, 24, _LEFT, width - _RIGHT)
    shares = [[n / max(sum(timeline[k]), 1) for n in timeline[k]] for k in ("hours", "other_hours")]
    y = Scale(0, max(map(max, shares)) * 1.1 or 1.0, height - 40, 14)
    parts = [
        grid(y, (x.start, x.end), [(v, f"{100 * v:g}%") for v in y.ticks(3)]),
        bottom_axis(x, y(0), [(h, f"{h}") for h in range(0, 25, 6)]),
        text((x.start + x.end) / 2, height - 6, "hour of the day, UTC", anchor="middle"),
    ]
    for values, style in zip(shares, ("harm-line", "wall-line"), strict=True):
        parts.append(path([(x(h + 0.5), y(v)) for h, v in enumerate(values)], style=style))
    peaks = [max(range(24), key=values.__getitem__) for values in shares]
    told = f"The campaign asks most at {peaks[0]} h, the others at {peaks[1]} h."
    return picture(size, "Hours of the day", told, *parts)


def null_chart(null: Mapping[str, Any], *, size: Size = (460, 220)) -> str:
    """Draw how much rare words belong to single accounts: honest groups as bars, this group a line.

    Args:
        null: the null exhibit.
        size: width and height, pixels.

    Returns:
        The picture.
    """
    width, height = size
    honest: Sequence[float] = [max(score, 1.0) for score in null["honest"]]
    found = max(null["found"], 1.0)
    top = max([*honest, found, null["limit"]]) * 1.15
    x = Scale(0.9, top, 18, width - 16, kind="log")
    n_bins = 26
    edges = np.exp(np.linspace(math.log(0.9), math.log(top), n_bins + 1))
    bins = np.histogram(honest, edges)[0].tolist()
    y = Scale(0, max([*bins, 1]) * 1.1, height - 42, 42)
    parts = [bottom_axis(x, y(0), [(v, f"{v:g}") for v in x.ticks(6)])]
    for i, n in enumerate(bins):
        left, right = x(edges[i]) + 0.8, x(edges[i + 1]) - 0.8
        told = f"{plural(n, 'honest group')} between {edges[i]:.1f} and {edges[i + 1]:.1f}"
        box = (right - left, y(0) - y(n))
        parts.append(rect((left, y(n)), box, style="decoy-bar", hint=told))
    parts.append(line((x(null["limit"]), 36), (x(null["limit"]), y(0)), style="guide"))
    at = x(found)
    parts.append(line((at, 16), (at, y(0)), style="harm-line"))
    parts.append(circle((at, 16), 4, style="harm-line-dot"))
    near_right = at > width * 0.6
    anchor, place = ("end", at - 8) if near_right else ("start", at + 8)
    parts.append(
        text(place, 20, f"this group, {null['found']:.1f}", style="label hot", anchor=anchor)
    )
    parts.append(text(x(null["limit"]) + 5, 44, "people beyond", style="tick"))
    parts.append(
        text(width / 2, height - 6, "rare words return to their account, times chance",
             anchor="middle")
    )  # fmt: skip
    told = f"The lowest of {len(honest)} honest groups has {min(honest):.1f}; this group has "
    told += f"{null['found']:.1f}."
    return picture(size, "This group beside honest groups", told, *parts)


def calibration_chart(points: Sequence[Sequence[float]], *, size: Size = (460, 300)) -> str:
    """Draw how often honest groups would have been named, at each nominal rate.

    Args:
        points: nominal rate, rate that was seen, lower and upper end of its interval; above 0.
        size: width and height, pixels.

    Returns:
        The picture.
    """
    width, height = size
    floor = min(point[0] for point in points)
    x = Scale(floor, 1.0, 58, width - 16, kind="log")
    y = Scale(floor / 3, 1.0, height - 42, 14, kind="log")
    at = [(x(p[0]), y(max(p[1], floor / 3))) for p in points]
    band = [(x(p[0]), y(max(p[3], floor / 3))) for p in points]
    band += [(x(p[0]), y(max(p[2], floor / 3))) for p in reversed(points)]
    ticks = [v for v in (0.001, 0.01, 0.1, 1.0) if v >= floor / 3]
    parts = [
        grid(y, (x.start, x.end), [(v, percent(v)) for v in ticks]),
        bottom_axis(x, y.start, [(v, percent(v)) for v in ticks if v >= floor]),
        path(band, style="zone", closed=True),
        line((x(floor), y(floor)), (x(1.0), y(1.0)), style="teacher"),
        path(at, style="wall-line"),
        *(circle(p, 3, style="wall-line-dot") for p in at),
        text((x.start + x.end) / 2, height - 6, "nominal rate", anchor="middle"),
    ]
    told = "; ".join(f"at {p[0]:.1%}: {p[1]:.1%}" for p in points)
    return picture(size, "Honest groups named, by nominal rate", f"{told}.", *parts)


def _step_name(step_s: float) -> str:
    hours = round(step_s / 3600)
    names = {1: "an hour", 24: "a day", 168: "a week", 720: "30 days"}
    return names.get(hours, f"{hours} hours")


def _when(at: float, step_s: float) -> str:
    form = "%-d %b %Y" if step_s >= _DAY_S else "%-d %b %H:00"
    return time.strftime(form, time.gmtime(at))


def _dates(timeline: Mapping[str, Any], width: float) -> list[tuple[float, str]]:
    """Label whole days, as many as have room."""
    start, step = timeline["start"], timeline["step_s"]
    n_days = len(timeline["questions"]) * step / _DAY_S
    most = max(2, int(width // 110))
    every = max(1, math.ceil(n_days / most))
    first = math.ceil(start / _DAY_S) * _DAY_S
    days = [first + i * every * _DAY_S for i in range(int(n_days // every) + 1)]
    inside = [(day - start) / step for day in days]
    return [
        (place, time.strftime("%-d %b", time.gmtime(day)))
        for place, day in zip(inside, days, strict=True)
        if place <= len(timeline["questions"])
    ]
