"""Learning curves: a share that rises with the number of questions, fitted in several forms.

    share(n) = floor + (ceiling - floor) * rise(n / scale),    0 <= floor < ceiling <= 1

    power        rise(u) = 1 - (1 + u)^-k      a power law that starts at the floor (POW4)
    exponential  rise(u) = 1 - exp(-u)
    weibull      rise(u) = 1 - exp(-u^k)
    logistic     rise(u) = u^k / (1 + u^k)     logistic in log n; from a given floor the same as MMF
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
from stillwatch.stats.descent import descend

Floats = NDArray[np.float64]

# Error that no form explains away (share); keeps exact points from ruling the fit.
_MODEL_ERROR = 0.02
# Items behind a share, for its weight; the answer hardly depends on it.
_ITEMS = 600
# Prior on (logit ceiling, ln scale, ln k): so wide that four points outvote it, yet it keeps a
# parameter that the points say nothing about from running off.
_PRIOR_WIDTH = np.array([3.0, 3.0, 1.5])
_PRIOR_CEILING = 2.0
# Bounds of ln scale and ln k: beyond them a curve is flat or a step within any budget.
_SCALES, _STEEPNESSES = (-20.0, 40.0), (-3.0, 3.0)


class Form(NamedTuple):
    """One shape of rise, from 0 at u = 0 to 1 at infinity.

    Attributes:
        rise: u and k to the share of the way up.
        inverse: share of the way up (strictly between 0 and 1) and k to u.
        slopes: u and k to the slopes of the rise in ln u and in ln k.
        has_steepness: whether k is fitted; otherwise it is 1.
    """

    rise: Callable[[Floats, Floats], Floats]
    inverse: Callable[[Floats, Floats], Floats]
    slopes: Callable[[Floats, Floats], tuple[Floats, Floats]]
    has_steepness: bool = True


def _power_slopes(u: Floats, k: Floats) -> tuple[Floats, Floats]:
    left = k * np.exp(-k * np.log1p(u))
    return left * u / (1 + u), left * np.log1p(u)


def _weibull_slopes(u: Floats, k: Floats) -> tuple[Floats, Floats]:
    t = np.exp(np.minimum(k * _log(u), 50.0))
    slope = k * t * np.exp(-t)
    return slope, slope * _log(u)


def _logistic_slopes(u: Floats, k: Floats) -> tuple[Floats, Floats]:
    slope = k * special.expit(k * _log(u)) * special.expit(-k * _log(u))
    return slope, slope * _log(u)


def _gompertz_slopes(u: Floats, k: Floats) -> tuple[Floats, Floats]:
    t = np.exp(np.minimum(-k * _log(u), 50.0))
    slope = k * t * np.exp(-t)
    return slope, slope * _log(u)


FORMS: dict[str, Form] = {
    "power": Form(
        lambda u, k: -np.expm1(-k * np.log1p(u)),
        lambda y, k: np.expm1(-np.log1p(-y) / k),
        _power_slopes,
    ),
    "exponential": Form(
        lambda u, k: -np.expm1(-u), lambda y, k: -np.log1p(-y), _weibull_slopes, has_steepness=False
    ),
    "weibull": Form(
        lambda u, k: -np.expm1(-np.exp(np.minimum(k * _log(u), 50.0))),
        lambda y, k: np.power(-np.log1p(-y), 1 / k),
        _weibull_slopes,
    ),
    "logistic": Form(
        lambda u, k: special.expit(k * _log(u)),
        lambda y, k: np.exp(special.logit(y) / k),
        _logistic_slopes,
    ),
    "gompertz": Form(
        lambda u, k: np.exp(-np.exp(np.minimum(-k * _log(u), 50.0))),
        lambda y, k: np.power(-np.log(y), -1 / k),
        _gompertz_slopes,
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

    def rows(self, picked: NDArray[np.intp]) -> Fits:
        """Take some of the rows."""
        return Fits(self.form, *(part[picked] for part in self[1:]))


def fit_form(
    form: str, n: ArrayLike, shares: ArrayLike, *, floor: ArrayLike = 0.0, near: Fits | None = None
) -> Fits:
    """Fit one form to many rows of shares at once, each from several starts.

    Args:
        form: a name in `FORMS`.
        n: questions (count) of each point, above 0, shape (m,); repeats are fine (seeds).
        shares: shape (m,) or (rows, m), 0..1.
        floor: share at n = 0, one number or shape (rows,).
        near: a fit of the same form to much the same points, which row 0 of it then starts from,
            instead of from everywhere: for resamples.

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
    starts = _starts(form, x) if near is None else _starts_near(near, x)
    rows = np.repeat(np.arange(y.shape[0]), len(starts))
    weight = 1 / np.sqrt(_MODEL_ERROR**2 + y * (1 - y) / _ITEMS)
    pulls = np.broadcast_to(np.diag(1 / _PRIOR_WIDTH), (len(rows), 3, 3))

    def linearise(theta: Floats, of: NDArray[np.intp]) -> tuple[Floats, Floats]:
        own = rows[of]
        model, slopes = _model(form, theta, floor=low[own], x=x)
        apart = (model - y[own]) * weight[own]
        residuals = np.concatenate([apart, (theta - prior) / _PRIOR_WIDTH], axis=1)
        return residuals, np.concatenate([slopes * weight[own][:, :, None], pulls[of]], axis=1)

    theta, cost = descend(linearise, np.tile(starts, (y.shape[0], 1)))
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


