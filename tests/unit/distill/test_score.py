from typing import NamedTuple

import pytest

from stillwatch.distill.scores.score import score_answers
from stillwatch.errors import InvalidInputError


class _Item(NamedTuple):
    skill: str
    truth: str


ITEMS = [_Item("date", "a"), _Item("roman", "b"), _Item("date", "c"), _Item("roman", "d")]


def _is_correct(item: _Item, answer: str) -> bool:
    return answer == item.truth


def test_scores_are_per_skill():
    """A copy that took one skill wholly and another not at all is not averaged away."""
    scores = score_answers(ITEMS, ["a", "x", "c", "y"], is_correct=_is_correct)
    assert ["date", "roman"] == list(scores.by_skill)
    assert (1.0, 0.0, 0.5) == (
        scores.by_skill["date"].share,
        scores.by_skill["roman"].share,
        scores.overall.share,
    )
    assert 2 == scores.by_skill["date"].n_items
    assert scores.overall.agreement is None


def test_agreement_on_mistakes_tells_a_copy_from_a_peer():
    """Two students with the same score differ in whether they repeat the teacher's mistakes."""
    teacher = ["a", "wrong", "c", "slip"]
    copied = score_answers(
        ITEMS, ["a", "wrong ", "c", "slip"], is_correct=_is_correct, teacher_answers=teacher
    )
    peer = score_answers(
        ITEMS, ["a", "other", "c", "own"], is_correct=_is_correct, teacher_answers=teacher
    )
    assert copied.overall.share == peer.overall.share
    assert (1.0, 0.0) == (copied.overall.agreement_on_mistakes, peer.overall.agreement_on_mistakes)
    assert (1.0, 0.5) == (copied.overall.agreement, peer.overall.agreement)
    assert 2 == copied.overall.n_mistakes


def test_no_mistakes_no_figure():
    """Where the teacher is always right, agreement on its mistakes is unknown, not 0 or 1."""
    scores = score_answers(ITEMS[:1], ["a"], is_correct=_is_correct, teacher_answers=["a"])
    assert scores.overall.agreement_on_mistakes is None


def test_student_is_compared_on_the_same_items():
    """How far the student is behind comes paired, with an interval around it."""
    items = ITEMS * 50
    answers = ["a", "b", "c", "x"] * 50
    teacher = ["a", "b", "c", "d"] * 50
    behind = score_answers(items, answers, is_correct=_is_correct, teacher_answers=teacher)
    assert -0.25 == behind.overall.behind_teacher.value
    assert behind.overall.behind_teacher.low < -0.25 < behind.overall.behind_teacher.high < -0.15
    assert -0.25 == behind.overall.as_dict()["behind_teacher"][0]


@pytest.mark.parametrize(
    ("items", "answers", "teacher"),
    [([], [], None), (ITEMS, ["a"], None), (ITEMS, ["a"] * 4, ["a"])],
)
def test_out_of_step_is_refused(items, answers, teacher):
    """Nothing to score, or answers that do not match the items, is refused."""
    with pytest.raises(InvalidInputError):
        score_answers(items, answers, is_correct=_is_correct, teacher_answers=teacher)


def test_clusters_widen_what_is_known():
    """Items of one source are fewer than they look: the intervals say so, the shares stay."""
    items = ITEMS * 30
    answers = ["a" if n // 8 % 2 else "x" for n in range(120)]
    truth = ["a"] * 120
    sources = [n // 8 for n in range(120)]
    alone, together = (
        score_answers(
            items,
            answers,
            is_correct=lambda _, said: said == "a",
            teacher_answers=truth,
            clusters=clusters,
        ).overall
        for clusters in (None, sources)
    )
    assert alone.share == together.share
    assert together.high - together.low > 2 * (alone.high - alone.low)
    assert together.behind_teacher.low < alone.behind_teacher.low
    with pytest.raises(InvalidInputError, match="clusters"):
        score_answers(ITEMS, ["a"] * 4, is_correct=_is_correct, clusters=[1])
