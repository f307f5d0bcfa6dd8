"""Muon over stacked matrices: the optimizer of small models, without its per-matrix overhead.

`torch.optim.Muon` treats one matrix after the other, which costs a quarter of a small student's
step; here all matrices of one shape are orthogonalised in one batched product, in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: Quintic Newton-Schulz coefficients, as in `torch.optim.Muon`.
_A, _B, _C = 3.4445, -4.775, 2.0315
_ROUNDS = 5


class Muon:
    """Momentum, orthogonalised, scaled to the size of an AdamW step.

    Args:
        matrices: parameters with two dimensions.
        momentum: decay of the running mean of gradients (Nesterov).
        weight_decay: decoupled, times the learning rate.
    Source: Jordan 2024 (Muon); Liu et al. 2025 (arXiv 2502.16982), scaling by 0.2 sqrt(max side).
    """

    def __init__(
        self, matrices: Sequence[Any], *, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        import torch

        self.momentum, self.weight_decay = momentum, weight_decay
        groups: dict[tuple[int, int], list[Any]] = {}
        for matrix in matrices:
            rows, columns = sorted(matrix.shape)
            groups.setdefault((rows, columns), []).append(matrix)
        self._groups = [
            (members, torch.zeros(len(members), *shape, device=members[0].device))
            for shape, members in groups.items()
        ]

    @property
    def means(self) -> list[Any]:
        """The running means of the gradients, a stack for each shape; writing into them restores.

        Returns:
            Tensors, in the order of the shapes' first members.
        """
        return [mean for _, mean in self._groups]

    def step(self, learning_rate: float) -> None:
        """Move every matrix against its gradient and forget the gradients.

        Args:
            learning_rate: of this step.
        """
        import torch

        with torch.no_grad():
            for members, mean in self._groups:
                gradient = torch.stack([_wide(p.grad) for p in members])
                mean.lerp_(gradient, 1 - self.momentum)
                update = orthogonalise(gradient.lerp(mean, self.momentum))
                size = 0.2 * max(mean.shape[1:]) ** 0.5
                for parameter, change in zip(members, update, strict=True):
                    parameter.mul_(1 - learning_rate * self.weight_decay)
                    turned = change if parameter.shape == change.shape else change.T
                    parameter.add_(turned, alpha=-learning_rate * size)
                    parameter.grad = None


def orthogonalise(stack: Any) -> Any:
    """Bring all singular values of each matrix near 1 and keep its singular vectors.

    Args:
        stack: float32, shape (n, rows, columns), rows <= columns.

    Returns:
        The same shape; singular values between about 0.7 and 1.2.
    """
    import torch

    x = stack / stack.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(_ROUNDS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=_B, alpha=_C), x, beta=_A)
    return x


def _wide(matrix: Any) -> Any:
    """Lay a tall matrix on its side, so that it stacks with its transposed sisters."""
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
