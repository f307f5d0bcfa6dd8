"""Where a run's files lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stillwatch.errors import EnvironmentUnfitError

#: Name of the student that was not trained at all.
UNTOUCHED = "untouched"


@dataclass(frozen=True)
class RunFolder:
    """A run's folder: every stage reads what the one before it wrote.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def settings(self) -> Path:
        """The run file as it was read, resolved, without secrets."""
        return self.path / "run.json"

    @property
    def questions(self) -> Path:
        """The items to ask, nested: the first n are the budget n."""
        return self.path / "questions.jsonl"

    @property
    def question_counts(self) -> Path:
        """How many questions were read, and why some were left out."""
        return self.path / "questions.json"

    @property
    def journal(self) -> Path:
        """Every attempt, as exchanges."""
        return self.path / "record" / "journal"

    @property
    def teacher_journal(self) -> Path:
        """What the teacher said besides: to held-out items, and as a writer of questions."""
        return self.path / "record" / "teacher"

    @property
    def judge_journal(self) -> Path:
        """What a judge said, as exchanges."""
        return self.path / "record" / "judge"

    @property
    def kept(self) -> Path:
        """The examples that training learns from, in the order of the items."""
        return self.path / "kept.jsonl"

    @property
    def filter_counts(self) -> Path:
        """How many answers were kept, and why others were not."""
        return self.path / "filter.json"

    @property
    def students(self) -> Path:
        """The trained models, a folder each."""
        return self.path / "students"

    @property
    def scores(self) -> Path:
        """Held-out answers and figures."""
        return self.path / "scores"

    @property
    def points(self) -> Path:
        """Scored students, a line each: what the curve is fitted through."""
        return self.path / "points.jsonl"

    @property
    def curve_json(self) -> Path:
        """The copy curves as data."""
        return self.path / "curve.json"

    @property
    def curve_page(self) -> Path:
        """The copy curves as a page."""
        return self.path / "curve.html"

    def student(self, n_questions: int, seed: int) -> Path:
        """Give the folder of one student.

        Args:
            n_questions: how many questions it learnt from.
            seed: of its training.

        Returns:
            The model folder.
        """
        return self.students / f"{n_questions:07d}-s{seed}"

    def make(self) -> None:
        """Make the folder.

        Raises:
            EnvironmentUnfitError: it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"{self.path}: the run's folder cannot be made: {error.strerror}"
            raise EnvironmentUnfitError(message, hint="set `out` in the run file") from error
