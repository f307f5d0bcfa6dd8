"""Seals what travels through Redis: who can write there cannot make verdicts.

The key follows from the gateways' own hash key, which they must share anyway or an account would
be two. A seal names what it closes, so that sound bytes cannot be put in another's place.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from stillwatch.errors import RecordError

_SIZE: Final = 32
_PURPOSE: Final = b"stillwatch shared state 1"


class Seal:
    """Closes bytes under a key and a name, and opens them again.

    Args:
        hash_key: the gateways' own.
    """

    def __init__(self, hash_key: bytes) -> None:
        self._key = hmac.digest(hash_key, _PURPOSE, hashlib.sha256)

    def close(self, name: str, content: bytes) -> bytes:
        """Put a seal before content.

        Args:
            name: what it is and where it belongs.
            content: any bytes.

        Returns:
            The sealed bytes.
        """
        return self._sum(name, content) + content

    def open(self, name: str, sealed: bytes) -> bytes:
        """Take the seal off.

        Args:
            name: as given to `close`.
            sealed: what `close` returned.

        Returns:
            The content.

        Raises:
            RecordError: the bytes were changed, stand in another's place, or were closed under
                another key.
        """
        content = sealed[_SIZE:]
        if not hmac.compare_digest(self._sum(name, content), sealed[:_SIZE]):
            message = f"shared: the seal of {name} does not fit its content"
            hint = "gateways that share state need the same STILLWATCH_HASH_KEY"
            raise RecordError(message, hint=hint)
        return content

    def proof(self) -> str:
        """Give what shows that two gateways have one key, and nothing of the key.

        Returns:
            Hex digits.
        """
        return self._sum("proof", b"").hex()

    def _sum(self, name: str, content: bytes) -> bytes:
        title = name.encode()
        head = len(title).to_bytes(4, "little") + title
        return hmac.digest(self._key, head + content, hashlib.sha256)
