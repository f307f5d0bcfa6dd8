"""Answers to held-out items, asked once: a journal of them, looked up by what was asked.

The key holds the model's identity, the conversation, the tools, every sampling parameter and the
sample: change any and the question is asked anew, change nothing and it is never asked again.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from stillwatch.distill.items import Item
from stillwatch.distill.scores.contender import Contender, digest, with_system
from stillwatch.distill.scores.score_table import ScoreTable
from stillwatch.errors import ModelAuthError, ModelError, StillwatchError
from stillwatch.model.protocol import Question, Reply
from stillwatch.record.exchange import Answer, Exchange, canonical_json
from stillwatch.record.journal import Journal, read_journal
from stillwatch.wire.body import kept

#: Called with what was asked so far and what there is to ask (counts), for one model.
Progress = Callable[[str, int, int], None]


class Trial(NamedTuple):
    """One question to one model.

    Attributes:
        item: what is asked.
        sample: which of several answers.
    """

    item: Item
    sample: int


class _Asked(NamedTuple):
    trial: Trial
    question: Question
    key: str


class Said(NamedTuple):
    """What a model said.

    Attributes:
        text: the answer; tool calls stand after it as JSON.
        is_cut: whether it was cut at the limit of tokens.
        output_tokens: as the model counted them, or None.
    """

    text: str
    is_cut: bool
    output_tokens: int | None


class AnswerCache:
    """Keeps answers in a journal; use it with `with`.

    Args:
        folder: the journal, made if absent; this process alone writes it.
    """

    def __init__(self, folder: Path) -> None:
        self._journal = Journal.open(folder)
        self._said: dict[str, Said] = {}
        for _, exchange in read_journal(folder):
            key = exchange.tags.get("request_key")
            if key and exchange.answers:
                self._said[key] = _said(exchange.answers[0], exchange.output_tokens)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._journal.close()

    def find(self, key: str) -> Said | None:
        """Look up an answer.

        Args:
            key: as `request_key` gives it, "" for none.

        Returns:
            What was said, or None when it was never asked.
        """
        return self._said.get(key)

    async def keep(self, key: str, exchange: Exchange) -> Said:
        """Write an answer to the disk.

        Args:
            key: as `request_key` gives it.
            exchange: with one answer.

        Returns:
            What was said.
        """
        await self._journal.append(exchange)
        said = _said(exchange.answers[0], exchange.output_tokens)
        if key:
            self._said[key] = said
        return said


def question_of(trial: Trial, table: ScoreTable) -> Question:
    """Write the question of a trial, the same for every model.

    Args:
        trial: item and sample.
        table: decoding and system turn.

    Returns:
        The question.
    """
    parameters = dict(table.parameters)
    if table.temperature > 0:
        seeded = digest([table.seed, trial.item.item_id, trial.sample])
        parameters["seed"] = int(seeded[:8], 16) >> 1
    if trial.item.tools:
        parameters["tools"] = list(trial.item.tools)
    asked = Question(messages=trial.item.messages, parameters=parameters)
    return with_system(asked, table.system)


def request_key(contender: Contender, question: Question, *, sample: int) -> str:
    """Hash everything that an answer depends on.

    Args:
        contender: who is asked.
        question: what is asked.
        sample: which of several answers.

    Returns:
        SHA-256, hex; "" for a contender without identity.
    """
    if not contender.identity:
        return ""
    asked = [[m.role, m.content, m.extra] for m in question.messages]
    return digest([contender.identity, asked, question.parameters, sample])


async def collect_answers(
    contender: Contender,
    trials: Sequence[Trial],
    *,
    table: ScoreTable,
    cache: AnswerCache,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Said | None]:
    """Answer every trial, from the cache where it was asked before.

    Args:
        contender: who is asked.
        trials: what is asked.
        table: decoding.
        cache: where answers are kept, each before the next call begins.
        on_progress: called after each call with the answers had and wanted.

    Returns:
        One answer a trial, None where the model failed for good.

    Raises:
        StillwatchError: a refused key, a spent budget, a full disk. What was answered is kept.
    """
    asked = [_asked(contender, trial, table) for trial in trials]
    said = [cache.find(one.key) for one in asked]
    todo = [n for n, found in enumerate(said) if found is None]
    n_done, batch = len(trials) - len(todo), contender.batch
    calls = iter([todo[at : at + batch] for at in range(0, len(todo), batch)])

    async def work() -> None:
        nonlocal n_done
        for rows in calls:
            started_at = time.time()
            replies = await _ask(contender, asked, rows)
            exchanges = {
                n: _exchange(contender, asked[n], reply, started_at=started_at)
                for n, reply in replies
                if reply is not None and reply.answers
            }
            # Together: one sync of the disk serves the whole batch.
            kept = [cache.keep(asked[n].key, exchange) for n, exchange in exchanges.items()]
            for n, found in zip(exchanges, await asyncio.gather(*kept), strict=True):
                said[n] = found
            n_done += len(rows)
            if on_progress is not None:
                on_progress(n_done, len(trials))

    await _together([work for _ in range(contender.calls)])
    return said


def _asked(contender: Contender, trial: Trial, table: ScoreTable) -> _Asked:
    question = question_of(trial, table)
    return _Asked(trial, question, request_key(contender, question, sample=trial.sample))


async def _together(works: Sequence[Callable[[], Coroutine[None, None, None]]]) -> None:
    """Run side by side; one failure ends all and is raised as itself."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work())
    except* StillwatchError as refused:
        raise next(_leaves(refused)) from None


def _leaves(group: BaseExceptionGroup[StillwatchError]) -> Iterator[StillwatchError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def _ask(
    contender: Contender, asked: Sequence[_Asked], rows: Sequence[int]
) -> list[tuple[int, Reply | None]]:
    """Ask a batch; one that fails is asked again by halves, until what fails stands alone."""
    try:
        replies = await contender.answer([asked[n].question for n in rows])
    except ModelAuthError:
        raise
    except ModelError:
        if len(rows) == 1:
            return [(rows[0], None)]
        half = len(rows) // 2
        first = await _ask(contender, asked, rows[:half])
        return [*first, *await _ask(contender, asked, rows[half:])]
    return list(zip(rows, replies, strict=True))


def _exchange(contender: Contender, asked: _Asked, reply: Reply, *, started_at: float) -> Exchange:
    tags = {
        "contender": contender.identity,
        "item_id": asked.trial.item.item_id,
        "sample": str(asked.trial.sample),
        "request_key": asked.key,
    }
    return Exchange(
        exchange_id=uuid.uuid4().hex,
        account="score",
        started_at=started_at,
        ended_at=time.time(),
        wire="other",
        model=contender.name,
        model_returned=reply.model_returned or None,
        messages=with_system(asked.question, contender.system).messages,
        answers=reply.answers[:1],
        parameters=asked.question.parameters,
        input_tokens=reply.input_tokens,
        output_tokens=reply.output_tokens,
        tags=tags,
    )


def _said(answer: Answer, output_tokens: int | None) -> Said:
    calls = [call.get("function") for call in kept(answer.extra).get("tool_calls") or ()]
    text = "\n".join(filter(None, [answer.text, canonical_json(calls) if calls else ""]))
    is_cut = answer.finish_reason in {"length", "max_tokens", "max_output_tokens"}
    return Said(text, is_cut, output_tokens)
