"""What a model's tokens cost: a dated table in the package, and the run's own figures over it.

Prices are decimals in dollars per million tokens, never binary floats: $0.15 is $0.15. A model that
neither the table nor the run knows has no price, which is not the price zero.
"""

from __future__ import annotations

import fnmatch
import re
import tomllib
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec

from stillwatch.errors import reject

#: Dollars are counted in femto-dollars (1e-15), of which a token at a price of nine decimals a
#: million costs a whole number: sums are exact integers.
UNITS_PER_USD = 10**15
_UNITS_PER_TOKEN = 10**9  # times dollars per million tokens
_MICRO = UNITS_PER_USD // 10**6
_MOST_DECIMALS = 6
# What a vendor puts behind the name of a family: 2025-01-31, 20250131, latest.
_ENDING = re.compile(r"-(\d{4}-\d{2}-\d{2}|20\d{6}|latest)$")


class Price(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one model's tokens cost, in dollars per million tokens.

    Attributes:
        model: the name, or the pattern, that was found.
        input: of the question.
        output: of the answer; reasoning tokens that are billed as output are output.
        batch_factor: what the vendor's batch API multiplies both by.
        long_above: questions of more input tokens than this cost `long_input` and `long_output`
            for all their tokens; None when the price is the same at every length.
        long_input: see `long_above`.
        long_output: see `long_above`.
        as_of: the day the figures were looked up, or None when the run gave them.
        source: where the figures are from: `table`, or `run`.
    """

    model: str
    input: Decimal
    output: Decimal
    batch_factor: Decimal = Decimal(1)
    long_above: int | None = None
    long_input: Decimal | None = None
    long_output: Decimal | None = None
    as_of: date | None = None
    source: str = "run"

    def batched(self) -> Price:
        """Give the price of the same tokens through the vendor's batch API."""
        factor = self.batch_factor
        return msgspec.structs.replace(
            self,
            input=self.input * factor,
            output=self.output * factor,
            long_input=None if self.long_input is None else self.long_input * factor,
            long_output=None if self.long_output is None else self.long_output * factor,
            batch_factor=Decimal(1),
        )

    def units(self, input_tokens: int, output_tokens: int) -> int:
        """Price one answer, exactly.

        Args:
            input_tokens: of the question (count).
            output_tokens: of the answer (count).

        Returns:
            Femto-dollars; `usd_of` makes dollars of them.
        """
        is_long = self.long_above is not None and input_tokens > self.long_above
        rate_in, rate_out = self.rates(is_long=is_long)
        return input_tokens * rate_in + output_tokens * rate_out

    def rates(self, *, is_long: bool = False) -> tuple[int, int]:
        """Give femto-dollars a token, of input and of output.

        Args:
            is_long: for questions beyond `long_above`.

        Returns:
            The two rates.
        """
        rate_in, rate_out = self.input, self.output
        if is_long:
            rate_in = self.input if self.long_input is None else self.long_input
            rate_out = self.output if self.long_output is None else self.long_output
        return int(rate_in * _UNITS_PER_TOKEN), int(rate_out * _UNITS_PER_TOKEN)


class PriceRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Prices of one model as a run gives them: dollars per million tokens, any decimals up to six.

    Attributes:
        input: of the question; both or neither of input and output.
        output: of the answer.
        batch_factor: what a batch API multiplies them by; None takes the table's, or 1.
    """

    input: Decimal | None = None
    output: Decimal | None = None
    batch_factor: Decimal | None = None

    def __post_init__(self) -> None:
        """Refuse half a price and negative ones."""
        _check_row(self, "[prices]")


class PriceTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[prices]` table of a run: what the teacher costs, and other models by name.

    Attributes:
        input: the teacher's, dollars per million tokens of question.
        output: the teacher's, dollars per million tokens of answer.
        batch_factor: what the teacher's batch API multiplies both by.
        models: `[prices.models."NAME"]` rows for a judge or a question writer; patterns with `*`.
    """

    input: Decimal | None = None
    output: Decimal | None = None
    batch_factor: Decimal | None = None
    models: Mapping[str, PriceRow] = {}

    def __post_init__(self) -> None:
        """Refuse half a price and negative ones."""
        _check_row(self, "[prices]")


def price_of(model: str, overrides: PriceTable | None = None) -> Price | None:
    """Find what a model costs.

    Args:
        model: its name at the endpoint.
        overrides: the run's `[prices]`; its rows by name come first, then its own figures, then
            the package's table.

    Returns:
        The price, or None for a model that nobody named: that is not zero.

    Example:
        >>> price_of("no-such-model") is None
        True
        >>> price_of("mine", PriceTable(input=Decimal("0.15"), output=Decimal("0.6"))).output
        Decimal('0.6')
    """
    listed = _listed(model)
    overrides = overrides or PriceTable()
    for pattern in _by_length(tuple(overrides.models)):
        if fnmatch.fnmatchcase(model, pattern):
            return _overridden(pattern, overrides.models[pattern], listed)
    return _overridden(model, overrides, listed)


def price_table_date() -> date:
    """Say when the package's table was last looked up as a whole."""
    day: date = _table()["as_of"]
    return day


def usd_of(units: int) -> Decimal:
    """Turn femto-dollars into dollars, exactly.

    Args:
        units: femto-dollars.

    Returns:
        Dollars.
    """
    return Decimal(units).scaleb(-15)


def micro_usd_of(units: int) -> int:
    """Turn femto-dollars into whole micro-dollars, rounded up: a budget is not flattered.

    Args:
        units: femto-dollars.

    Returns:
        Micro-dollars.
    """
    return -(-units // _MICRO)


def _overridden(name: str, row: PriceRow | PriceTable, listed: Price | None) -> Price | None:
    factor = row.batch_factor
    if row.input is not None and row.output is not None:
        if factor is None:
            factor = listed.batch_factor if listed else Decimal(1)
        return Price(model=name, input=row.input, output=row.output, batch_factor=factor)
    if listed is None or factor is None:
        return listed
    return msgspec.structs.replace(listed, batch_factor=factor)


def _listed(model: str) -> Price | None:
    rows = _rows()
    name = model.lower()
    # A dated or "latest" name that is not listed itself costs what its family does; a router's
    # `vendor/name` is the vendor's own model only under that vendor's name.
    for candidate in dict.fromkeys((name, _ENDING.sub("", name))):
        if candidate in rows:
            return rows[candidate]
    return None


@cache
def _by_length(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """The most particular pattern first: plain names, then the longest."""
    return tuple(sorted(patterns, key=lambda p: ("*" in p, -len(p), p)))


@cache
def _table() -> dict[str, Any]:
    asset = files("stillwatch.distill.money").joinpath("assets/prices.toml")
    return tomllib.loads(asset.read_text("utf-8"), parse_float=Decimal)


@cache
def _rows() -> dict[str, Price]:
    table = _table()
    rows = {}
    for vendor in table["vendor"]:
        shared = {
            "batch_factor": vendor.get("batch_factor", 1),
            "as_of": vendor.get("as_of", table["as_of"]),
            "source": "table",
        }
        for name, row in vendor["models"].items():
            price = msgspec.convert({**shared, **row, "model": name}, Price)
            rows[name] = rows[f"{vendor['prefix']}/{name}"] = price
    return rows


def _check_row(row: PriceRow | PriceTable, where: str) -> None:
    if (row.input is None) != (row.output is None):
        hint = "dollars per million tokens, both of them"
        reject(where, "input and output", "given together", got=(row.input, row.output), hint=hint)
    for name in ("input", "output", "batch_factor"):
        value: Decimal | None = getattr(row, name)
        if value is None:
            continue
        if not value.is_finite() or value < 0:
            reject(where, name, "a decimal of at least 0", got=str(value))
        places = 3 if name == "batch_factor" else _MOST_DECIMALS
        exponent = value.normalize().as_tuple().exponent
        if isinstance(exponent, int) and exponent < -places:
            reject(where, name, f"written with at most {places} decimals", got=str(value))
