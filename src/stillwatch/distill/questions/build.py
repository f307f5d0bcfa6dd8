"""From the `[questions]` table to the items of a run, in the order of asking."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from stillwatch.distill.items import Item
from stillwatch.distill.money.budget import Ledger
from stillwatch.distill.questions.contamination import HeldOut
from stillwatch.distill.questions.gather import Gatherer
from stillwatch.distill.questions.generate import GenerateTask, write_questions
from stillwatch.distill.questions.order import Pool, order_pool, with_samples
from stillwatch.distill.questions.ranking import RankTask, score_pool
from stillwatch.distill.questions.rows import FileRows, LogRows, Row
from stillwatch.distill.questions.spool import SpooledItems
from stillwatch.distill.questions.table import FileTable, LogTable, QuestionsTable, file_table
from stillwatch.distill.questions.templates import Template
from stillwatch.errors import InvalidInputError
from stillwatch.model.protocol import Model


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the questions; every question read is in exactly one place.

    questions = duplicates + near_duplicates + contaminated + pool, and items are asked of the pool.

    Attributes:
        sources: source -> questions that it gave (counts).
        notes: source -> what else became of its rows (counts).
        questions: questions read (count).
        bad_rows: rows that were no questions and were skipped (count).
        duplicates: left out, because an equal one came before (count).
        near_duplicates: left out, because one nearly alike came before (count).
        contaminated: reason -> left out, because the score set has seen it (counts).
        held_out: score questions that were looked for (count).
        pool: questions that may be asked (count).
        items: items, samples counted, up to the limit (count).
        capabilities: capability -> items (counts).
    """

    sources: dict[str, int]
    notes: dict[str, dict[str, int]]
    questions: int
    bad_rows: int
    duplicates: int
    near_duplicates: int
    contaminated: dict[str, int]
    held_out: int
    pool: int
    items: int
    capabilities: dict[str, int]


class QuestionSet(NamedTuple):
    """The questions of a run.

    Attributes:
        items: in the order of asking; the first n are the budget n. They rest on disk and are read
            when they are looked at.
        counts: what became of the questions.
    """

    items: Sequence[Item]
    counts: Counts


class Source(NamedTuple):
    """Where questions come from.

    Attributes:
        name: as counts name it.
        rows: the questions.
        counts: what became of rows, complete when all are taken.
    """

    name: str
    rows: Iterable[Row]
    counts: Counter[str]


def file_items(source: str | FileTable, *, base: Path) -> Iterator[Item]:
    """Read the items of files, in their order, nothing left out: a score set, seeds.

    Args:
        source: a path, or a table of the shape of `[[questions.files]]`.
        base: what paths are relative to.

    Yields:
        Items.
    """
    for row in FileRows(file_table(source), base):
        yield row.item


def sources_of(table: QuestionsTable, *, base: Path, seed: int) -> list[Source]:
    """List where questions come from, but for what a model writes.

    Args:
        table: the table.
        base: what paths are relative to.
        seed: of drawn templates.

    Returns:
        The sources in the order of the table.

    Raises:
        InvalidInputError: a template breaks a rule.
    """
    found = []
    skip_bad = table.bad_rows == "skip"
    for source in table.files:
        rows = FileRows(file_table(source), base, skip_bad=skip_bad)
        found.append(Source(file_table(source).path, rows, rows.counts))
    for log in table.logs:
        logged = LogRows(LogTable(path=log) if isinstance(log, str) else log, base)
        found.append(Source(log if isinstance(log, str) else log.path, logged, logged.counts))
    for number, one in enumerate(table.templates, start=1):
        template = Template(one, base, number=number)
        found.append(Source(template.name, template.rows(seed=seed), Counter()))
    return found


