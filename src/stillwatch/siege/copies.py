"""The copies: students trained in worker processes on what the campaign recorded, and asked.

Each job is whole in itself (pairs in, answers out), so the jobs run side by side, one thread each,
and a job's result does not depend on which worker took it.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec

from stillwatch.distill.training.train import Pair, TrainingResult, train_student
from stillwatch.errors import EnvironmentUnfitError
from stillwatch.model.local import GenerationRow, LocalModel
from stillwatch.siege.processes import follow_parent
from stillwatch.siege.prose import PROSE_STUDENT, ask_suspect
from stillwatch.siege.teachers import SKILLS_STUDENT, house_teacher


@dataclass(frozen=True)
class Job:
    """A student to train and to ask.

    Attributes:
        name: of the job and of the student's folder.
        kind: "skills" is asked greedily, "prose" at temperature 1; "teacher" trains nothing: the
            house skills teacher itself is asked.
        pairs: what it is trained on; a student without any answers nothing.
        questions: fixed before anything is trained.
        seed: of the training and of the draws.
        out: folder to write the student to.
        steps: optimizer steps; None takes those of the recipe.
    """

    name: str
    kind: Literal["skills", "prose", "teacher"]
    pairs: tuple[Pair, ...]
    questions: tuple[str, ...]
    seed: int
    out: Path
    steps: int | None = None


class Trained(msgspec.Struct, frozen=True):
    """What came of a job.

    Attributes:
        name: of the job.
        n_pairs: pairs it was trained on (count).
        n_parameters: weights (count).
        steps: optimizer steps (count).
        final_loss: mean of the last tenth of the steps, nats a token; None when none was done.
        cpu_s: processor time of training and answering (s); does not repeat.
        answers: one a question, in order.
    """

    name: str
    n_pairs: int
    n_parameters: int
    steps: int
    final_loss: float | None
    cpu_s: float
    answers: list[str]


def run_jobs(
    jobs: Sequence[Job], *, on_done: Callable[[Trained], None], workers: int = 2
) -> list[Trained]:
    """Run jobs in worker processes, one torch thread each.

    Args:
        jobs: the longest first keeps both workers busy to the end.
        on_done: told of each job as it ends.
        workers: processes (count).

    Returns:
        One result a job, in the jobs' order.

    Raises:
        EnvironmentUnfitError: a worker died, for example for lack of memory.
    """
    with _pool(workers) as pool:
        futures = {pool.submit(run_job, job): i for i, job in enumerate(jobs)}
        done: dict[int, Trained] = {}
        waiting = set(futures)
        try:
            while waiting:
                ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in ready:
                    done[futures[future]] = future.result()
                    on_done(done[futures[future]])
        except BrokenProcessPool as error:
            message = "siege: a training process died before it was done"
            raise EnvironmentUnfitError(message, hint="is there 2 GiB of free memory?") from error
    return [done[i] for i in range(len(jobs))]


def run_job(job: Job) -> Trained:
    """Train one student, if there is something to train on, and let it answer.

    Args:
        job: what to do.

    Returns:
        What came of it.
    """
    started = time.process_time()
    folder, steps, final_loss = house_teacher("house-skills"), 0, None
    if job.kind != "teacher":
        if not job.pairs:
            return Trained(job.name, 0, 0, 0, None, 0.0, [""] * len(job.questions))
        result = _train(job)
        folder, steps = result.folder, len(result.losses)
        final_loss = float(result.losses[-max(1, steps // 10) :].mean())
    model = LocalModel.load(folder)
    return Trained(
        name=job.name,
        n_pairs=len(job.pairs),
        n_parameters=model.n_parameters,
        steps=steps,
        final_loss=final_loss,
        answers=_ask(model, folder, job),
        cpu_s=time.process_time() - started,
    )


def _train(job: Job) -> TrainingResult:
    is_prose = job.kind == "prose"
    shape, recipe = PROSE_STUDENT if is_prose else SKILLS_STUDENT
    teacher = house_teacher("house-prose" if is_prose else "house-skills")
    recipe = replace(recipe, seed=job.seed, steps=job.steps or recipe.steps)
    return train_student(job.pairs, tokenizer=teacher, shape=shape, recipe=recipe, out=job.out)


def _ask(model: LocalModel, folder: Path, job: Job) -> list[str]:
    if job.kind == "prose":
        answered = ask_suspect(folder, job.questions, seed=job.seed * 1_000_003)
        return [pair.answer for pair in answered]
    rows = [
        GenerationRow(
            prompt_ids=model.encode_question(question),
            max_new_tokens=model.defaults.max_new_tokens,
        )
        for question in job.questions
    ]
    return [found.text for found in model.generate(rows)]


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    # Children read this before they import numpy or torch.
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker)
    try:
        yield pool
    except BaseException:
        # The executor would wait for jobs that nobody wants any more.
        for process in list((pool._processes or {}).values()):
            process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    follow_parent()
    import torch

    torch.set_num_threads(1)
