"""Keep secrets out of a bundle that nobody meant to put into it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from stillwatch.errors import reject

#: A header or field that carries a caller's key, with a value that is not masked.
_CREDENTIAL = re.compile(
    rb'"(?:proxy-)?(?:authorization|x-api-key|api[-_]key|x-goog-api-key|cookie|set-cookie)"'
    rb'\s*:\s*\[?\s*"(?![*<\[])[^"]{8,}"',
    re.IGNORECASE,
)
#: Shorter texts of a secret file could stand anywhere by chance (a scheme's name, a number).
_MIN_SECRET = 16
_PIECE, _OVERLAP = 1 << 22, 1 << 13


def refuse_secrets(folder: Path, names: list[str], secrets: Mapping[str, bytes]) -> None:
    """Look through files for what must not be in them.

    Args:
        folder: the bundle that is being made.
        names: its files.
        secrets: name -> content of each commitment that is not disclosed.

    Raises:
        InvalidInputError: a file holds a caller's key, or what a commitment keeps secret; the
            message names the file and never shows what was found.
    """
    needles = [(name, one) for name, content in secrets.items() for one in _spellings(content)]
    for name in names:
        for piece in _pieces(folder / name):
            if _CREDENTIAL.search(piece):
                hint = "mask it; a bundle is read by many, and for years"
                rule = "free of callers' keys (authorization, x-api-key, cookie)"
                reject(name, "content", rule, got="one in clear", hint=hint)
            for secret, needle in needles:
                if needle in piece:
                    hint = "disclose it on purpose, or take it out"
                    reject(name, "content", f"free of {secret}", got="it in clear", hint=hint)


def _pieces(path: Path) -> Iterator[bytes]:
    """Read a file in pieces that overlap, so that nothing is cut in two."""
    kept = b""
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield kept + piece
            kept = piece[-_OVERLAP:]


def _spellings(content: bytes) -> list[bytes]:
    """List how a secret may be written: plain, hex, base64; and the key texts of a JSON file."""
    told: list[bytes] = []
    for raw in (content, content.strip()):
        told.append(raw)
        if len(raw) <= _OVERLAP // 4:
            told += [raw.hex().encode(), raw.hex().upper().encode(), base64.b64encode(raw)]
    with suppress(ValueError, UnicodeDecodeError):
        told += [text.encode() for text in _texts(json.loads(content), named=False)]
    return [one for one in dict.fromkeys(told) if _MIN_SECRET <= len(one) <= _OVERLAP]


def _texts(value: Any, *, named: bool) -> Iterator[str]:
    """List the texts under a name that says that they are secret."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _texts(one, named="key" in key.lower() or key == "nonce")
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one, named=named)
    elif isinstance(value, str) and named:
        yield value
