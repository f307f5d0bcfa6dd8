"""What becomes of texts at reading time: kept, hashed word by word, or dropped.

Hashing whole texts would leave `detect` nothing but exact repeats. Word by word, under the key, the
wording that accounts share is still shared and can still be found, while no word can be read. Who
holds much of the same language can guess the most frequent words by counting; who must not run
that risk drops the texts.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import msgspec

from stillwatch.logs.reader import ReadOptions
from stillwatch.record.bodies import LONGEST_PARAMETER
from stillwatch.record.exchange import Answer, Exchange, Message, canonical_json
from stillwatch.record.privacy import KeyedHash

_WORD = re.compile(r"[^\W\d_]+|\d+")
#: Letters for words and digits for numbers, because `detect` masks numbers.
_LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")
_WORD_DIGITS = 12  # hex digits: 48 bits, no two of a million words alike (chance 0.2 %)
_NUMBER_DIGITS = 8


def without_bodies(exchange: Exchange, options: ReadOptions) -> Exchange:
    """Apply the choice of what becomes of texts.

    Args:
        exchange: as read.
        options: its `bodies` and key.

    Returns:
        The same exchange (keep); with roles, turns, finish reasons and word-wise hashes instead of
        texts (hash); with roles, turns and finish reasons alone (drop). Parameters that can hold
        texts (schemas, stop sequences) are hashed or dropped with them.
    """
    if options.bodies == "keep":
        return exchange
    key = options.keyed_hash if options.bodies == "hash" else None
    return msgspec.structs.replace(
        exchange,
        messages=tuple(
            Message(m.role, _text(key, m.content), _extra(key, m.extra)) for m in exchange.messages
        ),
        answers=tuple(
            Answer(
                _whole(key, a.text),
                a.finish_reason,
                None if a.reasoning is None else _whole(key, a.reasoning),
                _extra(key, a.extra),
            )
            for a in exchange.answers
        ),
        parameters={
            name: hashed
            for name, value in exchange.parameters.items()
            if (hashed := _parameter(key, value)) is not None
        },
    )


def _text(key: KeyedHash | None, text: str) -> str:
    return "" if key is None else _WORD.sub(lambda match: _word(key, match[0].lower()), text)


def _whole(key: KeyedHash | None, text: str) -> str:
    return key.hash("text", text) if key is not None and text else ""


def _extra(key: KeyedHash | None, extra: str | None) -> str | None:
    if key is None or extra is None:
        return None
    return canonical_json({"hash": key.hash("text", extra)})


def _parameter(key: KeyedHash | None, value: Any) -> Any:
    is_short = isinstance(value, str) and len(value) <= LONGEST_PARAMETER
    if is_short or value is None or isinstance(value, bool | int | float):
        return value
    return None if key is None else "hash:" + key.hash("text", canonical_json(value))


@lru_cache(2**18)
def _word(key: KeyedHash, word: str) -> str:
    digest = key.hash("word", word)
    if word[0].isdigit():
        return str(int(digest, 16))[:_NUMBER_DIGITS]
    return digest[:_WORD_DIGITS].translate(_LETTERS)
