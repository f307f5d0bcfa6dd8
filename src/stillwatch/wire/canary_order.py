"""The signed order by which the gateway tells the model server to answer with canaries.

A canary is a place in an answer where several variants would do equally well; which one a campaign
gets is drawn by a key of its own (`trace.canaries.canary`). The gateway cannot write into answers
that it does not make, so it orders: one header beside the question, the twin of the order to mark
in `wire.signature`, with a label of its own, so that neither can be taken for the other.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import NamedTuple

import msgspec

from stillwatch.errors import reject
from stillwatch.wire.seal import Age, Purpose, seal_order, unseal_order

#: The header's name, lower case as ASGI has it.
CANARY_HEADER = "x-stillwatch-canary"
#: The model server's word that an answer carries canaries, with the key's id; goes no further.
CANARIED_HEADER = b"x-stillwatch-canaries"
_PURPOSE = Purpose(
    CANARY_HEADER,
    b"stillwatch canary order v1",
    "header",
    "v1.ORDER.CODE",
    "give gateway and model server the same mark secret",
)
_SCHEDULE = b"stillwatch campaign canary v1\0"
_KEY_ID = b"stillwatch canary key id v1\0"


class CanaryOrder(NamedTuple):
    """Which campaign an answer goes to, and the key that draws its canaries.

    Attributes:
        campaign_id: the campaign whose verdict ordered them.
        canary_key_id: id of the key.
    """

    campaign_id: str
    canary_key_id: str


class CanaryKey(NamedTuple):
    """The key that draws one campaign's canaries.

    Attributes:
        key: the secret, for `trace.canaries.canary.draw_assignment`.
        key_id: its name in public.
    """

    key: bytes
    key_id: str


class _Order(msgspec.Struct, frozen=True):
    campaign_id: str
    canary_key_id: str
    issued_at: float


_DECODER = msgspec.json.Decoder(_Order)


def canary_key(master_key: bytes, campaign_id: str) -> CanaryKey:
    """Derive the key of one campaign.

    Args:
        master_key: the provider's secret, 16 bytes or more; gateway and model server share it.
        campaign_id: as the verdict names the campaign.

    Returns:
        The key; the same arguments always give the same one.

    Raises:
        InvalidInputError: the master key is too short.
    """
    if len(master_key) < 16:
        got = f"{len(master_key)} bytes"
        reject("canary_key", "master_key", "at least 16 bytes long", got=got)
    key = hmac.digest(master_key, _SCHEDULE + campaign_id.encode(), "sha256")
    return CanaryKey(key, hashlib.sha256(_KEY_ID + key).hexdigest()[:16])


def sign_canary(
    secret: bytes, *, campaign_id: str, canary_key_id: str, body: bytes, issued_at: float
) -> str:
    """Write the header that orders canaries for the question in `body`.

    Args:
        secret: shared by gateway and model server, at least 16 bytes.
        campaign_id: the campaign whose verdict orders them.
        canary_key_id: id of the key that draws them.
        body: the bytes of the question as they are forwarded.
        issued_at: UTC epoch seconds.

    Returns:
        The value of the header `x-stillwatch-canary`, ASCII without spaces.

    Raises:
        InvalidInputError: the secret is too short or the time is not finite.
    """
    order = _Order(campaign_id, canary_key_id, float(issued_at))
    return seal_order(secret, _PURPOSE, order, body=body)


def verify_canary(
    secret: bytes, header: str, body: bytes, *, now: float | None, max_age_s: float = 300
) -> CanaryOrder:
    """Read an order, and refuse it unless the gateway wrote it for this body and lately.

    Args:
        secret: shared by gateway and model server, at least 16 bytes.
        header: the value of `x-stillwatch-canary`.
        body: the bytes of the question as they came.
        now: UTC epoch seconds, or None to accept any age (a simulated clock).
        max_age_s: seconds that an order is good for, either way.

    Returns:
        The campaign and the key.

    Raises:
        InvalidInputError: the header does not have the form that `sign_canary` writes.
        NotPermittedError: the code is wrong, or the order is too old.
    """
    age = Age(now, max_age_s)
    order = unseal_order(secret, _PURPOSE, header, body=body, decoder=_DECODER, age=age)
    return CanaryOrder(order.campaign_id, order.canary_key_id)
