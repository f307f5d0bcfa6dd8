"""The fit under a copy curve: every form, its choice and its refit in every resample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillwatch.distill.curves.curve_draws import Resamples
from stillwatch.stats.curves import FORMS, Choice, Fits, FormTrial, isotonic, try_forms
from stillwatch.stats.intervals import Interval, percentile_interval

Floats = NDArray[np.float64]

# A best form that misses its own points by more than this (share) does not describe them.
_POOR_FIT = 0.10
_LINE_POINTS, _BEYOND_POINTS = 60, 20
#: Beyond this multiple of the largest budget a fit is not asked; up to it, with a warning.
MAX_EXTRAPOLATION = 4.0
# Below this rise (share) there is nothing to fit: a form would only repeat its prior.
_NO_RISE = 0.03
# A ceiling is told only where the curve has bent towards it: this share of it was seen.
_BENT = 0.8


@dataclass(frozen=True)
class Fitted:
    """A fit of a copy curve and of each of its resamples.

    Attributes:
        resamples: what was fitted.
        choice: how each form did on the measured row; `form` is the one taken there.
        trial: every form on every row, or None for the rising step curve.
        notes: what a reader must know.
    """

    resamples: Resamples
    choice: Choice
    trial: FormTrial | None
    notes: tuple[str, ...]

    @property
    def form(self) -> str:
        """Name of the form, "" for the rising step curve."""
        return "" if self.trial is None else self.choice.form

    @property
    def is_untouched(self) -> bool:
        """Whether the copy shows next to nothing of the skill."""
        return _is_untouched(self.resamples)

    @property
    def fits(self) -> Fits | None:
        """The form taken, on every row; None for the rising step curve."""
        return None if self.trial is None else self.trial.fits[self.form]

    @property
    def ceilings(self) -> Floats | None:
        """The share at which each row levels off, by its own form, shape (1 + draws,)."""
        if self.trial is None:
            return None
        return self._by_form({name: fits.ceiling for name, fits in self.trial.fits.items()})

    @property
    def is_bent(self) -> bool:
        """Whether the curve has come near enough to its ceiling for that to be told."""
        fits = self.fits
        if fits is None:
            return False
        last = float(fits.share(self.resamples.budgets[-1:])[0, 0])
        return last >= _BENT * float(fits.ceiling[0])

    @property
    def ceiling(self) -> tuple[float, Interval] | None:
        """The share at which the fit levels off, with its interval; None while it still rises."""
        tops = self.ceilings
        if tops is None or not self.is_bent:
            return None
        return float(tops[0]), percentile_interval(tops[1:])

    @property
    def forms_drawn(self) -> dict[str, float]:
        """Share of the resamples that chose each form; empty for the rising step curve."""
        if self.trial is None:
            return {}
        best = self.trial.best()[1:]
        return {name: float(np.mean(best == i)) for i, name in enumerate(FORMS)}

    def questions_at(self, targets: Floats) -> Floats:
        """Invert every row at its own share.

        Args:
            targets: shares, shape (1 + draws,).

        Returns:
            Questions (count) of the same shape; inf where the share is never reached.
        """
        if self.trial is not None:
            fits = self.trial.fits.items()
            return self._by_form({name: fit.questions_to(targets) for name, fit in fits})
        rows = zip(self.resamples.shares, targets, strict=True)
        budgets = self.resamples.budgets
        return np.array([_step_to(budgets, row, target=float(target)) for row, target in rows])

    def shares_at(self, n: Floats) -> Floats:
        """Evaluate every row.

        Args:
            n: questions (count), shape (k,), above 0; the rising step curve ends flat.

        Returns:
            Shares, shape (1 + draws, k).
        """
        if self.trial is not None:
            return self._by_form({name: fits.share(n) for name, fits in self.trial.fits.items()})
        budgets = self.resamples.budgets
        rows = [isotonic(budgets, row)[1] for row in self.resamples.shares]
        return np.array([np.interp(np.log(n), np.log(budgets), row) for row in rows])

    def line(self) -> tuple[Floats, Floats]:
        """Evaluate the fit and its resamples over the budgets that were trained.

        Returns:
            Questions of shape (k,), and shares of shape (1 + draws, k).
        """
        budgets = self.resamples.budgets
        n = np.geomspace(budgets[0], budgets[-1], _LINE_POINTS)
        return n, self.shares_at(n)

    def as_dict(self) -> dict[str, Any]:
        """Give the fit as plain JSON data: its line, its band, its ceiling and its rivals."""
        n, shares = self.line()
        luck = self.resamples.luck
        result: dict[str, Any] = {
            "form": self.form or "rising steps",
            "compared": dict(self.choice.errors),
            "drawn": self.forms_drawn,
            "held_out": self.choice.held_out,
            "held_out_error": self.choice.errors.get(self.form),
            **_drawn(n, shares),
            "beyond": self._beyond(),
            "luck": {"sd": luck.sd, "common": luck.common, "freedom": luck.freedom},
            "parameters": None,
            "asymptote": None,
            "asymptote_low": None,
            "asymptote_high": None,
        }
        if (fits := self.fits) is not None:
            result["parameters"] = {
                "floor": float(fits.floor[0]),
                "ceiling": float(fits.ceiling[0]),
                "scale": float(fits.scale[0]),
                "steepness": float(fits.steepness[0]),
            }
        if self.ceiling is not None:
            result["asymptote"], ends = self.ceiling
            result["asymptote_low"], result["asymptote_high"] = ends
        return result

    def _beyond(self) -> dict[str, Any] | None:
        """Go on from the largest budget to the furthest that may be spoken of, as data to draw."""
        if self.trial is None:
            return None
        largest = self.resamples.budgets[-1]
        n = np.geomspace(largest, MAX_EXTRAPOLATION * largest, _BEYOND_POINTS)
        return _drawn(n, self.shares_at(n))

    def _by_form(self, values: dict[str, Floats]) -> Floats:
        """Take each row's value from the form that the row itself chose."""
        assert self.trial is not None  # asked only where forms were fitted
        table = np.stack([values[name] for name in FORMS])
        best = self.trial.best()
        return table[best, np.arange(best.size)]


