"""The losses of training: cross-entropy, and divergence from a teacher's recorded top tokens.

A served teacher gives the log-probabilities of its likeliest tokens only. What it leaves out is one
more bucket, the tail; without it a student could move mass to tokens that were never compared.
Source: generalised Jensen-Shannon divergence, Agarwal et al. 2024 (arXiv 2306.13649), equation 1.
"""

from __future__ import annotations

import math
from typing import Any

from stillwatch.distill.training.train_table import TopKTable
from stillwatch.errors import reject

#: The recorded tokens' mass is held below 1 - 1e-7, so that the tail's logarithm exists.
_FULL = -1e-7


def generalised_jsd(student: Any, teacher: Any, beta: float) -> Any:
    """Divergence between two distributions over the same buckets.

    `beta KL(teacher | m) + (1 - beta) KL(student | m)`, `m = beta teacher + (1 - beta) student`;
    at 0 it is KL(teacher | student), at 1 KL(student | teacher).

    Args:
        student: log-probabilities, shape (..., buckets); a bucket of -inf on both sides is empty.
        teacher: as the student's.
        beta: 0..1.

    Returns:
        Nats, shape (...); 0 when both are equal.
    """
    import torch

    if not 0 <= beta <= 1:
        reject("generalised_jsd", "beta", "between 0 and 1", got=beta)
    empty = torch.isinf(student) & torch.isinf(teacher)
    # An empty bucket becomes certain on both sides, which adds nothing and has no gradient.
    student = student.masked_fill(empty, 0.0)
    teacher = teacher.masked_fill(empty, 0.0)
    if beta == 0:
        return _kl(teacher, student).masked_fill(empty, 0.0).sum(-1)
    if beta == 1:
        return _kl(student, teacher).masked_fill(empty, 0.0).sum(-1)
    mixed = torch.logaddexp(student + math.log1p(-beta), teacher + math.log(beta))
    both = beta * _kl(teacher, mixed) + (1 - beta) * _kl(student, mixed)
    return both.masked_fill(empty, 0.0).sum(-1)


def with_tail(logprobs: Any) -> Any:
    """Add a bucket that holds the mass that the others leave.

    Args:
        logprobs: shape (..., k); -inf where there is none.

    Returns:
        Shape (..., k + 1).
    """
    import torch

    total = torch.logsumexp(logprobs, dim=-1, keepdim=True).clamp(max=_FULL)
    return torch.cat([logprobs, torch.log(-torch.expm1(total))], dim=-1)


def topk_divergence(logits: Any, support: Any, teacher: Any, *, table: TopKTable) -> Any:
    """Divergence of a student from a teacher of whom the likeliest tokens are known.

    Args:
        logits: the student's, shape (n, vocabulary).
        support: ids of the teacher's tokens, shape (n, k); any id where `teacher` is -inf.
        teacher: their log-probabilities at temperature 1, shape (n, k).
        table: beta, temperature, and whether there is a tail.

    Returns:
        Nats a position, shape (n,). With a temperature other than 1 the buckets, the tail among
        them, are softened: exact only where the support is the whole vocabulary.
    """
    import torch

    if logits.dtype in {torch.bfloat16, torch.float16}:
        logits = logits.float()
    chosen = logits.gather(-1, support) - torch.logsumexp(logits, dim=-1, keepdim=True)
    student = chosen.masked_fill(torch.isinf(teacher), -math.inf)
    if table.tail:
        student, teacher = with_tail(student), with_tail(teacher)
    else:
        student, teacher = student.log_softmax(-1), teacher.log_softmax(-1)
    if table.temperature != 1:
        student = (student / table.temperature).log_softmax(-1)
        teacher = (teacher / table.temperature).log_softmax(-1)
    return generalised_jsd(student, teacher, table.beta)


def token_nats(logits: Any, targets: Any) -> Any:
    """Cross-entropy of each token, computed in float32.

    Args:
        logits: shape (n, vocabulary).
        targets: shape (n,), int64.

    Returns:
        Nats, shape (n,).
    """
    import torch

    return torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")


def _kl(of: Any, against: Any) -> Any:
    """The summands of KL(of | against); a bucket without mass in `of` adds nothing."""
    return of.exp() * (of.masked_fill(of.isinf(), 0.0) - against)
