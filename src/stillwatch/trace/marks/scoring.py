"""One way from values to evidence: each draw once, whole-number weights, an exact tail."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from stillwatch.errors import reject
from stillwatch.stats.pvalues import PValue, binomial_upper_tail, gamma_upper_tail
from stillwatch.trace.marks.nulls import Null
from stillwatch.trace.marks.protocol import Evidence, Floats
from stillwatch.trace.marks.tails import (
    Term,
    bernoulli_term,
    exponential_upper_tail,
    lattice_upper_tail,
)
from stillwatch.trace.radioactivity.windows import Ids

#: Weights become whole numbers 0..15: a sum of coins then has an exact distribution.
WEIGHT_LEVELS = 15


class Scored(NamedTuple):
    """Distinct draws, ready to be summed.

    Attributes:
        values: shape (n,), the value of each draw.
        weights: shape (n,), int64, 1..15; all 1 where none were given.
        kept: shape (n,), the window that stands for each draw.
    """

    values: Floats
    weights: Ids
    kept: Ids


def whole_weights(weights: npt.ArrayLike | None, n: int) -> Ids:
    """Round weights to whole numbers 0..15 of their maximum.

    Args:
        weights: shape (n,), finite, 0 or more; they may depend on the text and on models that do
            not know the key, never on the key. None means equal weights.
        n: number of windows.

    Returns:
        Shape (n,), int64; all 1 for None.

    Raises:
        InvalidInputError: the shape is wrong, or a weight is negative or not finite.
    """
    if weights is None:
        return np.ones(n, dtype=np.int64)
    given = np.asarray(weights, dtype=np.float64)
    if given.shape != (n,):
        reject("Mark.score", "weights", f"of shape ({n},)", got=given.shape)
    if n and not (given.min() >= 0 and np.isfinite(given).all()):
        reject("Mark.score", "weights", "finite and at least 0", got=float(given.min()))
    top = float(given.max(initial=0.0))
    if top == 0:
        return np.zeros(n, dtype=np.int64)
    return np.rint(given * (WEIGHT_LEVELS / top)).astype(np.int64)


def distinct_draws(values: Floats, draws: Ids, weights: npt.ArrayLike | None) -> Scored:
    """Keep each draw of the key once, with the largest weight among its windows.

    Args:
        values: shape (n,); NaN where the key has no say.
        draws: shape (n,); equal numbers are one draw.
        weights: as for `whole_weights`.

    Returns:
        The draws with a value and a weight above 0.
    """
    whole = whole_weights(weights, len(values))
    usable = np.flatnonzero(~np.isnan(values) & (whole > 0))
    # Heaviest window of each draw first; a stable sort keeps the choice repeatable.
    order = usable[np.lexsort((-whole[usable], draws[usable]))]
    first = np.ones(len(order), dtype=bool)
    first[1:] = draws[order][1:] != draws[order][:-1]
    kept = order[first]
    return Scored(values[kept], whole[kept], kept)


def sum_evidence(scored: Scored, null: Null) -> Evidence:
    """Sum distinct draws and give the tail under their null.

    Args:
        scored: from `distinct_draws`.
        null: what one value is drawn from.

    Returns:
        The evidence; p = 1 when nothing was scored.
    """
    n = len(scored.values)
    if n == 0:
        return Evidence(0.0, 0, 1.0, 0.0, "nothing scored")
    statistic = float(scored.weights @ scored.values)
    tail, words = _TAILS[null.kind](statistic, scored, null)
    return Evidence(statistic, n, tail.p_value, tail.log10_p, words)


def weight_groups(weights: Ids) -> list[tuple[int, int]]:
    """Count the draws at each weight.

    Args:
        weights: shape (n,), above 0.

    Returns:
        (weight, count) pairs, weights divided by their greatest common divisor left as they are.
    """
    found, counts = np.unique(weights, return_counts=True)
    return [(int(w), int(c)) for w, c in zip(found, counts, strict=True)]


def finite_population_tail(
    n_green_seen: int, seeds: Ids, list_and_vocab: tuple[int, int]
) -> PValue:
    """Give the exact tail of green counts where each list holds a fixed number of green tokens.

    Tokens that share a list are drawn without replacement: hypergeometric within a list, and
    independent between lists.

    Args:
        n_green_seen: green draws (count).
        seeds: which list each draw is read from, shape (n,).
        list_and_vocab: green tokens in a list, and tokens in all (counts).

    Returns:
        The p-value.
    """
    _, sizes = np.unique(seeds, return_counts=True)
    sizes, n_lists = np.unique(sizes, return_counts=True)
    groups = tuple((int(s), int(n)) for s, n in zip(sizes, n_lists, strict=True))
    return _finite_population_tail(n_green_seen, groups, *list_and_vocab)


@functools.lru_cache(maxsize=8192)
def _finite_population_tail(
    n_green_seen: int, groups: tuple[tuple[int, int], ...], *list_and_vocab: int
) -> PValue:
    """Decoy keys share the groups of their text, so tails are kept."""
    n_green, vocab_size = list_and_vocab
    terms = []
    for size, n_lists in groups:
        greens = np.arange(max(0, size - (vocab_size - n_green)), min(size, n_green) + 1)
        chances = stats.hypergeom.pmf(greens, vocab_size, n_green, size)
        terms.append(Term(greens.astype(np.int64), chances, n_lists))
    return lattice_upper_tail(n_green_seen, terms)


def _bernoulli_tail(statistic: float, scored: Scored, null: Null) -> tuple[PValue, str]:
    groups = weight_groups(scored.weights)
    total = round(statistic)
    if len(groups) == 1:
        weight, n = groups[0]
        tail = binomial_upper_tail(total // weight, n, null.mean)
        return tail, f"Binomial({n}, {null.mean:.6g})"
    terms = [bernoulli_term(weight, null.mean, n) for weight, n in groups]
    return lattice_upper_tail(total, terms), f"weighted coins at {null.mean:.6g}, exact"


def _exponential_tail(statistic: float, scored: Scored, null: Null) -> tuple[PValue, str]:
    groups = weight_groups(scored.weights)
    if len(groups) == 1 and null.parts == (1.0,):
        weight, n = groups[0]
        return gamma_upper_tail(statistic / weight, n), f"Gamma({n}, 1)"
    scales: dict[float, int] = {}
    for weight, n in groups:
        for part in null.parts:
            if part:
                scales[weight * part] = scales.get(weight * part, 0) + n
    tail = exponential_upper_tail(statistic, np.array(list(scales)), list(scales.values()))
    return tail, "weighted exponentials, exact"


def _layers_tail(statistic: float, scored: Scored, null: Null) -> tuple[PValue, str]:
    depth = len(null.parts)
    groups = [(weight, n * depth) for weight, n in weight_groups(scored.weights)]
    total = round(statistic * depth)
    if len(groups) == 1:
        weight, n = groups[0]
        return binomial_upper_tail(total // weight, n, 0.5), f"Binomial({n}, 0.5)"
    terms = [bernoulli_term(weight, 0.5, n) for weight, n in groups]
    return lattice_upper_tail(total, terms), "weighted fair coins, exact"


_TAILS: dict[str, Callable[[float, Scored, Null], tuple[PValue, str]]] = {
    "bernoulli": _bernoulli_tail,
    "exponential": _exponential_tail,
    "mixture": _exponential_tail,
    "layers": _layers_tail,
}
