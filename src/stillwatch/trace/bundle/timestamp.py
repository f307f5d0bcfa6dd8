"""RFC 3161 time-stamps: ask an authority to witness a hash, and check its answer offline.

An authority signs (hash, time). It never sees what was hashed, and whoever trusts its root
certificate can check years later, without any network, that the file existed at that time.

A request goes out as a file and the answer comes back as one (docs/bundle.md has the command), so
nothing here opens a connection.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stillwatch.errors import RecordError, extra, reject

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from rfc3161_client import Accuracy, TimeStampResponse, TimeStampTokenInfo

#: RFC 5652 section 5.1: where SignedData keeps its certificates, [0] IMPLICIT.
_CERTIFICATES = 0xA0
#: RFC 3161 section 2.4.2, RFC 5652 section 3: which element of which leads there.
_TO_SIGNED_DATA = (0, 1, 1, 0)
_ACCURACY = (("seconds", 1.0), ("millis", 1e-3), ("micros", 1e-6))
#: Digests that an imprint may have been made with (IANA hash function names).
_DIGESTS = {
    "2.16.840.1.101.3.4.2.1": hashlib.sha256,
    "2.16.840.1.101.3.4.2.2": hashlib.sha384,
    "2.16.840.1.101.3.4.2.3": hashlib.sha512,
}


class Stamp(NamedTuple):
    """What a time-stamp says.

    Attributes:
        stamped_at: UTC epoch seconds at which the authority saw the hash.
        accuracy_s: how far off its clock may be, or None when it does not say.
        authority: the name that the token gives the authority.
        serial: the token's number at the authority.
        policy: under which policy it was issued (an object identifier).
        is_trusted: the signature was checked against a root that the caller trusts. False: only
            that the token is about this file; anybody could have made it.
    """

    stamped_at: float
    accuracy_s: float | None
    authority: str
    serial: int
    policy: str
    is_trusted: bool

    @property
    def when(self) -> str:
        """The time as text, UTC."""
        return datetime.fromtimestamp(self.stamped_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def request_stamp(message: bytes) -> bytes:
    """Write a request for a time-stamp over a message; only its SHA-256 goes into it.

    A nonce is part of it, so that two requests differ. The answer is not held to that nonce later:
    an older token over the same hash would only prove more.

    Args:
        message: the file's bytes.

    Returns:
        The request as it is sent (`application/timestamp-query`).
    """
    with extra("stamp"):
        from rfc3161_client import HashAlgorithm, TimestampRequestBuilder
    if not message:
        reject("request_stamp", "message", "not empty", got="0 bytes")
    builder = TimestampRequestBuilder().data(message).hash_algorithm(HashAlgorithm.SHA256)
    return bytes(builder.build().as_bytes())


def check_stamp(
    response: bytes, message: bytes, *, roots: Sequence[Certificate] = (), where: str = "time-stamp"
) -> Stamp:
    """Check an authority's answer: its signature, its certificate's purpose, and what it is about.

    Certificates are held to the time of the stamp, not to today's: a token outlives them. Whether
    one was revoked cannot be known offline.

    Args:
        response: the answer's bytes (`application/timestamp-reply`).
        message: the file's bytes.
        roots: certificates that the caller trusts, from `read_roots`; with none the signature is
            not checked and `is_trusted` is False.
        where: the file, for errors.

    Returns:
        What the stamp says.

    Raises:
        RecordError: the answer cannot be read, grants nothing, is about something else, or does
            not lead to a trusted root.
    """
    told = _parse(response, where)
    digest = _DIGESTS.get(told.algorithm)
    if digest is None or digest(message).digest() != told.imprint:
        text = f"{where}: the time-stamp is about another file"
        raise RecordError(text, hint="each answer goes with the file that its request was made of")
    if roots:
        _check_signature(told.answer, message, roots=roots, where=where)
    return told.stamp._replace(is_trusted=bool(roots))


def read_roots(path: Path) -> list[Certificate]:
    """Read the certificates that somebody trusts.

    Args:
        path: one or more certificates in PEM.

    Returns:
        The certificates.

    Raises:
        RecordError: the file holds none.
    """
    with extra("stamp"):
        from cryptography import x509
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        message = f"{path}: cannot read trusted certificates from it"
        raise RecordError(message, hint="one or more certificates in PEM") from error


def fingerprint(certificate: Certificate) -> str:
    """Name a certificate.

    Args:
        certificate: any.

    Returns:
        SHA-256 of it, hex, as authorities publish it.
    """
    with extra("stamp"):
        from cryptography.hazmat.primitives import hashes
    return certificate.fingerprint(hashes.SHA256()).hex()


class _Told(NamedTuple):
    answer: TimeStampResponse
    stamp: Stamp
    algorithm: str
    imprint: bytes


def _parse(response: bytes, where: str) -> _Told:
    with extra("stamp"):
        from rfc3161_client import PKIStatus, decode_timestamp_response
    try:
        answer = decode_timestamp_response(sort_certificates(response))
        status = PKIStatus(answer.status)
        told = _read(answer) if status is PKIStatus.GRANTED else None
    except Exception as error:  # whatever a damaged answer makes the parsers below raise
        message = f"{where}: not an answer of a time-stamp authority"
        raise RecordError(message, hint="keep the answer as it came, in DER") from error
    if told is None:
        said = "; ".join(answer.status_string)[:200]
        message = f"{where}: the authority granted no time-stamp ({status.name}): {said!r}"
        raise RecordError(message, hint="send the request again, or to another authority")
    return told


def _read(answer: TimeStampResponse) -> _Told:
    info = answer.tst_info
    stamp = Stamp(
        stamped_at=info.gen_time.timestamp(),
        accuracy_s=_accuracy(info),
        authority=_authority(info),
        serial=int(info.serial_number),
        policy=info.policy.dotted_string,
        is_trusted=False,
    )
    imprint = info.message_imprint
    return _Told(answer, stamp, imprint.hash_algorithm.dotted_string, imprint.message)


def _accuracy(info: TimeStampTokenInfo) -> float | None:
    told: Accuracy | None = info.accuracy  # the field is optional in a token
    if told is None:
        return None
    return sum((getattr(told, name) or 0) * unit for name, unit in _ACCURACY)


def _authority(info: TimeStampTokenInfo) -> str:
    """Give the name that the token states, "" when it states none: the field is optional."""
    with extra("stamp"):
        from cryptography import x509
    name: object = info.name
    return name.value.rfc4514_string() if isinstance(name, x509.DirectoryName) else ""


def _check_signature(
    parsed: TimeStampResponse, message: bytes, *, roots: Sequence[Certificate], where: str
) -> None:
    with extra("stamp"):
        from rfc3161_client import VerifierBuilder
    builder = VerifierBuilder()
    for root in {fingerprint(root): root for root in roots}.values():
        builder = builder.add_root_certificate(root)
    try:
        builder.build().verify_message(parsed, message)
    except Exception as error:  # whatever a forged token makes the parsers below raise
        text = f"{where}: the time-stamp does not lead to a trusted authority: {error}"
        hint = "name the root certificate of the authority that issued it"
        raise RecordError(text, hint=hint) from error


def sort_certificates(response: bytes) -> bytes:
    """Put the certificates inside an answer into the order of DER.

    OpenSSL, and every authority built on it, writes them in the order of the chain. RFC 5652 allows
    that, the strict parser underneath does not. They lie outside what is signed, and sorting pieces
    of one set changes no length, so the token stays what it was.

    Args:
        response: the answer's bytes.

    Returns:
        The same bytes with that one set sorted; as they are when they do not read so far.
    """
    start, end = 0, len(response)
    try:
        for step in _TO_SIGNED_DATA:
            _, start, end = _children(response, start, end)[step]
        for tag, first, last in _children(response, start, end):
            if tag == _CERTIFICATES:
                pieces = _pieces(response, first, last)
                return response[:first] + b"".join(sorted(pieces)) + response[last:]
    except IndexError:
        pass
    return response


def _pieces(data: bytes, start: int, end: int) -> list[bytes]:
    """Cut a constructed value into its elements, headers and all."""
    found, at = [], start
    for _, _, stop in _children(data, start, end):
        found.append(data[at:stop])
        at = stop
    return found


def _children(data: bytes, start: int, end: int) -> list[tuple[int, int, int]]:
    """List tag, start and end of the contents of each element; IndexError when they do not fit."""
    found = []
    while start < end:
        tag, size, at = data[start], data[start + 1], start + 2
        if size & 0x80:
            width = size & 0x7F
            size, at = int.from_bytes(data[at : at + width], "big"), at + width
        start = at + size
        if start > end:
            raise IndexError
        found.append((tag, at, start))
    return found
