"""The fake model: by function, by script, by echo; it remembers what it was asked."""

import pytest

from stillwatch.errors import ModelError, ModelRateError
from stillwatch.model.fake import FakeModel
from stillwatch.model.protocol import Model, Question, Reply
from stillwatch.record.exchange import Answer, Message


def _ask(*texts: str) -> list[Question]:
    return [Question(messages=(Message(role="user", content=text),)) for text in texts]


def _texts(replies: list[Reply]) -> list[str]:
    return [reply.answers[0].text for reply in replies]


async def test_echo() -> None:
    """The echo answers with the last user turn, counts words as tokens, and is a Model."""
    model = FakeModel.echo(name="parrot")
    assert isinstance(model, Model)
    question = Question(
        messages=(Message(role="user", content="a"), Message(role="assistant", content="b c"))
    )
    replies = await model.answer([*_ask("one two three"), question])
    assert ["one two three", "a"] == _texts(replies)
    expected = [("parrot", 3, 3), ("parrot", 3, 1)]
    assert expected == [(r.model_returned, r.input_tokens, r.output_tokens) for r in replies]
    assert 2 == len(model.questions)


async def test_script_by_question() -> None:
    """A mapping answers by question; what it lacks is a failure."""
    whole = Reply(answers=(Answer(text="x"), Answer(text="y")))
    model = FakeModel.scripted({"a": "A", "b": whole})
    replies = await model.answer(_ask("b", "a", "a"))
    assert [whole, "A", "A"] == [replies[0], *_texts(replies[1:])]
    with pytest.raises(ModelError, match="the script has no answer"):
        await model.answer(_ask("c"))


async def test_script_in_order() -> None:
    """A sequence answers in order, raises the failures in it, and ends."""
    model = FakeModel.scripted(["A", ModelRateError("slow down", retry_after_s=1.0), "B"])
    assert ["A"] == _texts(await model.answer(_ask("q")))
    with pytest.raises(ModelRateError, match="slow down"):
        await model.answer(_ask("q"))
    assert ["B"] == _texts(await model.answer(_ask("q")))
    with pytest.raises(ModelError, match="ended after 3 answers"):
        await model.answer(_ask("q"))


async def test_handler() -> None:
    """A function sees the whole question."""
    model = FakeModel(lambda question: str(question.parameters.get("seed")))
    questions = [Question(messages=(), parameters={"seed": n}) for n in (1, 2)]
    assert ["1", "2"] == _texts(await model.answer(questions))
