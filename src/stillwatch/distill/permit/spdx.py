"""SPDX licence expressions: which identifiers there are, and whether a text is an expression."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from stillwatch.errors import reject

_REFERENCE = re.compile(r"(DocumentRef-[A-Za-z0-9.-]+:)?LicenseRef-[A-Za-z0-9.-]+")
_TOKEN = re.compile(r"\(|\)|[^\s()]+")


class _Lists(NamedTuple):
    licences: dict[str, str]  # lower case -> as the list writes it
    deprecated: dict[str, str]
    exceptions: dict[str, str]


def is_reference(expression: str) -> bool:
    """Say whether an expression names a licence outside the SPDX list.

    Args:
        expression: an SPDX expression.

    Returns:
        True when any part is a `LicenseRef-...`.

    Example:
        >>> is_reference("LicenseRef-gemma"), is_reference("MIT OR Apache-2.0")
        (True, False)
    """
    return any(_REFERENCE.fullmatch(token) for token in _TOKEN.findall(expression))


def check_expression(expression: str, *, where: str, name: str) -> str:
    """Check an SPDX expression against the list.

    Args:
        expression: for example `MIT` or `Apache-2.0 WITH LLVM-exception`.
        where: the file or table that holds it.
        name: its key.

    Returns:
        The expression with identifiers written as the list writes them.

    Raises:
        InvalidInputError: it is no expression, or has an identifier that is not on the list; the
            nearest ones are named.

    Example:
        >>> check_expression("mit or apache-2.0", where="doc", name="licence")
        'MIT OR Apache-2.0'
    """
    tokens = _TOKEN.findall(expression)
    reader = _Reader(tokens, expression, (where, name))
    written = reader.either()
    if reader.place != len(tokens):
        reader.fail()
    return written


class _Reader:
    """Recursive descent: either = both (OR both)*; both = one (AND one)*; one = id (WITH id)."""

    def __init__(self, tokens: list[str], expression: str, at: tuple[str, str]) -> None:
        self.tokens = tokens
        self.expression = expression
        self.at = at
        self.place = 0

    def either(self) -> str:
        return self._joined("OR", self._both)

    def fail(self) -> str:
        where, name = self.at
        hint = "for a licence outside the list write LicenseRef-NAME"
        return reject(where, name, "an SPDX expression", got=self.expression, hint=hint)

    def _both(self) -> str:
        return self._joined("AND", self._one)

    def _joined(self, word: str, part: Callable[[], str]) -> str:
        parts = [part()]
        while self._peek().upper() == word:
            self.place += 1
            parts.append(part())
        return f" {word} ".join(parts)

    def _one(self) -> str:
        if self._peek() == "(":
            self.place += 1
            inner = self.either()
            if self._take() != ")":
                self.fail()
            return f"({inner})"
        licence = self._licence(self._take())
        if self._peek().upper() != "WITH":
            return licence
        self.place += 1
        return f"{licence} WITH {self._known(self._take(), _lists().exceptions)}"

    def _licence(self, token: str) -> str:
        if _REFERENCE.fullmatch(token):
            return token
        plain = token.removesuffix("+")
        lists = _lists()
        return self._known(plain, lists.licences | lists.deprecated) + token[len(plain) :]

    def _known(self, token: str, known: dict[str, str]) -> str:
        found = known.get(token.lower())
        if found is not None:
            return found
        near = difflib.get_close_matches(token.lower(), known, n=3, cutoff=0.5) if token else []
        if not near:
            return self.fail()
        where, name = self.at
        named = ", ".join(known[one] for one in near)
        hint = f"near it: {named}; for a licence outside the list write LicenseRef-NAME"
        return reject(where, name, "made of SPDX identifiers", got=token, hint=hint)

    def _peek(self) -> str:
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        self.place += 1
        return token


@cache
def _lists() -> _Lists:
    asset = files("stillwatch.distill.permit").joinpath("assets/spdx.txt")
    lists: dict[str, dict[str, str]] = {}
    section: dict[str, str] = {}
    for line in asset.read_text("utf-8").splitlines():
        if line.startswith("["):
            section = lists.setdefault(line.strip("[]"), {})
        elif not line.startswith("#"):
            section[line.lower()] = line
    return _Lists(lists["licences"], lists["deprecated"], lists["exceptions"])
