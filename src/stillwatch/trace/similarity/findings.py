"""Lineage, shared errors, identity and equality as findings: a rank, never a proof."""

from __future__ import annotations

import math

from stillwatch.trace.similarity.equality import Equality
from stillwatch.trace.similarity.identity import IdentityLeak
from stillwatch.trace.similarity.lineage import Lineage
from stillwatch.trace.similarity.shared_errors import SharedErrors
from stillwatch.trace.verdicts.finding import Finding

#: References below which a rank cannot be unusual at 1 in 20.
_REFERENCES_NEEDED = 19


def lineage_finding(told: Lineage, candidate: str) -> Finding:
    """Put the closeness to one candidate into a finding.

    Args:
        told: as `lineage.find_teacher` gives it.
        candidate: usually your model.

    Returns:
        The contrast, with its rank among the references.

    Raises:
        InvalidInputError: it was no candidate.
    """
    near = told.of(candidate)
    notes = [f"first of {len(told.kinships)} candidates: {told.first.candidate}"]
    if not near.possible:
        notes.append("the candidate was released after the suspect")
    if near.same_base:
        notes.append(
            "the suspect and the candidate have the same base model, which alone can do it"
        )
    if near.matched < near.references:
        notes.append(f"{near.matched} references have the suspect's base model and age")
    notes += _few(near.references)
    return Finding(
        test="lineage", statistic=near.contrast, rank=(near.closer, near.references),
        n=told.n_questions,
        null="the suspect is as independent of the candidate as the references are",
        notes=tuple(notes), details=told.as_dict(),
    )  # fmt: skip


def errors_finding(told: SharedErrors) -> Finding:
    """Put shared errors into a finding.

    Args:
        told: as `shared_errors.compare_errors` gives it.

    Returns:
        The excess of matches, with its rank; the model's p stands in the details.
    """
    return Finding(
        test="shared-errors", statistic=told.z, rank=(told.closer, told.references),
        n=told.n_items,
        null="the suspect's answers depend on mine only through difficulty and ability",
        notes=(
            "log10_p in the details is exact under the fitted model of items only",
            *_few(told.references),
        ),
        details=told.as_dict(),
    )  # fmt: skip


def identity_finding(told: IdentityLeak) -> Finding:
    """Put identity leaks into a finding.

    Args:
        told: as `identity.find_identity` gives it.

    Returns:
        The share of claims, with its rank among the references.
    """
    notes = [f"{told.excluded} answers left out: the question names the brand"]
    if told.closer:
        notes.append(f"{told.worst_reference} claims it in {told.worst_rate:.1%} of its answers")
    return Finding(
        test="identity", statistic=told.rate, rank=(told.closer, told.references),
        n=told.n_asked,
        null="the suspect claims the brand as often as references do",
        notes=(*notes, *_few(told.references)), details=told.as_dict(),
    )  # fmt: skip


def _few(references: int) -> list[str]:
    if references >= _REFERENCES_NEEDED:
        return []
    return [f"a rank of 1 in 20 needs {_REFERENCES_NEEDED} references, {references} are there"]


def equality_finding(told: Equality, *, identity: str) -> Finding:
    """Put an endpoint's comparison into a finding.

    Args:
        told: as `equality.compare_endpoint` gives it.
        identity: names the samples, for example the endpoint and the day.

    Returns:
        Minus the distance in standard deviations; its exact p-value is of "the same model".
    """
    apart = told.apart
    notes = ["a small p-value says that the endpoint is another model than mine"]
    if not told.references:
        notes.append("without references a large p-value says nothing")
    return Finding(
        test="equality", statistic=-apart.z, p_value=apart.p_value,
        log10_p=math.log10(apart.p_value), randomisation=f"samples:{identity}",
        rank=(told.closer, len(told.references)) if told.references else None,
        n=apart.n_questions, needed=told.questions_needed,
        null="the endpoint and my model draw their answers from the same distribution",
        notes=tuple(notes), details=told.as_dict(),
    )  # fmt: skip