class FormTrial(NamedTuple):
    """Every form fitted to every row, and how each foretold the row's larger budgets.

    Attributes:
        fits: by form.
        errors: by form, shape (rows,), lower = better.
        held_out: whether there were budgets to leave out.
    """

    fits: dict[str, Fits]
    errors: dict[str, Floats]
    held_out: bool

    def best(self) -> NDArray[np.intp]:
        """Number of each row's best form in `FORMS`; ties go to the earlier."""
        table = np.stack([self.errors[form] for form in FORMS])
        return np.asarray(np.argmin(table, axis=0))

    def choice(self) -> Choice:
        """Choose for row 0."""
        errors = {form: float(error[0]) for form, error in self.errors.items()}
        return Choice(list(FORMS)[int(self.best()[0])], errors, self.held_out)


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
    x, y = _check_points(n, shares)
    if np.unique(x).size < 3:
        return Choice("", {}, held_out=False)
    return try_forms(x, y[:1], floor=floor).choice()


def try_forms(n: ArrayLike, shares: ArrayLike, *, floor: ArrayLike = 0.0) -> FormTrial:
    """Fit every form to every row, and let each foretell the larger budgets from the smaller.

    The first row is fitted from many starts, the others (its resamples) from where it ended and
    from one start more.

    Args:
        n: questions (count) of each point, above 0, shape (m,), at least 3 different.
        shares: shape (m,) or (rows, m), 0..1.
        floor: share at n = 0, one number or shape (rows,).

    Returns:
        The fits and their errors.

    Raises:
        InvalidInputError: shapes or ranges are wrong, or fewer than 3 budgets.
    """
    x, y = _check_points(n, shares)
    low = np.broadcast_to(np.asarray(floor, dtype=np.float64), y.shape[:1])
    budgets = np.unique(x)
    if budgets.size < 3:
        reject("stats.try_forms", "n", "at least 3 different budgets", got=budgets.size)
    fits, errors = {}, {}
    for form in FORMS:
        fits[form] = _fit_rows(form, x, y, floor=low)
        squares = [
            (_fit_rows(form, x[seen], y[:, seen], floor=low).share(x[~seen]) - y[:, ~seen]) ** 2
            for seen in (x <= budgets[last] for last in range(2, budgets.size - 1))
        ]
        ahead = np.concatenate(squares, axis=1).mean(axis=1) if squares else 0.0
        errors[form] = np.sqrt(ahead + fits[form].rmse ** 2)
    return FormTrial(fits, errors, held_out=budgets.size > 3)


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


def _fit_rows(form: str, x: Floats, y: Floats, *, floor: Floats) -> Fits:
    """Fit row 0 from everywhere and the others from near it."""
    first = fit_form(form, x, y[:1], floor=floor[:1])
    if len(y) == 1:
        return first
    others = fit_form(form, x, y[1:], floor=floor[1:], near=first)
    parts = zip(first[1:], others[1:], strict=True)
    return Fits(form, *(np.concatenate(pair) for pair in parts))


def _starts(form: str, x: Floats) -> Floats:
    return np.array([
        [logit, np.log(scale), np.log(k)]
        for logit in (0.0, 3.0)
        for scale in (x.min(), np.exp(np.mean(np.log(x))), x.max())
        for k in ((0.7, 2.5) if FORMS[form].has_steepness else (1.0,))
    ])


def _starts_near(fits: Fits, x: Floats) -> Floats:
    span = (fits.ceiling[0] - fits.floor[0]) / max(1 - fits.floor[0], 1e-9)
    found = [
        special.logit(np.clip(span, 1e-4, 1 - 1e-4)),
        np.log(fits.scale[0]),
        np.log(fits.steepness[0]),
    ]
    return np.array([found, [1.0, np.mean(np.log(x)), 0.2]])


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


def _model(form: str, theta: Floats, *, floor: Floats, x: Floats) -> tuple[Floats, Floats]:
    """Shares of every row at x, shape (rows, m), and their slopes in theta, (rows, m, 3)."""
    fits = _assemble(form, theta, floor)
    u, k = x[None, :] / fits.scale[:, None], fits.steepness[:, None]
    risen = FORMS[form].rise(u, k)
    by_log_u, by_log_k = FORMS[form].slopes(u, k)
    span = (fits.ceiling - fits.floor)[:, None]
    by_logit = span * special.expit(-theta[:, :1]) * risen
    inside_scale = (theta[:, 1:2] > _SCALES[0]) & (theta[:, 1:2] < _SCALES[1])
    inside_k = (theta[:, 2:] > _STEEPNESSES[0]) & (theta[:, 2:] < _STEEPNESSES[1])
    if not FORMS[form].has_steepness:
        inside_k = np.zeros_like(inside_k)
    slopes = [by_logit, -span * by_log_u * inside_scale, span * by_log_k * inside_k]
    return fits.floor[:, None] + span * risen, np.stack(slopes, axis=2)


def _assemble(form: str, theta: Floats, floor: Floats) -> Fits:
    """Map free parameters (rows, 3) to a fit: any real numbers give a valid curve."""
    ceiling = floor + (1 - floor) * special.expit(theta[:, 0])
    scale = np.exp(np.clip(theta[:, 1], *_SCALES))
    has_k = FORMS[form].has_steepness
    k = np.exp(np.clip(theta[:, 2], *_STEEPNESSES)) if has_k else np.ones(len(theta))
    return Fits(form, floor, ceiling, scale, k, np.full(len(theta), np.nan))
