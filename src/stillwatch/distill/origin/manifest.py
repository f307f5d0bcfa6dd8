"""What a run consists of, hashed: the manifest, and which stage was made from which.

The manifest is written after every stage. A stage that did not change since the last time keeps the
digests of the parents that it was made from, so a student of answers that were chosen anew since
shows as what it is. `provenance.verify_run` reads all of it back. Nothing is signed: who
notes the manifest's digest elsewhere can prove later that nothing was rewritten.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from stillwatch.distill.file_digests import FileCache, file_sha256
from stillwatch.distill.items import Example
from stillwatch.distill.permit.permission import PermissionStamp
from stillwatch.errors import EnvironmentUnfitError, RecordError
from stillwatch.record.disk import replace_json
from stillwatch.record.exchange import canonical_json
from stillwatch.record.segments import scan_segment

#: The manifest's name in a run's folder.
MANIFEST = "manifest.json"
#: What a student's folder says of where it is from; `provenance_cards` writes it.
STUDENT_FACTS = "provenance.json"
#: Which stages a stage is made from; students are checked against the examples themselves.
PARENTS: Mapping[str, tuple[str, ...]] = {
    "questions": (),
    "answers": (),
    "kept": ("questions", "answers"),
    "scores": ("students",),
    "curve": ("scores",),
    "croissant": ("kept",),
}
_LINES = FileCache(lambda path: scan_segment(path).digest.hexdigest())
_SEGMENT = re.compile(r"journal-\d{8}\.jsonl")
_FILES: Mapping[str, str] = {
    "run.json": "settings",
    "questions.jsonl": "questions",
    "questions.json": "questions",
    "kept.jsonl": "kept",
    "filter.json": "kept",
    "points.jsonl": "scores",
    "curve.json": "curve",
    "curve.html": "curve",
    "croissant.json": "croissant",
}


class FileFact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One file of a run.

    Attributes:
        sha256: of its bytes.
        n_bytes: its size.
        lines_digest: of a journal's segment, over the SHA-256 of its lines: forgetting an exchange
            does not change it.
    """

    sha256: str
    n_bytes: int
    lines_digest: str = ""


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of a run.

    Attributes:
        digest: SHA-256 over its files' names and digests.
        parents: stage -> its digest when this one was made.
    """

    digest: str
    parents: dict[str, str] = {}


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """All files of a run and how its stages hang together.

    Attributes:
        manifest: version of the format.
        run: the run's name.
        written_at: UTC epoch seconds.
        permissions: every stamp under which the run was worked on, by id.
        files: path relative to the run's folder -> the file.
        stages: by name: settings, questions, answers, kept, students/NAME, scores, curve,
            croissant, other.
        digest: SHA-256 over all of the above; note it elsewhere.
    """

    manifest: int = 1
    run: str
    written_at: float
    permissions: dict[str, PermissionStamp]
    files: dict[str, FileFact]
    stages: dict[str, Stage]
    digest: str = ""


def write_manifest(
    run_dir: Path, *, permission: PermissionStamp | None = None, now: float | None = None
) -> Manifest:
    """Hash a run's files and write `manifest.json`, atomically; call it after every stage.

    Args:
        run_dir: the run's folder.
        permission: the stamp that the stage worked under; earlier ones are kept.
        now: UTC epoch seconds; None takes the clock.

    Returns:
        What was written.

    Raises:
        RecordError: the manifest that stands there cannot be read.
        EnvironmentUnfitError: the folder cannot be read or written.
    """
    run_dir = Path(run_dir)
    before = read_manifest(run_dir)
    permissions = dict(before.permissions) if before else {}
    if permission is not None:
        permissions[permission.permission_id] = permission
    try:
        files = {name: file_fact(run_dir / name) for name in run_files(run_dir)}
        stages = _stages(files, before)
        manifest = Manifest(
            run=run_dir.name,
            written_at=time.time() if now is None else now,
            permissions=permissions,
            files=files,
            stages=stages,
        )
        manifest = msgspec.structs.replace(manifest, digest=manifest_digest(manifest))
        replace_json(run_dir / MANIFEST, manifest)
    except OSError as error:
        message = f"{run_dir}: the manifest cannot be written: {error.strerror}"
        raise EnvironmentUnfitError(message) from error
    return manifest


def read_manifest(run_dir: Path) -> Manifest | None:
    """Read a run's manifest.

    Args:
        run_dir: the run's folder.

    Returns:
        The manifest, or None when there is none.

    Raises:
        RecordError: it is no manifest.
    """
    path = Path(run_dir) / MANIFEST
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        message = f"{path}: not a manifest of a run"
        hint = "put it aside and run `stillwatch distill run` again: it writes a new one"
        raise RecordError(message, hint=hint) from error


def manifest_digest(manifest: Manifest) -> str:
    """Hash a manifest without its digest.

    Args:
        manifest: any.

    Returns:
        SHA-256, 64 hex digits.
    """
    plain = msgspec.to_builtins(msgspec.structs.replace(manifest, digest=""))
    return hashlib.sha256(canonical_json(plain).encode()).hexdigest()


def run_files(run_dir: Path) -> Iterator[str]:
    """List what a manifest covers.

    Args:
        run_dir: the run's folder.

    Yields:
        Paths relative to it, sorted; hidden files, locks, unfinished parts and the manifest itself
        are left out. Links are listed and not followed into folders.
    """
    found = []
    for folder, names, files in os.walk(run_dir):
        names[:] = [name for name in names if not name.startswith(".")]
        relative = Path(folder).relative_to(run_dir)
        found += [
            (relative / name).as_posix()
            for name in files
            if not name.startswith(".") and not name.endswith((".lock", ".part"))
        ]
    yield from sorted(name for name in found if name != MANIFEST)


def file_fact(path: Path, *, fresh: bool = False) -> FileFact:
    """Hash one file.

    Args:
        path: the file.
        fresh: read it, though this process knows it and it looks unchanged.

    Returns:
        Its digests and size.
    """
    return FileFact(
        sha256=file_sha256(path, fresh=fresh),
        n_bytes=path.stat().st_size,
        lines_digest=_LINES.of(path, fresh=fresh) if is_segment(path) else "",
    )


def is_segment(path: Path) -> bool:
    """Say whether a file is a segment of a journal, by its name.

    Args:
        path: any.

    Returns:
        Whether it is called like one.
    """
    return _SEGMENT.fullmatch(path.name) is not None


def stage_of(name: str) -> str:
    """Say which stage wrote a file.

    Args:
        name: its path relative to the run's folder.

    Returns:
        The stage's name; `other` for what none of them writes.

    Example:
        >>> stage_of("students/0000100-s0/model.safetensors"), stage_of("record/journal/x")
        ('students/0000100-s0', 'answers')
    """
    parts = name.split("/")
    if parts[0] == "students" and len(parts) > 2:
        return "/".join(parts[:2])
    if parts[:2] == ["record", "journal"]:
        return "answers"
    if parts[0] == "scores":
        return "scores"
    return _FILES.get(name, "other")


def parents_of(stage: str, stages: Mapping[str, str]) -> dict[str, str]:
    """Find the stages that one is made from, as they are.

    Args:
        stage: its name.
        stages: name -> digest, of all that there are.

    Returns:
        Name -> digest of its parents.
    """
    wanted = PARENTS.get(stage, ())
    return {
        name: digest
        for name, digest in stages.items()
        if name in wanted or (name.startswith("students/") and "students" in wanted)
    }


def stage_digests(files: Mapping[str, FileFact]) -> dict[str, str]:
    """Hash each stage's files.

    Args:
        files: path -> the file.

    Returns:
        Stage -> SHA-256. A journal counts by its lines, so forgetting changes nothing.
    """
    found: dict[str, dict[str, str]] = {}
    for name, fact in sorted(files.items()):
        found.setdefault(stage_of(name), {})[name] = fact.lines_digest or fact.sha256
    return {
        stage: hashlib.sha256(canonical_json(named).encode()).hexdigest()
        for stage, named in found.items()
    }


def examples_digest(examples: Iterable[Example]) -> str:
    """Hash what a student learns from.

    Args:
        examples: in order.

    Returns:
        SHA-256 over each item's id and answer, 64 hex digits.
    """
    digest = hashlib.sha256()
    for example in examples:
        digest.update(example_line(example))
    return digest.hexdigest()


def example_line(example: Example) -> bytes:
    """Write what `examples_digest` hashes of one example.

    Args:
        example: any.

    Returns:
        The item's id and its answer's SHA-256.
    """
    answer = hashlib.sha256(canonical_json(example.answer).encode()).hexdigest()
    return f"{example.item.item_id} {answer}\n".encode()


def _stages(files: Mapping[str, FileFact], before: Manifest | None) -> dict[str, Stage]:
    digests = stage_digests(files)
    stages = {}
    for name, digest in digests.items():
        known = before.stages.get(name) if before else None
        if known is not None and known.digest == digest:
            stages[name] = known
        else:
            stages[name] = Stage(digest=digest, parents=parents_of(name, digests))
    return stages
