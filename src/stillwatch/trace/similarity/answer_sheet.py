"""Multiple-choice answers of many models, and what each model is likely to choose.

The chance that a model chooses an option of an item is predicted from what the references chose
there, those of like ability counting most, and from the answer it is compared with:

    P(c) = (sum over references r of w_r [r chose c] + [mine is c] + k g_c) / (sum w_r + 1 + k)

with w_r = exp(-(a_r - a)^2 / (2 h^2)) for abilities a (log-odds of being right overall), g the
share of each option before the item is seen, and k, h those under which the references predict
each other best. My own answer is counted, for under the null it was drawn from the same urn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stillwatch.errors import reject

Floats = NDArray[np.float64]
Choices = NDArray[np.int64]

#: Bandwidths of ability (log-odds) and prior weights that are tried; infinity = ability ignored.
_BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, float("inf"))
_PRIOR_WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class AnswerSheet:
    """Who chose what.

    Attributes:
        models: names, the rows.
        choices: chosen options from 0, -1 where none, shape (n_models, n_items).
        right: the right option of each item, shape (n_items,).
        n_options: options of each item (count, at least 2), shape (n_items,).
    """

    models: tuple[str, ...]
    choices: Choices
    right: Choices
    n_options: Choices

    def __post_init__(self) -> None:
        where, n_items = "trace.AnswerSheet", self.right.size
        if self.choices.shape != (len(self.models), n_items) or self.n_options.shape != (n_items,):
            rule = f"{len(self.models)} models by {n_items} items, as `models` and `right` say"
            reject(where, "choices and n_options", rule, got=self.choices.shape)
        if len(set(self.models)) != len(self.models):
            reject(where, "models", "named once each", got=len(self.models))
        if n_items and (self.n_options.min() < 2 or np.any(self.choices >= self.n_options)):
            reject(where, "choices", "below n_options, which are at least 2", got="one that is not")
        if np.any(self.choices < -1) or np.any((self.right < 0) | (self.right >= self.n_options)):
            reject(where, "choices and right", "options of their item", got="one that is not")

    def place(self, model: str) -> int:
        """Find a model's row.

        Args:
            model: its name.

        Returns:
            Its index in `models`.

        Raises:
            InvalidInputError: no such model.
        """
        if model not in self.models:
            reject("trace.AnswerSheet", "model", f"one of {', '.join(self.models)}", got=model)
        return self.models.index(model)

    @cached_property
    def chosen(self) -> Floats:
        """1 where a model chose an option, shape (n_models, n_items, widest)."""
        widest = int(self.n_options.max(initial=2))
        return np.asarray(self.choices[:, :, None] == np.arange(widest), dtype=np.float64)

    @cached_property
    def abilities(self) -> Floats:
        """Log-odds of being right over the items that each model answered, shape (n_models,)."""
        right = ((self.choices == self.right) & (self.choices >= 0)).sum(axis=1)
        wrong = (self.choices >= 0).sum(axis=1) - right
        return np.asarray(np.log((right + 0.5) / (wrong + 0.5)), dtype=np.float64)


class Smoothing(NamedTuple):
    """How the chances of an option are smoothed.

    Attributes:
        bandwidth: of ability, in log-odds; infinity = all references count alike.
        prior_weight: references that the option shares before the item count for.
    """

    bandwidth: float
    prior_weight: float


def fit_smoothing(sheet: AnswerSheet, references: Sequence[int], *, wrong_only: bool) -> Smoothing:
    """Choose the smoothing under which the references predict each other best.

    Args:
        sheet: the answers.
        references: rows of the reference models, at least 3.
        wrong_only: predict which wrong option is chosen, not whether it is wrong.

    Returns:
        The best of a small grid, by the log-likelihood of each reference given the others.

    Raises:
        InvalidInputError: fewer than 3 references.
    """
    if len(references) < 3:
        reject("trace.fit_smoothing", "references", "at least 3 models", got=len(references))
    best, chosen = -np.inf, Smoothing(_BANDWIDTHS[-1], _PRIOR_WEIGHTS[0])
    for bandwidth in _BANDWIDTHS:
        held = [_tally(sheet, row, references, bandwidth=bandwidth, wrong_only=wrong_only)
                for row in references]  # fmt: skip
        for weight in _PRIOR_WEIGHTS:
            total = 0.0
            for row, tally in zip(references, held, strict=True):
                kept = tally.usable & (sheet.choices[row] >= 0)
                if wrong_only:
                    kept &= sheet.choices[row] != sheet.right
                items = np.flatnonzero(kept)
                chance = tally.chance_of(sheet.choices[row], weight, own=0.0)[items]
                total += float(np.log(chance).sum())
            if total > best:
                best, chosen = total, Smoothing(bandwidth, weight)
    return chosen


def match_chances(
    sheet: AnswerSheet,
    pair: tuple[int, int],
    references: Sequence[int],
    *,
    smoothing: Smoothing,
    wrong_only: bool,
) -> Floats:
    """Predict how likely a model is to give another model's answer, item by item.

    Args:
        sheet: the answers.
        pair: rows of the other model (whose answers are matched) and of the model predicted.
        references: rows of reference models; the pair is left out of them.
        smoothing: from `fit_smoothing`.
        wrong_only: given that both are wrong.

    Returns:
        Chances strictly between 0 and 1, shape (n_items,); NaN where either gave no answer or,
        with `wrong_only`, was right.
    """
    mine, other = pair
    others = [row for row in references if row not in pair]
    tally = _tally(sheet, other, others, bandwidth=smoothing.bandwidth, wrong_only=wrong_only)
    chance = tally.chance_of(sheet.choices[mine], smoothing.prior_weight, own=1.0)
    use = (sheet.choices[mine] >= 0) & (sheet.choices[other] >= 0)
    if wrong_only:
        use &= (sheet.choices[mine] != sheet.right) & (sheet.choices[other] != sheet.right)
    return np.where(use, np.clip(chance, 1e-12, 1 - 1e-12), np.nan)


class _Tally(NamedTuple):
    """What the references chose, weighted by likeness of ability to one model."""

    counts: Floats  # (n_items, n_options)
    prior: Floats  # (n_items, n_options), sums to one
    usable: NDArray[np.bool_]  # (n_items,): more than one option can be chosen

    def chance_of(self, choice: Choices, weight: float, *, own: float) -> Floats:
        items = np.arange(choice.size)
        option = np.maximum(choice, 0)
        seen = self.counts[items, option] + own + weight * self.prior[items, option]
        return np.asarray(seen / (self.counts.sum(axis=1) + own + weight), dtype=np.float64)


def _tally(
    sheet: AnswerSheet, row: int, references: Sequence[int], *, bandwidth: float, wrong_only: bool
) -> _Tally:
    ability = sheet.abilities
    others = np.array([other for other in references if other != row], dtype=np.int64)
    weights = np.exp(-0.5 * ((ability[others] - ability[row]) / bandwidth) ** 2)
    n_items, widest = sheet.right.size, int(sheet.n_options.max(initial=2))
    items = np.arange(n_items)
    counts = np.tensordot(weights, sheet.chosen[others], axes=1)
    if wrong_only:
        counts[items, sheet.right] = 0.0
    share = 1.0 / (1.0 + np.exp(-ability[row]))
    wrong = 1.0 if wrong_only else 1.0 - share
    spread = wrong / np.maximum(sheet.n_options - 1, 1)
    prior = np.where(np.arange(widest)[None, :] < sheet.n_options[:, None], spread[:, None], 0.0)
    prior[items, sheet.right] = 0.0 if wrong_only else share
    usable = sheet.n_options > 2 if wrong_only else np.ones(n_items, dtype=bool)
    return _Tally(counts, prior, usable)
