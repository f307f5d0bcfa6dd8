"""Questions out of what a model wrote: tagged, listed, or as JSON."""

from __future__ import annotations

import re
from typing import Any

import msgspec

_decode = msgspec.json.Decoder().decode
_TAGGED = re.compile(r"<question>(.*?)</question>", re.DOTALL | re.IGNORECASE)
_OPEN = re.compile(r"<question>", re.IGNORECASE)
_LISTED = re.compile(
    r"^[ \t]{0,3}(?:#{1,4} *)?(?:\*\*)?(?:task|question)?[ ]?(\d{1,3})[.):][ \t]+",
    re.MULTILINE | re.IGNORECASE,
)
_BULLET = re.compile(r"^[ \t]{0,3}[-*\u2022][ \t]+", re.MULTILINE)
_FENCE = re.compile(r"^\s*```(?:json)?\s*\n(.*?)\n\s*```\s*$", re.DOTALL)
_KEYS = ("question", "instruction", "task", "prompt", "text")


def written_questions(text: str, *, is_cut: bool = False) -> list[str]:
    r"""Take the questions out of a reply.

    Args:
        text: the reply: `<question>` tags as it was asked for, or a JSON array, or a numbered or
            bulleted list.
        is_cut: it was ended by the length limit, so its last question may be half of one.

    Returns:
        The questions in order, trimmed; none for a reply that holds no list.

    Example:
        >>> written_questions("Sure!\n1. What is 2+2?\n2. Name a river.")
        ['What is 2+2?', 'Name a river.']
    """
    tagged = _TAGGED.findall(text)
    if tagged or _OPEN.search(text):
        return [_trimmed(found) for found in tagged if found.strip()]
    if (found := _from_json(text)) is not None:
        return found
    for mark in (_LISTED, _BULLET):
        found = _between(mark, text)
        if len(found) > 1:
            return found[:-1] if is_cut else found
    return []


def _from_json(text: str) -> list[str] | None:
    fenced = _FENCE.match(text)
    try:
        value = _decode((fenced[1] if fenced else text).strip())
    except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError):
        return None
    if isinstance(value, dict):
        value = next((part for part in value.values() if isinstance(part, list)), [value])
    if not isinstance(value, list):
        return None
    texts = [_text(part) for part in value]
    return [_trimmed(found) for found in texts if found and found.strip()]


def _text(part: Any) -> str | None:
    if isinstance(part, dict):
        part = next((part[key] for key in _KEYS if isinstance(part.get(key), str)), None)
    return part if isinstance(part, str) else None


def _between(mark: re.Pattern[str], text: str) -> list[str]:
    matches = list(mark.finditer(text))
    ends = [*(match.start() for match in matches[1:]), len(text)][: len(matches)]
    found = [text[m.end() : end] for m, end in zip(matches, ends, strict=True)]
    if found:  # what follows the last one after an empty line is a closing word
        found[-1] = re.split(r"\n\s*\n", found[-1])[0]
    return [_trimmed(one) for one in found if one.strip()]


def _trimmed(text: str) -> str:
    text = text.strip()
    for mark in ("**", '"', "\u201c\u201d"):
        left, right = (mark[0], mark[-1]) if mark != "**" else (mark, mark)
        inner = text[len(left) : len(text) - len(right)]
        if text.startswith(left) and text.endswith(right) and len(text) > 4 and left not in inner:
            text = inner.strip()
    return text
