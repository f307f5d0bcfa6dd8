"""Scored students as a file, so that a curve can be fitted again by anybody."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from stillwatch.distill.curves.curve_point import CurvePoint, Spent, Training
from stillwatch.errors import InvalidInputError
from stillwatch.record.disk import replace_file

_HINT = "write the file again with `stillwatch distill score`"


class PointLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line of a points file: one model on the held-out items of one capability.

    Attributes:
        capability: the skill.
        correct: 1 or 0 for each held-out item (or the share of several samples that was right),
            the same items in the same order in every line of a capability.
        n_questions: questions asked for the student's record; 0 is the untouched student, None the
            teacher.
        seed: of the student's training.
        clusters: on the teacher's line: what each item came from; [] = each item on its own.
        out_of_distribution: whether the items lie outside what was asked; such lines make a curve
            of their own and are never mixed with the others.
        is_probe: a student trained longer than the rule, to see whether training is the wall; it
            is not a point of the curve.
        n_kept: questions whose answers were kept for training (count).
        n_own: questions of this capability among those asked (count).
        input_tokens: tokens sent to the teacher for the record (count).
        output_tokens: tokens that the teacher answered with (count).
        usd_asked: what asking cost, US dollars.
        usd_trained: what training this student cost, US dollars.
        steps: training steps (count).
        train_loss: mean nats per answer token at the end of training, on the student's own record.
    """

    capability: str
    correct: list[float]
    n_questions: int | None = None
    seed: int = 0
    clusters: list[str] = []
    out_of_distribution: bool = False
    is_probe: bool = False
    n_kept: int | None = None
    n_own: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    usd_asked: float | None = None
    usd_trained: float | None = None
    steps: int | None = None
    train_loss: float | None = None


@dataclass(frozen=True)
class HeldOut:
    """The teacher on the held-out items of one capability.

    Attributes:
        capability: its name.
        teacher_correct: right or wrong on each item, or the share of its samples, shape (n_items,).
        clusters: source number of each item, shape (n_items,).
        out_of_distribution: whether the items lie outside what was asked.
    """

    capability: str
    teacher_correct: NDArray[np.bool_] | NDArray[np.float64]
    clusters: NDArray[np.int64]
    out_of_distribution: bool = False


@dataclass(frozen=True)
class ScoredStudents:
    """A points file as read.

    Attributes:
        held_out: one for each capability and side (asked, out of distribution), in file order.
        students: the points of each, in the same order.
    """

    held_out: tuple[HeldOut, ...]
    students: tuple[tuple[CurvePoint, ...], ...]


def write_points(
    path: Path, points: Sequence[CurvePoint], teacher: dict[str, NDArray[np.bool_]]
) -> None:
    """Write students and teacher as JSON lines.

    Args:
        path: the file.
        points: the students.
        teacher: capability -> the teacher on the same items.
    """
    lines = [PointLine(name, _plain(correct)) for name, correct in teacher.items()]
    write_point_lines(path, [*lines, *map(point_line, points)])


def write_point_lines(path: Path, lines: Iterable[PointLine]) -> None:
    """Write lines of a points file, atomically.

    Args:
        path: the file.
        lines: teacher, untouched student and students, in any order.
    """
    encoder = msgspec.json.Encoder()
    replace_file(path, b"".join(encoder.encode(line) + b"\n" for line in lines))


def point_line(point: CurvePoint) -> PointLine:
    """Lay a student out as a line of a points file.

    Args:
        point: the student.

    Returns:
        The line.
    """
    return PointLine(
        point.capability,
        _plain(point.correct),
        point.n_questions,
        point.seed,
        is_probe=point.is_probe,
        **point.spent._asdict(),
        **point.training._asdict(),
    )


def read_scored(path: Path) -> ScoredStudents:
    """Read a points file whole.

    Args:
        path: the file.

    Returns:
        What it holds, by capability.

    Raises:
        InvalidInputError: a line is not one of a points file, models of one capability were scored
            on different numbers of items, or a capability has no teacher.
    """
    teachers: dict[tuple[str, bool], HeldOut] = {}
    students: dict[tuple[str, bool], list[CurvePoint]] = {}
    for number, raw in enumerate(path.read_bytes().splitlines(), start=1):
        line = _decode(raw, f"{path}:{number}")
        key = (line.capability, line.out_of_distribution)
        if line.n_questions is None:
            teachers[key] = _held_out(line, f"{path}:{number}")
        else:
            students.setdefault(key, []).append(_point(line))
    missing = sorted({name for name, _ in students.keys() - teachers.keys()})
    if missing or not students:
        what = f"no line of the teacher for {', '.join(missing)}" if missing else "no students"
        raise InvalidInputError(f"{path}: {what}", hint="the teacher's line has no n_questions")  # noqa: EM102
    for key, points in students.items():
        n_items = teachers[key].teacher_correct.size
        for point in points:
            if point.correct.size != n_items:
                message = (
                    f"{path}: the student of {point.n_questions} questions, seed {point.seed}, was "
                    f"scored on {point.correct.size} items of {key[0]!r}, its teacher on {n_items}"
                )
                raise InvalidInputError(message, hint=_HINT)
    return ScoredStudents(
        tuple(teachers[key] for key in students), tuple(map(tuple, students.values()))
    )


def _decode(raw: bytes, where: str) -> PointLine:
    try:
        line = msgspec.json.decode(raw, type=PointLine)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        message = f"{where}: not a line of scored answers: {error}"
        raise InvalidInputError(message, hint=_HINT) from error
    if not line.correct or min(line.correct) < 0 or max(line.correct) > 1:
        message = f"{where}: correct must be at least one number in 0..1"
        raise InvalidInputError(message, hint=_HINT)
    return line


def _held_out(line: PointLine, where: str) -> HeldOut:
    n_items = len(line.correct)
    if line.clusters and len(line.clusters) != n_items:
        message = f"{where}: clusters must be one an item ({n_items}), got {len(line.clusters)}"
        raise InvalidInputError(message, hint=_HINT)
    # "" stands for the item itself.
    sources = [name or f"\0{i}" for i, name in enumerate(line.clusters)]
    clusters = np.unique(sources, return_inverse=True)[1] if sources else np.arange(n_items)
    return HeldOut(
        line.capability, _array(line.correct), clusters.astype(np.int64), line.out_of_distribution
    )


def _point(line: PointLine) -> CurvePoint:
    return CurvePoint(
        line.capability,
        line.n_questions or 0,
        line.seed,
        _array(line.correct),
        Spent(
            line.n_kept,
            line.n_own,
            line.input_tokens,
            line.output_tokens,
            line.usd_asked,
            line.usd_trained,
        ),
        Training(line.steps, line.train_loss),
        is_probe=line.is_probe,
    )


def _array(correct: list[float]) -> NDArray[np.bool_] | NDArray[np.float64]:
    shares = np.array(correct, dtype=np.float64)
    return shares.astype(bool) if np.isin(shares, (0.0, 1.0)).all() else shares


def _plain(correct: NDArray[np.bool_] | NDArray[np.float64]) -> list[float]:
    plain: list[float] = correct.astype(int if correct.dtype == bool else float).tolist()
    return plain
