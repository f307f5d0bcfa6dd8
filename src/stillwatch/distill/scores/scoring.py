"""Score teacher, students and the untouched student on the same held-out items.

Every model is asked the same questions with the same decoding through the same protocol; answers
are kept, so that a score that was stopped goes on and a new student costs only its own answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stillwatch.distill.checks import Check
from stillwatch.distill.items import Item
from stillwatch.distill.questions.build import file_items
from stillwatch.distill.scores.comparing import Field, compare_all
from stillwatch.distill.scores.contender import TEACHER, Contender
from stillwatch.distill.scores.discriminator import tell_apart
from stillwatch.distill.scores.judging import Judges, mark_answers
from stillwatch.distill.scores.score_cache import (
    AnswerCache,
    Progress,
    Said,
    Trial,
    collect_answers,
)
from stillwatch.distill.scores.score_report import (
    INSIDE,
    OUTSIDE,
    ScorePart,
    ScoreReport,
    StudentFacts,
)
from stillwatch.distill.scores.score_table import ScoreTable
from stillwatch.errors import ModelError, reject
from stillwatch.model.protocol import Model
from stillwatch.stats.intervals import Estimate

__all__ = [
    "HeldOutItems",
    "ScoreReport",
    "ScoreTable",
    "StudentFacts",
    "read_held_out",
    "score_models",
]

#: Of a student, by item and sample.
_Answers = list[list[Said | None]]


class HeldOutItems(NamedTuple):
    """What models are scored on; neither set was ever trained on.

    Attributes:
        inside: items of the kind that was asked.
        outside: items from elsewhere, or ().
    """

    inside: Sequence[Item]
    outside: Sequence[Item] = ()


def read_held_out(table: ScoreTable, base: Path) -> HeldOutItems:
    """Read the items that a table names.

    Args:
        table: with `items` and perhaps `ood`.
        base: the folder that relative paths begin at.

    Returns:
        The items.

    Raises:
        InvalidInputError: no file is named, it is not there, a row is no question, or no row has a
            right answer though no judge is asked.
    """
    if not table.items:
        reject("[score]", "items", "a file of held-out items", got="")
    found = HeldOutItems(
        tuple(file_items(table.items, base=base)),
        tuple(file_items(table.ood, base=base)) if table.ood else (),
    )
    for name, items in zip(("items", "ood"), found, strict=True):
        judged = any((item.check or table.check) == "judge" for item in items)
        if items and not judged and all(item.truth is None for item in items):
            hint = f'[score.{name}] with path = "..." and columns = {{truth = "..."}}'
            reject(
                "[score]", name, "items with right answers", got=f"{len(items)} without", hint=hint
            )
    return found


async def score_models(
    items: Sequence[Item] | HeldOutItems,
    models: Mapping[str, Model],
    *,
    table: ScoreTable,
    cache_folder: Path,
    checks: Mapping[str, Check] | None = None,
    on_progress: Progress | None = None,
) -> ScoreReport:
    """Ask every model every item and compare.

    Args:
        items: held-out items, with those from elsewhere apart where there are any.
        models: `teacher`, `untouched` and any students by name; only answers of a `Contender` with
            an identity are found again by a later run.
        table: check and decoding.
        cache_folder: where answers and judgements are kept; made if absent.
        checks: those that are made already, by kind: a judge with its model.
        on_progress: called with a model's name and the answers it has and needs.

    Returns:
        The report.

    Raises:
        ModelError: a model left more items unanswered than the table allows.
        InvalidInputError: no items or models, or an item in both sets or with two right answers.
    """
    given = items if isinstance(items, HeldOutItems) else HeldOutItems(items)
    sets = HeldOutItems(*map(_distinct, given))
    contenders = {name: Contender.of(model) for name, model in models.items()}
    _check(sets, contenders)
    judges = Judges(table, checks or {}, cache_folder / "judgements.jsonl")
    answers, everything = {}, [*sets.inside, *sets.outside]
    with AnswerCache(cache_folder / "answers") as cache:
        for name, contender in contenders.items():
            answers[name] = await _collect(
                name, contender, everything, table=table, cache=cache, on_progress=on_progress
            )
    tells = await asyncio.to_thread(_tells, sets.inside, answers, table)
    return ScoreReport(
        await _parts(sets, answers, table=table, judges=judges),
        {name: found.identity for name, found in contenders.items()},
        table.parameters,
        table.samples,
        table.level,
        tells=tells,
        n_repeated=sum(map(len, given)) - len(everything),
    )


def _check(sets: HeldOutItems, contenders: Mapping[str, Contender]) -> None:
    where = "score_models"
    if not sets.inside:
        reject(where, "items", "at least one item", got=0)
    if not contenders:
        reject(where, "models", "at least one model", got=0)
    both = {item.item_id for item in sets.inside} & {item.item_id for item in sets.outside}
    if both:
        hint = "an item is of the kind that was asked or from elsewhere, not both"
        reject(where, "items", "in one set only", got=f"{len(both)} in both", hint=hint)


def _distinct(items: Sequence[Item]) -> tuple[Item, ...]:
    """Keep an item once: a question that stands there twice would count twice."""
    found: dict[str, Item] = {}
    for item in items:
        known = found.setdefault(item.item_id, item)
        if known.truth != item.truth:
            where = item.origin or item.item_id
            reject("score_models", "truth", "the same for the same question", got=where)
    return tuple(found.values())


async def _collect(
    name: str,
    contender: Contender,
    items: Sequence[Item],
    *,
    table: ScoreTable,
    cache: AnswerCache,
    on_progress: Progress | None,
) -> _Answers:
    """Ask one model everything; too many failures end it."""
    trials = [Trial(item, sample) for item in items for sample in range(table.samples)]
    told = None if on_progress is None else (lambda had, of: on_progress(name, had, of))
    said = await collect_answers(contender, trials, table=table, cache=cache, on_progress=told)
    by_item = [said[at : at + table.samples] for at in range(0, len(said), table.samples)]
    n_failed = sum(None in answers for answers in by_item)
    if n_failed > table.max_failed * len(items):
        message = (
            f"score: {name} left {n_failed} of {len(items)} items unanswered, "
            f"more than the {table.max_failed:.1%} of [score] max_failed"
        )
        raise ModelError(message, hint="score again: what was answered is kept and not asked again")
    return by_item


def _rows(answers: Mapping[str, _Answers], first: int, end: int) -> dict[str, _Answers]:
    return {name: rows[first:end] for name, rows in answers.items()}


def _complete(answers: Mapping[str, _Answers], n_items: int) -> list[int]:
    """Items that every model answered: the same for all, or the comparison is not paired."""
    return [n for n in range(n_items) if all(None not in rows[n] for rows in answers.values())]


def _said(rows: _Answers, kept: Sequence[int]) -> list[list[Said]]:
    return [[answer for answer in rows[n] if answer is not None] for n in kept]


async def _parts(
    sets: HeldOutItems,
    answers: Mapping[str, _Answers],
    *,
    table: ScoreTable,
    judges: Judges,
) -> tuple[ScorePart, ...]:
    """Judge and compare inside and, where there are items from elsewhere, outside."""
    found, at = [], 0
    for name, items in zip((INSIDE, OUTSIDE), sets, strict=True):
        if items:
            rows = _rows(answers, at, at + len(items))
            found.append(await _part(name, items, rows, table=table, judges=judges))
        at += len(items)
    return tuple(found)


async def _part(
    name: str,
    items: Sequence[Item],
    answers: Mapping[str, _Answers],
    *,
    table: ScoreTable,
    judges: Judges,
) -> ScorePart:
    """Judge and compare all models on one set of items."""
    kept = _complete(answers, len(items))
    scored = [items[n] for n in kept]
    if not scored:
        message = f"score: no item of the {name} set was answered by every model"
        raise ModelError(message, hint="score again: what was answered is kept and not asked again")
    teacher = _said(answers[TEACHER], kept) if TEACHER in answers else None
    marks = {
        model: await mark_answers(
            scored,
            _said(rows, kept),
            teacher=None if model == TEACHER else teacher,
            judges=judges,
        )
        for model, rows in answers.items()
    }
    field = Field(
        marks,
        np.array([item.cluster or item.item_id for item in scored]),
        np.array([item.capability for item in scored]),
    )
    return ScorePart(
        name,
        field,
        tuple(item.item_id for item in scored),
        tuple(item.cluster for item in scored),
        tuple(compare_all(field, level=table.level)),
        n_left_out=len(items) - len(scored),
    )


def _tells(
    items: Sequence[Item], answers: Mapping[str, _Answers], table: ScoreTable
) -> dict[str, Estimate]:
    """How well the wording of each model is told from the teacher's, where that is asked for."""
    if not table.discriminator or TEACHER not in answers:
        return {}
    kept = _complete(answers, len(items))
    clusters = [items[n].cluster or items[n].item_id for n in kept]
    teacher = [rows[0].text for rows in _said(answers[TEACHER], kept)]
    return {
        name: tell_apart(
            teacher,
            [found[0].text for found in _said(rows, kept)],
            clusters,
            rng=np.random.default_rng(table.seed),
            level=table.level,
        )
        for name, rows in answers.items()
        if name != TEACHER
    }
