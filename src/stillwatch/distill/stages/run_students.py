"""The students of a run: on how many questions, and training them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from stillwatch.distill.items import read_items
from stillwatch.distill.stages.run_provenance import describe_students, seal
from stillwatch.distill.stages.run_training import (
    StudentRecord,
    read_kept,
    tasks_of,
    train_students,
)
from stillwatch.errors import InvalidInputError

if TYPE_CHECKING:
    from stillwatch.distill.run import Run

#: A budget counts as asked when this share of its questions has an answer.
_ASKED = 0.99


def budgets_of(run: Run) -> list[int]:
    """List the numbers of questions that students are trained on.

    Args:
        run: the run, its answers filtered.

    Returns:
        The budgets of `[train] at` that were asked, rising. Where asking ended early, the larger
        ones are replaced by what was asked.

    Raises:
        InvalidInputError: the largest is beyond the run's questions, or nothing was answered.
    """
    n_items = sum(1 for _ in read_items(run.folder.questions))
    wanted = sorted(set(run.settings.train.at)) or [n_items]
    if wanted[-1] > n_items:
        message = f"[train]: at goes up to {wanted[-1]:,}, but there are {n_items:,} questions"
        raise InvalidInputError(message, hint="give more questions, or a smaller budget")
    n_answered = 0
    if run.folder.filter_counts.is_file():
        n_answered = msgspec.json.decode(run.folder.filter_counts.read_bytes())["n_answered"]
    if not n_answered:
        message = f"{run.folder.path}: there are no answers to learn from yet"
        raise InvalidInputError(message, hint="run `stillwatch distill ask` first")
    asked = [n for n in wanted if n * _ASKED <= n_answered]
    return asked if asked == wanted else [*asked, n_answered]


def train_run(
    run: Run,
    *,
    processes: int = 1,
    on_done: Callable[[StudentRecord, bool], None] | None = None,
) -> list[StudentRecord]:
    """Train a student for every budget and seed that has none yet.

    Args:
        run: the run.
        processes: side by side (count), each on one thread; on a GPU give 1.
        on_done: called with each record, and whether it was there before.

    Returns:
        The records, largest budgets first.

    Raises:
        NotPermittedError: the permission has run out.
        InvalidInputError: the answers were not filtered yet.
    """
    permission = run.permit()
    kept = read_kept(run.folder)
    tasks = tasks_of(
        run.folder, run.settings.train, run.settings.gad, kept=kept, budgets=run.budgets()
    )
    records = train_students(tasks, processes=processes, on_done=on_done)
    describe_students(run, records, permission, kept=kept)
    seal(run, permission=permission)
    return records
