"""Numbers as a reader meets them: one way to write each kind, and one word for what is missing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

#: What stands where a number was not measured; never a zero.
MISSING = "not measured"
_TIMES = "\u00a0\u00d7\u00a0"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def dig(data: object, path: str) -> Any:
    """Follow a dotted path through nested mappings.

    Args:
        data: the outermost mapping.
        path: keys joined by dots.

    Returns:
        What stands there, or None when any step is missing.

    Example:
        >>> dig({"a": {"b": 3}}, "a.b"), dig({"a": None}, "a.b")
        (3, None)
    """
    for key in path.split("."):
        if not isinstance(data, Mapping):
            return None
        data = data.get(key)
    return data


def count(value: float | None) -> str:
    """Write a count with thousands separated.

    Args:
        value: a count, or None.

    Returns:
        The text.

    Example:
        >>> count(12345), count(None)
        ('12,345', 'not measured')
    """
    return MISSING if value is None else f"{value:,.0f}"


def rough(value: float | None) -> str:
    """Write an estimated count with two significant digits, which is all that it can bear.

    Args:
        value: an estimate, or None.

    Returns:
        The text.

    Example:
        >>> rough(1053.9)
        '1,100'
    """
    if value is None or value < 10:
        return count(value)
    step = 10 ** (math.floor(math.log10(value)) - 1)
    return f"{round(value / step) * step:,}"


def percent(value: float | None, digits: int = 0) -> str:
    """Write a share as a percentage; what rounds to 0 or 100 without being it keeps a digit.

    Args:
        value: share in 0..1, or None.
        digits: digits after the point.

    Returns:
        The text.

    Example:
        >>> percent(0.876), percent(0.996), percent(1.0), percent(0.344, 1)
        ('88%', '99.6%', '100%', '34.4%')
    """
    if value is None:
        return MISSING
    text = f"{100 * value:.{digits}f}"
    if float(text) in {0.0, 100.0} and value not in {0, 1}:
        text = f"{100 * value:.{digits + 1}f}"
    return f"{text}%"


def dollars(value: float | None) -> str:
    """Write money, with cents only where they matter.

    Args:
        value: US dollars, or None.

    Returns:
        The text.

    Example:
        >>> dollars(0.00423), dollars(3.5), dollars(12000)
        ('$0.0042', '$3.50', '$12,000')
    """
    if value is None:
        return MISSING
    if value == 0:
        return "$0"
    if abs(value) < 0.01:
        return f"${value:.2g}"
    return f"${value:,.2f}" if abs(value) < 100 else f"${value:,.0f}"


def seconds(value: float | None) -> str:
    """Write a duration in the unit that suits it.

    Args:
        value: seconds, or None.

    Returns:
        The text.

    Example:
        >>> seconds(0.004), seconds(80.1), seconds(171), seconds(7200)
        ('4 ms', '80 s', '2 min 51 s', '2.0 h')
    """
    if value is None:
        return MISSING
    if value == 0:
        return "0 s"
    if value < 1:
        return f"{1000 * value:.0f} ms"
    if value < 120:
        return f"{value:.0f} s"
    if value < 3600:
        return f"{value // 60:.0f} min {value % 60:.0f} s"
    return f"{value / 3600:.1f} h"


def p_text(p_value: float | None, log10_p: float | None = None) -> str:
    """Write a p-value, by its logarithm where a double has run out.

    Args:
        p_value: in 0..1, or None.
        log10_p: its decimal logarithm, or None.

    Returns:
        The text, without "p =".

    Example:
        >>> p_text(0.214), p_text(0.0, -1234.5).split()[2]
        ('0.21', '10⁻¹²³⁵')
    """
    if log10_p is None:
        if p_value is None:
            return MISSING
        log10_p = math.log10(p_value) if p_value > 0 else None
    if log10_p is None:
        return "below 10⁻³⁰⁸"
    if log10_p > -3:
        return f"{10**log10_p:.2g}"
    exponent = math.floor(log10_p)
    digit = round(10 ** (log10_p - exponent))
    if digit == 10:
        digit, exponent = 1, exponent + 1
    return f"{digit}{_TIMES}10{str(exponent).translate(_SUPERSCRIPT)}"


def one_in(log10_p: float | None) -> str:
    """Write a small probability as odds, for a reader who never met a p-value.

    Args:
        log10_p: decimal logarithm of the probability, or None.

    Returns:
        The text, to follow "a chance of".

    Example:
        >>> one_in(-2.0), one_in(-62.2)
        ('1 in 100', '1 in 10⁶²')
    """
    if log10_p is None:
        return MISSING
    if log10_p > -6:
        return f"1 in {rough(10**-log10_p)}"
    return f"1 in 10{str(math.floor(-log10_p)).translate(_SUPERSCRIPT)}"


def plural(n: float | None, word: str) -> str:
    """Write a count with its noun.

    Args:
        n: a count, or None.
        word: the noun in the singular, made plural by an s.

    Returns:
        The text.

    Example:
        >>> plural(1, "account"), plural(0, "account")
        ('1 account', '0 accounts')
    """
    return f"{count(n)} {word}{'' if n == 1 else 's'}"