def fit_resamples(resamples: Resamples) -> Fitted:
    """Choose a form and fit it, anew in every row.

    Args:
        resamples: at least 2 budgets.

    Returns:
        The fit; the rising step curve where too few budgets were trained or no form describes them.
    """
    nothing = Choice("", {}, held_out=False)
    if _is_untouched(resamples):
        note = "The copy shows next to nothing of this skill: no form was fitted."
        return Fitted(resamples, nothing, None, (note,))
    if resamples.budgets.size < 3:
        note = "Fewer than 3 budgets: the line joins the points and promises nothing beyond them."
        return Fitted(resamples, nothing, None, (note,))
    trial = try_forms(resamples.budgets, resamples.shares, floor=resamples.floor)
    choice = trial.choice()
    if trial.fits[choice.form].rmse[0] > _POOR_FIT:
        note = "No form describes the points: the line joins them, never falling."
        return Fitted(resamples, choice._replace(form=""), None, (note,))
    if not trial.held_out:
        note = "Three budgets: the form was chosen by its fit, with no larger budget left to check."
        return Fitted(resamples, choice, trial, (note,))
    return Fitted(resamples, choice, trial, ())


def _is_untouched(resamples: Resamples) -> bool:
    return bool(np.max(resamples.shares[0] - resamples.floor[0]) < _NO_RISE)


def _drawn(n: Floats, shares: Floats) -> dict[str, Any]:
    """Lay a line and its band out as lists of points."""
    low, high = np.percentile(shares[1:], [2.5, 97.5], axis=0)
    return {
        "line": [[float(x), float(y)] for x, y in zip(n, shares[0], strict=True)],
        "band": [[float(x), *map(float, e)] for x, *e in zip(n, low, high, strict=True)],
    }


def _step_to(budgets: Floats, row: Floats, *, target: float) -> float:
    """First questions at which the joined rising steps reach a share, inf for never."""
    _, steps = isotonic(budgets, row)
    if target > steps[-1]:
        return float("inf")
    at = int(np.searchsorted(steps, target))
    if at == 0:
        return float(budgets[0])
    way = (target - steps[at - 1]) / max(steps[at] - steps[at - 1], 1e-12)
    logs = np.log(budgets)
    return float(np.exp(logs[at - 1] + way * (logs[at] - logs[at - 1])))
