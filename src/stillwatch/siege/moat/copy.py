"""What the copy kept: scores of the students and the curve through them, per skill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from stillwatch.distill.curves.curve import CurvePoint, fit_copy_curve, pool_capabilities
from stillwatch.distill.scores.score import SkillScores, score_answers
from stillwatch.siege.copies import Trained
from stillwatch.siege.folder import read_json
from stillwatch.siege.skills import SKILLS, Item
from stillwatch.stats.intervals import wilson

TOGETHER = "asked skills together"


class Student(msgspec.Struct, frozen=True):
    """One student of the run.

    Attributes:
        wall: off or on; the round whose answers it was trained on.
        seed: of its training.
        questions: of each asked skill, in its record (count).
        trained: what came of it.
    """

    wall: str
    seed: int
    questions: dict[str, int]
    trained: Trained


class SkillRun(msgspec.Struct, frozen=True):
    """`skills.json`: the held-out items, the teacher and every student on them.

    Attributes:
        asked_skills: what the campaign was after.
        items: held-out questions with their truth.
        teacher: the teacher's answers.
        students: every student.
    """

    asked_skills: tuple[str, ...]
    items: tuple[Item, ...]
    teacher: Trained
    students: tuple[Student, ...]


@dataclass(frozen=True)
class Scored:
    """A skill run with every answer judged.

    Attributes:
        run: as read.
        teacher: skill -> right or wrong on each item.
        students: one score a student, in the run's order.
    """

    run: SkillRun
    teacher: Mapping[str, NDArray[np.bool_]]
    students: Sequence[SkillScores]

    @classmethod
    def read(cls, path: Path) -> Scored:
        """Read `skills.json` and judge every answer by the skills' oracles.

        Args:
            path: the file.

        Returns:
            The scores.
        """
        run = msgspec.convert(read_json(path), SkillRun)
        taught = score_answers(run.items, run.teacher.answers, is_correct=_is_correct)
        students = [
            score_answers(
                run.items,
                student.trained.answers,
                is_correct=_is_correct,
                teacher_answers=run.teacher.answers,
            )
            for student in run.students
        ]
        teacher = {skill: score.correct for skill, score in taught.by_skill.items()}
        return cls(run, teacher, students)

    def largest(self, wall: str) -> list[tuple[Student, SkillScores]]:
        """Pick the students of a round that were trained on everything it yielded.

        Args:
            wall: off or on.

        Returns:
            One for each training seed.
        """
        own = [
            (student, scores)
            for student, scores in zip(self.run.students, self.students, strict=True)
            if student.wall == wall
        ]
        most = max((sum(student.questions.values()) for student, _ in own), default=0)
        return [entry for entry in own if sum(entry[0].questions.values()) == most]

    def share_kept(self, wall: str) -> float | None:
        """Compute what a round's copy keeps of the teacher on the asked skills.

        Args:
            wall: off or on.

        Returns:
            Students' share over teacher's share, mean over training seeds; None without students.
        """
        shares = [
            np.concatenate([scores.by_skill[skill].correct for skill in self.run.asked_skills])
            for _, scores in self.largest(wall)
        ]
        taught = np.concatenate([self.teacher[skill] for skill in self.run.asked_skills])
        return float(np.mean(shares) / taught.mean()) if shares and taught.any() else None


def describe_copy(scored: Scored, *, seed: int) -> dict[str, Any]:
    """Compute the moat report's `copy`.

    Args:
        scored: the skill run.
        seed: of the band's resamples.

    Returns:
        Plain data.
    """
    run = scored.run
    trained = [student.trained for student in run.students if student.trained.steps]
    return {
        "teacher": {"name": "house-skills", "parameters": run.teacher.n_parameters},
        "student": {
            "shape": f"{run.students[0].trained.n_parameters:,} weights" if run.students else "",
            "parameters": trained[0].n_parameters if trained else None,
            "seeds": sorted({student.seed for student in run.students}),
            "cpu_s": sum(student.trained.cpu_s for student in run.students),
        },
        "asked_skills": list(run.asked_skills),
        "held_out_items": len(run.items),
        "skills": [_curve(scored, skill, seed=seed) for skill in scored.teacher],
        "overall": _overall(scored, seed=seed),
    }


def _is_correct(item: Item, answer: str) -> bool:
    return SKILLS[item.skill].is_correct(item, answer)


def curve_points(scored: Scored) -> list[CurvePoint]:
    """Lay the students with the wall off out as points of a curve per skill.

    Args:
        scored: the skill run.

    Returns:
        One point a skill and student. A skill that was asked for stands against the questions of
        its own, one that was not against all the questions there were.
    """
    asked = scored.run.asked_skills
    return [
        CurvePoint(
            capability=skill,
            n_questions=(
                student.questions[skill] if skill in asked else sum(student.questions.values())
            ),
            seed=student.seed,
            correct=score.correct,
        )
        for student, scores in zip(scored.run.students, scored.students, strict=True)
        if student.wall == "off"
        for skill, score in scores.by_skill.items()
    ]


def _curve(scored: Scored, skill: str, *, seed: int) -> dict[str, Any]:
    asked = skill in scored.run.asked_skills
    points = [point for point in curve_points(scored) if point.capability == skill]
    curve = fit_copy_curve(points, scored.teacher[skill], rng=np.random.default_rng(seed))
    described = curve.as_dict() | {"asked": asked, "wall_on": _wall_on(scored, [skill])}
    agreement = {
        (point.n_questions, point.seed): scores.by_skill[skill]
        for point, scores in zip(points, _of(scored, "off"), strict=True)
    }
    for row in described["points"]:
        score = agreement[row["n_questions"], row["seed"]]
        row["agreement"] = score.agreement
        row["agreement_on_mistakes"] = score.agreement_on_mistakes
    return described


def _overall(scored: Scored, *, seed: int) -> dict[str, Any]:
    asked = scored.run.asked_skills
    points = [
        CurvePoint(
            skill, sum(student.questions.values()), student.seed, scores.by_skill[skill].correct
        )
        for student, scores in zip(scored.run.students, scored.students, strict=True)
        if student.wall == "off"
        for skill in asked
    ]
    pooled, teacher = pool_capabilities(points, {s: scored.teacher[s] for s in asked}, TOGETHER)
    curve = fit_copy_curve(pooled, teacher, rng=np.random.default_rng(seed))
    return curve.as_dict() | {"asked": True, "wall_on": _wall_on(scored, asked)}


def _of(scored: Scored, wall: str) -> list[SkillScores]:
    pairs = zip(scored.run.students, scored.students, strict=True)
    return [scores for student, scores in pairs if student.wall == wall]


def _wall_on(scored: Scored, skills: Sequence[str]) -> dict[str, Any] | None:
    largest = scored.largest("on")
    if not largest:
        return None
    correct = np.concatenate([
        scores.by_skill[skill].correct for _, scores in largest for skill in skills
    ])
    questions = Counter(largest[0][0].questions)
    counted = [skill for skill in skills if skill in scored.run.asked_skills]
    n_questions = sum(questions[skill] for skill in counted) if counted else questions.total()
    # Students of several seeds answer the same items: the interval must not count them twice.
    n_items = correct.size // len(largest)
    interval = wilson(round(float(correct.mean()) * n_items), n_items)
    return {
        "n_questions": n_questions,
        "share": float(correct.mean()),
        "low": interval.low,
        "high": interval.high,
    }
