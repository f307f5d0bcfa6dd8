"""Scalable pictures as text: elements, scales and axes; colours come from the page's style sheet.

A picture is drawn at one size in pixels and scales with its column. Every colour is a class, so
that one picture serves light and dark pages; every picture carries a title and a description.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

Attributes = Mapping[str, str | float]


def element(name: str, attributes: Attributes, *content: str) -> str:
    """Write one element; attribute values are escaped, content is trusted markup.

    Args:
        name: the tag.
        attributes: by name; numbers are rounded to a tenth of a pixel.
        content: markup between the tags, already escaped.

    Returns:
        The markup.

    Example:
        >>> element("line", {"x1": 1.234, "class": "axis"})
        '<line x1="1.2" class="axis"/>'
    """
    written = "".join(f' {key}="{_value(value)}"' for key, value in attributes.items())
    inner = "".join(content)
    return f"<{name}{written}>{inner}</{name}>" if inner else f"<{name}{written}/>"


def text(x: float, y: float, words: str, *, style: str = "label", anchor: str = "start") -> str:
    """Write words at a point of the baseline.

    Args:
        x: pixels from the left.
        y: pixels from the top.
        words: plain text, escaped here.
        style: class of the style sheet.
        anchor: start, middle or end.

    Returns:
        The markup.
    """
    attributes: Attributes = {"x": x, "y": y, "class": style, "text-anchor": anchor}
    return element("text", attributes, escape(words))


def path(points: Iterable[tuple[float, float]], *, style: str, closed: bool = False) -> str:
    """Draw a line through points.

    Args:
        points: pixels.
        style: class of the style sheet.
        closed: whether the last point joins the first.

    Returns:
        The markup, "" without points.
    """
    steps = " L".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return (
        element("path", {"d": f"M{steps}{'Z' if closed else ''}", "class": style}) if steps else ""
    )


def line(start: tuple[float, float], end: tuple[float, float], *, style: str) -> str:
    """Draw one straight line.

    Args:
        start: pixels.
        end: pixels.
        style: class of the style sheet.

    Returns:
        The markup.
    """
    ends: Attributes = {"x1": start[0], "y1": start[1], "x2": end[0], "y2": end[1], "class": style}
    return element("line", ends)


def rect(
    corner: tuple[float, float], size: tuple[float, float], *, style: str, hint: str = ""
) -> str:
    """Draw a rectangle.

    Args:
        corner: its upper left, pixels.
        size: width and height, pixels; nothing is drawn when one is not positive.
        style: class of the style sheet.
        hint: text shown when pointed at, "" for none.

    Returns:
        The markup.
    """
    if min(size) <= 0:
        return ""
    attributes: Attributes = {
        "x": corner[0],
        "y": corner[1],
        "width": size[0],
        "height": size[1],
        "class": style,
    }
    return element("rect", attributes, _hint(hint))


def circle(centre: tuple[float, float], radius: float, *, style: str, hint: str = "") -> str:
    """Draw a disc.

    Args:
        centre: pixels.
        radius: pixels.
        style: class of the style sheet.
        hint: text shown when pointed at, "" for none.

    Returns:
        The markup.
    """
    attributes: Attributes = {"cx": centre[0], "cy": centre[1], "r": radius, "class": style}
    return element("circle", attributes, _hint(hint))


def diamond(centre: tuple[float, float], radius: float, *, style: str, hint: str = "") -> str:
    """Draw a square standing on its corner: a second shape, for those who do not see colour.

    Args:
        centre: pixels.
        radius: from the centre to a corner, pixels.
        style: class of the style sheet.
        hint: text shown when pointed at, "" for none.

    Returns:
        The markup.
    """
    x, y = centre
    corners = (
        f"M{x:.1f},{y - radius:.1f} l{radius},{radius} l-{radius},{radius} l-{radius},-{radius}Z"
    )
    return element("path", {"d": corners, "class": style}, _hint(hint))


def picture(size: tuple[float, float], title: str, description: str, *content: str) -> str:
    """Wrap markup into a picture that a screen reader can tell.

    Args:
        size: width and height, pixels; the page scales it to its column.
        title: what it shows, a few words.
        description: what is to be seen in it, a sentence.
        content: markup.

    Returns:
        The picture.
    """
    width, height = size
    attributes: Attributes = {
        "viewBox": f"0 0 {width:g} {height:g}",
        "role": "img",
        "class": "chart",
    }
    told = element("title", {}, escape(title)) + element("desc", {}, escape(description))
    return element("svg", attributes, told, *content)


@dataclass(frozen=True)
class Scale:
    """A map from values to pixels.

    Attributes:
        low: value at `start`.
        high: value at `end`, above `low`.
        start: pixels.
        end: pixels; below `start` for a vertical axis.
        kind: linear; log (both values above 0); root, which opens up the small values.
    """

    low: float
    high: float
    start: float
    end: float
    kind: Literal["linear", "log", "root"] = "linear"

    def __call__(self, value: float) -> float:
        """Place a value, held to the axis's ends."""
        held = min(max(value, self.low), self.high)
        way = (self._bend(held) - self._bend(self.low)) / (
            self._bend(self.high) - self._bend(self.low)
        )
        return self.start + way * (self.end - self.start)

    def ticks(self, most: int = 5) -> list[float]:
        """Choose round values, at most `most` of them, between the ends."""
        if self.kind == "log":
            return _log_ticks(self.low, self.high, most=most)
        if self.kind == "root":
            ladder = [0, 1, 3, 10, 30, 60, 100, 200, 400, 800, 1600, 3200, 6400, 12800]
            return [float(v) for v in ladder if self.low <= v <= self.high]
        step = _round_up((self.high - self.low) / max(most, 1))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(i * step, 12) for i in range(first, last + 1)]

    def _bend(self, value: float) -> float:
        if self.kind == "log":
            return math.log(value)
        return math.sqrt(value - self.low) if self.kind == "root" else value


