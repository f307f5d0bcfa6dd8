"""Scores for the orders by difficulty and by disagreement, higher first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from stillwatch.distill.items import Item
from stillwatch.distill.money.budget import Ledger
from stillwatch.distill.questions.asking import ask_together, needs_model, run_now, with_seed
from stillwatch.distill.questions.fingerprints import word_hashes
from stillwatch.distill.questions.rows import said_by_users
from stillwatch.distill.questions.state import StateFile
from stillwatch.distill.questions.table import RankingTable
from stillwatch.errors import InvalidInputError
from stillwatch.model.protocol import Model, Question

Floats = NDArray[np.float64]
_AT_ONCE = 2048
_BUCKETS = 2**20  # of the word counts; words that share one are counted together
_STATE = "ranking.jsonl"


class RankTask(NamedTuple):
    """What is to be scored.

    Attributes:
        table: how.
        order: what for.
        base: what paths are relative to.
    """

    table: RankingTable
    order: Literal["difficulty", "disagreement"]
    base: Path


class _Scored(msgspec.Struct, frozen=True):
    item_id: str
    score: float


def score_pool(
    task: RankTask,
    items: Sequence[Item],
    told: Floats,
    *,
    model: Model | None,
    ledger: Ledger | None,
) -> Floats:
    """Score questions.

    Args:
        task: how.
        items: the questions.
        told: scores that their sources gave, NaN for none, shape (n,).
        model: answers, where scores are how much its answers differ.
        ledger: pays for that.

    Returns:
        Higher is asked earlier, NaN where nothing is known, shape (n,).

    Raises:
        InvalidInputError: nothing tells scores.
    """
    by = task.table.by
    if by == "auto":
        by = _by(task, told)
    if by == "column":
        if np.isnan(told).all():
            message = "[questions.ranking]: by = column needs a column of scores"
            raise InvalidInputError(message, hint='columns = {score = "..."}')
        return told
    if by == "file":
        return _from_file(task, items)
    if by == "length":
        return np.concatenate([_words(chunk).astype(float) for chunk in _chunks(items)])
    if by == "rarity":
        return _rarity(items)
    return _by_model(task, items, model=model, ledger=ledger)


def disagreement_of(answers: Sequence[str]) -> float:
    """Measure how much answers to one question differ.

    Args:
        answers: two or more.

    Returns:
        Mean over all pairs of one less the likeness of their words, 0 (all say the same) to 1; for
        one-word answers the chance that two differ.

    Example:
        >>> disagreement_of(["Paris", "paris.", "Rome"])
        0.66...
    """
    words = word_hashes(answers)
    sets = [frozenset(row.tolist()) for row in np.split(words.values, words.offsets[1:-1])]
    pairs = [(a, b) for n, a in enumerate(sets) for b in sets[n + 1 :]]
    if not pairs:
        return 0.0
    return sum(1 - _likeness(a, b) for a, b in pairs) / len(pairs)


def _likeness(one: frozenset[int], other: frozenset[int]) -> float:
    together = len(one | other)
    return len(one & other) / together if together else 1.0


def _by(task: RankTask, told: Floats) -> Literal["column", "file", "rarity", "model"]:
    if not np.isnan(told).all():
        return "column"
    if task.order == "disagreement":
        return "model"
    return "file" if task.table.path else "rarity"


def _from_file(task: RankTask, items: Sequence[Item]) -> Floats:
    path = task.base / task.table.path
    known: dict[str, float] = {}
    decoder = msgspec.json.Decoder(_Scored)
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    scored = decoder.decode(line)
                except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                    message = f"{task.table.path}:{number}: the line must be an item_id and a score"
                    raise InvalidInputError(message) from error
                known[scored.item_id] = scored.score
    except OSError as error:
        message = f"{task.table.path}: the file of scores cannot be read"
        raise InvalidInputError(message) from error
    return np.array([known.get(item.item_id, np.nan) for item in items])


def _chunks(items: Sequence[Item]) -> Iterator[list[Item]]:
    for start in range(0, len(items), _AT_ONCE):
        yield list(items[start : start + _AT_ONCE])


def _texts(chunk: list[Item]) -> list[str]:
    return ["\n".join(said_by_users(item)) for item in chunk]


def _words(chunk: list[Item]) -> NDArray[np.int64]:
    return word_hashes(_texts(chunk)).lengths


def _rarity(items: Sequence[Item]) -> Floats:
    """Mean surprise of a question's words under the pool's own word counts (bits a word)."""
    counts = np.zeros(_BUCKETS, dtype=np.int64)
    for chunk in _chunks(items):
        words = word_hashes(_texts(chunk))
        counts += np.bincount(_bucket(words.values), minlength=_BUCKETS)
    bits = -np.log2(np.maximum(counts, 1) / max(1, int(counts.sum())))
    found = []
    for chunk in _chunks(items):
        words = word_hashes(_texts(chunk))
        sums = np.concatenate(([0.0], np.cumsum(bits[_bucket(words.values)])))
        total = sums[words.offsets[1:]] - sums[words.offsets[:-1]]
        found.append(total / np.maximum(words.lengths, 1))
    return np.concatenate(found)


def _bucket(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    return (hashes % np.uint64(_BUCKETS)).astype(np.int64)


def _by_model(
    task: RankTask, items: Sequence[Item], *, model: Model | None, ledger: Ledger | None
) -> Floats:
    table = task.table
    hint = 'map a column: columns = {score = "..."}, or set [questions.ranking] by = "file"'
    name = f"order = {task.order}"
    settings = {"parameters": table.parameters, "samples": table.samples}
    path = task.base / (table.path or _STATE)
    state = StateFile(path, kind="ranking", settings=settings)
    known = {line["item_id"]: float(line["score"]) for line in state.lines()}
    state.charge(ledger)
    missing = [n for n, item in enumerate(items) if item.item_id not in known]
    if missing:
        asked = needs_model(model, name=name, hint=hint)

        async def ask() -> None:
            for start in range(0, len(missing), table.at_once):
                chunk = [items[n] for n in missing[start : start + table.at_once]]
                for line in await _ask(chunk, table, asked, ledger=ledger):
                    known[line["item_id"]] = line["score"]
                    state.append(line, sync=False)
                state.sync()

        run_now(ask)
    return np.array([known[item.item_id] for item in items])


async def _ask(
    chunk: list[Item], table: RankingTable, model: Model, *, ledger: Ledger | None
) -> list[dict[str, Any]]:
    questions = [
        Question(messages=item.messages, parameters=_parameters(item, table, sample))
        for item in chunk
        for sample in range(table.samples)
    ]
    replies = await ask_together(model, questions, ledger)
    found: list[dict[str, Any]] = []
    for n, item in enumerate(chunk):
        given = replies[n * table.samples : (n + 1) * table.samples]
        texts = [reply.answers[0].text if reply.answers else "" for reply in given]
        found.append({
            "item_id": item.item_id,
            "score": round(disagreement_of(texts), 6),
            "input_tokens": [reply.input_tokens for reply in given],
            "output_tokens": [reply.output_tokens for reply in given],
        })
    return found


def _parameters(item: Item, table: RankingTable, sample: int) -> dict[str, Any]:
    found = with_seed(table.parameters, sample)
    if item.tools:
        found["tools"] = list(item.tools)
    return found
