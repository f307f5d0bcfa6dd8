"""Keys: one secret, a sub-key per campaign, and the integers that serving engines ask for."""

from __future__ import annotations

import hashlib
import hmac

from stillwatch.errors import reject
from stillwatch.trace.watermark import campaign_mark, mark_key_id

_ENGINE = b"stillwatch engine key 1\0"


def sub_key(master_key: bytes, campaign_id: str) -> bytes:
    """Derive the secret of one campaign; `Mark.with_key` turns it into that campaign's mark.

    Args:
        master_key: the provider's secret, 16 bytes or more; never leaves the provider.
        campaign_id: as the verdict names the campaign.

    Returns:
        32 bytes, the same that `campaign_mark` uses.
    """
    return campaign_mark(master_key, campaign_id).key


def engine_integer(key: bytes, scheme: str, *, bits: int = 64, index: int = 0) -> int:
    """Map a secret to the integer key of a serving engine's scheme.

    Args:
        key: 16 bytes or more.
        scheme: names the scheme, so that two schemes never share an integer.
        bits: of the integer (count, 1..256).
        index: which of several integers.

    Returns:
        An integer in 1 .. 2 ** bits - 1: 0 is a weak key in several schemes.
    """
    if len(key) < 16:
        reject("with_key", "key", "at least 16 bytes long", got=f"{len(key)} bytes")
    attempt = 0
    while True:
        label = _ENGINE + f"{scheme}\0{index}\0{attempt}".encode()
        drawn = int.from_bytes(hmac.digest(key, label, "sha256"), "big") >> (256 - bits)
        if drawn:
            return drawn
        attempt += 1


def public_id(scheme: str, *parts: object) -> str:
    """Name an engine's key in public by a one-way hash of everything that decides the mark.

    Args:
        scheme: names the scheme.
        *parts: the key and the settings that change the mark.

    Returns:
        16 hexadecimal digits. A short integer key can be guessed from them by trying all.
    """
    text = "\0".join([scheme, *(repr(part) for part in parts)])
    return mark_key_id(hashlib.sha256(text.encode()).digest())
