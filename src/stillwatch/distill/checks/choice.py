"""The same choice among lettered options: finds the letter that an answer settles on."""

from __future__ import annotations

import re
from functools import cache

import msgspec

from stillwatch.distill.checks.exact import last_line, normalise
from stillwatch.distill.checks.judgement import NO_TRUTH, Judgement, PureCheck
from stillwatch.distill.checks.numeric import boxed
from stillwatch.distill.items import Item
from stillwatch.errors import reject

#: An option's row in a question: "A) text", "(b) text", "C. text", "- D: text".
_OPTION = re.compile(r"^[ \t>*-]*\(?(?P<letter>[A-Za-z])(?:\)|\.|:)\**[ \t]+(?P<text>\S.*)$", re.M)
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class ChoiceOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `choice`.

    Attributes:
        letters: the letters that may be chosen where the question does not list its options.
    """

    letters: str = "ABCDE"


class ChoiceCheck(PureCheck):
    """Compares chosen letters.

    Args:
        options: which letters there are.

    Raises:
        InvalidInputError: no letters.
    """

    kind = "choice"

    def __init__(self, options: ChoiceOptions) -> None:
        if not options.letters.isalpha():
            reject("check choice", "letters", "letters, for example ABCD", got=options.letters)
        self._letters = options.letters.upper()

    def __call__(self, truth: str | None, answer: str, item: Item) -> Judgement:
        """Judge one answer.

        Args:
            truth: a letter ("B", "(b)"), or the text of one option of the question; or None.
            answer: the answer's text.
            item: its question, which lists the options.

        Returns:
            The judgement; unknown when the truth names no option.
        """
        if truth is None:
            return NO_TRUTH
        options = options_of(item.question)
        letters = "".join(options) or self._letters
        wanted = _named(truth, letters, options)
        if wanted is None:
            return Judgement(None, "the truth names no option")
        said = chosen(answer, letters, options=options)
        if said is None:
            return Judgement(False, "the answer settles on no option")
        return Judgement(said == wanted, "the same option" if said == wanted else "another option")


def options_of(question: str) -> dict[str, str]:
    """Read the options that a question lists.

    Args:
        question: its text.

    Returns:
        Text by capital letter, when at least two stand in the alphabet's order from A; else {}.

    Example:
        >>> options_of("Which is a metal?" + chr(10) + "A) iron" + chr(10) + "B) salt")
        {'A': 'iron', 'B': 'salt'}
    """
    found: dict[str, str] = {}
    for match in _OPTION.finditer(question):
        letter = match["letter"].upper()
        if letter == _LETTERS[len(found) % len(_LETTERS)]:
            found[letter] = match["text"].strip()
        elif letter == "A":
            found = {"A": match["text"].strip()}  # a second list: the last one is the question's
    return found if len(found) > 1 else {}


def chosen(answer: str, letters: str, *, options: dict[str, str]) -> str | None:
    """Find the letter that an answer settles on.

    Args:
        answer: its text.
        letters: capital letters that may be chosen.
        options: text by letter, where the question gives it.

    Returns:
        The capital letter; None when it settles on none, or on several.

    Example:
        >>> chosen("A is wrong, so the answer is (B).", "ABCD", options={})
        'B'
    """
    box = boxed(answer)
    if box is not None and (letter := _named(_BOX_WORDS.sub(r"\1", box), letters, options)):
        return letter
    text = answer.translate(_EMPHASIS)
    for pattern in _announcements(letters):
        said = [match["letter"].upper() for match in pattern.finditer(text)]
        if said:
            # Where it went on to another, what it said last is what it settled on.
            return said[-1]
    for line in (text, last_line(text)):
        if letter := _named(line, letters, options):
            return letter
    return _mentioned(text, letters, options)


_EMPHASIS = {ord(mark): "" for mark in "*_`"}
_BOX_WORDS = re.compile(r"\\(?:text|mathrm|mathbf|textbf)\s*\{([^{}]*)\}")


@cache
def _announcements(letters: str) -> tuple[re.Pattern[str], ...]:
    """Give the ways in which a letter is announced, the surest first."""
    either = letters + letters.lower()
    # A bare letter must be a capital and not go on as a sentence: "the answer is A metal" is none.
    bare = rf"(?P<letter>[{letters}])(?=$|[\s.,:;!?)\]}}])(?![ ][a-z])"
    held = rf"[(\[](?P<letter>[{either}])[)\]]"
    say = r"\b[Aa](?:nswer|NSWER)\s*(?:\s(?:is|would be|must be|should be))?\s*[:=]?\s*"
    say += r"(?:[Oo]ption\s+|[Cc]hoice\s+)?"
    pick = r"\b(?:[Oo]ption|[Cc]hoice|[Cc]hoose|[Pp]ick|[Ss]elect|[Gg]o with)\s+"
    parts = (say + held, say + bare, pick + held, pick + bare)
    row = rf"^\s*(?:[(\[](?P<letter>[{either}])[)\]])(?=\s|$)"
    start = rf"\A\s*(?P<letter>[{letters}])[).:](?=\s|$)"
    return tuple(re.compile(part, re.MULTILINE) for part in (*parts, start, row))


def _named(text: str, letters: str, options: dict[str, str]) -> str | None:
    """Read a text that is a letter or an option's text and nothing else."""
    bare = text.strip().strip("()[]{}.,:;*$ ")
    if len(bare) == 1 and bare.upper() in letters:
        return bare.upper()
    lettered = re.match(rf"[(\[]?([{letters}{letters.lower()}])[)\].:]\s+(.*)", text.strip(), re.S)
    wanted = normalise(text)
    for letter, option in options.items():
        if wanted and wanted == normalise(option):
            return letter
        if (
            lettered
            and lettered[1].upper() == letter
            and normalise(lettered[2]) == normalise(option)
        ):
            return letter
    return None


def _mentioned(text: str, letters: str, options: dict[str, str]) -> str | None:
    """Give the only letter in brackets, else the only option whose text stands in the answer."""
    held: set[str] = {m.upper() for m in re.findall(rf"[(\[]([{letters}])[)\]]", text)}
    if len(held) == 1:
        return held.pop()
    said = f" {normalise(text)} "
    present = {
        letter: reduced
        for letter, option in options.items()
        if (reduced := normalise(option)) and re.search(rf"(?<!\w){re.escape(reduced)}(?!\w)", said)
    }
    # "iron oxide" holds "iron": an option inside another that is there was not chosen itself.
    longest = [
        letter
        for letter, option in present.items()
        if not any(option != other and option in other for other in present.values())
    ]
    return longest[0] if len(longest) == 1 and not held else None
