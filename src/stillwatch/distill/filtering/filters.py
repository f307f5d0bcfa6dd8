"""Answers in, examples out: what is worth learning from, with a count for every reason against it.

One pass in bounded memory: answers come in blocks, and what is remembered of those before is a hash
each (and for near-duplicates a set of hashes). The first of two alike stays, so the kept part of a
smaller budget is a part of the kept part of a larger one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from stillwatch.distill.asking.attempts import Answered
from stillwatch.distill.filtering.filter_stages import Candidate, Stage, stages_of
from stillwatch.distill.filtering.filter_table import FilterCounts, FilterTable
from stillwatch.distill.filtering.filter_waiting import Waiting
from stillwatch.distill.items import Example, Item, read_lines
from stillwatch.model.protocol import Model
from stillwatch.record.disk import replace_json, replace_lines

__all__ = [
    "FilterCounts", "FilterTable", "Filtered", "filter_answers", "read_examples", "write_kept",
]  # fmt: skip

#: Answers looked at together: enough to keep a sandbox or a judge busy.
_BLOCK = 512


class Filtered(NamedTuple):
    """What a filter gives.

    Attributes:
        kept: the examples, in the order of the answers, made while they are taken.
        counts: what became of the answers taken so far; whole when `kept` is at its end.
    """

    kept: Iterator[Example]
    counts: FilterCounts


def filter_answers(
    answered: Iterable[Answered],
    table: FilterTable,
    *,
    held_out: Sequence[Item] = (),
    judge: Model | None = None,
) -> Filtered:
    """Choose the answers to learn from.

    Args:
        answered: items with their exchanges, in the order of the budget.
        table: what is left out.
        held_out: the score set, which nothing learnt from may have seen.
        judge: the model that judges, for a table with `judge`.

    Returns:
        The examples and the counts, both made as the examples are taken.

    Raises:
        InvalidInputError: a check that does not exist or an option that it does not know; a
            `judge` table without a model.
    """
    counts = FilterCounts()
    waiting = Waiting()
    stages = stages_of(table, held_out=held_out, judge=judge, waiting=waiting)

    def kept() -> Iterator[Example]:
        try:
            source = iter(answered)
            while block := [Candidate(one) for one in islice(source, _BLOCK)]:
                for stage in stages:
                    _apply(stage, block, table, counts=counts)
                for candidate in block:
                    _count(candidate, counts)
                    if candidate.dropped is None:
                        yield _example(candidate)
        finally:
            waiting.close()

    return Filtered(kept(), counts)


def write_kept(filtered: Filtered, folder: Path) -> FilterCounts:
    """Write `kept.jsonl`, an example a line, and `filter.json`, the counts; both atomically.

    Args:
        filtered: as `filter_answers` gave it; it is taken to its end.
        folder: where to.

    Returns:
        The counts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    replace_lines(folder / "kept.jsonl", filtered.kept)
    replace_json(folder / "filter.json", filtered.counts.as_dict())
    return filtered.counts


def read_examples(path: Path) -> Iterator[Example]:
    """Read what `write_kept` wrote.

    Args:
        path: the file.

    Returns:
        The examples in order.

    Raises:
        InvalidInputError: while they are taken: a line is not an example; file and line are named.
    """
    hint = "filter the answers again with `stillwatch distill ask`"
    return read_lines(path, Example, what="an example", hint=hint)


def _apply(
    stage: Stage, block: list[Candidate], table: FilterTable, *, counts: FilterCounts
) -> None:
    left = [candidate for candidate in block if candidate.dropped is None]
    for candidate, reason in zip(left, stage(left), strict=True):
        if reason is None:
            continue
        counts.found[reason] += 1
        if table.drops(reason):
            candidate.dropped = reason
            counts.dropped[reason] += 1


def _count(candidate: Candidate, counts: FilterCounts) -> None:
    tokens = candidate.exchange.output_tokens or 0
    own = counts.by_capability.setdefault(candidate.item.capability, [0, 0])
    counts.n_answered += 1
    counts.answered_tokens += tokens
    own[0] += 1
    if candidate.dropped is None:
        counts.n_kept += 1
        counts.kept_tokens += tokens
        own[1] += 1


def _example(candidate: Candidate) -> Example:
    return Example(
        item=candidate.item,
        answer=candidate.answer,
        exchange_id=candidate.exchange.exchange_id,
        output_tokens=candidate.exchange.output_tokens,
    )