def build_questions(
    table: QuestionsTable,
    *,
    base: Path,
    seed: int,
    held_out: Sequence[Item] = (),
    model: Model | None = None,
    ledger: Ledger | None = None,
) -> QuestionSet:
    """Read, make and write questions, leave out what must not be asked, and put them in order.

    The same table, files, seed and score set give the same items in the same order. What a model
    writes rests in a file beside the run file and is not asked for again.

    Args:
        table: the `[questions]` table.
        base: the run file's folder; paths are relative to it.
        seed: of everything that chance decides.
        held_out: the score set.
        model: writes questions, or ranks them, where the table wants that.
        ledger: pays for the model's answers, or None when they cost nothing.

    Returns:
        The items and what became of the rest.

    Raises:
        InvalidInputError: a rule is broken; table and key, or file and line, are named.
        BudgetReachedError: the ledger refused; what was written so far is kept.
    """
    gatherer = Gatherer(table, HeldOut(held_out, table.contamination))
    notes = _read(table, gatherer, base=base, seed=seed)
    if table.generate is not None:
        task = GenerateTask(table.generate, base, seed, gatherer.held_out)
        notes[table.generate.path] = _written(task, gatherer, model=model, ledger=ledger)
    equal, near = gatherer.duplicates()
    kept = _kept(gatherer, equal, near)
    pool = _ranked(table, gatherer, kept, base=base, asking=(model, ledger))
    order = kept[order_pool(pool, table.order, seed=seed, balance=table.balance)]
    every = with_samples(order, table.samples, sampling=table.sampling)
    places, samples = (column[: table.limit] for column in every)
    counts = Counts(
        **gatherer.counts(places),
        notes=notes,
        bad_rows=sum(found.get("bad", 0) for found in notes.values()),
        duplicates=int(equal.sum()),
        near_duplicates=int(near.sum()),
        held_out=len(held_out),
        pool=len(kept),
    )
    return QuestionSet(SpooledItems(gatherer.spool, places, samples), counts)


def _read(
    table: QuestionsTable, gatherer: Gatherer, *, base: Path, seed: int
) -> dict[str, dict[str, int]]:
    sources = sources_of(table, base=base, seed=seed)
    for source in sources:
        gatherer.take(source.rows, source=source.name)
    return _notes(sources)


def _written(
    task: GenerateTask, gatherer: Gatherer, *, model: Model | None, ledger: Ledger | None
) -> dict[str, int]:
    written = write_questions(task, pool=gatherer.spool, model=model, ledger=ledger)
    gatherer.take(map(Row, written.items), source=task.table.path)
    return written.counts


def _ranked(
    table: QuestionsTable,
    gatherer: Gatherer,
    kept: NDArray[np.int64],
    *,
    base: Path,
    asking: tuple[Model | None, Ledger | None],
) -> Pool:
    """The pool of what stays, with scores where the order goes by them."""
    whole = gatherer.pool()
    pool = Pool(whole.ids[kept], whole.strata[kept], whole.clusters[kept], whole.scores[kept])
    if table.order not in {"difficulty", "disagreement"}:
        return pool
    model, ledger = asking
    items = SpooledItems(gatherer.spool, kept, np.zeros(len(kept), dtype=np.int64))
    task = RankTask(table.ranking, table.order, base)
    return pool._replace(scores=score_pool(task, items, pool.scores, model=model, ledger=ledger))


def _notes(sources: list[Source]) -> dict[str, dict[str, int]]:
    sums: dict[str, Counter[str]] = {}
    for source in sources:
        sums[source.name] = sums.get(source.name, Counter()) + source.counts
    told = {
        source: {name: n for name, n in sorted(notes.items()) if name != "rows"}
        for source, notes in sums.items()
    }
    return {source: notes for source, notes in told.items() if notes}


def _kept(
    gatherer: Gatherer, equal: NDArray[np.bool_], near: NDArray[np.bool_]
) -> NDArray[np.int64]:
    kept = np.flatnonzero(~(equal | near))
    if not len(kept):
        n_seen = sum(gatherer.contaminated.values())
        message = "[questions]: the sources must give at least one question that may be asked"
        hint = f"{gatherer.n_questions} read, {n_seen} in the score set, {equal.sum()} repeated"
        raise InvalidInputError(message, hint=hint)
    return kept
