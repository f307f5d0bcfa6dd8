"""English to regular expressions: the grammar that asks, and the equivalence that judges.

A description is one to three pieces, each a character class with a count ("two to four capital
letters"), perhaps tied to the start or the end of a line. The expressions live in a fragment small
enough to compare by meaning: sequences of (set, least, most), where equal neighbours add up.
"""

from __future__ import annotations

import string
from typing import NamedTuple

import numpy as np

_DIGITS, _LOWER, _UPPER = string.digits, string.ascii_lowercase, string.ascii_uppercase


class _Class(NamedTuple):
    one: str
    many: str
    pattern: str


_CLASSES = (
    _Class("a digit", "digits", r"\d"),
    _Class("a capital letter", "capital letters", "[A-Z]"),
    _Class("a small letter", "small letters", "[a-z]"),
    _Class("a letter", "letters", "[A-Za-z]"),
    _Class("a vowel", "vowels", "[aeiou]"),
    _Class("a word character", "word characters", r"\w"),
    _Class("an underscore", "underscores", "_"),
    _Class("a comma", "commas", ","),
    _Class("a dot", "dots", r"\."),
    _Class("a colon", "colons", ":"),
    _Class("a dash", "dashes", "-"),
    _Class("a slash", "slashes", "/"),
)
_COUNTS = ("two", "three", "four", "five", "six", "seven", "eight")
#: (template, start anchor, end anchor, joint); a form is an index into it.
FORMS = (
    ("regex for {}", "", "", ", then "),
    ("match {}", "", "", " and then "),
    ("{} as a regex", "", "", " followed by "),
    ("regex: {}", "", "", ", "),
    ("pattern of {}", "", "", " plus "),
    ("a line starting with {}", "^", "", ", then "),
    ("a line ending with {}", "", "$", ", then "),
    ("a line of only {}", "^", "$", ", then "),
)
_LONGEST = 64


def draw_regex(rng: np.random.Generator, form: int) -> tuple[str, str]:
    """Draw a description and its expression.

    Args:
        rng: where the draws come from.
        form: index into `FORMS`.

    Returns:
        The question and the canonical expression.
    """
    template, start, end, joint = FORMS[form]
    while True:
        n_pieces = int(rng.choice([1, 2, 3], p=[0.2, 0.5, 0.3]))
        chosen = rng.choice(len(_CLASSES), size=n_pieces, replace=False)
        pieces = [_draw_piece(rng, _CLASSES[i]) for i in chosen]
        question = template.format(joint.join(words for words, _ in pieces))
        if len(question) <= _LONGEST:
            return question, start + "".join(pattern for _, pattern in pieces) + end


#: (words, quantifier, weight): {low} and {high} are drawn, {one} and {many} name the class.
_STYLES = (
    ("{one}", "", 0.26),
    ("{low_word} {many}", "{{{low}}}", 0.26),
    ("some {many}", "+", 0.12),
    ("any {many}", "*", 0.1),
    ("maybe {one}", "?", 0.1),
    ("at least {low_word} {many}", "{{{low},}}", 0.08),
    ("{low_word} to {high_word} {many}", "{{{low},{high}}}", 0.08),
)


def _draw_piece(rng: np.random.Generator, kind: _Class) -> tuple[str, str]:
    words, quantifier, _ = _STYLES[rng.choice(len(_STYLES), p=[w for _, _, w in _STYLES])]
    low = int(rng.integers(2, 7))
    high = int(rng.integers(low + 1, 9))
    facts = {
        "one": kind.one, "many": kind.many, "low": low, "high": high,
        "low_word": _COUNTS[low - 2], "high_word": _COUNTS[high - 2],
    }  # fmt: skip
    return words.format(**facts), kind.pattern + quantifier.format(**facts)


class Piece(NamedTuple):
    """A run of characters out of one set.

    Attributes:
        characters: the set.
        least: fewest repeats (count).
        most: most repeats (count), None without end.
    """

    characters: frozenset[str]
    least: int
    most: int | None


