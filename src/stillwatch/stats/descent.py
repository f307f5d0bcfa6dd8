"""Least squares for many small problems at once: Levenberg and Marquardt's descent, row by row."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
#: Parameters of the rows with these numbers -> residuals (rows, m) and slopes (rows, m, p).
Linearise = Callable[[Floats, NDArray[np.intp]], tuple[Floats, Floats]]

_STEPS = 80
# A row is done when two accepted or refused steps in a row change its cost by less than this.
_TOLERANCE = 1e-6


def descend(linearise: Linearise, start: Floats) -> tuple[Floats, Floats]:
    """Minimise the sum of squares of every row from its own start.

    All rows advance together, and a row that is done drops out, so hundreds of fits cost about as
    much as a few.

    Args:
        linearise: gives residuals and their slopes; called with the rows still under way.
        start: parameters to begin with, shape (rows, p).

    Returns:
        The parameters, shape (rows, p), and the sums of squares, shape (rows,).
    """
    theta = start.copy()
    active = np.arange(len(theta))
    now, slopes = linearise(theta, active)
    cost = np.sum(now**2, axis=1)
    final = cost.copy()
    damping = np.full(len(theta), 1e-2)
    calm = np.zeros(len(theta), dtype=np.int64)
    for _ in range(_STEPS):
        moved = theta[active] - _step(now, slopes, damping)
        then, new_slopes = linearise(moved, active)
        new_cost = np.sum(then**2, axis=1)
        better = new_cost < cost
        small = np.abs(cost - new_cost) <= _TOLERANCE * np.maximum(cost, 1e-9)
        theta[active[better]] = moved[better]
        now = np.where(better[:, None], then, now)
        slopes = np.where(better[:, None, None], new_slopes, slopes)
        cost = np.where(better, new_cost, cost)
        final[active] = cost
        damping = np.clip(np.where(better, damping / 5, damping * 4), 1e-9, 1e9)
        calm = np.where(small, calm + 1, 0)
        keep = (calm < 2) & (damping < 1e8)
        if not keep.any():
            break
        active, now, slopes = active[keep], now[keep], slopes[keep]
        cost, damping, calm = cost[keep], damping[keep], calm[keep]
    return theta, final


def _step(residuals: Floats, slopes: Floats, damping: Floats) -> Floats:
    normal = np.einsum("rmi,rmj->rij", slopes, slopes)
    gradient = np.einsum("rmi,rm->ri", slopes, residuals)
    diagonal = np.einsum("rii->ri", normal)
    eye = np.eye(slopes.shape[2])
    system = normal + eye * (damping[:, None] * (diagonal + 1e-9))[:, None, :]
    return np.asarray(np.linalg.solve(system, gradient[:, :, None])[:, :, 0])
