"""Time-stamps: requests that a real authority answers, and answers that are checked offline."""

import time

import pytest

from stillwatch.errors import RecordError
from stillwatch.trace.bundle.timestamp import (
    check_stamp,
    fingerprint,
    read_roots,
    request_stamp,
    sort_certificates,
)

MESSAGE = b"root of a bundle\n"


@pytest.fixture(scope="module")
def answer(authority):
    """One answer over MESSAGE."""
    return authority.answer(request_stamp(MESSAGE))


def test_a_real_authority_answers(authority, answer):
    """A request is answered by openssl, and the answer is trusted through its root."""
    stamp = check_stamp(answer, MESSAGE, roots=read_roots(authority.root))
    assert (True, "CN=Test Time Signer,O=Test Time") == (stamp.is_trusted, stamp.authority)
    assert (1.0, "1.3.6.1.4.1.99999.1") == (stamp.accuracy_s, stamp.policy)
    assert abs(stamp.stamped_at - time.time()) < 600
    assert stamp.when.endswith(" UTC")


def test_openssl_agrees(authority, answer):
    """What is trusted here, openssl verifies too: nobody needs this package for it."""
    assert "Verification: OK" in authority.own_view(MESSAGE, answer)


def test_without_a_root_nothing_is_believed(answer):
    """A stamp read without a trusted root says so."""
    assert not check_stamp(answer, MESSAGE).is_trusted


def test_another_message_is_refused(authority, answer):
    """A stamp holds for the file that it was made over, and for no other."""
    for roots in ((), read_roots(authority.root)):
        with pytest.raises(RecordError, match=r"x\.tsr: the time-stamp is about another file"):
            check_stamp(answer, MESSAGE + b" ", roots=roots, where="x.tsr")


def test_another_authority_is_refused(other_authority, answer):
    """A stamp that does not lead to the root that is trusted is refused, naming the file."""
    roots = read_roots(other_authority().root)
    with pytest.raises(RecordError, match=r"a\.tsr: the time-stamp does not lead to a trusted"):
        check_stamp(answer, MESSAGE, roots=roots, where="a.tsr")


def test_one_of_many_roots_is_enough(authority, other_authority, answer, tmp_path):
    """A reader may trust several authorities in one file."""
    both = tmp_path / "roots.pem"
    both.write_bytes(other_authority().root.read_bytes() + authority.root.read_bytes())
    roots = read_roots(both)
    assert 2 == len({fingerprint(root) for root in roots})
    assert check_stamp(answer, MESSAGE, roots=[*roots, *roots]).is_trusted


def test_an_altered_answer_is_refused(authority, answer):
    """No altered byte of what is signed, of the signature or of the signer gets through."""
    roots = read_roots(authority.root)
    honest = check_stamp(answer, MESSAGE, roots=roots)
    for at in range(0, len(answer), 7):
        altered = bytearray(answer)
        altered[at] ^= 0x10
        try:
            stamp = check_stamp(bytes(altered), MESSAGE, roots=roots)
        except RecordError:
            continue
        # Certificates beside the signer's are not signed; a bundle's manifest holds those.
        assert honest == stamp


def test_no_authority_name_is_no_error(other_authority):
    """A token that names nobody is read; its authority is empty."""
    nameless = other_authority("nameless", named=False)
    stamp = check_stamp(
        nameless.answer(request_stamp(MESSAGE)), MESSAGE, roots=read_roots(nameless.root)
    )
    assert ("", True) == (stamp.authority, stamp.is_trusted)


def test_a_refusal_is_told(authority):
    """An authority that refuses is reported with what it said."""
    from rfc3161_client import TimestampRequestBuilder

    asked = bytearray(TimestampRequestBuilder().data(MESSAGE).build().as_bytes())
    # The digest's object identifier: SHA-512 (..2.3) becomes SHA-384, which openssl may not use.
    place = bytes(asked).index(bytes.fromhex("608648016503040203")) + 8
    asked[place] = 2
    with pytest.raises(RecordError, match=r"granted no time-stamp \(REJECTION\)"):
        check_stamp(authority.answer(bytes(asked)), MESSAGE)


@pytest.mark.parametrize("junk", [b"", b"\x30", b"\x30\x84\xff\xff\xff\xff", b"<html>busy</html>"])
def test_junk_is_no_answer(authority, junk):
    """What is no answer is refused as such, whatever its bytes."""
    with pytest.raises(RecordError, match=r"r\.tsr: not an answer of a time-stamp authority"):
        check_stamp(junk, MESSAGE, where="r.tsr")
    assert junk == sort_certificates(junk)


def test_sorting_certificates_changes_their_order_only(answer):
    """Sorting the certificates keeps every byte, and doing it twice changes nothing more."""
    once = sort_certificates(answer)
    assert sorted(answer) == sorted(once)
    assert once == sort_certificates(once)


def test_an_empty_message_is_refused(authority):
    """Nothing cannot be stamped."""
    with pytest.raises(ValueError, match="message must be not empty"):
        request_stamp(b"")


def test_no_certificates_to_trust(tmp_path):
    """A file without certificates is refused, naming it."""
    pytest.importorskip("cryptography")
    (tmp_path / "roots.pem").write_text("nothing")
    with pytest.raises(RecordError, match=r"roots\.pem: cannot read trusted certificates"):
        read_roots(tmp_path / "roots.pem")
