"""Provenance: one byte changed anywhere is named, and stages stand on the ones before them."""

import shutil
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from stillwatch.distill.asking.attempts import attempt_exchange, request_key
from stillwatch.distill.asking.teacher import TeacherTable, identify
from stillwatch.distill.items import Example, Item, item_id_of, write_items
from stillwatch.distill.origin.manifest import read_manifest, run_files
from stillwatch.distill.origin.provenance import verify_run, write_manifest
from stillwatch.distill.origin.provenance_cards import StudentFacts, student_card
from stillwatch.distill.origin.provenance_croissant import croissant
from stillwatch.distill.permit.permission import Permission, PermissionStamp, stamp
from stillwatch.errors import InvalidInputError, NotPermittedError
from stillwatch.record.exchange import Answer, Message
from stillwatch.record.journal import Journal
from stillwatch.wire.question import Reply

NOW = 1_780_000_000.0
TEACHER = TeacherTable(endpoint="http://127.0.0.1:8000/v1", model="Llama-house")


class Made(NamedTuple):
    """A run's folder and what it was made of."""

    folder: Path
    permission: PermissionStamp
    examples: list[Example]


def _permission(**table: object) -> PermissionStamp:
    plain = {"basis": "own-model", "teacher": "Llama-house", **table}
    return stamp(msgspec.convert(plain, Permission), identify(TEACHER), NOW)


def _example(k: int, permission: PermissionStamp, journal: Journal) -> Example:
    messages = (Message("user", f"question {k}"),)
    item = Item(item_id=item_id_of(messages), messages=messages)
    answer = Answer(f"answer {k}", "stop")
    exchange = attempt_exchange(
        item, TEACHER, reply=Reply(answers=(answer,), input_tokens=3, output_tokens=2), status=200,
        error=None, started_at=NOW + k, ended_at=NOW + k + 1, attempt=1,
        request_key=request_key(item, TEACHER), permission_id=permission.permission_id,
    )  # fmt: skip
    journal.append_sync(exchange)
    return Example(item=item, answer=answer, exchange_id=exchange.exchange_id, output_tokens=2)


def _keep(folder: Path, examples: list[Example]) -> None:
    (folder / "kept.jsonl").write_bytes(b"".join(msgspec.json.encode(e) + b"\n" for e in examples))


