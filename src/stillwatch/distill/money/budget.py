"""What may be spent, and what is: reserve the worst case before sending, settle from the bill.

A ledger counts questions, tokens and dollars against their caps in exact integers. What is in
flight is held at its worst case, so as long as the worst cases are true (an input estimate that is
an upper bound, an output limit that the endpoint obeys) no cap is ever passed, whatever the order
in which answers come. A ledger belongs to one event loop or thread.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import NoReturn

import msgspec

from stillwatch.distill.asking.teacher import OUTPUT_LIMITS
from stillwatch.distill.money.prices import UNITS_PER_USD, Price, micro_usd_of, usd_of
from stillwatch.distill.money.token_bounds import answers_bound, messages_bound
from stillwatch.errors import BudgetReachedError, reject
from stillwatch.record.exchange import Exchange

#: Tag of an exchange that a batch API answered, and billed at its factor.
BATCH_TAG = "batch"
#: Tag of an exchange whose bill nobody knows: what it is charged with instead.
CHARGED_TAG = "charged"
_NO_CAP = 10**60
_ANSWERED = 200


class BudgetTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[budget]` table of a run; what is absent is not capped.

    Attributes:
        usd: dollars, a decimal.
        tokens: of questions and answers together (count).
        questions: answers bought (count); a question that failed for good costs none.
    """

    usd: Decimal | None = None
    tokens: int | None = None
    questions: int | None = None

    def __post_init__(self) -> None:
        """Refuse negative caps."""
        for name in ("usd", "tokens", "questions"):
            value = getattr(self, name)
            if value is not None and (not Decimal(value).is_finite() or value < 0):
                reject("[budget]", name, "at least 0", got=str(value))


class BudgetHeldError(BudgetReachedError):
    """Only what is in flight stands in the way: after some answers are settled it may fit."""


class Reservation:
    """The worst case of one question in flight; settled or released exactly once.

    Attributes:
        n_input: input tokens held (count).
        max_output: output tokens held (count).
        units: femto-dollars held.
        is_open: whether it still holds them.
    """

    __slots__ = ("is_open", "max_output", "n_input", "units")

    def __init__(self, n_input: int, max_output: int, units: int) -> None:
        self.n_input = n_input
        self.max_output = max_output
        self.units = units
        self.is_open = True


