"""Numbering, looking up and drawing give what the slower ways of numpy give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stillwatch.detect.discovery.asked import MOST_HONEST, draw_honest
from stillwatch.detect.profiles.counting import look_up, numbered, rows_of
from stillwatch.text.ragged import Ragged, starts_of

_TOP = {"uint32": 2**32 - 1, "int64": 2**63 - 1, "uint64": 2**64 - 1}


@pytest.mark.parametrize("kind", sorted(_TOP))
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_numbering_is_what_unique_gives(kind: str, data: st.DataObject) -> None:
    """Values of any size come out distinct, sorted and numbered as by `numpy.unique`."""
    top = data.draw(st.sampled_from([3, 2**20, _TOP[kind]]))
    drawn = data.draw(st.lists(st.integers(0, top), max_size=50))
    values: NDArray[Any] = np.array(drawn, dtype=kind)

    distinct, number = numbered(values)

    expected = np.unique(values, return_inverse=True)
    assert values.dtype == distinct.dtype
    assert expected[0].tolist() == distinct.tolist()
    assert expected[1].tolist() == number.tolist()


@pytest.mark.parametrize("kind", ["uint32", "uint64"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_value_is_found_wherever_it_stands(kind: str, data: st.DataObject) -> None:
    """Every value of the list is found with its row and number, also the least and the greatest."""
    pool = data.draw(st.lists(st.integers(0, _TOP[kind]), min_size=1, max_size=8, unique=True))
    pool += [0, _TOP[kind]]
    rows = data.draw(st.lists(st.lists(st.sampled_from(pool), max_size=5), max_size=8))
    wanted = np.array(sorted(data.draw(st.sets(st.sampled_from(pool)))), dtype=kind)
    values = np.array([value for row in rows for value in row], dtype=kind)

    found = look_up(wanted, Ragged(values, starts_of(np.array([len(row) for row in rows]))))

    listed = wanted.tolist()
    expected = [
        (i, listed.index(value)) for i, row in enumerate(rows) for value in row if value in listed
    ]
    assert expected == list(zip(*(part.tolist() for part in found), strict=True))


def test_rows_of_accounts_are_those_of_isin() -> None:
    """The rows of some accounts come in order; an account without rows has none."""
    account = np.array([0, 0, 2, 2, 2, 5, 6, 6])
    wanted = np.array([0, 1, 2, 6, 9])

    expected = np.flatnonzero(np.isin(account, wanted))
    assert expected.tolist() == rows_of(account, wanted).tolist()


def test_a_small_log_is_not_sampled() -> None:
    """Up to the bound all honest accounts stand for themselves."""
    honest = np.arange(MOST_HONEST + 7) >= 7

    assert honest.tolist() == draw_honest(honest, 0).tolist()


def test_a_large_log_is_sampled_from_honest_accounts_alone() -> None:
    """Beyond the bound exactly so many are drawn, of the honest ones, the same for one seed."""
    honest = np.arange(2 * MOST_HONEST) % 3 > 0

    drawn = draw_honest(honest, 1)

    assert MOST_HONEST == drawn.sum()
    assert not (drawn & ~honest).any()
    assert drawn.tolist() == draw_honest(honest, 1).tolist()
