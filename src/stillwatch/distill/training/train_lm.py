"""Train a student on a teacher's answers: the one entry for every kind of student."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import msgspec

from stillwatch.distill.items import Example
from stillwatch.distill.training.batches import Row
from stillwatch.distill.training.checkpoints import checkpoint_path, fingerprint, remove_checkpoint
from stillwatch.distill.training.loop import LoopPlan, LoopResult, run_loop
from stillwatch.distill.training.optimizer import StudentOptimizer
from stillwatch.distill.training.students import Student, make_student
from stillwatch.distill.training.train import TrainingResult, one_thread
from stillwatch.distill.training.train_table import LoraTable, StudentTable, TopKTable, TrainTable
from stillwatch.errors import extra, reject

__all__ = [
    "LoraTable",
    "StudentTable",
    "TopKTable",
    "TrainTable",
    "TrainingResult",
    "rate_of",
    "train_lm",
]


def train_lm(
    examples: Sequence[Example],
    table: TrainTable,
    *,
    seed: int,
    out: Path,
    on_step: Callable[[int, float], None] | None = None,
) -> TrainingResult:
    """Train one student and write its folder atomically.

    With `save_every` a run that was killed goes on from its last checkpoint when it is called
    again with the same examples, table and seed, and ends in the same bytes.

    Args:
        examples: what the teacher answered; at least one that the student can learn from.
        table: which student, and how.
        seed: of new weights, of adapters and of the order of the examples.
        out: the model folder to write; one that exists is replaced.
        on_step: called with the steps done and the loss in nats a token.

    Returns:
        What the run came to.
    """
    if not examples:
        reject("train_lm", "examples", "at least one", got=0)
    if table.method == "gad":
        hint = "method = 'gad' is trained by the functions of distill.gad"
        reject("[train]", "method", "sequence or topk for train_lm", got=table.method, hint=hint)
    if table.trainer == "trl":
        from stillwatch.distill.training.train_trl import train_by_trl

        return train_by_trl(examples, table, seed=seed, out=out, on_step=on_step)
    started = time.process_time()
    with threads_of(table):
        student = make_student(examples, table, seed=seed)
        found = learn_texts(student, table, seed=seed, out=out, on_step=on_step)
        student.save(out)
    if table.save_every:
        remove_checkpoint(checkpoint_path(out))
    return result_of(student, found, out=out, cpu_s=time.process_time() - started)


def learn_texts(
    student: Student,
    table: TrainTable,
    *,
    seed: int,
    out: Path,
    on_step: Callable[[int, float], None] | None = None,
) -> LoopResult:
    """Train a student on its rows by the package's own loop.

    Args:
        student: with its rows.
        table: how to train.
        seed: of the order of the rows.
        out: where the student will stand; its checkpoint lies beside it.
        on_step: called with the steps done and the loss in nats a token.

    Returns:
        The losses and counts.
    """
    steps = table.steps_for(len(student.rows))
    checkpoint = checkpoint_path(out) if table.save_every else None
    plan = LoopPlan(
        steps=steps,
        rate=lambda step: rate_of(step, table, steps=steps),
        batch_size=table.batch_size,
        pad_id=student.pad_id,
        accumulate=table.accumulate,
        prompt_loss=table.prompt_share,
        seed=seed,
        precision=student.precision,
        topk=table.topk if table.method == "topk" else None,
        checkpoint=checkpoint,
        save_every=table.save_every,
        run=run_of(student, table, seed=seed) if checkpoint else "",
    )
    optimizer = StudentOptimizer(
        student.model,
        uses_muon=table.uses_muon,
        weight_decay=table.weight_decay,
        clip=table.clip,
    )
    return run_loop(student.model, student.rows, optimizer=optimizer, plan=plan, on_step=on_step)


def result_of(student: Student, found: LoopResult, *, out: Path, cpu_s: float) -> TrainingResult:
    """Sum a run up.

    Args:
        student: as it was made.
        found: what the loop came to.
        out: the model folder.
        cpu_s: processor time, in seconds.

    Returns:
        The result.
    """
    return TrainingResult(
        folder=out,
        n_parameters=student.n_parameters,
        n_pairs=len(student.rows),
        n_tokens=found.n_tokens,
        losses=found.losses,
        cpu_s=cpu_s,
        n_answer_tokens=found.n_answer_tokens,
        left_out=student.left_out,
        template_sha256=student.template_sha256,
        resumed_at=found.resumed_at,
        n_signal=student.n_signal,
    )


def rate_of(step: int, table: TrainTable, *, steps: int) -> float:
    """The learning rate of a step: a linear rise, then the table's schedule.

    Args:
        step: from 0.
        table: its peak, warm-up and schedule.
        steps: of the whole run (count).

    Returns:
        The rate.

    Example:
        >>> table = TrainTable(learning_rate=1.0, warmup=0.2)
        >>> [round(rate_of(step, table, steps=10), 2) for step in (0, 1, 2, 9)]
        [0.5, 1.0, 1.0, 0.12]
    """
    rise = max(1, round(table.warmup * steps)) if table.warmup > 0 else 0
    if step < rise:
        return table.peak_rate * (step + 1) / rise
    if table.schedule == "constant":
        return table.peak_rate
    if table.schedule == "cosine":
        done = (step - rise) / max(1, steps - rise)
        return table.peak_rate * 0.5 * (1 + math.cos(math.pi * done))
    return table.peak_rate * (steps - step) / max(1, steps - rise)


def run_of(student: Student, table: TrainTable, *, seed: int) -> str:
    """Hash what a run's bytes depend on.

    Args:
        student: with its rows.
        table: how it is trained; what only says where and how often it is saved does not count.
        seed: of the run.

    Returns:
        64 hex digits.
    """
    with extra("train"):
        import torch
        import transformers
    same = msgspec.structs.replace(table, save_every=0, at=(), seeds=(0,))
    settings = {
        "table": msgspec.to_builtins(same),
        "seed": seed,
        "template": student.template_sha256,
        "device": student.model.device.type,
        "versions": [str(torch.__version__), str(transformers.__version__)],
    }
    return fingerprint(settings, _row_bytes(student.rows))


def _row_bytes(rows: Sequence[Row]) -> Iterator[bytes]:
    for row in rows:
        signal = b"" if row.signal is None else b"".join(part.tobytes() for part in row.signal)
        yield row.token_ids.tobytes() + b"|" + row.is_answer.tobytes() + b"|" + signal


def threads_of(table: TrainTable) -> AbstractContextManager[None]:
    """House models train on one thread; others on as many as torch was given.

    Args:
        table: which student.

    Returns:
        To be entered around training.
    """
    return one_thread() if table.student.is_house else nullcontext()
