"""The promises of a run, each with the figure that was seen; a figure is never adjusted to fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def check_promises(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Compare a report's figures with what the contest promises.

    Args:
        report: the moat dictionary without its checks.

    Returns:
        One entry a promise: name, target, the figure, and whether it is met (None = not measured).
    """
    runs = report["runs"]
    off, on = runs["off"]["campaign"]["share_kept"], runs["on"]["campaign"]["share_kept"]
    detection = runs["off"]["detection"]
    honest = runs["on"]["honest"]
    proof = report["proof"] or {}
    fields = report["world"]["trivial_fields"]
    marked, innocent = proof.get("marked", {}), proof.get("innocent", {})
    ks = [proof[name]["ks_p_value"] for name in proof if name.endswith("decoys")]
    harmed = honest["refused"] + honest["throttled"]
    return [
        _check("The copy's share of the teacher, wall off", off, ">= 0.8"),
        _check("Share of the copy that the wall leaves", _ratio(on, off), "<= 0.5"),
        _check("Named accounts that belong to the campaign", detection["precision"], ">= 0.9"),
        _check("The campaign's accounts that are named", detection["recall"], ">= 0.9"),
        _check("Honest groups named", detection["honest_groups_named"], "<= 0"),
        _check("Honest questions refused or delayed", harmed, "<= 0"),
        _check("Copy of marked answers, log10 p", marked.get("holm_log10_p"), "< -10.0"),
        _check("Innocent model, log10 p", innocent.get("log10_p"), "> -2.0"),
        _check("Wrong keys look uniform, least KS p-value", min(ks, default=None), "> 0.01"),
        _check("Best AUC of a trivial field", max(fields.values(), default=None), "<= 0.8"),
    ]


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def _check(name: str, got: float | None, rule: str) -> dict[str, Any]:
    sign, bound = rule.split()[0], float(rule.split()[1])
    met = None
    if got is not None:
        met = {
            ">=": got >= bound,
            "<=": got <= bound,
            ">": got > bound,
            "<": got < bound,
        }[sign]
    words = {">=": "at least", "<=": "at most", ">": "above", "<": "below"}[sign]
    return {"name": name, "target": f"{words} {bound:g}", "got": got, "met": met}
