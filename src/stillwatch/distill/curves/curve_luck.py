"""The luck of training: how far students of one budget differ by their seed alone.

A handful of seeds redrawn from themselves shows too little luck. So its size is weighed over all
budgets together, by how seeds differ and by how the means stray from the line beyond what items
explain. Part of it may be common to a seed at every budget (the same first weights), which moves
the whole curve and does not average out over budgets; with two seeds one can hardly see how much.
Size, common part and the way luck depends on the share are therefore a grid, every cell of which is
drawn as often as what was seen makes it likely.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# What is known before looking: as much as one spare student says, of 5 points at half the skill
# (small students of two seeds differed by 10 points there, LOG.md).
_PRIOR_FREEDOM, _PRIOR_LUCK = 1.0, 0.05
_SIZES = np.geomspace(0.003, 0.4, 40)
_COMMON = (0.0, 0.25, 0.5, 0.75, 0.95)
# Luck is (4 p (1 - p))^a of what it is at half the skill: the same at every share, as that of
# counts, or as that of a shift of the whole curve.
_SHAPES = (0.0, 0.5, 1.0)
_LEAST_SLOPE = 0.03


@dataclass(frozen=True)
class Luck:
    """How students of one budget differ by the seed of their training alone.

    Attributes:
        sd: standard deviation of one student's share (share) at half the skill, as estimated.
        common: part of its variance that a seed carries through all budgets, as estimated, 0..1.
        freedom: spare students and budgets behind the estimate (count); 0 = only what was assumed.
    """

    sd: float
    common: float
    freedom: float


class Seen(NamedTuple):
    """The students of one budget, as luck sees them.

    Attributes:
        shares: of each student, shape (k,).
        seeds: of each student, shape (k,).
        noise: variance of one student's share that the choice of items explains.
        stray: how far their mean lies off the line.
        stray_noise: the part of its variance that the choice of items explains.
    """

    shares: Floats
    seeds: NDArray[np.int64]
    noise: float
    stray: float
    stray_noise: float


class _Cell(NamedTuple):
    sd: float
    common: float
    shape: float


_CELLS = [_Cell(*cell) for cell in product(_SIZES.tolist(), _COMMON, _SHAPES)]


def draw_luck(
    seen: Sequence[Seen], *, spare: float, draws: int, rng: np.random.Generator
) -> tuple[Luck, Floats]:
    """Weigh luck, and draw fresh luck of the mean student at each budget.

    Args:
        seen: the students of each budget above 0.
        spare: budgets that the line leaves free to stray (count); 0 where no line was fitted.
        draws: how many.
        rng: source of randomness.

    Returns:
        The estimate, and deviations of shape (draws, m).
    """
    chances = _chances(seen, spare)
    picked = rng.choice(len(_CELLS), size=draws, p=chances)
    cells = np.array(_CELLS)
    sd, common, shape = cells[picked].T[:, :, None]
    seeds = sorted({int(seed) for budget in seen for seed in budget.seeds})
    own = rng.standard_normal((draws, len(seeds)))
    has = np.array([[np.mean(budget.seeds == seed) for seed in seeds] for budget in seen])
    counts = np.array([budget.shares.size for budget in seen])
    apart = rng.standard_normal((draws, len(seen))) / np.sqrt(counts)
    slope = _slope(np.array([budget.shares.mean() for budget in seen]))
    added = sd * slope**shape * (np.sqrt(common) * (own @ has.T) + np.sqrt(1 - common) * apart)
    by_size = chances.reshape(_SIZES.size, -1).sum(axis=1)
    middle = _SIZES[np.searchsorted(np.cumsum(by_size), 0.5)]
    freedom = float(np.sum(counts - 1)) + spare
    return Luck(float(middle), float(chances @ cells[:, 1]), freedom), added


def _slope(share: Floats) -> Floats:
    return np.asarray(np.clip(4 * share * (1 - share), _LEAST_SLOPE, 1.0))


def _chances(seen: Sequence[Seen], spare: float) -> Floats:
    """Weigh every cell by what it says of the contrasts between seeds, and of the strays."""
    contrasts = [_contrasts(budget.shares.size) for budget in seen]
    found = np.concatenate([q @ budget.shares for q, budget in zip(contrasts, seen, strict=True)])
    blocks = _blocks(contrasts)
    noise = blocks @ np.diag(_each(seen, [b.noise for b in seen])) @ blocks.T
    seeds = np.concatenate([budget.seeds for budget in seen])
    same_seed = (seeds[:, None] == seeds[None, :]).astype(np.float64)
    slope = _slope(np.array([budget.shares.mean() for budget in seen]))
    logs = np.empty(len(_CELLS))
    for i, cell in enumerate(_CELLS):
        size = cell.sd * slope**cell.shape
        each = _each(seen, size)
        luck = np.outer(each, each) * (cell.common * same_seed)
        luck += np.diag((1 - cell.common) * each**2)
        log = -(_PRIOR_FREEDOM / 2) * (np.log(cell.sd**2) + _PRIOR_LUCK**2 / cell.sd**2)
        log += _log_normal(found, blocks @ luck @ blocks.T + noise)
        logs[i] = log + _log_strays(seen, size**2 * (1 - cell.common), spare)
    chances = np.exp(logs - logs.max())
    return np.asarray(chances / chances.sum())


def _contrasts(k: int) -> Floats:
    """Orthonormal rows that leave the mean of k students out, shape (k - 1, k)."""
    centred = np.eye(k) - 1 / k
    vectors = np.linalg.eigh(centred)[1]
    return np.asarray(vectors[:, 1:].T)


def _blocks(contrasts: Sequence[Floats]) -> Floats:
    rows, columns = sum(len(q) for q in contrasts), sum(q.shape[1] for q in contrasts)
    table = np.zeros((rows, columns))
    row = column = 0
    for q in contrasts:
        table[row : row + len(q), column : column + q.shape[1]] = q
        row, column = row + len(q), column + q.shape[1]
    return table


def _each(seen: Sequence[Seen], values: Sequence[float] | Floats) -> Floats:
    """Repeat a value of each budget for each of its students."""
    return np.repeat(np.asarray(values, dtype=np.float64), [b.shares.size for b in seen])


def _log_normal(found: Floats, covariance: Floats) -> float:
    if not found.size:
        return 0.0
    held = covariance + 1e-10 * np.eye(found.size)
    _, size = np.linalg.slogdet(held)
    return -0.5 * float(size + found @ np.linalg.solve(held, found))


def _log_strays(seen: Sequence[Seen], variance: Floats, spare: float) -> float:
    """Strays share their spare degrees: each is worth its part of one."""
    if spare <= 0:
        return 0.0
    part = spare / len(seen)
    total = 0.0
    for budget, own in zip(seen, variance, strict=True):
        expected = own / budget.shares.size + budget.stray_noise + 1e-10
        total += part * np.log(expected) + budget.stray**2 / expected
    return -0.5 * float(total)
