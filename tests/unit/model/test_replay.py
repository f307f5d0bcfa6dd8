"""Replay: the recorded answer for the same question, and none for another."""

from pathlib import Path

import msgspec
import pytest

from stillwatch.errors import ModelError
from stillwatch.model.protocol import Model, Question, Reply
from stillwatch.model.replay import ReplayModel, question_key
from stillwatch.record.exchange import Answer, Exchange, Message
from stillwatch.record.journal import Journal
from stillwatch.record.store import write_store
from stillwatch.wire.chat import exchange_from

QUESTION = Question(
    messages=(Message(role="system", content="s"), Message(role="user", content="hi")),
    model="m",
    parameters={"temperature": 1.0, "tools": [{"name": "f"}], "user": "ann"},
)


def _record(*texts: str, question: Question = QUESTION) -> list[Exchange]:
    return [
        exchange_from(
            question,
            Reply(answers=(Answer(text=text),), model_returned="m-1", output_tokens=n),
            circumstances=Exchange(exchange_id=str(n), account="a", started_at=float(n)),
        )
        for n, text in enumerate(texts)
    ]


async def test_same_question() -> None:
    """The recorded reply comes back whole; who asks does not matter."""
    model = ReplayModel(_record("yo"))
    assert isinstance(model, Model)
    other_user = msgspec.structs.replace(
        QUESTION, parameters={**QUESTION.parameters, "user": "ben"}
    )
    expected = Reply(answers=(Answer(text="yo"),), model_returned="m-1", output_tokens=0)
    assert [expected, expected] == await model.answer([QUESTION, other_user])
    assert "replay" == model.name


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"messages": QUESTION.messages[1:]},
        {"parameters": {}},
        {"parameters": {**QUESTION.parameters, "temperature": 0.9}},
        {"parameters": {**QUESTION.parameters, "tools": [{"name": "g"}]}},
    ],
)
async def test_another_question(change: dict[str, object]) -> None:
    """A change of model, messages, parameters or tools is another question."""
    model = ReplayModel(_record("yo"))
    with pytest.raises(ModelError, match="is not in the record"):
        await model.answer([msgspec.structs.replace(QUESTION, **change)])


async def test_repeated_question() -> None:
    """Several recorded answers come in their order, then the last one again."""
    model = ReplayModel(_record("one", "two"))
    replies = await model.answer([QUESTION] * 3)
    assert ["one", "two", "two"] == [reply.answers[0].text for reply in replies]


async def test_refused_exchange_is_no_answer() -> None:
    """An exchange without an answer is passed over."""
    base = Exchange(exchange_id="1", account="a", started_at=1.0, status=429)
    model = ReplayModel([exchange_from(QUESTION, None, circumstances=base)])
    with pytest.raises(ModelError):
        await model.answer([QUESTION])


async def test_from_journal_and_store(tmp_path: Path) -> None:
    """A journal and a store replay alike."""
    with Journal.open(tmp_path / "j") as journal:
        for exchange in _record("one", "two"):
            journal.append_sync(exchange)
    write_store(tmp_path / "s", _record("one", "two"))
    for model in (ReplayModel.from_journal(tmp_path / "j"), ReplayModel.from_store(tmp_path / "s")):
        replies = await model.answer([QUESTION, QUESTION])
        assert ["one", "two"] == [reply.answers[0].text for reply in replies]


def test_key_is_fixed() -> None:
    """The key does not depend on the order of parameters."""
    turned = dict(reversed(QUESTION.parameters.items()))
    assert question_key(QUESTION) == question_key(
        msgspec.structs.replace(QUESTION, parameters=turned)
    )
