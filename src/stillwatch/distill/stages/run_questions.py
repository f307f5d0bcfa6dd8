"""The questions of a run, and what asking them will cost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from stillwatch.distill.asking.attempts import answered_items
from stillwatch.distill.items import read_items, write_items
from stillwatch.distill.money.budget import Spend
from stillwatch.distill.money.plan import Pace, Plan, estimate
from stillwatch.distill.questions.build import Counts, build_questions
from stillwatch.distill.stages.run_books import Books
from stillwatch.distill.stages.run_files import question_settings
from stillwatch.distill.stages.run_models import open_writer
from stillwatch.errors import NotPermittedError
from stillwatch.record.disk import replace_json

if TYPE_CHECKING:
    from stillwatch.distill.run import Run


class RunPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What `plan` found.

    Attributes:
        plan: questions, tokens, dollars, time; of what is still to be asked.
        counts: what became of the questions that were read.
        n_known: questions that the record has answered already (count).
        n_held_out: questions that the teacher is asked besides, for the score (count).
        permission_problem: why nothing may be asked, or "".
        permission_hint: what to write, or "".
        hints: what is known of such a teacher's terms; no legal advice.
    """

    plan: Plan
    counts: Counts
    n_known: int
    n_held_out: int
    permission_problem: str = ""
    permission_hint: str = ""
    hints: tuple[str, ...] = ()


def make_questions(run: Run, *, again: bool = False) -> Counts:
    """Make the questions of a run, unless they stand already for its settings.

    Args:
        run: the run.
        again: make them anew.

    Returns:
        What became of what was read.

    Raises:
        InvalidInputError: a source cannot be read, or gives nothing to ask.
    """
    held_out = run.held_out()
    told = question_settings(
        run.settings.questions, base=run.base, seed=run.settings.seed, held_out=held_out
    )
    kept = None if again else _kept_counts(run, told)
    if kept is not None:
        return kept
    run.folder.make()
    found = build_questions(
        run.settings.questions,
        base=run.base,
        seed=run.settings.seed,
        held_out=[*held_out.inside, *held_out.outside] if held_out else (),
        model=open_writer(run),
    )
    write_items(run.folder.questions, found.items)
    replace_json(run.folder.question_counts, {"settings": told, "counts": found.counts})
    return found.counts


def plan_run(run: Run) -> RunPlan:
    """Say what asking will cost, before anything is asked.

    Args:
        run: the run.

    Returns:
        The plan, and whether it is permitted.
    """
    counts = make_questions(run)
    spent, answered = _on_record(run)
    left = (item for item in read_items(run.folder.questions) if item.item_id not in answered)
    table = run.settings.ask
    pace = Pace(
        requests_per_minute=table.requests_per_minute,
        tokens_per_minute=table.tokens_per_minute,
        concurrency=table.concurrency,
    )
    found = estimate(
        left,
        run.settings.teacher,
        prices=run.settings.prices,
        budget=run.settings.budget,
        pace=pace,
        seen=spent if answered else None,
    )
    held_out = run.held_out()
    n_held_out = len(held_out.inside) + len(held_out.outside) if held_out else 0
    problem = hint = ""
    hints: Iterable[str] = ()
    try:
        hints = run.permit().hints
    except NotPermittedError as error:
        problem, hint = str(error), error.hint or ""
    return RunPlan(
        plan=found,
        counts=counts,
        n_known=len(answered),
        n_held_out=n_held_out * run.settings.score.samples,
        permission_problem=problem,
        permission_hint=hint,
        hints=tuple(hints),
    )


def _on_record(run: Run) -> tuple[Spend, set[str]]:
    ledger = Books(run).look(run.folder.journal)
    answered = set()
    if run.folder.journal.is_dir():
        items = read_items(run.folder.questions)
        for one in answered_items(run.folder.journal, items, run.settings.teacher):
            ledger.restore([one.exchange])
            answered.add(one.item.item_id)
    return ledger.spent, answered


def _kept_counts(run: Run, told: str) -> Counts | None:
    try:
        kept = msgspec.json.decode(run.folder.question_counts.read_bytes())
        if kept["settings"] == told and run.folder.questions.is_file():
            return msgspec.convert(kept["counts"], Counts)
    except (OSError, msgspec.MsgspecError, KeyError, TypeError):
        return None
    return None
