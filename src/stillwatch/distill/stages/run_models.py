"""The models of a run that are not its students: a judge, a writer of questions, the teacher."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from stillwatch.distill.asking.ask import AskProgress
from stillwatch.distill.asking.booked_model import BookedModel
from stillwatch.distill.asking.recorded_teacher import RecordedTeacher
from stillwatch.distill.asking.teacher import identify, secret_headers
from stillwatch.distill.money.budget import Ledger
from stillwatch.distill.money.prices import Price, price_of
from stillwatch.errors import reject
from stillwatch.model.http import HttpModel
from stillwatch.model.huggingface import open_folder
from stillwatch.model.protocol import Model
from stillwatch.record.journal import read_journal

if TYPE_CHECKING:
    from stillwatch.distill.run import Run


def open_teacher(
    run: Run, on_progress: Callable[[AskProgress], None] | None = None
) -> RecordedTeacher:
    """Open the teacher as a model: recorded, permitted and within the budget.

    Args:
        run: the run.
        on_progress: called while it is asked.

    Returns:
        The teacher.

    Raises:
        NotPermittedError: there is no permission for it.
    """
    table = msgspec.structs.replace(run.settings.ask, batch=False)
    return RecordedTeacher(
        teacher=run.settings.teacher,
        table=table,
        make_ledger=lambda: run.make_ledger(run.folder.teacher_journal),
        journal=run.folder.teacher_journal,
        permission=run.permit(),
        on_progress=on_progress,
    )


def open_writer(run: Run) -> Model | None:
    """Open the model that writes or ranks questions: the teacher, where the run wants one.

    Args:
        run: the run.

    Returns:
        The teacher, or None when no question needs a model.

    Raises:
        NotPermittedError: there is no permission for the teacher.
    """
    table = run.settings.questions
    ranked = table.order == "disagreement" or table.ranking.by == "model"
    return open_teacher(run) if table.generate is not None or ranked else None


def open_judge(run: Run) -> Model | None:
    """Open the judge of `[judge]`; its answers are recorded and paid from the run's budget.

    Args:
        run: the run.

    Returns:
        The judge, or None when there is no such table.

    Raises:
        InvalidInputError: a wire that judges do not speak.
    """
    table = run.settings.judge
    if table is None:
        return None
    if table.wire == "folder":
        return BookedModel(open_folder(Path(table.folder)), run.folder.judge_journal)
    if table.wire != "openai.chat":
        reject("[judge]", "wire", "openai.chat or folder", got=table.wire)
    headers = secret_headers(table)
    key = headers.get("authorization", "").removeprefix("Bearer ") or None
    model = HttpModel(table.endpoint, api_key=key, model=table.model)
    ledger = run.make_ledger(run.folder.path)
    return BookedModel(model, run.folder.judge_journal, ledger.priced(_judge_price(run)))


def charge_others(ledger: Ledger, run: Run, journal: Path) -> None:
    """Charge what the run bought besides what one journal holds.

    Args:
        ledger: the run's.
        run: the run.
        journal: left out.
    """
    judge = run.settings.judge
    for folder in (run.folder.journal, run.folder.teacher_journal, run.folder.judge_journal):
        if folder == journal or not folder.is_dir():
            continue
        bought = (exchange for _, exchange in read_journal(folder))
        if folder != run.folder.judge_journal:
            ledger.restore(bought)
        elif judge is not None and judge.wire != "folder":
            ledger.priced(_judge_price(run)).restore(bought)


def _judge_price(run: Run) -> Price | None:
    assert run.settings.judge is not None, "there is a judge"
    return price_of(identify(run.settings.judge).model, run.settings.prices)