def grid(scale: Scale, across: tuple[float, float], labels: Sequence[tuple[float, str]]) -> str:
    """Draw faint horizontal lines with their values on the left.

    Args:
        scale: the vertical axis.
        across: left and right end of the lines, pixels.
        labels: value and text of each.

    Returns:
        The markup.
    """
    left, right = across
    parts = []
    for value, words in labels:
        y = scale(value)
        parts.append(line((left, y), (right, y), style="base" if value == scale.low else "grid"))
        parts.append(text(left - 6, y + 4, words, style="tick", anchor="end"))
    return "".join(parts)


def bottom_axis(scale: Scale, y: float, labels: Sequence[tuple[float, str]]) -> str:
    """Write values below the bottom line, with short ticks.

    Args:
        scale: the horizontal axis.
        y: the bottom line, pixels.
        labels: value and text of each.

    Returns:
        The markup.
    """
    parts = [line((scale.start, y), (scale.end, y), style="base")]
    for value, words in labels:
        x = scale(value)
        parts.append(line((x, y), (x, y + 4), style="base"))
        parts.append(text(x, y + 17, words, style="tick", anchor="middle"))
    return "".join(parts)


def _value(value: str | float) -> str:
    return escape(value) if isinstance(value, str) else f"{round(value, 1):g}"


def _hint(words: str) -> str:
    return element("title", {}, escape(words)) if words else ""


def _round_up(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step)) if step > 0 else 1.0
    return next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= step * (1 - 1e-9))


def _log_ticks(low: float, high: float, *, most: int) -> list[float]:
    """Take 1, 2, 5 of each decade while they fit, else 1 and 3, else whole decades."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    inside: list[float] = []
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [m * 10.0**d for d in decades for m in steps]
        inside = [t for t in ticks if low * 0.999 <= t <= high * 1.001]
        if len(inside) <= most:
            break
    return inside[:: math.ceil(len(inside) / most) or 1]
