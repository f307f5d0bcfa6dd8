"""Rival explanations: how else the same evidence could have come about, and what rules it out.

A p-value rules out chance and nothing else. Which other stories survive follows from what the draws
were: a habit, a shared base model or a shared third teacher cannot know our draw, but whoever saw
the answers that carried it can have passed them on.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

import msgspec

from stillwatch.trace.preregister import ANY_CLAIM, AnalysisPlan
from stillwatch.trace.verdicts.evidence import Channel

Standing = Literal["excluded", "narrowed", "possible"]


class Rival(msgspec.Struct, frozen=True):
    """Another story for the same evidence.

    Attributes:
        explanation: the story.
        standing: `excluded` by the evidence, `narrowed`, or still `possible`.
        why: what says so, or what would.
    """

    explanation: str
    standing: Standing
    why: str


def rival_explanations(
    plan: AnalysisPlan,
    claim: str,
    channels: Sequence[Channel],
    *,
    is_found: bool,
    apart: Collection[str] = (),
) -> tuple[Rival, ...]:
    """List the rival explanations of one accusation.

    Args:
        plan: the analysis plan.
        claim: what the suspect is said to have learned from.
        channels: the evidence, draw by draw.
        is_found: whether the evidence reaches a level of the plan.
        apart: names of the similarity tests that were reported beside it.

    Returns:
        The rivals, always in the same order.
    """
    reported = [one for one in channels if one.tests]
    return (
        _chance(plan, is_found=is_found),
        _common_cause(is_found=is_found),
        _fitted_draw(plan, reported),
        _published(claim, is_found=is_found),
        _repeated(reported),
        _same_model(apart),
    )


def _chance(plan: AnalysisPlan, *, is_found: bool) -> Rival:
    why = (
        f"the error rate covers all {plan.n_accusations} accusations that the plan allows, and any "
        "moment of looking"
        if is_found
        else "the evidence reaches no level of the plan"
    )
    return Rival("chance", "excluded" if is_found else "possible", why)


def _common_cause(*, is_found: bool) -> Rival:
    story = "the same base model, or a third model that taught both"
    if is_found:
        why = "neither can know draws that were made in secret; they explain likeness, not this"
        return Rival(story, "excluded", why)
    why = "likeness alone cannot tell them from learning; only a draw of ours can"
    return Rival(story, "possible", why)


def _fitted_draw(plan: AnalysisPlan, reported: Sequence[Channel]) -> Rival:
    story = "keys or draws picked after the suspect's answers were known"
    open_draws = [c.randomisation for c in reported if c.randomisation not in plan.commitments]
    if open_draws or not reported:
        named = ", ".join(open_draws) or "every draw"
        return Rival(story, "possible", f"the plan holds no commitment to {named}")
    why = "every draw was committed to; check that the time-stamp is older than the first question"
    return Rival(story, "narrowed", why)


def _published(claim: str, *, is_found: bool) -> Rival:
    story = "our answers reached the training data through an open collection or a third party"
    if is_found and claim != ANY_CLAIM:
        why = (
            f"the draw belongs to the answers given to {claim} alone: those reached the suspect, "
            "whoever carried them"
        )
        return Rival(story, "narrowed", why)
    why = "a draw of its own for each campaign would tell whose answers they were"
    return Rival(story, "possible", why)


def _repeated(reported: Sequence[Channel]) -> Rival:
    story = "the suspect repeats our answers from its prompt, a cache or a search, untrained"
    if any("open" in test or "withheld" in test for one in reported for test in one.tests):
        why = "tests on the suspect's own weights or likelihoods see no cache and no search"
        return Rival(story, "narrowed", why)
    why = "questions that hold nothing of our answers, and a test on the weights, would narrow it"
    return Rival(story, "possible", why)


def _same_model(apart: Collection[str]) -> Rival:
    story = "the suspect's endpoint is our own model, or passes questions on to it"
    if any("equality" in name for name in apart):
        return Rival(story, "narrowed", "see the test of equality, reported apart")
    return Rival(story, "possible", "the test of equality was not run")
