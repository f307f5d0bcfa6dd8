"""Figures of several models on the same held-out items: shares, gaps, agreement, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillwatch.distill.scores.contender import TEACHER, UNTOUCHED
from stillwatch.errors import reject
from stillwatch.stats.clustered import (
    Layout,
    clustered_difference,
    clustered_ratio,
    clustered_share,
)
from stillwatch.stats.intervals import Estimate

Bools = NDArray[np.bool_]
#: A gap is divided by only where it is above 0 at this level: nearer to 0 the quotient's interval,
#: taken only when the test happens to pass, holds the truth too rarely (docs/score.md).
_CLEARLY = 0.999


@dataclass(frozen=True, eq=False)
class Marks:
    """One model's answers to the items, judged; arrays of shape (n_items, n_samples).

    Attributes:
        right: whether the check said right, or a value 0..1 that another tool gave.
        unknown: whether the check could not tell; such an answer is not right.
        cut: whether the answer was cut at the limit of tokens.
        same: whether it says what the teacher's answer of the same sample says, or None.
    """

    right: Bools | NDArray[np.float64]
    unknown: Bools
    cut: Bools
    same: Bools | None = None

    @classmethod
    def of(cls, right: NDArray[Any]) -> Marks:
        """Take bare outcomes.

        Args:
            right: shape (n_items,) or (n_items, n_samples).

        Returns:
            The marks, nothing unknown and nothing cut.
        """
        table = np.asarray(right, dtype=np.float64)
        table = table[:, None] if table.ndim == 1 else table
        none = np.zeros(table.shape, dtype=np.bool_)
        return cls(table, none, none)


@dataclass(frozen=True, eq=False)
class Field:
    """Models on the same items.

    Attributes:
        marks: by model; `teacher` and `untouched` have a meaning, all others are students.
        clusters: what each item shares with others, shape (n_items,), any labels.
        capabilities: the skill of each item, shape (n_items,).
    """

    marks: Mapping[str, Marks]
    clusters: NDArray[Any]
    capabilities: NDArray[np.str_]

    def __post_init__(self) -> None:
        if not self.marks:
            reject("comparing.Field", "marks", "of at least one model", got=0)
        shapes = {name: found.right.shape for name, found in self.marks.items()}
        first = next(iter(shapes.values()))
        if set(shapes.values()) != {first} or first[0] != self.clusters.size or not first[0]:
            reject("comparing.Field", "marks", "of the same items and samples", got=shapes)


@dataclass(frozen=True)
class Mistakes:
    """How often a model says what the teacher says where the teacher is wrong.

    Attributes:
        n_answers: wrong answers of the teacher (count).
        share: share of them that the model repeats: near 0 for one that learnt the skill elsewhere.
        above_untouched: share minus the untouched student's on the same answers, or None.
    """

    n_answers: int
    share: Estimate
    above_untouched: Estimate | None


@dataclass(frozen=True)
class ModelFigures:
    """One model on some of the items.

    Attributes:
        name: the model's.
        share: share of right answers.
        best_of: share of items with a right answer among the samples; None for one sample.
        n_unknown: answers that the check could not judge (count); they count as not right.
        n_cut: answers cut at the limit of tokens (count).
        above_untouched: share minus the untouched student's, same items, or None.
        behind_teacher: share minus the teacher's, same items, or None.
        retained: share over the teacher's, or None without a teacher.
        gap_closed: (share - untouched) / (teacher - untouched), or None.
        gap_refused: why there is no gap closed, "" where there is one or nothing was asked.
        agreement: share of answers that say what the teacher's say, or None.
        on_mistakes: the same where the teacher is wrong, or None where it never is.
    """

    name: str
    share: Estimate
    best_of: float | None = None
    n_unknown: int = 0
    n_cut: int = 0
    above_untouched: Estimate | None = None
    behind_teacher: Estimate | None = None
    retained: Estimate | None = None
    gap_closed: Estimate | None = None
    gap_refused: str = ""
    agreement: Estimate | None = None
    on_mistakes: Mistakes | None = None

    def as_dict(self) -> dict[str, Any]:
        """Give the figures as plain JSON data; intervals as value, low, high."""
        return {
            "share": self.share._asdict(),
            "best_of": self.best_of,
            "n_unknown": self.n_unknown,
            "n_cut": self.n_cut,
            "above_untouched": _plain(self.above_untouched),
            "behind_teacher": _plain(self.behind_teacher),
            "retained": _plain(self.retained),
            "gap_closed": _plain(self.gap_closed),
            "gap_refused": self.gap_refused,
            "agreement": _plain(self.agreement),
            "on_mistakes": None
            if self.on_mistakes is None
            else {
                "n_answers": self.on_mistakes.n_answers,
                "share": self.on_mistakes.share._asdict(),
                "above_untouched": _plain(self.on_mistakes.above_untouched),
            },
        }


@dataclass(frozen=True)
class Comparison:
    """All models on one capability, or on all of them.

    Attributes:
        capability: its name; "all" pools the items, "mean" weighs every capability the same.
        n_items: items (count).
        n_clusters: sources that they come from (count).
        models: figures by model.
    """

    capability: str
    n_items: int
    n_clusters: int
    models: dict[str, ModelFigures] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Give the figures as plain JSON data."""
        return {
            "capability": self.capability,
            "n_items": self.n_items,
            "n_clusters": self.n_clusters,
            "models": {name: figures.as_dict() for name, figures in self.models.items()},
        }