def _train(made: Made, n: int) -> None:
    student = made.folder / "students" / f"{n:07d}-s0"
    student.mkdir(parents=True, exist_ok=True)
    (student / "model.safetensors").write_bytes(b"weights" * n)
    facts = StudentFacts(name="small", n_questions=n, figures={"steps": 10})
    student_card(
        student, facts, permission=made.permission, examples=made.examples[:n], now=NOW
    )  # fmt: skip


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A finished run of eight questions and two students."""
    folder = tmp_path / "run"
    folder.mkdir()
    permission = _permission()
    with Journal.open(folder / "record" / "journal") as journal:
        examples = [_example(k, permission, journal) for k in range(8)]
    made = Made(folder, permission, examples)
    (folder / "run.json").write_text("{}")
    write_items(folder / "questions.jsonl", [one.item for one in examples])
    _keep(folder, examples)
    for n in (4, 8):
        _train(made, n)
    (folder / "scores").mkdir()
    (folder / "scores" / "report.json").write_text("{}")
    (folder / "points.jsonl").write_text("{}\n")
    (folder / "curve.json").write_text("{}")
    croissant(folder, permission=permission, period=(NOW, NOW + 8))
    write_manifest(folder, permission=permission, now=NOW)
    return made


def test_a_whole_run_is_sound(made: Made) -> None:
    """What was written in order verifies, every file and every example."""
    found = verify_run(made.folder)
    assert () == found.problems
    assert (8, 8) == (found.n_exchanges, found.n_examples)
    assert len(list(run_files(made.folder))) == found.n_files


def test_one_byte_changed_anywhere_is_named(made: Made, tmp_path: Path) -> None:
    """Flip one byte of any file, the manifest included: that file is named."""
    for name in [*run_files(made.folder), "manifest.json"]:
        copy = tmp_path / "copy"
        shutil.copytree(made.folder, copy)
        content = bytearray((copy / name).read_bytes())
        content[len(content) // 2] ^= 1
        (copy / name).write_bytes(content)
        found = verify_run(copy)
        assert name in {problem.path for problem in found.problems}, name
        shutil.rmtree(copy)


def test_lost_and_added_files_are_named(made: Made) -> None:
    """A file that went and one that came are told by name."""
    (made.folder / "points.jsonl").unlink()
    (made.folder / "students" / "0000004-s0" / "extra.bin").write_bytes(b"x")
    kinds = {problem.path: problem.kind for problem in verify_run(made.folder).problems}
    assert "missing" == kinds["points.jsonl"]
    assert "added" == kinds["students/0000004-s0/extra.bin"]


def test_a_manifest_made_anew_does_not_hide_a_forged_answer(made: Made) -> None:
    """An answer changed in kept.jsonl contradicts the record, whatever the manifest says."""
    forged = [*made.examples]
    forged[2] = msgspec.structs.replace(forged[2], answer=Answer("better", "stop"))
    _keep(made.folder, forged)
    write_manifest(made.folder, permission=made.permission, now=NOW)
    found = [(p.path, p.kind) for p in verify_run(made.folder).problems]
    assert ("kept.jsonl:3", "unfounded") in found
    assert ("students/0000004-s0/provenance.json", "stale") in found


def test_an_example_from_nowhere_is_named(made: Made) -> None:
    """An example that was neither asked nor answered is told with its line."""
    messages = (Message("user", "never asked"),)
    item = Item(item_id=item_id_of(messages), messages=messages)
    stray = Example(item=item, answer=Answer("x"), exchange_id="no-such")
    _keep(made.folder, [*made.examples, stray])
    write_manifest(made.folder, now=NOW)
    found = [p.detail for p in verify_run(made.folder).problems if p.path == "kept.jsonl:9"]
    assert ["questions.jsonl has no such item", "its exchange is not in the record"] == found


def test_stale_stages_are_told(made: Made) -> None:
    """Students trained again leave scores and curve standing on an earlier state."""
    (made.folder / "students" / "0000008-s0" / "model.safetensors").write_bytes(b"other")
    write_manifest(made.folder, permission=made.permission, now=NOW)
    assert [("scores", "stale")] == [(p.path, p.kind) for p in verify_run(made.folder).problems]
    (made.folder / "points.jsonl").write_text("{} \n")
    write_manifest(made.folder, now=NOW)
    assert [("curve", "stale")] == [(p.path, p.kind) for p in verify_run(made.folder).problems]
    (made.folder / "curve.json").write_text("{} ")
    write_manifest(made.folder, now=NOW)
    assert verify_run(made.folder).is_sound


def test_small_budgets_stay_sound_when_more_is_asked(made: Made) -> None:
    """A ninth question leaves the students of four and eight as they are."""
    with Journal.open(made.folder / "record" / "journal") as journal:
        more = [*made.examples, _example(8, made.permission, journal)]
    assert "grown" in {problem.kind for problem in verify_run(made.folder).problems}
    write_items(made.folder / "questions.jsonl", [one.item for one in more])
    _keep(made.folder, more)
    croissant(made.folder, permission=made.permission)
    write_manifest(made.folder, now=NOW)
    assert () == verify_run(made.folder).problems


def test_a_noted_digest_shows_a_manifest_made_anew(made: Made) -> None:
    """Who noted the digest sees that another manifest stands there."""
    noted = read_manifest(made.folder)
    assert noted is not None
    write_manifest(made.folder, now=NOW + 1)
    assert verify_run(made.folder).is_sound
    found = verify_run(made.folder, digest=noted.digest).problems
    assert [("manifest.json", "changed")] == [(one.path, one.kind) for one in found]


def test_forgetting_is_no_damage(made: Made) -> None:
    """An exchange that was forgotten in the record is a note; its example is unfounded."""
    import hashlib

    from stillwatch.record.segments import segment_path
    from stillwatch.record.tombstone import tombstone

    path = segment_path(made.folder / "record" / "journal", 1)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = tombstone(hashlib.sha256(lines[3]).digest(), length=len(lines[3]))
    path.write_bytes(b"".join(lines))
    found = verify_run(made.folder)
    assert [("kept.jsonl:3", "unfounded")] == [(p.path, p.kind) for p in found.problems]
    assert 2 == len(found.notes)


def test_no_manifest_is_said(tmp_path: Path) -> None:
    """A folder without a manifest, or with a foreign one, is not sound and no crash."""
    assert ["missing"] == [p.kind for p in verify_run(tmp_path).problems]
    (tmp_path / "manifest.json").write_text("[]")
    assert ["damaged"] == [p.kind for p in verify_run(tmp_path).problems]


def test_the_card_carries_the_obligations(tmp_path: Path) -> None:
    """Prefix, shown lines and licence of the permission stand on the card."""
    permission = _permission(
        obligations=["name-prefix:Llama", "attribution:Built with Llama", "licence:MIT"]
    )
    facts = StudentFacts(name="small", n_questions=0, base_model="org/base", is_adapter=True)
    student_card(tmp_path, facts, permission=permission, examples=(), now=NOW)
    card = (tmp_path / "README.md").read_text()
    front, body = card.split("---\n")[1:]
    assert {"license": "mit", "base_model_relation": "adapter"}.items() <= _front(front).items()
    assert ["distilled", "teacher:Llama-house", "permission:own-model"] == _front(front)["tags"]
    assert "# Llama-small\n\nBuilt with Llama\n" in body
    assert permission.permission_id in body
    other = msgspec.structs.replace(facts, licence_spdx="Apache-2.0")
    with pytest.raises(InvalidInputError, match="licence_spdx must be MIT"):
        student_card(tmp_path, other, permission=permission, examples=(), now=NOW)


def _front(text: str) -> dict[str, object]:
    rows = (line.split(": ", 1) for line in text.strip().splitlines())
    return {key: msgspec.json.decode(value) for key, value in rows}


def test_an_expired_permission_makes_no_student(tmp_path: Path) -> None:
    """After the last day no card is written."""
    permission = _permission(expires="2026-12-31")
    with pytest.raises(NotPermittedError):
        student_card(
            tmp_path, StudentFacts(name="s", n_questions=0), permission=permission, examples=(),
            now=NOW + 1e9,
        )  # fmt: skip
    assert [] == list(tmp_path.iterdir())


def test_croissant_attributes_the_answer_field(made: Made) -> None:
    """The answer, and only the answer, is attributed to the teacher; the file's hash is there."""
    record = msgspec.json.decode((made.folder / "croissant.json").read_bytes())
    fields = {field["name"]: field for field in record["recordSet"][0]["field"]}
    manifest = read_manifest(made.folder)
    assert manifest is not None
    assert "Llama-house" == fields["answer"]["prov:wasAttributedTo"]["prov:label"]
    assert "prov:wasAttributedTo" not in fields["messages"]
    assert manifest.files["kept.jsonl"].sha256 == record["distribution"][0]["sha256"]
    assert record["rai:hasSyntheticData"] is True
    assert "http://mlcommons.org/croissant/1.1" in record["conformsTo"]
