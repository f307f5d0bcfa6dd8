"""Takes out of a question what makes an answer worth more to a copier than to a reader.

Log-probabilities give away the distribution behind a word, `n` many draws from it, and reasoning
detail the way to the answer. A stripped question asks for none of them; everything else in its body
stays byte for byte, and the client is not told. What a model server gives unasked is not touched:
answers are never rewritten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

_Raw = dict[str, msgspec.Raw]
_decode = msgspec.json.Decoder(_Raw).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.encode

_TRUE, _FALSE = msgspec.Raw(b"true"), msgspec.Raw(b"false")
_OMITTED: Final = msgspec.Raw(b'"omitted"')
#: Of the Responses wire's `include`.
_INCLUDED: Final = frozenset({"message.output_text.logprobs", "reasoning.encrypted_content"})


def stripped(wire: str, body: bytes) -> bytes:
    """Strip a question.

    Args:
        wire: openai.chat, openai.completions, openai.responses or anthropic.messages.
        body: its bytes, not compressed.

    Returns:
        The bytes to forward: the very same object when there is nothing to strip, or when the
        body is no JSON object or the wire is another.
    """
    changes = _CHANGES.get(wire)
    if changes is None:
        return body
    try:
        fields = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return body
    kept: _Raw = {}
    changed = False
    for name, value in fields.items():
        change = changes.get(name)
        new = value if change is None else change(value)
        if new is not None:
            kept[name] = new
        changed = changed or new is not value
    return _encode(kept) if changed else body


#: What becomes of one field: the same value, another, or None to leave the field out.
_Change = Callable[[msgspec.Raw], msgspec.Raw | None]


def _gone(value: msgspec.Raw) -> None:
    """Leave the field out."""


def _one(value: msgspec.Raw) -> msgspec.Raw | None:
    """Leave out any number but one."""
    return value if bytes(value) in {b"1", b"null"} else None


def _off(value: msgspec.Raw) -> msgspec.Raw | None:
    """Turn a switch off, whose being away might mean on."""
    return value if bytes(value) == b"false" else _FALSE


def _without(names: frozenset[str]) -> _Change:
    """Leave some entries of a list out."""

    def change(value: msgspec.Raw) -> msgspec.Raw | None:
        try:
            entries = _decode_list(value)
        except msgspec.MsgspecError:
            return value
        kept = [entry for entry in entries if _text(entry) not in names]
        return msgspec.Raw(_encode(kept)) if len(kept) < len(entries) else value

    return change


def _with(
    fields: Mapping[str, msgspec.Raw | None], *, only: frozenset[str] = frozenset()
) -> _Change:
    """Set or leave out some fields of an object; of those types alone, where types are given."""

    def change(value: msgspec.Raw) -> msgspec.Raw | None:
        try:
            found = _decode(value)
        except msgspec.MsgspecError:
            return value
        if only and _text(found.get("type", _TRUE)) not in only:
            return value
        kept = {name: part for name, part in found.items() if name not in fields}
        kept |= {name: part for name, part in fields.items() if part is not None}
        same = kept.keys() == found.keys() and all(
            bytes(kept[name]) == bytes(found[name]) for name in kept
        )
        return value if same else msgspec.Raw(_encode(kept))

    return change


def _text(value: msgspec.Raw) -> str | None:
    try:
        return msgspec.json.decode(value, type=str)
    except msgspec.MsgspecError:
        return None


_DRAWS: Final[Mapping[str, _Change]] = {
    "logprobs": _gone,
    "top_logprobs": _gone,
    "prompt_logprobs": _gone,
    "n": _one,
    "best_of": _one,
}
_CHANGES: Final[Mapping[str, Mapping[str, _Change]]] = {
    "openai.chat": {
        **_DRAWS,
        # Not OpenAI's own words: servers that speak its wire take them.
        "include_reasoning": _off,
        "reasoning": _with({"exclude": _TRUE, "summary": None}),
    },
    "openai.completions": _DRAWS,
    "openai.responses": {
        "top_logprobs": _gone,
        "include": _without(_INCLUDED),
        "reasoning": _with({"summary": None, "generate_summary": None}),
    },
    "anthropic.messages": {
        "thinking": _with({"display": _OMITTED}, only=frozenset({"enabled", "adaptive"})),
    },
}
