"""Scores for the orders by difficulty and disagreement."""

from pathlib import Path

import numpy as np
import pytest

from stillwatch.distill.items import Item, item_id_of
from stillwatch.distill.money.budget import BudgetTable, Ledger
from stillwatch.distill.questions.ranking import RankTask, disagreement_of, score_pool
from stillwatch.distill.questions.table import RankingTable
from stillwatch.errors import InvalidInputError, StillwatchError
from stillwatch.model.fake import FakeModel
from stillwatch.model.protocol import Question
from stillwatch.record.exchange import Message


def _item(text: str) -> Item:
    messages = (Message("user", text),)
    return Item(item_id=item_id_of(messages), messages=messages)


ITEMS = [_item(text) for text in ("sure thing", "no idea", "the zygote of the axolotl", "the a")]
UNKNOWN = np.full(4, np.nan)


def _model(question: Question) -> str:
    """Sure of the first question, of two minds about the others."""
    is_sure = question.messages[-1].content == "sure thing"
    return "yes" if is_sure or question.parameters["seed"] % 2 else "no"


def test_a_model_is_asked_once_and_remembered(tmp_path: Path) -> None:
    """How much its answers differ is the score; a second call asks nothing."""
    task = RankTask(RankingTable(at_once=3), "disagreement", tmp_path)
    model, ledger = FakeModel(_model), Ledger(BudgetTable())
    scores = score_pool(task, ITEMS, UNKNOWN, model=model, ledger=ledger)
    assert [0.0, 0.666667, 0.666667, 0.666667] == scores.tolist()
    assert (16, 16) == (len(model.questions), ledger.spent.questions)
    again = Ledger(BudgetTable())
    assert scores.tolist() == score_pool(
        task, ITEMS, UNKNOWN, model=None, ledger=again
    ).tolist()  # fmt: skip
    assert 16 == again.spent.questions
    more = FakeModel(_model)
    score_pool(task, [*ITEMS, _item("new")], np.full(5, np.nan), model=more, ledger=None)
    assert 4 == len(more.questions)


def test_scores_from_a_file(tmp_path: Path) -> None:
    """Items that the file does not hold come last."""
    (tmp_path / "s.jsonl").write_text(f'{{"item_id": "{ITEMS[1].item_id}", "score": 2}}\n')
    task = RankTask(RankingTable(by="file", path="s.jsonl"), "difficulty", tmp_path)
    found = score_pool(task, ITEMS, UNKNOWN, model=None, ledger=None)
    assert [False, True, False, False] == (found == 2).tolist()
    (tmp_path / "s.jsonl").write_text("nonsense\n")
    with pytest.raises(InvalidInputError, match=r"s\.jsonl:1: the line must be"):
        score_pool(task, ITEMS, UNKNOWN, model=None, ledger=None)


def test_rarity_and_length(tmp_path: Path) -> None:
    """Rare words surprise, long questions are long."""
    rarity = score_pool(
        RankTask(RankingTable(), "difficulty", tmp_path), ITEMS, UNKNOWN, model=None, ledger=None
    )
    assert rarity[2] < rarity[1]
    assert rarity[3] < rarity[1]
    task = RankTask(RankingTable(by="length"), "difficulty", tmp_path)
    assert [2, 2, 5, 2] == score_pool(task, ITEMS, UNKNOWN, model=None, ledger=None).tolist()


def test_a_column_comes_first(tmp_path: Path) -> None:
    """What the source tells is taken; a column that is not there is an error."""
    told = np.array([1.0, np.nan, 3.0, 2.0])
    task = RankTask(RankingTable(), "disagreement", tmp_path)
    found = score_pool(task, ITEMS, told, model=None, ledger=None)
    assert told.tolist()[2] == found.tolist()[2]
    task = RankTask(RankingTable(by="column"), "difficulty", tmp_path)
    with pytest.raises(InvalidInputError, match="needs a column of scores"):
        score_pool(task, ITEMS, UNKNOWN, model=None, ledger=None)
    task = RankTask(RankingTable(), "disagreement", tmp_path)
    with pytest.raises(StillwatchError, match="order = disagreement needs a model"):
        score_pool(task, ITEMS, UNKNOWN, model=None, ledger=None)


def test_disagreement_of_answers() -> None:
    """0 when all say the same, 1 when no word is shared, between for parts."""
    assert 0.0 == disagreement_of(["Yes.", "yes", "YES"])
    assert 1.0 == disagreement_of(["yes", "no"])
    assert 0.5 == disagreement_of(["a b c", "a b d"])
    assert 0.0 == disagreement_of(["", ""])
