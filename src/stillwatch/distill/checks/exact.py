"""The same text: letter by letter, or after what does not matter is taken away."""

from __future__ import annotations

import re
import unicodedata

import msgspec

from stillwatch.distill.checks.judgement import NO_TRUTH, Judgement, PureCheck
from stillwatch.distill.items import Item
from stillwatch.errors import ConfigError

#: Rows of a fence around code or a quotation, which are not part of what is said.
_FENCE = re.compile(r"^\s*(```|~~~).*$", re.MULTILINE)
_EMPHASIS = re.compile(r"(\*\*|__|`)(?=\S)(.+?)(?<=\S)\1")
_SPACE = re.compile(r"\s+")
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_QUOTES = {ord(mark): "'" for mark in "\u2018\u2019\u201a\u201b\u2032`\u00b4"} | {
    ord(mark): '"' for mark in "\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb"
}
_DASHES = {ord(mark): "-" for mark in "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"}
_ENDS = " \t\r\n.,;:!?\"'()[]{}<>*_~#"


class TextOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `exact` and `normalised`.

    Attributes:
        last_line: compare the answer's last line that is not empty, not the whole.
        pattern: a regular expression; the last match in the answer is compared, or its first group
            where it has one; an answer without a match is wrong.
        separator: the truth holds several right answers with this between them; "" for one.
        articles: `normalised` only: leave out "a", "an" and "the".
    """

    last_line: bool = False
    pattern: str = ""
    separator: str = ""
    articles: bool = False


def normalise(text: str, *, articles: bool = False) -> str:
    """Take away what rarely matters: case, width, marks at the ends, emphasis, runs of space.

    Args:
        text: any text.
        articles: take away English articles too.

    Returns:
        The text that is left.

    Example:
        >>> normalise("  **The Eiffel\u00a0Tower**. ")
        'the eiffel tower'
    """
    text = unicodedata.normalize("NFKC", text).translate(_QUOTES | _DASHES)
    text = _EMPHASIS.sub(r"\2", _FENCE.sub("", text)).casefold()
    # Case folding can leave a text that is no longer in the composed form.
    text = unicodedata.normalize("NFKC", text)
    if articles:
        text = _ARTICLES.sub(" ", text)
    return _SPACE.sub(" ", text).strip(_ENDS)


def last_line(text: str) -> str:
    """Give the last line that is not empty.

    Args:
        text: any text.

    Returns:
        The line without space at its ends; "" when there is none.
    """
    return next((line for raw in reversed(text.splitlines()) if (line := raw.strip())), "")


class TextCheck(PureCheck):
    """Compares texts.

    Args:
        kind: exact or normalised.
        options: what is compared.

    Raises:
        ConfigError: the pattern is no regular expression.
    """

    def __init__(self, kind: str, options: TextOptions) -> None:
        self.kind = kind
        self._options = options
        try:
            self._pattern = re.compile(options.pattern, re.DOTALL | re.MULTILINE)
        except re.error as error:
            message = f"check {kind}: pattern must be a regular expression: {error}"
            raise ConfigError(message) from error

    def __call__(self, truth: str | None, answer: str, item: Item) -> Judgement:
        """Judge one answer.

        Args:
            truth: the right answer, or None.
            answer: the answer's text.
            item: not looked at.

        Returns:
            The judgement; unknown without a truth.
        """
        if truth is None:
            return NO_TRUTH
        said = self._said(answer)
        if said is None:
            return Judgement(False, "the answer has nothing of the asked form")
        separator = self._options.separator
        accepted = truth.split(separator) if separator else [truth]
        if self._reduce(said) in {self._reduce(one) for one in accepted}:
            return Judgement(True, "the same text")
        return Judgement(False, "another text")

    def _said(self, answer: str) -> str | None:
        if self._options.pattern:
            found = None
            for found in self._pattern.finditer(answer):  # noqa: B007 - the last one is wanted
                pass
            if found is None:
                return None
            answer = (found.group(1) or "") if found.re.groups else found.group()
        return last_line(answer) if self._options.last_line else answer

    def _reduce(self, text: str) -> str:
        if self.kind == "exact":
            return text.strip()
        reduced = normalise(text, articles=self._options.articles)
        # A text of marks only ("?!") is compared as it stands.
        return reduced or text.strip()
