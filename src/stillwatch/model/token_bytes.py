"""The bytes that each token of a vocabulary stands for.

Two models are compared token by token through the bytes, because names of tokens differ: byte-level
vocabularies write a space as "Ġ", others as "▁".
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

_BYTE = re.compile(r"\A<0x([0-9A-Fa-f]{2})>\Z")
_kept: WeakKeyDictionary[Any, tuple[bytes, ...]] = WeakKeyDictionary()


def vocabulary_bytes(tokenizer: Any) -> tuple[bytes, ...]:
    """List the bytes of every token of a tokenizer.

    Args:
        tokenizer: a fast tokenizer of transformers; the list is made once for each.

    Returns:
        As `read_vocabulary` gives them.
    """
    found = _kept.get(tokenizer)
    if found is None:
        found = _kept[tokenizer] = read_vocabulary(tokenizer.backend_tokenizer.to_str())
    return found


def read_vocabulary(tokenizer_json: str) -> tuple[bytes, ...]:
    """List the bytes of every token of a `tokenizer.json`.

    Args:
        tokenizer_json: its text.

    Returns:
        By token id; a special or added token's are those of its name, b"" where there is no token.
    """
    found = json.loads(tokenizer_json)
    added = {int(token["id"]): str(token["content"]) for token in found["added_tokens"]}
    vocabulary = found["model"]["vocab"]
    if isinstance(vocabulary, list):  # unigram models list [token, score]
        vocabulary = {token: i for i, (token, _) in enumerate(vocabulary)}
    kinds = json.dumps(found.get("decoder"))
    is_byte_level = '"ByteLevel"' in kinds
    has_marks = "\\u2581" in kinds or '"Metaspace"' in kinds
    words = [b""] * (max([*vocabulary.values(), *added, 0]) + 1)
    for token, i in vocabulary.items():
        words[i] = _byte_level(token) if is_byte_level else _marked(token, has_marks=has_marks)
    for i, token in added.items():
        words[i] = token.encode()
    return tuple(words)


def _byte_level(token: str) -> bytes:
    table = _table()
    return b"".join(
        bytes([table[c]]) if c in table else c.encode("utf-8", "replace") for c in token
    )


def _marked(token: str, *, has_marks: bool) -> bytes:
    if single := _BYTE.match(token):
        return bytes([int(single.group(1), 16)])
    return (token.replace("\u2581", " ") if has_marks else token).encode("utf-8", "replace")


@lru_cache(maxsize=1)
def _table() -> dict[str, int]:
    """The printable characters that byte-level vocabularies write bytes with.

    Source: Radford et al. 2019, GPT-2: printable bytes stand for themselves, the others for the
    characters from 256 on, in order.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    table = {chr(b): b for b in printable}
    return table | {chr(256 + k): b for k, b in enumerate(others)}
