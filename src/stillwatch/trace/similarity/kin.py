"""What is known of models beforehand: family, base, date, and from whom they are known to come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from stillwatch.errors import reject

#: References released within so many days of the suspect saw about the same web and recipes.
MATCHED_DAYS = 365


@dataclass(frozen=True)
class ModelCard:
    """Facts about a model that are known without asking it.

    Attributes:
        family: who makes it, for example a vendor's line of models; "" = a family of its own.
        base: the base model that it was tuned from, "" where unknown.
        released: day of its release, or None.
        teachers: models that it is known to learn from; it is no reference for those.
    """

    family: str = ""
    base: str = ""
    released: date | None = None
    teachers: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Panel:
    """Who is accused, of copying whom, and beside whom.

    Attributes:
        suspect: the model in question.
        candidates: possible teachers, yours among them.
        references: models believed to be independent of the candidates; a candidate may stand here
            too, and is then a reference for the other candidates.
        cards: what is known of any of them.
    """

    suspect: str
    candidates: tuple[str, ...]
    references: tuple[str, ...]
    cards: Mapping[str, ModelCard] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = "trace.Panel"
        if not self.candidates:
            reject(where, "candidates", "at least one model", got=0)
        for name in ("candidates", "references"):
            named: Sequence[str] = getattr(self, name)
            if len(set(named)) != len(named):
                reject(where, name, "named once each", got=", ".join(named))
            if self.suspect in named:
                reject(where, name, "other models than the suspect", got=self.suspect)

    @property
    def models(self) -> tuple[str, ...]:
        """All models of the panel, the suspect first, each once."""
        return tuple(dict.fromkeys((self.suspect, *self.references, *self.candidates)))

    def card(self, model: str) -> ModelCard:
        """Look up a model's card.

        Args:
            model: its name.

        Returns:
            Its card, an empty one where nothing is known.
        """
        return self.cards.get(model, ModelCard())

    def family(self, model: str) -> str:
        """Name a model's family.

        Args:
            model: its name.

        Returns:
            The family, the model's own name where none is known.
        """
        return self.card(model).family or model

    def is_null(self, model: str, candidate: str) -> bool:
        """Tell whether a model can stand for "did not learn from this candidate".

        Args:
            model: a reference, or the suspect.
            candidate: the teacher in question.

        Returns:
            False for the candidate itself, its family and its known students.
        """
        if model == candidate or candidate in self.card(model).teachers:
            return False
        return model == self.suspect or self.family(model) != self.family(candidate)

    def is_possible(self, candidate: str) -> bool:
        """Tell whether a candidate was there before the suspect was.

        Args:
            candidate: a possible teacher.

        Returns:
            False only where both days are known and the candidate's is later.
        """
        mine, theirs = self.card(candidate).released, self.card(self.suspect).released
        return mine is None or theirs is None or mine <= theirs

    def has_same_base(self, other: str) -> bool:
        """Tell whether a model is known to come from the suspect's base model, or is that model.

        Args:
            other: a candidate or reference.

        Returns:
            False where either base is unknown.
        """
        base = self.card(self.suspect).base
        return bool(base) and base in {self.card(other).base, other}

    def is_matched(self, reference: str, *, days: int = MATCHED_DAYS) -> bool:
        """Tell whether a reference has the suspect's base model and about its age.

        Args:
            reference: a reference model.
            days: how far apart the releases may lie.

        Returns:
            True where base and days are known of both and agree; unknown never agrees.
        """
        one, other = self.card(self.suspect), self.card(reference)
        if one.released is None or other.released is None:
            return False
        return self.has_same_base(reference) and abs(one.released - other.released) <= timedelta(
            days=days
        )
