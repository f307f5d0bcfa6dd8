"""Prices: exact, dated, overridable; unknown is not zero."""

from decimal import Decimal

import msgspec
import pytest

from stillwatch.distill.money.prices import (
    PriceTable,
    micro_usd_of,
    price_of,
    price_table_date,
    usd_of,
)
from stillwatch.errors import InvalidInputError


def test_fifteen_cents_is_fifteen_cents() -> None:
    """A price from the table is an exact decimal, and a million tokens cost exactly it."""
    price = price_of("gpt-4o-mini")
    assert price is not None
    assert Decimal("0.15") == price.input == usd_of(price.units(1_000_000, 0))
    assert price_table_date() == price.as_of


@pytest.mark.parametrize(
    ("asked", "listed"),
    [
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("openai/gpt-4o-mini", "gpt-4o-mini"),
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("GPT-4o", "gpt-4o"),
        ("gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
    ],
)
def test_dated_names_cost_what_their_family_does(asked: str, listed: str) -> None:
    """A dated ending is taken off only when the whole name is not listed."""
    found = price_of(asked)
    assert found is not None
    assert listed == found.model


@pytest.mark.parametrize(
    "asked", ["gpt-4o-mini-audio", "ft:gpt-4o-mini:me", "other/gpt-4o", "house-skills", ""]
)
def test_unknown_has_no_price(asked: str) -> None:
    """A near name, a tuned model and a foreign host's model are unknown, not guessed."""
    assert price_of(asked) is None


def test_the_run_comes_first() -> None:
    """Rows by name come before the run's own figures, and those before the table."""
    table = msgspec.convert(
        {"input": 1.5, "output": "6", "models": {"judge-*": {"input": 0.1, "output": 0.2}}},
        PriceTable,
        strict=False,
    )
    found = [price_of(name, table) for name in ("gpt-4o", "judge-1")]
    expected = [Decimal("1.5"), Decimal("0.1")]
    assert expected == [one.input for one in found if one is not None]


def test_batches_cost_their_factor() -> None:
    """A batch price is exactly the factor, and applied once."""
    price = price_of("gpt-4o-mini")
    assert price is not None
    once, twice = price.batched(), price.batched().batched()
    assert Decimal("0.075") == once.input == twice.input


def test_long_questions_cost_the_long_rate() -> None:
    """Beyond the threshold all tokens of a question cost more; at it they do not."""
    price = price_of("gpt-5.4")
    assert price is not None
    assert price.long_above is not None
    at, beyond = price.units(price.long_above, 0), price.units(price.long_above + 1, 0)
    assert Decimal("0.68") == usd_of(at)
    assert Decimal("1.360005") == usd_of(beyond)


def test_micro_dollars_round_up() -> None:
    """A fraction of a micro-dollar counts as a whole one."""
    assert [0, 1, 1, 2] == [micro_usd_of(n) for n in (0, 1, 10**9, 10**9 + 1)]


@pytest.mark.parametrize(
    ("table", "name"),
    [
        ({"input": "1"}, "input and output"),
        ({"input": "-1", "output": "1"}, "input"),
        ({"input": "NaN", "output": "1"}, "input"),
        ({"input": "0.1234567", "output": "1"}, "input"),
        ({"batch_factor": "0.3333"}, "batch_factor"),
    ],
)
def test_bad_prices_are_refused(table: dict[str, str], name: str) -> None:
    """Half a price, a negative one and too many decimals are errors that name the field."""
    plain = {key: Decimal(value) for key, value in table.items()}
    with pytest.raises(InvalidInputError, match=rf"\[prices\]: {name} must be"):
        PriceTable(**plain)
