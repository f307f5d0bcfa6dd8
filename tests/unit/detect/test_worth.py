"""Prices, subjects and words of what was taken."""

import pytest

from stillwatch.detect.evidence.worth import (
    PRICES,
    Price,
    average_price,
    parse_price,
    shares,
    subject_shares,
    telling_words,
)
from stillwatch.errors import InvalidInputError


def test_list_prices_are_found_by_name() -> None:
    """A dated model, or one behind a gateway's prefix, has its list price."""
    for model in ("claude-sonnet-5-5-20260929", "anthropic/claude-sonnet-5-5"):
        price = average_price({model: 1.0})
        assert price is not None
        assert (2.0, 10.0) == price[:2]
        assert "2026" in price.source


def test_the_first_pattern_that_fits_counts() -> None:
    """A narrower name stands before a wider one in the list."""
    seen: list[str] = []
    for price in PRICES:
        stem = price.pattern.removesuffix("*")
        assert not any(stem.startswith(wider) for wider in seen), price.pattern
        seen.append(stem)


def test_own_prices_come_first() -> None:
    """What the user gave overrides the list, and says so."""
    price = average_price({"claude-opus-5": 1.0}, [Price("claude-*", 1.0, 2.0)])
    assert (1.0, 2.0, "prices given") == price


def test_no_sum_when_too_much_has_no_price() -> None:
    """A fifth without a price may be averaged over; more may not."""
    own = [Price("a", 1.0, 1.0)]
    assert average_price({"a": 0.9, "b": 0.1}, own) is not None
    assert average_price({"a": 0.7, "b": 0.3}, own) is None
    assert average_price({}, own) is None
    assert average_price({}, [Price("*", 1.0, 4.0)]) is not None


@pytest.mark.parametrize("text", ["m", "m=3", "=3/4", "m=3/x", "m=/4", "m=1.2.3/4"])
def test_a_price_of_another_shape_is_refused(text: str) -> None:
    """The message names the flag and the shape."""
    with pytest.raises(InvalidInputError, match="--price"):
        parse_price(text)


def test_subjects_are_told_by_their_words() -> None:
    """Sums, code and stories are told apart; small talk names none."""
    texts = [
        "Tom has 3 boxes of 4 pens. How many pens has Tom?",
        "Write a python function that returns the sorted list",
        "hello there",
    ]
    found = subject_shares(texts)
    assert found["mathematics"] == pytest.approx(1 / 3, abs=1e-3)
    assert found["code"] == pytest.approx(1 / 3, abs=1e-3)
    assert {} == subject_shares(["hello there"])


def test_telling_words_set_questions_apart() -> None:
    """A word of these questions only is told; one of all is not, nor one of a single question."""
    here = [f"the harbour master asks about berth {w}" for w in ("a", "b", "c", "d", "e", "f")]
    there = [f"the gardener asks about roses {i}" for i in range(40)]
    found = telling_words([*here, "unique oddity"], there)
    assert "harbour" in found
    assert not {"the", "about", "asks", "oddity"} & set(found)
    assert () == telling_words(here, [])


def test_shares_add_up() -> None:
    """Empty values are left out, the commonest stands first."""
    assert {"b": 0.6667, "a": 0.3333} == shares(["a", "b", "", "b"])
