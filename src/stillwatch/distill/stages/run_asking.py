"""Asking the questions of a run, and choosing the answers to learn from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from stillwatch.distill.asking.ask import GROUP_S, AskProgress, AskSummary, ask_items
from stillwatch.distill.asking.attempts import answered_items
from stillwatch.distill.asking.batch import ask_batch
from stillwatch.distill.filtering.filters import FilterCounts, filter_answers, write_kept
from stillwatch.distill.items import read_items
from stillwatch.distill.stages.run_models import open_judge
from stillwatch.distill.stages.run_provenance import seal
from stillwatch.record.disk import replace_json
from stillwatch.record.journal import Journal

if TYPE_CHECKING:
    from stillwatch.distill.run import Run


async def ask_run(run: Run, on_progress: Callable[[AskProgress], None] | None = None) -> AskSummary:
    """Ask what the record of a run has no answer to yet.

    Args:
        run: the run.
        on_progress: called a few times a second.

    Returns:
        What asking came to; a budget that is reached is told there, not raised.

    Raises:
        NotPermittedError: there is no permission for this teacher.
    """
    permission = run.permit()
    run.questions()
    settings = msgspec.to_builtins(run.settings)
    settings["teacher"]["endpoint"] = permission.endpoint
    replace_json(run.folder.settings, {"settings": settings, "permission": permission})
    ask: Callable[..., Awaitable[AskSummary]] = ask_items
    if run.settings.ask.batch:
        ask = partial(ask_batch, batches=run.settings.batch)
    book = await run.books.open(run.folder.journal)
    with Journal.open(run.folder.journal, fsync_interval_s=GROUP_S) as journal:
        summary = await ask(
            read_items(run.folder.questions),
            teacher=run.settings.teacher,
            table=run.settings.ask,
            ledger=book.ledger,
            journal=journal,
            permission=permission,
            on_progress=on_progress,
            answers=book.answers,
        )
    seal(run, permission=permission)
    return summary


def filter_run(run: Run) -> FilterCounts:
    """Choose the answers to learn from: `kept.jsonl` and `filter.json`.

    Args:
        run: the run.

    Returns:
        How many were kept, and why others were not.
    """
    held_out = run.held_out()
    answered = answered_items(
        run.folder.journal, read_items(run.folder.questions), run.settings.teacher
    )
    filtered = filter_answers(
        answered,
        run.settings.filter,
        held_out=[*held_out.inside, *held_out.outside] if held_out else (),
        judge=open_judge(run),
    )
    counts = write_kept(filtered, run.folder.path)
    seal(run, permission=None)
    return counts
