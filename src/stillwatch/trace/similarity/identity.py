"""Does a suspect say that it is my model more often than other models say so?

A student repeats what its teacher says of itself. So do models that learned from a web full of the
teacher's name. The rate is therefore held against reference models, three ways:

- Fisher's exact test against all references together, which would be a proof if the references
  were one model asked many times;
- the same against the one reference that claims most, because references differ: it is the one to
  quote;
- item by item, where the suspect and the references were asked the same questions: given how many
  of them claim on a question, the suspect is any one of them (exact, generalised binomial).

None rests on our own randomness: report "k of R references claim it as often", never multiply.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from stillwatch.errors import reject
from stillwatch.stats.hypergeometric import fisher_upper_tail
from stillwatch.stats.poisson_binomial import poisson_binomial_upper_tail
from stillwatch.trace.outputs import SuspectOutput
from stillwatch.trace.similarity.self_claims import Brand

#: Claims that are quoted in a report.
_QUOTED = 5


@dataclass(frozen=True)
class IdentityLeak:
    """What a suspect says of itself, beside what references say.

    Attributes:
        n_asked: the suspect's answers to questions that do not name the brand (count).
        n_claims: those that claim the brand (count).
        excluded: answers left out because the question names the brand (count).
        reference_asked: answers of all references (count).
        reference_claims: claims of all references (count).
        log10_p_pooled: Fisher's exact test against all references together.
        log10_p_worst: the least significant of Fisher's tests against each reference; quote this.
        log10_p_paired: given the claims on each shared question; 0 where none is shared.
        closer: references that claim at least as often (the k of "k of R").
        references: of so many (R).
        worst_reference: the reference that claims most often.
        worst_rate: its share of claims, 0..1.
        quotes: some of the suspect's claims.
    """

    n_asked: int
    n_claims: int
    excluded: int
    reference_asked: int
    reference_claims: int
    log10_p_pooled: float
    log10_p_worst: float
    log10_p_paired: float
    closer: int
    references: int
    worst_reference: str
    worst_rate: float
    quotes: tuple[str, ...]

    @property
    def rate(self) -> float:
        """Share of the suspect's answers that claim the brand, 0..1."""
        return self.n_claims / self.n_asked if self.n_asked else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Give everything as plain data.

        Returns:
            What `msgspec` or `json` can write.
        """
        return {**asdict(self), "quotes": list(self.quotes), "rate": self.rate}


class _Told(NamedTuple):
    """One model's answers to questions that do not name the brand."""

    claims: tuple[tuple[str, bool], ...]
    quotes: tuple[str, ...]
    excluded: int

    @property
    def n_claims(self) -> int:
        return sum(claimed for _, claimed in self.claims)

    @property
    def rate(self) -> float:
        return self.n_claims / len(self.claims)


def find_identity(
    suspect: Sequence[SuspectOutput],
    references: Mapping[str, Sequence[SuspectOutput]],
    *,
    brand: Brand,
) -> IdentityLeak:
    """Count a suspect's claims to be of a brand, beside the references'.

    Args:
        suspect: its outputs.
        references: outputs of models that are not of the brand and did not learn from it.
        brand: the names to look for.

    Returns:
        Counts, tails and place among the references.

    Raises:
        InvalidInputError: no reference is given, or a model has no answer to a question that does
            not name the brand.
    """
    if not references:
        reject("trace.find_identity", "references", "at least one model", got=0)
    own = _tell("the suspect", suspect, brand)
    others = {name: _tell(name, outputs, brand) for name, outputs in references.items()}
    asked = sum(len(told.claims) for told in others.values())
    claims = sum(told.n_claims for told in others.values())
    worst = max(others, key=lambda name: others[name].rate)
    against = [_fisher(own, told) for told in others.values()]
    pooled = fisher_upper_tail((own.n_claims, len(own.claims)), (claims, asked))
    return IdentityLeak(
        n_asked=len(own.claims), n_claims=own.n_claims, excluded=own.excluded,
        reference_asked=asked, reference_claims=claims, log10_p_pooled=pooled.log10_p,
        log10_p_worst=max(against), log10_p_paired=_paired(own, list(others.values())),
        closer=sum(told.rate >= own.rate for told in others.values()), references=len(others),
        worst_reference=worst, worst_rate=others[worst].rate, quotes=own.quotes,
    )  # fmt: skip


def _tell(name: str, outputs: Sequence[SuspectOutput], brand: Brand) -> _Told:
    asked = [one for one in outputs if not brand.named_in(one.question)]
    if not asked:
        rule = "answered at least one question that does not name the brand"
        reject("trace.find_identity", name, rule, got=f"{len(outputs)} answers")
    said = [brand.claim_in(one.answer) for one in asked]
    quotes = tuple(claim for claim in said if claim is not None)[:_QUOTED]
    claims = tuple((one.question, claim is not None)
                   for one, claim in zip(asked, said, strict=True))  # fmt: skip
    return _Told(claims, quotes, len(outputs) - len(asked))


def _fisher(own: _Told, other: _Told) -> float:
    return fisher_upper_tail(
        (own.n_claims, len(own.claims)), (other.n_claims, len(other.claims))
    ).log10_p


def _paired(own: _Told, others: list[_Told]) -> float:
    """Given a question's claims among all who were asked, each of them is the suspect's alike."""
    seen: dict[str, list[int]] = {}
    for told in others:
        for question, claimed in told.claims:
            counts = seen.setdefault(question, [0, 0])
            counts[0] += claimed
            counts[1] += 1
    chances, n_claims = [], 0
    for question, claimed in own.claims:
        if question and question in seen:
            among, n_asked = seen[question]
            chances.append((among + claimed) / (n_asked + 1))
            n_claims += claimed
    tail = poisson_binomial_upper_tail(n_claims, chances).log10_p
    return 0.0 if math.isinf(tail) else tail
