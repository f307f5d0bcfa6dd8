"""Scoring a run's students beside the teacher, and laying the scores out for the curve."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stillwatch.distill.asking.ask import AskProgress
from stillwatch.distill.asking.attempts import answered_items
from stillwatch.distill.checks import Check, check_of
from stillwatch.distill.curves.points import write_point_lines
from stillwatch.distill.filtering.filters import read_examples
from stillwatch.distill.items import Item, read_items
from stillwatch.distill.money.prices import Price, usd_of
from stillwatch.distill.scores.contender import TEACHER, Contender
from stillwatch.distill.scores.score_cache import Trial, question_of
from stillwatch.distill.scores.score_report import ScoreReport, StudentFacts
from stillwatch.distill.scores.score_table import ScoreTable
from stillwatch.distill.scores.scoring import HeldOutItems, read_held_out, score_models
from stillwatch.distill.stages.run_folder import UNTOUCHED
from stillwatch.distill.stages.run_models import open_judge, open_teacher
from stillwatch.distill.stages.run_training import StudentRecord, read_record, with_tokenizer
from stillwatch.distill.training.students import make_student
from stillwatch.errors import InvalidInputError
from stillwatch.model.huggingface import open_folder

if TYPE_CHECKING:
    from stillwatch.distill.run import Run


class Asked(NamedTuple):
    """What the first n questions came to, for every n.

    Attributes:
        input_tokens: running sums, shape (n_items + 1,), of final answers.
        output_tokens: the same for answers.
        kept: examples kept among them.
        capabilities: of each item, in order.
    """

    input_tokens: list[int]
    output_tokens: list[int]
    kept: list[int]
    capabilities: list[str]

    def usd(self, n: int, price: Price | None) -> float | None:
        """Price the first n questions, in dollars; None without a price."""
        if price is None:
            return None
        units = price.units(self.input_tokens[n], self.output_tokens[n])
        return float(usd_of(units))


def held_out_of(table: ScoreTable, base: Path) -> HeldOutItems | None:
    """Read the held-out items of a run.

    Args:
        table: the `[score]` table.
        base: what its paths are relative to.

    Returns:
        The items, or None when the table names none.
    """
    return read_held_out(table, base) if table.items else None


async def score_run(
    run: Run, *, on_progress: Callable[[str, int, int], None] | None = None
) -> ScoreReport:
    """Score everything and write `scores/report.json` and `points.jsonl`.

    Args:
        run: the run.
        on_progress: called with a model's name and the answers it has and needs.

    Returns:
        The report.

    Raises:
        InvalidInputError: no held-out items are named, or no student is trained.
        NotPermittedError: the teacher must be asked the held-out items and may not be.
    """
    held_out = held_out_of(run.settings.score, run.base)
    if held_out is None:
        message = "[score]: items must name a file of held-out items with their right answers"
        raise InvalidInputError(message, hint="docs/score.md says what such a file holds")
    records = student_records(run)
    models: dict[str, Contender] = {}
    teacher = open_teacher(run)
    everything = len(held_out.inside) + len(held_out.outside)
    batch = max(1, everything * run.settings.score.samples)
    models[TEACHER] = Contender(teacher, teacher.identity, batch=batch)
    folder = untouched_student(run)
    models[UNTOUCHED] = Contender.folder(open_folder(folder, name=UNTOUCHED), folder)
    for name, record in records.items():
        folder = run.folder.student(record.n_questions, record.seed)
        models[name] = Contender.folder(open_folder(folder, name=name), folder)
    report = await score_models(
        held_out,
        models,
        table=run.settings.score,
        cache_folder=run.folder.scores,
        checks=_judge_check(run),
        on_progress=on_progress,
    )
    report.write(run.folder.scores / "report.json")
    write_point_lines(run.folder.points, report.point_lines(facts_of(run, records)))
    return report


async def ask_held_out(run: Run, on_progress: Callable[[AskProgress], None] | None = None) -> int:
    """Ask the teacher the held-out items, before the budget goes into questions to learn from.

    Args:
        run: the run.
        on_progress: called a few times a second.

    Returns:
        Questions that are on record now (count); 0 for a run that names no held-out items.

    Raises:
        BudgetReachedError: the budget does not even reach for these.
        NotPermittedError: there is no permission for this teacher.
    """
    held_out = held_out_of(run.settings.score, run.base)
    if held_out is None:
        return 0
    table = run.settings.score
    trials = [
        Trial(item, sample)
        for item in (*held_out.inside, *held_out.outside)
        for sample in range(table.samples)
    ]
    teacher = open_teacher(run, on_progress)
    await teacher.answer([question_of(trial, table) for trial in trials])
    return len(trials)


def student_records(run: Run) -> dict[str, StudentRecord]:
    """List the students that are trained, by the name that reports print.

    Args:
        run: the run.

    Returns:
        Records in the order of their budgets.

    Raises:
        InvalidInputError: there is none.
    """
    found = {}
    wanted = set(run.settings.train.seeds)
    for n in run.budgets():
        for seed in sorted(wanted):
            record = read_record(run.folder.student(n, seed))
            if record is not None:
                found[f"n={n:,} seed={seed}"] = record
    if not found:
        message = f"{run.folder.students}: no student is trained yet"
        raise InvalidInputError(message, hint="run `stillwatch distill train` first")
    return found


def untouched_student(run: Run) -> Path:
    """Find or make the student before any training.

    Args:
        run: the run.

    Returns:
        Its folder: the one that training starts from, or new weights that were never moved.
    """
    table = run.settings.train
    if table.student.folder:
        return Path(table.student.folder)
    out = run.folder.students / UNTOUCHED
    if not (out / "config.json").is_file():
        examples = run.dataset()
        made = with_tokenizer(table, run.folder, examples)
        make_student(examples, made, seed=table.seeds[0]).save(out)
    return out


def facts_of(run: Run, records: Mapping[str, StudentRecord]) -> dict[str, StudentFacts]:
    """Say what each student cost.

    Args:
        run: the run.
        records: the students by name.

    Returns:
        Facts by the same names.
    """
    asked = asked_of(run)
    found = {}
    for name, record in records.items():
        n = record.n_questions
        own: dict[str, int] = {}
        for capability in asked.capabilities[:n]:
            own[capability] = own.get(capability, 0) + 1
        found[name] = StudentFacts(
            n_questions=n,
            seed=record.seed,
            n_kept=asked.kept[n],
            own=own,
            input_tokens=asked.input_tokens[n],
            output_tokens=asked.output_tokens[n],
            usd_asked=asked.usd(n, run.price),
            steps=record.steps,
            train_loss=record.train_loss,
        )
    return found


def asked_of(run: Run) -> Asked:
    """Sum up what the questions cost, in the order in which they stand.

    Args:
        run: the run.

    Returns:
        Running sums.
    """
    order: list[Item] = list(read_items(run.folder.questions))
    tokens: dict[str, tuple[int, int]] = {}
    for one in answered_items(run.folder.journal, order, run.settings.teacher):
        exchange = one.exchange
        tokens[one.item.item_id] = (exchange.input_tokens or 0, exchange.output_tokens or 0)
    kept = {example.item.item_id for example in read_examples(run.folder.kept)}
    spent = np.array([tokens.get(item.item_id, (0, 0)) for item in order], dtype=np.int64)
    return Asked(
        input_tokens=[0, *np.cumsum(spent[:, 0]).tolist()],
        output_tokens=[0, *np.cumsum(spent[:, 1]).tolist()],
        kept=list(accumulate((item.item_id in kept for item in order), initial=0)),
        capabilities=[item.capability for item in order],
    )


def _judge_check(run: Run) -> dict[str, Check] | None:
    judge = open_judge(run)
    if judge is None:
        return None
    options = run.settings.score.options.get("judge")
    return {"judge": check_of("judge", options, judge=judge)}
