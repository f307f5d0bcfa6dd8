"""The signed mark order: only the gateway can write one, for one body, for a while."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.errors import InvalidInputError, NotPermittedError
from stillwatch.wire.signature import MarkOrder, sign_mark, verify_mark

SECRET = b"s" * 32
BODY = b'{"messages":[]}'


def _sign(**changes: object) -> str:
    given = {"campaign_id": "c-1", "mark_key_id": "k-1", "body": BODY, "issued_at": 1000.0}
    return sign_mark(SECRET, **{**given, **changes})


@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")), st.binary())
def test_round_trip(campaign_id: str, mark_key_id: str, body: bytes) -> None:
    """Whatever was signed is read back, and fits into a header."""
    header = _sign(campaign_id=campaign_id, mark_key_id=mark_key_id, body=body)
    assert header.isascii()
    assert not set(header) & set(" ,;\r\n")
    assert MarkOrder(campaign_id, mark_key_id) == verify_mark(SECRET, header, body, now=1000.0)


def test_form() -> None:
    """The form is fixed, so that a model server in another language can check it."""
    order = b'{"campaign_id":"c-1","issued_at":1000.0,"mark_key_id":"k-1"}'
    text = base64.urlsafe_b64encode(order).rstrip(b"=")
    signed = b"stillwatch mark order v1\0" + text + b"\0" + hashlib.sha256(BODY).digest()
    code = hmac.new(SECRET, signed, hashlib.sha256).hexdigest()
    assert f"v1.{text.decode()}.{code}" == _sign()


@pytest.mark.parametrize(
    ("secret", "body"), [(b"t" * 32, BODY), (SECRET, BODY + b" "), (SECRET, b"")]
)
def test_wrong_secret_or_body(secret: bytes, body: bytes) -> None:
    """An order signed by another, or lifted onto another question, is refused."""
    with pytest.raises(NotPermittedError, match="does not fit this secret and body"):
        verify_mark(secret, _sign(), body, now=1000.0)


@given(st.integers(0, 200), st.characters())
def test_any_change_is_refused(place: int, character: str) -> None:
    """No change of one character passes."""
    header = _sign()
    place %= len(header)
    changed = header[:place] + character + header[place + 1 :]
    if changed != header:
        with pytest.raises((NotPermittedError, InvalidInputError)):
            verify_mark(SECRET, changed, BODY, now=1000.0)


@pytest.mark.parametrize("header", ["", "v1", "v1.", "v1..", "v1.a.", "v2.a.b", "x", "\ud800.\0"])
def test_malformed(header: str) -> None:
    """A header of another form is the sender's mistake, and is not repeated in the message."""
    with pytest.raises(InvalidInputError, match=f"got {len(header)} characters"):
        verify_mark(SECRET, header, BODY, now=1000.0)


@pytest.mark.parametrize("order", [b"{}", b"no json", b'{"campaign_id":1}', b"\xff"])
def test_signed_nonsense(order: bytes) -> None:
    """A rightly signed order of another form is refused too."""
    text = base64.urlsafe_b64encode(order).rstrip(b"=")
    signed = b"stillwatch mark order v1\0" + text + b"\0" + hashlib.sha256(BODY).digest()
    header = f"v1.{text.decode()}.{hmac.new(SECRET, signed, hashlib.sha256).hexdigest()}"
    with pytest.raises(InvalidInputError, match="header must be v1"):
        verify_mark(SECRET, header, BODY, now=None)


@pytest.mark.parametrize(
    ("now", "passes"), [(1300, True), (1300.5, False), (700, True), (699, False)]
)
def test_age(now: float, passes: bool) -> None:
    """An order is good for its time in both directions, and without a clock at any time."""
    if passes:
        assert MarkOrder("c-1", "k-1") == verify_mark(SECRET, _sign(), BODY, now=now)
    else:
        with pytest.raises(NotPermittedError, match="s old, 300 allowed"):
            verify_mark(SECRET, _sign(), BODY, now=now)
    assert MarkOrder("c-1", "k-1") == verify_mark(SECRET, _sign(), BODY, now=None)


def test_bad_arguments() -> None:
    """A secret that could be searched, and a time that never ends, are refused."""
    with pytest.raises(InvalidInputError, match="secret must be at least 16 bytes, got '5 bytes'"):
        sign_mark(b"short", campaign_id="c", mark_key_id="k", body=b"", issued_at=0.0)
    with pytest.raises(InvalidInputError, match="secret must be"):
        verify_mark(b"short", _sign(), BODY, now=None)
    with pytest.raises(InvalidInputError, match="issued_at must be finite"):
        _sign(issued_at=float("inf"))
