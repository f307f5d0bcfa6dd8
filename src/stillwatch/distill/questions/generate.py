"""Questions that a model writes after seeds, in rounds, each at rest before the next is asked for.

The shape is Self-Instruct's (Wang and others 2022, arXiv 2212.10560): a few seeds and a few of its
own questions are shown, new ones are asked for, and what is too like an earlier one, too short, too
long or a refusal is left out. Different here: topics are filled evenly, likeness is by sets of word
runs with an index instead of pairwise ROUGE, and a killed run goes on where it was: a round's
requests depend on the seed, the round and what rests in the file, and on nothing else.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from stillwatch.distill.filtering.refusals import is_refusal
from stillwatch.distill.items import Item, item_id_of
from stillwatch.distill.money.budget import Ledger
from stillwatch.distill.questions.asking import (
    ask_together,
    needs_model,
    run_now,
    with_seed,
)
from stillwatch.distill.questions.contamination import HeldOut
from stillwatch.distill.questions.dedup import NearIndex
from stillwatch.distill.questions.patterns import Pattern
from stillwatch.distill.questions.rows import FileRows
from stillwatch.distill.questions.state import StateFile
from stillwatch.distill.questions.table import GenerateTable, file_table
from stillwatch.distill.questions.written import written_questions
from stillwatch.errors import InvalidInputError
from stillwatch.model.protocol import Model, Question, Reply
from stillwatch.record.exchange import Message

_MOST_SEEDS = 20_000  # held in memory, drawn evenly
_LONGEST_SHOWN = 2_000  # characters of an example
_LEAST_RATE = 0.2  # of new questions among written ones, when the last requests are counted
_INSTRUCTIONS = """\
Write {count} new questions or tasks{topic} that somebody could put to an assistant.

Each must make sense by itself, with all that is needed to answer it. Make them differ from each \
other and from the examples in what they ask for, in wording, length and difficulty. Do not answer \
them. Put each between <question> and </question>, with nothing in between.

