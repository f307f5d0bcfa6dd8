"""A collection: models with known teachers, and their answers to one list of questions."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import msgspec

from stillwatch.trace.outputs import SuspectOutput
from stillwatch.trace.similarity.answer_table import AnswerTable, table_of
from stillwatch.trace.similarity.kin import ModelCard, Panel

#: What lies beside this file; `--truth` names others.
SHIPPED = ("self_instruct", "vicuna")


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model of a collection.

    Attributes:
        name: in tables.
        file: its answers, beside the others.
        family: vendor or line, "" = its own.
        base: what it was tuned from.
        released: day of its release.
        served: anyone could have bought its answers.
        teachers: models of the collection that it learned from.
    """

    name: str
    file: str
    family: str = ""
    base: str = ""
    released: datetime.date | None = None
    served: bool = False
    teachers: tuple[str, ...] = ()


class Truth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of a collection.

    Attributes:
        folder: where its files lie, below `--data`.
        question: column that holds the question, or its number where `questions_file` is given.
        answer: column that holds the answer.
        models: the models.
        questions_file: questions by `question_id`, "" where the answers carry them.
    """

    folder: str
    question: str
    answer: str
    models: tuple[Entry, ...]
    questions_file: str = ""


class Collection(msgspec.Struct, frozen=True):
    """A collection that was read.

    Attributes:
        name: of its truth file.
        truth: what is known.
        table: the answers.
    """

    name: str
    truth: Truth
    table: AnswerTable

    @property
    def cards(self) -> dict[str, ModelCard]:
        """What is known of each model."""
        return {
            m.name: ModelCard(m.family, m.base, m.released, frozenset(m.teachers))
            for m in self.truth.models
        }

    @property
    def students(self) -> dict[str, tuple[str, ...]]:
        """Teachers of each model that has some in the collection."""
        known = set(self.table.models)
        return {
            m.name: tuple(t for t in m.teachers if t in known)
            for m in self.truth.models
            if known.intersection(m.teachers)
        }

    def panel(self, suspect: str, *, served: bool, dated: bool) -> Panel:
        """Make the panel of one suspect; its siblings (another student of its teacher) are out.

        Args:
            suspect: a model of the collection.
            served: candidates are only models whose answers could be bought.
            dated: tell the days of release.

        Returns:
            The panel; all models but siblings are references.
        """
        cards = self.cards
        own = cards[suspect].teachers
        others = tuple(
            m.name for m in self.truth.models
            if m.name != suspect and not own & frozenset(m.teachers)
        )  # fmt: skip
        sold = {m.name for m in self.truth.models if m.served or not served}
        if not dated:
            cards = {n: ModelCard(c.family, c.base, None, c.teachers) for n, c in cards.items()}
        return Panel(suspect, tuple(n for n in others if n in sold), others, cards)


def read_collection(data: Path, truth_file: Path) -> Collection:
    """Read a collection.

    Args:
        data: the folder given as `--data`.
        truth_file: TOML file of what is known.

    Returns:
        The collection.
    """
    truth = msgspec.toml.decode(truth_file.read_bytes(), type=Truth)
    folder = data / truth.folder
    texts: dict[Any, str] = {}
    if truth.questions_file:
        texts = {row["question_id"]: row["text"] for row in _rows(folder / truth.questions_file)}
    outputs = {}
    for model in truth.models:
        outputs[model.name] = [
            SuspectOutput(
                answer=_answer_text(row[truth.answer]),
                question=texts.get(row[truth.question], str(row[truth.question])),
            )
            for row in _rows(folder / model.file)
        ]
    return Collection(truth_file.stem, truth, table_of(outputs))


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def _answer_text(value: Any) -> str:
    """Unpack a completion that was kept as the endpoint sent it."""
    return value if isinstance(value, str) else str(value["choices"][0]["text"])
