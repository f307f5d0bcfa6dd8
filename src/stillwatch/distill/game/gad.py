"""Black-box and on-policy: the student learns to give answers that pass for the teacher's.

First the teacher's texts are learnt as they are (sequence level). Then the game: the student
answers the recorded questions itself, a discriminator that began as its copy tells teacher from
student, and what it took for the teacher's is made likelier. Nobody asks the teacher again.

Source: Ye et al. 2025 (arXiv 2511.10643). What differs from it is in docs/gad.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from stillwatch.distill.game.gad_checkpoint import GameKeeper
from stillwatch.distill.game.gad_game import Game, GamePlan, GameResult
from stillwatch.distill.game.gad_rollouts import Asked, Sampling, asked_of
from stillwatch.distill.game.gad_table import GadTable
from stillwatch.distill.game.gad_trace import GameTrace
from stillwatch.distill.items import Example
from stillwatch.distill.training.checkpoints import (
    checkpoint_path,
    fingerprint,
    remove_checkpoint,
)
from stillwatch.distill.training.forward import own_randomness
from stillwatch.distill.training.loop import LoopResult
from stillwatch.distill.training.optimizer import StudentOptimizer
from stillwatch.distill.training.students import Student, make_student
from stillwatch.distill.training.train import TrainingResult
from stillwatch.distill.training.train_lm import (
    learn_texts,
    rate_of,
    result_of,
    run_of,
    threads_of,
)
from stillwatch.distill.training.train_table import TrainTable
from stillwatch.errors import extra, reject
from stillwatch.model.folder import SPECIAL_TOKENS, ChatTokenizer
from stillwatch.model.huggingface import max_context
from stillwatch.record.disk import replace_file

__all__ = ["TRACE", "GadResult", "GadTable", "train_gad"]

#: In the student's folder: the game, step by step.
TRACE = "gad.json"


@dataclass(frozen=True)
class GadResult(TrainingResult):
    """What a run of the on-policy method came to; `losses` are of the teacher's answers throughout.

    Attributes:
        trace: the game step by step, as it also rests in the student's folder.
    """

    trace: GameTrace = field(default_factory=GameTrace)


def train_gad(
    examples: Sequence[Example],
    table: TrainTable,
    gad: GadTable,
    *,
    seed: int,
    out: Path,
    on_step: Callable[[int, float], None] | None = None,
) -> GadResult:
    """Train one student by the black-box on-policy method and write its folder atomically.

    With `save_every` a run that was killed goes on from its last checkpoint, in the warm-up or in
    the game, and ends in the same bytes.

    Args:
        examples: what the teacher answered; at least one that the student can learn from.
        table: which student, and how; `method` and `topk` are not looked at.
        gad: the method's own settings.
        seed: of new weights, of adapters, of the order of the examples and of the samples.
        out: the model folder to write; one that exists is replaced.
        on_step: called with the steps done and the teacher's answers' loss in nats a token.

    Returns:
        What the run came to.
    """
    if not examples:
        reject("train_gad", "examples", "at least one", got=0)
    if table.trainer != "own":
        reject("[train]", "trainer", "own for method = 'gad'", got=table.trainer)
    started = time.process_time()
    table = msgspec.structs.replace(table, method="sequence")
    with threads_of(table):
        student = make_student(examples, table, seed=seed)
        n_warm = round(gad.warmup * table.steps_for(len(student.rows)))
        keeper = _keeper(student, table, gad, seed=seed, out=out)
        if keeper.found is None:
            keeper.warm = _warm_up(student, table, n_warm, seed=seed, out=out, on_step=on_step)
        asked = [asked_of(row) for row in student.rows]
        sampling = _sampling(student, asked, gad)
        plan = _plan_game(student, table, gad, sampling=sampling, n_warm=n_warm, seed=seed)
        game = _play(student, asked, plan, keeper=keeper, on_step=_later(n_warm, on_step))
        student.save(out)
    _write_trace(out, game.trace)
    if table.save_every:
        keeper.remove()
        remove_checkpoint(checkpoint_path(out))
    loop = _joined(keeper, game, n_warm=n_warm)
    plain = result_of(student, loop, out=out, cpu_s=time.process_time() - started)
    return GadResult(**vars(plain), trace=game.trace)


def _write_trace(folder: Path, trace: GameTrace) -> None:
    """Write how the game went beside the student's weights."""
    replace_file(folder / TRACE, msgspec.json.encode(trace) + b"\n")


