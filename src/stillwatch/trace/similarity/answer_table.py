"""Answers of many models to the same questions, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stillwatch.errors import reject
from stillwatch.trace.outputs import SuspectOutput


@dataclass(frozen=True)
class AnswerTable:
    """One answer of each model to each question; what a model was not asked stays empty.

    Attributes:
        models: names of the models, the columns.
        questions: texts of the questions, the rows.
        answers: `answers[q][m]` is model `m`'s answer to question `q`, "" where there is none.
    """

    models: tuple[str, ...]
    questions: tuple[str, ...]
    answers: tuple[tuple[str, ...], ...]

    def place(self, model: str) -> int:
        """Find a model's column.

        Args:
            model: its name.

        Returns:
            Its index in `models`.

        Raises:
            InvalidInputError: no such model.
        """
        if model not in self.models:
            reject("trace.AnswerTable", "model", f"one of {', '.join(self.models)}", got=model)
        return self.models.index(model)

    def keep(self, rows: Sequence[int]) -> AnswerTable:
        """Keep some questions.

        Args:
            rows: their places, in the order wanted.

        Returns:
            A table of those rows.
        """
        return AnswerTable(
            self.models,
            tuple(self.questions[row] for row in rows),
            tuple(self.answers[row] for row in rows),
        )


def table_of(outputs: Mapping[str, Sequence[SuspectOutput]]) -> AnswerTable:
    """Lay several models' outputs side by side by the text of the question.

    Only questions that at least two models were asked are kept; of several answers of a model to
    one question the first counts.

    Args:
        outputs: outputs of each model, as `outputs.read_outputs` gives them.

    Returns:
        The table; questions in the order in which they first appear.

    Raises:
        InvalidInputError: fewer than two models, or no question that two of them share.
    """
    if len(outputs) < 2:
        reject("trace.table_of", "outputs", "those of at least two models", got=len(outputs))
    models = tuple(outputs)
    found: dict[str, list[str | None]] = {}
    for column, model in enumerate(models):
        for one in outputs[model]:
            row = found.setdefault(one.question, [None] * len(models))
            row[column] = one.answer if row[column] is None else row[column]
    shared = {q: row for q, row in found.items() if sum(cell is not None for cell in row) >= 2}
    if not shared:
        reject(
            "trace.table_of",
            "outputs",
            "answers to the same questions",
            got=f"{len(found)} questions, each asked of one model",
            hint="ask every model the same list, and keep `question` in each line",
        )
    answers = tuple(tuple(cell or "" for cell in row) for row in shared.values())
    return AnswerTable(models, tuple(shared), answers)
