"""The one Model protocol: whatever answers questions, behind HTTP, local, replayed or fake."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from stillwatch.wire.question import Question, Reply

__all__ = ["Model", "Question", "Reply"]


@runtime_checkable
class Model(Protocol):
    """Answers questions; the order of the replies is the order of the questions."""

    @property
    def name(self) -> str:
        """The model's name as reports print it."""
        ...

    async def answer(self, questions: Sequence[Question]) -> list[Reply]:
        """Answer a batch.

        Args:
            questions: any number.

        Returns:
            One reply a question, in order.
        """
        ...
