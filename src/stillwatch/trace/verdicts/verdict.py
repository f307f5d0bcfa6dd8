"""The verdict: what all the evidence together proves about each suspect, and what it does not.

Tests that share a draw of ours are averaged, draws are multiplied (`evidence`), and all accusations
(every suspect times every claim of the plan) share one error rate. Three answers are possible:
"proved", "strong" and "no finding". The pipeline's own audit and the rival explanations belong to
the verdict; findings of similarity stand beside it and move nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np

from stillwatch.errors import reject
from stillwatch.stats.multiple import e_bh, holm_log10
from stillwatch.trace.preregister import AnalysisPlan
from stillwatch.trace.verdicts.audit import Audit, DecoyAudit, complete_audit
from stillwatch.trace.verdicts.evidence import Channel, claim_log10_p, combine, weigh
from stillwatch.trace.verdicts.finding import DRAWS, Finding
from stillwatch.trace.verdicts.rivals import Rival, rival_explanations

Level = Literal["proved", "strong", "no finding"]
_LEVELS: tuple[Level, ...] = ("proved", "strong", "no finding")
#: Evidence beyond this many digits is cut for e-BH, which computes in doubles.
_DIGITS = 300.0


class Accusation(msgspec.Struct, frozen=True, kw_only=True):
    """One suspect, one claim.

    Attributes:
        suspect: the model.
        claim: what it may have learned from: a campaign's answers, or all of ours.
        level: `proved`, `strong` or `no finding`.
        log10_e: evidence that it knows the draws; None while nothing was reported.
        log10_p: the p-value of this accusation alone, valid at any moment.
        adjusted_log10_p: after the plan's correction for all its accusations.
        channels: the evidence, draw by draw.
        rivals: other explanations, and where they stand.
        notes: why the level is lower than the number, and which power was missing.
    """

    suspect: str
    claim: str
    level: Level
    log10_e: float | None
    log10_p: float
    adjusted_log10_p: float
    channels: tuple[Channel, ...]
    rivals: tuple[Rival, ...]
    notes: tuple[str, ...] = ()


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The plan's answer.

    Attributes:
        plan_digest: which plan it answers.
        correction: `holm` or `e-bh`.
        level: the highest level of any accusation.
        accusations: every one that the plan allows, the most suspicious first.
        audit: the pipeline's own errors.
        similarity: suspect -> findings without a draw of ours, reported apart.
        unplanned: suspect -> findings on draws that the plan does not name: leads, not evidence.
    """

    plan_digest: str
    correction: str
    level: Level
    accusations: tuple[Accusation, ...]
    audit: Audit
    similarity: dict[str, tuple[Finding, ...]]
    unplanned: dict[str, tuple[Finding, ...]]

    def of(self, suspect: str) -> Accusation:
        """Give the most suspicious accusation of one suspect.

        Args:
            suspect: as the plan names it.

        Returns:
            The accusation.

        Raises:
            InvalidInputError: the plan names no such suspect.
        """
        for one in self.accusations:
            if one.suspect == suspect:
                return one
        return reject("Verdict", "suspect", "one of the plan's", got=suspect)


def decide(
    plan: AnalysisPlan,
    findings: Mapping[str, Sequence[Finding]],
    *,
    innocents: Mapping[str, Sequence[Finding]] | None = None,
    decoys: Sequence[DecoyAudit] = (),
) -> Verdict:
    """Judge every accusation of a plan.

    May be called at any time with what is there: a later verdict is never weaker, and calling it
    often costs nothing.

    Args:
        plan: the analysis plan, fixed before the first question.
        findings: suspect -> its findings; several of one test are its looks, in order of time.
        innocents: model -> findings of the same tests on models that never saw our answers.
        decoys: the same tests on the suspects with draws that nobody used (`audit_decoys`).

    Returns:
        The verdict.

    Raises:
        InvalidInputError: a finding is about a suspect that the plan does not name, or a test was
            looked at more often than planned.
    """
    for suspect in findings:
        if suspect not in plan.suspects:
            hint = "another suspect needs another plan: it would share the error rate"
            reject("decide", "findings", "of suspects that the plan names", got=suspect, hint=hint)
    audit = complete_audit(plan, innocents or {}, decoys)
    keys = [(suspect, claim) for suspect in plan.suspects for claim in plan.claims]
    weighed = [
        weigh([t for t in plan.tests if t.claim == claim], findings.get(suspect, ()))
        for suspect, claim in keys
    ]
    adjusted = _adjusted_log10_p(plan, weighed)
    apart = {s: tuple(f for f in found if f.kind not in DRAWS) for s, found in findings.items()}
    accusations = [
        _accuse(plan, key, channels=channels, log10_p=log10_p, about=(audit, apart))
        for key, channels, log10_p in zip(keys, weighed, adjusted, strict=True)
    ]
    return Verdict(
        plan_digest=plan.digest,
        correction=plan.correction,
        level=min((one.level for one in accusations), key=_LEVELS.index),
        accusations=tuple(sorted(accusations, key=lambda one: (one.adjusted_log10_p, one.log10_p))),
        audit=audit,
        similarity={s: found for s, found in apart.items() if found},
        unplanned=_unplanned(plan, findings),
    )


