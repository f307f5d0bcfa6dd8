"""The ledger: caps, what is held, what is paid, what is restored."""

from decimal import Decimal

import pytest

from stillwatch.distill.money.budget import BudgetHeldError, BudgetTable, Ledger
from stillwatch.distill.money.prices import Price, price_of
from stillwatch.errors import BudgetReachedError, InvalidInputError
from stillwatch.record.exchange import Answer, Exchange, Message

PRICE = Price(model="m", input=Decimal(1), output=Decimal(2), batch_factor=Decimal("0.5"))


def test_reserve_then_settle() -> None:
    """What is held becomes what was billed."""
    ledger = Ledger(BudgetTable(usd=Decimal(1)), PRICE)
    held = ledger.reserve(100, 1000)
    before = ledger.spent
    ledger.settle(held, 90, 10)
    after = ledger.spent
    assert (1, 1100, Decimal("0.0021"), 0) == (
        before.in_flight, before.held_tokens, before.held_usd, before.tokens
    )  # fmt: skip
    assert (0, 0, 90, 10, Decimal("0.00011"), 110) == (
        after.in_flight, after.held_tokens, after.input_tokens, after.output_tokens, after.usd,
        after.micro_usd,
    )  # fmt: skip


def test_unknown_bills_cost_the_worst_case() -> None:
    """An answer without counts is paid as it was held."""
    ledger = Ledger(BudgetTable(tokens=100))
    ledger.settle(ledger.reserve(10, 20), None, None)
    assert 30 == ledger.spent.tokens


def test_held_and_reached_are_told_apart() -> None:
    """A cap that only questions in flight stand before is no end; one that is spent is."""
    ledger = Ledger(BudgetTable(tokens=100))
    held = ledger.reserve(10, 50)
    with pytest.raises(BudgetHeldError):
        ledger.reserve(10, 50)
    ledger.settle(held, 10, 30)
    ledger.release(ledger.reserve(10, 50))
    with pytest.raises(BudgetReachedError, match="40 of 100 tokens") as caught:
        ledger.reserve(11, 50)
    assert (3, False) == (caught.value.exit_code, isinstance(caught.value, BudgetHeldError))


def test_the_cap_itself_may_be_spent() -> None:
    """A question that takes the budget to its last token is asked."""
    ledger = Ledger(BudgetTable(tokens=60, questions=1, usd=Decimal("0.00011")), PRICE)
    ledger.settle(ledger.reserve(10, 50), 10, 50)
    with pytest.raises(BudgetReachedError, match="1 of 1 questions"):
        ledger.reserve(0, 0)


def test_released_questions_are_free() -> None:
    """A failed question takes nothing from any cap."""
    ledger = Ledger(BudgetTable(tokens=60, questions=1))
    for _ in range(3):
        ledger.release(ledger.reserve(10, 50))
    assert (0, 0, 0) == (ledger.spent.questions, ledger.spent.tokens, ledger.spent.in_flight)


def test_a_reservation_is_closed_once() -> None:
    """A second settle or release is an error: it would free what it does not hold."""
    ledger = Ledger(BudgetTable())
    held = ledger.reserve(1, 1)
    ledger.settle(held, 1, 1)
    with pytest.raises(InvalidInputError, match="settled or released once"):
        ledger.release(held)


def test_dollars_need_a_price() -> None:
    """A dollar budget for a model without a price is refused, never taken as free."""
    with pytest.raises(InvalidInputError, match=r"\[budget\]: usd") as caught:
        Ledger(BudgetTable(usd=Decimal(5)), price_of("nobody-knows"))
    assert "[prices]" in (caught.value.hint or "")


def test_views_share_the_purse() -> None:
    """A judge's tokens count against the same caps, at the judge's price."""
    ledger = Ledger(BudgetTable(usd=Decimal(1)), PRICE)
    judge = ledger.priced(Price(model="j", input=Decimal(10), output=Decimal(10)))
    judge.settle(judge.reserve(1000, 1000), 1000, 1000)
    ledger.settle(ledger.reserve(1000, 1000), 1000, 1000)
    assert (Decimal("0.023"), 2) == (ledger.spent.usd, judge.spent.questions)


def test_limits_are_needed_where_a_budget_needs_them() -> None:
    """Without an output limit a token budget refuses and a question budget does not."""
    Ledger(BudgetTable(questions=1)).reserve(1, None)
    with pytest.raises(InvalidInputError, match="max_output"):
        Ledger(BudgetTable(tokens=10)).reserve(1, None)


def test_bills_beyond_the_estimate_are_told() -> None:
    """A bill above what was held is paid in full and counted as overdrawn."""
    ledger = Ledger(BudgetTable(tokens=100))
    ledger.settle(ledger.reserve(10, 10), 25, 10)
    assert (35, 15) == (ledger.spent.tokens, ledger.spent.overdrawn_tokens)


def test_restore_charges_what_was_billed() -> None:
    """An earlier process's answers are charged, its free failures are not, batches at half."""
    said = {"messages": (Message("user", "hi"),), "answers": (Answer("yes"),)}
    rows = [
        Exchange(exchange_id="a", account="", started_at=0.0, input_tokens=1000,
                 output_tokens=1000, **said),
        Exchange(exchange_id="b", account="", started_at=0.0, input_tokens=1000,
                 output_tokens=1000, tags={"batch": "x"}, **said),
        Exchange(exchange_id="c", account="", started_at=0.0, status=500, error="server_error"),
    ]  # fmt: skip
    ledger = Ledger(BudgetTable(usd=Decimal(1)), PRICE)
    assert 2 == ledger.restore(rows)
    assert Decimal("0.0045") == ledger.spent.usd


def test_restore_bounds_what_nobody_counted() -> None:
    """An answer on record without counts is charged at least its bytes."""
    row = Exchange(
        exchange_id="a", account="", started_at=0.0, messages=(Message("user", "x" * 50),),
        answers=(Answer("y" * 70),),
    )  # fmt: skip
    ledger = Ledger(BudgetTable())
    ledger.restore([row])
    assert ledger.spent.input_tokens >= 50
    assert ledger.spent.output_tokens >= 70


def test_affords() -> None:
    """How many more questions fit at their worst, by the tightest cap."""
    ledger = Ledger(BudgetTable(usd=Decimal("0.01"), tokens=10_000, questions=50), PRICE)
    found = [ledger.affords(100, 100), ledger.affords(1000, 0), ledger.affords(0, 0)]
    assert [33, 10, 50] == found
    assert Ledger(BudgetTable()).affords(1, 1) is None


def test_restore_charges_a_cut_answer_its_limit() -> None:
    """An answer cut off on its way costs its output limit after a restart, as before it."""
    row = Exchange(
        exchange_id="a", account="", started_at=0.0, messages=(Message("user", "x"),),
        parameters={"max_tokens": 40}, error="cut",
    )  # fmt: skip
    ledger = Ledger(BudgetTable())
    ledger.restore([row])
    assert 40 == ledger.spent.output_tokens
