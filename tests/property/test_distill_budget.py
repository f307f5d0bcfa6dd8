"""A budget holds, whatever the order of answers and whatever they cost within their limits."""

import asyncio
import contextlib
import random
import shutil
import tempfile
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillwatch.distill.asking.answer_index import AnswerIndex
from stillwatch.distill.asking.attempts import attempt_exchange
from stillwatch.distill.asking.teacher import TeacherTable
from stillwatch.distill.asking.under_way import Sent, UnderWay, charge_journal
from stillwatch.distill.items import Item
from stillwatch.distill.money.budget import (
    CHARGED_TAG,
    BudgetTable,
    Ledger,
    Reservation,
    charged_text,
)
from stillwatch.distill.money.prices import Price
from stillwatch.errors import BudgetReachedError
from stillwatch.record.exchange import Answer
from stillwatch.record.journal import Journal
from stillwatch.wire.question import Reply

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


#: How an attempt ends, and how far the process came with it when it was killed.
_ENDS = st.sampled_from(["answered", "cut", "refused"])
_REACHED = st.sampled_from(["sent", "settled", "recorded", "done"])
_ATTEMPTS = st.lists(
    st.tuples(st.integers(0, 500), st.integers(0, 500), _ENDS, _REACHED, st.floats(0, 1)),
    max_size=6,
)
_TEACHER = TeacherTable(endpoint="http://127.0.0.1:9/v1", model="m")


class _Life:
    """One process that asks and is killed: what it does with an attempt, in the asker's order."""

    def __init__(self, folder: Path, budget: BudgetTable) -> None:
        self.ledger = Ledger(budget)
        self._journal = Journal.open(folder, fsync_interval_s=0.0)
        asyncio.run(charge_journal(self._journal, AnswerIndex(folder), self.ledger))
        self._slots = UnderWay(folder)
        self._n = 0

    def attempt(self, most: tuple[int, int], end: str, *, reached: str, share: float) -> int:
        """Make an attempt as far as it came; returns the tokens that the endpoint bills."""
        held = self.ledger.reserve(*most)
        self._n += 1
        sent = self._slots.begin(f"{self._n:064x}", held, now=1.0)
        billed = (round(share * most[0]), round(share * most[1])) if end != "refused" else (0, 0)
        if reached != "sent":
            self._finish(sent, held, billed=billed, end=end, reached=reached)
        return sum(billed)

    def _finish(
        self, sent: Sent, held: Reservation, *, billed: tuple[int, int], end: str, reached: str
    ) -> None:
        reply, facts = None, {}
        if end == "answered":
            reply = Reply(answers=(Answer("yes"),), input_tokens=billed[0], output_tokens=billed[1])
            self.ledger.settle(held, *billed)
        elif end == "cut":
            facts = {CHARGED_TAG: charged_text(held.n_input, held.max_output)}
            self.ledger.settle(held, None, None)
        else:
            self.ledger.release(held)
        if reached == "settled":
            return
        exchange = attempt_exchange(
            Item(item_id="i", messages=()), _TEACHER, reply=reply,
            status=200 if reply else 0, error=None if reply else end, started_at=1.0, ended_at=2.0,
            attempt=1, request_key=sent.key, permission_id="p", facts=facts,
            exchange_id=sent.exchange_id,
        )  # fmt: skip
        self._journal.append_sync(exchange)
        if reached == "done":
            self._slots.end(sent)

    def kill(self, folder: Path, left: Path) -> None:
        """End without a word: what stands on the disk now is what the next process finds."""
        shutil.copytree(folder, left)
        with self._slots, self._journal:
            pass


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.none() | st.integers(0, 4_000), st.none() | st.integers(0, 12)),
    st.lists(_ATTEMPTS, min_size=1, max_size=3),
)
def test_no_cap_is_passed_over_any_number_of_kills(
    caps: tuple[int | None, int | None], lives: list[list[tuple[int, int, str, str, float]]]
) -> None:
    """Killed at any step of any attempt: what the endpoint billed in all never passes a cap."""
    budget = BudgetTable(tokens=caps[0], questions=caps[1])
    billed = n_billed = 0
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base, "0")
        for number, attempts in enumerate(lives, start=1):
            life = _Life(folder, budget)
            assert life.ledger.spent.tokens >= billed
            assert life.ledger.spent.questions >= n_billed
            for n_input, most, end, reached, share in attempts:
                with contextlib.suppress(BudgetReachedError):
                    billed += life.attempt((n_input, most), end, reached=reached, share=share)
                    n_billed += end != "refused"
            spent = life.ledger.spent
            left = Path(base, str(number))
            life.kill(folder, left)
            folder = left
            assert spent.tokens + spent.held_tokens >= billed
        life = _Life(folder, budget)
        again = life.ledger.spent
        life.kill(folder, Path(base, "end"))
    assert again.tokens >= billed
    assert again.questions >= n_billed
    assert caps[0] is None or billed <= caps[0]
    assert caps[1] is None or n_billed <= caps[1]
