"""The pictures of the curve page: one capability's curve, and the copy's progress over the days."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from stillwatch.report.curve_chart import (
    QUARTERS,
    describe_curve,
    line_and_band,
    point_hint,
    student_dot,
    teacher_level,
)
from stillwatch.report.numbers import count, dollars, percent, rough
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

_LEFT, _RIGHT, _BOTTOM = 44, 14, 44


def capability_chart(curve: Mapping[str, Any], size: tuple[float, float]) -> str:
    """Draw one capability: questions (log) against the share of held-out items answered right.

    Where dollars or tokens were counted, an axis above says what the questions came to.

    Args:
        curve: a curve of `CurveSet.as_dict()`.
        size: width and height, pixels.

    Returns:
        The picture.
    """
    width, height = size
    points: Sequence[Mapping[str, Any]] = [p for p in curve["points"] if p["n_questions"] > 0]
    beyond = (curve.get("fit") or {}).get("beyond")
    asked = [float(p["n_questions"]) for p in points] or [100.0, 1000.0]
    far = beyond["line"][-1][0] if beyond else max(asked) * 1.18
    above = _upper_axis(curve)
    x = Scale(min(asked) * 0.85, far, _LEFT, width - _RIGHT, kind="log")
    y = Scale(0, 1, height - _BOTTOM, 40 if above else 22)
    most = 5 if width > 400 else 4
    parts = [
        _unseen(max(asked), x, y) if beyond else "",
        grid(y, (_LEFT, width - _RIGHT), QUARTERS),
        bottom_axis(x, y(0), [(v, _short(v)) for v in x.ticks(most)]),
        text((x.start + x.end) / 2, height - 8, "questions asked", anchor="middle"),
        _second_axis(above, x, y, most=most) if above else "",
        teacher_level(curve["teacher_share"], x, y),
        _untouched((curve.get("gap") or {}).get("untouched"), x, y),
        line_and_band(curve.get("fit"), x, y),
        line_and_band(beyond, x, y, style=" beyond"),
        _guide(curve, x, y),
        *(student_dot(point, x, y) for point in points),
        *(_probe(point, x, y) for point in curve.get("probes") or []),
    ]
    return picture(size, f"Copy curve: {curve['skill']}", describe_curve(curve, points), *parts)


def treadmill_chart(leads: Sequence[Mapping[str, Any]], size: tuple[float, float]) -> str:
    """Draw the gap that each purse has closed by each day, with the successors' days.

    Args:
        leads: the treadmill's entries for one curve, at least one.
        size: width and height, pixels.

    Returns:
        The picture.
    """
    width, height = size
    first = leads[0]
    longest = max(first["reigns"])
    x = Scale(0, longest * 1.02, _LEFT, width - _RIGHT)
    y = Scale(0, 1, height - _BOTTOM, 30)
    released = date.fromisoformat(first["released"])
    ends = list(dict.fromkeys(first["reigns"]))
    parts = [
        grid(y, (_LEFT, width - _RIGHT), QUARTERS),
        bottom_axis(x, y(0), [(v, count(v)) for v in x.ticks(5 if width > 400 else 4)]),
        text((x.start + x.end) / 2, height - 8, "days after release", anchor="middle"),
        *(_purse(lead, x, y, shown=i) for i, lead in enumerate(leads)),
    ]
    for i, days in enumerate(ends):
        at = x(days)
        parts.append(line((at, y(0)), (at, y.end - 8), style="alarm-line"))
        day = released + timedelta(days=days)
        words = f"successor {day.isoformat()}" if i == 0 else f"next reign: {count(days)} days"
        anchor = "end" if at > x.start + 120 else "start"
        parts.append(
            text(
                at + (-5 if anchor == "end" else 5),
                y.end - 2 - 12 * (i % 2),
                words,
                style="label strong",
                anchor=anchor,
            )
        )
    return picture(size, "The treadmill", _tell_leads(leads), *parts)


def _upper_axis(curve: Mapping[str, Any]) -> Mapping[str, Any] | None:
    axes: dict[str, Mapping[str, Any]] = {a["name"]: a for a in curve.get("axes") or []}
    for name in ("usd", "usd_asked", "output_tokens"):
        if name in axes and axes[name]["at"][-1][1] > 0:
            return axes[name]
    return None


def _second_axis(axis: Mapping[str, Any], x: Scale, y: Scale, *, most: int) -> str:
    """Mark, above the picture, what each round number of questions came to."""
    level = y.end - 12
    parts = [line((x.start, level), (x.end, level), style="base")]
    told = axis["at"]
    step = max(1, -(-len(told) // most))
    for n, value in told[::-1][::step]:
        words = dollars(value) if axis["is_money"] else _short(value)
        parts.append(line((x(n), level), (x(n), level - 4), style="base"))
        parts.append(text(x(n), level - 8, words, style="tick", anchor="middle"))
    parts.append(text(x.end, level - 8, _unit(axis), style="tick", anchor="end"))
    return "".join(parts)


def _unit(axis: Mapping[str, Any]) -> str:
    return "tokens" if axis["name"] == "output_tokens" else ""


def _unseen(largest: float, x: Scale, y: Scale) -> str:
    """Mark where nothing was trained, so that a line drawn there is seen to be a promise."""
    edge = x(largest)
    words = text(x.end, y.start + 36, "not trained", style="tick", anchor="end")
    return line((edge, y.start), (edge, y.end), style="edge") + words


def _untouched(share: float | None, x: Scale, y: Scale) -> str:
    if share is None:
        return ""
    level = line((x.start, y(share)), (x.end, y(share)), style="teacher")
    # It lies low: its words go to the right, where the curve has left.
    words = f"untouched student {percent(share)}"
    return level + text(x.end - 2, y(share) - 5, words, anchor="end")


def _guide(curve: Mapping[str, Any], x: Scale, y: Scale) -> str:
    """Drop a line from the curve at 80 % of the gap to the axis, where it is measured."""
    gap = curve.get("gap") or {}
    reach = next(
        (r for r in curve.get("reach") or [] if r["of"] == "gap" and r["share"] == 0.8), None
    )
    if not reach or not reach["reached"] or not x.low <= reach["n_questions"] <= x.high:
        return ""
    start = gap.get("untouched") or 0.0
    share, at = start + 0.8 * (gap["teacher"] - start), x(reach["n_questions"])
    down = path([(x.start, y(share)), (at, y(share)), (at, y(0))], style="guide")
    words = f"80% of the gap: {rough(reach['n_questions'])}"
    return down + text(x.start + 4, y(share) + 13, words, style="label strong")


def _probe(point: Mapping[str, Any], x: Scale, y: Scale) -> str:
    at = (x(point["n_questions"]), y(point["share"]))
    return diamond(at, 6, style="walled", hint=f"{point_hint(point)}; trained longer")


def _purse(lead: Mapping[str, Any], x: Scale, y: Scale, *, shown: int) -> str:
    drawn = lead["line"]
    if not drawn:
        return ""
    band = path(
        [*((x(d), y(_held(high))) for d, _, _, high in drawn),
         *((x(d), y(_held(low))) for d, _, low, _ in reversed(drawn))],
        style=f"purse-band purse-{shown % 3}",
        closed=True,
    )  # fmt: skip
    start = (x(lead["delay_days"] + lead["training_days"]), y(0))
    told = [(x(day), y(_held(value))) for day, value, _, _ in drawn]
    curve = path([start, *told], style=f"purse purse-{shown % 3}")
    day, value, _, _ = drawn[-1]
    ends_early = day < 0.97 * x.high
    stop = circle((x(day), y(_held(value))), 3.5, style=f"purse-end purse-{shown % 3}")
    return band + curve + (stop if ends_early else "")


def _held(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def _short(value: float) -> str:
    """Write a large count in few characters."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            unit = 1e3 if letter == "k" else size
            return f"{value / unit:.3g}{letter}"
    return count(value)


def _tell_leads(leads: Sequence[Mapping[str, Any]]) -> str:
    return " ".join(
        f"{_short(lead['per_day'])} {lead['unit'].replace('_', ' ')} a day: "
        + " ".join(lead["sentences"])
        for lead in leads
    )
