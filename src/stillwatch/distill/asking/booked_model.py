"""A model beside the teacher, such as a judge: recorded, and paid from the budget."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stillwatch.distill.money.budget import Ledger
from stillwatch.distill.questions.asking import ask_together
from stillwatch.model.protocol import Model, Question, Reply
from stillwatch.model.replay import question_key, recorded_reply
from stillwatch.record.exchange import Exchange
from stillwatch.record.journal import Journal, read_journal

#: Questions of one batch: what is on the disk at the latest after so many.
_BLOCK = 32


@dataclass(frozen=True)
class BookedModel:
    """Implements `Model`: what the journal holds is not asked again.

    Attributes:
        model: what answers.
        journal: folder of its answers; one process at a time writes it.
        ledger: pays, or None when the answers cost nothing.
    """

    model: Model
    journal: Path
    ledger: Ledger | None = None

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    async def answer(self, questions: Sequence[Question]) -> list[Reply]:
        """Answer a batch; each answer is on the disk before the next block is asked.

        Args:
            questions: any number.

        Returns:
            One reply a question, in order.

        Raises:
            BudgetReachedError: the budget does not reach; what was bought is kept.
            ModelError: the model failed.
        """
        keys = [self._key(question) for question in questions]
        known = self._known(set(keys))
        todo = [n for n, key in enumerate(keys) if key not in known]
        todo = list({keys[n]: n for n in reversed(todo)}.values())[::-1]
        with Journal.open(self.journal) as journal:
            for at in range(0, len(todo), _BLOCK):
                rows = todo[at : at + _BLOCK]
                started_at = time.time()
                asked = [questions[n] for n in rows]
                replies = await ask_together(self.model, asked, self.ledger)
                bought = [
                    self._exchange(keys[n], questions[n], reply, started_at=started_at)
                    for n, reply in zip(rows, replies, strict=True)
                ]
                await asyncio.gather(*map(journal.append, bought))
                known |= zip((keys[n] for n in rows), replies, strict=True)
        return [known[key] for key in keys]

    def _key(self, question: Question) -> str:
        return question_key(question).hex()

    def _known(self, keys: set[str]) -> dict[str, Reply]:
        found: dict[str, Reply] = {}
        if not self.journal.is_dir():
            return found
        for _, exchange in read_journal(self.journal):
            key = exchange.tags.get("request_key", "")
            if key in keys:
                found[key] = recorded_reply(exchange)
        return found

    def _exchange(
        self, key: str, question: Question, reply: Reply, *, started_at: float
    ) -> Exchange:
        return Exchange(
            exchange_id=f"{key[:24]}-{os.urandom(4).hex()}",
            account="",
            started_at=started_at,
            ended_at=time.time(),
            wire="other",
            model=question.model or self.name,
            model_returned=reply.model_returned or None,
            messages=question.messages,
            answers=reply.answers,
            parameters=question.parameters,
            input_tokens=reply.input_tokens,
            output_tokens=reply.output_tokens,
            tags={"request_key": key},
        )
