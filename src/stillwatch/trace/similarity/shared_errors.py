"""Do two models make the same mistakes more often than difficulty and ability explain?

Everybody falls for the same tempting option: with chance 1/3 for three wrong options, nearly every
pair of independent models would be "proved" a copy. So the chance of each match is predicted item
by item from reference models of like ability (`answer_sheet`), and the number of matches is
compared with the sum of so many unequal coins, exactly (the generalised binomial test of exam
copying). The same is done for every reference in the suspect's place: if their matches scatter
more than coins would (their z-values have mean square above one), logarithms of p are divided by
that factor, and the suspect's place among the references is told.

The p-value is the model's, not our randomness': it is exact only if items are independent given
ability and the references are as independent of mine as the suspect would be. It is never
multiplied into a proof.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from stillwatch.errors import reject
from stillwatch.stats.poisson_binomial import poisson_binomial_upper_tail
from stillwatch.trace.similarity.answer_sheet import (
    AnswerSheet,
    Smoothing,
    fit_smoothing,
    match_chances,
)

Floats = NDArray[np.float64]

#: Confidence with which the references' scatter is bounded from above.
_SCATTER_LEVEL = 0.95


@dataclass(frozen=True)
class SharedErrors:
    """How much of one model's answers another shares.

    Attributes:
        mine: the model whose answers may have been copied.
        suspect: the model in question.
        n_items: items compared (count): both wrong, or all that both answered.
        n_same: items with the same answer (count).
        expected: matches that the references' choices predict.
        log10_model_p: decimal logarithm of the exact generalised binomial tail.
        scatter: upper bound on the mean square of the references' z-values, at least 1.
        log10_p: `log10_model_p / scatter`: what is to be quoted.
        z: (n_same - expected) / standard deviation; higher = more suspicious.
        closer: references with a z at least as high (the k of "k of R").
        references: of so many (R).
        wrong_only: only items that both got wrong were compared.
    """

    mine: str
    suspect: str
    n_items: int
    n_same: int
    expected: float
    log10_model_p: float
    scatter: float
    log10_p: float
    z: float
    closer: int
    references: int
    wrong_only: bool

    def as_dict(self) -> dict[str, Any]:
        """Give everything as plain data.

        Returns:
            What `msgspec` or `json` can write.
        """
        return asdict(self)


class _Matches(NamedTuple):
    n_items: int
    n_same: int
    chances: Floats

    @property
    def z(self) -> float:
        spread = math.sqrt(float((self.chances * (1 - self.chances)).sum()))
        return (self.n_same - float(self.chances.sum())) / spread if spread else 0.0


def compare_errors(
    sheet: AnswerSheet,
    mine: str,
    suspect: str,
    *,
    references: Sequence[str],
    wrong_only: bool = True,
    smoothing: Smoothing | None = None,
) -> SharedErrors:
    """Test whether a suspect shares more of my model's answers than it should.

    Args:
        sheet: everybody's choices.
        mine: the model that may have been copied.
        suspect: the model in question.
        references: at least 3 models, independent of both; relatives of mine among them hide a
            copy, relatives of each other widen the scatter.
        wrong_only: compare only items that both got wrong; that they are both right on an easy
            item tells nothing.
        smoothing: from `answer_sheet.fit_smoothing`, to fit it once for many pairs.

    Returns:
        Matches, expectation, tail and place among the references.

    Raises:
        InvalidInputError: a model is unknown, stands in for itself, or references are too few.
    """
    if suspect in references:
        rule = "other models than mine and the suspect"
        reject("trace.compare_errors", "references", rule, got=suspect)
    pool = (suspect, *references)
    matches = _match_all(sheet, mine, pool, wrong_only=wrong_only, smoothing=smoothing)
    return _told(mine, pool, matches, place=0, wrong_only=wrong_only)


def screen_errors(
    sheet: AnswerSheet,
    mine: str,
    models: Sequence[str],
    *,
    wrong_only: bool = True,
    smoothing: Smoothing | None = None,
) -> tuple[SharedErrors, ...]:
    """Test each of many models in turn, all others being its references.

    The same as `compare_errors` for each, in the time of one; correct for the number of models
    (`stats.multiple.holm_log10`) before any of them is accused.

    Args:
        sheet: everybody's choices.
        mine: the model that may have been copied.
        models: at least 4 others.
        wrong_only: as `compare_errors`.
        smoothing: as `compare_errors`.

    Returns:
        One result a model, in order.

    Raises:
        InvalidInputError: as `compare_errors`.
    """
    pool = tuple(models)
    matches = _match_all(sheet, mine, pool, wrong_only=wrong_only, smoothing=smoothing)
    return tuple(
        _told(mine, pool, matches, place=number, wrong_only=wrong_only)
        for number in range(len(pool))
    )


def scatter_of(z_values: Floats) -> float:
    """Bound from above how much more than coins the references' matches scatter.

    Args:
        z_values: each reference's excess of matches, in standard deviations, shape (n,).

    Returns:
        Mean square divided by the 5 % quantile of what unit normal values would give, at least 1.

    Example:
        >>> scatter_of(np.zeros(5)), round(scatter_of(np.full(20, 2.0)), 2)
        (1.0, 7.37)
    """
    n = z_values.size
    lowest = float(stats.chi2.ppf(1 - _SCATTER_LEVEL, n))
    return max(1.0, float((z_values**2).sum()) / lowest)


def _match_all(
    sheet: AnswerSheet,
    mine: str,
    pool: Sequence[str],
    *,
    wrong_only: bool,
    smoothing: Smoothing | None,
) -> list[_Matches]:
    """Hold each model of a pool against mine, predicted from all others: all are treated alike."""
    if len(pool) < 4:
        reject("trace.shared_errors", "references", "at least 3 models", got=len(pool) - 1)
    if mine in pool or len(set(pool)) != len(pool):
        rule = "other models than mine, each named once"
        reject("trace.shared_errors", "suspect and references", rule, got=", ".join(pool))
    own, rows = sheet.place(mine), [sheet.place(name) for name in pool]
    if smoothing is None:
        smoothing = fit_smoothing(sheet, rows, wrong_only=wrong_only)
    found = []
    for row in rows:
        chances = match_chances(sheet, (own, row), rows, smoothing=smoothing, wrong_only=wrong_only)
        use = ~np.isnan(chances)
        same = sheet.choices[own] == sheet.choices[row]
        found.append(_Matches(int(use.sum()), int(np.count_nonzero(same & use)), chances[use]))
    return found


def _told(
    mine: str,
    pool: Sequence[str],
    matches: list[_Matches],
    *,
    place: int,
    wrong_only: bool,
) -> SharedErrors:
    own = matches[place]
    others = np.array([one.z for number, one in enumerate(matches) if number != place])
    tail = poisson_binomial_upper_tail(own.n_same, own.chances)
    scatter = scatter_of(others)
    return SharedErrors(
        mine=mine,
        suspect=pool[place],
        n_items=own.n_items,
        n_same=own.n_same,
        expected=float(own.chances.sum()),
        log10_model_p=tail.log10_p,
        scatter=scatter,
        log10_p=tail.log10_p / scatter,
        z=own.z,
        closer=int(np.count_nonzero(others >= own.z)),
        references=others.size,
        wrong_only=wrong_only,
    )
