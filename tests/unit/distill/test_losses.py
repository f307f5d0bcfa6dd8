"""The divergence: its ends, its tail, its bounds. Beside TRL's it is held in test_train_trl."""

import math

import numpy as np
import pytest

from stillwatch.distill.training.losses import generalised_jsd, topk_divergence, with_tail
from stillwatch.distill.training.train_table import TopKTable
from stillwatch.errors import InvalidInputError


def test_the_ends_are_the_two_divergences() -> None:
    """At 0 it is KL(teacher | student), at 1 KL(student | teacher), summed by hand."""
    import torch

    student, teacher = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
    left, right = (torch.from_numpy(np.log(p)) for p in (student, teacher))
    forward = float((teacher * np.log(teacher / student)).sum())
    backward = float((student * np.log(student / teacher)).sum())
    assert forward == pytest.approx(float(generalised_jsd(left, right, 0.0)))
    assert backward == pytest.approx(float(generalised_jsd(left, right, 1.0)))
    assert 0.0 == pytest.approx(float(generalised_jsd(left, left, 0.5)))
    assert 0 < float(generalised_jsd(left, right, 0.5)) < math.log(2)


def test_the_tail_holds_the_rest() -> None:
    """The buckets sum to 1, also when the recorded tokens leave nothing, and stay finite."""
    import torch

    for kept in ([0.5, 0.2], [0.6, 0.4]):
        found = with_tail(torch.tensor(kept, dtype=torch.float64).log())
        assert 1.0 == pytest.approx(float(found.exp().sum()))
        assert torch.isfinite(found).all()


def test_without_a_tail_mass_hides() -> None:
    """A student that moved everything outside the recorded tokens pays only with a tail."""
    import torch

    teacher = torch.tensor([[0.5, 0.4]]).log()
    support = torch.tensor([[0, 1]])
    astray = torch.tensor([[1.0, 1.0 + math.log(0.8), 9.0]])
    with_it = topk_divergence(astray, support, teacher, table=TopKTable())
    without = topk_divergence(astray, support, teacher, table=TopKTable(tail=False))
    assert float(with_it) > 5
    assert 0.0 == pytest.approx(float(without), abs=1e-6)


def test_beta_is_a_share() -> None:
    """A beta outside 0..1 is refused."""
    import torch

    with pytest.raises(InvalidInputError, match="beta must be between 0 and 1, got 2"):
        generalised_jsd(torch.zeros(1), torch.zeros(1), 2)
