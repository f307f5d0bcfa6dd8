"""The game of student and discriminator: sample, judge, move the student, move the judge."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stillwatch.distill.game.gad_checkpoint import GameKeeper
from stillwatch.distill.game.gad_discriminator import Discriminator
from stillwatch.distill.game.gad_policy import (
    answer_logprobs,
    group_advantages,
    kl_to_reference,
    policy_loss,
)
from stillwatch.distill.game.gad_rollouts import Asked, Sampling, sample_answers
from stillwatch.distill.game.gad_table import GadTable
from stillwatch.distill.game.gad_trace import GameTrace
from stillwatch.distill.training.batches import Row, batch_order, pad_rows
from stillwatch.distill.training.optimizer import StudentOptimizer

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class GamePlan:
    """How the game is played.

    Attributes:
        steps: of the student (count).
        gad: the method's settings.
        sampling: how the student is sampled.
        questions: of a forward pass (count).
        accumulate: forward passes a step (count).
        rate: the student's learning rate at a step, from 0.
        discriminator_rate: the discriminator's.
        opening: the discriminator's own steps before the game (count).
        clip: largest gradient norm; 0 never clips.
        seed: of the order of the questions and of the samples.
        precision: "float32" or "bfloat16".
        training_mode: with dropout; a sample's probability is then not quite what it was drawn
            with, but checkpointed activations exist in that mode only.
    """

    steps: int
    gad: GadTable
    sampling: Sampling
    questions: int
    rate: Callable[[int], float]
    discriminator_rate: float
    opening: int
    accumulate: int = 1
    clip: float = 1.0
    seed: int = 0
    precision: str = "float32"
    training_mode: bool = False


class GameResult(NamedTuple):
    """What the game came to.

    Attributes:
        losses: of the teacher's answers before each step, nats a token, shape (steps,).
        n_tokens: tokens that the student was shown: its samples, and the teacher's answers where
            they are an anchor (count).
        n_answer_tokens: of these inside answers (count).
        trace: step by step.
    """

    losses: Floats
    n_tokens: int
    n_answer_tokens: int
    trace: GameTrace


class _Round(NamedTuple):
    """One draw of samples: the teacher's rows, the student's, and what they are worth."""

    teacher: list[Row]
    student: list[Row]
    advantages: Floats
    told_apart: float
    margin: float
    silent: float


class Game:
    """Student against discriminator.

    Args:
        model: the warmed-up student, on its device; it is moved in place.
        asked: the recorded questions with the teacher's answers, at least one.
        optimizer: of the student.
        plan: how.

    Attributes:
        losses: of the teacher's answers before each step, nats a token, shape (steps,).
        step: steps that the student has taken (count).
        n_draws: batches of questions drawn (count).
    """

    def __init__(
        self, model: Any, asked: Sequence[Asked], *, optimizer: StudentOptimizer, plan: GamePlan
    ) -> None:
        self.model, self.asked, self.plan = model.train(plan.training_mode), asked, plan
        self.optimizer = optimizer
        self.discriminator = Discriminator(
            model,
            pad_id=plan.sampling.pad_id,
            precision=plan.precision,
            score_at=plan.gad.score_at,
            clip=plan.clip,
        )
        self.reference = copy.deepcopy(model).eval() if plan.gad.kl > 0 else None
        self.trace = GameTrace()
        self.n_tokens = self.n_answer_tokens = 0
        self.losses, self.step, self.n_draws = np.zeros(plan.steps), 0, 0
        lengths = np.array([len(one.row.token_ids) for one in asked])
        self._order = batch_order(
            lengths, batch_size=plan.questions * plan.accumulate, seed=plan.seed + 1
        )

    def play(
        self,
        on_step: Callable[[int, float], None] | None = None,
        *,
        keeper: GameKeeper | None = None,
    ) -> GameResult:
        """Play all steps.

        Args:
            on_step: called with the steps done and the teacher's answers' loss.
            keeper: writes checkpoints, and puts the game to where the last one stood.

        Returns:
            What it came to.
        """
        plan = self.plan
        if keeper is not None:
            keeper.restore(self)
        for _ in range(len(self.trace.opening), plan.opening):
            teacher, student = self._draw()
            self.trace.opening.append(self._judge_learns(teacher, student))
            if keeper is not None:
                keeper.offer(self)
        while self.step < plan.steps:
            self._play_round(on_step)
            if keeper is not None:
                keeper.offer(self)
        return GameResult(self.losses, self.n_tokens, self.n_answer_tokens, self.trace)

    def skip_draws(self, n_draws: int) -> None:
        """Pass over the questions of rounds that were played by an earlier process.

        Args:
            n_draws: batches of questions (count).
        """
        for _ in range(n_draws):
            next(self._order)
        self.n_draws = n_draws

    def _play_round(self, on_step: Callable[[int, float], None] | None) -> None:
        plan = self.plan
        found = self._round()
        n = min(plan.gad.updates, plan.steps - self.step)
        old = self._logprobs(found.student) if n > 1 else None
        for _ in range(n):
            loss = self._move(found, old, rate=plan.rate(self.step))
            self.losses[self.step] = loss
            _note(self, found)
            self.step += 1
            if on_step is not None:
                on_step(self.step, loss)
        told = self._judge_learns(found.teacher, found.student)
        self.trace.discriminator.extend([told] * n)

    def _draw(self) -> tuple[list[Row], list[Row]]:
        """Take the next questions; give the teacher's rows and the student's samples."""
        plan, student = self.plan, list[Row]()
        chosen = [self.asked[i] for i in next(self._order)]
        first = plan.seed * 1_000_003 + self.n_draws * plan.accumulate + 1
        self.n_draws += 1
        for n, start in enumerate(range(0, len(chosen), plan.questions)):
            prompts = [one.prompt_ids for one in chosen[start : start + plan.questions]]
            seed = (first + n) % 2**63
            student += sample_answers(self.model, prompts, sampling=plan.sampling, seed=seed)
        return [one.row for one in chosen], student

    def _round(self) -> _Round:
        """Draw samples and let the discriminator, as it stands, judge them."""
        n_samples = self.plan.sampling.samples
        teacher, student = self._draw()
        truth, rewards = [], []
        for part in self._passes(len(teacher)):
            mine = student[part.start * n_samples : part.stop * n_samples]
            scores = self.discriminator.scores([*teacher[part], *mine])
            n = len(teacher[part])
            truth.append(scores[:n])
            rewards.append(scores[n:].reshape(n, n_samples))
        found = np.concatenate(rewards)
        apart = np.concatenate(truth)[:, None] - found
        advantages = group_advantages(found, scale=self.plan.gad.scale)
        return _Round(
            teacher,
            student,
            advantages.reshape(-1),
            told_apart=float(((apart > 0) + 0.5 * (apart == 0)).mean()),
            margin=float(apart.mean()),
            silent=float((advantages == 0).all(axis=1).mean()),
        )

    def _passes(self, n_questions: int) -> Iterator[slice]:
        for start in range(0, n_questions, self.plan.questions):
            yield slice(start, min(start + self.plan.questions, n_questions))

    def _logprobs(self, rows: Sequence[Row], model: Any | None = None) -> list[Any]:
        """Log-probabilities of the samples, a tensor a forward pass, without gradient."""
        import torch

        plan, size = self.plan, self.plan.questions * self.plan.sampling.samples
        with torch.no_grad():
            return [
                answer_logprobs(
                    model or self.model,
                    pad_rows(rows[start : start + size], pad_id=plan.sampling.pad_id),
                    temperature=plan.sampling.temperature,
                    precision=plan.precision,
                )
                for start in range(0, len(rows), size)
            ]

    def _move(self, found: _Round, old: list[Any] | None, *, rate: float) -> float:
        """Move the student one step; give the loss of the teacher's answers before it."""
        import torch

        plan = self.plan
        n_own = sum(int(row.is_answer.sum()) for row in found.student)
        n_teacher = sum(int(row.is_answer.sum()) for row in found.teacher)
        reference = (
            self._logprobs(found.student, self.reference) if self.reference is not None else None
        )
        total, own_nats, kl = 0.0, 0.0, 0.0
        for k, part in enumerate(self._passes(len(found.teacher))):
            new, advantages = self._new(found, part)
            each = policy_loss(
                new, new.detach() if old is None else old[k], advantages, clip=plan.gad.clip
            )
            if reference is not None:
                apart = kl_to_reference(new, reference[k])
                each = each + plan.gad.kl * apart
                kl += float(apart.detach().sum()) / n_own
            (each.sum() / n_own).backward()
            own_nats -= float(new.detach().sum()) / n_own
            with torch.set_grad_enabled(plan.gad.anchor > 0):
                batch = pad_rows(found.teacher[part], pad_id=plan.sampling.pad_id)
                nats = -answer_logprobs(self.model, batch, precision=plan.precision).sum()
            if plan.gad.anchor > 0:
                (plan.gad.anchor * nats / n_teacher).backward()
            total += float(nats.detach()) / n_teacher
        self.optimizer.step(rate)
        self.trace.nats.append(own_nats)
        if reference is not None:
            self.trace.kl.append(kl)
        return total

    def _new(self, found: _Round, part: slice) -> tuple[Any, Any]:
        """Log-probabilities of a forward pass, with gradient, and their tokens' advantages."""
        import torch

        plan, n_samples = self.plan, self.plan.sampling.samples
        whole = slice(part.start * n_samples, part.stop * n_samples)
        batch = pad_rows(found.student[whole], pad_id=plan.sampling.pad_id)
        new = answer_logprobs(
            self.model, batch, temperature=plan.sampling.temperature, precision=plan.precision
        )
        each = np.repeat(found.advantages[whole], batch.is_answer.sum(axis=1))
        return new, torch.from_numpy(each).to(new.device, new.dtype)

    def _judge_learns(self, teacher: list[Row], student: list[Row]) -> float:
        return self.discriminator.learn(
            teacher,
            student,
            rate=self.plan.discriminator_rate,
            n_passes=self.plan.accumulate,
        )


def _note(game: Game, found: _Round) -> None:
    """Count what the student was shown, and keep the step's figures."""
    trace, shown = game.trace, list(found.student)
    if game.plan.gad.anchor > 0:
        shown += found.teacher
    game.n_tokens += sum(len(row.token_ids) for row in shown) - len(shown)
    game.n_answer_tokens += sum(int(row.is_answer.sum()) for row in shown)
    trace.told_apart.append(found.told_apart)
    trace.margin.append(found.margin)
    trace.silent.append(found.silent)
    lengths = [int(row.is_answer.sum()) for row in found.student]
    trace.n_tokens.append(float(np.mean(lengths)))
    ends = game.plan.sampling.eos_ids
    ended = [int(row.token_ids[-1]) in ends for row in found.student]
    trace.ended.append(float(np.mean(ended)))