class Spend(msgspec.Struct, frozen=True, kw_only=True):
    """What a ledger has paid, and what it holds.

    Attributes:
        questions: answers bought (count).
        input_tokens: billed (count).
        output_tokens: billed (count).
        usd: dollars, exact; None when no price is known.
        micro_usd: the same in whole micro-dollars, rounded up; None when no price is known.
        in_flight: reservations open (count).
        held_tokens: tokens that they hold (count).
        held_usd: dollars that they hold; None when no price is known.
        overdrawn_tokens: tokens billed beyond what was reserved for them (count): 0 while the
            estimates are true upper bounds.
    """

    questions: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: Decimal | None = None
    micro_usd: int | None = None
    in_flight: int = 0
    held_tokens: int = 0
    held_usd: Decimal | None = None
    overdrawn_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Tokens billed, of questions and answers together (count)."""
        return self.input_tokens + self.output_tokens


class _Purse:
    """The sums that all views of one ledger share."""

    __slots__ = (
        "cap_questions", "cap_tokens", "cap_units", "held_questions", "held_tokens", "held_units",
        "input_tokens", "output_tokens", "overdrawn", "questions", "tokens", "units", "unpriced",
    )  # fmt: skip

    def __init__(self, budget: BudgetTable) -> None:
        self.questions = self.input_tokens = self.output_tokens = self.tokens = self.units = 0
        self.held_questions = self.held_tokens = self.held_units = self.overdrawn = 0
        self.unpriced = False
        self.cap_questions = _NO_CAP if budget.questions is None else budget.questions
        self.cap_tokens = _NO_CAP if budget.tokens is None else budget.tokens
        self.cap_units = _NO_CAP if budget.usd is None else int(budget.usd * UNITS_PER_USD)


class Ledger:
    """Counts one run's spending against its caps. All calls are O(1) and exact.

    Args:
        budget: the caps.
        price: of the model that is asked, or None when nobody knows it.

    Raises:
        InvalidInputError: a budget in dollars for a model without a price.
    """

    __slots__ = ("_in", "_long", "_out", "_purse", "budget", "price")

    def __init__(self, budget: BudgetTable, price: Price | None = None) -> None:
        self.budget = budget
        self._purse = _Purse(budget)
        self._set_price(price)

    def priced(self, price: Price | None) -> Ledger:
        """Give a view of the same purse for another model: a judge, a batch, a question writer.

        Args:
            price: of that model.

        Returns:
            A ledger; what it spends counts against the same caps.

        Raises:
            InvalidInputError: the budget is in dollars and there is no price.
        """
        view = Ledger.__new__(Ledger)
        view.budget, view._purse = self.budget, self._purse
        view._set_price(price)
        return view

    def reserve(self, n_input_estimate: int, max_output: int | None) -> Reservation:
        """Hold the worst case of one question.

        Args:
            n_input_estimate: input tokens at most (`token_bounds.input_bound` is an upper bound).
            max_output: output tokens at most, over all choices; None for no limit, which a budget
                of tokens or dollars does not allow.

        Returns:
            What is held; give it to `settle` or `release` once.

        Raises:
            BudgetReachedError: a cap would be passed even if all that is in flight came free.
            BudgetHeldError: (a `BudgetReachedError`) it may fit once answers in flight are settled.
            InvalidInputError: there is no limit on the output and a budget that needs one.
        """
        if max_output is None:
            max_output = _unlimited(self.budget)
        tokens = n_input_estimate + max_output
        units = self._units(n_input_estimate, max_output)
        purse = self._purse
        if (
            purse.units + purse.held_units + units > purse.cap_units
            or purse.tokens + purse.held_tokens + tokens > purse.cap_tokens
            or purse.questions + purse.held_questions >= purse.cap_questions
        ):
            _refuse(purse, tokens, units)
        purse.held_units += units
        purse.held_tokens += tokens
        purse.held_questions += 1
        return Reservation(n_input_estimate, max_output, units)

    def settle(
        self, reservation: Reservation, input_tokens: int | None, output_tokens: int | None
    ) -> None:
        """Pay for an answer, and free what was held for it.

        Args:
            reservation: as `reserve` gave it.
            input_tokens: as billed; None takes what was held, the worst case.
            output_tokens: as billed; None takes what was held.

        Raises:
            InvalidInputError: it was settled or released before.
        """
        n_input, max_output = reservation.n_input, reservation.max_output
        self._close(reservation)
        paid_in = n_input if input_tokens is None else input_tokens
        paid_out = max_output if output_tokens is None else output_tokens
        over = paid_in + paid_out - n_input - max_output
        if over > 0:
            self._purse.overdrawn += over
        self._pay(paid_in, paid_out)

    def release(self, reservation: Reservation) -> None:
        """Free what was held for a question that nobody will bill.

        Args:
            reservation: as `reserve` gave it.

        Raises:
            InvalidInputError: it was settled or released before.
        """
        self._close(reservation)

    def restore(self, exchanges: Iterable[Exchange]) -> int:
        """Charge what an earlier process of the run bought, from its record.

        Billed is what the tag `charged` says where the bill is unknown, else what has token counts,
        or an answer (bounded by its texts), or status 200 (cut off: up to its limit). What a batch
        answered (tag `batch`) costs the batch price.

        Args:
            exchanges: every attempt on record, in any order.

        Returns:
            Answers that were charged (count).
        """
        batched = None
        count = 0
        for exchange in exchanges:
            counts = _billed(exchange)
            if counts is None:
                continue
            ledger = self
            if BATCH_TAG in exchange.tags and self.price is not None:
                batched = batched or self.priced(self.price.batched())
                ledger = batched
            ledger._pay(*counts)
            count += 1
        return count

    @property
    def spent(self) -> Spend:
        """What is paid and held now, over all views of the purse."""
        purse = self._purse
        known = not purse.unpriced
        return Spend(
            questions=purse.questions,
            input_tokens=purse.input_tokens,
            output_tokens=purse.output_tokens,
            usd=usd_of(purse.units) if known else None,
            micro_usd=micro_usd_of(purse.units) if known else None,
            in_flight=purse.held_questions,
            held_tokens=purse.held_tokens,
            held_usd=usd_of(purse.held_units) if known else None,
            overdrawn_tokens=purse.overdrawn,
        )

    def affords(self, n_input_estimate: int, max_output: int) -> int | None:
        """Say how many more questions of one size fit at their worst, beside what is in flight.

        Args:
            n_input_estimate: input tokens of each (count).
            max_output: output tokens of each, at most (count).

        Returns:
            Questions (count), or None when nothing is capped.
        """
        purse = self._purse
        tokens = n_input_estimate + max_output
        units = self._units(n_input_estimate, max_output)
        room = [purse.cap_questions - purse.questions - purse.held_questions]
        if tokens and purse.cap_tokens != _NO_CAP:
            room.append((purse.cap_tokens - purse.tokens - purse.held_tokens) // tokens)
        if units and purse.cap_units != _NO_CAP:
            room.append((purse.cap_units - purse.units - purse.held_units) // units)
        least = max(0, min(room))
        return None if least >= _NO_CAP // 2 else least

    def _set_price(self, price: Price | None) -> None:
        if price is None and self.budget.usd is not None:
            hint = "write [prices] input = and output =, in dollars per million tokens"
            rule = "a budget in tokens or questions for a model without a known price"
            reject("[budget]", "usd", rule, got=str(self.budget.usd), hint=hint)
        self.price = price
        self._in, self._out = price.rates() if price else (0, 0)
        self._long: tuple[int, int, int] | None = None
        if price and price.long_above is not None:
            self._long = (price.long_above, *price.rates(is_long=True))
        self._purse.unpriced = self._purse.unpriced or price is None

    def _units(self, input_tokens: int, output_tokens: int) -> int:
        """What `Price.units` says, from rates that were looked up once."""
        rate_in, rate_out = self._in, self._out
        if self._long is not None and input_tokens > self._long[0]:
            _, rate_in, rate_out = self._long
        return input_tokens * rate_in + output_tokens * rate_out

    def _pay(self, input_tokens: int, output_tokens: int) -> None:
        purse = self._purse
        purse.units += self._units(input_tokens, output_tokens)
        purse.tokens += input_tokens + output_tokens
        purse.input_tokens += input_tokens
        purse.output_tokens += output_tokens
        purse.questions += 1

    def _close(self, reservation: Reservation) -> None:
        if not reservation.is_open:
            reject("Ledger", "reservation", "settled or released once", got="closed already")
        reservation.is_open = False
        purse = self._purse
        purse.held_units -= reservation.units
        purse.held_tokens -= reservation.n_input + reservation.max_output
        purse.held_questions -= 1


def charged_text(n_input: int, n_output: int) -> str:
    """Write what an attempt is charged with, for the tag `charged`.

    Args:
        n_input: input tokens (count).
        n_output: output tokens (count).

    Returns:
        For example "120+512".
    """
    return f"{n_input}+{n_output}"


def _billed(exchange: Exchange) -> tuple[int, int] | None:
    """What an attempt was billed (tokens in, tokens out), or None when it cost nothing."""
    told = exchange.tags.get(CHARGED_TAG, "").partition("+")
    if told[0].isdecimal() and told[2].isdecimal():
        return int(told[0]), int(told[2])
    n_input, n_output = exchange.input_tokens, exchange.output_tokens
    is_told = n_input is not None or n_output is not None or bool(exchange.answers)
    if not is_told and exchange.status != _ANSWERED:
        return None
    if n_input is None:
        n_input = messages_bound(exchange.messages)
    if n_output is None:
        # An answer that was cut off may have been billed up to its limit.
        n_output = answers_bound(exchange.answers) if is_told else _limit(exchange)
    return n_input, n_output


def _limit(exchange: Exchange) -> int:
    found = (exchange.parameters.get(name) for name in OUTPUT_LIMITS)
    return next((value for value in found if isinstance(value, int)), 0)


def _unlimited(budget: BudgetTable) -> int:
    if budget.tokens is None and budget.usd is None:
        return 0
    hint = "write max_tokens (or the wire's own name) in [teacher.parameters]"
    rule = "limited where a budget of tokens or dollars must hold"
    return reject("Ledger.reserve", "max_output", rule, got=None, hint=hint)


def _refuse(purse: _Purse, tokens: int, units: int) -> NoReturn:
    reached = []
    if purse.questions >= purse.cap_questions:
        reached.append(f"{purse.questions:,} of {purse.cap_questions:,} questions")
    if purse.tokens + tokens > purse.cap_tokens:
        reached.append(f"{purse.tokens:,} of {purse.cap_tokens:,} tokens")
    if purse.units + units > purse.cap_units:
        spent, cap = usd_of(purse.units), usd_of(purse.cap_units)
        reached.append(f"${spent:,.4f} of ${cap.normalize():,f}")
    if not reached:
        message = "the budget is held by questions in flight"
        raise BudgetHeldError(message, hint="settle some of them, then reserve again")
    message = f"the budget is reached: {', '.join(reached)} spent"
    hint = "what was bought is kept; raise [budget] and run again to go on from here"
    raise BudgetReachedError(message, hint=hint)
