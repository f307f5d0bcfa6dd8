"""The questions of a day as bars: answered, touched, refused."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from markupsafe import Markup

from stillwatch.guard.admin.traffic import REFUSALS
from stillwatch.report.numbers import count
from stillwatch.report.page import picture_markup
from stillwatch.report.svg import Scale, bottom_axis, grid, picture, rect

_DAY_S: Final = 86_400.0
_QUIET: Final = ("strip", "watermark", "canary", "log_full")
_STYLES: Final = ("answered", "would", "touched", "refused")


class Pictures(NamedTuple):
    """One chart in two widths.

    Attributes:
        wide: for a desktop.
        narrow: for a phone.
    """

    wide: Markup
    narrow: Markup


def traffic_pictures(minutes: Sequence[tuple[float, Mapping[str, int]]], now: float) -> Pictures:
    """Draw the questions of the last day.

    Args:
        minutes: (beginning, counts) of the minutes that had questions.
        now: UTC epoch seconds.

    Returns:
        The chart.
    """
    wide = _draw(minutes, now, size=(1000.0, 190.0), n_bins=96)
    narrow = _draw(minutes, now, size=(340.0, 170.0), n_bins=48)
    return Pictures(picture_markup(wide), picture_markup(narrow))


def _draw(
    minutes: Sequence[tuple[float, Mapping[str, int]]],
    now: float,
    *,
    size: tuple[float, float],
    n_bins: int,
) -> str:
    span_s = _DAY_S / n_bins
    end = (now // span_s + 1) * span_s
    bins = [Counter[str]() for _ in range(n_bins)]
    for at, counts in minutes:
        place = n_bins - 1 - int((end - at - 1e-6) // span_s)
        if 0 <= place < n_bins:
            bins[place].update(_parts(counts))
    width, height = size
    top = max((sum(found.values()) for found in bins), default=0)
    up = Scale(0.0, float(max(top, 1)), height - 26, 12)
    across = Scale(end - _DAY_S, end, 46, width - 4)
    parts = [grid(up, (across.start, across.end), [(0.0, "0"), (up.high, count(up.high))])]
    step = (across.end - across.start) / n_bins
    for place, found in enumerate(bins):
        base = 0.0
        for style in _STYLES:
            n = found[style]
            if n:
                corner = across.start + place * step + 0.5, up(base + n)
                hint = f"{_clock(end - (n_bins - place) * span_s)}: {count(n)} {style}"
                box = max(step - 1.0, 1.0), up(base) - up(base + n)
                parts.append(rect(corner, box, style=f"bars-{style}", hint=hint))
                base += n
    hours = 6 if width < 500 else 3
    first = (end - _DAY_S) // 3600 // hours * hours * 3600
    labels = [(first + i * hours * 3600.0, "") for i in range(1, 24 // hours + 1)]
    shown = [(at, _clock(at)) for at, _ in labels if across.low < at < across.high]
    parts.append(bottom_axis(across, height - 26, shown))
    total = sum(sum(found.values()) for found in bins)
    return picture(size, "Questions of the last day", f"{count(total)} questions.", *parts)


def _parts(counts: Mapping[str, int]) -> dict[str, int]:
    refused = sum(counts.get(name, 0) for name in REFUSALS)
    touched = sum(counts.get(name, 0) for name in _QUIET)
    would = sum(n for name, n in counts.items() if name.startswith("would "))
    rest = counts.get("questions", 0) - refused - touched - would
    return {"answered": max(rest, 0), "would": would, "touched": touched, "refused": refused}


def _clock(at: float) -> str:
    return time.strftime("%H:%M", time.gmtime(at))
