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
from stillwatch.trace.answer_sheet import (
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
    rows = [sheet.place(name) for name in references]
    pair = (sheet.place(mine), sheet.place(suspect))
    if pair[0] == pair[1] or set(pair) & set(rows):
        rule = "other models than mine and the suspect, which differ"
        reject("trace.compare_errors", "references", rule, got=f"{mine}, {suspect}")
    if smoothing is None:
        smoothing = fit_smoothing(sheet, rows, wrong_only=wrong_only)
    elif len(rows) < 3:
        reject("trace.compare_errors", "references", "at least 3 models", got=len(rows))
    own = _match(sheet, pair, rows, smoothing=smoothing, wrong_only=wrong_only)
    # The suspect takes the place of the reference that stands in its place: all are treated alike.
    others = np.array([
        _match(sheet, (pair[0], row), [*rows, pair[1]], smoothing=smoothing,
               wrong_only=wrong_only).z
        for row in rows
    ])  # fmt: skip
    tail = poisson_binomial_upper_tail(own.n_same, own.chances)
    scatter = scatter_of(others)
    return SharedErrors(
        mine, suspect, own.n_items, own.n_same, float(own.chances.sum()), tail.log10_p, scatter,
        tail.log10_p / scatter, own.z, int(np.count_nonzero(others >= own.z)), len(rows),
        wrong_only,
    )  # fmt: skip


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


def _match(
    sheet: AnswerSheet,
    pair: tuple[int, int],
    references: Sequence[int],
    *,
    smoothing: Smoothing,
    wrong_only: bool,
) -> _Matches:
    chances = match_chances(sheet, pair, references, smoothing=smoothing, wrong_only=wrong_only)
    use = ~np.isnan(chances)
    same = sheet.choices[pair[0]] == sheet.choices[pair[1]]
    return _Matches(int(use.sum()), int(np.count_nonzero(same & use)), chances[use])
