"""Learning curves: a share that rises with the number of questions, fitted in several forms.

    share(n) = floor + (ceiling - floor) * rise(n / scale),    0 <= floor < ceiling <= 1

    power        rise(u) = 1 - (1 + u)^-k      a power law, shifted to start at the floor
    exponential  rise(u) = 1 - exp(-u)
    weibull      rise(u) = 1 - exp(-u^k)
    logistic     rise(u) = u^k / (1 + u^k)     logistic in log n; the same curve as MMF
    gompertz     rise(u) = exp(-u^-k)          Gompertz in log n

No form is universal, so several are fitted and the one that best foretells larger budgets is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from stillwatch.errors import reject

Floats = NDArray[np.float64]

# Error that no form explains away (share); keeps exact points from ruling the fit.
_MODEL_ERROR = 0.02
# Items behind a share, for its weight; the answer hardly depends on it.
_ITEMS = 600
# Prior on (logit ceiling, ln scale, ln k): so wide that four points outvote it, yet it keeps a
# parameter that the points say nothing about from running off.
_PRIOR_WIDTH = np.array([3.0, 3.0, 1.5])
_PRIOR_CEILING = 2.0
_STEPS = 60


class Form(NamedTuple):
    """One shape of rise, from 0 at u = 0 to 1 at infinity.

    Attributes:
        rise: u and k to the share of the way up.
        inverse: share of the way up (strictly between 0 and 1) and k to u.
        has_steepness: whether k is fitted; otherwise it is 1.
    """

    rise: Callable[[Floats, Floats], Floats]
    inverse: Callable[[Floats, Floats], Floats]
    has_steepness: bool = True


FORMS: dict[str, Form] = {
    "power": Form(
        lambda u, k: -np.expm1(-k * np.log1p(u)), lambda y, k: np.expm1(-np.log1p(-y) / k)
    ),
    "exponential": Form(
        lambda u, k: -np.expm1(-u), lambda y, k: -np.log1p(-y), has_steepness=False
    ),
    "weibull": Form(
        lambda u, k: -np.expm1(-np.power(u, k)), lambda y, k: np.power(-np.log1p(-y), 1 / k)
    ),
    "logistic": Form(
        lambda u, k: special.expit(k * _log(u)), lambda y, k: np.exp(special.logit(y) / k)
    ),
    "gompertz": Form(
        lambda u, k: np.exp(-np.exp(np.minimum(-k * _log(u), 700.0))),
        lambda y, k: np.power(-np.log(y), -1 / k),
    ),
}


class Fits(NamedTuple):
    """One form fitted to each row of shares; each parameter has shape (rows,).

    Attributes:
        form: its name in `FORMS`.
        floor: share at n = 0, given.
        ceiling: share at infinity.
        scale: questions (count) at u = 1.
        steepness: k.
        rmse: root mean square error at the points (share).
    """

    form: str
    floor: Floats
    ceiling: Floats
    scale: Floats
    steepness: Floats
    rmse: Floats

    def share(self, n: ArrayLike) -> Floats:
        """Evaluate every row at questions n of shape (m,); returns shape (rows, m)."""
        u = np.asarray(n, dtype=np.float64)[None, :] / self.scale[:, None]
        risen = FORMS[self.form].rise(u, self.steepness[:, None])
        return self.floor[:, None] + (self.ceiling - self.floor)[:, None] * risen

    def questions_to(self, share: ArrayLike) -> Floats:
        """Invert every row at its own share, shape (rows,); inf where the ceiling is below it."""
        span = self.ceiling - self.floor
        way = (np.asarray(share, dtype=np.float64) - self.floor) / np.maximum(span, 1e-12)
        reached = (way < 1) & (span > 1e-12)
        inside = np.clip(way, 1e-12, 1 - 1e-12)
        with np.errstate(over="ignore"):
            questions = FORMS[self.form].inverse(inside, self.steepness) * self.scale
        return np.where(way <= 0, 0.0, np.where(reached, questions, np.inf))


def fit_form(form: str, n: ArrayLike, shares: ArrayLike, *, floor: ArrayLike = 0.0) -> Fits:
    """Fit one form to many rows of shares at once, each from several starts.

    All rows and starts advance together through one Levenberg-Marquardt iteration, so refitting
    hundreds of resamples costs about as much as one.

    Args:
        form: a name in `FORMS`.
        n: questions (count) of each point, above 0, shape (m,); repeats are fine (seeds).
        shares: shape (m,) or (rows, m), 0..1.
        floor: share at n = 0, one number or shape (rows,).

    Returns:
        The fits, one a row.

    Raises:
        InvalidInputError: the form is unknown, or shapes or ranges are wrong.
    """
    if form not in FORMS:
        reject("stats.fit_form", "form", f"one of {', '.join(FORMS)}", got=form)
    x, y = _check_points(n, shares)
    low = np.broadcast_to(np.asarray(floor, dtype=np.float64), y.shape[:1]).copy()
    centre = float(np.mean(np.log(x)))
    prior = np.array([_PRIOR_CEILING, centre, 0.0])
    starts = np.array([
        [logit, np.log(scale), np.log(k)]
        for logit in (0.0, 3.0)
        for scale in (x.min(), np.exp(centre), x.max())
        for k in ((0.7, 2.5) if FORMS[form].has_steepness else (1.0,))
    ])
    rows = np.repeat(np.arange(y.shape[0]), len(starts))
    theta = np.tile(starts, (y.shape[0], 1))
    weight = 1 / np.sqrt(_MODEL_ERROR**2 + y * (1 - y) / _ITEMS)

    def residuals(at: Floats) -> Floats:
        model = _assemble(form, at, low[rows]).share(x)
        pull = (at - prior) / _PRIOR_WIDTH
        return np.concatenate([(model - y[rows]) * weight[rows], pull], axis=1)

    theta, cost = _levenberg_marquardt(residuals, theta)
    best = np.argmin(cost.reshape(y.shape[0], -1), axis=1)
    theta = theta.reshape(y.shape[0], -1, 3)[np.arange(y.shape[0]), best]
    fits = _assemble(form, theta, low)
    return fits._replace(rmse=np.sqrt(np.mean((fits.share(x) - y) ** 2, axis=1)))


class Choice(NamedTuple):
    """Which form foretells larger budgets best.

    Attributes:
        form: its name, or "" when there are fewer than 3 budgets.
        errors: error (share) of every form, lower = better: the root of its mean squared error at
            budgets left out of the fit plus that at its own points.
        held_out: False when there were too few budgets to leave one out.
    """

    form: str
    errors: dict[str, float]
    held_out: bool


def choose_form(n: ArrayLike, shares: ArrayLike, *, floor: float = 0.0) -> Choice:
    """Choose the form that, fitted to the smaller budgets, errs least at the larger ones.

    Error inside the fitted range says little: forms differ in what they promise beyond it. It is
    added all the same, because with one budget left out a poor form can foretell it by luck.

    Args:
        n: questions (count) of each point, above 0, shape (m,); repeats are fine.
        shares: shape (m,), 0..1.
        floor: share at n = 0.

    Returns:
        The choice; ties go to the earlier form in `FORMS`.

    Raises:
        InvalidInputError: shapes or ranges are wrong.
    """
    x, rows = _check_points(n, shares)
    y = rows[0]
    budgets = np.unique(x)
    if budgets.size < 3:
        return Choice("", {}, held_out=False)
    errors = {}
    for form in FORMS:
        squares = [
            (fit_form(form, x[seen], y[seen], floor=floor).share(x[~seen])[0] - y[~seen]) ** 2
            for seen in (x <= budgets[last] for last in range(2, budgets.size - 1))
        ]
        inside = float(fit_form(form, x, y, floor=floor).rmse[0])
        ahead = float(np.mean(np.concatenate(squares))) if squares else 0.0
        errors[form] = float(np.sqrt(ahead + inside**2))
    form = min(errors, key=lambda name: errors[name])
    return Choice(form, errors, held_out=budgets.size > 3)


def isotonic(n: ArrayLike, shares: ArrayLike) -> tuple[Floats, Floats]:
    """Fit a rising step curve: the fallback that assumes nothing but that more is not worse.

    Args:
        n: questions (count) of each point, shape (m,); repeats are averaged.
        shares: shape (m,), 0..1.

    Returns:
        The distinct n in order, and the fitted share at each.

    Raises:
        InvalidInputError: shapes or ranges are wrong.
    """
    x, rows = _check_points(n, shares)
    budgets, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    means = np.bincount(inverse, weights=rows[0]) / counts
    fitted = optimize.isotonic_regression(means, weights=counts.astype(np.float64)).x
    return budgets, np.asarray(fitted, dtype=np.float64)


def _check_points(n: ArrayLike, shares: ArrayLike) -> tuple[Floats, Floats]:
    x = np.asarray(n, dtype=np.float64).ravel()
    y = np.atleast_2d(np.asarray(shares, dtype=np.float64))
    if x.size == 0 or y.shape[1] != x.size:
        reject("stats.curves", "shares", f"as many as n ({x.size}), at least 1", got=y.shape[1])
    if not x.min() > 0:
        reject("stats.curves", "n", "above 0 (give n = 0 as the floor)", got=float(x.min()))
    if not (y.min() >= 0 and y.max() <= 1):
        reject("stats.curves", "shares", "between 0 and 1", got=float(y.max()))
    return x, y


def _log(u: Floats) -> Floats:
    return np.log(np.maximum(u, 1e-300))


def _assemble(form: str, theta: Floats, floor: Floats) -> Fits:
    """Map free parameters (rows, 3) to a fit: any real numbers give a valid curve."""
    ceiling = floor + (1 - floor) * special.expit(theta[:, 0])
    scale = np.exp(np.clip(theta[:, 1], -20, 40))
    k = np.exp(np.clip(theta[:, 2], -3, 3)) if FORMS[form].has_steepness else np.ones(len(theta))
    return Fits(form, floor, ceiling, scale, k, np.full(len(theta), np.nan))


def _levenberg_marquardt(
    residuals: Callable[[Floats], Floats], theta: Floats
) -> tuple[Floats, Floats]:
    """Minimise the sum of squares of every row of theta (rows, 3); returns it and the costs."""
    damping = np.full(len(theta), 1e-2)
    now = residuals(theta)
    cost = np.sum(now**2, axis=1)
    for _ in range(_STEPS):
        slopes = np.stack(
            [(residuals(theta + step) - now) / 1e-5 for step in np.eye(3) * 1e-5], axis=2
        )  # (rows, residuals, 3)
        normal = np.einsum("rmi,rmj->rij", slopes, slopes)
        gradient = np.einsum("rmi,rm->ri", slopes, now)
        diagonal = np.einsum("rii->ri", normal)
        system = normal + np.eye(3) * (damping[:, None] * (diagonal + 1e-9))[:, None, :]
        moved = theta - np.linalg.solve(system, gradient[:, :, None])[:, :, 0]
        then = residuals(moved)
        new_cost = np.sum(then**2, axis=1)
        better = new_cost < cost
        gain = np.max(np.where(better, cost - new_cost, 0.0) / np.maximum(cost, 1e-12))
        theta = np.where(better[:, None], moved, theta)
        now = np.where(better[:, None], then, now)
        cost = np.where(better, new_cost, cost)
        damping = np.clip(np.where(better, damping / 4, damping * 4), 1e-9, 1e9)
        if gain < 1e-8 and damping.min() > 1e3:
            break
    return theta, cost
