"""The campaign over the days as a picture: what it got, what it was refused, and the alarm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stillwatch.report.numbers import count, plural
from stillwatch.report.svg import Scale, bottom_axis, circle, grid, line, path, picture, rect, text

_LEFT, _RIGHT, _BOTTOM = 44, 12, 40
_LANE = 15  # height of one line of event labels
_EVENTS_SHOWN = ("start", "alarm", "throttle", "watermark", "block")


def day_top(runs: Sequence[Mapping[str, Any]]) -> float:
    """Find the largest day of several runs, so that their pictures share one scale.

    Args:
        runs: runs of the moat dictionary.

    Returns:
        Campaign exchanges of that day (count), at least 1.
    """
    return max((_bar(day)[-1] for run in runs for day in run.get("days") or ()), default=1) or 1


def campaign_days_chart(
    run: Mapping[str, Any], title: str, *, top: float, size: tuple[float, float] = (760, 190)
) -> str:
    """Draw the campaign's exchanges day by day, with the first event of each kind on top.

    Args:
        run: a run of the moat dictionary.
        title: what distinguishes this run.
        top: exchanges (count) at the top of the axis.
        size: width, and height without the lanes of the events, pixels.

    Returns:
        The picture.
    """
    width, height = size
    days = run.get("days") or []
    events = _first_of_each(run.get("events") or [])
    ceiling = 10 + _LANE * len(events)
    height += ceiling
    x = Scale(0, max((day["day"] for day in days), default=0) + 1, _LEFT, width - _RIGHT)
    y = Scale(0, top * 1.05, height - _BOTTOM, ceiling + 4)
    parts = [grid(y, (_LEFT, width - _RIGHT), [(v, count(v)) for v in y.ticks(4)])]
    parts.extend(_day(day, x, y) for day in days)
    step = 1 if width > 500 else 2
    labels = [(day["day"] + 0.5, f"{day['day']}") for day in days if day["day"] % step == 0]
    parts.append(_day_labels(x, y(0), labels))
    parts.append(text((x.start + x.end) / 2, height - 6, "simulated day", anchor="middle"))
    for lane, event in enumerate(events):
        parts.append(_event(event, x, y, lane=lane))
    return picture((width, height), title, _describe(days, events), *parts)


def _bar(day: Mapping[str, Any]) -> list[float]:
    """Stack the parts of a day: tops of harvest, dilution, and what the wall turned away."""
    harvest = day.get("harvest") or 0
    dilution = day.get("dilution") or 0
    stopped = (day.get("throttled") or 0) + (day.get("blocked") or 0)
    return [harvest, harvest + dilution, harvest + dilution + stopped]


def _day(day: Mapping[str, Any], x: Scale, y: Scale) -> str:
    tops = _bar(day)
    left, width = x(day["day"]) + 2, x(day["day"] + 1) - x(day["day"]) - 4
    names = ("questions answered", "ordinary-looking use answered", "turned away")
    styles = ("harvest", "dilution", "stopped")
    parts, below = [], 0.0
    for above, name, style in zip(tops, names, styles, strict=True):
        hint = f"day {day['day']}: {count(above - below)} {name}"
        size = (width, y(below) - y(above))
        parts.append(rect((left, y(above)), size, style=style, hint=hint))
        below = above
    return "".join(parts)


def _day_labels(x: Scale, y: float, labels: Sequence[tuple[float, str]]) -> str:
    return bottom_axis(x, y, []) + "".join(
        text(x(at), y + 16, words, style="tick", anchor="middle") for at, words in labels
    )


def _first_of_each(events: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Keep the first event of each kind, in order of time; the table below has them all."""
    first: dict[str, Mapping[str, Any]] = {}
    for event in sorted(events, key=lambda e: float(e["day"])):
        if event["kind"] in _EVENTS_SHOWN:
            first.setdefault(event["kind"], event)
    return list(first.values())


def _event(event: Mapping[str, Any], x: Scale, y: Scale, *, lane: int) -> str:
    """Mark one event by a line through the days and a label in a lane of its own."""
    at, level = x(event["day"]), 12 + _LANE * lane
    kind = "alarm" if event["kind"] == "alarm" else "event"
    words = _label(event)
    left = at > (x.start + x.end) * 0.6
    label = text(
        at - 8 if left else at + 8,
        level + 4,
        words,
        style=f"label {kind}-text",
        anchor="end" if left else "start",
    )
    mark = circle((at, level), 3.5, style=f"{kind}-dot", hint=str(event.get("text", words)))
    return line((at, level), (at, y(0)), style=f"{kind}-line") + mark + label


def _label(event: Mapping[str, Any]) -> str:
    names = {
        "start": "campaign starts",
        "alarm": "first alarm",
        "throttle": "throttled",
        "watermark": "answers marked",
        "block": "blocked",
    }
    day = f"{event['day']:.1f}".removesuffix(".0")
    return f"{names[event['kind']]}, day {day}"


def _describe(days: Sequence[Mapping[str, Any]], events: Sequence[Mapping[str, Any]]) -> str:
    got = sum(_bar(day)[1] for day in days)
    stopped = sum(_bar(day)[2] - _bar(day)[1] for day in days)
    told = "; ".join(_label(event) for event in events) or "no event"
    fate = f"{plural(got, 'answer')}; {plural(stopped, 'request')} turned away"
    return f"The campaign got {fate}. {told}."


def detection_days_chart(
    by_day: Sequence[Mapping[str, Any]], days: int, *, size: tuple[float, float] = (380, 220)
) -> str:
    """Draw precision and recall of the accused accounts at the end of each day.

    Args:
        by_day: day, precision and recall of each day on which accounts stood accused.
        days: length of the axis.
        size: width and height, pixels.

    Returns:
        The picture.
    """
    width, height = size
    x = Scale(0, days, _LEFT, width - 66)
    y = Scale(0, 1, height - _BOTTOM, 14)
    parts = [grid(y, (x.start, x.end), [(v / 4, f"{25 * v}%") for v in range(5)])]
    step = 2 if days > 8 else 1
    parts.append(bottom_axis(x, y(0), [(float(d), str(d)) for d in range(0, days + 1, step)]))
    parts.append(text((x.start + x.end) / 2, height - 6, "simulated day", anchor="middle"))
    ends = []
    for key, style in (("recall", "harm-line"), ("precision", "wall-line")):
        at = [(x(d["day"]), y(d[key])) for d in by_day if d.get(key) is not None]
        parts.append(path(at, style=style))
        parts.extend(circle(p, 2.5, style=f"{style}-dot") for p in at)
        if at:
            ends.append((at[-1][1], key))
    for place, (end, key) in enumerate(sorted(ends)):
        # Two labels at one height would lie on each other; the lower one moves down a line.
        level = max(end, sorted(ends)[0][0] + 14 * place)
        style = "label cool" if key == "precision" else "label hot"
        parts.append(text(x.end + 6, level + 4, key, style=style))
    told = "; ".join(
        f"day {d['day']:g}: recall {d.get('recall')}, precision {d.get('precision')}"
        for d in by_day
    )
    return picture(size, "Accused accounts against the truth, day by day", f"{told}.", *parts)
