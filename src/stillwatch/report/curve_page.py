"""The copy curves of a run as one HTML page, from the dictionary of curve.json."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from stillwatch.report.curve_page_chart import capability_chart, treadmill_chart
from stillwatch.report.curve_words import (
    answers,
    ends_text,
    form_line,
    headline,
    main_curve,
    purse_text,
    reach_cells,
)
from stillwatch.report.moat_page import Picture
from stillwatch.report.numbers import count, dollars, percent, plural
from stillwatch.report.page import picture_markup, render_page

_WIDE, _ALONE, _NARROW = (470.0, 310.0), (680.0, 360.0), (330.0, 270.0)
_TREADMILL, _TREADMILL_NARROW = (960.0, 330.0), (330.0, 270.0)
_MAX_FILES = 60
_AXES = ("questions", "output_tokens", "usd_asked", "usd")
_AXIS_TITLES = {
    "questions": "questions",
    "output_tokens": "output tokens",
    "usd_asked": "asking",
    "usd": "asking and training",
}


def curve_page(curves: Mapping[str, Any], meta: Mapping[str, Any]) -> str:
    """Render the page of a run's copy curves.

    Args:
        curves: what `CurveSet.as_dict()` gives, or the same read from curve.json.
        meta: about the run, all of it optional: `name`; `teacher`; `student`; `basis` (of the
            permission); `method`; `finished_at` (UTC epoch seconds); `version`; `prices`
            (where they are from); `command` (that makes the page anew); `verify` (that checks its
            files); `files` (mappings with `path`, `bytes`, `sha256`); `not_tested` (sentences).

    Returns:
        A whole page: no script, nothing fetched, readable in light and dark.
    """
    every = [*([curves["macro"]] if curves.get("macro") else []), *curves["curves"]]
    main = main_curve(curves)
    shown = [_card(curve, alone=len(every) == 1) for curve in every]
    return render_page(
        "curve.html.j2",
        {
            "title": f"Copy curve: {meta['name']}" if meta.get("name") else "Copy curve",
            "headline": headline(curves),
            "run_line": _run_line(meta, every or curves["outside"]),
            "answers": answers(curves),
            "curves": shown,
            "columns": 1 if len(shown) == 1 else 2,
            "outside": [
                _card(curve, alone=len(curves["outside"]) == 1) for curve in curves["outside"]
            ],
            "overview": _overview(every, curves["shares"]),
            "costs": _costs(main) if main else None,
            "treadmill": _treadmill(curves.get("treadmill") or []),
            "limits": _limits(every, meta),
            "meta": {key: meta.get(key) for key in ("command", "verify", "prices", "basis")},
            "files": list(meta.get("files") or [])[:_MAX_FILES],
            "more_files": max(len(meta.get("files") or []) - _MAX_FILES, 0),
            "draws": curves["draws"],
        },
    )


def _run_line(meta: Mapping[str, Any], every: Sequence[Mapping[str, Any]]) -> str:
    parts = [str(meta[key]) for key in ("name", "method") if meta.get(key)]
    if meta.get("teacher"):
        parts.append(f"teacher {meta['teacher']}")
    if meta.get("student"):
        parts.append(f"student {meta['student']}")
    if every:
        points = [p for p in every[0]["points"] if p["n_questions"] > 0]
        seeds = len({point["seed"] for point in points})
        budgets = len({point["n_questions"] for point in points})
        parts.append(f"{plural(budgets, 'budget')}, {plural(seeds, 'training seed')}")
    if meta.get("version"):
        parts.append(f"stillwatch {meta['version']}")
    if meta.get("finished_at"):
        parts.append(time.strftime("%-d %B %Y", time.gmtime(meta["finished_at"])))
    return " · ".join(parts)


def _card(curve: Mapping[str, Any], *, alone: bool = False) -> dict[str, Any]:
    reaches = [reach for reach in curve["reach"] if reach["of"] == "gap"]
    axes = [a for a in _AXES if a == "questions" or any(x["name"] == a for x in curve["axes"])]
    axes = [a for a in axes if a != "usd_asked" or "usd" not in axes]
    fit = curve.get("fit") or {}
    compared = sorted((fit.get("compared") or {}).items(), key=lambda entry: entry[1])
    return {
        "name": curve["skill"],
        "picture": Picture(
            picture_markup(capability_chart(curve, _ALONE if alone else _WIDE)),
            picture_markup(capability_chart(curve, _NARROW)),
        ),
        "columns": [_AXIS_TITLES[axis] for axis in axes],
        "reaches": [
            {
                "share": percent(reach["share"]),
                "cells": [reach_cells(reach, axis) for axis in axes],
                "extrapolated": reach["extrapolated"],
                "sentence": reach["sentence"],
                "reached": reach["reached"],
            }
            for reach in reaches
        ],
        "form": form_line(curve),
        "notes": curve["notes"],
        "compared": [
            (name, f"{100 * error:.1f}", percent(fit.get("drawn", {}).get(name)))
            for name, error in compared
        ],
        "bound": curve["bound"],
    }


def _overview(every: Sequence[Mapping[str, Any]], shares: Sequence[float]) -> dict[str, Any] | None:
    """Lay all capabilities out against the shares of the gap, when there are several."""
    if len(every) < 2:
        return None
    rows = []
    for curve in every:
        own = {reach["share"]: reach for reach in curve["reach"] if reach["of"] == "gap"}
        cells = [
            {
                "text": reach_cells(own[share], "questions") if share in own else "no clear gap",
                "extrapolated": share in own and own[share]["extrapolated"],
            }
            for share in shares
        ]
        rows.append({"name": curve["skill"], "cells": cells})
    return {"shares": [percent(share) for share in shares], "rows": rows}


def _costs(curve: Mapping[str, Any]) -> dict[str, Any] | None:
    """Tell what each budget came to and what it brought."""
    closed = curve["gap"]["closed"]
    if not closed:
        return None
    axes = [a for a in curve["axes"] if a["name"] in {"kept", "output_tokens", "usd_asked", "usd"}]
    rows = []
    for i, row in enumerate(closed):
        values = [axis["at"][i][1] for axis in axes]
        gap = row["gap_closed"]
        rows.append({
            "n": count(row["n_questions"]),
            "values": [
                dollars(value) if axis["is_money"] else count(value)
                for axis, value in zip(axes, values, strict=True)
            ],
            "ratio": _with_ends(row["ratio"]),
            "gap": _with_ends(gap) if gap else "no clear gap",
        })
    return {"name": curve["skill"], "labels": [axis["label"] for axis in axes], "rows": rows}


def _with_ends(value: Sequence[float]) -> str:
    ends = ends_text(percent(value[1]), percent(value[2]))
    return f"{percent(value[0])} {ends}"


def _treadmill(leads: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    if not leads:
        return None
    rows = [
        {
            "purse": purse_text(lead) if entry is lead["overtaken"][0] else "",
            "share": percent(entry["share"]),
            "days": _days(entry),
            "lead": ("at least " if entry["is_least"][0] else "") + percent(entry["lead"][0]),
            "extrapolated": entry["extrapolated"],
        }
        for lead in leads
        for entry in lead["overtaken"]
    ]
    return {
        "capability": leads[0]["capability"],
        "released": leads[0]["released"],
        "successors": leads[0]["successors"],
        "delay": leads[0]["delay_days"],
        "training": leads[0]["training_days"],
        "picture": Picture(
            picture_markup(treadmill_chart(leads, _TREADMILL)),
            picture_markup(treadmill_chart(leads, _TREADMILL_NARROW)),
        ),
        "purses": [
            {"text": f"{purse_text(lead)} a day", "style": f"purse-{i % 3}"}
            for i, lead in enumerate(leads)
        ],
        "rows": rows,
        "needed": _needed(leads[0]),
    }


def _days(entry: Mapping[str, Any]) -> str:
    if entry["days"] is None:
        return "not reached"
    ends = [None if entry[end] is None else count(entry[end]) for end in ("low", "high")]
    return f"{count(entry['days'])} {ends_text(*ends)}"


def _needed(lead: Mapping[str, Any]) -> str:
    """Tell what purse would be in time for the first successor."""
    told = [
        f"{percent(entry['share'])}: {purse_text({**lead, 'per_day': entry['per_day_needed']})}"
        for entry in lead["overtaken"]
        if entry["per_day_needed"] is not None
    ]
    return "; ".join(told)


def _limits(every: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]) -> list[str]:
    told = [
        "Budgets are nested: every student learnt from the same questions in the same order, so "
        "the luck of which questions came first shows only in how points stray from the line.",
        "The curve is of this student, this training and these held-out items. A larger student, "
        "other questions or longer training make another curve.",
    ]
    if any(curve["gap"]["untouched"] is None for curve in every):
        told.append("No untouched student was scored: 0 stands for it, and flatters the gap.")
    return [*told, *(meta.get("not_tested") or [])]
