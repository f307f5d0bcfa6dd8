"""Units of measure that convert into each other, by all the names that people give them."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple


class Dimension(NamedTuple):
    """What a unit measures.

    Attributes:
        name: units of one name convert into each other.
        factor: how many base units one is.
    """

    name: str
    factor: Fraction


#: (dimension, factor, names): units that take no prefix.
_PLAIN = (
    ("time", "60", "min mins minute minutes"),
    ("time", "3600", "h hr hrs hour hours"),
    ("time", "86400", "day days"),
    ("time", "604800", "week weeks"),
    ("mass", "1000000", "t tonne tonnes"),
    ("mass", "45359237/100000", "lb lbs pound pounds"),
    ("mass", "45359237/1600000", "oz ounce ounces"),
    ("length", "254/10000", "inch inches"),
    ("length", "3048/10000", "ft foot feet"),
    ("length", "9144/10000", "yd yard yards"),
    ("length", "1609344/1000", "mi mile miles"),
    ("ratio", "1/100", "% percent percents pct"),
    ("angle", "1", "\u00b0 deg degree degrees"),
    ("celsius", "1", "\u00b0c celsius"),
    ("fahrenheit", "1", "\u00b0f fahrenheit"),
    ("usd", "1", "$ usd dollar dollars"),
    ("usd", "1/100", "cent cents \u00a2"),
    ("eur", "1", "\u20ac eur euro euros"),
    ("gbp", "1", "\u00a3 gbp"),
    ("jpy", "1", "\u00a5 jpy yen"),
    ("area", "1", "m^2 sqm"),
    ("area", "1000000", "km^2"),
    ("area", "1/10000", "cm^2"),
    ("cubic", "1", "m^3"),
    ("cubic", "1/1000000", "cm^3"),
    ("speed", "1", "m/s"),
    ("speed", "1000/3600", "km/h kph kmh"),
    ("speed", "1609344/3600000", "mph"),
)
#: (dimension, symbols, words): units that take the prefixes below.
_METRIC = (
    ("length", "m", "meter meters metre metres"),
    ("mass", "g", "gram grams gramme grammes"),
    ("volume", "l L", "liter liters litre litres"),
    ("energy", "J", "joule joules"),
    ("power", "W", "watt watts"),
    ("volt", "V", "volt volts"),
    ("ampere", "A", "ampere amperes amp amps"),
    ("hertz", "Hz", "hertz"),
    ("newton", "N", "newton newtons"),
    ("pascal", "Pa", "pascal pascals"),
    ("mole", "mol", "mole moles"),
    ("time", "s sec secs", "second seconds"),
)
_PREFIXES = (
    ("", "", "1"),
    ("k", "kilo", "1000"),
    ("c", "centi", "1/100"),
    ("m", "milli", "1/1000"),
    ("\u00b5", "micro", "1/1000000"),
    ("n", "nano", "1/1000000000"),
)


def _by_name() -> dict[str, Dimension]:
    table = {
        name: Dimension(dimension, Fraction(factor))
        for dimension, factor, names in _PLAIN
        for name in names.split()
    }
    for dimension, symbols, words in _METRIC:
        for symbol_prefix, word_prefix, factor in _PREFIXES:
            own = Dimension(dimension, Fraction(factor))
            table |= {symbol_prefix + symbol: own for symbol in symbols.split()}
            table |= {word_prefix + word: own for word in words.split()}
    return table


UNITS = _by_name()


def dimension_of(unit: str) -> Dimension | None:
    """Look a unit up.

    Args:
        unit: as it is written; case counts for symbols only.

    Returns:
        What it measures, or None for a word that is no unit we know ("apples").

    Example:
        >>> dimension_of("kilometres")
        Dimension(name='length', factor=Fraction(1000, 1))
    """
    return UNITS.get(unit) or UNITS.get(unit.lower())
