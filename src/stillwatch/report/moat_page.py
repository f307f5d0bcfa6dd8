"""The moat report as one HTML page, from the dictionary of moat.json."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from stillwatch.report.curve_chart import copy_curve_chart
from stillwatch.report.moat_rows import Row, cost_rows, got_text, proof_rows, wall_rows
from stillwatch.report.moat_words import headline, summary_sentences
from stillwatch.report.numbers import MISSING, count, dig, p_text, percent
from stillwatch.report.page import picture_markup, render_page
from stillwatch.report.proof_chart import evidence_chart, uniform_chart
from stillwatch.report.time_chart import campaign_days_chart, day_top, detection_days_chart
from stillwatch.report.web_chart import web_charts

Report = Mapping[str, Any]

_NARROW = (350.0, 180.0)
# A page opened on a phone should not carry more: the rest is in moat.json.
_MAX_EVENTS, _MAX_CAMPAIGNS, _MAX_FILES = 12, 8, 60


class _Open(dict[str, Any]):
    """A mapping whose missing entries read as None: the page then says "not measured"."""

    def __missing__(self, key: str) -> None:
        return None


class Picture(NamedTuple):
    """One picture in two sizes; the page shows the one that fits.

    Attributes:
        wide: for a desktop.
        narrow: for a phone, or None when the wide one serves both.
    """

    wide: Markup
    narrow: Markup | None = None


def render_moat(report: Report) -> str:
    """Render the moat report.

    Args:
        report: the moat dictionary; a missing part of it is said to be missing.

    Returns:
        A whole page: no script, nothing fetched, readable in light and dark.
    """
    report = _open(report)
    return render_page(
        "moat.html.j2",
        {
            "title": "Moat report",
            "headline": headline(report),
            "run_line": _run_line(report),
            "findings": summary_sentences(report),
            "checks": [
                _Open(check, got_text=got_text(check["got"])) for check in report["checks"] or []
            ],
            "curves": _curves(report),
            "curve_columns": _curve_columns(report),
            "copy_line": _copy_line(report),
            "cost_rows": cost_rows(report),
            "prices": dig(report, "cost.prices"),
            "timelines": _timelines(report),
            "detection": _detection(report),
            "web": _web(report),
            "wall_groups": _wall_groups(report),
            "groups": dig(report, "world.honest_groups") or [],
            "proof": _proof(report),
            "fields": _fields(report),
            "not_tested": report.get("not_tested") or [],
            "verify": _verify(report),
            "settings": dict(dig(report, "run.settings") or {}),
            "missing": MISSING,
        },
    )


def _open(data: Any) -> Any:
    if isinstance(data, Mapping):
        return _Open({key: _open(value) for key, value in data.items()})
    if isinstance(data, list | tuple):
        return [_open(value) for value in data]
    return data


def _wall_groups(report: Report) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in wall_rows(report):
        groups.setdefault(row.group, []).append(row)
    return groups


def _run_line(report: Report) -> str:
    run = report.get("run") or {}
    parts = [f"{run.get('mode', '')} run".strip().capitalize()]
    if run.get("seed") is not None:
        parts.append(f"seed {run['seed']}")
    if run.get("days") is not None:
        parts.append(f"{run['days']} simulated days")
    if (honest := dig(report, "world.honest_accounts")) is not None:
        campaign = dig(report, "world.campaign_accounts")
        parts.append(f"{count(honest)} honest accounts and a campaign of {count(campaign)}")
    if run.get("version"):
        parts.append(f"stillwatch {run['version']}")
    if run.get("finished_at"):
        parts.append(time.strftime("%-d %B %Y", time.gmtime(run["finished_at"])))
    return " · ".join(parts)


def _curves(report: Report) -> list[dict[str, Any]]:
    """Order curves: all that was asked together, each asked skill, then the others."""
    skills = sorted(dig(report, "copy.skills") or [], key=lambda c: not c.get("asked", True))
    overall = dig(report, "copy.overall")
    shown = ([overall] if overall else []) + skills
    size = (300.0, 235.0) if _curve_columns(report) == 3 else (470.0, 290.0)
    return [
        {
            "name": curve["skill"],
            "asked": curve.get("asked", True),
            "picture": Picture(
                picture_markup(copy_curve_chart(curve, size)),
                picture_markup(copy_curve_chart(curve, (320.0, 250.0))),
            ),
            "reaches": curve.get("questions_to") or [],
            "form": _form_line(curve),
            "notes": curve.get("notes") or [],
        }
        for curve in shown
    ]


def _curve_columns(report: Report) -> int:
    """Set curves in rows of three, unless that would leave one alone."""
    n = len(dig(report, "copy.skills") or []) + bool(dig(report, "copy.overall"))
    return 2 if n in {1, 2, 4} else 3


def _form_line(curve: Mapping[str, Any]) -> str:
    fit = curve.get("fit")
    if not fit:
        return "No line was fitted."
    line = f"Line: {fit['form']}"
    if fit.get("held_out_error") is not None:
        rivals = len(fit.get("compared") or {})
        line += f", the best of {rivals} forms (error {100 * fit['held_out_error']:.1f} points"
        line += ", larger budgets held out)" if fit.get("held_out") else ")"
    if fit.get("asymptote") is not None:
        ends = f"{percent(fit['asymptote_low'])} to {percent(fit['asymptote_high'])}"
        line += f". It levels off at {percent(fit['asymptote'])} ({ends})"
    return line + "."


def _copy_line(report: Report) -> str:
    student, teacher = dig(report, "copy.student") or {}, dig(report, "copy.teacher") or {}
    parts = []
    if student.get("parameters") and teacher.get("parameters"):
        parts.append(
            f"The copies are models of {count(student['parameters'])} parameters; the teacher has "
            f"{count(teacher['parameters'])}."
        )
    if (items := dig(report, "copy.held_out_items")) is not None:
        seeds = len(student.get("seeds") or [0])
        trained = "once" if seeds == 1 else f"{seeds} times, with different seeds"
        parts.append(
            f"Each was trained {trained} and scored on {count(items)} questions that nobody asked "
            "during the campaign."
        )
    return " ".join(parts)


def _timelines(report: Report) -> list[dict[str, Any]]:
    runs = [(name, dig(report, f"runs.{name}")) for name in ("off", "on")]
    shown = [(name, run) for name, run in runs if run and run.get("days")]
    top = day_top([run for _, run in shown])
    titles = {
        "off": "Wall off: verdicts are written down, nothing is done",
        "on": "Wall on: verdicts act",
    }
    return [
        {
            "title": titles[name],
            "picture": Picture(
                picture_markup(campaign_days_chart(run, titles[name], top=top)),
                picture_markup(campaign_days_chart(run, titles[name], top=top, size=_NARROW)),
            ),
            "events": (run.get("events") or [])[:_MAX_EVENTS],
            "more": max(len(run.get("events") or []) - _MAX_EVENTS, 0),
        }
        for name, run in shown
    ]


def _detection(report: Report) -> dict[str, Any] | None:
    detection = dig(report, "runs.off.detection")
    if not detection:
        return None
    by_day = detection.get("by_day") or []
    days = dig(report, "run.days") or max((d["day"] for d in by_day), default=1)
    campaigns = [
        _Open(campaign, p_text=p_text(campaign.get("p_value"), campaign.get("log10_p")))
        for campaign in (detection.get("campaigns") or [])[:_MAX_CAMPAIGNS]
    ]
    chart = picture_markup(detection_days_chart(by_day, int(days))) if by_day else None
    return {"figures": detection, "chart": chart, "campaigns": campaigns}


def _web(report: Report) -> dict[str, Any] | None:
    graph = report.get("graph")
    if not graph or not graph.get("nodes"):
        return None
    traits = any(node.get("kind") == "trait" for node in graph["nodes"])
    picture = Picture(*map(picture_markup, web_charts(graph, [(960.0, 560.0), (360.0, 400.0)])))
    return {"picture": picture, "note": graph.get("note", ""), "traits": traits}


def _proof(report: Report) -> dict[str, Any] | None:
    proof = report.get("proof")
    if not proof:
        return None
    decoys = [
        {
            "title": title,
            "picture": picture_markup(uniform_chart(p_values, title)),
            "ks": p_text(dig(proof, f"{key}.ks_p_value")),
        }
        for key, title in (
            ("decoys", "Wrong keys on the marked student"),
            ("innocent_decoys", "Wrong keys on the innocent student"),
        )
        if (p_values := dig(proof, f"{key}.p_values"))
    ]
    evidence = Picture(
        picture_markup(evidence_chart(proof)), picture_markup(evidence_chart(proof, (360.0, 210.0)))
    )
    suspects = [
        _Open(suspect, short=short)
        for key, short in (("marked", "marked"), ("innocent", "innocent"))
        if (suspect := proof.get(key)) is not None
    ]
    return {
        "evidence": evidence,
        "decoys": decoys,
        "suspects": suspects,
        "rows": proof_rows(report, suspects),
    }


def _fields(report: Report) -> list[tuple[str, float]]:
    fields: Mapping[str, float | None] = dig(report, "world.trivial_fields") or {}
    return sorted(
        ((name, auc) for name, auc in fields.items() if auc is not None), key=lambda f: -f[1]
    )


def _verify(report: Report) -> dict[str, Any] | None:
    verify = report.get("verify")
    if not verify:
        return None
    files: Sequence[Mapping[str, Any]] = verify.get("files") or []
    return {
        "command": verify.get("command", ""),
        "files": files[:_MAX_FILES],
        "more": max(len(files) - _MAX_FILES, 0),
        "run": dig(report, "run.command") or "",
    }
