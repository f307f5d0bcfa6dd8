"""The teacher as a model that is scored: recorded, permitted and within the budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from stillwatch.distill.asking.ask import GROUP_S, AskProgress, AskTable, ask_items
from stillwatch.distill.asking.attempts import latest_answers, request_key
from stillwatch.distill.asking.teacher import OUTPUT_LIMITS, TeacherTable, identify
from stillwatch.distill.items import Item, item_id_of
from stillwatch.distill.money.budget import Ledger
from stillwatch.distill.permit.permission import PermissionStamp
from stillwatch.errors import BudgetReachedError, ModelError
from stillwatch.model.protocol import Question, Reply
from stillwatch.model.replay import recorded_reply
from stillwatch.record.exchange import Message, canonical_json
from stillwatch.record.journal import Journal

#: How each wire calls the limit on an answer's tokens.
_LIMIT_NAME = {"openai.responses": "max_output_tokens"}


@dataclass(frozen=True, kw_only=True)
class RecordedTeacher:
    """Implements `Model`: what the record holds is taken from there, the rest is asked and kept.

    Attributes:
        teacher: who is asked; its sampling parameters are replaced by the question's.
        table: how fast.
        make_ledger: gives a ledger that is charged with all but this journal.
        journal: where its answers are recorded.
        permission: the stamp for this teacher.
        on_progress: as for `ask_items`.
    """

    teacher: TeacherTable
    table: AskTable
    make_ledger: Callable[[], Ledger]
    journal: Path
    permission: PermissionStamp
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
            await self._ask(teacher, list(items.values()))
            keys = {n: request_key(item, teacher) for n, item in items.items()}
            answers = latest_answers(self.journal, keys.values())
            found |= {n: recorded_reply(answers[key]) for n, key in keys.items() if key in answers}
        missing = len(questions) - len(found)
        if missing:
            message = f"{self.name}: {missing} of {len(questions)} questions got no answer"
            raise ModelError(message, hint="run it again: what was answered is not asked again")
        return [found[n] for n in range(len(questions))]

    async def _ask(self, teacher: TeacherTable, items: list[Item]) -> None:
        with Journal.open(self.journal, fsync_interval_s=GROUP_S) as journal:
            summary = await ask_items(
                items,
                teacher=teacher,
                table=self.table,
                ledger=self.make_ledger(),
                journal=journal,
                permission=self.permission,
                on_progress=self.on_progress,
            )
        if summary.stopped == "budget":
            message = f"{self.name}: the budget does not reach for the held-out questions"
            raise BudgetReachedError(message, hint="raise [budget], or score fewer items")
        if summary.problem:
            raise ModelError(summary.problem, hint=summary.hint or None)

    def _with(self, parameters: dict[str, Any]) -> TeacherTable:
        kept = {k: v for k, v in self.teacher.parameters.items() if k not in OUTPUT_LIMITS}
        limit = next((parameters.pop(k) for k in OUTPUT_LIMITS if k in parameters), None)
        if limit is not None:
            own = next((k for k in OUTPUT_LIMITS if k in self.teacher.parameters), "max_tokens")
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
