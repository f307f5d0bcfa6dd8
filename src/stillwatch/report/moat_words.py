"""The moat report in plain words: sentences made from its numbers, so that they cannot disagree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from stillwatch.report.numbers import (
    MISSING,
    count,
    dig,
    dollars,
    one_in,
    p_text,
    percent,
    plural,
    rough,
)

Report = Mapping[str, Any]

#: Where a proof begins and where innocence ends (p-values); the moat report's own promise.
PROVED_LOG10_P = -10.0
INNOCENT_LOG10_P = -2.0


class Finding(NamedTuple):
    """One of the five answers that the report is for.

    Attributes:
        question: as a reader would ask it.
        figure: the answer in a few characters.
        sentence: the answer in words.
        tone: good or bad for the owner of the model, plain for neither, unknown when unmeasured.
    """

    question: str
    figure: str
    sentence: str
    tone: str


def summary_sentences(report: Report) -> list[Finding]:
    """Answer the five questions of a moat report.

    Args:
        report: the moat dictionary; whatever is missing from it is said to be.

    Returns:
        What the copy cost, when it was seen, what the wall did, what honest users paid, and whether
        the copy can be proved, in this order.
    """
    return [_cost(report), _seen(report), _wall(report), _honest(report), _proof(report)]


def headline(report: Report) -> str:
    """Sum the report up in one or two short sentences.

    Args:
        report: the moat dictionary.

    Returns:
        The headline.
    """
    reach = reach_of(dig(report, "copy.overall"), 0.8)
    parts = []
    if reach and reach.get("reached"):
        parts.append(f"{rough(reach['n_questions'])} questions copy 80% of the teacher's skill.")
    elif (kept := share_kept(report, "off")) is not None:
        parts.append(
            f"Asking everything it planned, the copy kept {percent(kept)} of the teacher's skill."
        )
    off, on = share_kept(report, "off"), share_kept(report, "on")
    if off is not None and on is not None:
        verb = "leaves" if on <= off / 2 else "still leaves"
        parts.append(f"The wall {verb} {percent(on)}.")
    return " ".join(parts) or "What this run measured, and what it did not."


def reach_of(curve: object, of_teacher: float) -> Mapping[str, Any] | None:
    """Find a curve's answer for one share of the teacher's skill.

    Args:
        curve: a curve of the moat dictionary, or None.
        of_teacher: the share.

    Returns:
        The entry of `questions_to`, or None.
    """
    for reach in dig(curve, "questions_to") or ():
        if abs(reach["of_teacher"] - of_teacher) < 1e-9:
            return dict(reach)
    return None


def share_kept(report: Report, run: str) -> float | None:
    """Read the student's share of the teacher's skill at the end of one run.

    Args:
        report: the moat dictionary.
        run: off or on.

    Returns:
        Share in 0..1, or None.
    """
    value = dig(report, f"runs.{run}.campaign.share_kept")
    return None if value is None else float(value)


def listed(words: Iterable[str]) -> str:
    """Join words as English does.

    Args:
        words: any number.

    Returns:
        The text.

    Example:
        >>> listed(["a", "b", "c"])
        'a, b and c'
    """
    *most, last = list(words) or [""]
    return f"{', '.join(most)} and {last}" if most else last


def _unknown(question: str) -> Finding:
    return Finding(question, MISSING, "This run did not measure it.", "unknown")


def _cost(report: Report) -> Finding:
    question = "What did the copy cost?"
    curve = dig(report, "copy.overall")
    reach = reach_of(curve, 0.8)
    if reach is None:
        return _unknown(question)
    campaign = dig(report, "runs.off.campaign") or {}
    half = reach_of(curve, 0.5)
    skills = listed(
        f"“{name}”" for name in dig(report, "copy.asked_skills") or ["what it asked for"]
    )
    parts = []
    if half and half["reached"]:
        parts.append(f"Half of the teacher's skill at {skills} took {half['sentence']}.")
    if reach["reached"]:
        parts.append(f"80% took {reach['sentence']}.")
        figure = f"{rough(reach['n_questions'])} questions"
    else:
        parts.append(f"80% of the skill: {reach['sentence']}.")
        figure = "80% not reached"
    tokens, usd = campaign.get("output_tokens"), campaign.get("usd")
    if tokens is not None:
        bill = f", {dollars(usd)} at the listed prices" if usd is not None else ""
        parts.append(
            f"The whole campaign got {plural(campaign.get('answered'), 'answer')} "
            f"({count(tokens)} output tokens{bill})."
        )
    return Finding(question, figure, " ".join(parts), "plain")


def _seen(report: Report) -> Finding:
    question = "When was it seen?"
    detection = dig(report, "runs.off.detection")
    if detection is None:
        return _unknown(question)
    alarm = detection.get("first_alarm")
    if alarm is None:
        return Finding(question, "never", "No campaign was named in this run.", "bad")
    share = alarm.get("share_of_all_answers")
    of_all = f", {percent(share)} of all that it got without the wall" if share is not None else ""
    parts = [
        f"The alarm came {_days(alarm.get('days_after_start'))} after the first question of the "
        f"campaign, which had {plural(alarm.get('exchanges_before'), 'answer')} by then{of_all}."
    ]
    named, recall = detection.get("accounts_named"), detection.get("recall")
    if named is not None and recall is not None:
        total = dig(report, "world.campaign_accounts")
        parts.append(
            f"By the end {plural(named, 'account')} stood accused: {percent(recall)} of the "
            f"{count(total)} that took part were among them, and "
            f"{percent(detection.get('precision'))} of the accused did take part."
        )
    # Late is no success: by a quarter of the answers the copy already has most of the skill.
    tone = "good" if (share or 0) <= 0.25 else "bad"
    figure = f"after {_days(alarm.get('days_after_start'))}"
    return Finding(question, figure, " ".join(parts), tone)


def _wall(report: Report) -> Finding:
    question = "What did the wall do?"
    off, on = share_kept(report, "off"), share_kept(report, "on")
    if off is None or on is None:
        return _unknown(question)
    campaign = dig(report, "runs.on.campaign") or {}
    parts = [
        f"Without the wall the copy kept {percent(off)} of the teacher's skill; with it, "
        f"{percent(on)}."
    ]
    asked, answered = campaign.get("asked"), campaign.get("answered")
    if asked is not None and answered is not None:
        fates = [
            f"{count(campaign[key])} {words}"
            for key, words in (
                ("refused", "were refused"),
                ("throttled", "were told to come back later"),
                ("marked", "of the answers carried a mark"),
            )
            if campaign.get(key)
        ]
        rest = f"; {listed(fates)}" if fates else ""
        parts.append(f"Of its {plural(asked, 'request')}, {count(answered)} got an answer{rest}.")
    if on > off / 2:
        parts.append("That is less than the halving that the wall is meant to reach.")
    tone = "good" if on <= off / 2 else "bad"
    return Finding(question, f"{percent(off)} → {percent(on)}", " ".join(parts), tone)


def _honest(report: Report) -> Finding:
    question = "What did honest users pay?"
    honest = dig(report, "runs.on.honest")
    if honest is None or honest.get("refused") is None:
        return _unknown(question)
    keys = ("refused", "throttled", "marked")
    hurt = sum(honest.get(key) or 0 for key in keys)
    users = plural(honest.get("accounts"), "honest account")
    users = plural(honest.get("accounts"), "honest account")
    parts = [
        f"Of {plural(honest.get('asked'), 'request')} by {users}, {count(honest['refused'])} were "
        f"refused, {count(honest.get('throttled'))} delayed and {count(honest.get('marked'))} "
        "answered with a mark."
    ]
    named = dig(report, "runs.on.detection.honest_accounts_named")
    if named is not None:
        parts.append(
            f"{plural(named, 'honest account')} {'was' if named == 1 else 'were'} accused."
        )
    groups = dig(report, "world.honest_groups")
    if groups:
        caught = [group["name"] for group in groups if group.get("accounts_named")]
        parts.append(
            f"Accounts of {listed(caught)} were among the accused."
            if caught
            else f"None of the {len(groups)} honest groups that look alike had an account accused."
        )
    clean = not hurt and not named
    return Finding(question, _harm_figure(hurt), " ".join(parts), "good" if clean else "bad")


def _harm_figure(hurt: float) -> str:
    return "nothing" if not hurt else f"{plural(hurt, 'request')} touched"


def _proof(report: Report) -> Finding:
    question = "Can the copy be proved?"
    marked, innocent = dig(report, "proof.marked"), dig(report, "proof.innocent")
    if marked is None or marked.get("log10_p") is None:
        return _unknown(question)
    log10_p = marked["log10_p"]
    proved = log10_p <= PROVED_LOG10_P
    verb = "repeats the mark" if proved else "does not repeat the mark clearly enough"
    green, chance = percent(marked.get("green_rate"), 1), percent(dig(report, "proof.mark.gamma"))
    parts = [
        f"A student trained on the marked answers {verb}: {green} of the word "
        f"pairs that it repeats most are on the keyed list, where chance gives {chance}. A model "
        f"that never saw them would do so with a chance of {one_in(log10_p)}."
    ]
    clear = None
    if innocent is not None and innocent.get("log10_p") is not None:
        clear = innocent["log10_p"] > INNOCENT_LOG10_P
        verdict = "is not accused" if clear else "is wrongly suspected"
        p = p_text(innocent.get("p_value"), innocent["log10_p"])
        parts.append(f"An innocent student, trained on other text, {verdict} (p = {p}).")
    parts.extend(_named(marked))
    good = proved and clear is not False
    figure = f"p = {p_text(marked.get('p_value'), log10_p)}"
    return Finding(
        question,
        figure if proved else f"not proved: {figure}",
        " ".join(parts),
        "good" if good else "bad",
    )


def _named(marked: Mapping[str, Any]) -> list[str]:
    named, truth = marked.get("named_campaign"), marked.get("true_campaign")
    if named is None:
        return ["No campaign's key could be named."]
    if truth is None or named == truth:
        return [f"The key that fits is that of campaign {named}, so the web of accounts is known."]
    return [f"The key named campaign {named}, which is wrong: the answers went to {truth}."]


def _days(value: float | None) -> str:
    if value is None:
        return "an unmeasured time"
    if value < 2 / 24:
        return f"{value * 24 * 60:.0f} minutes"
    if value < 0.95:
        return f"{value * 24:.0f} hours"
    text = f"{value:.1f}".removesuffix(".0")
    return f"{text} day{'' if text == '1' else 's'}"
