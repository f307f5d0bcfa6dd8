"""What a bundle consists of: the manifest, the seal that is time-stamped, the case and its steps.

Every file is a leaf of one Merkle tree, hashed with a salt of its own. The salts of what is shown
stand in the manifest; those of what is kept back do not, so that a short file or line (an answer of
one word, a name) cannot be guessed and tried against its hash. JSON lines are trees of their own,
one leaf a line, so that single lines can be kept back.

The seal is the same few bytes in the full bundle and in every redacted one: a stamp over it holds
for all of them.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from typing import Any, BinaryIO, Literal

import msgspec

from stillwatch.errors import RecordError
from stillwatch.record.exchange import canonical_json
from stillwatch.trace.bundle.merkle import hash_leaf, merkle_root

MANIFEST, SEAL, CASE = "manifest.json", "seal.json", "case.json"
STEPS, ENVIRONMENT = "steps.json", "environment.json"
#: Folders with a meaning; what is given to a bundle lies beside them.
STAMPS, COMMITMENTS, RESULTS = "stamps", "commitments", "results"
_SALT_BYTES = 16
_PIECE = 1 << 20
_WITHHELD = b'{"withheld":"%s"}'


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who asked whom, and with what right.

    Attributes:
        title: one line.
        made_by: who ran the tests.
        permission: on whose permission the suspect was asked, and under which terms.
        claim: what the tests are about, in a sentence.
        suspect: the model's name as its provider writes it.
        endpoint: where it was asked, or "" for files and weights.
        sampling: settings that were sent with the questions.
        asked_from: UTC epoch seconds of the first question, by the asker's clock; None = not asked.
        asked_until: of the last answer.
        notes: what a reader must know besides.
    """

    title: str
    made_by: str
    permission: str
    claim: str = ""
    suspect: str = ""
    endpoint: str = ""
    sampling: dict[str, Any] = {}
    asked_from: float | None = None
    asked_until: float | None = None
    notes: tuple[str, ...] = ()


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One number-making step, as it can be done again.

    Attributes:
        name: unique in the bundle.
        test: which test, a key of `recompute.RUNNERS`.
        inputs: role -> file of the bundle; when making one, `commitment:NAME` stands for the file
            that a disclosed commitment opens to.
        settings: further arguments, seeds among them.
        result: file of the bundle with what came out; "" = `results/NAME.json`.
    """

    name: str
    test: str
    inputs: dict[str, str] = {}
    settings: dict[str, Any] = {}
    result: str = ""

    @property
    def result_path(self) -> str:
        """The file with what came out."""
        return self.result or f"{RESULTS}/{self.name}.json"


class Lines(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of lines as a tree of its own.

    Attributes:
        n: pieces between line ends; one that ends with a line end has an empty last piece.
        salts: in a redacted bundle the salt of each shown piece and "" for the others, hex; () in a
            full one, where they follow from the manifest's salt.
    """

    n: int
    salts: tuple[str, ...] = ()


