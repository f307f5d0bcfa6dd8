"""Fisher's exact test: against scipy, and beyond it."""

import math

import pytest
from scipy import stats

from stillwatch.errors import InvalidInputError
from stillwatch.stats.hypergeometric import fisher_upper_tail


@pytest.mark.parametrize(
    ("first", "second"), [((3, 10), (1, 12)), ((0, 5), (2, 5)), ((12, 805), (0, 9000)),
                          ((5, 5), (5, 5)), ((40, 90), (100, 400))]
)  # fmt: skip
def test_equals_scipy(first, second):
    """The one-sided tail of ordinary tables."""
    table = [[first[0], first[1] - first[0]], [second[0], second[1] - second[0]]]
    expected = stats.fisher_exact(table, alternative="greater").pvalue
    assert expected == pytest.approx(fisher_upper_tail(first, second).p_value, rel=1e-8)


def test_far_tail():
    """A tail below what a double holds keeps its logarithm."""
    told = fisher_upper_tail((2000, 2000), (0, 2000))
    expected = (2 * math.lgamma(2001) - math.lgamma(4001)) / math.log(10)
    assert 0.0 == told.p_value
    assert expected == pytest.approx(told.log10_p)


def test_more_successes_than_trials_are_refused():
    """A count beyond its trials is named."""
    with pytest.raises(InvalidInputError, match="between 0 and the trials"):
        fisher_upper_tail((3, 2), (0, 1))
