"""The report of `detect` as one HTML page, from the dictionary that `detect` writes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from stillwatch.report.detect_charts import (
    activity_chart,
    calibration_chart,
    hours_chart,
    null_chart,
    sharing_charts,
)
from stillwatch.report.detect_owners import owners_section
from stillwatch.report.detect_words import (
    campaign_answers,
    candidates_line,
    headline,
    lede,
    no_questions,
    reading_of,
)
from stillwatch.report.moat_page import Picture
from stillwatch.report.numbers import MISSING, count, dollars, p_text, percent, plural
from stillwatch.report.page import picture_markup, render_page

Report = Mapping[str, Any]

#: What a page carries at most; the rest is in campaigns.json and accounts.csv.
_MOST_CAMPAIGNS, _MOST_CANDIDATES, _MOST_NAMES, _MOST_LONE, _MOST_QUOTES = 20, 30, 150, 30, 4
#: Skeletons shown before one has to ask for more.
_OPEN = 3
#: Evidence that the page shows in a place of its own.
_PLACED = {
    "shared wording", "companions", "interchangeable members", "shared traits", "web",
    "timeline", "value taken", "innocent explanation",
}  # fmt: skip


class Piece(NamedTuple):
    """A part of a quote.

    Attributes:
        text: the words.
        marked: whether others share them.
    """

    text: str
    marked: bool


def render_detect(report: Report) -> str:
    """Render the report of `detect`.

    Args:
        report: what campaigns.json holds, and under `run` how it was made; a missing part of it
            is said to be missing.

    Returns:
        A whole page: no script, nothing fetched, readable in light and dark.
    """
    silent = [c for c in report.get("candidates") or () if not c["named"]]
    return render_page(
        "detect.html.j2",
        {
            "title": "Campaigns",
            "headline": headline(report),
            "run_line": _run_line(report),
            "lede": lede(report),
            "campaigns": [_campaign(c, report) for c in report["campaigns"][:_MOST_CAMPAIGNS]],
            "candidates": [_candidate(c) for c in silent[:_MOST_CANDIDATES]],
            "more_candidates": max(len(silent) - _MOST_CANDIDATES, 0),
            "candidates_line": candidates_line(report, len(silent)),
            "owners": owners_section(report),
            "silent_log": no_questions(report) is not None,
            "lone": _lone(report),
            "calibration": None if no_questions(report) else _calibration(report),
            "trust_line": _trust_line(report),
            "not_tested": (report.get("run") or {}).get("not_tested") or [],
            "missing": (report.get("run") or {}).get("missing") or [],
            "footer": _footer(report),
        },
    )


def _campaign(campaign: Mapping[str, Any], report: Report) -> dict[str, Any]:
    exhibits: dict[str, list[Mapping[str, Any]]] = {}
    for evidence in campaign["evidence"]:
        if evidence.get("exhibit"):
            exhibits.setdefault(evidence["exhibit"]["type"], []).append(evidence)
    value = _first(exhibits, "value")
    names = campaign["accounts"]
    return {
        "id": campaign["campaign_id"],
        "anchor": campaign["campaign_id"],
        "accounts": len(names),
        "exchanges": count(value["exchanges"] if value else campaign["exchanges"]),
        "tokens": count(value["output_tokens"] if value else campaign["output_tokens"]),
        "worth": dollars(value.get("usd")) if value and value.get("usd") is not None else "",
        "p": p_text(campaign["p_value"]),
        "span": _span(campaign),
        "summary": _summary(campaign),
        "answers": campaign_answers(campaign, value, fdr=report["fdr"]),
        "web": _web(_first(exhibits, "web")),
        "wordings": [_wordings(evidence) for evidence in exhibits.get("wordings", ())],
        "null": _null(exhibits.get("null")),
        "traits": _traits(_first(exhibits, "traits")),
        "timeline": _timeline(exhibits.get("timeline")),
        "value": _value(value),
        "doubts": _doubts(_first(exhibits, "doubts")),
        "sentences": [e for e in campaign["evidence"] if e["kind"] not in _PLACED],
        "names": names[:_MOST_NAMES],
        "more_names": max(len(names) - _MOST_NAMES, 0),
    }


def _first(exhibits: Mapping[str, Sequence[Mapping[str, Any]]], kind: str) -> Any:
    found = exhibits.get(kind)
    return found[0]["exhibit"] if found else None


def _summary(campaign: Mapping[str, Any]) -> str:
    told = {evidence["kind"]: evidence["text"] for evidence in campaign["evidence"]}
    return " ".join(told[kind] for kind in ("shared wording", "companions") if kind in told)


def _span(campaign: Mapping[str, Any]) -> str:
    return f"{_day(campaign['first_seen'])} to {_day(campaign['last_seen'])}"


def _web(web: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not web or not web["nodes"]:
        return None
    drawn = sum(node["kind"] == "account" and bool(node.get("member")) for node in web["nodes"])
    note = f"{drawn} of {plural(web['members'], 'member')} drawn"
    note += f"; {plural(web['others'], 'other account')} {'has' if web['others'] == 1 else 'have'}"
    note += " something of what they share. A line joins an account to a thing that it has."
    pictures = sharing_charts(web, [(960.0, 430.0), (350.0, 400.0)])
    return {"picture": Picture(*map(picture_markup, pictures)), "note": note}


def _wordings(evidence: Mapping[str, Any]) -> dict[str, Any]:
    exhibit = evidence["exhibit"]
    items = [_wording(item) for item in exhibit["items"]]
    joined = evidence["kind"] == "companions"
    note = evidence["text"] if joined else (
        "Questions of different accounts side by side; marked is what they have in common, "
        "numbers apart."
    )  # fmt: skip
    if exhibit["total"] > len(items):
        note += f" {len(items)} of {exhibit['total']} skeletons are shown."
    if exhibit.get("quoted_from") == "profiles" and any(item["quotes"] for item in items):
        note += " Only the beginnings of questions were kept."
    title = "Accounts that joined without the wording" if joined else "The wording they share"
    return {"title": title, "note": note, "parts": items[:_OPEN], "rest": items[_OPEN:]}


def _wording(item: Mapping[str, Any]) -> dict[str, Any]:
    line = f"{plural(item['members'], 'member')}, {plural(item['exchanges'], 'question')} kept"
    if item["name"] == "other":
        title = "What they ask"
    else:
        title = f"Wording {item['name']}"
        line += f"; {plural(item['others'], 'other account')} of the log"
        line += f", {plural(item['reference'], 'reference account')}"
    quotes = [_quote(quote) for quote in (item.get("quotes") or ())[:_MOST_QUOTES]]
    return {"title": title, "line": line, "quotes": quotes}


def _quote(quote: Mapping[str, Any]) -> dict[str, Any]:
    when = quote.get("started_at") or 0.0
    return {
        "pieces": cut_by_marks(quote["text"], quote.get("marks") or ()),
        "system": cut_by_marks(quote.get("system") or "", quote.get("system_marks") or ()),
        "account": quote["account"],
        "exchange_id": quote.get("exchange_id", ""),
        "when": time.strftime("%-d %b %Y, %H:%M", time.gmtime(when)) if when > 1.0 else "",
    }


def cut_by_marks(text: str, marks: Sequence[Sequence[int]]) -> list[Piece]:
    """Cut a text into what is marked and what is not.

    Args:
        text: a quote.
        marks: from and to of each marked part, in order.

    Returns:
        The parts, in order.

    Example:
        >>> [piece.text for piece in cut_by_marks("to be or not", [(3, 5)])]
        ['to ', 'be', ' or not']
    """
    pieces, at = [], 0
    for start, end in marks:
        pieces += [Piece(text[at:start], False), Piece(text[start:end], True)]
        at = end
    pieces.append(Piece(text[at:], False))
    return [piece for piece in pieces if piece.text]


def _null(found: Sequence[Mapping[str, Any]] | None) -> dict[str, Any] | None:
    if not found or not found[0]["exhibit"]["honest"]:
        return None
    null = found[0]["exhibit"]
    pictures = [null_chart(null), null_chart(null, size=(340.0, 220.0))]
    return {"picture": Picture(*map(picture_markup, pictures)), "text": found[0]["text"]}


def _traits(traits: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not traits or not traits["items"]:
        return None
    rows = [
        {
            "kind": trait["kind"],
            "label": trait.get("label", ""),
            "distinct": trait["distinct"],
            "top": f"{count(trait['top'])} of {count(trait['members'])}",
            "others": f"{count(trait['others'])} of {count(trait['others_known'])}",
            "reference": _of_reference(trait),
            **reading_of(trait),
        }
        for trait in traits["items"]
    ]
    return {
        "rows": rows,
        "missing": traits.get("missing") or [],
        "has_reference": any(trait.get("reference_known") for trait in traits["items"]),
    }


def _of_reference(trait: Mapping[str, Any]) -> str:
    known = trait.get("reference_known", 0)
    return f"{count(trait.get('reference', 0))} of {count(known)}" if known else ""


def _timeline(found: Sequence[Mapping[str, Any]] | None) -> dict[str, Any] | None:
    if not found:
        return None
    line = found[0]["exhibit"]
    pictures = [activity_chart(line), activity_chart(line, size=(340.0, 270.0))]
    return {
        "picture": Picture(*map(picture_markup, pictures)),
        "hours": picture_markup(hours_chart(line)),
        "text": found[0]["text"],
    }


def _value(value: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not value:
        return None
    about = "" if value["is_exact"] else "about "
    rows = [
        ("Questions answered", about + count(value["exchanges"])),
        ("Output tokens", about + count(value["output_tokens"])),
        ("Input tokens", _or_missing(value.get("input_tokens"), about)),
        ("Share of all that the log gave out", percent(value["share_of_log"], 1)),
    ]
    if value.get("usd") is not None:
        each = value["usd_per_million"]
        rows.append(("Worth at list prices", dollars(value["usd"])))
        rows.append(("Input, output, a million tokens", f"{dollars(each[0])}, {dollars(each[1])}"))
    rows += [(f"Asked of {name}", percent(share)) for name, share in _some(value.get("models"))]
    return {
        "rows": rows,
        "note": _value_note(value),
        "subjects": _some(value.get("subjects")),
        "words": value.get("words") or [],
        "flags": [
            {"name": name, "here": percent(pair[0]), "elsewhere": percent(pair[1])}
            for name, pair in (value.get("flags") or {}).items()
        ],
    }


def _or_missing(n: int | None, about: str) -> str:
    return MISSING if n is None else about + count(n)


def _some(shares: Mapping[str, float] | None) -> list[tuple[str, float]]:
    return list((shares or {}).items())[:8]


def _value_note(value: Mapping[str, Any]) -> str:
    parts = []
    if not value["is_exact"]:
        parts.append(
            f"Inferred from {plural(value['kept'], 'exchange')} of which the profiles keep a "
            "digest, a uniform sample of each account."
        )
    if value.get("usd") is not None:
        parts.append(f"Prices: {value['priced']}; no discounts, no caching.")
    else:
        parts.append("No price is known for what was asked; --price MODEL=INPUT/OUTPUT gives one.")
    if value.get("read_again"):
        parts.append(
            f"Models and subjects: from {value['read_again']} exchanges read again; a subject is "
            "told by words that name it, and a question may name none."
        )
    return " ".join(parts)


def _doubts(doubts: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    words = {"for": "fits", "open": "cannot be told", "against": "does not fit"}
    return [dict(d) | {"word": words[d["verdict"]]} for d in (doubts or {}).get("items") or ()]


def _candidate(candidate: Mapping[str, Any]) -> dict[str, Any]:
    return dict(candidate) | {
        "p": p_text(candidate["p_value"]) if candidate["p_value"] < 1.0 else "not tested"
        if candidate.get("ratio") is None else "1",
        "reason": candidate["reason"][:1].upper() + candidate["reason"][1:] + ".",
    }  # fmt: skip


def _lone(report: Report) -> dict[str, Any] | None:
    rows = report.get("lone") or ()
    if not rows:
        return None
    line = (
        f"{plural(len(rows), 'account')} ask what reference accounts of their volume do not. That "
        "is no proof of harvesting: a new kind of customer looks the same. They are in no campaign."
    )
    shown = [
        {
            "account": row["account"],
            "exchanges": row.get("exchanges"),
            "tokens": count(row.get("output_tokens")),
            "p": p_text(row["p_value"]),
            "reason": row.get("reason", ""),
        }
        for row in rows[:_MOST_LONE]
    ]
    return {"line": line, "rows": shown}


def _calibration(report: Report) -> dict[str, Any] | None:
    found = report.get("calibration")
    if not found or not found.get("points"):
        return None
    pictures = [
        calibration_chart(found["points"]), calibration_chart(found["points"], size=(340.0, 280.0))
    ]  # fmt: skip
    return {"picture": Picture(*map(picture_markup, pictures)), "text": found["text"]}


def _trust_line(report: Report) -> str:
    if no_questions(report):
        return (
            "There is none of a campaign: they come from questions. Those of names that share one "
            "owner are counted over all names of the log and need no reference."
        )
    if report["reference"] != "given":
        return (
            "No reference of honest accounts was given, so the log's own bulk stood in for one, "
            "without the groups under suspicion. That makes p-values somewhat too small; they "
            "cannot be checked on this log. Give --reference."
        )
    return (
        f"They rest on {plural(report['n_anchors'], 'honest account')} of the reference, too few "
        "to hold some back and check them here."
    )


def _run_line(report: Report) -> str:
    run = report.get("run") or {}
    parts = [
        f"{plural(report['n_exchanges'], 'exchange')} of {plural(report['n_accounts'], 'account')}"
    ]
    if run.get("first_seen") and run.get("last_seen"):
        parts.append(f"{_day(run['first_seen'])} to {_day(run['last_seen'])}")
    reference = "a reference" if report["reference"] == "given" else "the log's own bulk"
    if not no_questions(report):
        parts.append(f"calibrated on {reference} of {plural(report['n_anchors'], 'account')}")
    if webs := report.get("reference_webs"):
        left = sum(len(web["accounts"]) for web in webs)
        parts.append(
            f"{plural(len(webs), 'campaign')} of {plural(left, 'account')} found in the reference "
            "itself and left out of it"
        )
    parts.append(f"false discovery rate {report['fdr']:g}")
    if run.get("version"):
        parts.append(f"stillwatch {run['version']}")
    return " · ".join(parts)


def _footer(report: Report) -> str:
    run = report.get("run") or {}
    made = "Every figure is in campaigns.json, every account in accounts.csv."
    if run.get("command"):
        made += f" Made by: {run['command']}"
    return made


def _day(at: float) -> str:
    return time.strftime("%-d %b %Y", time.gmtime(at))
