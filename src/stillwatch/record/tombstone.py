"""What stands in a journal where a line was forgotten, and the digest that it does not change.

The stand-in is as long as the line was and keeps nothing of it but its SHA-256, so that no place in
the journal moves and the digest of the segment, taken over the lines' SHA-256, stays as it was.
"""

from __future__ import annotations

import hashlib
import re

_TOMBSTONE = re.compile(rb'\{"forgotten":"([0-9a-f]{64})"\} *\n')
#: A shorter line has no room for a tombstone (bytes); no exchange is that short.
SHORTEST = len(b'{"forgotten":""}\n') + 64


def tombstone(digest: bytes, *, length: int) -> bytes:
    """Write the line that stands in for a forgotten one.

    Args:
        digest: SHA-256 of the line to forget, its line feed included.
        length: its length in bytes, `SHORTEST` or more.

    Returns:
        A line of the same length; JSON by itself.
    """
    line = b'{"forgotten":"' + digest.hex().encode() + b'"}'
    return line.ljust(length - 1) + b"\n"


def forgotten_digest(raw: bytes) -> bytes | None:
    """Read a line that stands in for a forgotten one.

    Args:
        raw: any line, its line feed included.

    Returns:
        The SHA-256 of the line that it was, or None when the line is of another kind.

    Example:
        >>> forgotten_digest(tombstone(bytes(32), length=90)) == bytes(32)
        True
        >>> forgotten_digest(b'{"sum":"8d7c41e2a9b05f13"}') is None
        True
    """
    match = _TOMBSTONE.fullmatch(raw)
    return bytes.fromhex(match[1].decode()) if match else None


class SegmentDigest:
    """SHA-256 over the SHA-256 of each line; for a tombstone, over that of the line it was."""

    __slots__ = ("_sha",)

    def __init__(self) -> None:
        self._sha = hashlib.sha256()

    def update(self, raw: bytes) -> None:
        """Take in the next line.

        Args:
            raw: the line, its line feed included.
        """
        self._sha.update(forgotten_digest(raw) or hashlib.sha256(raw).digest())

    def copy(self) -> SegmentDigest:
        """Keep the digest of the lines so far.

        Returns:
            A digest that goes its own way from here.
        """
        kept = SegmentDigest()
        kept._sha = self._sha.copy()
        return kept

    def hexdigest(self) -> str:
        """Write the digest.

        Returns:
            64 hex digits.
        """
        return self._sha.hexdigest()
