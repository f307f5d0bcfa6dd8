"""The signed order by which the gateway tells the model server to mark an answer.

The order travels as one header beside the question. It is bound to the very body that it came with,
so it cannot be lifted onto another question, and it ages, so it cannot be kept. The header is
``v1.<order, base64url of canonical JSON>.<HMAC-SHA256, hex>``; the code covers a fixed label, the
order and the SHA-256 of the body.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import math
from typing import NamedTuple, NoReturn

import msgspec

from stillwatch.errors import InvalidInputError, NotPermittedError, reject

#: The header's name, lower case as ASGI has it.
MARK_HEADER = "x-stillwatch-mark"
_VERSION = "v1"
_LABEL = b"stillwatch mark order v1"
_MIN_SECRET = 16  # bytes: below 128 bits a secret can be searched


class MarkOrder(NamedTuple):
    """Which campaign an answer goes to, and the key it shall carry.

    Attributes:
        campaign_id: the campaign whose verdict ordered the mark.
        mark_key_id: id of the watermark key.
    """

    campaign_id: str
    mark_key_id: str


class _Order(msgspec.Struct, frozen=True):
    campaign_id: str
    issued_at: float
    mark_key_id: str


_DECODER = msgspec.json.Decoder(_Order)


def sign_mark(
    secret: bytes, *, campaign_id: str, mark_key_id: str, body: bytes, issued_at: float
) -> str:
    """Write the header that orders a mark for the question in `body`.

    Args:
        secret: shared by gateway and model server, at least 16 bytes.
        campaign_id: the campaign whose verdict orders the mark.
        mark_key_id: id of the watermark key.
        body: the bytes of the question as they are forwarded.
        issued_at: UTC epoch seconds.

    Returns:
        The value of the header `x-stillwatch-mark`, ASCII without spaces.

    Raises:
        InvalidInputError: the secret is too short or the time is not finite.
    """
    _check_secret(secret)
    if not math.isfinite(issued_at):
        reject("sign_mark", "issued_at", "finite epoch seconds", got=issued_at)
    order = msgspec.json.encode(
        _Order(campaign_id=campaign_id, issued_at=float(issued_at), mark_key_id=mark_key_id)
    )
    text = base64.urlsafe_b64encode(order).rstrip(b"=")
    return f"{_VERSION}.{text.decode()}.{_code(secret, text, body=body)}"


def verify_mark(
    secret: bytes, header: str, body: bytes, *, now: float | None, max_age_s: float = 300
) -> MarkOrder:
    """Read an order, and refuse it unless the gateway wrote it for this body and lately.

    The comparison takes the same time whatever the code's first wrong digit, and nothing of the
    order is read before its code is right.

    Args:
        secret: shared by gateway and model server, at least 16 bytes.
        header: the value of `x-stillwatch-mark`.
        body: the bytes of the question as they came.
        now: UTC epoch seconds, or None to accept any age (a simulated clock).
        max_age_s: seconds that an order is good for, into the past and, for clocks that differ,
            into the future.

    Returns:
        The campaign and the key.

    Raises:
        InvalidInputError: the header does not have the form that `sign_mark` writes.
        NotPermittedError: the code is wrong, or the order is too old.
    """
    _check_secret(secret)
    version, _, rest = header.partition(".")
    text, _, code = rest.partition(".")
    if version != _VERSION or not text or not code:
        _malformed(header)
    # Bytes, because compare_digest refuses text that is not ASCII instead of finding it unequal.
    expected = _code(secret, text.encode("utf-8", "surrogatepass"), body=body).encode()
    if not hmac.compare_digest(expected, code.encode("utf-8", "surrogatepass")):
        message = f"{MARK_HEADER}: the signature does not fit this secret and body"
        raise NotPermittedError(message, hint="give gateway and model server the same mark secret")
    try:
        order = _DECODER.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (msgspec.MsgspecError, binascii.Error, ValueError):
        _malformed(header)
    if now is not None and not abs(now - order.issued_at) <= max_age_s:
        message = (
            f"{MARK_HEADER}: the order is {now - order.issued_at:.0f} s old, {max_age_s:g} allowed"
        )
        raise NotPermittedError(message, hint="check the clocks of gateway and model server")
    return MarkOrder(order.campaign_id, order.mark_key_id)


def _code(secret: bytes, text: bytes, *, body: bytes) -> str:
    signed = b"\0".join((_LABEL, text, hashlib.sha256(body).digest()))
    return hmac.digest(secret, signed, "sha256").hex()


def _check_secret(secret: bytes) -> None:
    if len(secret) < _MIN_SECRET:
        rule = f"at least {_MIN_SECRET} bytes"
        reject("mark signature", "secret", rule, got=f"{len(secret)} bytes")


def _malformed(header: str) -> NoReturn:
    message = f"{MARK_HEADER}: header must be v1.ORDER.CODE, got {len(header)} characters"
    raise InvalidInputError(message)
