"""The curve page in words: made from its numbers, so that they cannot disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from stillwatch.report.numbers import MISSING, count, dollars, percent, plural, rough

Curve = Mapping[str, Any]

#: The share of the gap that headlines speak of, where it was asked for.
MAIN_SHARE = 0.8


class Answer(NamedTuple):
    """One of the questions that the page answers first.

    Attributes:
        question: as a reader would ask it.
        figure: the answer in a few characters.
        sentence: the answer in words.
        tone: plain, or unknown when it was not measured.
    """

    question: str
    figure: str
    sentence: str
    tone: str = "plain"


def headline(curves: Mapping[str, Any]) -> str:
    """Sum a run up in one sentence.

    Args:
        curves: what `CurveSet.as_dict()` gives.

    Returns:
        The sentence.
    """
    curve = main_curve(curves)
    if curve is None:
        return "No student was scored"
    reach = main_reach(curve)
    if reach is None:
        if not curve["gap"]["is_clear"]:
            return "The teacher is not clearly ahead of the untouched student: nothing to copy here"
        return "Too few budgets for a copy curve: the points stand alone"
    share = percent(reach["share"])
    if reach["reached"]:
        cost = _money(reach)
        price = f" and {dollars(cost)}" if cost is not None else ""
        guess = ", by extrapolation" if reach["extrapolated"] else ""
        return f"{rough(reach['n_questions'])} questions{price} close {share} of the gap{guess}"
    return f"{share} of the gap was not reached with {count(curve['largest'])} questions"


def answers(curves: Mapping[str, Any]) -> list[Answer]:
    """Answer the questions a reader comes with.

    Args:
        curves: what `CurveSet.as_dict()` gives.

    Returns:
        What a copy costs, which skill goes first, what stops the copy, how long the lead lasts.
    """
    curve = main_curve(curves)
    if curve is None:
        return []
    told = [_cost(curve), _first_skill(curves), _wall(curves), _lead(curves)]
    return [answer for answer in told if answer is not None]


def main_curve(curves: Mapping[str, Any]) -> Curve | None:
    """Pick the curve that stands for the run: the mean of capabilities, or the only one.

    Args:
        curves: what `CurveSet.as_dict()` gives.

    Returns:
        The curve, or None when there is none.
    """
    if curves.get("macro"):
        return dict(curves["macro"])
    every: Sequence[Curve] = [*curves["curves"], *curves["outside"]]
    return every[0] if every else None


def main_reach(curve: Curve) -> Mapping[str, Any] | None:
    """Pick a curve's answer at 80 % of the gap, or at the share nearest to it.

    Args:
        curve: one curve.

    Returns:
        The answer, or None when there is none.
    """
    reaches = [reach for reach in curve.get("reach") or [] if reach["of"] == "gap"]
    return min(reaches, key=lambda r: abs(r["share"] - MAIN_SHARE), default=None)


def ends_text(low: str | None, high: str | None) -> str:
    """Write an interval's ends; a missing one has no bound.

    Args:
        low: the lower end in words, or None.
        high: the upper end in words, or None.

    Returns:
        The text in brackets.
    """
    return f"[{low or 'no bound'}, {high or 'no bound'}]"


def reach_cells(reach: Mapping[str, Any], axis: str) -> str:
    """Write a reach on one axis, estimate and interval.

    Args:
        reach: a reach of a curve.
        axis: "questions", or the name of an axis of the curve.

    Returns:
        The text, "" where the curve lacks the axis.
    """
    if axis == "questions":
        values = [reach["n_questions"], reach["low"], reach["high"]]
    elif axis in reach["on_axes"]:
        values = reach["on_axes"][axis]
    else:
        return ""
    write = dollars if axis.startswith("usd") else rough
    told = [None if value is None else write(value) for value in values]
    if told[0] is None:
        return "not reached" if told[1] is None else f"not reached; at least {told[1]}"
    return f"{told[0]} {ends_text(told[1], told[2])}"


def form_line(curve: Curve) -> str:
    """Say which line was drawn, how it was chosen, and what luck was allowed for.

    Args:
        curve: one curve.

    Returns:
        Sentences.
    """
    fit = curve.get("fit")
    if not fit:
        return "No line was fitted."
    line = f"Line: {fit['form']}"
    if fit.get("held_out_error") is not None:
        line += f", the best of {len(fit['compared'])} forms (error "
        line += f"{100 * fit['held_out_error']:.1f} points"
        line += ", larger budgets held out)" if fit["held_out"] else ", none held out)"
        taken = fit.get("drawn", {}).get(fit["form"])
        if taken is not None:
            line += f"; {percent(taken)} of the resamples choose it too"
    line += "."
    if fit.get("asymptote") is not None:
        ends = f"{percent(fit['asymptote_low'])} to {percent(fit['asymptote_high'])}"
        line += f" It levels off at {percent(fit['asymptote'])} ({ends})."
    luck = fit["luck"]
    if luck["freedom"] > 0:
        line += (
            f" By luck of training, students of one budget are taken to differ by about "
            f"{100 * luck['sd']:.1f} points at half the skill ({percent(luck['common'])} of it the "
            f"same at all budgets; {luck['freedom']:.0f} spare students and budgets show it)."
        )
    items = plural(curve["n_items"], "held-out item")
    if curve["n_clusters"] < curve["n_items"]:
        items += f" from {plural(curve['n_clusters'], 'source')}"
    return f"{line} Scored on {items}."


def _cost(curve: Curve) -> Answer:
    question = "What does a copy cost?"
    reach = main_reach(curve)
    if reach is None:
        return Answer(question, MISSING, " ".join(curve["notes"]), "unknown")
    share = percent(reach["share"])
    last = curve["gap"]["closed"][-1]
    closed, low, high = last["gap_closed"]
    so_far = (
        f"The {count(last['n_questions'])} questions that were asked closed {percent(closed)} of "
        f"the gap [{percent(low)}, {percent(high)}], and brought the student to "
        f"{percent(last['ratio'][0])} of its teacher's score."
    )
    if not reach["reached"]:
        return Answer(question, "not reached", f"{share} of the gap: {reach['sentence']}. {so_far}")
    cost = _money(reach)
    figure = f"{rough(reach['n_questions'])} questions"
    if cost is not None:
        figure = f"{dollars(cost)}, {figure}"
    return Answer(question, figure, f"{share} of the gap takes {reach['sentence']}. {so_far}")


def _first_skill(curves: Mapping[str, Any]) -> Answer | None:
    reached = [
        (curve["skill"], reach)
        for curve in curves["curves"]
        if (reach := main_reach(curve)) is not None
    ]
    if len(curves["curves"]) < 2 or not reached:
        return None
    question = "Which skill goes first?"
    order = sorted(reached, key=lambda e: e[1]["n_questions"] or float("inf"))
    told = [
        f"{name} ({rough(reach['n_questions']) if reach['reached'] else 'not reached'})"
        for name, reach in order
    ]
    share = percent(order[0][1]["share"])
    sentence = f"Questions asked in all until {share} of the gap is closed: {', '.join(told)}."
    if not order[0][1]["reached"]:
        return Answer(question, "none yet", sentence)
    return Answer(question, order[0][0], sentence)


def _wall(curves: Mapping[str, Any]) -> Answer:
    question = "What stops the copy?"
    kinds = {curve["skill"]: curve["bound"] for curve in curves["curves"]}
    stopped = {name: bound for name, bound in kinds.items() if bound["sentence"]}
    if not stopped:
        known = [bound["kind"] for bound in kinds.values()]
        if "questions" not in known:
            return Answer(question, MISSING, "Too few budgets to see a wall.", "unknown")
        return Answer(question, "questions", "More questions still help wherever it can be seen.")
    names = {"compute": "compute", "student": "the student"}
    figure = " and ".join(dict.fromkeys(names[bound["kind"]] for bound in stopped.values()))
    if len(stopped) < len(kinds):
        figure += f", in {len(stopped)} of {len(kinds)} skills"
    told = " ".join(f"{name}: {bound['sentence']}" for name, bound in stopped.items())
    return Answer(question, figure, told)


def _lead(curves: Mapping[str, Any]) -> Answer | None:
    leads = curves.get("treadmill") or []
    if not leads:
        return None
    question = "How long does the lead last?"
    lead = max(leads, key=lambda one: one["per_day"])
    entry = min(lead["overtaken"], key=lambda o: abs(o["share"] - MAIN_SHARE))
    purse = f"At {purse_text(lead)} a day"
    if entry["days"] is None:
        return Answer(question, "beyond sight", f"{purse}: {lead['sentences'][-1]}")
    low = None if entry["low"] is None else count(entry["low"])
    high = None if entry["high"] is None else count(entry["high"])
    sentence = (
        f"{purse}, a copy with {percent(entry['share'])} of the gap closed is out "
        f"{plural(round(entry['days']), 'day')} after release {ends_text(low, high)}; the "
        f"successor comes after {count(lead['reigns'][0])}. {lead['sentences'][-1]}"
    )
    return Answer(question, plural(round(entry["days"]), "day"), sentence)


def purse_text(lead: Mapping[str, Any]) -> str:
    """Write what a copier may spend.

    Args:
        lead: an entry of the treadmill.

    Returns:
        The text, to be followed by "a day".
    """
    if lead["unit"] == "usd":
        return dollars(lead["per_day"])
    return f"{count(lead['per_day'])} {lead['unit'].replace('_', ' ')}"


def _money(reach: Mapping[str, Any]) -> float | None:
    for axis in ("usd", "usd_asked"):
        if axis in reach["on_axes"] and reach["on_axes"][axis][0]:
            return float(reach["on_axes"][axis][0])
    return None