class Entry(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """One file.

    Attributes:
        path: its name in the bundle.
        n_bytes: its size as it lies here.
        sha256: of its bytes as they lie here, hex; "" when the file is kept back.
        lines: for JSON lines.
        salt: of its leaf in a redacted bundle, hex.
        leaf: of a file that is kept back, hex.
        withheld: why the file, or lines of it, are kept back; "" = all of it is here.
    """

    path: str
    n_bytes: int = 0
    sha256: str = ""
    lines: Lines | None = None
    salt: str = ""
    leaf: str = ""
    withheld: str = ""

    @property
    def is_withheld(self) -> bool:
        """Whether the whole file is kept back."""
        return bool(self.leaf)


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All files of a bundle: the content of `manifest.json`.

    Attributes:
        stillwatch_bundle: version of the format.
        variant: full, or redacted when something is kept back.
        made_at: UTC epoch seconds by the maker's clock.
        root: of the tree over all files, hex.
        files: sorted by path.
        stamps: `stamps/NAME.tsr` -> SHA-256, hex: made over the seal, so outside the tree.
        salt: of a full bundle, hex; "" in a redacted one.
        digest: SHA-256 over all of the above.
    """

    stillwatch_bundle: int = 1
    variant: Literal["full", "redacted"]
    made_at: float
    root: str
    files: tuple[Entry, ...]
    stamps: dict[str, str] = {}
    salt: str = ""
    digest: str = ""

    def sealed(self) -> bytes:
        """Write the seal: version, root, number of files and date.

        Returns:
            The bytes of `seal.json`.
        """
        told = {
            "stillwatch_bundle": self.stillwatch_bundle,
            "root": self.root,
            "n_files": len(self.files),
            "made_at": self.made_at,
        }
        return f"{canonical_json(told)}\n".encode()

    def encoded(self) -> bytes:
        """Write the manifest with its digest.

        Returns:
            The bytes of `manifest.json`.
        """
        body = canonical_json(msgspec.structs.replace(self, digest=""))
        digest = hashlib.sha256(body.encode()).hexdigest()
        return f"{canonical_json(msgspec.structs.replace(self, digest=digest))}\n".encode()

    def leaf_salt(self, entry: Entry) -> bytes:
        """Find the salt of a file's leaf.

        Args:
            entry: a shown file.

        Returns:
            16 bytes.
        """
        if entry.salt:
            return bytes.fromhex(entry.salt)
        return _derived(self.salt, b"leaf", entry.path)[:_SALT_BYTES]

    def line_salts(self, entry: Entry) -> Iterator[bytes | None]:
        """Give the salt of every line of a file, in order.

        Args:
            entry: a shown file of lines.

        Yields:
            16 bytes for a shown line, None for one that is kept back.
        """
        lines = entry.lines or Lines(n=0)
        if lines.salts:
            yield from (bytes.fromhex(salt) if salt else None for salt in lines.salts)
            return
        key = _derived(self.salt, b"lines", entry.path)
        for i in range(lines.n):
            yield hmac.digest(key, i.to_bytes(8, "big"), "sha256")[:_SALT_BYTES]


def decode_manifest(content: bytes) -> Manifest:
    """Read a manifest and hold it to its own digest.

    Args:
        content: of `manifest.json`.

    Returns:
        The manifest.

    Raises:
        RecordError: it is not one, or a byte of it was altered.
    """
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
        again = manifest.encoded()
    except (msgspec.MsgspecError, UnicodeError, ValueError) as error:
        message = f"{MANIFEST}: not the manifest of a bundle"
        raise RecordError(message, hint="a bundle comes from `make_bundle`") from error
    if manifest.stillwatch_bundle != 1:
        message = f"{MANIFEST}: version {manifest.stillwatch_bundle} is newer than this program"
        raise RecordError(message, hint="verify it with the version that made it")
    if again != content:
        raise RecordError(f"{MANIFEST}: altered, it does not fit its own digest")  # noqa: EM102
    return manifest


def root_of(leaves: list[bytes]) -> str:
    """Compute a bundle's root.

    Args:
        leaves: of all files, sorted by path.

    Returns:
        Hex.
    """
    return merkle_root(leaves).hex()


def file_leaf(entry: Entry, content_digest: bytes, salt: bytes) -> bytes:
    """Hash one file into its leaf.

    Args:
        entry: whose path and kind.
        content_digest: SHA-256 of the file, or of its lines from `lines_digest`.
        salt: of the leaf.

    Returns:
        32 bytes.
    """
    kind = b"file\0" if entry.lines is None else b"lines\0"
    return hash_leaf(salt + kind + content_digest + entry.path.encode())


def lines_digest(leaves: list[bytes]) -> bytes:
    """Hash the lines of a file together with their number.

    Args:
        leaves: one a line.

    Returns:
        32 bytes.
    """
    return hashlib.sha256(len(leaves).to_bytes(8, "big") + merkle_root(leaves)).digest()


def line_leaf(piece: bytes, salt: bytes) -> bytes:
    """Hash one line into its leaf.

    Args:
        piece: without the line end.
        salt: of the line.

    Returns:
        32 bytes.
    """
    return hash_leaf(salt + piece)


def withheld_line(leaf: bytes) -> bytes:
    """Write what stands in place of a line that is kept back.

    Args:
        leaf: of the line.

    Returns:
        A line of JSON, without its end.
    """
    return _WITHHELD % leaf.hex().encode()


def withheld_leaf(piece: bytes) -> bytes | None:
    """Read what stands in place of a line.

    Args:
        piece: the line, without its end.

    Returns:
        The leaf of the line that is kept back; None when it is no such note.
    """
    digits = piece[len(b'{"withheld":"') : -len(b'"}')]
    try:
        leaf = bytes.fromhex(digits.decode("ascii"))
    except (ValueError, UnicodeDecodeError):
        return None
    return leaf if len(leaf) == 32 and withheld_line(leaf) == piece else None


def pieces_of(file: BinaryIO) -> Iterator[bytes]:
    """Cut a file at its line ends, so that joining the pieces by line ends gives it back.

    Args:
        file: open for reading.

    Yields:
        The pieces, at least one.
    """
    ends = True
    for line in file:
        ends = line.endswith(b"\n")
        yield line[:-1] if ends else line
    if ends:
        yield b""


def hash_file(file: BinaryIO) -> tuple[int, str]:
    """Read a file once.

    Args:
        file: open for reading.

    Returns:
        Its size and SHA-256, hex.
    """
    digest, size = hashlib.sha256(), 0
    while piece := file.read(_PIECE):
        digest.update(piece)
        size += len(piece)
    return size, digest.hexdigest()


def _derived(salt: str, purpose: bytes, path: str) -> bytes:
    return hmac.digest(bytes.fromhex(salt), purpose + b"\0" + path.encode(), "sha256")
