"""The same number, however it is written, with the tolerance and the units that the run allows."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Literal

import msgspec

from stillwatch.distill.checks.judgement import NO_TRUTH, Judgement, PureCheck
from stillwatch.distill.checks.quantity import Quantity, plain, quantities
from stillwatch.distill.checks.units import dimension_of
from stillwatch.distill.items import Item

#: How an answer announces its result; the last one counts.
_ANNOUNCED = re.compile(
    r"(?:####|\b(?:final\s+answer|answer)\b\W{0,4}(?:is|are|=|:|equals)?)(?P<said>[^\n]*)",
    re.IGNORECASE,
)
#: Where the result is said and its reason begins.
_CLAUSE_END = re.compile(
    r"[.;!](?:\s|$)|,?\s\b(?:because|since|which|not|as|whereas)\b", re.IGNORECASE
)
_EQUALS = re.compile(r"[=\u2248]|\bequals\b|\bis\b", re.IGNORECASE)


class NumericOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `numeric`.

    Attributes:
        relative: how far off an answer may be, as a share of the truth.
        absolute: how far off it may be, in the truth's unit; the wider of the two holds.
        rounding: accept an answer that is the truth rounded to the answer's own decimals, and a
            truth that is the answer rounded to the truth's.
        units: "convert" (1 km is 1000 m, a missing unit is the truth's), "require" (as convert,
            and a truth with a unit wants one), or "ignore".
        decimal_comma: the comma is the decimal mark, always.
    """

    relative: float = 1e-9
    absolute: float = 0.0
    rounding: bool = False
    units: Literal["convert", "require", "ignore"] = "convert"
    decimal_comma: bool = False


class NumericCheck(PureCheck):
    """Compares numbers.

    Args:
        options: tolerance and units.
    """

    kind = "numeric"

    def __init__(self, options: NumericOptions) -> None:
        self._options = options
        self._relative = Fraction(options.relative)
        self._absolute = Fraction(options.absolute)

    def __call__(self, truth: str | None, answer: str, item: Item) -> Judgement:
        """Judge one answer.

        Args:
            truth: a number, perhaps with a unit, or None.
            answer: the answer's text; its result is taken as `result_of` says.
            item: not looked at.

        Returns:
            The judgement; unknown when the truth holds no number or several different ones.
        """
        if truth is None:
            return NO_TRUTH
        wanted = self._wanted(truth)
        if wanted is None:
            return Judgement(None, "the truth is not one number")
        said = result_of(answer, decimal_comma=self._options.decimal_comma)
        if said is None:
            return Judgement(False, "the answer holds no number")
        return self._compare(wanted, said)

    def _wanted(self, truth: str) -> Quantity | None:
        announced = boxed(truth) or _after(truth, "####")
        found = quantities(plain(announced or truth), decimal_comma=self._options.decimal_comma)
        return found[0] if len({(q.value, q.unit) for q in found}) == 1 else None

    def _compare(self, wanted: Quantity, said: Quantity) -> Judgement:
        target, value, problem = self._aligned(wanted, said)
        if problem:
            return Judgement(False, problem)
        if self._is_near(target, value):
            return Judgement(True, "the same number")
        if self._options.rounding and _is_rounded(target, value, wanted=wanted, said=said):
            return Judgement(True, "the same number, rounded")
        return Judgement(False, "another number")

    def _aligned(self, wanted: Quantity, said: Quantity) -> tuple[Fraction, Fraction, str]:
        """Bring both to one unit: the truth, the answer, and why they cannot be compared."""
        if self._options.units == "ignore":
            return wanted.value, said.value, ""
        ours, theirs = dimension_of(wanted.unit), dimension_of(said.unit)
        if ours is not None and theirs is not None:
            problem = "" if ours.name == theirs.name else "another unit"
            return wanted.value, said.value * theirs.factor / ours.factor, problem
        problem = ""
        if ours is not None and self._options.units == "require":
            problem = "the answer has no unit"
        return *self._one_bare(wanted, said), problem

    def _one_bare(self, wanted: Quantity, said: Quantity) -> tuple[Fraction, Fraction]:
        """Read a bare number in the other's unit, but for shares: 50 % is 50 and is one half."""
        ours, theirs = dimension_of(wanted.unit), dimension_of(said.unit)
        if ours is not None and ours.name == "ratio":
            share = wanted.value * ours.factor
            if wanted.value != said.value and self._is_near(share, said.value):
                return share, said.value
        # A truth with a word after it ("5 apples") leaves units open; a bare one does for shares.
        if theirs is not None and theirs.name == "ratio" and not wanted.unit:
            share = said.value * theirs.factor
            if wanted.value != said.value:
                return wanted.value, share
        return wanted.value, said.value

    def _is_near(self, target: Fraction, value: Fraction) -> bool:
        return abs(value - target) <= max(self._absolute, self._relative * abs(target))


def result_of(answer: str, *, decimal_comma: bool = False) -> Quantity | None:
    r"""Find the number that an answer gives as its result.

    In this order: the last \boxed{}; what follows the last "####" or "answer"; the last line that
    holds a number. Of an equation the number after its last equals sign counts.

    Args:
        answer: the answer's text.
        decimal_comma: as for `quantity.read_number`.

    Returns:
        The number, or None when there is none.

    Example:
        >>> result_of("3 boxes of 4 are 12. The answer is 12 apples, not 7.").value
        Fraction(12, 1)
    """
    box = boxed(answer)
    if box is not None:
        return _result_in(plain(box), decimal_comma)
    answer = answer.replace("**", "").replace("`", "")
    for match in reversed(list(_ANNOUNCED.finditer(answer))):
        said = _CLAUSE_END.split(plain(match["said"]))[0]
        if found := quantities(said, decimal_comma=decimal_comma):
            return _of_equation(said, decimal_comma) or found[0]
    for line in reversed(answer.splitlines()):
        if result := _result_in(plain(line), decimal_comma):
            return result
    return None


def _result_in(said: str, decimal_comma: bool) -> Quantity | None:
    found = quantities(said, decimal_comma=decimal_comma)
    return _of_equation(said, decimal_comma) or (found[-1] if found else None)


def boxed(text: str) -> str | None:
    r"""Give what stands in the last \boxed{}, braces inside it matched.

    Args:
        text: any text.

    Returns:
        The inside, or None when there is no whole box.

    Example:
        >>> boxed(r"so $\boxed{\frac{1}{2}}$")
        '\\frac{1}{2}'
    """
    start = max(text.rfind("\\boxed{"), text.rfind("\\fbox{"))
    if start < 0:
        return None
    start = text.index("{", start)
    depth = 0
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[start + 1 : place]
    return None


def _of_equation(said: str, decimal_comma: bool) -> Quantity | None:
    """Give the number after the last equals sign: "3 * 4 = 12" gives 12."""
    parts = _EQUALS.split(said)
    if len(parts) < 2:
        return None
    found = quantities(parts[-1], decimal_comma=decimal_comma)
    return found[0] if found else None


def _after(text: str, mark: str) -> str | None:
    _, found, rest = text.rpartition(mark)
    return rest if found else None


def _is_rounded(target: Fraction, value: Fraction, *, wanted: Quantity, said: Quantity) -> bool:
    fewer = min(wanted.decimals, said.decimals)
    # Half a step of the coarser of the two, its end included.
    return fewer < max(wanted.decimals, said.decimals) and abs(target - value) <= Fraction(
        1, 2 * 10**fewer
    )
