"""Texts with slots: `{name}`, `{name.field}`, `{name:03d}`, doubled braces for braces."""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any

from stillwatch.errors import InvalidInputError


class Pattern:
    """A text with slots. Only names, fields and formats: no attribute of an object is reached.

    Args:
        text: the pattern.
        where: what holds it, for errors.

    Raises:
        InvalidInputError: a brace stands alone, or a slot has no name.

    Example:
        >>> Pattern("{n:03d} {{x}}", where="an example").filled({"n": 7}.get)
        '007 {x}'
    """

    def __init__(self, text: str, *, where: str) -> None:
        self.where = where
        self._parts: list[tuple[str, str, str]] = []
        try:
            parts = list(string.Formatter().parse(text))
        except ValueError as error:
            message = f"{where}: {error}"
            raise InvalidInputError(message, hint="write {{ and }} for braces") from error
        for literal, name, spec, conversion in parts:
            if name is not None and (not name or conversion or "{" in (spec or "") or "[" in name):
                message = f"{where}: a slot must be {{name}}, {{name.field}} or {{name:format}}"
                raise InvalidInputError(message, hint="write {{ and }} for braces")
            self._parts.append((literal, name or "", spec or ""))

    @property
    def names(self) -> list[str]:
        """The slots, in order, fields included."""
        return list(dict.fromkeys(name for _, name, _ in self._parts if name))

    def filled(self, value_of: Callable[[str], Any]) -> str:
        """Fill the slots.

        Args:
            value_of: gives a slot's value; None is an empty text.

        Returns:
            The text.

        Raises:
            InvalidInputError: a value does not suit its format.
        """
        done = []
        for literal, name, spec in self._parts:
            done.append(literal)
            if name:
                value = value_of(name)
                try:
                    done.append(format("" if value is None else value, spec))
                except (ValueError, TypeError) as error:
                    message = (
                        f"{self.where}: {{{name}:{spec}}} does not suit {type(value).__name__}"
                    )
                    raise InvalidInputError(message) from error
        return "".join(done)