def _joined(keeper: GameKeeper, game: GameResult, *, n_warm: int) -> LoopResult:
    warm, found = keeper.warm, keeper.found
    return LoopResult(
        np.concatenate([warm.losses, game.losses]),
        warm.n_tokens + game.n_tokens,
        warm.n_answer_tokens + game.n_answer_tokens,
        warm.resumed_at if found is None else n_warm + found.step,
    )


def _warm_up(
    student: Student,
    table: TrainTable,
    n_steps: int,
    *,
    seed: int,
    out: Path,
    on_step: Callable[[int, float], None] | None,
) -> LoopResult:
    """Learn the teacher's texts: sequence-level training of so many steps."""
    if not n_steps:
        return LoopResult(np.zeros(0), 0, 0, 0)
    warm = msgspec.structs.replace(table, steps=n_steps)
    return learn_texts(student, warm, seed=seed, out=out, on_step=on_step)


def _plan_game(
    student: Student,
    table: TrainTable,
    gad: GadTable,
    *,
    sampling: Sampling,
    n_warm: int,
    seed: int,
) -> GamePlan:
    """Plan the steps that the warm-up left."""
    steps = table.steps_for(len(student.rows))
    n_steps = steps - n_warm
    peak = gad.learning_rate or table.peak_rate / (80 if table.uses_muon else 20)
    rates = msgspec.structs.replace(table, learning_rate=peak)
    opening = round(steps / 10) if gad.discriminator_steps < 0 else gad.discriminator_steps
    return GamePlan(
        steps=n_steps,
        gad=gad,
        sampling=sampling,
        questions=max(1, table.batch_size // gad.samples),
        accumulate=table.accumulate,
        rate=lambda step: rate_of(step, rates, steps=n_steps),
        discriminator_rate=gad.discriminator_rate or table.peak_rate / 4,
        opening=opening,
        clip=table.clip,
        seed=seed,
        precision=student.precision,
        training_mode=table.gradient_checkpointing,
    )


def _keeper(
    student: Student, table: TrainTable, gad: GadTable, *, seed: int, out: Path
) -> GameKeeper:
    if not table.save_every:
        return GameKeeper(out, run="", every=0)
    plain = {"run": run_of(student, table, seed=seed), "gad": msgspec.to_builtins(gad)}
    return GameKeeper(out, run=fingerprint(plain, ()), every=table.save_every)


def _later(
    n_warm: int, on_step: Callable[[int, float], None] | None
) -> Callable[[int, float], None] | None:
    """Count the game's steps behind the warm-up's."""
    if on_step is None:
        return None
    return lambda done, loss: on_step(n_warm + done, loss)


def _play(
    student: Student,
    asked: Sequence[Asked],
    plan: GamePlan,
    *,
    keeper: GameKeeper,
    on_step: Callable[[int, float], None] | None,
) -> GameResult:
    if not plan.steps:
        return GameResult(np.zeros(0), 0, 0, GameTrace())
    with extra("train"):
        import torch
    optimizer = StudentOptimizer(student.model, uses_muon=False, weight_decay=0.0, clip=plan.clip)
    game = Game(student.model, asked, optimizer=optimizer, plan=plan)
    with own_randomness(student.model):
        torch.manual_seed(plan.seed % 2**63)  # dropout's, where it plays
        found = game.play(on_step, keeper=keeper)
    student.model.train()
    return found


def _sampling(student: Student, asked: Sequence[Asked], gad: GadTable) -> Sampling:
    """Sample up to the teacher's longest answer, as far as the model's context reaches."""
    longest = max(int(one.row.is_answer.sum()) for one in asked)
    room = max_context(student.model.config) - max(len(one.prompt_ids) for one in asked)
    chat = student.chat
    if isinstance(chat, ChatTokenizer):
        eos_ids: tuple[int, ...] = (chat.eos_id,)
        # What a house model never says when it answers; it has almost no probability anyway.
        forbidden = tuple(i for i in range(len(SPECIAL_TOKENS)) if i != chat.eos_id)
    else:
        eos_ids, forbidden = chat.eos_ids, ()
    return Sampling(
        samples=gad.samples,
        temperature=gad.temperature,
        max_new_tokens=min(gad.max_new_tokens or longest, room),
        pad_id=student.pad_id,
        eos_ids=eos_ids,
        forbidden=forbidden,
    )
