"""What else a campaign could be, what the log says about it, and what settles it."""

from __future__ import annotations

import math
from typing import NamedTuple

from stillwatch.detect.confirmation.principals import Principals
from stillwatch.detect.evidence.exhibits import Doubt, Doubts, Null, Trait, Traits

#: Where most members share a value, the value could be their owner's.
_MOST = 0.5
#: Honest groups that ask one set of questions repeat at least so much of it.
_REPEATED = 0.05


class Seen(NamedTuple):
    """What doubts are weighed by.

    Attributes:
        members: accounts (count).
        parties: organisations behind them; an account without one counts for itself.
        revisited: share of questions that another member asked too.
        null: its interchangeability beside that of honest groups; None = not tested.
        p_value: of the campaign.
        traits: what else members share.
        owners: who stands behind them; None = not looked into.
    """

    members: int
    parties: int
    revisited: float
    null: Null | None
    p_value: float
    traits: Traits
    owners: Principals | None = None


def weigh_doubts(seen: Seen) -> Doubts:
    """Weigh the innocent explanations of a campaign.

    Args:
        seen: its figures.

    Returns:
        The explanations, those that the log cannot rule out first.
    """
    doubts = [_one_party(seen), _one_company(seen), _one_product(seen), _one_set(seen), _luck(seen)]
    order = {"for": 0, "open": 1, "against": 2}
    return Doubts(items=tuple(sorted(doubts, key=lambda doubt: order[doubt.verdict])))


def _one_party(seen: Seen) -> Doubt:
    told = f"{seen.members} accounts of {seen.parties} declared parties."
    owned = seen.parties < _MOST * seen.members
    if seen.owners is not None:
        told = seen.owners.text
        owned = seen.owners.kind in {"one party", "hidden ownership"}
    return Doubt(
        explanation="One party splits a labelling, evaluation or batch job over accounts that it "
        "did not declare as its own.",
        expected="The same as a campaign: members alike, nothing asked twice.",
        seen=told,
        verdict="for" if owned else "open",
        settle="Ask for whom the accounts work and what becomes of the answers; compare payment "
        "marks, contracts and addresses at sign-up.",
    )


def _one_company(seen: Seen) -> Doubt:
    network = _trait(seen.traits, "network")
    if network is None:
        told, verdict = "The log names no networks.", "open"
    else:
        told = (
            f"The commonest network has {network.top} of {network.members} members; "
            f"{network.distinct} networks in all."
        )
        verdict = "for" if network.top >= _MOST * network.members else "against"
    if seen.owners is not None and seen.owners.kind == "one institution":
        told, verdict = seen.owners.text, "for"
    return Doubt(
        explanation="One company whose people use a key each, behind one address.",
        expected="Most members on one network, and people: each with words of its own.",
        seen=told,
        verdict=verdict,
        settle="Look at the organisations' names and the network's owner.",
    )


def _one_product(seen: Seen) -> Doubt:
    if seen.null is None or not seen.null.honest:
        told, verdict = "Members could not be compared with honest groups.", "open"
    else:
        middle = seen.null.honest[len(seen.null.honest) // 2]
        told = (
            f"A rare word returns to its account {seen.null.found:.1f} times as often as chance, "
            f"at most; in the middle honest group {middle:.1f} times."
        )
        verdict = "against" if seen.null.found < seen.null.honest[0] else "open"
    return Doubt(
        explanation="Users of one product, agent or prompt template that wraps what they ask.",
        expected="Users are themselves: a rare word returns to the account that used it.",
        seen=told,
        verdict=verdict,
        settle="Look whether the wording is published, and whether the accounts talk like people "
        "below the template.",
    )


def _one_set(seen: Seen) -> Doubt:
    return Doubt(
        explanation="A class with one worksheet, users of one test suite, a prompt that went "
        "round.",
        expected="Several members ask the same questions.",
        seen=f"{seen.revisited:.1%} of the questions were asked by another member too.",
        verdict="against" if seen.revisited < _REPEATED else "open",
        settle="Look for the questions in known suites and course material.",
    )


def _luck(seen: Seen) -> Doubt:
    return Doubt(
        explanation="Chance: an honest group that happens to look like this.",
        expected="A p-value that is not small.",
        seen=f"p = {seen.p_value:.1g}: once in about {_times(seen.p_value)} honest groups.",
        verdict="against" if seen.p_value < 0.01 else "open",
        settle="Run again on another week; an honest group does not look like this twice.",
    )


def _times(p_value: float) -> str:
    times = 1.0 / max(p_value, 1e-12)
    step = 10 ** max(math.floor(math.log10(times)) - 1, 0)
    return f"{round(times / step) * step:,}"


def _trait(traits: Traits, kind: str) -> Trait | None:
    return next((t for t in traits.items if t.kind == kind), None)
