"""Score a student: right answers, agreement with its teacher, and both on the same items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from stillwatch.errors import reject
from stillwatch.stats.clustered import Layout, clustered_difference, clustered_share
from stillwatch.stats.intervals import Estimate, Interval, paired_difference, wilson


class Scorable(Protocol):
    """A held-out question that knows which skill it asks for."""

    @property
    def skill(self) -> str:
        """Name of the skill."""


T = TypeVar("T", bound=Scorable)


@dataclass(frozen=True)
class SkillScore:
    """How a student did on the held-out items of one skill.

    Attributes:
        skill: its name.
        correct: right or wrong, shape (n_items,), bool.
        share: share of right answers.
        low: lower end of its 95 % interval (Wilson, at the effective number of items where they
            come in clusters).
        high: upper end of its 95 % interval.
        teacher_correct: the teacher on the same items, or None when it was not given.
        agreement: share of items on which the student says what the teacher says, or None.
        agreement_on_mistakes: the same over the items that the teacher gets wrong: near 0 for a
            model that learnt the skill elsewhere; None without a teacher or without mistakes.
        n_mistakes: items that the teacher gets wrong (count).
        behind_teacher: share of the student minus share of the teacher, paired, or None.
    """

    skill: str
    correct: NDArray[np.bool_]
    share: float
    low: float
    high: float
    teacher_correct: NDArray[np.bool_] | None = None
    agreement: float | None = None
    agreement_on_mistakes: float | None = None
    n_mistakes: int = 0
    behind_teacher: Estimate | None = None

    @property
    def n_items(self) -> int:
        """Items scored (count)."""
        return int(self.correct.size)

    def as_dict(self) -> dict[str, Any]:
        """Give the figures as plain JSON data, without the answers item by item."""
        return {
            "skill": self.skill,
            "n_items": self.n_items,
            "share": self.share,
            "low": self.low,
            "high": self.high,
            "agreement": self.agreement,
            "agreement_on_mistakes": self.agreement_on_mistakes,
            "n_mistakes": self.n_mistakes,
            "behind_teacher": None if self.behind_teacher is None else list(self.behind_teacher),
        }


@dataclass(frozen=True)
class SkillScores:
    """Scores skill by skill; a mean over skills hides a narrow copy that took one completely.

    Attributes:
        by_skill: in order of first appearance.
        overall: all items together, under the name "all".
    """

    by_skill: dict[str, SkillScore]
    overall: SkillScore


def score_answers(
    items: Sequence[T],
    answers: Sequence[str],
    *,
    is_correct: Callable[[T, str], bool],
    teacher_answers: Sequence[str] | None = None,
    clusters: Sequence[object] | None = None,
) -> SkillScores:
    """Score answers against the truth, and against the teacher where its answers are given.

    Args:
        items: held-out questions.
        answers: the student's, one an item, in order.
        is_correct: the oracle of the item's skill.
        teacher_answers: the teacher's answers to the same items, in order.
        clusters: what each item shares with others (a passage), any labels; None for nothing.

    Returns:
        One score a skill, and all together.

    Raises:
        InvalidInputError: no items, or not one answer (or cluster) an item.

    Example:
        >>> from types import SimpleNamespace as Item
        >>> items = [Item(skill="roman", truth="4"), Item(skill="roman", truth="9")]
        >>> scores = score_answers(
        ...     items, ["4", "11"], is_correct=lambda item, said: said == item.truth,
        ...     teacher_answers=["4", "11"],
        ... )
        >>> scores.overall.share, scores.overall.agreement_on_mistakes
        (0.5, 1.0)
    """
    _check(items, answers=answers, teacher_answers=teacher_answers, clusters=clusters)
    skills = np.array([item.skill for item in items])
    right = _judge(items, answers, is_correct)
    teacher = same = None
    if teacher_answers is not None:
        teacher = _judge(items, teacher_answers, is_correct)
        same = _same(answers, teacher_answers)
    groups = None if clusters is None else _numbered(clusters)
    by_skill = {}
    for skill in dict.fromkeys(skills.tolist()):
        own = skills == skill
        parts = [None if column is None else column[own] for column in (teacher, same, groups)]
        by_skill[skill] = _score(
            skill, right[own], teacher=parts[0], same=parts[1], groups=parts[2]
        )
    overall = _score("all", right, teacher=teacher, same=same, groups=groups)
    return SkillScores(by_skill, overall)


def _check(items: Sequence[T], **columns: Sequence[object] | None) -> None:
    if not items:
        reject("score_answers", "items", "at least one item", got=0)
    for name, given in columns.items():
        if given is not None and len(given) != len(items):
            reject("score_answers", name, f"one an item ({len(items)})", got=len(given))


def _same(answers: Sequence[str], others: Sequence[str]) -> NDArray[np.bool_]:
    pairs = zip(answers, others, strict=True)
    return np.array([ours.strip() == theirs.strip() for ours, theirs in pairs], dtype=np.bool_)


def _numbered(labels: Sequence[object]) -> NDArray[np.int64]:
    found = np.unique(np.array([str(label) for label in labels]), return_inverse=True)[1]
    return found.astype(np.int64)


def _judge(
    items: Sequence[T], answers: Sequence[str], is_correct: Callable[[T, str], bool]
) -> NDArray[np.bool_]:
    return np.array([is_correct(item, said) for item, said in zip(items, answers, strict=True)])


def _score(
    skill: str,
    correct: NDArray[np.bool_],
    *,
    teacher: NDArray[np.bool_] | None,
    same: NDArray[np.bool_] | None,
    groups: NDArray[np.int64] | None,
) -> SkillScore:
    share = float(correct.mean())
    interval = _interval(correct, groups)
    if teacher is None or same is None:
        return SkillScore(skill, correct, share, interval.low, interval.high)
    mistakes = ~teacher
    return SkillScore(
        skill,
        correct,
        share,
        interval.low,
        interval.high,
        teacher_correct=teacher,
        agreement=float(same.mean()),
        agreement_on_mistakes=float(same[mistakes].mean()) if mistakes.any() else None,
        n_mistakes=int(mistakes.sum()),
        behind_teacher=_behind(correct, teacher, groups),
    )


def _interval(correct: NDArray[np.bool_], groups: NDArray[np.int64] | None) -> Interval:
    if groups is None:
        return wilson(int(correct.sum()), correct.size)
    _, low, high = clustered_share(correct, Layout.of(groups))
    return Interval(low, high)


def _behind(
    correct: NDArray[np.bool_], teacher: NDArray[np.bool_], groups: NDArray[np.int64] | None
) -> Estimate:
    if groups is None:
        return paired_difference(correct, teacher)
    return clustered_difference(correct, teacher, Layout.of(groups))
