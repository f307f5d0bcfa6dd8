"""The verdict in plain words, for a reader who is no statistician."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from stillwatch.report.moat_words import listed
from stillwatch.report.numbers import MISSING, count, dig, one_in, plural

Report = Mapping[str, Any]
#: As `trace.preregister` calls the claim that names no campaign.
ANY_CLAIM = "our answers"
_TITLES = {"proved": "Proved", "strong": "Strong evidence", "no finding": "No finding"}
_TONES = {"proved": "bad", "strong": "bad", "no finding": "unknown"}
#: What a draw of ours is, by the first word of its name.
DRAWS = {
    "key": (
        "Secret key",
        "Our answers leaned a little in their choice of words, by a secret key. Text that was "
        "written without the key, by a person or by a model, does not lean that way; a model that "
        "learned from the answers does.",
    ),
    "canary": (
        "Drawn variants",
        "Where several variants of an answer were equally good, one was drawn by lot and served; "
        "the others were shown to nobody. A model can only know our draw from what was served.",
    ),
    "withheld": (
        "Answers kept back",
        "More answers were written than served, and a lot decided which. A model that knows the "
        "served ones better than those kept back has met them.",
    ),
}
_TESTS = {
    "lineage": "answers like ours more than other models do",
    "shared-errors": "makes the same mistakes as we do",
    "identity": "says that it is our model",
    "equality": "answers as if it were literally our model",
}


class Answer(NamedTuple):
    """One of the questions that a reader has.

    Attributes:
        question: as the reader would ask it.
        figure: the answer in a few characters.
        sentence: the answer in words.
        tone: good, bad, plain or unknown; bad is what speaks against a suspect or the evidence.
    """

    question: str
    figure: str
    sentence: str
    tone: str


def claim_text(claim: str) -> str:
    """Write a claim inside a sentence.

    Args:
        claim: as the plan has it.

    Returns:
        Words that follow "learned from".

    Example:
        >>> claim_text("campaign-7"), claim_text("our answers")
        ('the answers given to campaign-7', 'our answers')
    """
    return claim if claim == ANY_CLAIM else f"the answers given to {claim}"


def likeness_text(test: str) -> str:
    """Write a similarity test's name as what it found.

    Args:
        test: as findings name it.

    Returns:
        Words that follow "it".
    """
    return _TESTS.get(test, test)


def authority_text(name: str) -> str:
    """Write an authority's name for a reader.

    Args:
        name: as its certificate has it, or "".

    Returns:
        The name itself.

    Example:
        >>> authority_text("CN=Test Time,O=Test"), authority_text("")
        ('Test Time', 'an authority without a name')
    """
    parts = dict(part.partition("=")[::2] for part in name.split(",") if "=" in part)
    return parts.get("CN") or parts.get("O") or name or "an authority without a name"


def headline(report: Report) -> str:
    """Sum a verdict up in one line.

    Args:
        report: what `verdict_page.render_verdict` takes.

    Returns:
        The line.
    """
    found = _found(report)
    top = report["accusations"][0]
    if not found:
        suspects = list(dict.fromkeys(one["suspect"] for one in report["accusations"]))
        whom = suspects[0] if len(suspects) == 1 else f"any of {plural(len(suspects), 'model')}"
        return f"No finding: nothing proves that {whom} learned from our answers"
    names = list(dict.fromkeys(one["suspect"] for one in found))
    if len(names) > 1:
        proved = {one["suspect"] for one in found if one["level"] == "proved"}
        what = f"{len(proved)} of them proved" if proved else "none of it proved"
        return f"Evidence that {count(len(names))} models learned from our answers, {what}"
    learned = f"{top['suspect']} learned from {claim_text(top['claim'])}"
    if top["level"] == "proved":
        return f"Proved: {learned}"
    return f"Strong evidence, short of proof: {learned}"


def answers(report: Report) -> list[Answer]:
    """Answer what a reader asks first.

    Args:
        report: what `verdict_page.render_verdict` takes.

    Returns:
        What was found, luck, the innocent, the order of events, other explanations, and checking.
    """
    top = report["accusations"][0]
    return [
        _level(report, top),
        _luck(report, top),
        _innocent(report),
        _order(report),
        _rivals(top),
        _checked(report),
    ]


def _found(report: Report) -> list[Mapping[str, Any]]:
    return [one for one in report["accusations"] if one["level"] != "no finding"]


def _level(report: Report, top: Mapping[str, Any]) -> Answer:
    level = top["level"]
    learned = f"{top['suspect']} learned from {claim_text(top['claim'])}"
    sentence = {
        "proved": f"The evidence that {learned} reaches the mark for proof that was fixed before "
        "anything was asked.",
        "strong": f"The evidence that {learned} is strong, and does not reach the mark for proof. "
        "It is a reason to look on, not a result to act on.",
        "no finding": "The tests show nothing that an innocent model would not show. That is no "
        "acquittal: it says what these tests, with this much material, could see.",
    }[level]
    notes = [note for note in top.get("notes") or () if "audit" in note]
    return Answer("What was found?", _TITLES[level], " ".join([sentence, *_ended(notes)]),
                  _TONES[level])  # fmt: skip


def _luck(report: Report, top: Mapping[str, Any]) -> Answer:
    log10_p, n = top["adjusted_log10_p"], len(report["accusations"])
    proved = one_in(_log10(dig(report, "plan.proved")))
    if log10_p > -1:
        figure, tone = "Yes, easily", "unknown"
        sentence = "Evidence of this kind turns up by chance all the time."
    else:
        figure, tone = one_in(log10_p), "plain"
        sentence = (
            "So rarely would chance alone make an innocent model look this guilty, at whatever "
            "moment one looked."
        )
    counted = (
        "One accusation was allowed by the plan."
        if n == 1
        else f"All {count(n)} accusations that the plan allows are counted in."
    )
    return Answer("Could it be luck?", figure, f"{sentence} {counted} Proof begins at {proved}.",
                  tone)  # fmt: skip


def _innocent(report: Report) -> Answer:
    audit = report["audit"]
    question, innocents = "Does the method accuse the innocent?", audit["innocents"]
    decoys = sum(one["n"] for one in audit["decoys"])
    parts = []
    if innocents["n"]:
        parts.append(
            f"{plural(innocents['n'], 'model')} that never saw our answers went through the same "
            f"tests; the worst, {innocents['worst']}, came to {one_in(innocents['worst_log10_p'])}."
        )
    if decoys:
        parts.append(
            f"{count(decoys)} draws that nobody used were tried on the suspect's own answers; the "
            "luckiest is shown below."
        )
    if audit["failures"]:
        told = " ".join([*_ended(audit["failures"]), "So nobody is accused."])
        return Answer(question, "It may", told, "bad")
    if audit["missing"]:
        parts.append(f"Less was tried than planned: {'; '.join(audit['missing'])}.")
    if not innocents["n"] and not decoys:
        told = " ".join(["Neither innocent models nor unused draws were tried.", *parts])
        return Answer(question, "Not tried", told, "unknown")
    figure = f"0 of {count(innocents['n'])}" if innocents["n"] else "Not with unused draws"
    return Answer(question, figure, " ".join(parts), "unknown" if audit["missing"] else "good")


def _order(report: Report) -> Answer:
    question, bundle = "Was it fixed beforehand?", report.get("bundle")
    if not bundle:
        told = "No evidence bundle stands behind this page: what was fixed when cannot be checked."
        return Answer(question, "Not shown", told, "unknown")
    if bundle["is_timely"]:
        who = listed(sorted({authority_text(w["authority"]) for w in bundle["witnesses"]}))
        told = (
            "The keys, the lots and the plan were sealed before the suspect was first asked. "
            f"Witness by signed time-stamp: {who}. When it was asked is the asker's own word."
        )
        return Answer(question, "Yes, witnessed", told, "good")
    reasons = [note for note in bundle["notes"] if "stamp" in note or "commit" in note]
    told = "Nothing proves that keys, lots and plan are older than the suspect's answers."
    return Answer(question, "Not shown", " ".join([told, *_ended(reasons[:2])]), "unknown")


def _rivals(top: Mapping[str, Any]) -> Answer:
    question, rivals = "What else could explain it?", top["rivals"]
    standing = [one["standing"] for one in rivals]
    if top["level"] == "no finding":
        told = "There is nothing to explain."
        return Answer(question, "Nothing to explain", told, "unknown")
    left = [one["explanation"] for one in rivals if one["standing"] != "excluded"]
    told = (
        f"{count(standing.count('excluded'))} of {count(len(rivals))} other explanations are ruled "
        f"out, {count(standing.count('narrowed'))} narrowed. "
    )
    told += f"Not ruled out: {'; '.join(left)}." if left else "None is left."
    open_ones = standing.count("possible")
    figure = f"{count(open_ones)} open" if open_ones else "None stands open"
    return Answer(question, figure, told, "plain" if open_ones else "good")


def _checked(report: Report) -> Answer:
    question, bundle = "Can anybody check it?", report.get("bundle")
    steps: Sequence[Mapping[str, Any]] = report.get("recomputed") or ()
    if not bundle:
        return Answer(question, MISSING.capitalize(), "No evidence bundle was read.", "unknown")
    if not bundle["is_sound"]:
        told = f"The bundle was altered: {'; '.join(bundle['problems'][:3])}."
        return Answer(question, "It was altered", told, "bad")
    same = sum(step["outcome"] == "same" for step in steps)
    if not steps:
        told = "Every file of the bundle is the one that was sealed; no number was computed again."
        return Answer(question, "Yes", told, "good")
    told = (
        "Every file is the one that was sealed, and the numbers were computed again from the files "
        "with the command at the end of this page."
    )
    figure = f"{count(same)} of {count(len(steps))} came out again"
    differ = [step["step"] for step in steps if step["outcome"] in {"different", "failed"}]
    if differ:
        return Answer(question, figure, f"Not these: {listed(differ)}.", "bad")
    if same < len(steps):
        told += " The others need files that are kept back here."
    return Answer(question, figure, told, "good")


def _ended(texts: Sequence[str]) -> list[str]:
    """Make sentences of notes."""
    return [f"{text[:1].upper()}{text[1:].rstrip('.')}." for text in texts]


def _log10(value: float | None) -> float | None:
    return math.log10(value) if value else None