def verdict_lines(verdict: Verdict) -> list[str]:
    """Say a verdict in sentences, for a terminal.

    Args:
        verdict: from `decide`.

    Returns:
        Lines of text: each accusation with evidence and rivals, the audit, what stands apart.
    """
    lines = []
    for one in verdict.accusations:
        lines.append(_headline(one))
        lines.extend(f"  {_channel_line(channel)}" for channel in one.channels)
        lines.extend(f"  note: {note}" for note in one.notes)
        if one.level != "no finding":
            lines.extend(f"  {r.standing}: {r.explanation} ({r.why})" for r in one.rivals)
    innocents = verdict.audit.innocents
    worst = f", the worst {innocents.worst} at log10 p {innocents.worst_log10_p:.1f}"
    lines.append(f"audit: {innocents.n} innocent models{worst if innocents.n else ''}")
    lines.extend(
        f"audit: {one.n:,} decoys of {one.test} on {one.suspect}: {one.below[0]:.1%} at most 1 %, "
        f"the worst at log10 p {one.worst_log10_p:.1f}, rank p {one.rank_p:.1g}"
        for one in verdict.audit.decoys
    )
    lines.extend(f"audit failed: {words}" for words in verdict.audit.failures)
    lines.extend(f"audit incomplete: {words}" for words in verdict.audit.missing)
    for suspect, found in verdict.similarity.items():
        lines.extend(f"apart: {suspect}: {_similarity_line(one)}" for one in found)
    for suspect, found in verdict.unplanned.items():
        lines.extend(f"not planned, not counted: {suspect}: {one.test}" for one in found)
    return lines


def _adjusted_log10_p(plan: AnalysisPlan, weighed: Sequence[Sequence[Channel]]) -> list[float]:
    if plan.correction == "holm":
        return [float(x) for x in holm_log10([claim_log10_p(c, plan.hedge) for c in weighed])]
    logs = np.clip([combine(channels, plan.hedge) for channels in weighed], -_DIGITS, _DIGITS)
    adjusted = e_bh(10.0**logs, plan.strong).adjusted
    return [float(x) for x in np.log10(np.maximum(adjusted, 10.0**-_DIGITS))]


def _accuse(
    plan: AnalysisPlan,
    key: tuple[str, str],
    *,
    channels: tuple[Channel, ...],
    log10_p: float,
    about: tuple[Audit, Mapping[str, Sequence[Finding]]],
) -> Accusation:
    (suspect, claim), (audit, apart) = key, about
    by_number: Level = "no finding"
    if log10_p <= math.log10(plan.strong):
        by_number = "proved" if log10_p <= math.log10(plan.proved) else "strong"
    level, notes = _capped(by_number, audit)
    evidence = combine(channels, plan.hedge)
    return Accusation(
        suspect=suspect,
        claim=claim,
        level=level,
        log10_e=None if evidence == -math.inf else evidence,
        log10_p=claim_log10_p(channels, plan.hedge),
        adjusted_log10_p=log10_p,
        channels=channels,
        rivals=rival_explanations(
            plan,
            claim,
            channels,
            is_found=level != "no finding",
            apart=[found.test for found in apart.get(suspect, ())],
        ),
        notes=(*notes, *_power_notes(channels, level)),
    )


def _capped(by_number: Level, audit: Audit) -> tuple[Level, tuple[str, ...]]:
    """Lower a level that the pipeline's own audit does not support."""
    if by_number == "no finding":
        return by_number, ()
    if not audit.passed:
        return "no finding", (
            f"{by_number} by its number, but the audit failed: nobody is accused",
        )
    if by_number == "proved" and audit.missing:
        return "strong", ("proved by its number, but the audit is not complete",)
    return by_number, ()


def _power_notes(channels: Sequence[Channel], level: Level) -> list[str]:
    notes = [
        f"{channel.randomisation}: {', '.join(channel.missing)} planned and not reported"
        for channel in channels
        if channel.missing
    ]
    if level != "proved":
        notes += [
            f"{channel.randomisation}: {channel.n} of {channel.needed} planned units were scored"
            for channel in channels
            if channel.needed is not None and channel.n < channel.needed
        ]
        if level == "no finding":
            notes.append("no finding is no acquittal: it says what these tests could see")
    return notes


def _unplanned(
    plan: AnalysisPlan, findings: Mapping[str, Sequence[Finding]]
) -> dict[str, tuple[Finding, ...]]:
    planned = {(test.randomisation, test.test) for test in plan.tests}
    rest = {
        suspect: tuple(
            one
            for one in found
            if one.kind in DRAWS and (one.randomisation, one.test) not in planned
        )
        for suspect, found in findings.items()
    }
    return {suspect: found for suspect, found in rest.items() if found}


def _headline(one: Accusation) -> str:
    evidence = "no evidence yet" if one.log10_e is None else f"log10 e {one.log10_e:.1f}"
    return (
        f"{one.suspect} learned from {one.claim}: {one.level} (log10 p {one.adjusted_log10_p:.1f} "
        f"after correction, {one.log10_p:.1f} before; {evidence})"
    )


def _channel_line(channel: Channel) -> str:
    if channel.log10_e is None:
        return f"{channel.randomisation}: nothing reported yet"
    return (
        f"{channel.randomisation}: log10 e {channel.log10_e:.1f}, log10 p {channel.log10_p:.1f} "
        f"from {', '.join(channel.tests)} ({channel.n:,} units)"
    )


def _similarity_line(one: Finding) -> str:
    if one.rank is None:
        return f"{one.test} {one.statistic:.3g}"
    k, references = one.rank
    return f"{one.test}: {k} of {references} reference models are at least as close"
