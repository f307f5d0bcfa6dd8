"""The evidence bundle: everything that a third party needs to compute the same numbers again.

`make_bundle` collects the suspect's answers, what was committed to beforehand, the steps and their
results; `add_stamp` puts a time-stamp over all of it; `redact_bundle` keeps files or single lines
back without breaking the root; `verify_bundle` reads it on any machine without a network.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import secrets
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from stillwatch.errors import RecordError, StillwatchError, reject
from stillwatch.record.disk import from_os_error, replace_file
from stillwatch.record.exchange import canonical_json
from stillwatch.trace.bundle.commitments import (
    BOOK,
    FILES,
    OPENINGS,
    SECRET,
    book_stamps,
    decode_book,
    decode_openings,
    opens,
)
from stillwatch.trace.bundle.files import FolderFiles, check_name, check_names
from stillwatch.trace.bundle.manifest import (
    CASE,
    COMMITMENTS,
    ENVIRONMENT,
    MANIFEST,
    SEAL,
    STAMPS,
    STEPS,
    Case,
    Entry,
    Lines,
    Manifest,
    Step,
    decode_manifest,
    file_leaf,
    hash_file,
    line_leaf,
    lines_digest,
    pieces_of,
    root_of,
)
from stillwatch.trace.bundle.recompute import recompute_bundle, run_step
from stillwatch.trace.bundle.secrecy import refuse_secrets
from stillwatch.trace.bundle.timestamp import Stamp, check_stamp, request_stamp
from stillwatch.trace.bundle.verification import Problem, Verification
from stillwatch.trace.bundle.verify import verify_bundle

if TYPE_CHECKING:
    from stillwatch.trace.bundle.steps import Runner

__all__ = [
    "Case",
    "Contents",
    "Problem",
    "Step",
    "Verification",
    "add_stamp",
    "make_bundle",
    "recompute_bundle",
    "request_seal",
    "verify_bundle",
]

_OURS = {MANIFEST, SEAL, CASE, STEPS, ENVIRONMENT}
_REFERENCE = "commitment:"


@dataclass(frozen=True)
class Contents:
    """What goes into a bundle.

    Attributes:
        case: who asked whom, and with what right.
        files: name in the bundle -> where it lies, or its bytes.
        steps: what computes the numbers; a step without a result among the files is run.
        commitments: folders of `write_commitments`, with the authorities' answers beside them.
        disclose: names of the commitments that are opened; keys among them are no secret any more.
    """

    case: Case
    files: Mapping[str, Path | bytes] = field(default_factory=dict)
    steps: Sequence[Step] = ()
    commitments: Sequence[Path] = ()
    disclose: Collection[str] = ()


def make_bundle(
    folder: Path,
    contents: Contents,
    *,
    runners: Mapping[str, Runner] | None = None,
    now: float | None = None,
) -> Manifest:
    """Write a bundle in full; it appears whole or not at all.

    Args:
        folder: where to; must not stand yet.
        contents: what goes into it.
        runners: test -> what runs it; None takes `steps.RUNNERS`.
        now: UTC epoch seconds; None takes the clock.

    Returns:
        The manifest that was written.

    Raises:
        InvalidInputError: a name or a step cannot be so, or a file holds a key that is not
            disclosed.
        RecordError: the folder stands already, or a commitment does not open.
        EnvironmentUnfitError: the folder cannot be written.
    """
    _check_contents(contents)
    with appearing(folder) as making:
        places = _put_commitments(making, contents)
        for name, source in contents.files.items():
            target = making / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(source, bytes):
                target.write_bytes(source)
            else:
                shutil.copyfile(source, target)
        steps = [_resolved(step, places) for step in contents.steps]
        _write_json(making / CASE, contents.case)
        _write_json(making / STEPS, steps)
        _write_json(making / ENVIRONMENT, describe_environment())
        _run_missing(making, steps, runners)
        refuse_secrets(making, FolderFiles(making).names(), _kept_secret(contents))
        return _seal(making, now=time.time() if now is None else now)


def request_seal(folder: Path) -> bytes:
    """Write a request for a time-stamp over a whole bundle.

    Args:
        folder: the bundle's folder.

    Returns:
        The request as it is sent to an authority.
    """
    return request_stamp(_read(folder / SEAL))


def add_stamp(folder: Path, name: str, response: bytes) -> Stamp:
    """Put an authority's answer into a bundle; the root stays what it is.

    Args:
        folder: the bundle's folder.
        name: what to call it, such as the authority's name.
        response: the answer.

    Returns:
        What the stamp says; it is not yet held to a root certificate.

    Raises:
        RecordError: the answer is not about this bundle, or the name is taken.
    """
    path = f"{STAMPS}/{check_name(name)}.tsr"
    stamp = check_stamp(response, _read(folder / SEAL), where=path)
    manifest = decode_manifest(_read(folder / MANIFEST))
    if path in manifest.stamps:
        raise RecordError(f"{path}: stands already", hint="give it another name")  # noqa: EM102
    stamps = {**manifest.stamps, path: hashlib.sha256(response).hexdigest()}
    try:
        (folder / STAMPS).mkdir(exist_ok=True)
        replace_file(folder / path, response)
        replaced = msgspec.structs.replace(manifest, stamps=stamps)
        replace_file(folder / MANIFEST, replaced.encoded())
    except OSError as error:
        raise from_os_error(error, path=folder / path, doing="add a stamp") from error
    return stamp


def describe_environment() -> dict[str, object]:
    """Tell with what the numbers were computed: versions only, nothing that names the machine.

    Returns:
        The tool, Python, the system, and every installed distribution.
    """
    installed = {
        (found.name or "").lower(): found.version for found in importlib.metadata.distributions()
    }
    return {
        "stillwatch": installed.get("stillwatch", ""),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "installed": dict(sorted(installed.items())),
    }


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """Fill a folder out of sight and show it when it is complete.

    Args:
        folder: must not stand yet.

    Yields:
        The hidden folder to write into.

    Raises:
        RecordError: the folder stands already.
        EnvironmentUnfitError: it cannot be written.
    """
    if folder.exists():
        message = f"{folder}: stands already"
        raise RecordError(message, hint="name another folder, or move this one away")
    hidden = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        hidden.mkdir(parents=True)
        yield hidden
        hidden.rename(folder)
    except OSError as error:
        if isinstance(error, StillwatchError):
            raise
        raise from_os_error(error, path=folder, doing="write the bundle") from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _check_contents(contents: Contents) -> None:
    where = "make_bundle"
    check_names(contents.files)
    for name in contents.files:
        if name in _OURS or name.partition("/")[0] in {STAMPS, COMMITMENTS}:
            reject(where, "files", "named unlike the bundle's own", got=name)
    names = [step.name for step in contents.steps]
    for step in contents.steps:
        check_name(step.name)
        for name in (step.result_path, *step.inputs.values()):
            check_name(name.removeprefix(_REFERENCE))
        if names.count(step.name) > 1:
            reject(where, "steps", "named differently", got=step.name)
    for key in ("title", "made_by", "permission"):
        if not getattr(contents.case, key).strip():
            reject(where, f"case.{key}", "stated", got="")


def _put_commitments(making: Path, contents: Contents) -> dict[str, str]:
    """Copy the public books, and of the secrets only what is disclosed: name -> its file."""
    places: dict[str, str] = {}
    for folder in contents.commitments:
        book = decode_book(_read(folder / BOOK), where=f"{folder}/{BOOK}")
        base = f"{COMMITMENTS}/{book.book_id}"
        target = making / base
        target.mkdir(parents=True)
        shutil.copyfile(folder / BOOK, target / BOOK)
        for name in book_stamps(folder):
            shutil.copyfile(folder / name, target / name)
        known = decode_openings(_read(folder / SECRET / OPENINGS)) if contents.disclose else {}
        shown = [one for one in book.commitments if one.name in contents.disclose]
        for one in shown:
            content = _read(folder / SECRET / FILES / one.name)
            if one.name not in known or not opens(one, known[one.name], content):
                message = f"{folder}: {one.name} is not what was committed to"
                raise RecordError(message, hint="restore the file as it was then")
            path = target / FILES / one.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            places[one.name] = f"{base}/{FILES}/{one.name}"
        if shown:
            _write_json(target / OPENINGS, [known[one.name] for one in shown])
    if unknown := sorted({*contents.disclose} - places.keys()):
        reject("make_bundle", "disclose", "names of commitments", got=unknown[0])
    return places


def _kept_secret(contents: Contents) -> dict[str, bytes]:
    """Collect what the commitments hold and the bundle does not disclose."""
    kept: dict[str, bytes] = {}
    for folder in contents.commitments:
        for one in decode_book(_read(folder / BOOK)).commitments:
            path = folder / SECRET / FILES / one.name
            if one.name not in contents.disclose and path.is_file():
                kept[one.name] = path.read_bytes()
    return kept


def _resolved(step: Step, places: Mapping[str, str]) -> Step:
    inputs = {}
    for role, name in step.inputs.items():
        if name.startswith(_REFERENCE):
            wanted = name.removeprefix(_REFERENCE)
            if wanted not in places:
                hint = "a step may only read what the bundle discloses"
                reject(f"step {step.name}", role, "a disclosed commitment", got=wanted, hint=hint)
            name = places[wanted]  # noqa: PLW2901 - the name that the bundle has for it
        inputs[role] = name
    return msgspec.structs.replace(step, inputs=inputs, result=step.result_path)


def _run_missing(making: Path, steps: Sequence[Step], runners: Mapping[str, Runner] | None) -> None:
    for step in steps:
        for role, name in step.inputs.items():
            if not (making / name).is_file():
                reject(f"step {step.name}", role, "a file of the bundle", got=name)
        if not (making / step.result_path).exists():
            result = run_step(step, making, runners=runners)
            path = making / step.result_path
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_json(path, result)


def _seal(making: Path, *, now: float) -> Manifest:
    names = check_names(FolderFiles(making).names())
    unsalted = Manifest(
        variant="full", made_at=now, root="", files=(), salt=secrets.token_bytes(32).hex()
    )
    entries, leaves = [], []
    for name in names:
        entry, leaf = _sealed_file(making / name, Entry(path=name), unsalted)
        entries.append(entry)
        leaves.append(leaf)
    manifest = msgspec.structs.replace(unsalted, root=root_of(leaves), files=tuple(entries))
    (making / SEAL).write_bytes(manifest.sealed())
    (making / MANIFEST).write_bytes(manifest.encoded())
    return decode_manifest(manifest.encoded())


def _sealed_file(path: Path, entry: Entry, manifest: Manifest) -> tuple[Entry, bytes]:
    with path.open("rb") as file:
        n_bytes, sha256 = hash_file(file)
    entry = msgspec.structs.replace(entry, n_bytes=n_bytes, sha256=sha256)
    digest = bytes.fromhex(sha256)
    if path.suffix == ".jsonl":
        with path.open("rb") as file:
            n_lines = sum(1 for _ in pieces_of(file))
        entry = msgspec.structs.replace(entry, lines=Lines(n=n_lines))
        with path.open("rb") as file:
            pairs = zip(pieces_of(file), manifest.line_salts(entry), strict=True)
            digest = lines_digest([line_leaf(piece, salt or b"") for piece, salt in pairs])
    return entry, file_leaf(entry, digest, manifest.leaf_salt(entry))


def _write_json(path: Path, value: object) -> None:
    path.write_bytes(msgspec.json.format(canonical_json(value).encode(), indent=1) + b"\n")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise from_os_error(error, path=path, doing="read it") from error
