"""The models of a run that are not its students: a judge, a writer of questions, the teacher."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from stillwatch.distill.asking.ask import AskProgress
from stillwatch.distill.asking.recorded_teacher import RecordedTeacher
from stillwatch.distill.asking.teacher import identify
from stillwatch.distill.permit.addresses import shown
from stillwatch.model.protocol import Model

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
        open_book=lambda: run.books.open(run.folder.teacher_journal),
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


class JudgeStamp(NamedTuple):
    """Stands where a permission does: a judge is asked about answers, and nothing learns from it.

    Attributes:
        model: the judge's name as it is asked for.
        endpoint: its base URL without secrets, or `folder:` and a hash.
        permission_id: the tag of its exchanges.
    """

    model: str
    endpoint: str
    permission_id: str = "judge"

    def require(self, now: float) -> None:
        """Let every question pass.

        Args:
            now: the time (UTC epoch seconds).
        """


def open_judge(run: Run) -> Model | None:
    """Open the judge of `[judge]`; its answers are recorded and paid from the run's budget.

    It speaks every wire that a teacher speaks, and `[ask]` says how fast it is asked.

    Args:
        run: the run.

    Returns:
        The judge, or None when there is no such table.
    """
    table = run.settings.judge
    if table is None:
        return None
    identity = identify(table)
    return RecordedTeacher(
        teacher=table,
        table=msgspec.structs.replace(run.settings.ask, batch=False),
        open_book=lambda: run.books.open(run.folder.judge_journal),
        journal=run.folder.judge_journal,
        permission=JudgeStamp(identity.model, shown(identity.endpoint)),
    )
