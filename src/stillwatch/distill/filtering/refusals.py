"""Refusals: what the wire says, and what the wording says.

The wire's word is taken as it is. Wording is read in the answer's opening only, because people
write about refusing, and a refusal that goes on to answer (a disclaimer before the code that was
asked for) is an answer. docs/filters.md has the error rates, measured on a labelled list.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from functools import cache
from pathlib import Path

from stillwatch.record.exchange import Answer
from stillwatch.wire.body import kept
from stillwatch.wire.chat_stream import dict_of, list_of

#: Reasons to have stopped that are refusals, by the names of all wires.
_REFUSED = frozenset({"refusal", "refused"})
_FILTERED = frozenset({
    "content_filter", "content_filtered", "guardrail_intervened", "safety", "recitation",
    "prohibited_content", "blocklist", "spii", "sensitive", "moderation",
})  # fmt: skip
_WORDING = Path(__file__).with_name("assets") / "refusals.toml"
#: Only so much of an answer is its opening.
_OPENING = 320
#: An answer that goes on for longer than this after a disclaimer has answered.
_GOES_ON = 240
_LONG = 1500

_PIVOT = re.compile(
    r"\b(?:but|however|that said|nevertheless|still|based on|in general|generally|instead)\b"
    r"[^.!?]{0,60}?\b(?:here(?:'s| is| are)|if i were|based on|as of|generally|in general|typically"
    r"|i can (?:\w+ )?(?:tell|give|explain|describe|offer|outline|share|provide)"
    r"|the (?:most|usual|general|short|formula)|you can)",
)
#: Words before a quotation: what follows a colon after them is somebody else's.
_REPORTED = re.compile(
    r"\b(?:write|writes|say|says|said|reply|repl(?:ies|ied)|saying)\b[^.!?]{0,20}:\s*$"
)
_THOUGHT = re.compile(r"^\s*<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_MARKUP = re.compile(r"[*_#>`]+")
_QUOTED = re.compile(r"^\s*[\"\u201c\u201e\u00ab']")


def refusal_of(answer: Answer, *, question: str = "") -> str | None:
    """Say how an answer refuses.

    Args:
        answer: one choice of a reply, of any wire.
        question: what was asked; where it holds a refusal itself (to be translated, say) wording
            is not read.

    Returns:
        "refusal" when the wire says so, "content_filter" when a filter stopped it, "wording" when
        the text does, None when it does not refuse.

    Example:
        >>> refusal_of(Answer(text="I'm sorry, but I can't help with that."))
        'wording'
        >>> refusal_of(Answer(text="", finish_reason="content_filter"))
        'content_filter'
    """
    reason = answer.finish_reason.lower()
    if reason in _FILTERED:
        return "content_filter"
    if reason in _REFUSED or _has_refusal(answer):
        return "refusal"
    return "wording" if is_refusal(answer.text, question=question) else None


def is_refusal(text: str, *, question: str = "") -> bool:
    """Say whether a text refuses, by its wording.

    Args:
        text: an answer.
        question: what was asked, or "".

    Returns:
        True when its opening refuses and nothing that answers follows.
    """
    text = _THOUGHT.sub("", text)
    if _QUOTED.match(text) or "```" in text:
        return False
    plain = _plain(text)
    opening = plain[:_OPENING]
    words = _wording()
    match = next(
        (found for name in words for found in [_first(words[name], opening)] if found), None
    )
    if match is None or (question and _speaks_of_refusing(question)):
        return False
    if _REPORTED.search(plain[: match.start()]) or len(plain) - match.end() > _LONG:
        return False
    pivot = _PIVOT.search(plain, max(match.start() - 40, 0))
    return not (pivot and len(plain) - pivot.end() > _GOES_ON)


def _speaks_of_refusing(question: str) -> bool:
    """Say whether a question holds a refusal itself: to be translated, repeated, explained."""
    plain = _plain(question)
    return any(_first(patterns, plain) for patterns in _wording().values())


def _first(patterns: tuple[re.Pattern[str], ...], text: str) -> re.Match[str] | None:
    found = (pattern.search(text) for pattern in patterns)
    return next((match for match in found if match), None)


@cache
def _wording() -> dict[str, tuple[re.Pattern[str], ...]]:
    """Read the patterns: those that refuse to serve, those that are not able, other languages."""
    told = tomllib.loads(_WORDING.read_text(encoding="utf-8"))
    pieces = {name: f"(?:{'|'.join(said)})" for name, said in told["pieces"].items()}
    piece = re.compile("{(" + "|".join(pieces) + ")}")
    return {
        name: tuple(re.compile(piece.sub(lambda m: pieces[m[1]], said)) for said in patterns)
        for name, patterns in told["lists"].items()
    }


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFC", text).replace("\u2019", "'").replace("\u2018", "'")
    return re.sub(r"\s+", " ", _MARKUP.sub("", text)).strip().lower()


def _has_refusal(answer: Answer) -> bool:
    found = kept(answer.extra)
    if found.get("refusal"):
        return True
    parts = [part for name in ("parts", "items") for part in list_of(found.get(name))]
    return any(dict_of(part).get("type") == "refusal" for part in parts)
