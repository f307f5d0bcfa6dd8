"""Check a run's chain: files, journal, and that each stage stands on the ones before it.

It shows what was changed, lost, added or made from something else. It is no proof of who did it,
nor that the questions were asked of the teacher that the record names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from stillwatch.distill.items import Example, read_items
from stillwatch.distill.origin.manifest import (
    MANIFEST,
    STUDENT_FACTS,
    FileFact,
    Manifest,
    example_line,
    file_fact,
    manifest_digest,
    parents_of,
    read_manifest,
    run_files,
    stage_digests,
    write_manifest,
)
from stillwatch.distill.origin.provenance_cards import StudentProvenance
from stillwatch.errors import RecordError, StillwatchError
from stillwatch.record.exchange import Exchange, canonical_json
from stillwatch.record.journal import verify_journal
from stillwatch.record.segments import read_journal, segment_path

__all__ = ["Kind", "Problem", "Verification", "verify_run", "write_manifest"]

Kind = Literal["missing", "changed", "added", "grown", "damaged", "unfounded", "stale"]


class Problem(NamedTuple):
    """One thing that does not fit.

    Attributes:
        path: the file, relative to the run's folder, with a line where there is one.
        kind: missing, changed, added or grown since the manifest; damaged in itself; unfounded:
            it says something that nothing in the run bears out; stale: made from an earlier state.
        detail: one sentence.
    """

    path: str
    kind: Kind
    detail: str

    def __str__(self) -> str:
        return f"{self.path}: {self.kind}: {self.detail}"


@dataclass(frozen=True)
class Verification:
    """What checking a run came to.

    Attributes:
        problems: what does not fit, in the order in which it was found; () is sound.
        n_files: files that were hashed (count).
        n_exchanges: sound exchanges in the record (count).
        n_examples: kept examples that were found in the record (count).
        digest: the manifest's; compare it with the one that was noted elsewhere.
        notes: what is no problem and should be known.
    """

    problems: tuple[Problem, ...] = ()
    n_files: int = 0
    n_exchanges: int = 0
    n_examples: int = 0
    digest: str = ""
    notes: tuple[str, ...] = ()

    @property
    def is_sound(self) -> bool:
        """Whether nothing was found."""
        return not self.problems


@dataclass
class _Found:
    folder: Path
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: dict[str, FileFact] = field(default_factory=dict)
    n_exchanges: int = 0
    n_examples: int = 0
    kept: list[tuple[str, bytes]] = field(default_factory=list)  # item id, its `example_line`

    def add(self, path: str, kind: Kind, detail: str) -> None:
        self.problems.append(Problem(path, kind, detail))


def verify_run(run_dir: Path, *, digest: str | None = None) -> Verification:
    """Check a run's folder against its manifest and against itself; nothing is written.

    Args:
        run_dir: the run's folder.
        digest: the manifest's digest as it was noted elsewhere, or None.

    Returns:
        What was found; every problem names its file. Memory grows with the kept examples by some
        300 bytes each, not with the record.
    """
    found = _Found(Path(run_dir))
    try:
        manifest = read_manifest(found.folder)
    except RecordError as error:
        found.add(MANIFEST, "damaged", str(error))
        return Verification(problems=tuple(found.problems))
    if manifest is None:
        found.add(MANIFEST, "missing", "no stage of this run wrote a manifest")
        return Verification(problems=tuple(found.problems))
    if manifest_digest(manifest) != manifest.digest:
        found.add(MANIFEST, "changed", "it does not fit its own digest")
    if digest is not None and digest != manifest.digest:
        found.add(MANIFEST, "changed", "it is not the one that was noted elsewhere")
    _check_files(found, manifest)
    for check in (_check_journals, _check_kept, _check_students):
        _guarded(check, found, manifest)
    _check_stages(found, manifest)
    return Verification(
        problems=tuple(found.problems),
        n_files=len(found.files),
        n_exchanges=found.n_exchanges,
        n_examples=found.n_examples,
        digest=manifest.digest,
        notes=tuple(found.notes),
    )


def _guarded(check: Callable[[_Found, Manifest], None], found: _Found, manifest: Manifest) -> None:
    """Run a check over files that may be damaged: what cannot be read is a problem, no crash."""
    try:
        check(found, manifest)
    except (StillwatchError, OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        text = str(error).replace(f"{found.folder}/", "")
        path, _, detail = text.partition(": ")
        found.add(path, "damaged", detail or "it cannot be read")


def _check_files(found: _Found, manifest: Manifest) -> None:
    present = list(run_files(found.folder))
    for name in sorted({*manifest.files} - {*present}):
        found.add(name, "missing", "the manifest lists it")
    for name in present:
        path = found.folder / name
        try:
            now = file_fact(path, fresh=True)
        except (OSError, StillwatchError):
            found.add(name, "damaged", "it cannot be read")
            continue
        found.files[name] = now
        listed = manifest.files.get(name)
        if listed is None:
            found.add(name, "added", "the manifest does not list it")
        elif now.sha256 != listed.sha256:
            _say_changed(found, name, (listed, now))


def _say_changed(found: _Found, name: str, facts: tuple[FileFact, FileFact]) -> None:
    listed, now = facts
    if listed.lines_digest and listed.lines_digest == now.lines_digest:
        found.notes.append(f"{name}: exchanges were forgotten since; its links still hold")
    elif now.n_bytes > listed.n_bytes and _begins(found.folder / name, listed):
        more = now.n_bytes - listed.n_bytes
        found.add(name, "grown", f"{more:,} bytes came behind what the manifest lists")
    else:
        detail = f"SHA-256 {now.sha256[:12]}..., the manifest lists {listed.sha256[:12]}..."
        found.add(name, "changed", detail)


def _begins(path: Path, listed: FileFact) -> bool:
    """Whether a file begins with what was listed."""
    digest, left = hashlib.sha256(), listed.n_bytes
    with path.open("rb") as file:
        while left and (piece := file.read(min(left, 1 << 20))):
            digest.update(piece)
            left -= len(piece)
    return digest.hexdigest() == listed.sha256


def _journals(folder: Path) -> Iterator[Path]:
    yield from sorted({path.parent for path in folder.glob("record/*/journal-*.jsonl")})


def _check_journals(found: _Found, manifest: Manifest) -> None:
    for journal in _journals(found.folder):
        name = journal.relative_to(found.folder).as_posix()
        check = verify_journal(journal)
        found.n_exchanges += check.n_exchanges
        if check.damaged_lines:
            found.add(name, "damaged", f"{check.damaged_lines} lines do not fit their checksum")
        for segment in check.broken_links:
            file = segment_path(Path(name), segment).as_posix()
            found.add(file, "damaged", "it does not follow the segment before it as it was written")
        if check.forgotten_lines:
            found.notes.append(f"{name}: {check.forgotten_lines} exchanges were forgotten")


def _check_kept(found: _Found, manifest: Manifest) -> None:
    """Every kept example was asked, and its answer stands in the record as it is."""
    path = found.folder / "kept.jsonl"
    if not path.is_file():
        return
    questions = found.folder / "questions.jsonl"
    asked = {item.item_id for item in read_items(questions)} if questions.is_file() else set()
    wanted: dict[str, tuple[int, str, str]] = {}
    decoder = msgspec.json.Decoder(Example)
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                example = decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                found.add(f"kept.jsonl:{number}", "damaged", "not an example")
                continue
            found.kept.append((example.item.item_id, example_line(example)))
            if example.item.item_id not in asked:
                found.add(f"kept.jsonl:{number}", "unfounded", "questions.jsonl has no such item")
            if example.exchange_id:
                wanted[example.exchange_id] = (
                    number, example.item.item_id, canonical_json(example.answer)
                )  # fmt: skip
    found.n_examples = len(wanted)
    _check_answers(found, manifest, wanted)


def _check_answers(
    found: _Found, manifest: Manifest, wanted: dict[str, tuple[int, str, str]]
) -> None:
    journal = found.folder / "record" / "journal"
    if wanted and journal.is_dir():
        for _, exchange in read_journal(journal, on_damage="skip"):
            told = wanted.pop(exchange.exchange_id, None)
            if told is not None:
                _check_answer(found, manifest, exchange=exchange, told=told)
    for number, _, _ in wanted.values():
        found.add(f"kept.jsonl:{number}", "unfounded", "its exchange is not in the record")
    found.n_examples -= len(wanted)


def _check_answer(
    found: _Found, manifest: Manifest, *, exchange: Exchange, told: tuple[int, str, str]
) -> None:
    number, item_id, answer = told
    where = f"kept.jsonl:{number}"
    if exchange.tags.get("item_id", item_id) != item_id:
        found.add(where, "unfounded", "its exchange answers another item")
    if answer not in {canonical_json(one) for one in exchange.answers}:
        found.add(where, "unfounded", "the record has another answer to it")
    permission = exchange.tags.get("permission", "")
    if manifest.permissions and permission not in manifest.permissions:
        found.add(where, "unfounded", "it was asked under a permission that the manifest lacks")


def _check_students(found: _Found, manifest: Manifest) -> None:
    """Every student learnt from what its budget gave, under a permission of the run."""
    order = None
    for path in sorted(found.folder.glob(f"students/*/{STUDENT_FACTS}")):
        name = path.relative_to(found.folder).as_posix()
        try:
            facts = msgspec.json.decode(path.read_bytes(), type=StudentProvenance)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            found.add(name, "damaged", "not a student's provenance")
            continue
        if manifest.permissions and facts.permission.permission_id not in manifest.permissions:
            found.add(name, "unfounded", "its permission is not one of the manifest's")
        if order is None:
            items = read_items(found.folder / "questions.jsonl")
            order = [item.item_id for item in items]
        within = set(islice(order, facts.n_questions))
        digest = hashlib.sha256()
        for item_id, line in found.kept:
            if item_id in within:
                digest.update(line)
        if digest.hexdigest() != facts.examples_digest:
            detail = f"kept.jsonl now gives other examples for {facts.n_questions:,} questions"
            found.add(name, "stale", detail)


def _check_stages(found: _Found, manifest: Manifest) -> None:
    now = stage_digests(found.files)
    for name, stage in manifest.stages.items():
        # What changed under the manifest was named as a file already.
        if name not in now or now[name] != stage.digest:
            continue
        current = parents_of(name, {one: s.digest for one, s in manifest.stages.items()})
        for parent, digest in stage.parents.items():
            if parent in current and current[parent] != digest:
                found.add(name, "stale", f"it was made from an earlier state of {parent}")
            elif parent not in current:
                found.add(name, "stale", f"{parent}, which it was made from, is gone")
