import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.errors import InvalidInputError
from stillwatch.stats.multiple import benjamini_hochberg, e_bh, holm, holm_log10

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=30)


def test_benjamini_hochberg_by_hand():
    """The textbook example: 4 of Benjamini and Hochberg's 15 fall at 5%."""
    p = [
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240,
        0.4262, 0.5719, 0.6528, 0.7590, 1.0000,
    ]  # fmt: skip
    assert 4 == benjamini_hochberg(p, fdr=0.05).rejected.sum()
    assert 3 == holm(p, alpha=0.05).rejected.sum()


@given(P_VALUES, st.floats(0, 1))
def test_adjusted_values_decide(p, level):
    """A hypothesis falls exactly when its adjusted p-value is at most the rate."""
    for result in (benjamini_hochberg(p, level), holm(p, level)):
        assert (result.rejected == (result.adjusted <= level)).all()
        assert (result.adjusted >= np.asarray(p) - 1e-15).all()
        assert result.adjusted.max() <= 1.0


@given(P_VALUES)
def test_holm_is_the_stricter(p):
    """Guarding against any false finding finds no more than bounding their share."""
    assert (holm(p).adjusted >= benjamini_hochberg(p, 0.05).adjusted - 1e-12).all()


@given(P_VALUES, st.randoms(use_true_random=False))
def test_order_does_not_matter(p, random):
    """Shuffled hypotheses get their own results back."""
    order = list(range(len(p)))
    random.shuffle(order)
    shuffled = [p[i] for i in order]
    assert (
        benjamini_hochberg(p, 0.1).adjusted[order] == benjamini_hochberg(shuffled, 0.1).adjusted
    ).all()


def test_holm_in_logarithms_agrees():
    """The logarithmic version gives the same figures, and goes where doubles cannot."""
    p = np.array([0.01, 0.04, 0.03, 0.5])
    assert np.allclose(holm(p).adjusted, 10 ** holm_log10(np.log10(p)))
    assert pytest.approx(-999.0, abs=1e-9) == holm_log10([-1000.0] * 10)[0]


def test_e_bh_by_hand():
    """The k-th largest of m e-values falls when it is at least m / (k fdr)."""
    assert [True, True, False, False] == e_bh([80.0, 40.0, 26.0, 1.0], fdr=0.05).rejected.tolist()
    assert [False] == e_bh([0.0], fdr=1.0).rejected.tolist()


def test_nothing_to_test():
    """No hypotheses, no findings."""
    assert 0 == benjamini_hochberg([], 0.05).rejected.size == holm([]).rejected.size
    assert 0 == e_bh([], 0.05).rejected.size == holm_log10([]).size


@pytest.mark.parametrize(
    "call",
    [
        lambda: benjamini_hochberg([1.2], 0.05),
        lambda: benjamini_hochberg([float("nan")], 0.05),
        lambda: holm([0.5], alpha=2),
        lambda: e_bh([-1.0], 0.05),
        lambda: e_bh([1.0], 0.0),
        lambda: holm_log10([1.0]),
    ],
)
def test_out_of_range_is_refused(call):
    """What is no p-value, no e-value or no rate is refused."""
    with pytest.raises(InvalidInputError):
        call()
