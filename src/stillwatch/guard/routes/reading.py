"""Makes a question's bytes fit to be read inline: unpacked, and without the bulk of its images.

Only what the gateway reads is changed; what it forwards stays as it came. A picture says nothing
that a rule or a profile could use, but its base64 would be decoded, written to the journal and
folded, millions of characters a question. Its digest stands for it: equal pictures stay equal.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable
from typing import Final

import msgspec
import pyarrow as pa
import xxhash

#: Bodies up to this size (bytes) are read as they are.
_SMALL: Final = 16_384
#: Longest base64 (characters) that is kept as it is.
_KEPT: Final = 4096
#: What announces base64: a data URL, or a field that holds it bare.
_BEGINS: Final = re.compile(rb';base64,|"(?:data|file_data|b64_json)"\s*:\s*"')
_SLOW: Final = 4 * 2**20  # bytes beyond which the slow reader would hold up everybody
_names: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
#: Fields that say what is asked, of whom, how often and for what more.
_MATTERS: Final = frozenset({
    "messages", "input", "prompt", "system", "instructions", "model", "stream", "store",
    "background", "previous_response_id", "conversation", "n", "best_of", "logprobs",
    "top_logprobs", "prompt_logprobs", "include", "include_reasoning", "reasoning",
    "reasoning_effort", "thinking", "tools", "functions", "response_format", "seed", "user",
    "safety_identifier", "metadata",
})  # fmt: skip
#: Arrow's names of the codings that Python has no reader for.
_CODECS: Final = {b"zstd": "zstd", b"br": "brotli"}
_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_\\"


def readable(body: bytes, *, encoding: bytes | None, limit: int) -> bytes:
    """Give the bytes to read a question from.

    Args:
        body: as it came.
        encoding: the request's `content-encoding`, or None.
        limit: longest body that is unpacked (bytes).

    Returns:
        JSON where the body was JSON; the body itself where it cannot be unpacked here.
    """
    if encoding is not None:
        body = unpacked(body, encoding, limit=limit)
    return without_bulk(body) if len(body) > _SMALL and _has_bulk(body) else body


def plain_json(body: bytes) -> bytes | None:
    """Write a question the way that every reader reads alike.

    Python's own reader takes NaN and UTF-16 for JSON, and Go's takes names in any case; what one of
    them would read must be neither unread here nor left as it is where it is rewritten.

    Args:
        body: not compressed.

    Returns:
        The body itself when it is plain; else the same object in UTF-8, without NaN and with the
        names that matter here in lower case; None when it is no object, or too long for that.
    """
    try:
        names = _names(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    else:
        if not has_odd_names(names):
            return body
    if len(body) > _SLOW:
        return None
    try:
        found = json.loads(body, parse_constant=lambda _: None)
        if not isinstance(found, dict):
            return None
        folded = {_folded(name): value for name, value in found.items()}
        return json.dumps(folded, ensure_ascii=False).encode("utf-8", "replace")
    except (ValueError, RecursionError):
        return None


def has_odd_names(names: Iterable[str]) -> bool:
    """Say whether a field that matters here is written in other case than usual.

    Args:
        names: of a question's fields.

    Returns:
        True when some reader would take one for a field that another does not see.
    """
    return not all(map(str.islower, names)) and any(_folded(name) != name for name in names)


def _folded(name: str) -> str:
    lower = name.lower()
    return lower if lower in _MATTERS else name


def without_bulk(body: bytes) -> bytes:
    """Put a digest in the place of each long base64 text in a JSON document.

    Looks for a text's begin and end only, so a picture costs little more than its digest.

    Args:
        body: JSON bytes.

    Returns:
        JSON bytes; where a base64 text stood, `xxh3:` with 32 hex digits and its length.

    Example:
        >>> picture = b'"data:image/png;base64,' + b"A" * 8000 + b'"'
        >>> len(without_bulk(picture)) < 100
        True
    """
    parts: list[bytes] = []
    done = 0
    place = 0
    while (begin := _BEGINS.search(body, place)) is not None:
        start = begin.end()
        end = body.find(b'"', start)
        if end < 0:
            break
        place = end
        text = body[start:end]
        if len(text) <= _KEPT or not _is_bulk(text):
            place = start
            continue
        digest = f"xxh3:{xxhash.xxh3_128_hexdigest(text)}:{len(text)}".encode()
        parts += [body[done:start], digest]
        done = end
    return b"".join([*parts, body[done:]]) if parts else body


def _has_bulk(body: bytes) -> bool:
    """Look at a few places, which a long base64 text cannot lie between."""
    places = range(_KEPT, len(body), _KEPT)
    return any(not body[place : place + 64].translate(None, _ALPHABET) for place in places)


def _is_bulk(text: bytes) -> bool:
    # Words would betray themselves by their spaces; testing every letter takes longer than parsing.
    if b" " in text or not text.isascii():
        return False
    return b"\\" not in text or b"\\" not in text.replace(b"\\/", b"/")


def unpacked(body: bytes, encoding: bytes, *, limit: int) -> bytes:
    """Undo a request's compression.

    Args:
        body: as it came.
        encoding: its `content-encoding`.
        limit: longest body that is unpacked (bytes).

    Returns:
        The bytes; the body itself where it cannot be unpacked here.
    """
    encoding = encoding.strip().lower()
    # JSON shrinks to a tenth; what shrinks much further is a bomb.
    limit = min(limit, _SMALL + 64 * len(body))
    try:
        if encoding in {b"gzip", b"x-gzip", b"deflate"}:
            return zlib.decompressobj(wbits=47).decompress(body, limit)
        codec = _CODECS.get(encoding)
        if codec is None or not pa.Codec.is_available(codec):
            return body
        plain: bytes = pa.CompressedInputStream(pa.BufferReader(body), codec).read(limit)
    except (zlib.error, OSError, pa.ArrowInvalid):
        return body
    return plain


def inflated(body: bytes, encoding: str | None) -> bytes:
    """Undo an answer's compression: a server may compress although it was asked not to.

    Args:
        body: as it came, cut short perhaps.
        encoding: its `content-encoding`, or None.

    Returns:
        The bytes; the body itself for another coding.

    Raises:
        zlib.error: not what the coding says.
    """
    if encoding not in {"gzip", "deflate"}:
        return body
    # 64 times the size is a bomb.
    return zlib.decompressobj(wbits=47).decompress(body, 64 * len(body) + 1024)
