"""The strength of every accusation on one scale of rarity, with the marks fixed before."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from stillwatch.report.numbers import one_in
from stillwatch.report.svg import (
    Scale,
    bottom_axis,
    circle,
    diamond,
    line,
    picture,
    rect,
    text,
)

#: More rows than this are a table's business.
MAX_ROWS = 12
_TICKS = (0, 1, 3, 6, 10, 20, 30, 60, 100, 200, 300)


def accusations_chart(report: Mapping[str, Any], width: float = 940) -> str:
    """Draw accusations, the worst innocent and the luckiest decoy.

    The scale is the square root of the number of zeros in "1 in 1000...": it keeps chance apart
    from suspicion on the left and still has room for a proof on the right.

    Args:
        report: what `verdict_page.render_verdict` takes.
        width: pixels.

    Returns:
        The picture.
    """
    rows = chart_rows(report)
    height = 62 + 40 * len(rows)
    bottom = height - 40
    marks = [-math.log10(report["plan"][key]) for key in ("strong", "proved")]
    most = max([marks[1] * 1.6, *(row[1] for row in rows)]) * 1.05
    x = Scale(0, most, 12, width - 16, kind="root")
    narrow = width < 500
    parts = [
        rect((x(marks[1]), 20), (x.end - x(marks[1]), bottom - 20), style="zone"),
        *(line((x(at), 20), (x(at), bottom), style="guide") for at in marks),
        text(x(marks[0]), 13, "strong", style="tick", anchor="middle"),
        text(x(marks[1]) + 2, 13, "proved from here", style="tick"),
    ]
    for i, (name, value, style) in enumerate(rows):
        y = 46 + 40 * i
        shape = diamond if style == "walled" else circle
        parts.append(text(12, y - 10, name if not narrow else _short(name), style="label"))
        parts.append(line((x(0), y), (x(value), y), style=f"stem {style}-stem"))
        parts.append(shape((x(value), y), 6, style=style, hint=f"{name}: {one_in(-value)}"))
    shown = [v for v in _TICKS if v <= most and not (narrow and v in {1, 10, 30, 200})]
    labels = [(float(v), "certain" if v == 0 else one_in(-float(v))) for v in _thinned(shown, x)]
    parts.append(bottom_axis(x, bottom, labels))
    parts.append(text(width / 2, height - 6, "chance that luck alone does it", anchor="middle"))
    told = "; ".join(f"{name}: {one_in(-value)}" for name, value, _ in rows)
    return picture((width, height), "How strong the evidence is", f"{told}.", *parts)


def chart_rows(report: Mapping[str, Any]) -> list[tuple[str, float, str]]:
    """List what the picture shows.

    Args:
        report: as for `accusations_chart`.

    Returns:
        Name, zeros of "1 in ..." and style of each mark.
    """
    rows = [
        (f"{one['suspect']}: {one['claim']}", _zeros(one["adjusted_log10_p"]), "student")
        for one in report["accusations"][:MAX_ROWS]
    ]
    audit = report["audit"]
    if audit["innocents"]["n"]:
        worst = audit["innocents"]
        name = f"{worst['worst']}, the worst of {worst['n']} innocent models"
        rows.append((name, _zeros(worst["worst_log10_p"]), "innocent"))
    if audit["decoys"]:
        luckiest = min(audit["decoys"], key=lambda one: float(one["worst_log10_p"]))
        n = sum(one["n"] for one in audit["decoys"])
        name = f"the luckiest of {n:,} draws that nobody used"
        rows.append((name, _zeros(luckiest["worst_log10_p"]), "decoy"))
    return rows


def _zeros(log10_p: float) -> float:
    return max(-log10_p, 0.0)


def _short(name: str) -> str:
    return name if len(name) <= 46 else f"{name[:44]}..."


def _thinned(values: Sequence[float], x: Scale) -> list[float]:
    """Keep ticks whose words do not run into each other."""
    kept: list[float] = []
    for value in values:
        room = 46 if value < 6 else 62
        if x(value) > x.end - 24:
            continue
        if not kept or x(value) - x(kept[-1]) >= room:
            kept.append(value)
    return kept
