"""The verdict about a suspect model as one HTML page, for a reader who is no statistician."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from stillwatch.report.moat_page import Picture
from stillwatch.report.numbers import count, one_in, p_text, percent
from stillwatch.report.page import picture_markup, render_page
from stillwatch.report.verdict_chart import MAX_ROWS, accusations_chart
from stillwatch.report.verdict_words import (
    DRAWS,
    answers,
    authority_text,
    claim_text,
    headline,
    likeness_text,
)

Report = Mapping[str, Any]
_MAX_FILES = 80


def render_verdict(report: Report) -> str:
    """Render a verdict.

    Args:
        report: plain data, as `trace.verdicts.data` makes it: `accusations`, `audit`, `similarity`,
            `unplanned` and `plan`, and where there are any `case`, `bundle`, `recomputed`, `run`.

    Returns:
        A whole page: no script, nothing fetched, readable in light and dark.
    """
    case = report.get("case") or {}
    return render_page(
        "verdict.html.j2",
        {
            "title": case.get("title") or "Verdict",
            "headline": headline(report),
            "run_line": _run_line(report),
            "facts": _facts(case, report["plan"]),
            "case_notes": case.get("notes") or (),
            "answers": answers(report),
            "picture": _picture(report),
            "more": max(len(report["accusations"]) - MAX_ROWS, 0),
            "accusations": [_accusation(one) for one in report["accusations"][:MAX_ROWS]],
            "draws": _draws(report),
            "rivals": report["accusations"][0]["rivals"],
            "accused": report["accusations"][0],
            "n_decoys": sum(one["n"] for one in report["audit"]["decoys"]),
            "audit": _audit(report["audit"]),
            "likeness": _likeness(report["similarity"]),
            "unplanned": [
                {"suspect": suspect, "test": one["test"], "draw": one.get("randomisation", "")}
                for suspect, found in report["unplanned"].items()
                for one in found
            ],
            "bundle": _bundle(report.get("bundle")),
            "recomputed": report.get("recomputed") or (),
            "command": (report.get("run") or {}).get("command"),
        },
    )


def _run_line(report: Report) -> str:
    case, run = report.get("case") or {}, report.get("run") or {}
    parts = [case.get("title", ""), f"by {case['made_by']}" if case.get("made_by") else ""]
    if run.get("made_at"):
        parts.append(time.strftime("%-d %B %Y", time.gmtime(run["made_at"])))
    if run.get("version"):
        parts.append(f"stillwatch {run['version']}")
    return " · ".join(part for part in parts if part)


def _facts(case: Mapping[str, Any], plan: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [
        ("Claim", case.get("claim")),
        ("Suspect", case.get("suspect")),
        ("Asked at", case.get("endpoint")),
        ("Asked", _asked(case)),
        ("Made by", case.get("made_by")),
        ("Permission", case.get("permission")),
        ("Questions", count(plan["n_prompts"]) if plan["n_prompts"] else ""),
        ("Asking ends", plan["stopping"]),
        ("Plan", plan["digest"]),
    ]
    return [(label, value) for label, value in facts if value]


def _asked(case: Mapping[str, Any]) -> str:
    ends = [case.get(key) for key in ("asked_from", "asked_until")]
    told = [time.strftime("%-d %B %Y, %H:%M UTC", time.gmtime(at)) for at in ends if at]
    return " to ".join(told)


def _picture(report: Report) -> Picture:
    return Picture(
        picture_markup(accusations_chart(report)),
        picture_markup(accusations_chart(report, width=330)),
    )


def _accusation(one: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "suspect": one["suspect"],
        "claim": claim_text(one["claim"]),
        "level": one["level"],
        "luck": _luck(one["adjusted_log10_p"]),
        "p": p_text(None, one["adjusted_log10_p"]),
        "alone": p_text(None, one["log10_p"]),
        "notes": one.get("notes") or (),
        "channels": [_channel(channel) for channel in one["channels"]],
    }


def _luck(log10_p: float) -> str:
    if log10_p > -1:
        return "Luck alone does as much"
    return f"Luck alone does as much in {one_in(log10_p)}"


def _channel(channel: Mapping[str, Any]) -> dict[str, str]:
    kind = channel["randomisation"].partition(":")[0]
    units = count(channel["n"])
    if channel.get("needed") is not None:
        units += f" of {count(channel['needed'])}"
    log10_e = channel.get("log10_e")
    return {
        "kind": DRAWS[kind][0] if kind in DRAWS else kind,
        "name": channel["randomisation"],
        "tests": ", ".join(channel["tests"]) or "none reported",
        "units": units,
        "p": p_text(None, channel["log10_p"]),
        "e": "none" if log10_e is None else f"{log10_e:.1f}",
    }


def _draws(report: Report) -> list[tuple[str, str]]:
    """Explain the kinds of draws that this verdict rests on, each once."""
    kinds = {
        channel["randomisation"].partition(":")[0]
        for one in report["accusations"]
        for channel in one["channels"]
    }
    return [DRAWS[kind] for kind in DRAWS if kind in kinds]


def _audit(audit: Mapping[str, Any]) -> dict[str, Any]:
    rows = [
        {
            "what": f"{count(one['n'])} draws that nobody used, {one['test']} on {one['suspect']}",
            "shares": [percent(share, 1) for share in one["below"]],
            "worst": one_in(one["worst_log10_p"]),
            "passed": one["passed"],
        }
        for one in audit["decoys"]
    ]
    innocents = audit["innocents"]
    if innocents["n"]:
        told = f"{count(innocents['n'])} innocent models, {count(innocents['n_tried'])} accusations"
        rows.append({
            "what": told,
            "shares": [percent(share, 1) for share in innocents["below"]],
            "worst": one_in(innocents["worst_log10_p"]),
            "passed": innocents["passed"],
        })
    return {"rows": rows, "missing": audit["missing"], "failures": audit["failures"]}


def _likeness(similarity: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "suspect": suspect,
            "what": likeness_text(one["test"]),
            "rank": _rank(one.get("rank")),
            "n": count(one.get("n") or None),
            "notes": one.get("notes") or (),
        }
        for suspect, found in similarity.items()
        for one in found
    ]


def _rank(rank: Any) -> str:
    if not rank:
        return "no reference models"
    closer, references = rank
    if closer == 0:
        return f"more than any of {count(references)} other models"
    return f"{count(closer)} of {count(references)} other models do so as much"


def _bundle(bundle: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if bundle is None:
        return None
    files = bundle.get("files") or ()
    witnesses = [
        {**one, "authority": authority_text(one["authority"])} for one in bundle["witnesses"]
    ]
    more = max(len(files) - _MAX_FILES, 0)
    return {**bundle, "witnesses": witnesses, "files": files[:_MAX_FILES], "more": more}
