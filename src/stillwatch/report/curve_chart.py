"""The copy curve as a picture: students as dots, the fit and its band, the teacher above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stillwatch.report.moat_words import reach_of
from stillwatch.report.numbers import count, dig, percent, rough
from stillwatch.report.svg import (
    Scale,
    bottom_axis,
    circle,
    diamond,
    grid,
    line,
    path,
    picture,
    text,
)

_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 14, 22, 44
#: Shares marked on the axis of every picture of a curve.
QUARTERS = [(v / 4, f"{25 * v}%") for v in range(5)]


def copy_curve_chart(curve: Mapping[str, Any], size: tuple[float, float] = (380, 280)) -> str:
    """Draw one capability: questions (log) against the share of held-out items answered right.

    Args:
        curve: a curve of the moat dictionary.
        size: width and height, pixels.

    Returns:
        The picture.
    """
    width, height = size
    points: Sequence[Mapping[str, Any]] = [
        p for p in curve.get("points") or [] if p["n_questions"] > 0
    ]
    wall_on = curve.get("wall_on") or {}
    asked = [float(p["n_questions"]) for p in points]
    if wall_on.get("n_questions"):
        asked.append(float(wall_on["n_questions"]))
    low, high = (min(asked) * 0.85, max(asked) * 1.18) if asked else (100.0, 1000.0)
    x = Scale(low, high, _LEFT, width - _RIGHT, kind="log")
    y = Scale(0, 1, height - _BOTTOM, _TOP)
    parts = [
        grid(y, (_LEFT, width - _RIGHT), QUARTERS),
        bottom_axis(x, y(0), [(v, count(v)) for v in x.ticks(5)]),
        text((x.start + x.end) / 2, height - 8, "questions asked", anchor="middle"),
        teacher_level(curve.get("teacher_share"), x, y),
        line_and_band(curve.get("fit"), x, y),
        _guide(curve, x, y),
        *(student_dot(point, x, y) for point in points),
        _walled(wall_on, x, y),
    ]
    return picture(size, f"Copy curve: {curve['skill']}", _describe(curve, points), *parts)


def teacher_level(share: float | None, x: Scale, y: Scale) -> str:
    """Draw the teacher's share across the picture.

    Args:
        share: 0..1, or None.
        x: the picture's axis of questions.
        y: the picture's axis of shares.

    Returns:
        The markup, "" without a share.
    """
    if share is None:
        return ""
    level = line((x.start, y(share)), (x.end, y(share)), style="teacher")
    return level + text(x.start + 4, y(share) - 6, f"teacher {percent(share)}")


def line_and_band(drawn: Mapping[str, Any] | None, x: Scale, y: Scale, *, style: str = "") -> str:
    """Draw a fitted line over its band.

    Args:
        drawn: with `line` and `band`, or None.
        x: the picture's axis of questions.
        y: the picture's axis of shares.
        style: a class for both beside their own, with a space before it.

    Returns:
        The markup, "" where nothing was fitted.
    """
    if not drawn:
        return ""
    upper = [(x(n), y(high)) for n, _, high in drawn["band"]]
    lower = [(x(n), y(low)) for n, low, _ in reversed(drawn["band"])]
    band = path([*upper, *lower], style=f"band{style}", closed=True)
    return band + path([(x(n), y(share)) for n, share in drawn["line"]], style=f"fit{style}")


def _guide(curve: Mapping[str, Any], x: Scale, y: Scale) -> str:
    """Drop a line from the curve at 80% of the teacher to the axis, where it is measured."""
    reach = reach_of(curve, 0.8)
    if not reach or not reach["reached"] or not x.low <= reach["n_questions"] <= x.high:
        return ""
    share, at = 0.8 * curve["teacher_share"], x(reach["n_questions"])
    down = path([(x.start, y(share)), (at, y(share)), (at, y(0))], style="guide")
    # Left of a rising curve, above the line, nothing else is drawn.
    words = f"80% of it: {rough(reach['n_questions'])}"
    return down + text(x.start + 4, y(share) - 5, words, style="label strong")


def student_dot(point: Mapping[str, Any], x: Scale, y: Scale) -> str:
    """Draw a student with the interval of its share.

    Args:
        point: a point of the curve.
        x: the picture's axis of questions.
        y: the picture's axis of shares.

    Returns:
        The markup.
    """
    at = x(point["n_questions"])
    whisker = line((at, y(point["low"])), (at, y(point["high"])), style="whisker")
    return whisker + circle((at, y(point["share"])), 4, style="student", hint=point_hint(point))


def point_hint(point: Mapping[str, Any]) -> str:
    """Tell what a student is, for whoever points at it.

    Args:
        point: a point of the curve.

    Returns:
        The text.
    """
    told = f"{count(point['n_questions'])} questions, seed {point['seed']}: "
    told += percent(point["share"])
    if point.get("steps"):
        told += f", {count(point['steps'])} steps"
    return told


def _walled(wall_on: Mapping[str, Any], x: Scale, y: Scale) -> str:
    if not wall_on.get("n_questions") or wall_on.get("share") is None:
        return ""
    at, share = x(wall_on["n_questions"]), wall_on["share"]
    hint = f"with the wall: {count(wall_on['n_questions'])} questions, {percent(share)}"
    parts = []
    if wall_on.get("low") is not None:
        parts.append(line((at, y(wall_on["low"])), (at, y(wall_on["high"])), style="whisker cool"))
    parts.append(diamond((at, y(share)), 6.5, style="walled", hint=hint))
    # Above the mark and, near the right edge, to its left: the curve runs below and to the right.
    anchor = "end" if at > x.end - 110 else "start"
    shift = 4 if anchor == "end" else -4
    above = max(y(share) - 14, y.end + 24)
    parts.append(
        text(at + shift, above, f"with wall {percent(share)}", style="label cool", anchor=anchor)
    )
    return "".join(parts)


def describe_curve(curve: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> str:
    """Tell in words what a picture of a curve shows.

    Args:
        curve: the curve.
        points: its students.

    Returns:
        Sentences.
    """
    told = [f"{count(p['n_questions'])} questions gave {percent(p['share'])}" for p in points]
    teacher = f"The teacher answers {percent(curve.get('teacher_share'))}."
    return f"{teacher} Students: {'; '.join(told) or 'none'}."


def _describe(curve: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> str:
    with_wall = dig(curve, "wall_on.share")
    ending = f" With the wall: {percent(with_wall)}." if with_wall is not None else ""
    return describe_curve(curve, points) + ending
