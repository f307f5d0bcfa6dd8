"""Scored students as a file, so that a curve can be fitted again by anybody."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from stillwatch.distill.curve import CurvePoint
from stillwatch.errors import InvalidInputError


class PointLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of a points file.

    Attributes:
        capability: the skill.
        correct: 1 or 0 for each held-out item, the same items in every line of a capability.
        n_questions: size of the student's training record; None for the teacher.
        seed: of the student's training.
    """

    capability: str
    correct: list[int]
    n_questions: int | None = None
    seed: int = 0


def write_points(
    path: Path, points: Sequence[CurvePoint], teacher: dict[str, NDArray[np.bool_]]
) -> None:
    """Write students and teacher as JSON lines.

    Args:
        path: the file.
        points: the students.
        teacher: capability -> the teacher on the same items.
    """
    lines = [PointLine(name, correct.astype(int).tolist()) for name, correct in teacher.items()]
    lines += [
        PointLine(p.capability, p.correct.astype(int).tolist(), p.n_questions, p.seed)
        for p in points
    ]
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))


def read_points(path: Path) -> tuple[list[CurvePoint], dict[str, NDArray[np.bool_]]]:
    """Read students and teacher.

    Args:
        path: the file.

    Returns:
        The students, and the teacher by capability.

    Raises:
        InvalidInputError: a line is not one of `write_points`, or a capability has no teacher.
    """
    points, teacher = [], {}
    for number, raw in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            line = msgspec.json.decode(raw, type=PointLine)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            message = f"{path}:{number}: not a line of scored answers: {error}"
            raise InvalidInputError(message) from error
        correct = np.array(line.correct, dtype=bool)
        if line.n_questions is None:
            teacher[line.capability] = correct
        else:
            points.append(CurvePoint(line.capability, line.n_questions, line.seed, correct))
    missing = sorted({point.capability for point in points} - teacher.keys())
    if missing or not points:
        what = f"no line of the teacher for {', '.join(missing)}" if missing else "no students"
        message = f"{path}: {what}"
        raise InvalidInputError(message, hint="the teacher's line has no n_questions")
    return points, teacher
