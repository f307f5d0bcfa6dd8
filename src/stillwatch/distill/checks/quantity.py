r"""Numbers as people and models write them, read exactly.

"1,234.5", "1 234,5 km", "3/4", "2 1/2", "-1.5e3", "50 %", "$1{,}000", "\frac{3}{4}": each becomes a
fraction (no float error) and a unit. Where a mark can be read in two ways, the way is said here:
a single comma before exactly three digits parts thousands ("1,234"), any other single comma is a
decimal mark ("3,14"); a dot is always a decimal mark unless commas or several dots say otherwise.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from typing import NamedTuple

#: More digits than any number written with a decimal mark has.
EXACT = 1000
#: Powers beyond this are not computed: "1e999999999" must not fill the memory.
_LARGEST_POWER = 400
#: Digits beyond this are no number but an identifier.
_MOST_DIGITS = 200


class Quantity(NamedTuple):
    """A number with its unit.

    Attributes:
        value: the number in front of the unit, exact.
        unit: the unit as it was written, lower case for words; "" for none.
        decimals: digits after the decimal mark as written (count); for a fraction `EXACT`.
    """

    value: Fraction
    unit: str = ""
    decimals: int = 0


_CURRENCY = "$\u20ac\u00a3\u00a5"
_NUMBER = (
    r"(?:\d{1,3}(?:[ '_\u202f\u00a0]\d{3})+(?![\d])(?:[.,]\d+)?"  # 1 234 567,8
    r"|\d[\d,._]*\d|\d|[.,]\d+)"
    r"(?:\s?(?:[eE]|[x*\u00d7]\s?10\s?(?:\^|\*\*))\s?\{?[+-]?\d+\}?)?"
)
_UNIT = (
    r"(?:%|\u00b0[cCfF]?|\u00a2|[" + _CURRENCY + r"]|"
    r"[A-Za-z\u00b5]+(?:/[A-Za-z]+|\^[23]|[\u00b2\u00b3])?)"
)
_QUANTITY = re.compile(
    rf"(?P<sign>[-+]\s?)?(?P<front>[{_CURRENCY}]\s?)?(?P<inner>[-+])?"
    rf"(?P<number>{_NUMBER})"
    rf"(?:\s+(?P<top>\d+)\s?/\s?(?P<bottom>\d+)|\s?/\s?(?P<over>[-+]?\d[\d.]*))?"
    rf"(?:\s?(?P<unit>{_UNIT}))?"
)
_POWER = re.compile(r"\s?(?:[eE]|[x*\u00d7]\s?10\s?(?:\^|\*\*))\s?\{?(?P<power>[+-]?\d+)\}?$")
_FRACTION = re.compile(
    r"(?P<whole>\d+)?\s*\\[dtc]?frac\s*"
    r"(?:\{\s*(?P<a>[-+]?[\d.,]+)\s*\}\s*\{\s*(?P<b>[-+]?[\d.,]+)\s*\}|(?P<c>\d)\s*(?P<d>\d))"
)
_SPACING = re.compile(r"\\[,;:! ]|\\(?:quad|qquad|left|right|displaystyle)\b|\{,\}|~")
_TEXT = re.compile(r"\\(?:text|mathrm|mathbf|textbf|operatorname|unit|mbox)\s*\{([^{}]*)\}")
_LETTERS = re.compile(r"[^\W\d_]$")


def plain(text: str) -> str:
    r"""Write the marks of LaTeX and of typographers as plain ones.

    Args:
        text: any text.

    Returns:
        The text, NFKC, with fractions as "(a)/(b)" written "a/b" and thousands' thin spaces gone.

    Example:
        >>> plain(r"$-\frac{3}{4}\,\text{km}$")
        '-3/4 km'
    """
    text = text.replace("{,}", ",").replace("\\,", "\u202f").replace("\\%", "%")
    text = text.replace("\\$", "$").replace("\u00b2", "^2").replace("\u00b3", "^3")
    text = _FRACTION.sub(_plain_fraction, _TEXT.sub(r" \1", text))
    text = _SPACING.sub(" ", text.replace("\\times", "\u00d7").replace("\\cdot", "\u00d7"))
    text = text.replace("^\\circ", "\u00b0").replace("^{\\circ}", "\u00b0")
    # NFKC makes a plain space of the thin ones, which is wanted only after thousands were seen.
    text = re.sub(r"(?<=\d)[\u202f\u2009\u00a0](?=\d{3}(?!\d))", "", text)
    text = unicodedata.normalize("NFKC", text.replace("\u00b5", "\u03bc")).replace(
        "\u03bc", "\u00b5"
    )
    text = text.replace("\u2212", "-").replace("\u2044", "/").replace("\u2013", "-")
    # A formula's own dollars are no currency: "$42$" and "$x = 42$".
    text = re.sub(r"\$([^$\n]*)\$", r"\1", text)
    return re.sub(r"[ \t]+", " ", text).strip()


def _plain_fraction(found: re.Match[str]) -> str:
    top, bottom = found["a"] or found["c"], found["b"] or found["d"]
    whole = f"{found['whole']} " if found["whole"] else ""
    return f"{whole}{top}/{bottom}"


def read_number(text: str, *, decimal_comma: bool = False) -> tuple[Fraction, int] | None:
    """Read one number without sign and unit.

    Args:
        text: digits with separators, perhaps with a power of ten.
        decimal_comma: the comma is the decimal mark and the dot parts thousands, always.

    Returns:
        The value and its decimals, or None for what is no number.

    Example:
        >>> read_number("1,234.50"), read_number("3,14"), read_number("1.234,5", decimal_comma=True)
        ((Fraction(2469, 2), 2), (Fraction(157, 50), 2), (Fraction(2469, 2), 1))
    """
    found = _POWER.search(text)
    power = int(found["power"][:6]) if found else 0
    digits = re.sub(r"[ '_\u202f\u00a0]", "", text[: found.start()] if found else text)
    digits = _one_decimal_mark(digits, decimal_comma=decimal_comma)
    whole, _, rest = digits.partition(".")
    if not (whole + rest).isascii() or not (whole + rest).isdigit():
        return None
    if abs(power) > _LARGEST_POWER or len(whole + rest) > _MOST_DIGITS:
        return None
    value = Fraction(int(whole + rest), 10 ** len(rest)) * Fraction(10) ** power
    return value, max(len(rest) - power, 0)


def _one_decimal_mark(digits: str, *, decimal_comma: bool) -> str:
    """Bring a number to digits with at most one dot; what fits no reading keeps its marks."""
    if decimal_comma:
        return digits.replace(".", "").replace(",", ".")
    commas, dots = digits.count(","), digits.count(".")
    if commas and dots:
        # The mark that stands last is the decimal one.
        if digits.rindex(",") > digits.rindex("."):
            return digits.replace(".", "").replace(",", ".") if commas == 1 else digits
        return digits.replace(",", "") if dots == 1 else digits
    if dots > 1:
        return digits.replace(".", "") if re.fullmatch(r"\d{1,3}(\.\d{3})+", digits) else digits
    if commas == 1 and not re.fullmatch(r"\d{1,3},\d{3}", digits):
        return digits.replace(",", ".")
    grouped = re.fullmatch(r"\d{1,3}(,\d{2,3})*,\d{3}", digits)
    return digits.replace(",", "") if grouped else digits


def quantities(text: str, *, decimal_comma: bool = False) -> list[Quantity]:
    """Find every number of a text, in order.

    Args:
        text: as `plain` gives it.
        decimal_comma: as for `read_number`.

    Returns:
        The numbers; those inside words ("x2", "v1.0b") are left out.
    """
    found = []
    for match in _QUANTITY.finditer(text):
        before = text[match.start() - 1] if match.start() else " "
        if _LETTERS.match(before) or before == "_":
            continue
        one = _quantity(match, decimal_comma=decimal_comma)
        if one is not None:
            # "3-4" is a range or a difference: the dash is a sign only after what is no number.
            if match["sign"] and (before.isdigit() or before == ")"):
                one = one._replace(value=abs(one.value))
            found.append(one)
    return found


def _quantity(match: re.Match[str], *, decimal_comma: bool) -> Quantity | None:
    read = read_number(match["number"].rstrip(".,"), decimal_comma=decimal_comma)
    if read is None:
        return None
    value, decimals = read
    if match["top"]:
        if int(match["bottom"]) == 0:
            return None
        value += Fraction(int(match["top"]), int(match["bottom"]))
    if match["over"]:
        below = read_number(match["over"].lstrip("+-").rstrip("."))
        if below is None or below[0] == 0:
            return None
        value /= -below[0] if match["over"].startswith("-") else below[0]
    if match["top"] or match["over"]:
        decimals = EXACT
    negative = "-" in (match["sign"] or "") or match["inner"] == "-"
    unit = (match["front"] or match["unit"] or "").strip()
    return Quantity(-value if negative else value, unit, decimals)
