"""A run: plan, ask, filter, train, score, curve, each from files and into files.

Every stage can be called again: it reads what stands in the run's folder, does what is missing and
leaves the rest alone. `stillwatch distill` is this class and a terminal.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Self

import msgspec

from stillwatch.distill.asking.ask import AskProgress, AskSummary
from stillwatch.distill.asking.teacher import identify
from stillwatch.distill.curves.curve_set import CurveSet
from stillwatch.distill.filtering.filters import FilterCounts
from stillwatch.distill.items import Example
from stillwatch.distill.money.prices import Price, price_of
from stillwatch.distill.permit.permission import PermissionStamp, stamp
from stillwatch.distill.questions.build import Counts
from stillwatch.distill.scores.score_report import ScoreReport
from stillwatch.distill.scores.scoring import HeldOutItems
from stillwatch.distill.stages.run_asking import ask_run, filter_run
from stillwatch.distill.stages.run_books import Books
from stillwatch.distill.stages.run_curve import draw_curves
from stillwatch.distill.stages.run_file import RunFile, read_run_file
from stillwatch.distill.stages.run_folder import RunFolder
from stillwatch.distill.stages.run_provenance import seal
from stillwatch.distill.stages.run_questions import RunPlan, make_questions, plan_run
from stillwatch.distill.stages.run_scoring import ask_held_out, held_out_of, score_run
from stillwatch.distill.stages.run_students import budgets_of, train_run
from stillwatch.distill.stages.run_training import StudentRecord, read_kept

Progress = Callable[[AskProgress], None]


class Run:
    """One run file and its folder.

    Args:
        settings: what the file says.
        base: the file's folder, which paths begin at.

    Attributes:
        settings: as given.
        base: as given.
        folder: where the run's files lie.
    """

    def __init__(self, settings: RunFile, base: Path) -> None:
        self.settings = settings
        self.base = base
        self.folder = RunFolder(base / (settings.out or settings.name))

    @classmethod
    def load(cls, path: Path | str, **budget: float | str | Decimal | None) -> Self:
        """Read a run file.

        Args:
            path: the TOML file.
            budget: `usd`, `tokens` or `questions` that replace the file's; None leaves it.

        Returns:
            The run.

        Raises:
            ConfigError: the file is not a run file.
        """
        path = Path(path)
        settings = read_run_file(path)
        given = {name: value for name, value in budget.items() if value is not None}
        if given:
            plain = {**msgspec.structs.asdict(settings.budget), **given}
            plain = {k: str(v) if k == "usd" and v is not None else v for k, v in plain.items()}
            caps = msgspec.convert(plain, type(settings.budget))
            settings = msgspec.structs.replace(settings, budget=caps)
        return cls(settings, path.parent)

    @property
    def price(self) -> Price | None:
        """What the teacher costs, or None when nobody knows."""
        return price_of(identify(self.settings.teacher).model, self.settings.prices)

    @cached_property
    def books(self) -> Books:
        """The purse that every model of this run spends from, with the run's caps."""
        return Books(self)

    def permit(self) -> PermissionStamp:
        """Check the permission for this teacher, now.

        Returns:
            The stamp that every artefact carries.

        Raises:
            NotPermittedError: there is none for it; the hint is what to write.
        """
        return stamp(self.settings.permission, identify(self.settings.teacher), time.time())

    def held_out(self) -> HeldOutItems | None:
        """Read the held-out items, or None when the run names none."""
        return held_out_of(self.settings.score, self.base)

    def questions(self, *, again: bool = False) -> Counts:
        """Make the questions, unless they stand already for these settings.

        Args:
            again: make them anew.

        Returns:
            What became of what was read.

        Raises:
            InvalidInputError: a source cannot be read, or gives nothing to ask.
        """
        return make_questions(self, again=again)

    def plan(self) -> RunPlan:
        """Say what asking will cost, before anything is asked.

        Returns:
            The plan, and whether it is permitted.
        """
        return plan_run(self)

    async def ask(self, on_progress: Progress | None = None) -> AskSummary:
        """Ask what the record has no answer to.

        Args:
            on_progress: called a few times a second.

        Returns:
            What asking came to; a budget that is reached is told there, not raised.

        Raises:
            NotPermittedError: there is no permission for this teacher.
        """
        return await ask_run(self, on_progress)

    async def ask_held_out(self, on_progress: Progress | None = None) -> int:
        """Ask the teacher what students will be scored on, so that an early end gives a curve.

        Args:
            on_progress: called a few times a second.

        Returns:
            Held-out questions on record now (count).

        Raises:
            BudgetReachedError: the budget does not even reach for these.
        """
        return await ask_held_out(self, on_progress)

    def filter(self) -> FilterCounts:
        """Choose the answers to learn from: `kept.jsonl` and `filter.json`.

        Returns:
            How many were kept, and why others were not.
        """
        return filter_run(self)

    def dataset(self, n_questions: int | None = None) -> list[Example]:
        """Read what the first n questions gave.

        Args:
            n_questions: questions asked (count), or None for all.

        Returns:
            The examples kept.
        """
        return read_kept(self.folder).first(n_questions)

    def budgets(self) -> list[int]:
        """List the numbers of questions that students are trained on, rising.

        Returns:
            The budgets of `[train] at` that were asked; a run that ended early has fewer.

        Raises:
            InvalidInputError: the largest is beyond what was asked.
        """
        return budgets_of(self)

    def train(
        self,
        *,
        processes: int = 1,
        on_done: Callable[[StudentRecord, bool], None] | None = None,
    ) -> list[StudentRecord]:
        """Train a student on what `filter` kept, for every budget and seed that has none yet.

        Args:
            processes: side by side (count), each on one thread; on a GPU give 1.
            on_done: called with each record, and whether it was there before.

        Returns:
            The records, largest budgets first.
        """
        return train_run(self, processes=processes, on_done=on_done)

    async def score(
        self, on_progress: Callable[[str, int, int], None] | None = None
    ) -> ScoreReport:
        """Score teacher, untouched student and every student on the held-out items.

        Args:
            on_progress: called with a model's name and the answers it has and needs.

        Returns:
            The report; `scores/report.json` and `points.jsonl` hold it.
        """
        report = await score_run(self, on_progress=on_progress)
        seal(self, permission=None)
        return report

    def curve(self, *, seed: int | None = None) -> CurveSet:
        """Fit the copy curves: `curve.json` and `curve.html`.

        Args:
            seed: of the resamples; the run's own by default.

        Returns:
            The curves.
        """
        curves = draw_curves(self, seed=seed)
        seal(self, permission=None)
        return curves
