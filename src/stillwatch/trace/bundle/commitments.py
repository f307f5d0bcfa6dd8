"""Commitments: saying today what will be tested, without showing it until it was tested.

A commitment is a hash over a secret (a key, a canary assignment, an analysis plan) and a random
nonce. It hides the secret and binds to it: nobody can read it out, and nobody can later open it to
anything else. All commitments of one day stand in one small public file, `commitments.json`, which
a time-stamp authority witnesses before the suspect is asked the first question. So a key that was
chosen to fit the answers, or a plan written around them, can be told from an honest one.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import msgspec

from stillwatch.errors import RecordError, reject
from stillwatch.record.disk import from_os_error, replace_file
from stillwatch.record.exchange import canonical_json
from stillwatch.trace.bundle.files import check_name
from stillwatch.trace.bundle.timestamp import Stamp, check_stamp, request_stamp

Kind = Literal["key", "assignment", "split", "plan", "questions", "code"]
#: The public file, the request that goes to an authority, and what must stay at home.
BOOK, REQUEST, SECRET = "commitments.json", "commitments.tsq", "secret"
#: Inside the secret folder, and inside a bundle for what it discloses.
OPENINGS, FILES = "openings.json", "files"
_DOMAIN = b"stillwatch commitment 1\0"
_NONCE_BYTES = 32


class Commitment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One secret, as the world sees it.

    Attributes:
        name: what it is called; also the name of its file.
        kind: key, assignment, split, plan, questions or code.
        digest: SHA-256 over kind, name, nonce and content, hex.
    """

    name: str
    kind: Kind
    digest: str


class Opening(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What opens a commitment, besides the content itself.

    Attributes:
        name: of the commitment.
        nonce: 32 random bytes, hex.
    """

    name: str
    nonce: str


class CommitmentBook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that was committed to at one time: the content of `commitments.json`.

    Attributes:
        stillwatch_commitments: version of the format.
        made_at: UTC epoch seconds by the maker's own clock; the time-stamp is what counts.
        commitments: sorted by name.
    """

    stillwatch_commitments: int = 1
    made_at: float
    commitments: tuple[Commitment, ...]

    @property
    def book_id(self) -> str:
        """The first 16 digits of the book's SHA-256."""
        return hashlib.sha256(encode_book(self)).hexdigest()[:16]

    def named(self, name: str) -> Commitment | None:
        """Look a commitment up.

        Args:
            name: its name.

        Returns:
            The commitment, or None.
        """
        return next((one for one in self.commitments if one.name == name), None)


class Secret(NamedTuple):
    """What is committed to.

    Attributes:
        kind: as of `Commitment`.
        content: the bytes of its file.
    """

    kind: Kind
    content: bytes


def commit(name: str, secret: Secret, *, nonce: bytes) -> Commitment:
    """Commit to a secret.

    Args:
        name: what it is called.
        secret: what it is.
        nonce: 32 fresh random bytes; keep them, they open it.

    Returns:
        The commitment, which may be shown to anybody.

    Raises:
        InvalidInputError: the nonce has another length, or the name could not be a file's.
    """
    check_name(name)
    if len(nonce) != _NONCE_BYTES:
        reject("commit", "nonce", f"{_NONCE_BYTES} bytes", got=f"{len(nonce)} bytes")
    hashed = hashlib.sha256(_DOMAIN)
    # Each part with its length in front: no two lists of parts give the same bytes.
    for part in (secret.kind.encode(), name.encode(), nonce, secret.content):
        hashed.update(len(part).to_bytes(8, "big") + part)
    return Commitment(name=name, kind=secret.kind, digest=hashed.hexdigest())


def opens(commitment: Commitment, opening: Opening, content: bytes) -> bool:
    """Tell whether a content is what was committed to.

    Args:
        commitment: from the public book.
        opening: the nonce that its maker kept.
        content: the bytes of the file.

    Returns:
        Whether it is.
    """
    try:
        nonce = bytes.fromhex(opening.nonce)
    except ValueError:
        return False
    if len(nonce) != _NONCE_BYTES or opening.name != commitment.name:
        return False
    again = commit(commitment.name, Secret(commitment.kind, content), nonce=nonce)
    return hmac.compare_digest(again.digest, commitment.digest)


def write_commitments(
    folder: Path, secret: Mapping[str, Secret], *, now: float | None = None
) -> CommitmentBook:
    """Commit to secrets and keep them until they are disclosed.

    Writes `commitments.json` (publish it), `commitments.tsq` (send it to an authority and keep the
    answer beside it as `ANY-NAME.tsr`) and `secret/`, which only its owner may read: the nonces and
    a copy of each content as it was committed to.

    Args:
        folder: a new or empty folder.
        secret: name -> what to commit to.
        now: UTC epoch seconds; None takes the clock.

    Returns:
        The public book.

    Raises:
        InvalidInputError: there is nothing to commit to, or a name or kind is not one.
        RecordError: the folder holds commitments already.
        EnvironmentUnfitError: the folder cannot be written.
    """
    if not secret:
        reject("write_commitments", "secret", "at least one", got=0)
    for one in secret.values():
        if one.kind not in get_args(Kind):
            reject("write_commitments", "kind", f"one of {', '.join(get_args(Kind))}", got=one.kind)
    if (folder / BOOK).exists() or (folder / SECRET).exists():
        message = f"{folder}: holds commitments already, which must stay as they are"
        raise RecordError(message, hint="commit to further secrets in another folder")
    nonces = {name: secrets.token_bytes(_NONCE_BYTES) for name in sorted(secret)}
    book = CommitmentBook(
        made_at=time.time() if now is None else now,
        commitments=tuple(commit(name, secret[name], nonce=nonces[name]) for name in nonces),
    )
    try:
        _keep_secret(folder / SECRET, secret, nonces)
        replace_file(folder / REQUEST, request_stamp(encode_book(book)))
        # Last: a folder that has the book is complete.
        replace_file(folder / BOOK, encode_book(book))
    except OSError as error:
        raise from_os_error(error, path=folder, doing="write the commitments") from error
    return book


def _keep_secret(folder: Path, secret: Mapping[str, Secret], nonces: Mapping[str, bytes]) -> None:
    (folder / FILES).mkdir(parents=True, mode=0o700)
    folder.chmod(0o700)
    for name, one in secret.items():
        path = folder / FILES / name
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, one.content, mode=0o600)
    openings = [Opening(name=name, nonce=nonce.hex()) for name, nonce in nonces.items()]
    replace_file(folder / OPENINGS, f"{canonical_json(openings)}\n".encode(), mode=0o600)


