"""The same run through TRL's SFTTrainer and accelerate: for several GPUs, and as a cross-check.

Rows, mask, order, schedule and seeds are those of the package's own loop; the step is TRL's.
On several processes each takes its share of the accumulated batches, so the run is the same run:
`accelerate launch --num_processes 4 -m stillwatch.distill.training.train_trl JOB.json`.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from stillwatch.distill.items import Example
from stillwatch.distill.training.batches import Row, batch_order
from stillwatch.distill.training.loop import LoopResult
from stillwatch.distill.training.students import Student, make_student
from stillwatch.distill.training.train import TrainingResult
from stillwatch.distill.training.train_lm import rate_of, result_of, run_of
from stillwatch.distill.training.train_table import TrainTable
from stillwatch.errors import extra, reject


class TrlJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A training run as a file, for processes that `accelerate launch` starts.

    Attributes:
        examples: a file of examples, one JSON object a line.
        table: how to train.
        seed: of the run.
        out: the model folder to write.
        n: the first that many examples are learnt from; 0 takes all.
    """

    examples: str
    table: TrainTable
    seed: int
    out: str
    n: int = 0


def train_by_trl(
    examples: Sequence[Example],
    table: TrainTable,
    *,
    seed: int,
    out: Path,
    on_step: Callable[[int, float], None] | None = None,
) -> TrainingResult:
    """Train one student by TRL and write its folder atomically.

    Args:
        examples: at least one that the student can learn from.
        table: which student, and how; sequence-level, AdamW, data parallel.
        seed: as for `train_lm`.
        out: the model folder to write, by the first process alone.
        on_step: called with the steps done and the loss in nats an answer token.

    Returns:
        What the run came to.
    """
    _check(table)
    started = time.process_time()
    table = msgspec.structs.replace(table, optimizer="adamw")
    student = make_student(examples, table, seed=seed)
    steps = table.steps_for(len(student.rows))
    scratch = out.with_name(f".{out.name}.trl")
    _begin(scratch, run=run_of(student, table, seed=seed))
    order = list(_order(student.rows, table, seed=seed, steps=steps))
    trainer = _trainer(student, table, order=order, settings=_settings(table, steps, seed, scratch))
    if on_step is not None:
        trainer.add_callback(step_caller(on_step))
    with warnings.catch_warnings():
        # torch and accelerate warn of what they do themselves (gloo, pinned memory).
        warnings.simplefilter("ignore", UserWarning)
        resumed = _resume(trainer, scratch)
    if trainer.accelerator.is_main_process:
        student.save(out)
        shutil.rmtree(scratch, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    shown = [student.rows[i] for i in order]
    found = LoopResult(
        losses=_losses(trainer, steps),
        n_tokens=sum(len(row.token_ids) - 1 for row in shown),
        n_answer_tokens=sum(int(row.is_answer.sum()) for row in shown),
        resumed_at=resumed,
    )
    return result_of(student, found, out=out, cpu_s=time.process_time() - started)


def write_job(path: Path, job: TrlJob) -> Path:
    """Write a job for `accelerate launch`.

    Args:
        path: the file.
        job: the run.

    Returns:
        `path`.
    """
    path.write_bytes(msgspec.json.format(msgspec.json.encode(job), indent=1))
    return path


def main(arguments: Sequence[str]) -> None:
    """Run one job; each process that `accelerate launch` starts comes here.

    Args:
        arguments: the job's file.
    """
    job = msgspec.json.decode(Path(arguments[0]).read_bytes(), type=TrlJob)
    decoder = msgspec.json.Decoder(Example)
    with Path(job.examples).open("rb") as file:
        examples = [decoder.decode(line) for line in islice(file, job.n or None)]
    train_by_trl(examples, job.table, seed=job.seed, out=Path(job.out))


def _check(table: TrainTable) -> None:
    if table.student.is_house:
        hint = "house models are trained by the package's own loop: trainer = 'own'"
        reject("[train]", "trainer", "own for a house student", got="trl", hint=hint)
    if table.method != "sequence":
        hint = "leave trainer at 'own' for log-probabilities and on-policy training"
        reject("[train]", "method", "sequence with trainer = 'trl'", got=table.method, hint=hint)
    if table.prompt_share > 0:
        reject("[train]", "prompt_loss", "0 with trainer = 'trl'", got=table.prompt_loss)
    if table.optimizer == "muon":
        reject("[train]", "optimizer", "adamw with trainer = 'trl'", got=table.optimizer)
    if table.accumulate % _world():
        hint = "the processes share a step's batches, so that the run stays the same run"
        rule = f"a multiple of the {_world()} processes"
        reject("[train]", "accumulate", rule, got=table.accumulate, hint=hint)


def _world() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _order(rows: Sequence[Row], table: TrainTable, *, seed: int, steps: int) -> Iterator[int]:
    """Lay out the rows of all steps in the order of the package's own loop."""
    lengths = np.array([len(row.token_ids) for row in rows])
    batches = batch_order(lengths, batch_size=table.batch_size, seed=seed)
    for batch in islice(batches, steps * table.accumulate):
        yield from (int(i) for i in batch)


def _settings(table: TrainTable, steps: int, seed: int, scratch: Path) -> dict[str, Any]:  # noqa: PLR0917 - a private list of what the trainer is told
    on_cpu = table.device == "cpu"
    return {
        "output_dir": str(scratch),
        "max_steps": steps,
        "per_device_train_batch_size": table.batch_size,
        "gradient_accumulation_steps": table.accumulate // _world(),
        "learning_rate": table.peak_rate,
        "weight_decay": table.weight_decay,
        "optim": "adamw_torch",
        "max_grad_norm": table.clip,
        "seed": seed % 2**32,
        "use_cpu": on_cpu,
        "train_sampling_strategy": "sequential",
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "max_length": None,
        "packing": False,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "report_to": "none",
        "save_strategy": "steps" if table.save_every else "no",
        "save_steps": table.save_every or 500,
        "save_total_limit": 1,
        "dataloader_pin_memory": not on_cpu,
    }


def _trainer(
    student: Student, table: TrainTable, *, order: Sequence[int], settings: dict[str, Any]
) -> Any:
    with extra("trl"):
        from datasets import Dataset
        from torch.optim.lr_scheduler import LambdaLR
        from transformers.trainer_callback import PrinterCallback
        from trl import SFTConfig, SFTTrainer

    class ScheduledTrainer(SFTTrainer):  # type: ignore[misc]  # trl ships no types
        """TRL's trainer with the package's own schedule, which never takes a step at rate 0."""

        lr_scheduler: Any

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            peak = table.peak_rate
            if self.lr_scheduler is None:
                self.lr_scheduler = LambdaLR(
                    self.optimizer if optimizer is None else optimizer,
                    lambda step: rate_of(step, table, steps=num_training_steps) / peak,
                )
            return self.lr_scheduler

    # Rows are kept once and shown by index; nothing is written to the library's cache.
    rows = Dataset.from_list([_record(row) for row in student.rows]).select(list(order))
    # transformers renames this one; TRL's own default is True.
    newer = "activation_checkpointing" in SFTConfig.__dataclass_fields__
    saves_memory = "activation_checkpointing" if newer else "gradient_checkpointing"
    settings |= {saves_memory: table.gradient_checkpointing}
    trainer = ScheduledTrainer(
        model=student.model,
        args=SFTConfig(**settings, bf16=student.precision == "bfloat16"),
        train_dataset=rows,
        processing_class=_tokenizer(student),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _losses(trainer: Any, steps: int) -> npt.NDArray[np.float64]:
    losses = np.zeros(steps)
    for entry in trainer.state.log_history:
        if "loss" in entry:
            losses[entry["step"] - 1] = entry["loss"]
    return losses


def _record(row: Row) -> dict[str, list[int]]:
    labels = np.where(row.is_answer, row.token_ids, -100)
    return {"input_ids": row.token_ids.tolist(), "labels": labels.tolist()}


def _tokenizer(student: Student) -> Any:
    from stillwatch.model.chat_template import ChatTemplate

    assert isinstance(student.chat, ChatTemplate)  # house students were refused
    tokenizer = student.chat.tokenizer
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token_id = student.pad_id
    return tokenizer


def step_caller(on_step: Callable[[int, float], None]) -> Any:
    """Make a callback of transformers that passes each step's loss on.

    Args:
        on_step: called with the steps done and the loss.

    Returns:
        The callback.
    """
    with extra("trl"):
        from transformers import TrainerCallback

    class Caller(TrainerCallback):  # type: ignore[misc]  # transformers' types are not followed
        """Passes each step's loss on."""

        def on_log(self, args: Any, state: Any, control: Any, **told: Any) -> None:
            logs = told.get("logs") or {}
            if "loss" in logs:
                on_step(int(state.global_step), float(logs["loss"]))

    return Caller()


def _begin(scratch: Path, *, run: str) -> None:
    """Keep the checkpoints of this run, and clear another's away."""
    mark = scratch / "run"
    if int(os.environ.get("RANK", "0")):
        return
    if not mark.is_file() or mark.read_text("utf-8") != run:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        mark.write_text(run, "utf-8")


def _resume(trainer: Any, scratch: Path) -> int:
    from transformers.trainer_utils import get_last_checkpoint

    last = get_last_checkpoint(str(scratch)) if scratch.is_dir() else None
    trainer.train(resume_from_checkpoint=last)
    return int(last.rpartition("-")[2]) if last else 0


if __name__ == "__main__":
    main(sys.argv[1:])
