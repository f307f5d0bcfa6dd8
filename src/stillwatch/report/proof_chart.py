"""The proof as pictures: how strong the evidence is, and that wrong keys find nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from stillwatch.report.moat_words import INNOCENT_LOG10_P, PROVED_LOG10_P
from stillwatch.report.numbers import count, dig, p_text
from stillwatch.report.svg import (
    Scale,
    bottom_axis,
    circle,
    diamond,
    grid,
    line,
    picture,
    rect,
    text,
)


def evidence_chart(proof: Mapping[str, Any], size: tuple[float, float] = (760, 190)) -> str:
    """Draw the evidence of both students and of the luckiest wrong key on one scale of rarity.

    The scale is the square root of -log10 p: it keeps chance apart from suspicion on the left and
    still has room for a proof on the right.

    Args:
        proof: the proof of the moat dictionary.
        size: width and height, pixels.

    Returns:
        The picture.
    """
    width, height = size
    rows = _evidence(proof)
    most = max([14.0, *(value for _, value, _ in rows)]) * 1.08
    left, bottom = 12, height - 42
    x = Scale(0, most, left, width - 20, kind="root")
    bounds = ((-INNOCENT_LOG10_P, "0.01"), (-PROVED_LOG10_P, "proved"))
    parts = [
        rect((x(bounds[1][0]), 18), (x.end - x(bounds[1][0]), bottom - 18), style="zone"),
        *(line((x(at), 18), (x(at), bottom), style="guide") for at, _ in bounds),
        text(x(bounds[0][0]), 12, "p = 0.01", style="tick", anchor="middle"),
        text(x(bounds[1][0]), 12, "proved from here", style="tick", anchor="start"),
    ]
    step = (bottom - 24) / max(len(rows), 1)
    for i, (name, value, style) in enumerate(rows):
        y = 24 + step * (i + 0.5)
        shape = diamond if style == "walled" else circle
        parts.append(line((x(0), y), (x(value), y), style=f"stem {style}-stem"))
        parts.append(shape((x(value), y), 6, style=style, hint=name))
        near_right = x(value) > width * 0.55
        place = (x(value) - 12, "end") if near_right else (x(value) + 12, "start")
        above = y - 8 if near_right else y + 4
        parts.append(text(place[0], above, name, style="label", anchor=place[1]))
    ticks = [v for v in x.ticks() if not (width < 500 and v in {3, 60})]
    parts.append(bottom_axis(x, bottom, [(v, _odds(v)) for v in ticks]))
    parts.append(text(width / 2, height - 6, "chance of it by luck", anchor="middle"))
    told = "; ".join(f"{name}" for name, _, _ in rows)
    return picture(size, "Strength of the evidence", f"{told}.", *parts)


def uniform_chart(
    p_values: Sequence[float], title: str, *, size: tuple[float, float] = (380, 200)
) -> str:
    """Draw p-values of wrong keys in ten bins, with the flat line that chance would give.

    Args:
        p_values: one a key.
        title: whose answers the keys were tried on.
        size: width and height, pixels.

    Returns:
        The picture.
    """
    width, height = size
    bins = [0] * 10
    for value in p_values:
        bins[min(int(value * 10), 9)] += 1
    fair = len(p_values) / 10
    x = Scale(0, 1, 40, width - 12)
    y = Scale(0, max([*bins, fair * 1.3, 1]) * 1.08, height - 42, 16)
    parts = [
        grid(y, (x.start, x.end), [(v, count(v)) for v in y.ticks(3)]),
        bottom_axis(x, y(0), [(v / 5, f"{v / 5:g}") for v in range(6)]),
        text((x.start + x.end) / 2, height - 8, "p-value of a wrong key", anchor="middle"),
    ]
    for i, n in enumerate(bins):
        left, right = x(i / 10) + 1.5, x((i + 1) / 10) - 1.5
        hint = f"{n} keys between {i / 10:g} and {(i + 1) / 10:g}"
        parts.append(rect((left, y(n)), (right - left, y(0) - y(n)), style="decoy-bar", hint=hint))
    parts.append(line((x.start, y(fair)), (x.end, y(fair)), style="teacher"))
    parts.append(text(x.end, 10, "dashed: evenly spread", style="tick", anchor="end"))
    told = f"{len(p_values)} keys; per tenth: {', '.join(map(str, bins))}; expected {fair:g} each."
    return picture(size, title, told, *parts)


def _evidence(proof: Mapping[str, Any]) -> list[tuple[str, float, str]]:
    """List name, -log10 p and style of each mark on the scale, strongest last."""
    rows = []
    for key, style, name in (
        ("innocent", "innocent", "innocent student"),
        ("marked", "student", "student trained on marked answers"),
    ):
        log10_p = dig(proof, f"{key}.log10_p")
        if log10_p is not None:
            p = p_text(dig(proof, f"{key}.p_value"), log10_p)
            rows.append((f"{name}, p = {p}", max(-float(log10_p), 0.0), style))
    decoys = dig(proof, "decoys.p_values") or []
    if decoys:
        luckiest = min(decoys)
        words = f"luckiest of {len(decoys)} wrong keys, p = {p_text(luckiest)}"
        at = -math.log10(max(luckiest, 1e-308))
        rows.insert(min(1, len(rows)), (words, at, "decoy"))
    return rows


def _odds(minus_log10: float) -> str:
    if minus_log10 == 0:
        return "1"
    if minus_log10 == 1:
        return "1 in 10"
    return p_text(None, -minus_log10).split()[-1]
