import numpy as np
import pytest

from stillwatch.errors import InvalidInputError
from stillwatch.stats.curves import FORMS, choose_form, fit_form, isotonic

# Exact match of students of 79 thousand parameters on two skills, as measured (LOG.md): questions
# and share, one training seed a point.
MEASURED_N = [100, 150, 300, 300, 600, 1000, 1000, 2000, 3000, 9000]
MEASURED = np.array([1.3, 3.7, 11.7, 14.0, 52.0, 76.7, 79.3, 82.8, 89.3, 94.2]) / 100
BUDGETS = np.array([100.0, 200, 400, 800, 1600, 3200, 6400])


@pytest.mark.parametrize("form", FORMS)
def test_every_form_finds_its_own_parameters(form):
    """Points that lie on a form are fitted by it almost exactly, from a cold start."""
    u = BUDGETS / 700.0
    share = 0.05 + 0.8 * FORMS[form].rise(u, np.array([1.6]))
    fits = fit_form(form, BUDGETS, share, floor=0.05)
    assert fits.rmse[0] < 0.004
    assert pytest.approx(share, abs=0.01) == fits.share(BUDGETS)[0]


@pytest.mark.parametrize("form", FORMS)
def test_inverse_undoes_the_form(form):
    """The questions to a share, put back into the curve, give that share."""
    fits = fit_form(form, MEASURED_N, MEASURED)
    n = fits.questions_to([0.5])
    assert pytest.approx(0.5, abs=1e-6) == fits.share(n)[0, 0]
    assert np.isinf(fits.questions_to([0.9999 if fits.ceiling[0] < 0.9999 else 1.0])[0])
    assert 0.0 == fits.questions_to([0.0])[0]


def test_measured_shape_is_no_power_law():
    """On measured students a sigmoid in log n errs a fourth of what a power law errs."""
    power, logistic = (fit_form(f, MEASURED_N, MEASURED) for f in ("power", "logistic"))
    assert logistic.rmse[0] < 0.03
    assert power.rmse[0] > 3 * logistic.rmse[0]
    assert pytest.approx(545, rel=0.05) == logistic.scale[0]
    assert pytest.approx(0.90, abs=0.02) == logistic.ceiling[0]


def test_choice_foretells():
    """The form is chosen by the budgets that it was not fitted to."""
    choice = choose_form(MEASURED_N, MEASURED)
    assert choice.held_out
    assert choice.form in {"weibull", "logistic", "gompertz"}
    assert set(FORMS) == set(choice.errors)
    assert choice.errors[choice.form] == min(choice.errors.values())


def test_choice_says_when_nothing_was_held_out():
    """Three budgets leave none to foretell, two leave no choice."""
    assert not choose_form([100, 300, 900], [0.1, 0.5, 0.8]).held_out
    assert "" == choose_form([100, 300], [0.1, 0.5]).form


def test_rows_are_fitted_independently():
    """A row's fit does not depend on its neighbours."""
    rng = np.random.default_rng(0)
    rows = np.clip(MEASURED + rng.normal(0, 0.02, (5, MEASURED.size)), 0, 1)
    together = fit_form("weibull", MEASURED_N, rows)
    alone = fit_form("weibull", MEASURED_N, rows[3])
    assert pytest.approx(alone.share(BUDGETS)[0], abs=2e-3) == together.share(BUDGETS)[3]


def test_isotonic_pools_what_falls():
    """Budgets that fall back are averaged until the steps rise; repeats are averaged first."""
    n, steps = isotonic([200, 100, 400, 400], [0.2, 0.4, 0.5, 0.7])
    assert [100.0, 200.0, 400.0] == n.tolist()
    assert pytest.approx([0.3, 0.3, 0.6]) == steps.tolist()


@pytest.mark.parametrize(
    "call",
    [
        lambda: fit_form("line", [1, 2, 3], [0.1, 0.2, 0.3]),
        lambda: fit_form("power", [0, 2, 3], [0.1, 0.2, 0.3]),
        lambda: fit_form("power", [1, 2], [0.1, 0.2, 0.3]),
        lambda: fit_form("power", [1, 2, 3], [0.1, 0.2, 1.3]),
        lambda: choose_form([], []),
    ],
)
def test_out_of_range_is_refused(call):
    """Unknown forms, shapes that differ and shares beyond 0..1 are refused."""
    with pytest.raises(InvalidInputError):
        call()
