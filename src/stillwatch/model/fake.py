"""A model for tests and trials: it answers by a function, a script or an echo, and remembers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from stillwatch.errors import ModelError, StillwatchError
from stillwatch.model.protocol import Question, Reply
from stillwatch.record.exchange import Answer

#: What a handler may return: the text of one answer, a whole reply, or the failure to raise.
Handled = str | Reply | StillwatchError


class FakeModel:
    """Answers without a model. Tokens are counted as words, so that counts are never zero.

    Args:
        handler: called once a question, in order; a failure that it returns is raised.
        name: the model's name in reports and replies.

    Attributes:
        questions: every question that was asked, in order.

    Example:
        >>> import asyncio
        >>> from stillwatch.record.exchange import Message
        >>> model = FakeModel.scripted({"1+1?": "2"})
        >>> question = Question(messages=(Message(role="user", content="1+1?"),))
        >>> asyncio.run(model.answer([question]))[0].answers[0].text
        '2'
    """

    def __init__(self, handler: Callable[[Question], Handled], *, name: str = "fake") -> None:
        self.questions: list[Question] = []
        self._handler = handler
        self._name = name

    @classmethod
    def echo(cls, *, name: str = "fake") -> FakeModel:
        """Make a model that answers with the last user turn.

        Args:
            name: the model's name.

        Returns:
            The model.
        """
        return cls(last_user_text, name=name)

    @classmethod
    def scripted(
        cls, script: Mapping[str, Handled] | Sequence[Handled], *, name: str = "fake"
    ) -> FakeModel:
        """Make a model that answers from a script.

        Args:
            script: answers by the text of the last user turn, or answers to be given one after
                the other.
            name: the model's name.

        Returns:
            The model; it raises `ModelError` for what the script does not hold.
        """
        if isinstance(script, Mapping):
            missing = ModelError(f"{name}: the script has no answer to this question")
            return cls(lambda question: script.get(last_user_text(question), missing), name=name)
        rest = iter(script)
        ended = ModelError(f"{name}: the script has ended after {len(script)} answers")
        return cls(lambda _: next(rest, ended), name=name)

    @property
    def name(self) -> str:
        """The model's name."""
        return self._name

    async def answer(self, questions: Sequence[Question]) -> list[Reply]:
        """Answer a batch, one question after the other.

        Args:
            questions: any number.

        Returns:
            One reply a question, in order.

        Raises:
            StillwatchError: whatever the handler returned as a failure.
        """
        return [self._one(question) for question in questions]

    def _one(self, question: Question) -> Reply:
        self.questions.append(question)
        handled = self._handler(question)
        if isinstance(handled, StillwatchError):
            raise handled
        if isinstance(handled, Reply):
            return handled
        return Reply(
            answers=(Answer(text=handled, finish_reason="stop"),),
            model_returned=self._name,
            input_tokens=sum(_words(message.content) for message in question.messages),
            output_tokens=_words(handled),
        )


def last_user_text(question: Question) -> str:
    """Take the text that a chat model would answer.

    Args:
        question: what is asked.

    Returns:
        The last user turn, or "" when there is none.
    """
    return next((m.content for m in reversed(question.messages) if m.role == "user"), "")


def _words(text: str) -> int:
    return max(1, len(text.split()))
