"""Reads regular expressions of the part that the common engines agree on.

Sets, classes, groups, alternatives, counts, anchors, word boundaries and the flags i, m, s. What
lies beyond (look-around, back references, atomic groups, possessive counts, conditionals) raises
`BeyondError`: whoever compares must then say that it does not know. The meaning is that of Python.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

#: Expressions longer than this are not read.
_LONGEST = 2000
#: Counts above this are not unrolled.
_MOST_REPEATS = 1000
_LAST = 0x10FFFF


class BeyondError(Exception):
    """The expression uses what this reader does not compare."""


class Charset(NamedTuple):
    """A set of characters.

    Attributes:
        spans: (first, last) code points, sorted, apart.
        classes: names of Unicode-wide classes in it: d, w, s and their complements D, W, S.
        negated: everything else instead.
    """

    spans: tuple[tuple[int, int], ...] = ()
    classes: str = ""
    negated: bool = False


class Anchor(NamedTuple):
    """A place without width.

    Attributes:
        kind: start, end, line_start, line_end, last_line_end, boundary, no_boundary.
    """

    kind: str


class Sequence(NamedTuple):
    """One after the other.

    Attributes:
        parts: the parts, in order.
    """

    parts: tuple[Node, ...]


class Choice(NamedTuple):
    """One of several.

    Attributes:
        options: at least one.
    """

    options: tuple[Node, ...]


class Repeat(NamedTuple):
    """Several times.

    Attributes:
        part: what is repeated.
        least: fewest times (count).
        most: most times (count), None without end.
    """

    part: Node
    least: int
    most: int | None


Node: TypeAlias = "Charset | Anchor | Sequence | Choice | Repeat"

_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}
_ANCHORS = {"A": "start", "Z": "end", "b": "boundary", "B": "no_boundary"}
_COUNT = re.compile(r"\{(\d*)(,?)(\d*)\}")
_FLAGS = re.compile(r"\(\?([a-zA-Z]+)\)")
_NAME = re.compile(r"\(\?P<[A-Za-z_]\w*>|\(\?:")


def parse(expression: str) -> Node:
    """Read an expression.

    Args:
        expression: its text.

    Returns:
        Its tree.

    Raises:
        BeyondError: it uses what this reader does not compare, or is too large.
        re.error: it is no regular expression.
    """
    if len(expression) > _LONGEST:
        raise BeyondError("it is too long")  # noqa: EM101 - a reason, read by the caller
    with warnings.catch_warnings():
        # Python warns where a future meaning may differ: two meanings are one too many to compare.
        warnings.simplefilter("error", FutureWarning)
        try:
            re.compile(expression)
        except FutureWarning as warning:
            raise BeyondError("it is ambiguous") from warning  # noqa: EM101
        except (OverflowError, RecursionError) as error:
            raise BeyondError("it is too large") from error  # noqa: EM101
    return _Parser(expression).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._place = 0
        self._flags: set[str] = set()

    def whole(self) -> Node:
        found = _FLAGS.match(self._text)
        if found:
            self._flags = set(found[1])
            if self._flags - set("imsu"):
                raise BeyondError("it sets a flag that is not compared")  # noqa: EM101
            self._place = found.end()
        return self._choice()

    def _peek(self) -> str:
        return self._text[self._place : self._place + 1]

    def _take(self) -> str:
        taken = self._text[self._place]
        self._place += 1
        return taken

    def _choice(self) -> Node:
        options = [self._sequence()]
        while self._peek() == "|":
            self._place += 1
            options.append(self._sequence())
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while self._peek() not in {"", "|", ")"}:
            parts.append(self._counted(self._atom()))
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def _counted(self, part: Node) -> Node:
        counts = self._count()
        if counts is None:
            return part
        if self._peek() == "+":
            raise BeyondError("it has a possessive count")  # noqa: EM101
        if self._peek() == "?":
            self._place += 1  # lazy: the same texts, found in another order
        least, most = counts
        if max(least, most or 0) > _MOST_REPEATS:
            raise BeyondError("it counts too far")  # noqa: EM101
        return Repeat(part, least, most)

    def _count(self) -> tuple[int, int | None] | None:
        short: dict[str, tuple[int, int | None]] = {"?": (0, 1), "*": (0, None), "+": (1, None)}
        mark = self._peek()
        if mark in short:
            self._place += 1
            return short[mark]
        found = _COUNT.match(self._text, self._place) if mark == "{" else None
        if not found or not (found[1] or found[3]):
            return None  # a brace that counts nothing is a brace
        self._place = found.end()
        least = int(found[1] or 0)
        if not found[2]:
            return least, least
        return least, int(found[3]) if found[3] else None

    def _atom(self) -> Node:
        mark = self._take()
        if mark in set("([\\"):
            return {"(": self._group, "[": self._bracket, "\\": self._escape}[mark]()
        lines = "m" in self._flags
        anchors = {"^": "line_start" if lines else "start"}
        anchors["$"] = "line_end" if lines else "last_line_end"
        if mark in anchors:
            return Anchor(anchors[mark])
        if mark == ".":
            return Charset(((10, 10),) if "s" not in self._flags else (), negated=True)
        return self._literal(mark)

    def _group(self) -> Node:
        if self._peek() == "?":
            named = _NAME.match(self._text, self._place - 1)
            if named is None:
                raise BeyondError("it looks around, refers back or sets flags inside")  # noqa: EM101
            self._place = named.end()
        inside = self._choice()
        self._place += 1  # the closing bracket: re.compile has seen that it is there
        return inside

    def _literal(self, mark: str) -> Charset:
        return Charset(self._cased([(ord(mark), ord(mark))]))

    def _cased(self, spans: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
        """Both cases under the flag i; only ASCII, where every engine agrees."""
        if "i" in self._flags:
            if any(last > 127 for _, last in spans):
                raise BeyondError("it ignores case beyond ASCII")  # noqa: EM101
            for shift, low, high in ((-32, 97, 122), (32, 65, 90)):
                spans = spans + [
                    (max(first, low) + shift, min(last, high) + shift)
                    for first, last in spans
                    if first <= high and last >= low
                ]
        return tuple(_joined(spans))

    def _escape(self) -> Node:
        name = self._peek()
        if name in _ANCHORS:
            self._place += 1
            return Anchor(_ANCHORS[name])
        if name and name in "dDwWsS":
            self._place += 1
            return Charset(classes=name)
        if name and name in "123456789":
            raise BeyondError("it refers back")  # noqa: EM101
        return self._literal(self._escaped())

    def _escaped(self) -> str:
        """Read the one character that an escape stands for; the backslash is taken."""
        name = self._take()
        if name in _CONTROLS:
            return _CONTROLS[name]
        digits = {"x": 2, "u": 4, "U": 8}.get(name)
        if digits:
            code = self._text[self._place : self._place + digits]
            self._place += digits
            return chr(int(code, 16))
        if name == "0":
            octal = re.compile("[0-7]{0,2}").match(self._text, self._place)
            assert octal is not None
            self._place = octal.end()
            return chr(int("0" + octal[0], 8))
        if name.isalnum():
            raise BeyondError("it has an escape that is not compared")  # noqa: EM101
        return name

    def _bracket(self) -> Charset:
        negated = self._peek() == "^"
        self._place += negated
        spans: list[tuple[int, int]] = []
        classes = ""
        first = True
        while first or self._peek() != "]":
            first = False
            low = self._member()
            if len(low) == 2:
                classes += low[1]
                continue
            high = low
            if self._peek() == "-" and self._text[self._place + 1 : self._place + 2] != "]":
                self._place += 1
                high = self._member()
            spans.append((ord(low), ord(high)))
        self._place += 1
        return Charset(self._cased(spans), "".join(sorted(set(classes))), negated)

    def _member(self) -> str:
        """Read one character, or a class as a backslash and its letter."""
        mark = self._take()
        if mark != "\\":
            return mark
        if self._peek() in set("dDwWsS"):
            return "\\" + self._take()
        if self._peek() == "b":
            self._place += 1
            return "\b"
        if self._peek() in set("1234567"):
            raise BeyondError("it has an octal escape")  # noqa: EM101
        return self._escaped()


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def contains(charset: Charset, code: int, *, is_class: Callable[[str, int], bool]) -> bool:
    """Say whether a set holds a character.

    Args:
        charset: the set.
        code: code point.
        is_class: says whether a character is of class d, w or s.

    Returns:
        True when it does.
    """
    inside = any(first <= code <= last for first, last in charset.spans) or any(
        is_class(name.lower(), code) == name.islower() for name in charset.classes
    )
    return inside != charset.negated
