import numpy as np
import pytest

from stillwatch.stats.descent import descend


def test_rows_reach_their_own_least_squares():
    """Each row ends at the solution of its own problem, wherever it began."""
    rng = np.random.default_rng(0)
    design, wanted = rng.normal(size=(12, 3)), rng.normal(size=(50, 12))

    def linearise(theta, rows):
        slopes = np.broadcast_to(design, (len(rows), 12, 3))
        return theta @ design.T - wanted[rows], slopes

    theta, cost = descend(linearise, rng.normal(0, 5, (50, 3)))
    best = np.linalg.lstsq(design, wanted.T, rcond=None)[0].T
    assert pytest.approx(best, abs=1e-3) == theta
    assert pytest.approx(np.sum((best @ design.T - wanted) ** 2, axis=1), rel=1e-5) == cost


def test_bent_problems_are_solved():
    """Decays are found from a start that is far off, each at its own rate."""
    at = np.linspace(0, 3, 20)
    rates = np.array([0.3, 1.0, 4.0])
    wanted = np.exp(-rates[:, None] * at)

    def linearise(theta, rows):
        model = np.exp(-np.exp(theta) * at)
        return model - wanted[rows], (-model * at * np.exp(theta))[:, :, None]

    theta, cost = descend(linearise, np.zeros((3, 1)))
    assert pytest.approx(rates, rel=1e-3) == np.exp(theta[:, 0])
    assert cost.max() < 1e-6
