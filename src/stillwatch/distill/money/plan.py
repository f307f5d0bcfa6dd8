"""What a run will ask, and what that may cost, before anything is sent.

Everything here is a bound or says that it is a guess. The high end is a true worst case (bytes
bound tokens, the output limit bounds answers); the likely one is taken from answers on record as
soon as there are some.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

import msgspec

from stillwatch.distill.asking.teacher import TeacherTable, identify, max_output
from stillwatch.distill.items import Item
from stillwatch.distill.money.budget import BudgetTable, Spend
from stillwatch.distill.money.prices import Price, PriceTable, price_of, price_table_date, usd_of
from stillwatch.distill.money.token_bounds import input_bound, input_estimate, tokens_estimate

__all__ = ["Pace", "Plan", "Range", "estimate", "tokens_estimate"]

#: Tokens of an answer before any was seen; the output limit when that is less.
_ANSWER_GUESS = 300


class Range(NamedTuple):
    """A figure between bounds.

    Attributes:
        low: at least.
        likely: about.
        high: at most; None when nothing bounds it.
    """

    low: float
    likely: float
    high: float | None


class Pace(NamedTuple):
    """What limits the speed of asking; None is no limit that is known.

    Attributes:
        requests_per_minute: a limit of the endpoint, or one's own.
        tokens_per_minute: the same for tokens, of questions and answers.
        concurrency: questions in flight.
        answer_s: seconds an answer takes; known after the first ones.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    concurrency: int | None = None
    answer_s: float | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run will ask.

    Attributes:
        questions: to be asked (count), those answered already left out.
        by_capability: questions of each capability, in the order in which they first come.
        input_tokens: of the questions (count).
        output_tokens: of the answers (count).
        usd: dollars; None without a price.
        usd_batch: dollars through the vendor's batch API; None where it is not cheaper.
        seconds: time to ask them; None when nothing is known that limits it.
        price: what was reckoned with.
        affordable: questions that the budget buys: at the worst case, and at the likely one; the
            first of them in order. None without a budget.
        binding: which cap ends the run at the likely cost: `usd`, `tokens`, `questions` or "".
        notes: what a reader must know, in sentences.
    """

    questions: int
    by_capability: dict[str, int]
    input_tokens: Range
    output_tokens: Range
    usd: Range | None
    usd_batch: Range | None
    seconds: Range | None
    price: Price | None
    affordable: tuple[int, int] | None
    binding: str
    notes: tuple[str, ...]


class _Sums:
    """Totals over the items, and where each cap would be reached."""

    def __init__(self, budget: BudgetTable, price: Price | None, answer: tuple[int, int | None]):
        self.n = self.low = self.likely = self.high = 0
        self.by_capability: dict[str, int] = {}
        self._answer_likely, self._answer_most = answer
        self._price = price
        self.units = {"low": 0, "likely": 0, "high": 0}
        self.reached: dict[str, dict[str, int]] = {"likely": {}, "high": {}}
        self._caps = {
            "questions": None if budget.questions is None else Decimal(budget.questions),
            "tokens": None if budget.tokens is None else Decimal(budget.tokens),
            "usd": budget.usd,
        }

    def add(self, item: Item, system: str) -> None:
        """Take in the next item to ask."""
        high = input_bound(item, system)
        likely = min(max(1, input_estimate(item, system)), high)
        self.n += 1
        self.by_capability[item.capability] = self.by_capability.get(item.capability, 0) + 1
        self.low += max(1, likely // 2)
        self.likely += likely
        self.high += high
        self._spend("low", max(1, likely // 2), 1)
        self._spend("likely", likely, self._answer_likely)
        self._spend("high", high, self._answer_most or 0)
        self._note("likely", self.likely + self.n * self._answer_likely)
        self._note("high", self.high + self.n * (self._answer_most or 0))

    def _spend(self, end: str, tokens_in: int, tokens_out: int) -> None:
        if self._price is not None:
            self.units[end] += self._price.units(tokens_in, tokens_out)

    def _note(self, end: str, tokens: int) -> None:
        """Keep how many questions had been asked when a cap was first passed."""
        used = {
            "questions": Decimal(self.n),
            "tokens": Decimal(tokens),
            "usd": usd_of(self.units[end]),
        }
        for name, cap in self._caps.items():
            if cap is not None and used[name] > cap:
                self.reached[end].setdefault(name, self.n - 1)


def estimate(
    items: Iterable[Item],
    teacher: TeacherTable,
    *,
    prices: PriceTable | None = None,
    budget: BudgetTable | None = None,
    pace: Pace | None = None,
    seen: Spend | None = None,
) -> Plan:
    """Estimate what asking costs; items may be a generator, they are read once.

    Args:
        items: what is still to be asked, in order.
        teacher: who is asked.
        prices: the run's `[prices]`.
        budget: the run's `[budget]`; what was spent before is taken off by `seen`.
        pace: what limits the speed.
        seen: what earlier questions cost (`Ledger.spent`); their mean replaces the guesses.

    Returns:
        The plan.
    """
    price = price_of(identify(teacher).model, prices)
    most = max_output(teacher)
    likely = _answer_tokens(most, seen)
    left = _left(budget or BudgetTable(), seen)
    sums = _Sums(left, price, (likely, most))
    for item in items:
        sums.add(item, teacher.system)
    usd = batch = None
    if price is not None:
        usd = _usd(sums, bounded=most is not None)
        batch = _scaled(usd, price.batch_factor) if price.batch_factor != 1 else None
    inputs = Range(sums.low, sums.likely, sums.high)
    outputs = Range(sums.n, sums.n * likely, None if most is None else sums.n * most)
    affordable, binding = _affordable(sums, left)
    return Plan(
        questions=sums.n,
        by_capability=sums.by_capability,
        input_tokens=inputs,
        output_tokens=outputs,
        usd=usd,
        usd_batch=batch,
        seconds=_seconds(sums.n, (inputs, outputs), pace or Pace()),
        price=price,
        affordable=affordable,
        binding=binding,
        notes=_notes(price, most, seen=seen, budget=left),
    )


def _answer_tokens(most: int | None, seen: Spend | None) -> int:
    """The likely tokens of an answer."""
    if seen is not None and seen.questions:
        return max(1, round(seen.output_tokens / seen.questions))
    return _ANSWER_GUESS if most is None else min(_ANSWER_GUESS, most)


def _left(budget: BudgetTable, seen: Spend | None) -> BudgetTable:
    if seen is None:
        return budget
    usd = budget.usd
    if usd is not None and seen.usd is not None:
        usd = max(Decimal(0), usd - seen.usd)
    tokens = None if budget.tokens is None else max(0, budget.tokens - seen.tokens)
    questions = None if budget.questions is None else max(0, budget.questions - seen.questions)
    return BudgetTable(usd=usd, tokens=tokens, questions=questions)


def _usd(sums: _Sums, *, bounded: bool) -> Range:
    low, likely, high = (float(usd_of(sums.units[end])) for end in ("low", "likely", "high"))
    return Range(low, likely, high if bounded else None)


def _scaled(usd: Range, factor: Decimal) -> Range:
    by = float(factor)
    return Range(usd.low * by, usd.likely * by, None if usd.high is None else usd.high * by)


def _affordable(sums: _Sums, budget: BudgetTable) -> tuple[tuple[int, int] | None, str]:
    if budget.usd is None and budget.tokens is None and budget.questions is None:
        return None, ""
    worst = min([sums.n, *sums.reached["high"].values()])
    at_likely = sums.reached["likely"]
    binding = min(at_likely, key=lambda name: at_likely[name], default="")
    return (worst, min([sums.n, *at_likely.values()])), binding


def _seconds(n: int, tokens: tuple[Range, Range], pace: Pace) -> Range | None:
    found = [
        _slowest(n, tokens_in + tokens_out, pace)
        for tokens_in, tokens_out in zip(*tokens, strict=True)
        if tokens_in is not None and tokens_out is not None
    ]
    if not found or not any(found):
        return None
    return Range(found[0], found[1], found[2] if len(found) > 2 else None)


def _slowest(n: int, tokens: float, pace: Pace) -> float:
    limits = [0.0]
    if pace.requests_per_minute:
        limits.append(n * 60 / pace.requests_per_minute)
    if pace.tokens_per_minute:
        limits.append(tokens * 60 / pace.tokens_per_minute)
    if pace.concurrency and pace.answer_s:
        limits.append(n * pace.answer_s / pace.concurrency)
    return max(limits)


def _notes(
    price: Price | None, most: int | None, *, seen: Spend | None, budget: BudgetTable
) -> tuple[str, ...]:
    notes = []
    if price is None:
        notes.append("no price is known for this model: write [prices] input and output")
        if budget.usd is not None:
            notes.append("a budget in dollars needs a price: the run will refuse to ask")
    elif price.as_of is not None:
        notes.append(f"the price is from the package's table of {price_table_date()}; check it")
    if most is None:
        notes.append("no limit on the answer's tokens: the worst case is unbounded")
        if budget.usd is not None or budget.tokens is not None:
            notes.append("a budget of dollars or tokens needs max_tokens in [teacher.parameters]")
    if seen is None or not seen.questions:
        notes.append(f"answers are taken as {_ANSWER_GUESS} tokens at most: none was asked yet")
    return tuple(notes)
