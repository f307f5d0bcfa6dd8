"""A model of a run besides its asking: recorded, permitted and within the budget.

The teacher when it is scored or writes questions, and the judge, over every wire alike.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from stillwatch.distill.asking.answer_index import AnswerIndex, AnswerReader
from stillwatch.distill.asking.ask import GROUP_S, AskProgress, AskTable, ask_items
from stillwatch.distill.asking.ask_queue import Permit
from stillwatch.distill.asking.attempts import request_key
from stillwatch.distill.asking.teacher import OUTPUT_LIMITS, TeacherTable, identify
from stillwatch.distill.items import Item, item_id_of
from stillwatch.distill.money.budget import Ledger
from stillwatch.errors import BudgetReachedError, ModelError
from stillwatch.model.client import ModelUnavailableError
from stillwatch.model.huggingface import open_folder
from stillwatch.model.protocol import Model, Question, Reply
from stillwatch.model.replay import recorded_reply
from stillwatch.record.exchange import Message, canonical_json
from stillwatch.record.journal import Journal

#: How each wire calls the limit on an answer's tokens.
_LIMIT_NAME = {"openai.responses": "max_output_tokens"}


class Book(NamedTuple):
    """What asking one journal's model works with.

    Attributes:
        ledger: charged with all that the run bought, but for what this journal holds and `answers`
            has not read yet.
        answers: the journal's index.
    """

    ledger: Ledger
    answers: AnswerIndex


@dataclass(frozen=True, kw_only=True)
class RecordedTeacher:
    """Implements `Model`: what the record holds is taken from there, the rest is asked and kept.

    Attributes:
        teacher: who is asked; its sampling parameters are replaced by the question's.
        table: how fast.
        open_book: gives the ledger and this journal's index, before every batch.
        journal: where its answers are recorded.
        permission: the stamp for this teacher, or what else says why it may be asked.
        on_progress: as for `ask_items`.
    """

    teacher: TeacherTable
    table: AskTable
    open_book: Callable[[], Awaitable[Book]]
    journal: Path
    permission: Permit
    on_progress: Callable[[AskProgress], None] | None = None

    @property
    def name(self) -> str:
        """The teacher's name."""
        return identify(self.teacher).model or "teacher"

    @property
    def identity(self) -> str:
        """What its answers depend on besides the question."""
        found = identify(self.teacher)
        return canonical_json({
            "wire": found.wire,
            "endpoint": self.teacher.endpoint_id or found.endpoint,
            "model": found.model,
            "system": self.teacher.system,
            "headers": self.teacher.headers,
        })

    async def answer(self, questions: Sequence[Question]) -> list[Reply]:
        """Answer a batch.

        A question's seed tells samples apart; it is not sent, because few endpoints know it.

        Args:
            questions: any number.

        Returns:
            One reply a question, in order.

        Raises:
            BudgetReachedError: the budget does not reach; what was bought is kept.
            ModelError: some questions got no answer; what was answered is kept.
        """
        found: dict[int, Reply] = {}
        for parameters, numbers in _by_parameters(questions).items():
            teacher = self._with(msgspec.json.decode(parameters))
            items = {n: _item(questions[n]) for n in numbers}
            answers = await self._ask(teacher, list(items.values()))
            with AnswerReader(self.journal) as reader:
                for n, item in items.items():
                    key = request_key(item, teacher)
                    exchange = reader.read(answers.place(key), key)
                    if exchange is not None:
                        found[n] = recorded_reply(exchange)
        missing = len(questions) - len(found)
        if missing:
            message = f"{self.name}: {missing} of {len(questions)} questions got no answer"
            hint = "run it again: what was answered is not asked again"
            raise ModelUnavailableError(message, hint=hint)
        return [found[n] for n in range(len(questions))]

    @cached_property
    def _opened(self) -> Model | None:
        """The model of the wire `folder`, loaded once."""
        if self.teacher.wire != "folder":
            return None
        return open_folder(Path(self.teacher.folder), name=self.teacher.model or None)

    async def _ask(self, teacher: TeacherTable, items: list[Item]) -> AnswerIndex:
        book = await self.open_book()
        with Journal.open(self.journal, fsync_interval_s=GROUP_S) as journal:
            summary = await ask_items(
                items,
                teacher=teacher,
                table=self.table,
                ledger=book.ledger,
                journal=journal,
                permission=self.permission,
                on_progress=self.on_progress,
                answers=book.answers,
                model=self._opened,
            )
        if summary.stopped == "budget":
            message = f"{self.name}: the budget does not reach for all that it is asked"
            raise BudgetReachedError(message, hint="raise [budget], or score fewer items")
        if summary.problem:
            raise ModelError(summary.problem, hint=summary.hint or None)
        return book.answers

    def _with(self, parameters: dict[str, Any]) -> TeacherTable:
        kept = dict(self.teacher.parameters)
        limit = next((parameters.pop(k) for k in OUTPUT_LIMITS if k in parameters), None)
        if limit is not None:
            own = next((k for k in OUTPUT_LIMITS if k in kept), "max_tokens")
            kept = {k: v for k, v in kept.items() if k not in OUTPUT_LIMITS}
            parameters[_LIMIT_NAME.get(self.teacher.wire, own)] = limit
        merged = {**kept, **parameters}
        return msgspec.structs.replace(self.teacher, parameters=merged, logprobs=0)


def _by_parameters(questions: Sequence[Question]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for n, question in enumerate(questions):
        sent = {k: v for k, v in question.parameters.items() if k not in {"seed", "tools"}}
        groups.setdefault(canonical_json(sent), []).append(n)
    return groups


def _item(question: Question) -> Item:
    tools = tuple(question.parameters.get("tools", ()))
    sample = int(question.parameters.get("seed") or 0)
    messages: tuple[Message, ...] = tuple(question.messages)
    return Item(
        item_id=item_id_of(messages, tools, sample=sample),
        messages=messages,
        tools=tools,
        sample=sample,
    )
