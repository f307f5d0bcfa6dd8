"""Plain data under a signature, as one word of text: ``v1.<data, base64url>.<HMAC-SHA256, hex>``.

The code covers a fixed label, so that what was signed for one purpose is worth nothing for another,
the data, and the SHA-256 of a body when the word travels beside one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import math
from typing import NamedTuple, NoReturn, Protocol, TypeVar

import msgspec

from stillwatch.errors import InvalidInputError, NotPermittedError, reject

_VERSION = "v1"
_MIN_SECRET = 16  # bytes: below 128 bits a secret can be searched


class Purpose(NamedTuple):
    """What a sealed word is for.

    Attributes:
        name: of the header or thing, for errors.
        label: fixed bytes that no other purpose has.
        noun: what the word is, for errors.
        form: what it looks like, for errors.
        mend: what to do about a wrong signature.
    """

    name: str
    label: bytes
    noun: str
    form: str
    mend: str


def seal(secret: bytes, purpose: Purpose, data: bytes, *, body: bytes | None = None) -> str:
    """Sign data.

    Args:
        secret: at least 16 bytes.
        purpose: what it is for.
        data: any bytes; not hidden.
        body: the bytes that the word travels beside; None for none.

    Returns:
        The word, ASCII without spaces.

    Raises:
        InvalidInputError: the secret is too short.
    """
    check_secret(secret, purpose)
    text = base64.urlsafe_b64encode(data).rstrip(b"=")
    return f"{_VERSION}.{text.decode()}.{_code(secret, purpose, text, body=body)}"


def unseal(secret: bytes, purpose: Purpose, word: str, *, body: bytes | None = None) -> bytes:
    """Give the data back, and refuse it unless the holder of the secret signed it for this.

    The comparison takes the same time whatever the code's first wrong digit, and nothing of the
    data is read before its code is right.

    Args:
        secret: that it was signed with.
        purpose: what it is for.
        word: as it came.
        body: the bytes that it came beside; None for none.

    Returns:
        The data.

    Raises:
        InvalidInputError: the word does not have the form that `seal` writes.
        NotPermittedError: the signature is wrong.
    """
    check_secret(secret, purpose)
    version, _, rest = word.partition(".")
    text, _, code = rest.partition(".")
    if version != _VERSION or not text or not code:
        malformed(purpose, word)
    # Bytes, because compare_digest refuses text that is not ASCII instead of finding it unequal.
    expected = _code(secret, purpose, text.encode("utf-8", "surrogatepass"), body=body).encode()
    if not hmac.compare_digest(expected, code.encode("utf-8", "surrogatepass")):
        what = "secret" if body is None else "secret and body"
        message = f"{purpose.name}: the signature does not fit this {what}"
        raise NotPermittedError(message, hint=purpose.mend)
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        malformed(purpose, word)


class Order(Protocol):
    """What a header orders of the model server, dated.

    Attributes:
        issued_at: when it was written (UTC epoch seconds).
    """

    @property
    def issued_at(self) -> float: ...  # noqa: D102 - above


_Dated = TypeVar("_Dated", bound=Order)


class Age(NamedTuple):
    """How old an order may be.

    Attributes:
        now: UTC epoch seconds, or None to accept any age (a simulated clock).
        most_s: seconds that it is good for, into the past and, for clocks that differ, into the
            future.
    """

    now: float | None
    most_s: float


def seal_order(secret: bytes, purpose: Purpose, order: Order, *, body: bytes) -> str:
    """Sign an order for the question in `body`.

    Args:
        secret: shared by gateway and model server, at least 16 bytes.
        purpose: what it is for.
        order: any struct that has a date.
        body: the bytes of the question as they are forwarded.

    Returns:
        The word, ASCII without spaces.

    Raises:
        InvalidInputError: the secret is too short or the time is not finite.
    """
    if not math.isfinite(order.issued_at):
        reject(purpose.name, "issued_at", "finite epoch seconds", got=order.issued_at)
    return seal(secret, purpose, msgspec.json.encode(order), body=body)


def unseal_order(
    secret: bytes,
    purpose: Purpose,
    word: str,
    *,
    body: bytes,
    decoder: msgspec.json.Decoder[_Dated],
    age: Age,
) -> _Dated:
    """Read an order, and refuse it unless it was written for this body, and lately.

    Args:
        secret: as for `seal_order`.
        purpose: what it is for.
        word: as it came.
        body: the bytes of the question as they came.
        decoder: of the order.
        age: how old it may be.

    Returns:
        The order.

    Raises:
        InvalidInputError: the word does not have the form that `seal_order` writes.
        NotPermittedError: the code is wrong, or the order is too old.
    """
    data = unseal(secret, purpose, word, body=body)
    try:
        order = decoder.decode(data)
    except (msgspec.MsgspecError, ValueError):
        malformed(purpose, word)
    if age.now is not None and not abs(age.now - order.issued_at) <= age.most_s:
        old_s = age.now - order.issued_at
        message = f"{purpose.name}: the order is {old_s:.0f} s old, {age.most_s:g} allowed"
        raise NotPermittedError(message, hint="check the clocks of gateway and model server")
    return order


def malformed(purpose: Purpose, word: str) -> NoReturn:
    """Refuse a word that does not have the form.

    Args:
        purpose: what it is for.
        word: as it came; only its length is told.

    Raises:
        InvalidInputError: always.
    """
    message = f"{purpose.name}: {purpose.noun} must be {purpose.form}, got {len(word)} characters"
    raise InvalidInputError(message)


def check_secret(secret: bytes, purpose: Purpose) -> None:
    """Refuse a secret that can be searched.

    Args:
        secret: to sign with.
        purpose: for the error.

    Raises:
        InvalidInputError: it is too short.
    """
    if len(secret) < _MIN_SECRET:
        reject(purpose.name, "secret", f"at least {_MIN_SECRET} bytes", got=f"{len(secret)} bytes")


def _code(secret: bytes, purpose: Purpose, text: bytes, *, body: bytes | None) -> str:
    signed = b"\0".join((purpose.label, text, hashlib.sha256(body or b"").digest()))
    return hmac.digest(secret, signed, "sha256").hex()
