"""How often the teacher is named, and how often an innocent model is."""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import cache
from typing import NamedTuple

import numpy as np

from lineages.collection import Collection
from stillwatch.errors import InvalidInputError
from stillwatch.trace.similarity.answer_table import AnswerTable
from stillwatch.trace.similarity.lineage import Lineage, find_teacher
from stillwatch.trace.similarity.ngrams import Feature, Similarities, similarities

#: Resamples of the questions.
_DRAWS = 400
#: Draws of a smaller list of questions.
_SUBSETS = 40


class Place(NamedTuple):
    """One student under one method.

    Attributes:
        student: its name.
        teacher: the real one.
        rank: place of the teacher among the candidates, from 1.
        raw_rank: the same by nearest neighbour: mean cosine of word counts, nothing else.
        n_candidates: how many there were.
        share: share of resamples of the questions in which the teacher is first.
        closer: references at least as close to the teacher (k).
        references: of so many (R).
    """

    student: str
    teacher: str
    rank: int
    raw_rank: int
    n_candidates: int
    share: float
    closer: int
    references: int


class Accused(NamedTuple):
    """Pairs of a model and a candidate from whom it did not learn.

    Attributes:
        pairs: how many.
        closest: pairs in which the model is closer to the candidate than every reference.
        expected: pairs expected by chance alone, the sum of 1 / (1 + R).
        auc: chance that a real pair has a higher contrast than a pair like these.
        found_at_none: share of real pairs above every one of these.
    """

    pairs: int
    closest: int
    expected: float
    auc: float
    found_at_none: float


def place_students(
    collection: Collection, compared: Similarities, *, served: bool, dated: bool
) -> list[Place]:
    """Look for the teacher of every student.

    Args:
        collection: models and answers.
        compared: similarities of its answers.
        served: candidates are only models whose answers could be bought.
        dated: candidates released later than the student are put last.

    Returns:
        One entry a student.
    """
    plain = np.nanmean(_plain(collection.table), axis=0)
    found = []
    for student, teachers in collection.students.items():
        told = _look(collection, compared, student, served=served, dated=dated)
        order = [k.candidate for k in told.kinships]
        near_to = plain[collection.table.place(student)]
        raw = sorted(
            told.kinships,
            key=lambda k: (not k.possible, -near_to[collection.table.place(k.candidate)]),
        )
        teacher = min(teachers, key=order.index)
        near = told.of(teacher)
        found.append(
            Place(
                student=student, teacher=teacher, rank=order.index(teacher) + 1,
                raw_rank=[k.candidate for k in raw].index(teacher) + 1, n_candidates=len(order),
                share=told.first_stays if order[0] == teacher else 0.0,
                closer=near.closer, references=near.references,
            )
        )  # fmt: skip
    return found


def first_share(collection: Collection, compared: Similarities, *, n_questions: int) -> float:
    """Look for the teachers with few questions, drawn many times.

    Args:
        collection: models and answers.
        compared: similarities of its answers.
        n_questions: asked.

    Returns:
        Share of students and draws in which the teacher is first, candidates that could be asked;
        a draw in which too few answers are long enough is a miss.
    """
    rng = np.random.default_rng(0)
    right = []
    for _ in range(_SUBSETS):
        rows = rng.choice(len(collection.table.questions), n_questions, replace=False)
        few = Collection(collection.name, collection.truth, collection.table.keep(rows.tolist()))
        try:
            places = place_students(few, compared[rows], served=True, dated=False)
        except InvalidInputError:  # too few answers of some length: nobody is named
            right += [False] * len(collection.students)
            continue
        right += [place.rank == 1 for place in places]
    return float(np.mean(right))


def accuse_all(collection: Collection, compared: Similarities) -> Accused:
    """Compare every model with every candidate, whether it learned from it or not.

    Args:
        collection: models and answers.
        compared: similarities of its answers.

    Returns:
        What innocent pairs looked like beside the real ones; a student's siblings, and pairs that
        share a base model with the candidate itself, stand in neither.
    """
    real, innocent, closest, expected = [], [], 0, 0.0
    for model in collection.table.models:
        told = _look(collection, compared, model, served=False, dated=False)
        own = collection.cards[model]
        for near in told.kinships:
            if near.candidate in own.teachers:
                real.append(near.contrast)
            elif model in collection.cards[near.candidate].teachers or own.base == near.candidate:
                continue
            else:
                innocent.append(near.contrast)
                closest += near.closer == 0
                expected += near.smallest_level if near.closer == 0 else 1 / (1 + near.references)
    a, b = np.array(real), np.array(innocent)
    above = (a[:, None] > b[None, :]).mean() + 0.5 * (a[:, None] == b[None, :]).mean()
    return Accused(len(b), closest, expected, float(above), float((a > b.max()).mean()))


def commonest(places: list[Place]) -> dict[str, bool]:
    """Guess for each student the teacher that the other students have most often.

    Args:
        places: as `place_students` gives them.

    Returns:
        Right or wrong for each student; the student's own teacher is not looked at.
    """
    right = {}
    for one in places:
        others = Counter(p.teacher for p in places if p.student != one.student)
        right[one.student] = bool(others) and others.most_common(1)[0][0] == one.teacher
    return right


def macro(places: list[Place], right: dict[str, bool]) -> float:
    """Average over teachers, so that many students of one teacher count once.

    Args:
        places: the students.
        right: right or wrong for each.

    Returns:
        Mean over teachers of the share that was right, 0..1.
    """
    by_teacher = defaultdict(list)
    for one in places:
        by_teacher[one.teacher].append(right[one.student])
    return float(np.mean([np.mean(each) for each in by_teacher.values()]))


def mean_share(places: list[Place]) -> float:
    """Average over teachers how surely the real one comes first: what a feature is chosen by.

    Args:
        places: the students.

    Returns:
        0..1.
    """
    by_teacher = defaultdict(list)
    for one in places:
        by_teacher[one.teacher].append(one.share)
    return float(np.mean([np.mean(each) for each in by_teacher.values()]))


@cache
def _plain(table: AnswerTable) -> Similarities:
    return similarities(table, (Feature("word", 1, rarity=0.0),), fewest_own=0)


def _look(
    collection: Collection, compared: Similarities, model: str, *, served: bool, dated: bool
) -> Lineage:
    return find_teacher(
        collection.table,
        collection.panel(model, served=served, dated=dated),
        rng=np.random.default_rng(0),
        compared=compared,
        n_draws=_DRAWS,
    )
