"""What scoring found: figures by capability, inside and outside of what was asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from stillwatch.distill.curves.points import PointLine
from stillwatch.distill.scores.comparing import Comparison, Field, ModelFigures
from stillwatch.distill.scores.contender import TEACHER, UNTOUCHED
from stillwatch.errors import reject
from stillwatch.record.disk import replace_file
from stillwatch.stats.clustered import difference_of
from stillwatch.stats.intervals import Estimate

INSIDE, OUTSIDE = "held out", "out of distribution"
#: Beyond this share of answers, what a check could not judge or a limit has cut is told.
_WORTH_TELLING = 0.01


class StudentFacts(msgspec.Struct, frozen=True, kw_only=True):
    """How a student came about, as a curve needs it; None where it was not counted.

    Attributes:
        n_questions: questions asked for its record (count); 0 is the untouched student.
        seed: of its training.
        n_kept: questions whose answers were kept (count).
        own: of the questions asked, how many by capability.
        input_tokens: tokens sent to the teacher (count).
        output_tokens: tokens the teacher answered with (count).
        usd_asked: price of asking, US dollars.
        usd_trained: price of training, US dollars.
        steps: training steps (count).
        train_loss: mean nats per answer token at the end, on its own record.
        is_probe: trained longer than the rule.
    """

    n_questions: int
    seed: int = 0
    n_kept: int | None = None
    own: dict[str, int] = {}
    input_tokens: int | None = None
    output_tokens: int | None = None
    usd_asked: float | None = None
    usd_trained: float | None = None
    steps: int | None = None
    train_loss: float | None = None
    is_probe: bool = False


@dataclass(frozen=True, eq=False)
class ScorePart:
    """The models on one set of items.

    Attributes:
        name: `INSIDE` or `OUTSIDE`.
        field: every answer judged.
        item_ids: of the items that were scored, in the field's order.
        cluster_names: of each item, in the field's order; "" where an item stands alone.
        comparisons: one a capability, then "all" and "mean" where there are several.
        n_left_out: items left out because some model gave no answer (count).
    """

    name: str
    field: Field
    item_ids: tuple[str, ...]
    cluster_names: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    n_left_out: int = 0

    @property
    def overall(self) -> Comparison:
        """All items pooled."""
        return next((c for c in self.comparisons if c.capability == "all"), self.comparisons[0])

    def as_dict(self) -> dict[str, Any]:
        """Give the figures as plain JSON data, without the answers item by item."""
        return {
            "items": self.name,
            "n_items": len(self.item_ids),
            "n_left_out": self.n_left_out,
            "capabilities": [found.as_dict() for found in self.comparisons],
        }


@dataclass(frozen=True, eq=False)
class ScoreReport:
    """Every model on the same items.

    Attributes:
        parts: what was asked for, then what lies outside where there is such a set.
        identities: of the models, by name; "" where a model had none.
        parameters: the decoding, the same for all.
        samples: answers to each item (count).
        level: coverage of the intervals.
        tells: how well a plain classifier tells each model's wording from the teacher's (area
            under the curve, 0.5 = not at all), by model; empty when it was not asked for.
        n_repeated: items that stood there more than once and count once (count).
    """

    parts: tuple[ScorePart, ...]
    identities: Mapping[str, str]
    parameters: Mapping[str, Any]
    samples: int
    level: float
    tells: Mapping[str, Estimate] = field(default_factory=dict)
    n_repeated: int = 0

    @property
    def inside(self) -> ScorePart:
        """The held-out items of what was asked."""
        return self.parts[0]

    @property
    def outside(self) -> ScorePart | None:
        """The items from elsewhere, or None."""
        return self.parts[1] if len(self.parts) > 1 else None

    def loss_outside(self, name: str) -> Estimate | None:
        """Compare what a model gained over the untouched student outside with what it did inside.

        Args:
            name: a student.

        Returns:
            Gain outside minus gain inside (shares), or None without a second set or an untouched
            student; below 0: what was learnt does not carry over.
        """
        gains = [part.overall.models[name].above_untouched for part in self.parts]
        if len(gains) < 2 or gains[0] is None or gains[1] is None:
            return None
        return difference_of(gains[1], gains[0])

    @property
    def students(self) -> list[str]:
        """Names of the models that are neither the teacher nor untouched."""
        return [name for name in self.inside.field.marks if name not in {TEACHER, UNTOUCHED}]

    def notes(self) -> list[str]:
        """Say in sentences what a reader must know."""
        found = []
        for part in self.parts:
            found += _part_notes(part)
        if self.n_repeated:
            found.append(f"Repeated items: {self.n_repeated}; each question counts once.")
        if self.outside is None:
            found.append(
                "No items from elsewhere were scored: what the student does outside is not known."
            )
        for name in self.students:
            lost = self.loss_outside(name)
            if lost is not None and lost.high < 0:
                found.append(
                    f"{name} gained less outside of what was asked than inside: "
                    f"{lost.value:+.3f} [{lost.low:+.3f}, {lost.high:+.3f}]."
                )
        if UNTOUCHED not in self.inside.field.marks:
            found.append("The untouched student was not scored: there is no gap to close.")
        return found

    def as_dict(self) -> dict[str, Any]:
        """Give the report as plain JSON data."""
        return {
            "parameters": dict(self.parameters),
            "samples": self.samples,
            "level": self.level,
            "models": dict(self.identities),
            "parts": [part.as_dict() for part in self.parts],
            "tells": {name: found._asdict() for name, found in self.tells.items()},
            "loss_outside": {
                name: found._asdict()
                for name in self.students
                if (found := self.loss_outside(name)) is not None
            },
            "notes": self.notes(),
        }

    def write(self, path: Path) -> None:
        """Write the report as JSON, atomically.

        Args:
            path: the file.
        """
        encoded = msgspec.json.encode(self.as_dict(), order="sorted")
        replace_file(path, msgspec.json.format(encoded))

    def point_lines(self, facts: Mapping[str, StudentFacts]) -> list[PointLine]:
        """Lay the scores out as lines of a points file, for a curve.

        Args:
            facts: how each student came about, by its name here; the untouched one needs none.

        Returns:
            One line for each model, part and capability; the teacher's first.

        Raises:
            InvalidInputError: no teacher was scored, or a student has no facts.
        """
        where = "ScoreReport.point_lines"
        if TEACHER not in self.identities:
            reject(where, "models", "scored beside the teacher", got=sorted(self.identities))
        known = {UNTOUCHED: StudentFacts(n_questions=0), **facts}
        missing = [name for name in self.students if name not in known]
        if missing:
            reject(where, "facts", "one for each student", got=f"none for {', '.join(missing)}")
        return [line for part in self.parts for line in _lines(part, known)]


def _lines(part: ScorePart, facts: Mapping[str, StudentFacts]) -> list[PointLine]:
    lines = []
    marks = part.field.marks
    names = [TEACHER, *(name for name in marks if name != TEACHER)]
    for capability in dict.fromkeys(part.field.capabilities.tolist()):
        rows = np.flatnonzero(part.field.capabilities == capability)
        clusters = [part.cluster_names[n] for n in rows]
        for name in names:
            shares = marks[name].right[rows].mean(axis=1).tolist()
            is_outside = part.name == OUTSIDE
            if name == TEACHER:
                own = clusters if any(clusters) else []
                lines.append(
                    PointLine(capability, shares, clusters=own, out_of_distribution=is_outside)
                )
                continue
            plain = msgspec.structs.asdict(facts[name])
            counted = plain.pop("own")
            n_own = counted.get(capability)
            lines.append(
                PointLine(capability, shares, n_own=n_own, out_of_distribution=is_outside, **plain)
            )
    return lines


def _part_notes(part: ScorePart) -> list[str]:
    found = []
    if part.n_left_out:
        found.append(
            f"{part.name}: {part.n_left_out} items were left out for all models, because one gave "
            "no answer."
        )
    for name, figures in part.overall.models.items():
        found += _counted(part, name, figures)
    return found


def _counted(part: ScorePart, name: str, figures: ModelFigures) -> list[str]:
    n_answers = part.field.marks[name].right.size
    words = (
        (figures.n_unknown, "could not be judged and count as not right"),
        (figures.n_cut, "were cut at the limit of tokens"),
    )
    return [
        f"{part.name}: {count} of {n_answers} answers of {name} {what}."
        for count, what in words
        if count > _WORTH_TELLING * n_answers
    ]
