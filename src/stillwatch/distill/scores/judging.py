"""Judge collected answers: against the truth, and against what the teacher said."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from stillwatch.distill.checks import Check, Judgement, Row, check_of
from stillwatch.distill.checks.choice import ChoiceOptions, chosen, options_of
from stillwatch.distill.checks.exact import normalise
from stillwatch.distill.checks.numeric import result_of
from stillwatch.distill.checks.regex import expression_of
from stillwatch.distill.items import Item
from stillwatch.distill.scores.comparing import Bools, Marks
from stillwatch.distill.scores.contender import digest
from stillwatch.distill.scores.score_cache import Said
from stillwatch.distill.scores.score_table import ScoreTable
from stillwatch.errors import InvalidInputError

#: Checks whose judgement costs a model's answer or a process: kept on the disk.
_COSTLY = {"judge", "code"}
#: Checks that compare whole texts, so that a teacher's answer may stand for the truth as it is.
_TEXTS = {"exact", "normalised"}


class _Kept(msgspec.Struct, frozen=True):
    key: str
    correct: bool | None
    reason: str


class Judges:
    """The checks of a score, by kind, with what the costly ones said before.

    Args:
        table: default check and options.
        given: checks that are there already, by kind: those that need a model. What a costly one
            said is kept only where its `identity` tells one judge from another.
        path: JSON lines of judgements; made if absent.

    Raises:
        InvalidInputError: a line of the file is damaged.
    """

    def __init__(self, table: ScoreTable, given: Mapping[str, Check], path: Path) -> None:
        self._table = table
        self._checks = dict(given)
        self._kept_kinds = {
            kind
            for kind in _COSTLY
            if kind not in given or str(getattr(given[kind], "identity", ""))
        }
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._known: dict[str, Judgement] = {}
        lines = path.read_bytes().split(b"\n") if path.exists() else []
        for number, line in enumerate(lines, start=1):
            try:
                kept = msgspec.json.decode(line, type=_Kept) if line else None
            except msgspec.MsgspecError as error:
                if number == len(lines):  # torn by a kill: it is judged again
                    path.write_bytes(b"\n".join([*lines[:-1], b""]))
                    break
                message = f"{path}:{number}: not a judgement: {error}"
                raise InvalidInputError(
                    message, hint="delete the line; it is judged anew"
                ) from error
            if kept:
                self._known[kept.key] = Judgement(kept.correct, kept.reason)

    def check_for(self, item: Item) -> Check:
        """Give the check of an item.

        Args:
            item: a held-out item.

        Returns:
            The check that the item names, or the table's.
        """
        kind = item.check or self._table.check
        if kind not in self._checks:
            self._checks[kind] = check_of(kind, self._table.options.get(kind))
        return self._checks[kind]

    async def judge(self, rows: Sequence[Row]) -> list[Judgement]:
        """Judge answers; equal rows once.

        Args:
            rows: truth, answer and item.

        Returns:
            One judgement a row, in order.
        """
        keys = [(row.item.item_id, row.truth, row.answer) for row in rows]
        found: dict[tuple[str, str | None, str], Judgement] = {}
        todo: dict[str, dict[tuple[str, str | None, str], Row]] = {}
        for key, row in zip(keys, rows, strict=True):
            kind = self.check_for(row.item).kind
            known = self._known.get(self._key(kind, row)) if kind in self._kept_kinds else None
            if known is not None:
                found[key] = known
            else:
                todo.setdefault(kind, {})[key] = row
        for kind, wanted in todo.items():
            found.update(await self._run(kind, wanted))
        return [found[key] for key in keys]

    async def _run(
        self, kind: str, wanted: Mapping[tuple[str, str | None, str], Row]
    ) -> dict[tuple[str, str | None, str], Judgement]:
        """Judge rows of one kind, the costly ones in portions that are kept at once."""
        check = self.check_for(next(iter(wanted.values())).item)
        pairs = list(wanted.items())
        portion = 32 if kind in _COSTLY else max(len(pairs), 1)
        found: dict[tuple[str, str | None, str], Judgement] = {}
        for at in range(0, len(pairs), portion):
            part = pairs[at : at + portion]
            judged = await check.judge_many([row for _, row in part])
            found.update(zip([key for key, _ in part], judged, strict=True))
            if kind in self._kept_kinds:
                self._keep(kind, [row for _, row in part], judged)
        return found

    def _key(self, kind: str, row: Row) -> str:
        identity = getattr(self._checks[kind], "identity", "")
        options = [self._table.options.get(kind), str(identity)]
        return digest([kind, options, row.item.item_id, row.truth, row.answer])

    def _keep(self, kind: str, rows: Sequence[Row], judged: Sequence[Judgement]) -> None:
        with self._path.open("ab") as file:
            for row, judgement in zip(rows, judged, strict=True):
                kept = _Kept(self._key(kind, row), judgement.correct, judgement.reason)
                self._known[kept.key] = judgement
                file.write(msgspec.json.encode(kept) + b"\n")


async def mark_answers(
    items: Sequence[Item],
    said: Sequence[Sequence[Said]],
    *,
    teacher: Sequence[Sequence[Said]] | None,
    judges: Judges,
) -> Marks:
    """Judge one model's answers.

    Args:
        items: what was asked.
        said: its answers, by item and sample.
        teacher: the teacher's answers, by item and sample, or None.
        judges: the checks.

    Returns:
        The marks, agreement with the teacher included where it is given.
    """
    shape = (len(items), len(said[0]))
    rows = [
        Row(item.truth, answer.text, item)
        for item, answers in zip(items, said, strict=True)
        for answer in answers
    ]
    judged = await judges.judge(rows)
    cut = [answer.is_cut for answers in said for answer in answers]
    same = None
    if teacher is not None:
        theirs = [answer.text for answers in teacher for answer in answers]
        same = agreements(rows, theirs, judges).reshape(shape)
    return Marks(
        np.array([judgement.correct is True for judgement in judged]).reshape(shape),
        np.array([judgement.correct is None for judgement in judged]).reshape(shape),
        np.array(cut).reshape(shape),
        same,
    )


def agreements(rows: Sequence[Row], theirs: Sequence[str], judges: Judges) -> Bools:
    """Say which answers say what the teacher said.

    An item's own check compares what the two settle on ("4" and "the answer is 4"); code and judged
    answers, and what a check cannot compare, are the same when the texts are the same but for case,
    space and marks.

    Args:
        rows: a model's answers.
        theirs: the teacher's, in the same order.
        judges: the checks.

    Returns:
        Shape (n_rows,).
    """
    found = [
        _is_same(judges.check_for(row.item), row, text)
        for row, text in zip(rows, theirs, strict=True)
    ]
    return np.array(found, dtype=np.bool_)


def _is_same(check: Check, row: Row, teacher_text: str) -> bool:
    if row.answer == teacher_text:
        return True
    said: bool | None = None
    if check.kind in _SETTLES:
        result = _SETTLES[check.kind](teacher_text, row.item)
        said = None if result is None else check(result, row.answer, row.item).correct
    elif check.kind in _TEXTS:
        said = check(teacher_text, row.answer, row.item).correct
    return normalise(row.answer) == normalise(teacher_text) if said is None else said


def _number(text: str, item: Item) -> str | None:
    found = result_of(text)
    return None if found is None else f"{float(found.value):.15g} {found.unit}".strip()


def _letter(text: str, item: Item) -> str | None:
    options = options_of(item.question)
    return chosen(text, "".join(options) or ChoiceOptions().letters, options=options)


def _expression(text: str, item: Item) -> str | None:
    return expression_of(text) or None


#: What an answer settles on, written as a truth is: what the checks of these kinds compare with.
_SETTLES: dict[str, Callable[[str, Item], str | None]] = {
    "numeric": _number,
    "choice": _letter,
    "regex": _expression,
}
