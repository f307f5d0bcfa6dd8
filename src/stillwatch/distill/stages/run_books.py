"""What a run has bought: one purse for all its models, and each journal read once a process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stillwatch.distill.asking.answer_index import AnswerIndex
from stillwatch.distill.asking.recorded_teacher import Book
from stillwatch.distill.asking.teacher import identify
from stillwatch.distill.asking.under_way import charge_journal, left_behind, with_lost
from stillwatch.distill.money.budget import BudgetTable, Ledger
from stillwatch.distill.money.prices import price_of
from stillwatch.errors import RecordError
from stillwatch.record.journal import Journal

if TYPE_CHECKING:
    from stillwatch.distill.run import Run


class Books:
    """A run's purse and the indexes of its journals.

    Every model of the run spends from the same purse, so that what one buys counts for the next at
    once; what other processes append is charged when a book is opened.

    Args:
        run: the run.

    Raises:
        InvalidInputError: a budget in dollars for a teacher without a price.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._ledger = Ledger(run.settings.budget, run.price)
        folders = (run.folder.journal, run.folder.teacher_journal, run.folder.judge_journal)
        self._indexes = {folder: AnswerIndex(folder) for folder in folders}
        self._views: dict[Path, Ledger] = {}

    async def open(self, journal: Path) -> Book:
        """Open the book of a journal that is about to be asked from.

        Args:
            journal: one of the run's; asking charges what it holds itself.

        Returns:
            The book.

        Raises:
            RecordError: another journal is damaged.
            InvalidInputError: a budget in dollars for a judge without a price.
        """
        for folder, index in self._indexes.items():
            if folder != journal and folder.is_dir():
                await self._charge(folder, index)
        return Book(self._view(journal), self._indexes[journal])

    def look(self, journal: Path) -> Ledger:
        """Charge what the run bought and change nothing on the disk, for a plan.

        Args:
            journal: the one that is left out.

        Returns:
            The ledger, with the run's caps.

        Raises:
            RecordError: another journal is damaged.
        """
        for folder, index in self._indexes.items():
            if folder != journal and folder.is_dir():
                self._view(folder).restore(with_lost(folder, index.reading()))
        return self._view(journal)

    async def _charge(self, folder: Path, index: AnswerIndex) -> None:
        ledger = self._view(folder)
        if left_behind(folder):
            try:
                journal = Journal.open(folder)
            except RecordError:  # it is being asked from now, by a process that charges it
                pass
            else:
                with journal:
                    await charge_journal(journal, index, ledger)
        ledger.restore(index.reading())

    def _view(self, folder: Path) -> Ledger:
        """The purse at the price of a journal's model; a judge in this process costs nothing."""
        if folder not in self._views:
            run, judge = self._run, self._run.settings.judge
            view = self._ledger
            if folder == run.folder.judge_journal:
                if judge is None or judge.wire == "folder":
                    view = Ledger(BudgetTable())
                else:
                    view = view.priced(price_of(identify(judge).model, run.settings.prices))
            self._views[folder] = view
        return self._views[folder]
