r"""The same regular expression: proved by automata, refuted by an example, or unknown.

Two expressions are the same when they can match the same stretches of the same texts. That is
decided, not sampled: `[0-9][0-9]+` and `\d{2,}` are the same, `\d+` and `\d` are not, because only
one of them can match "00". Texts are over ASCII and the characters that the expressions name.
"""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

from stillwatch.distill.checks.judgement import NO_TRUTH, Judgement, PureCheck
from stillwatch.distill.checks.regex_automaton import By, difference
from stillwatch.distill.checks.regex_parse import BeyondError, parse
from stillwatch.distill.items import Item

_FENCE = re.compile(
    r"^[ \t]*```[\w-]*[ \t]*\n(?P<inside>.*?)\n?^[ \t]*```", re.DOTALL | re.MULTILINE
)
_INLINE = re.compile(r"(?P<ticks>`+)(?P<inside>.+?)(?P=ticks)")
_SLASHED = re.compile(r"/(?P<inside>(?:\\.|[^/\\])+)/(?P<flags>[gimsuy]*)")
_QUOTED = re.compile(r"(?:r|R)?(?P<mark>[\"'])(?P<inside>.+)(?P=mark)")


class RegexOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `regex`.

    Attributes:
        by: "span": which stretches of which texts they can match; "full": which whole texts;
            "search": in which texts they find anything.
    """

    by: By = "span"


class RegexCheck(PureCheck):
    """Compares regular expressions.

    Args:
        options: what must be the same.
    """

    kind = "regex"

    def __init__(self, options: RegexOptions) -> None:
        self._by = options.by

    def __call__(self, truth: str | None, answer: str, item: Item) -> Judgement:
        """Judge one answer.

        Args:
            truth: a regular expression, or None.
            answer: the answer's text; its expression is taken as `expression_of` says.
            item: not looked at.

        Returns:
            The judgement; unknown when an expression goes beyond what is compared, or is too large.
        """
        if truth is None:
            return NO_TRUTH
        said = expression_of(answer)
        if not said:
            return Judgement(False, "the answer holds no expression")
        return compare(truth.strip("\n"), said, self._by)


@lru_cache(4096)
def compare(truth: str, said: str, by: By = "span") -> Judgement:
    r"""Compare two expressions.

    Args:
        truth: the right one.
        said: the other.
        by: as `RegexOptions` says.

    Returns:
        The judgement, with a text that tells them apart where they differ.

    Example:
        >>> compare(r"\d{2,}", "[0-9][0-9]+")
        Judgement(correct=True, reason='it matches the same')
        >>> compare(r"\d+", r"\d")
        Judgement(correct=False, reason="it does not match '00'")
    """
    if truth == said:
        return Judgement(True, "the same expression")
    try:
        wanted = parse(truth)
    except (re.error, BeyondError) as error:
        return Judgement(None, f"the truth cannot be compared: {_why(error)}")
    try:
        found = difference(wanted, parse(said), by=by)
    except re.error:
        return Judgement(False, "the answer is no regular expression")
    except BeyondError as error:
        return Judgement(None, f"the answer cannot be compared: {_why(error)}")
    if found is None:
        return Judgement(True, "it matches the same")
    verb = "does not match" if found.first else "matches"
    where = f" after {found.before!r}" if found.before else ""
    where += f" before {found.after!r}" if found.after else ""
    return Judgement(False, f"it {verb} {found.text[:40]!r}{where}")


def expression_of(answer: str) -> str:
    """Take the expression out of an answer.

    Args:
        answer: its text.

    Returns:
        What stands in the first fence, else in the first code span, else between slashes or quotes
        when that is all, else the whole text; the flags of slashes in Python's way.

    Example:
        >>> expression_of("Use `[a-z]+` for that."), expression_of("/ab+/i")
        ('[a-z]+', '(?i)ab+')
    """
    fenced = _FENCE.search(answer)
    inline = _INLINE.search(answer)
    text = fenced["inside"] if fenced else inline["inside"] if inline else answer
    text = text.strip("\r\n") if fenced or inline else text.strip()
    slashed = _SLASHED.fullmatch(text)
    if slashed:
        # g, u and y say where to search and in what, not what matches.
        flags = "".join(sorted(set(slashed["flags"]) & set("ims")))
        return (f"(?{flags})" if flags else "") + slashed["inside"].replace(r"\/", "/")
    quoted = _QUOTED.fullmatch(text)
    return quoted["inside"] if quoted else text


def _why(error: Exception) -> str:
    return "it is no regular expression" if isinstance(error, re.error) else str(error)
