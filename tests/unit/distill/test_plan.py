"""The plan: bounds that hold, and budgets that end it."""

from decimal import Decimal

from stillwatch.distill.asking.teacher import TeacherTable
from stillwatch.distill.items import Item, item_id_of
from stillwatch.distill.money.budget import BudgetTable, Ledger
from stillwatch.distill.money.plan import Pace, estimate
from stillwatch.distill.money.prices import PriceTable
from stillwatch.record.exchange import Message

TEACHER = TeacherTable(endpoint="http://127.0.0.1:1/v1", model="m", parameters={"max_tokens": 100})
PRICES = PriceTable(input=Decimal(1), output=Decimal(10), batch_factor=Decimal("0.5"))


def _items(n: int) -> list[Item]:
    asked = [(Message("user", f"What is {k} in Roman numerals?"),) for k in range(n)]
    skills = ("date", "number")
    return [
        Item(item_id=item_id_of(m), messages=m, capability=skills[k % 2])
        for k, m in enumerate(asked)
    ]


def test_the_high_end_is_what_the_ledger_would_hold() -> None:
    """The worst case of a plan is the sum of what asking reserves."""
    from stillwatch.distill.money.token_bounds import input_bound

    found = estimate(iter(_items(20)), TEACHER, prices=PRICES)
    ledger = Ledger(BudgetTable(), found.price)
    for item in _items(20):
        ledger.reserve(input_bound(item), 100)
    assert found.usd is not None
    assert float(ledger.spent.held_usd or 0) == found.usd.high
    assert found.usd.low < found.usd.likely < found.usd.high
    assert {"date": 10, "number": 10} == found.by_capability
    assert found.usd_batch is not None
    assert found.usd.likely / 2 == found.usd_batch.likely


def test_a_budget_ends_the_plan_where_it_ends_asking() -> None:
    """At the worst case the plan affords as many questions as a ledger lets through."""
    from stillwatch.distill.money.token_bounds import input_bound
    from stillwatch.errors import BudgetReachedError

    budget = BudgetTable(tokens=3_000)
    found = estimate(_items(20), TEACHER, prices=PRICES, budget=budget)
    ledger, count = Ledger(budget), 0
    for item in _items(20):
        try:
            bound = input_bound(item)
            ledger.settle(ledger.reserve(bound, 100), bound, 100)
        except BudgetReachedError:
            break
        count += 1
    assert found.affordable is not None
    assert count == found.affordable[0]
    assert found.affordable[0] < found.affordable[1] == 20
    assert "questions" == estimate(_items(9), TEACHER, budget=BudgetTable(questions=4)).binding


def test_unknown_stays_unknown() -> None:
    """Without a price there are no dollars, without a limit no worst case; both are told."""
    bare = TeacherTable(endpoint="http://127.0.0.1:1/v1", model="m")
    found = estimate(_items(2), bare)
    assert (None, None, None) == (found.usd, found.output_tokens.high, found.seconds)
    assert 3 == len(found.notes)


def test_what_was_seen_replaces_the_guess() -> None:
    """After some answers their mean length is the likely one, and their cost is off the budget."""
    ledger = Ledger(BudgetTable(questions=10), None)
    for _ in range(4):
        ledger.settle(ledger.reserve(10, 100), 10, 7)
    budget = BudgetTable(questions=10)
    found = estimate(_items(20), TEACHER, budget=budget, seen=ledger.spent)
    assert (140, (6, 6)) == (found.output_tokens.likely, found.affordable)


def test_time_is_by_the_tightest_limit() -> None:
    """Requests a minute, tokens a minute and flight time: the slowest counts."""
    pace = Pace(requests_per_minute=60, concurrency=2, answer_s=10)
    found = estimate(_items(30), TEACHER, pace=pace)
    assert found.seconds is not None
    assert 150 == found.seconds.likely
    assert estimate(_items(30), TEACHER, pace=Pace()).seconds is None