def encode_book(book: CommitmentBook) -> bytes:
    """Write a book as the one file that it has: what is time-stamped.

    Args:
        book: any.

    Returns:
        JSON with sorted keys and a line end.
    """
    return f"{canonical_json(book)}\n".encode()


def decode_book(content: bytes, *, where: str = BOOK) -> CommitmentBook:
    """Read a book.

    Args:
        content: of `commitments.json`.
        where: the file, for errors.

    Returns:
        The book.

    Raises:
        RecordError: it is not a book as `encode_book` writes it.
    """
    try:
        book = msgspec.json.decode(content, type=CommitmentBook)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        message = f"{where}: not a list of commitments"
        raise RecordError(message, hint="it is written by the commitment step") from error
    if encode_book(book) != content:
        raise RecordError(f"{where}: not as it was written")  # noqa: EM102
    return book


def decode_openings(content: bytes, *, where: str = OPENINGS) -> dict[str, Opening]:
    """Read what opens commitments.

    Args:
        content: of `openings.json`.
        where: the file, for errors.

    Returns:
        By name.

    Raises:
        RecordError: it is not a list of openings.
    """
    try:
        openings = msgspec.json.decode(content, type=list[Opening])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RecordError(f"{where}: not a list of openings") from error  # noqa: EM102
    return {opening.name: opening for opening in openings}


def book_stamps(folder: Path, *, where: str = "") -> dict[str, Stamp]:
    """Read the time-stamps beside a book: that they are about it, not yet whether to trust them.

    Args:
        folder: of `write_commitments`, with the authorities' answers as `*.tsr`.
        where: the folder's name for errors; its path by default.

    Returns:
        File name -> what the stamp says.

    Raises:
        RecordError: there is no book, or an answer is about something else.
    """
    try:
        message = (folder / BOOK).read_bytes()
        answers = {path.name: path.read_bytes() for path in sorted(folder.glob("*.tsr"))}
    except OSError as error:
        raise from_os_error(error, path=folder, doing="read the commitments") from error
    place = where or str(folder)
    return {
        name: check_stamp(answer, message, where=f"{place}/{name}")
        for name, answer in answers.items()
    }
