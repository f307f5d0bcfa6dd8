"""What the report of `detect` says in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from stillwatch.report.detect_owners import owners_clause
from stillwatch.report.numbers import count, dollars, one_in, p_text, percent, plural, rough

#: As `detect.discovery.shared` has it: a value binds a group when a tenth of the members, three at
#: least, have it, five times as often as others.
_BINDS, _TIMES = 0.1, 5.0


def headline(report: Mapping[str, Any]) -> str:
    """Say what was found in one line.

    Args:
        report: what campaigns.json holds.

    Returns:
        The line.
    """
    found = report["campaigns"]
    if no_questions(report):
        return f"This log has no questions: no campaign can be named{owners_clause(report)}"
    if not found:
        return f"No campaign among {plural(report['n_accounts'], 'account')}{owners_clause(report)}"
    accounts = len({name for campaign in found for name in campaign["accounts"]})
    taken = sum(_questions(campaign) for campaign in found)
    if len(found) == 1:
        return f"One web of {count(accounts)} accounts took {plural(taken, 'answer')}"
    return f"{len(found)} webs of {count(accounts)} accounts took {plural(taken, 'answer')}"


def lede(report: Mapping[str, Any]) -> str:
    """Say what the page is about, and what it does not say.

    Args:
        report: what campaigns.json holds.

    Returns:
        Two or three sentences.
    """
    looked = len(report.get("candidates") or ())
    told = no_questions(report)
    if told:
        return f"{told['lost']} {told['tested']}"
    if not looked:
        return (
            "No group of accounts shares rare wording widely enough to be looked at. That is no "
            "proof that there is no campaign: below stands what was not tested."
        )
    if not report["campaigns"]:
        groups = plural(looked, "group")
        return (
            f"{groups} of accounts that share rare wording {'was' if looked == 1 else 'were'} "
            "looked at, and none looks like a web that works one queue of questions. That is no "
            "proof that there is none: below stands what was not tested."
        )
    return (
        "A campaign is a group of accounts that work one queue of questions, as a copier does who "
        f"spreads its questions over many accounts. {plural(looked, 'group')} that share rare "
        f"wording were looked at; of those named, about {percent(report['fdr'])} may be honest. "
        "What is said here is evidence, not a verdict: each campaign ends with what else it could "
        "be and what would settle it."
    )


def no_questions(report: Mapping[str, Any]) -> Mapping[str, str] | None:
    """Look up what a log without questions costs.

    Args:
        report: what campaigns.json holds, and `run`.

    Returns:
        Sentences under `lost` and `tested`; None when the log has questions.
    """
    return (report.get("run") or {}).get("no_questions")


def candidates_line(report: Mapping[str, Any], n: int) -> str:
    """Introduce the groups that were looked at and not named.

    Args:
        report: what campaigns.json holds.
        n: how many.

    Returns:
        Two or three sentences; one when there is none.
    """
    if no_questions(report):
        if not n:
            return "No group of accounts shares enough of what the log tells to be looked at."
        who = "One group of accounts shares" if n == 1 else f"{count(n)} groups of accounts share"
        return f"{who} more than chance gives. Without questions that is where it ends."
    if not n:
        other = "other " if report["campaigns"] else ""
        return f"No {other}group shares rare wording widely enough to be looked at."
    who = "One group of accounts shares" if n == 1 else f"{count(n)} groups of accounts share"
    return (
        f"{who} wording that is rare among others, as a campaign does, and "
        f"{'is' if n == 1 else 'are'} most likely something else. Silence can be wrong too: read "
        f"the reason{'' if n == 1 else 's'}."
    )


def campaign_answers(
    campaign: Mapping[str, Any], value: Mapping[str, Any] | None, *, fdr: float
) -> list[dict[str, str]]:
    """Answer an analyst's first questions about a campaign.

    Args:
        campaign: one of campaigns.json.
        value: its value exhibit, or None.
        fdr: the stated false discovery rate.

    Returns:
        Question, figure and sentence of each.
    """
    told = {evidence["kind"]: evidence for evidence in campaign["evidence"]}
    n = len(campaign["accounts"])
    who = f"{count(campaign['exchanges'])} exchanges in all, what they asked besides included."
    taken = told["value taken"]["text"] if "value taken" in told else ""
    figure = plural(_questions(campaign), "answer")
    if value and value.get("usd") is not None:
        figure = f"{figure}, {dollars(value['usd'])}"
    sure = (
        f"An honest group that shares wording looks like this once in {_odds(campaign['p_value'])}."
        f" Named at a false discovery rate of {fdr:g}."
    )
    return [
        {"question": "Who", "figure": plural(n, "account"), "sentence": who},
        {"question": "What they took", "figure": figure, "sentence": taken},
        {
            "question": "How sure",
            "figure": f"p = {p_text(campaign['p_value'])}",
            "sentence": sure,
        },
        {
            "question": "What to do next",
            "figure": "Ask whose they are",
            "sentence": told["innocent explanation"]["text"]
            if "innocent explanation" in told
            else "",
        },
    ]


def reading_of(trait: Mapping[str, Any]) -> dict[str, Any]:
    """Say what a trait means for a group.

    Args:
        trait: one of the traits exhibit.

    Returns:
        `shared`, and `reading` in words.
    """
    members, top = trait["members"], trait["top"]
    known = trait["others_known"] + trait.get("reference_known", 0)
    among = (top + 0.5) / (members + 1.0)
    elsewhere = (trait["others"] + trait.get("reference", 0) + 0.5) / (known + 1.0)
    times = among / elsewhere
    if top < max(3, _BINDS * members):
        return {"shared": False, "reading": "not shared"}
    if times < _TIMES:
        return {"shared": False, "reading": "as common elsewhere"}
    return {"shared": True, "reading": f"shared, {rough(times)} times as often as elsewhere"}


def _questions(campaign: Mapping[str, Any]) -> int:
    for evidence in campaign["evidence"]:
        exhibit = evidence.get("exhibit")
        if exhibit and exhibit["type"] == "value":
            return int(exhibit["exchanges"])
    return int(campaign["exchanges"])


def _odds(p_value: float) -> str:
    if p_value <= 0.0:
        return "more than can be told"
    return rough(1.0 / p_value) if p_value > 1e-6 else one_in(math.log10(p_value))[5:]
