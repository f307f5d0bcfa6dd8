"""The students of a run: which ones there are, and training them side by side."""

from __future__ import annotations

import hashlib
import multiprocessing
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from stillwatch.distill.filtering.filters import read_examples
from stillwatch.distill.game.gad_table import GadTable
from stillwatch.distill.items import Example, read_items
from stillwatch.distill.origin.manifest import examples_digest
from stillwatch.distill.stages.run_folder import RunFolder
from stillwatch.distill.training.student_tokenizer import make_tokenizer
from stillwatch.distill.training.train_table import TrainTable
from stillwatch.errors import InvalidInputError
from stillwatch.record.disk import replace_json
from stillwatch.record.exchange import canonical_json

#: Beside a student's folder: how it came about.
FACTS = "stillwatch.json"


class StudentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How a student came about; rests in its folder.

    Attributes:
        n_questions: questions asked for its record (count).
        seed: of its training.
        n_kept: examples that it was given (count).
        steps: optimizer steps (count).
        n_tokens: tokens it was shown, padding excluded (count).
        n_parameters: trained weights (count).
        train_loss: mean nats a token over the last tenth of the steps.
        cpu_s: processor time of training, in seconds.
        method: sequence, topk or gad.
        settings: hash of all that decided the student: settings, seed and examples.
        left_out: examples that it could not learn from, by reason (counts).
    """

    n_questions: int
    seed: int
    n_kept: int
    steps: int
    n_tokens: int
    n_parameters: int
    train_loss: float
    cpu_s: float
    method: str
    settings: str
    left_out: dict[str, int] = {}


class StudentTask(NamedTuple):
    """One student to train.

    Attributes:
        folder: the run.
        n_questions: its budget (count).
        seed: of its training.
        table: how it is trained.
        gad: settings of the on-policy method.
        settings: as in its record.
    """

    folder: RunFolder
    n_questions: int
    seed: int
    table: TrainTable
    gad: GadTable
    settings: str


class Kept(NamedTuple):
    """What a run may learn from.

    Attributes:
        examples: in the order of the questions.
        places: of each, where its question stands, from 0; rising.
    """

    examples: list[Example]
    places: list[int]

    def first(self, n_questions: int | None = None) -> list[Example]:
        """Take what the first questions gave.

        Args:
            n_questions: questions asked (count), or None for all.

        Returns:
            The examples, in the order of the questions.
        """
        if n_questions is None:
            return self.examples
        return self.examples[: bisect_left(self.places, n_questions)]


def read_kept(folder: RunFolder) -> Kept:
    """Read what a run may learn from, once for all budgets.

    Args:
        folder: the run.

    Returns:
        The examples with their places.

    Raises:
        InvalidInputError: nothing was kept yet.
    """
    if not folder.kept.is_file():
        message = f"{folder.path}: there are no answers to learn from yet"
        raise InvalidInputError(message, hint="run `stillwatch distill ask` first")
    order = {item.item_id: place for place, item in enumerate(read_items(folder.questions))}
    kept = [one for one in read_examples(folder.kept) if one.item.item_id in order]
    kept.sort(key=lambda one: order[one.item.item_id])  # as they stand, unless questions changed
    return Kept(kept, [order[one.item.item_id] for one in kept])


def tasks_of(
    folder: RunFolder, table: TrainTable, gad: GadTable, *, kept: Kept, budgets: Sequence[int]
) -> list[StudentTask]:
    """List the students of a run.

    Args:
        folder: the run.
        table: how they are trained.
        gad: settings of the on-policy method.
        kept: what they learn from.
        budgets: questions asked, one student for each and seed.

    Returns:
        The tasks, largest budgets first: they take longest.
    """
    told = {
        "train": msgspec.to_builtins(msgspec.structs.replace(table, at=(), seeds=(0,))),
        "gad": msgspec.to_builtins(gad) if table.method == "gad" else None,
    }
    settings = canonical_json(told)
    table = with_tokenizer(table, folder, kept.examples)
    found = []
    for n in sorted(budgets, reverse=True):
        learnt = examples_digest(kept.first(n))
        for seed in table.seeds:
            digest = hashlib.sha256(f"{settings}|{learnt}|{seed}".encode()).hexdigest()[:24]
            found.append(StudentTask(folder, n, seed, table, gad, digest))
    return found


def with_tokenizer(table: TrainTable, folder: RunFolder, examples: Sequence[Example]) -> TrainTable:
    """Give all house students of a run one tokenizer, made from every answer that was kept.

    Args:
        table: how students are trained.
        folder: the run; the tokenizer is written into it once.
        examples: all that was kept.

    Returns:
        The table, naming the tokenizer.
    """
    if not table.student.is_house or table.student.tokenizer:
        return table
    path = make_tokenizer(examples, table.student, path=folder.path / "tokenizer.json")
    student = msgspec.structs.replace(table.student, tokenizer=str(path))
    return msgspec.structs.replace(table, student=student)


def read_record(student: Path) -> StudentRecord | None:
    """Read how a student came about.

    Args:
        student: its folder.

    Returns:
        The record, or None when the folder is not a finished student.
    """
    try:
        return msgspec.json.decode((student / FACTS).read_bytes(), type=StudentRecord)
    except (OSError, msgspec.MsgspecError):
        return None


def train_students(
    tasks: Iterable[StudentTask],
    *,
    processes: int,
    on_done: Callable[[StudentRecord, bool], None] | None = None,
) -> list[StudentRecord]:
    """Train what is not trained yet.

    Args:
        tasks: the students.
        processes: side by side (count), each on one thread; on a GPU give 1.
        on_done: called with each record, and whether it was there before.

    Returns:
        The records, in the order of the tasks.

    Raises:
        StillwatchError: a student could not be trained; those that were finished stay.
    """
    everything = list(tasks)
    records: dict[tuple[int, int], StudentRecord] = {}

    def done(record: StudentRecord, *, known: bool) -> None:
        records[record.n_questions, record.seed] = record
        if on_done is not None:
            on_done(record, known)

    todo = []
    for task in everything:
        found = read_record(task.folder.student(task.n_questions, task.seed))
        if found is not None and found.settings == task.settings:
            done(found, known=True)
        else:
            todo.append(task)
    if processes <= 1 or len(todo) <= 1:
        for task in todo:
            done(train_one(task), known=False)
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(processes, len(todo)), mp_context=context) as pool:
            waiting = [pool.submit(train_one, task) for task in todo]
            try:
                for future in as_completed(waiting):
                    done(future.result(), known=False)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return [records[task.n_questions, task.seed] for task in everything]


def train_one(task: StudentTask) -> StudentRecord:
    """Train one student and write its folder.

    Args:
        task: which one.

    Returns:
        How it came about.
    """
    from stillwatch.distill.training.train_lm import train_lm

    examples = read_kept(task.folder).first(task.n_questions)
    out = task.folder.student(task.n_questions, task.seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    if task.table.method == "gad":
        from stillwatch.distill.game.gad import train_gad

        result: Any = train_gad(examples, task.table, task.gad, seed=task.seed, out=out)
    else:
        result = train_lm(examples, task.table, seed=task.seed, out=out)
    losses = np.asarray(result.losses, dtype=np.float64)
    record = StudentRecord(
        n_questions=task.n_questions,
        seed=task.seed,
        n_kept=len(examples),
        steps=len(losses),
        n_tokens=result.n_tokens,
        n_parameters=result.n_parameters,
        train_loss=float(losses[-max(1, len(losses) // 10) :].mean()) if len(losses) else 0.0,
        cpu_s=round(result.cpu_s, 2),
        method=task.table.method,
        settings=task.settings,
        left_out=dict(result.left_out),
    )
    replace_json(out / FACTS, record)
    return record