def compare_all(field: Field, *, level: float = 0.95) -> list[Comparison]:
    """Compare the models capability by capability, and over all.

    Args:
        field: judged answers.
        level: coverage of every interval.

    Returns:
        One a capability in order of appearance; with several also "all" and "mean" at the end.
    """
    names = list(dict.fromkeys(field.capabilities.tolist()))
    found = [compare(field, name, field.capabilities == name, level=level) for name in names]
    if len(names) > 1:
        everything = np.ones(field.clusters.size, dtype=np.bool_)
        found.append(compare(field, "all", everything, level=level))
        found.append(compare(field, "mean", everything, is_macro=True, level=level))
    return found


def compare(
    field: Field, name: str, rows: Bools, *, is_macro: bool = False, level: float = 0.95
) -> Comparison:
    """Compare the models on some items.

    Args:
        field: judged answers.
        name: what the items are called.
        rows: which items, shape (n_items,).
        is_macro: weigh every capability the same, not every item.
        level: coverage of every interval.

    Returns:
        The figures of each model.
    """
    n_samples = next(iter(field.marks.values())).right.shape[1]
    clusters = np.unique(field.clusters[rows], return_inverse=True)[1]
    strata = np.repeat(field.capabilities[rows], n_samples) if is_macro else None
    layout = Layout.of(np.repeat(clusters, n_samples), strata)
    scale = _Scale(field, rows, layout=layout, level=level)
    models = {model: scale.figures(model) for model in field.marks}
    return Comparison(name, int(rows.sum()), layout.n_clusters, models)


class _Scale:
    """Computes figures of models on the same rows."""

    def __init__(self, field: Field, rows: Bools, *, layout: Layout, level: float) -> None:
        self._field, self._rows, self._layout, self._level = field, rows, layout, level
        self._teacher = self._right(TEACHER)
        self._untouched = self._right(UNTOUCHED)

    def figures(self, name: str) -> ModelFigures:
        """Compute the figures of one model."""
        marks, right = self._field.marks[name], self._right(name)
        assert right is not None
        layout, level = self._layout, self._level
        table = marks.right[self._rows]
        teacher = None if name == TEACHER else self._teacher
        untouched = None if name == UNTOUCHED else self._untouched
        gap, refused = self._gap(name, right)
        return ModelFigures(
            name,
            clustered_share(right, layout, level=level),
            best_of=self._best_of(table),
            n_unknown=int(marks.unknown[self._rows].sum()),
            n_cut=int(marks.cut[self._rows].sum()),
            above_untouched=None
            if untouched is None
            else clustered_difference(right, untouched, layout, level=level),
            behind_teacher=None
            if teacher is None
            else clustered_difference(right, teacher, layout, level=level),
            retained=None
            if teacher is None
            else clustered_ratio(right, teacher, layout, level=level),
            gap_closed=gap,
            gap_refused=refused,
            agreement=None
            if teacher is None or (same := self._same(name)) is None
            else clustered_share(same, layout, level=level),
            on_mistakes=self._mistakes(name),
        )

    def _right(self, name: str) -> NDArray[np.float64] | None:
        if name not in self._field.marks:
            return None
        return self._field.marks[name].right[self._rows].ravel().astype(np.float64)

    def _same(self, name: str) -> NDArray[np.float64] | None:
        marks = self._field.marks.get(name)
        if marks is None or marks.same is None:
            return None
        return marks.same[self._rows].ravel().astype(np.float64)

    def _best_of(self, table: NDArray[Any]) -> float | None:
        if table.shape[1] < 2:
            return None
        # Every item has as many samples, so the layout's weights serve item by item.
        each = np.repeat((table > 0.5).any(axis=1), table.shape[1])
        return self._layout.mean(each.astype(np.float64))

    def _gap(self, name: str, right: NDArray[np.float64]) -> tuple[Estimate | None, str]:
        if name in {TEACHER, UNTOUCHED} or self._teacher is None:
            return None, ""
        if self._untouched is None:
            return None, "the untouched student was not scored"
        ahead = clustered_difference(self._teacher, self._untouched, self._layout, level=_CLEARLY)
        if ahead.low <= 0:
            return None, (
                "the teacher is not clearly ahead of the untouched student: "
                f"{ahead.value:+.3f} [{ahead.low:+.3f}, {ahead.high:+.3f}]"
            )
        found = clustered_ratio(
            right, self._teacher, self._layout, base=self._untouched, level=self._level
        )
        return found, "" if found else "the gap's interval reaches 0"

    def _mistakes(self, name: str) -> Mistakes | None:
        same = self._same(name)
        if same is None or name == TEACHER or self._teacher is None:
            return None
        wrong = self._teacher < 0.5
        if not wrong.any():
            return None
        layout = Layout.of(self._layout.clusters[wrong])
        base = None if name == UNTOUCHED else self._same(UNTOUCHED)
        return Mistakes(
            int(wrong.sum()),
            clustered_share(same[wrong], layout, level=self._level),
            None
            if base is None
            else clustered_difference(same[wrong], base[wrong], layout, level=self._level),
        )


def _plain(estimate: Estimate | None) -> dict[str, float] | None:
    return None if estimate is None else estimate._asdict()
