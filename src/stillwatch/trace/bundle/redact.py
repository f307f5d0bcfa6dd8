"""Keep parts of a bundle back: whole files or single lines, with the root unbroken.

What is kept back is replaced by the hash of its leaf, whose salt stays with the full bundle. The
seal and every stamp over it hold for both, so a court that is later shown the full bundle can see
that the redacted one was cut from it and from nothing else.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from stillwatch.errors import RecordError, reject
from stillwatch.trace.bundle.commitments import BOOK
from stillwatch.trace.bundle.files import BundleFiles, copy_file, open_files
from stillwatch.trace.bundle.making import appearing
from stillwatch.trace.bundle.manifest import (
    CASE,
    ENVIRONMENT,
    MANIFEST,
    SEAL,
    STEPS,
    Entry,
    Lines,
    Manifest,
    file_leaf,
    hash_file,
    line_leaf,
    lines_digest,
    pieces_of,
    withheld_leaf,
    withheld_line,
)
from stillwatch.trace.bundle.verify import load_manifest, verify_bundle

#: Without these nobody could tell what is here and what is not.
_ALWAYS_SHOWN = {CASE, STEPS, ENVIRONMENT}


@dataclass(frozen=True)
class Redaction:
    """What to keep back.

    Attributes:
        files: pattern of file names (`data/*.jsonl`) -> why they are kept back.
        lines: file of JSON lines -> numbers of the lines to keep back, from 1.
        why: why those lines are kept back.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    lines: Mapping[str, Collection[int]] = field(default_factory=dict)
    why: str = "withheld"


def redact_bundle(source: Path, folder: Path, redaction: Redaction) -> Manifest:
    """Write a copy of a bundle that keeps parts of it back.

    Args:
        source: a sound bundle, full or redacted already; its folder or its archive.
        folder: where to; must not stand yet.
        redaction: what to keep back.

    Returns:
        The manifest of the copy: another one, with the same root.

    Raises:
        InvalidInputError: nothing is kept back, or what must be shown is.
        RecordError: the source is not sound.
    """
    if found := verify_bundle(source).problems:
        raise RecordError(f"{found[0]}", hint="redact a bundle that verifies")  # noqa: EM102
    with open_files(source) as files, appearing(folder) as making:
        manifest = load_manifest(files)
        _check(manifest, redaction)
        entries = [
            _put(files, making, entry, about=(manifest, redaction)) for entry in manifest.files
        ]
        for name in (SEAL, *manifest.stamps):
            copy_file(files, name, making / name)
        redacted = msgspec.structs.replace(
            manifest, variant="redacted", files=tuple(entries), salt="", digest=""
        )
        (making / MANIFEST).write_bytes(redacted.encoded())
        return redacted


def lines_with(path: Path, name: str, pattern: str) -> list[int]:
    """Find the lines of a bundle's file that hold something.

    Args:
        path: the bundle.
        name: a file of it.
        pattern: a regular expression, searched in each line.

    Returns:
        Their numbers, from 1, as `Redaction.lines` takes them.

    Raises:
        InvalidInputError: the pattern is none, or there is no such file.
    """
    try:
        wanted = re.compile(pattern.encode())
    except re.error:
        reject("lines_with", "pattern", "a regular expression", got=pattern)
    with open_files(path) as files:
        if name not in files.names():
            reject("lines_with", "name", "a file of the bundle", got=name)
        with files.open(name) as file:
            return [i for i, piece in enumerate(pieces_of(file), start=1) if wanted.search(piece)]


def _reason(entry: Entry, redaction: Redaction) -> str:
    for pattern, why in redaction.files.items():
        if fnmatch.fnmatchcase(entry.path, pattern):
            return why or redaction.why
    return ""


def _check(manifest: Manifest, redaction: Redaction) -> None:
    where, by_name = "redact_bundle", {entry.path: entry for entry in manifest.files}
    hidden = [entry.path for entry in manifest.files if _reason(entry, redaction)]
    if not hidden and not any(redaction.lines.values()):
        reject(where, "redaction", "something that the bundle has", got="nothing kept back")
    for name in hidden:
        if name in _ALWAYS_SHOWN or name.endswith(f"/{BOOK}"):
            hint = "without it nobody could tell what is kept back"
            reject(where, "files", "beside what must be shown", got=name, hint=hint)
    for name, numbers in redaction.lines.items():
        lines = by_name[name].lines if name in by_name else None
        if lines is None or by_name[name].is_withheld:
            reject(where, "lines", "of a shown file of JSON lines", got=name)
        elif bad := sorted(i for i in numbers if not 1 <= i <= lines.n):
            reject(where, name, f"lines from 1 to {lines.n}", got=bad[0])


def _put(
    files: BundleFiles, making: Path, entry: Entry, *, about: tuple[Manifest, Redaction]
) -> Entry:
    manifest, redaction = about
    if entry.is_withheld:
        return entry
    salt = manifest.leaf_salt(entry)
    if why := _reason(entry, redaction):
        leaf = file_leaf(entry, _content_digest(files, entry, manifest), salt)
        return Entry(path=entry.path, leaf=leaf.hex(), withheld=why)
    target = making / entry.path
    shown = msgspec.structs.replace(entry, salt=salt.hex())
    if entry.lines is None:
        copy_file(files, entry.path, target)
        return shown
    salts = list(manifest.line_salts(entry))
    hide = {number - 1 for number in redaction.lines.get(entry.path, ())}
    _copy_lines(files, target, entry, salts=salts, hide=hide)
    kept = tuple("" if i in hide or s is None else s.hex() for i, s in enumerate(salts))
    with target.open("rb") as file:
        n_bytes, sha256 = hash_file(file)
    return msgspec.structs.replace(
        shown,
        n_bytes=n_bytes,
        sha256=sha256,
        lines=Lines(n=len(salts), salts=kept),
        withheld=redaction.why if hide else entry.withheld,
    )


def _content_digest(files: BundleFiles, entry: Entry, manifest: Manifest) -> bytes:
    if entry.lines is None:
        return bytes.fromhex(entry.sha256)
    with files.open(entry.path) as file:
        pairs = zip(pieces_of(file), manifest.line_salts(entry), strict=True)
        return lines_digest([_leaf(piece, salt) for piece, salt in pairs])


def _copy_lines(
    files: BundleFiles, target: Path, entry: Entry, *, salts: list[bytes | None], hide: set[int]
) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.open(entry.path) as file, target.open("xb") as copy:
        for number, piece in enumerate(pieces_of(file)):
            shown = withheld_line(_leaf(piece, salts[number])) if number in hide else piece
            copy.write(shown if number == 0 else b"\n" + shown)


def _leaf(piece: bytes, salt: bytes | None) -> bytes:
    """Hash a line, or take the hash of one that is kept back already."""
    return (withheld_leaf(piece) or b"") if salt is None else line_leaf(piece, salt)
