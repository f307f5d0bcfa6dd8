"""The student's side of the game: log-probabilities of its own answers, and the group's gradient.

Source: group-relative advantages and the clipped ratio, Shao et al. 2024 (arXiv 2402.03300); the
mean is over tokens rather than over answers, so that a long answer does not weigh less a token.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from stillwatch.distill.training.batches import Batch
from stillwatch.distill.training.forward import read_at

#: Rewards of a group that differ by less than this say nothing about its answers.
_SILENT = 1e-6


def answer_logprobs(
    model: Any, batch: Batch, *, temperature: float = 1.0, precision: str = "float32"
) -> Any:
    """Compute the log-probability of every answer token.

    Args:
        model: a causal language model.
        batch: its rows, the answers marked.
        temperature: of the distribution.
        precision: "float32" or "bfloat16".

    Returns:
        Natural logs, shape (n_answer_tokens,), row after row.
    """
    import torch

    targets = np.flatnonzero(batch.is_answer.reshape(-1))
    logits = read_at(model, batch, targets - 1, precision=precision).logits
    ids = torch.from_numpy(batch.token_ids.reshape(-1)[targets]).to(logits.device)
    scaled = (logits / temperature).log_softmax(dim=-1)
    return scaled.gather(1, ids[:, None])[:, 0]


def group_advantages(
    rewards: npt.NDArray[np.float64], *, scale: str = "group"
) -> npt.NDArray[np.float64]:
    """Say how much better each answer is than the others to its question.

    Args:
        rewards: shape (n_questions, n_samples), higher = more like the teacher.
        scale: what the distances from a question's mean are divided by: the standard deviation of
            the question's own ("group"), or of all questions' together ("batch").

    Returns:
        The same shape: each question's rewards with mean 0; 0 where all are equal.

    Example:
        >>> group_advantages(np.array([[1.0, 3.0], [2.0, 2.0]])).tolist()
        [[-1.0, 1.0], [0.0, 0.0]]
    """
    apart = rewards - rewards.mean(axis=1, keepdims=True)
    inside = apart.std(axis=1, keepdims=True)
    spread = inside if scale == "group" else np.where(inside > _SILENT, apart.std(), 0.0)
    return np.where(spread > _SILENT, apart / np.maximum(spread, _SILENT), 0.0)


def policy_loss(new: Any, old: Any, advantages: Any, *, clip: float) -> Any:
    """The clipped surrogate of the policy gradient.

    Args:
        new: log-probabilities of the tokens now, shape (n,), with gradient.
        old: when they were sampled, shape (n,).
        advantages: of the answers that the tokens belong to, shape (n,).
        clip: how far the ratio may depart from 1 and still be rewarded.

    Returns:
        Shape (n,): lower = better; at `new == old` its gradient is the plain policy gradient.

    Example:
        >>> import torch
        >>> new = torch.tensor([0.0, 0.5, 0.5, -0.5, -0.5])
        >>> advantages = torch.tensor([1.0, 1.0, -1.0, 1.0, -1.0])
        >>> [round(x, 2) for x in policy_loss(new, 0 * new, advantages, clip=0.2).tolist()]
        [-1.0, -1.2, 1.65, -0.61, 0.8]
    """
    import torch

    ratio = (new - old).exp()
    held = ratio.clamp(1 - clip, 1 + clip)
    return -torch.minimum(ratio * advantages, held * advantages)


def kl_to_reference(new: Any, reference: Any) -> Any:
    """Estimate, token by token, the divergence of the student from a reference.

    Args:
        new: log-probabilities of its own samples under the student, shape (n,), with gradient.
        reference: the same under the reference, shape (n,).

    Returns:
        Nats, shape (n,), never negative; its mean over samples is unbiased for KL(student |
        reference), its gradient is that of the samples' estimate.
    Source: Schulman 2020, "Approximating KL divergence", estimator k3.
    """
    apart = reference - new
    return apart.exp() - apart - 1
