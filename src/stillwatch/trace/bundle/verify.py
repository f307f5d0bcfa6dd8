"""Check a bundle on any machine, offline: every byte of it, and what was known when.

Two questions are answered apart. *Is it sound?* Every file is the one that was sealed, nothing was
added, lost or altered, and every opened commitment opens to its file. *Is it timely?* An authority
that the reader trusts saw the commitments before the suspect was asked, and saw the seal.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from stillwatch.errors import RecordError, StillwatchError
from stillwatch.trace.bundle.commitments import (
    BOOK,
    FILES,
    OPENINGS,
    CommitmentBook,
    decode_book,
    decode_openings,
    opens,
)
from stillwatch.trace.bundle.files import BundleFiles, check_names, open_files
from stillwatch.trace.bundle.manifest import (
    CASE,
    COMMITMENTS,
    MANIFEST,
    SEAL,
    STEPS,
    Case,
    Entry,
    Manifest,
    Step,
    decode_manifest,
    file_leaf,
    hash_file,
    line_leaf,
    lines_digest,
    pieces_of,
    root_of,
    withheld_leaf,
)
from stillwatch.trace.bundle.timestamp import Stamp, check_stamp, read_roots
from stillwatch.trace.bundle.verification import Opened, Verification, Witness

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

#: Roles of a step's inputs that have to be fixed before the suspect answers.
_FIXED = {"plan", "assignment", "split", "mark"}
# A manifest or a small JSON file beyond this is no bundle's: 256 MiB.
_MAX_SMALL = 1 << 28


def verify_bundle(
    path: Path, *, trusted: Path | Sequence[Certificate] = (), root: str | None = None
) -> Verification:
    """Check a bundle; nothing is written, nothing is fetched.

    Args:
        path: its folder, or its archive.
        trusted: root certificates of time-stamp authorities that the reader trusts, or a PEM file
            of them; without any, stamps are read and not believed.
        root: the root as it was noted elsewhere, hex, or None.

    Returns:
        What was found; every problem names its file.

    Raises:
        RecordError: the file of trusted certificates cannot be read.
    """
    roots = read_roots(trusted) if isinstance(trusted, Path) else trusted
    found = Verification()
    try:
        with open_files(path) as files:
            _check_all(files, found, roots=roots, root=root)
    except (StillwatchError, OSError, ValueError) as error:  # ValueError: forged hex digits
        name, _, detail = str(error).partition(": ")
        found.add(name, "damaged", detail or "it cannot be read")
    return found


def load_manifest(files: BundleFiles) -> Manifest:
    """Read the manifest of a bundle.

    Args:
        files: of the bundle.

    Returns:
        The manifest, which fits its own digest.

    Raises:
        RecordError: there is none, or it was altered.
    """
    if MANIFEST not in files.names():
        raise RecordError(f"{MANIFEST}: missing, so nothing can be checked")  # noqa: EM102
    return decode_manifest(_small(files, MANIFEST))


def load_steps(files: BundleFiles) -> list[Step]:
    """Read the steps of a bundle.

    Args:
        files: of the bundle.

    Returns:
        The steps, in order.

    Raises:
        RecordError: the list cannot be read.
    """
    try:
        return msgspec.json.decode(_small(files, STEPS), type=list[Step])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RecordError(f"{STEPS}: not a list of steps") from error  # noqa: EM102


def _check_all(
    files: BundleFiles, found: Verification, *, roots: Sequence[Certificate], root: str | None
) -> None:
    manifest = load_manifest(files)
    found.root, found.variant = manifest.root, manifest.variant
    found.files = {entry.path: entry.sha256 for entry in manifest.files}
    if root is not None and not hmac.compare_digest(root.lower(), manifest.root):
        found.add(SEAL, "altered", "the root is not the one that was noted elsewhere")
    check_names(entry.path for entry in manifest.files)
    present = set(files.names())
    _check_listing(manifest, present, found)
    leaves = [_check_file(files, manifest, entry=entry, found=found) for entry in manifest.files]
    if found.is_sound and root_of([leaf or b"" for leaf in leaves]) != manifest.root:
        found.add(MANIFEST, "altered", "its files do not lead to its root")
    if SEAL in present and _small(files, SEAL) != manifest.sealed():
        found.add(SEAL, "altered", "it is not the seal of this manifest")
    for path, sha256 in manifest.stamps.items():
        if path in present:
            if hashlib.sha256(_small(files, path)).hexdigest() != sha256:
                found.add(path, "altered", "the manifest lists another SHA-256")
            else:
                _witness(files, found, pair=(path, SEAL), roots=roots)
    _check_books(files, manifest, found, roots=roots)
    _check_words(files, manifest, found)
    _note_weaknesses(found, bool(roots))


def _check_listing(manifest: Manifest, present: set[str], found: Verification) -> None:
    here = {entry.path for entry in manifest.files if not entry.is_withheld}
    listed = here | {MANIFEST, SEAL} | manifest.stamps.keys()
    for name in sorted(listed - present):
        found.add(name, "missing", "the manifest lists it")
    for name in sorted(present - listed):
        found.add(name, "added", "the manifest does not list it")
    if [entry.path for entry in manifest.files] != sorted({e.path for e in manifest.files}):
        found.add(MANIFEST, "altered", "its files are not in order")


def _check_file(
    files: BundleFiles, manifest: Manifest, *, entry: Entry, found: Verification
) -> bytes | None:
    """Hash one file and give its leaf; None when it is not there or not as listed."""
    if entry.is_withheld:
        found.n_withheld += 1
        found.notes.append(f"{entry.path}: kept back: {entry.withheld}")
        return bytes.fromhex(entry.leaf)
    if entry.path not in files.names():
        return None
    found.n_files += 1
    with files.open(entry.path) as file:
        n_bytes, sha256 = hash_file(file)
    if (n_bytes, sha256) != (entry.n_bytes, entry.sha256):
        detail = f"SHA-256 {sha256[:12]}..., the manifest lists {entry.sha256[:12]}..."
        found.add(entry.path, "altered", detail)
        return None
    digest: bytes | None = bytes.fromhex(sha256)
    if entry.lines is not None:
        digest = _check_lines(files, manifest, entry=entry, found=found)
    if digest is None:
        return None
    return file_leaf(entry, digest, manifest.leaf_salt(entry))


def _check_lines(
    files: BundleFiles, manifest: Manifest, *, entry: Entry, found: Verification
) -> bytes | None:
    leaves, hidden = [], 0
    salts = manifest.line_salts(entry)
    n_sealed = entry.lines.n if entry.lines else 0
    with files.open(entry.path) as file:
        for number, piece in enumerate(pieces_of(file), start=1):
            salt = next(salts, b"")
            leaf = withheld_leaf(piece) if salt is None else line_leaf(piece, salt)
            if leaf is None:
                found.add(f"{entry.path}:{number}", "altered", "not the note of a line kept back")
                return None
            hidden += salt is None
            leaves.append(leaf)
    if len(leaves) != n_sealed:
        found.add(entry.path, "altered", f"{len(leaves):,} lines, {n_sealed:,} were sealed")
        return None
    if hidden:
        found.n_lines_withheld += hidden
        found.notes.append(f"{entry.path}: {hidden:,} lines kept back: {entry.withheld}")
    return lines_digest(leaves)


def _check_books(
    files: BundleFiles, manifest: Manifest, found: Verification, *, roots: Sequence[Certificate]
) -> None:
    present = {entry.path for entry in manifest.files if not entry.is_withheld}
    for path in sorted(present & set(files.names())):
        if not (path.startswith(f"{COMMITMENTS}/") and path.endswith(f"/{BOOK}")):
            continue
        base = path.removesuffix(BOOK)
        try:
            book = decode_book(_small(files, path), where=path)
        except RecordError as error:
            found.add(path, "damaged", str(error).partition(": ")[2])
            continue
        beside = [n for n in sorted(present) if n.startswith(base) and n.endswith(".tsr")]
        stamps = [_witness(files, found, pair=(name, path), roots=roots) for name in beside]
        seen = min((_latest(stamp) for stamp in stamps if stamp), default=None)
        opened = _open_book(files, base, book, found=found)
        found.commitments += [
            Opened(one.name, one.kind, path, opened.get(one.name, ""), seen)
            for one in book.commitments
        ]


def _latest(stamp: Stamp) -> float:
    """The latest moment at which the authority may have seen it."""
    return stamp.stamped_at + (stamp.accuracy_s or 0.0)


def _open_book(
    files: BundleFiles, base: str, book: CommitmentBook, *, found: Verification
) -> Mapping[str, str]:
    where = f"{base}{OPENINGS}"
    present = set(files.names())
    if where not in present:
        return {}
    opened = {}
    for name, opening in decode_openings(_small(files, where), where=where).items():
        path, commitment = f"{base}{FILES}/{name}", book.named(name)
        if commitment is None:
            found.add(where, "unfounded", f"nothing was committed to under the name {name}")
        elif path in present and not opens(commitment, opening, _small(files, path)):
            found.add(path, "unfounded", "not what was committed to")
        elif path in present:
            opened[name] = path
    return opened


def _witness(
    files: BundleFiles,
    found: Verification,
    *,
    pair: tuple[str, str],
    roots: Sequence[Certificate],
) -> Stamp | None:
    path, about = pair
    try:
        stamp = check_stamp(_small(files, path), _small(files, about), roots=roots, where=path)
    except RecordError as error:
        found.add(path, "unfounded", str(error).partition(": ")[2])
        return None
    found.witnesses.append(Witness(path, about, stamp))
    return stamp


def _check_words(files: BundleFiles, manifest: Manifest, found: Verification) -> None:
    """The case and the steps can be read, and the steps name files that were sealed."""
    listed = {entry.path for entry in manifest.files}
    if CASE in files.names():
        try:
            found.case = msgspec.json.decode(_small(files, CASE), type=Case)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            found.add(CASE, "damaged", "not the description of a case")
    if STEPS in files.names():
        try:
            steps = load_steps(files)
        except RecordError as error:
            found.add(STEPS, "damaged", str(error).partition(": ")[2])
            return
        for step in steps:
            _note_uncommitted(step, found)
            for name in sorted({*step.inputs.values(), step.result_path} - listed):
                detail = f"step {json.dumps(step.name)} names {name}, which was not sealed"
                found.add(STEPS, "unfounded", detail)


def _note_uncommitted(step: Step, found: Verification) -> None:
    """What could be chosen to fit the answers should be read from an opened commitment."""
    for role, name in step.inputs.items():
        if role.partition("/")[0] in _FIXED and not name.startswith(f"{COMMITMENTS}/"):
            found.notes.append(f"step {step.name}: nobody committed to its {role} ({name})")


def _note_weaknesses(found: Verification, has_roots: bool) -> None:
    notes = found.notes
    if found.witnesses and not has_roots:
        notes.append("time-stamps were read and not believed: name a root certificate to trust")
    if not any(one.about == SEAL for one in found.witnesses):
        notes.append("no time-stamp over the seal: the whole could have been made today")
    if not found.commitments:
        notes.append("nothing was committed to beforehand")
    asked = None if found.case is None else found.case.asked_from
    for book in sorted({(one.book, one.seen_at or 0.0) for one in found.commitments}):
        path, seen = book
        if not seen:
            notes.append(f"{path}: no time-stamp, so nobody but its maker knows when it was made")
        elif asked is not None and seen >= asked:
            notes.append(f"{path}: time-stamped after the suspect was first asked")
    if found.commitments and asked is None:
        notes.append("the case does not tell when the suspect was first asked")


def _small(files: BundleFiles, name: str) -> bytes:
    with files.open(name) as file:
        content = file.read(_MAX_SMALL + 1)
    if len(content) > _MAX_SMALL:
        raise RecordError(f"{name}: too large to be read as a whole")  # noqa: EM102
    return content
