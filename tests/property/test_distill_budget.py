"""A budget holds, whatever the order of answers and whatever they cost within their limits."""

import contextlib
import random
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillwatch.distill.money.budget import BudgetTable, Ledger
from stillwatch.distill.money.prices import Price
from stillwatch.errors import BudgetReachedError

_SIZES = st.integers(0, 2_000)
_CENTS = st.decimals(0, 100, places=6)


@st.composite
def _worlds(draw: st.DrawFn) -> tuple[BudgetTable, Price]:
    budget = BudgetTable(
        usd=draw(st.none() | st.decimals(0, Decimal("0.1"), places=4)),
        tokens=draw(st.none() | st.integers(0, 20_000)),
        questions=draw(st.none() | st.integers(0, 30)),
    )
    price = Price(
        model="m", input=draw(_CENTS), output=draw(_CENTS),
        long_above=draw(st.none() | st.integers(0, 1500)), long_input=draw(_CENTS),
        long_output=draw(_CENTS),
    )  # fmt: skip
    # Beyond a threshold vendors charge more, never less.
    if price.long_above is not None and (
        price.long_input < price.input or price.long_output < price.output
    ):
        price = Price(model="m", input=price.input, output=price.output)
    return budget, price


@settings(max_examples=60, deadline=None)
@given(_worlds(), st.integers(0, 2**32), st.lists(st.tuples(_SIZES, _SIZES), max_size=40))
def test_true_worst_cases_never_pass_a_cap(
    world: tuple[BudgetTable, Price], seed: int, sizes: list[tuple[int, int]]
) -> None:
    """With true worst cases paid and held together never pass any cap."""
    budget, price = world
    ledger, rng, flying = Ledger(budget, price), random.Random(seed), []
    for n_input, most in sizes:
        with contextlib.suppress(BudgetReachedError):
            flying.append((ledger.reserve(n_input, most), n_input, most))
        while flying and rng.random() < 0.5:
            held, n, limit = flying.pop(rng.randrange(len(flying)))
            if rng.random() < 0.2:
                ledger.release(held)
            else:
                ledger.settle(held, rng.randint(0, n), rng.randint(0, limit))
        spent = ledger.spent
        assert spent.usd is not None
        assert budget.usd is None or spent.usd + spent.held_usd <= budget.usd
        assert budget.tokens is None or spent.tokens + spent.held_tokens <= budget.tokens
        assert budget.questions is None or spent.questions + spent.in_flight <= budget.questions
        assert 0 == spent.overdrawn_tokens
        assert len(flying) == spent.in_flight


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(100, 5_000), st.integers(1, 16))
def test_false_estimates_pass_by_what_is_in_flight_at_most(
    seed: int, cap: int, window: int
) -> None:
    """When bills exceed the estimates, no cap is passed by more than the last window's excess."""
    ledger, rng, flying = Ledger(BudgetTable(tokens=cap)), random.Random(seed), []
    last_excess: list[int] = []
    for _ in range(200):
        try:
            flying.append(ledger.reserve(10, 10))
        except BudgetReachedError:
            if not flying:
                break
        if flying and (len(flying) >= window or rng.random() < 0.5):
            billed = rng.randint(0, 100)
            ledger.settle(flying.pop(0), billed, 0)
            last_excess.append(max(0, billed - 20))
    while flying:
        billed = rng.randint(0, 100)
        ledger.settle(flying.pop(0), billed, 0)
        last_excess.append(max(0, billed - 20))
    beyond = ledger.spent.tokens - cap
    assert beyond <= sum(last_excess[-window:])


@settings(max_examples=40, deadline=None)
@given(_worlds(), st.lists(st.tuples(_SIZES, _SIZES), max_size=30))
def test_sums_do_not_depend_on_order(
    world: tuple[BudgetTable, Price], sizes: list[tuple[int, int]]
) -> None:
    """Dollars are exact: paying in any order gives the same sum, that of the single prices."""
    _, price = world
    totals = []
    for order in (sizes, sizes[::-1]):
        ledger = Ledger(BudgetTable(), price)
        for n_input, n_output in order:
            ledger.settle(ledger.reserve(n_input, n_output), n_input, n_output)
        totals.append(ledger.spent.usd)
    exact = sum((Decimal(price.units(*one)).scaleb(-15) for one in sizes), Decimal(0))
    assert totals == [exact, exact]


@pytest.mark.parametrize("n", [10_000])
def test_a_ledger_does_not_slow_down(n: int) -> None:
    """Paying many answers keeps nothing of each: sums alone grow."""
    ledger = Ledger(BudgetTable())
    for _ in range(n):
        ledger.settle(ledger.reserve(3, 4), 1, 2)
    assert (n, 3 * n) == (ledger.spent.questions, ledger.spent.tokens)
