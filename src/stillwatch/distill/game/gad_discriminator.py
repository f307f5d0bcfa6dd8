"""The teacher-or-student discriminator: a copy of the student that scores whole answers.

It sees what the student sees, question and answer, and is trained on pairs of answers to the same
question, so that it must judge the answer and cannot judge the topic. Its score is the reward of
the student's samples.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from stillwatch.distill.training.batches import Row, pad_rows
from stillwatch.distill.training.forward import read_at
from stillwatch.distill.training.optimizer import StudentOptimizer


class Discriminator:
    """Scores answers; higher = more like the teacher.

    Args:
        student: whose weights it starts from; it is copied. With adapters, the adapters are what
            is trained.
        pad_id: fills short rows.
        precision: "float32" or "bfloat16".
        score_at: "last" or "mean" token of the answer.
        clip: largest gradient norm; 0 never clips.
    Source: Ye et al. 2025 (arXiv 2511.10643), section 2: a head on the last token's state, trained
        by the Bradley-Terry loss.
    """

    def __init__(
        self,
        student: Any,
        *,
        pad_id: int,
        precision: str,
        score_at: str = "last",
        clip: float = 1.0,
    ) -> None:
        import torch

        self.model = copy.deepcopy(student).eval()
        width = student.get_output_embeddings().weight.shape[1]
        # It begins without an opinion: zero weights need no seed.
        self.model.score_head = torch.nn.Parameter(torch.zeros(width, device=student.device))
        self.pad_id, self.precision = pad_id, precision
        self.score_at = score_at
        self.optimizer = StudentOptimizer(self.model, uses_muon=False, weight_decay=0.0, clip=clip)

    def scores(self, rows: Sequence[Row]) -> npt.NDArray[np.float64]:
        """Score answers.

        Args:
            rows: question and answer, at least one.

        Returns:
            Shape (n_rows,), higher = more like the teacher; only differences between answers to
            one question mean anything.
        """
        import torch

        with torch.inference_mode():
            found: npt.NDArray[np.float64] = self._scores(rows).double().cpu().numpy()
        return found

    def learn(
        self, teacher: Sequence[Row], student: Sequence[Row], *, rate: float, n_passes: int = 1
    ) -> float:
        """Take one step on pairs of a teacher's answer and the student's answers.

        Args:
            teacher: one answer a question.
            student: the same number of answers to each, side by side.
            rate: the learning rate.
            n_passes: forward passes that the questions are dealt to (count).

        Returns:
            The Bradley-Terry loss in nats a pair: log 2 when it cannot tell.
        """
        total, n_samples = 0.0, len(student) // len(teacher)
        for part in np.array_split(np.arange(len(teacher)), n_passes):
            if not len(part):
                continue
            mine = [student[i * n_samples + k] for i in part for k in range(n_samples)]
            found = self._scores([*(teacher[i] for i in part), *mine])
            apart = found[: len(part), None] - found[len(part) :].view(len(part), n_samples)
            loss = pair_loss(apart).sum() / len(student)
            loss.backward()
            total += loss.item()
        self.optimizer.step(rate)
        return total

    def _scores(self, rows: Sequence[Row]) -> Any:
        import torch

        batch = pad_rows(rows, pad_id=self.pad_id)
        if self.score_at == "last":
            width = batch.token_ids.shape[1]
            places = np.array([i * width + len(row.token_ids) - 1 for i, row in enumerate(rows)])
            states = read_at(self.model, batch, places, precision=self.precision).states
            return states @ self.model.score_head
        places = np.flatnonzero(batch.is_answer.reshape(-1))
        states = read_at(self.model, batch, places, precision=self.precision).states
        each = states @ self.model.score_head
        n_tokens = batch.is_answer.sum(axis=1)
        owner = torch.from_numpy(np.repeat(np.arange(len(rows)), n_tokens)).to(each.device)
        sums = each.new_zeros(len(rows)).index_add(0, owner, each)
        return sums / torch.from_numpy(n_tokens).to(each.device)


def pair_loss(apart: Any) -> Any:
    """The Bradley-Terry loss of pairs.

    Args:
        apart: the teacher's score minus the student's, any shape.

    Returns:
        Nats, the same shape: -log sigmoid(apart).

    Example:
        >>> import torch
        >>> round(float(pair_loss(torch.tensor(0.0))), 4)
        0.6931
    """
    import torch

    return torch.nn.functional.softplus(-apart)