Examples:
{examples}"""


class GenerateTask(NamedTuple):
    """What is to be written.

    Attributes:
        table: how many, and how.
        base: what paths are relative to.
        seed: of the choice of examples.
        held_out: the score set; no seed and no question of it is used.
    """

    table: GenerateTable
    base: Path
    seed: int
    held_out: HeldOut


class Written(NamedTuple):
    """What a model wrote.

    Attributes:
        items: the questions, at most as many as were wanted.
        counts: what became of the others (counts).
    """

    items: list[Item]
    counts: dict[str, int]


class _Seed(NamedTuple):
    text: str
    topic: str


def write_questions(
    task: GenerateTask, *, pool: Iterable[Item], model: Model | None, ledger: Ledger | None
) -> Written:
    """Have questions written, or take those that rest in the file.

    Args:
        task: what is wanted.
        pool: the run's other questions: the seeds where none are named.
        model: writes; may be None when the file holds enough.
        ledger: pays, or None.

    Returns:
        The questions, fewer than wanted when nothing new came for as long as the table allows.

    Raises:
        InvalidInputError: no seeds, or a file made with other settings.
        BudgetReachedError: the ledger refused; what was written is kept.
    """
    writer = _Writer(task, _seeds(task, pool))
    writer.state.charge(ledger)
    for line in writer.state.lines():
        writer.restore(line)
    if writer.goes_on:
        hint = f"{task.table.path} holds {writer.n_questions} of {task.table.count}"
        asked = needs_model(model, name="generate", hint=hint)
        run_now(lambda: _ask(writer, asked, ledger))
    return writer.written()


async def _ask(writer: _Writer, model: Model, ledger: Ledger | None) -> None:
    while writer.goes_on:
        requests = writer.requests()
        replies = await ask_together(model, [question for _, question in requests], ledger)
        writer.take([topic for topic, _ in requests], replies)


def _seeds(task: GenerateTask, pool: Iterable[Item]) -> list[_Seed]:
    table = task.table
    items = (
        (row.item for source in table.seeds for row in FileRows(file_table(source), task.base))
        if table.seeds
        else pool
    )
    found: list[Item] = []
    rng = np.random.Generator(np.random.PCG64([task.seed, 1]))
    for n, item in enumerate(item for item in items if item.question.strip()):
        if len(found) < _MOST_SEEDS:
            found.append(item)
        elif (place := int(rng.integers(n + 1))) < _MOST_SEEDS:
            found[place] = item
    reasons = task.held_out.reasons(found)
    kept = [item for item, why in zip(found, reasons, strict=True) if why is None]
    if not kept:
        message = "[questions.generate]: seeds must hold at least one question"
        hint = f"{len(found)} were read; those of the score set are not used"
        raise InvalidInputError(message, hint=hint)
    return [_Seed(item.question.strip(), item.capability) for item in kept]


class _Writer:
    """The rounds: what is asked for next, and what of the replies stays."""

    def __init__(self, task: GenerateTask, seeds: list[_Seed]) -> None:
        self._task = task
        self._seeds = seeds
        self._topics = list(task.table.topics) or sorted({seed.topic for seed in seeds})
        self._text = Pattern(
            task.table.instructions or _INSTRUCTIONS, where="[questions.generate]: instructions"
        )
        unknown = set(self._text.names) - {"topic", "count", "examples"}
        if unknown:
            message = f"{self._text.where}: slots must be topic, count and examples"
            raise InvalidInputError(message)
        self._near = NearIndex(task.table.near_duplicates)
        self._near.add([seed.text for seed in seeds], always=True)
        self._mine: dict[str, list[str]] = {topic: [] for topic in self._topics}
        self._items: list[Item] = []
        self._round = 0
        self._n_written = 0
        self._n_requests = 0
        self._left_out: Counter[str] = Counter()
        self._idle = 0
        self.state = StateFile(
            task.base / task.table.path, kind="generated", settings=self._settings()
        )

    @property
    def n_questions(self) -> int:
        """Questions at rest (count)."""
        return len(self._items)

    @property
    def missing(self) -> int:
        """Questions still wanted (count)."""
        return self._task.table.count - len(self._items)

    @property
    def goes_on(self) -> bool:
        """Whether another round is worth its price."""
        return self.missing > 0 and self._idle < self._task.table.patience

    def requests(self) -> list[tuple[str, Question]]:
        """Say what the next round asks for.

        Returns:
            Topic and request of each.
        """
        table = self._task.table
        rate = max(_LEAST_RATE, len(self._items) / self._n_written if self._n_written else 1.0)
        n = min(table.at_once, max(1, math.ceil(self.missing / (table.each * rate))))
        expected = Counter({topic: len(found) for topic, found in self._mine.items()})
        found = []
        for number in range(n):
            topic = min(self._topics, key=lambda one: (expected[one], self._topics.index(one)))
            expected[topic] += table.each
            found.append((topic, self._request(topic, number)))
        return found

    def take(self, topics: list[str], replies: list[Reply]) -> None:
        """Take a round's replies; they rest in the file before this returns.

        Args:
            topics: what each was asked for.
            replies: in the same order.
        """
        left_out: Counter[str] = Counter()
        accepted: list[dict[str, str]] = []
        n_written = 0
        for topic, reply in zip(topics, replies, strict=True):
            found = self._read(reply, left_out)
            n_written += len(found)
            accepted += [{"topic": topic, "question": text} for text in self._new(found, left_out)]
        line = {
            "round": self._round,
            "written": n_written,
            "accepted": accepted,
            "left_out": dict(sorted((+left_out).items())),
            "input_tokens": [reply.input_tokens for reply in replies],
            "output_tokens": [reply.output_tokens for reply in replies],
        }
        self.state.append(line)
        self._add(line)

    def restore(self, line: Mapping[str, Any]) -> None:
        """Take a round from the file.

        Args:
            line: as it was appended.
        """
        self._near.add([entry["question"] for entry in line["accepted"]], always=True)
        self._add(line)

    def written(self) -> Written:
        """Give the questions.

        Returns:
            Them, and what became of the others.
        """
        wanted = self._task.table.count
        counts = dict(self._left_out)
        if self.missing > 0:
            counts["not found"] = self.missing
        elif self.missing < 0:
            counts["beyond the count"] = -self.missing
        return Written(self._items[:wanted], dict(sorted(counts.items())))

    def _add(self, line: Mapping[str, Any]) -> None:
        self._round = line["round"] + 1
        self._n_written += line["written"]
        self._n_requests += len(line["output_tokens"])
        self._left_out.update(line["left_out"])
        self._idle = 0 if line["accepted"] else self._idle + 1
        for entry in line["accepted"]:
            text, topic = entry["question"], entry["topic"]
            self._mine.setdefault(topic, []).append(text)
            origin = f"{self._task.table.path}:{line['round'] + 2}"
            self._items.append(_item(text, topic=topic, origin=origin))

    def _read(self, reply: Reply, left_out: Counter[str]) -> list[str]:
        answer = reply.answers[0] if reply.answers else None
        found = (
            written_questions(answer.text, is_cut=answer.finish_reason == "length")
            if answer is not None
            else []
        )
        if not found:
            is_refused = answer is not None and is_refusal(answer.text)
            left_out["refused reply" if is_refused else "reply without questions"] += 1
        return found

    def _new(self, found: list[str], left_out: Counter[str]) -> list[str]:
        fit = []
        for text in found:
            reason = self._unfit(text)
            if reason is None:
                fit.append(text)
            else:
                left_out[reason] += 1
        items = [_item(text) for text in fit]
        seen = self._task.held_out.reasons(items)
        left_out["contaminated"] += sum(why is not None for why in seen)
        fit = [text for text, why in zip(fit, seen, strict=True) if why is None]
        kept = self._near.add(fit)
        left_out["near-duplicate"] += kept.count(False)
        return [text for text, is_new in zip(fit, kept, strict=True) if is_new]

    def _unfit(self, text: str) -> str | None:
        table = self._task.table
        n_words = len(text.split())
        if is_refusal(text):
            return "refusal"
        if n_words < table.least_words:
            return "too short"
        if n_words > table.most_words:
            return "too long"
        said = text.casefold()
        return "avoided word" if any(word.casefold() in said for word in table.avoid) else None

    def _request(self, topic: str, number: int) -> Question:
        table = self._task.table
        rng = np.random.Generator(np.random.PCG64([self._task.seed, 2, self._round, number]))
        fitting = [seed.text for seed in self._seeds if seed.topic == topic]
        shown = _drawn(fitting or [seed.text for seed in self._seeds], table.shots, rng)
        shown += _drawn(self._mine[topic], table.own_shots, rng)
        words = table.topic_words.get(topic, "" if topic == "all" else topic)
        examples = [f"<question>{text[:_LONGEST_SHOWN]}</question>" for text in shown]
        filled = {
            "count": table.each,
            "topic": f" about: {words}" if words and not table.instructions else words,
            "examples": "\n".join(examples),
        }
        text = self._text.filled(filled.get)
        # No two requests alike: with few seeds their texts can be.
        parameters = with_seed(table.parameters, self._n_requests + number)
        return Question(messages=(Message("user", text),), parameters=parameters)

    def _settings(self) -> dict[str, Any]:
        """What the file's rounds depend on; more may be wanted later, so the count is not in it."""
        table = msgspec.to_builtins(self._task.table)
        for name in ("count", "path", "seeds", "patience", "at_once"):
            table.pop(name)
        digest = hashlib.sha256("\0".join(seed.text for seed in self._seeds).encode())
        return {**table, "seed": self._task.seed, "seeds": digest.hexdigest()}


def _drawn(texts: Sequence[str], n: int, rng: np.random.Generator) -> list[str]:
    if not texts or not n:
        return []
    places = rng.choice(len(texts), size=min(n, len(texts)), replace=False)
    return [texts[int(place)] for place in places]


def _item(text: str, *, topic: str = "all", origin: str = "") -> Item:
    messages = (Message("user", text),)
    item_id = item_id_of(messages)
    return Item(item_id=item_id, messages=messages, capability=topic, origin=origin)
