"""The signed order by which the gateway tells the model server to mark an answer.

The order travels as one header beside the question. It is bound to the very body that it came with,
so it cannot be lifted onto another question, and it ages, so it cannot be kept. The header is
``v1.<order, base64url of canonical JSON>.<HMAC-SHA256, hex>``; the code covers a fixed label, the
order and the SHA-256 of the body.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from stillwatch.wire.seal import Age, Purpose, seal_order, unseal_order

#: The header's name, lower case as ASGI has it.
MARK_HEADER = "x-stillwatch-mark"
_PURPOSE = Purpose(
    MARK_HEADER,
    b"stillwatch mark order v1",
    "header",
    "v1.ORDER.CODE",
    "give gateway and model server the same mark secret",
)


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
    order = _Order(campaign_id=campaign_id, issued_at=float(issued_at), mark_key_id=mark_key_id)
    return seal_order(secret, _PURPOSE, order, body=body)


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
    age = Age(now, max_age_s)
    order = unseal_order(secret, _PURPOSE, header, body=body, decoder=_DECODER, age=age)
    return MarkOrder(order.campaign_id, order.mark_key_id)