class Meaning(NamedTuple):
    """What an expression of the fragment matches.

    Attributes:
        at_start: tied to the start of the line.
        pieces: the runs, no two neighbours with the same set.
        at_end: tied to the end of the line.
    """

    at_start: bool
    pieces: tuple[Piece, ...]
    at_end: bool


def is_same_regex(left: str, right: str) -> bool:
    r"""Say whether two expressions are equal or provably match the same (ASCII) text.

    Sound, not complete: two that differ only beyond the fragment (groups, alternatives,
    overlapping neighbours) count as different.

    Args:
        left: an expression.
        right: another.

    Returns:
        True when they mean the same.

    Example:
        >>> is_same_regex(r"[0-9][0-9]+", r"\d{2,}"), is_same_regex(r"\d{2}", r"\d{3}")
        (True, False)
    """
    if left == right:
        return True
    one, other = meaning(left), meaning(right)
    return one is not None and one == other


def meaning(expression: str) -> Meaning | None:
    """Read an expression of the fragment.

    Args:
        expression: sets, escapes and plain characters with `? * + {n} {n,} {,m} {n,m}`, and
            anchors at the ends.

    Returns:
        Its meaning, or None when it is not of the fragment.
    """
    at_start, at_end = expression.startswith("^"), expression.endswith("$")
    at_end = at_end and not expression.endswith(r"\$")
    body = expression[at_start : len(expression) - at_end]
    pieces: list[Piece] = []
    place = 0
    while place < len(body):
        characters, place = _read_set(body, place)
        counts, place = _read_count(body, place)
        if not characters or counts is None:
            return None
        least, most = counts
        if pieces and pieces[-1].characters == characters:
            before = pieces.pop()
            least += before.least
            most = None if most is None or before.most is None else most + before.most
        pieces.append(Piece(characters, least, most))
    return Meaning(at_start, tuple(p for p in pieces if p.most != 0), at_end)


_ESCAPES = {"d": frozenset(_DIGITS), "w": frozenset(_DIGITS + _LOWER + _UPPER + "_")}


def _read_set(body: str, place: int) -> tuple[frozenset[str], int]:
    """Read one set from `place`; an empty set says that it is not of the fragment."""
    first = body[place]
    if first == "\\" and place + 1 < len(body):
        name = body[place + 1]
        plain = frozenset() if name.isalnum() else frozenset(name)
        return _ESCAPES.get(name, plain), place + 2
    if first == "[":
        end = body.find("]", place + 1)
        inside = body[place + 1 : end] if end > 0 else ""
        return _read_bracket(inside), max(end, place) + 1
    return frozenset() if first in r"(){}|*+?.^$\]" else frozenset(first), place + 1


def _read_bracket(inside: str) -> frozenset[str]:
    if inside.startswith("^"):
        return frozenset()
    found: set[str] = set()
    place = 0
    while place < len(inside):
        if inside[place] == "\\":
            part, place = _read_set(inside, place)
            if not part:
                return frozenset()
            found |= part
        elif inside[place + 1 : place + 2] == "-" and place + 2 < len(inside):
            found |= {chr(c) for c in range(ord(inside[place]), ord(inside[place + 2]) + 1)}
            place += 3
        else:
            found.add(inside[place])
            place += 1
    return frozenset(found)


def _read_count(body: str, place: int) -> tuple[tuple[int, int | None] | None, int]:
    """Read a quantifier from `place`, (1, 1) when there is none; None when it is broken."""
    short: dict[str, tuple[int, int | None]] = {"?": (0, 1), "*": (0, None), "+": (1, None)}
    mark = body[place : place + 1]
    if mark in short:
        return short[mark], place + 1
    if mark != "{":
        return (1, 1), place
    end = body.find("}", place)
    low, comma, high = body[place + 1 : end].partition(",")
    if end < 0 or not (low or comma) or not (low + high).isdecimal():
        return None, place
    least = int(low or 0)
    most = least if not comma else int(high) if high else None
    return (None if most is not None and most < least else (least, most)), end + 1
