"""The false-accusation audit: what the same pipeline says where it must stay silent.

Two questions, answered inside every verdict. *Decoys*: the suspect's own answers, tested with draws
that nobody used; their p-values must be no smaller than chance makes them. *Innocents*: models that
never saw our answers, tested with the real draws; none may come near an accusation. A pipeline that
fails either accuses nobody, and one that was not asked enough is believed less.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from stillwatch.errors import reject
from stillwatch.stats.pvalues import binomial_upper_tail, permutation_p
from stillwatch.trace.preregister import AnalysisPlan
from stillwatch.trace.verdicts.evidence import claim_log10_p, weigh
from stillwatch.trace.verdicts.finding import Finding

#: An audit fails when what it sees would be so rare for a right pipeline.
FAILS_AT = 1e-3
#: Levels at which decoys are counted.
LEVELS = (0.01, 0.05, 0.10)


class DecoyAudit(msgspec.Struct, frozen=True, kw_only=True):
    """One test of one suspect, repeated with draws that nobody used.

    Attributes:
        suspect: whose answers.
        test: as findings name it.
        randomisation: the draw that the decoys stand in for.
        n: decoys (count).
        below: share of decoys with p at most 1, 5 and 10 %.
        worst_log10_p: the smallest decoy p-value.
        rank_p: (1 + decoys at or below the real p-value) / (1 + decoys).
        excess_p: chance of so many small decoys at any of the levels, Bonferroni over the levels.
    """

    suspect: str
    test: str
    randomisation: str
    n: int
    below: tuple[float, ...]
    worst_log10_p: float
    rank_p: float
    excess_p: float

    @property
    def passed(self) -> bool:
        """Whether the decoys behave as decoys must."""
        return self.excess_p > FAILS_AT


class InnocentAudit(msgspec.Struct, frozen=True, kw_only=True):
    """Models that never saw our answers, put through the verdict's own pipeline.

    Attributes:
        n: innocents (count).
        n_tried: innocents times claims (count).
        worst: the innocent with the smallest p-value, or "" when there is none.
        worst_claim: for which claim.
        worst_log10_p: that p-value.
        adjusted_log10_p: the same, times `n_tried`: chance of one so small among innocents.
        below: share of p-values at most 1, 5 and 10 %.
    """

    n: int
    n_tried: int
    worst: str
    worst_claim: str
    worst_log10_p: float
    adjusted_log10_p: float
    below: tuple[float, ...]

    @property
    def passed(self) -> bool:
        """Whether no innocent comes near an accusation."""
        return self.adjusted_log10_p > math.log10(FAILS_AT)


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """Both audits, and what they lack.

    Attributes:
        decoys: one for each test that was repeated.
        innocents: the innocents.
        missing: what the plan asked for and was not done, in words; () = complete.
        failures: what speaks against the pipeline, in words; () = nothing does.
    """

    decoys: tuple[DecoyAudit, ...]
    innocents: InnocentAudit
    missing: tuple[str, ...]
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing in it speaks against the pipeline."""
        return not self.failures


def audit_decoys(finding: Finding, decoy_log10_p: npt.ArrayLike, *, suspect: str) -> DecoyAudit:
    """Judge a test by what it says of draws that nobody used.

    Args:
        finding: the test with the real draw.
        decoy_log10_p: log10 of the p-values of the same test on the same answers with decoys.
        suspect: whose answers.

    Returns:
        The audit.

    Raises:
        InvalidInputError: no decoys, or the finding has no p-value.
    """
    logs = np.asarray(decoy_log10_p, dtype=np.float64).ravel()
    if not logs.size:
        reject("audit_decoys", "decoy_log10_p", "at least one number", got=0)
    if finding.log10_p is None or finding.randomisation is None:
        reject("audit_decoys", "finding", "one with a p-value", got=finding.test)
    counts = [int(np.count_nonzero(logs <= math.log10(level))) for level in LEVELS]
    tails = [
        binomial_upper_tail(count, logs.size, level).p_value
        for count, level in zip(counts, LEVELS, strict=True)
    ]
    return DecoyAudit(
        suspect=suspect,
        test=finding.test,
        randomisation=finding.randomisation,
        n=int(logs.size),
        below=tuple(count / logs.size for count in counts),
        worst_log10_p=float(logs.min()),
        rank_p=permutation_p(-finding.log10_p, -logs),
        excess_p=min(min(tails) * len(tails), 1.0),
    )


def audit_innocents(
    plan: AnalysisPlan, innocents: Mapping[str, Sequence[Finding]]
) -> InnocentAudit:
    """Put innocent models through the pipeline of the verdict.

    Args:
        plan: the analysis plan.
        innocents: model -> its findings, by the same tests as the suspects'.

    Returns:
        The audit; without innocents one that says so (n = 0).
    """
    rows = []
    for name, findings in innocents.items():
        for claim in plan.claims:
            planned = [test for test in plan.tests if test.claim == claim]
            log10_p = claim_log10_p(weigh(planned, findings), plan.hedge)
            rows.append((log10_p, name, claim))
    worst = min(rows, default=(0.0, "", ""))
    logs = np.array([row[0] for row in rows])
    shares = (float(np.mean(logs <= math.log10(level))) if rows else 0.0 for level in LEVELS)
    return InnocentAudit(
        n=len(innocents),
        n_tried=len(rows),
        worst=worst[1],
        worst_claim=worst[2],
        worst_log10_p=worst[0],
        adjusted_log10_p=min(worst[0] + math.log10(max(len(rows), 1)), 0.0),
        below=tuple(shares),
    )


def complete_audit(
    plan: AnalysisPlan,
    innocents: Mapping[str, Sequence[Finding]],
    decoys: Sequence[DecoyAudit],
) -> Audit:
    """Put both audits together and say what the plan asked for and was not done.

    Args:
        plan: the analysis plan.
        innocents: model -> its findings.
        decoys: from `audit_decoys`.

    Returns:
        The audit of the verdict.
    """
    missing = []
    if len(innocents) < plan.audit.innocents:
        missing.append(f"{len(innocents)} of {plan.audit.innocents} innocent models tested")
    untested = [
        name
        for name, findings in innocents.items()
        if not {(one.randomisation, one.test) for one in findings}
        >= {(test.randomisation, test.test) for test in plan.tests}
    ]
    if untested:
        missing.append(f"not every planned test was run on {', '.join(sorted(untested))}")
    tried = {(one.suspect, one.randomisation, one.test): one.n for one in decoys}
    for suspect in plan.suspects:
        for test in plan.tests:
            n = tried.get((suspect, test.randomisation, test.test), 0)
            if n < plan.audit.decoys:
                of = f"{test.test} on {test.randomisation} of {suspect}"
                missing.append(f"{n} of {plan.audit.decoys} decoys tried for {of}")
    tested = audit_innocents(plan, innocents)
    return Audit(
        decoys=tuple(decoys),
        innocents=tested,
        missing=tuple(missing),
        failures=_failures(tested, decoys),
    )


def _failures(innocents: InnocentAudit, decoys: Sequence[DecoyAudit]) -> tuple[str, ...]:
    failed = [
        f"{one.test} on {one.randomisation}: decoy draws give small p-values too often "
        f"({one.below[0]:.1%} at most 1 %, {one.below[1]:.1%} at most 5 %)"
        for one in decoys
        if not one.passed
    ]
    if not innocents.passed:
        name, log10_p = innocents.worst, innocents.worst_log10_p
        failed.append(f"{name}, an innocent model, reaches log10 p {log10_p:.1f}")
    return tuple(failed)
