"""The stacked optimizer takes the steps of the plain one."""

import numpy as np
import pytest
import torch

from stillwatch.distill.training.muon import Muon, orthogonalise


def test_it_agrees_with_torch() -> None:
    """Five steps on matrices of three shapes end where torch's Muon ends, up to its bfloat16."""
    generator = torch.Generator().manual_seed(0)
    starts = [torch.randn(*shape, generator=generator) for shape in ((24, 24), (40, 24), (24, 40))]
    ours = [torch.nn.Parameter(start.clone()) for start in starts]
    theirs = [torch.nn.Parameter(start.clone()) for start in starts]
    plain = torch.optim.Muon(theirs, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    stacked = Muon(ours, weight_decay=0.1)
    for _ in range(5):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        stacked.step(0.01)
        plain.step()
    for one, other, start in zip(ours, theirs, starts, strict=True):
        moved = (other - start).detach().numpy()
        gap = (one - other).detach().numpy()
        assert np.sqrt((gap**2).mean()) < 0.02 * np.sqrt((moved**2).mean())
        assert one.grad is None


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 8, 40)])
def test_singular_values_come_near_one(shape: tuple[int, int, int]) -> None:
    """Directions are kept and every singular value ends between 0.6 and 1.3."""
    stack = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    found = orthogonalise(stack)
    values = torch.linalg.svdvals(found)
    assert 0.6 < float(values.min())
    assert float(values.max()) < 1.3
    left, _, right = torch.linalg.svd(stack, full_matrices=False)
    turned = left.mT @ found @ right.mT
    off = turned - torch.diag_embed(torch.diagonal(turned, dim1=1, dim2=2))
    assert float(off.abs().max()) < 1e-4


def test_a_zero_gradient_moves_nothing() -> None:
    """Without a gradient there is no step and no NaN."""
    matrix = torch.nn.Parameter(torch.ones(4, 6))
    matrix.grad = torch.zeros(4, 6)
    Muon([matrix]).step(0.1)
    assert torch.equal(torch.ones(4, 6), matrix)
