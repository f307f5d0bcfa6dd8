"""Bundles: every byte counts, redaction keeps the root, and every number comes out again."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from stillwatch.errors import ConfigError, InvalidInputError, RecordError
from stillwatch.report.verdict_page import render_verdict
from stillwatch.trace.bundle.case_file import read_bundle_file
from stillwatch.trace.bundle.commitments import BOOK, REQUEST, Secret, write_commitments
from stillwatch.trace.bundle.files import pack_files
from stillwatch.trace.bundle.making import (
    Case,
    Contents,
    Step,
    add_stamp,
    make_bundle,
    recompute_bundle,
    request_seal,
    verify_bundle,
)
from stillwatch.trace.bundle.redact import Redaction, lines_with, redact_bundle
from stillwatch.trace.bundle.timestamp import read_roots
from stillwatch.trace.canaries.canary import Canary, draw_assignment, picks_of
from stillwatch.trace.canaries.proof import prove_canaries, redrawn_log10_p
from stillwatch.trace.outputs import SuspectOutput
from stillwatch.trace.preregister import AnalysisPlan, AuditPlan, PlannedTest, hash_prompts
from stillwatch.trace.verdicts.audit import audit_decoys
from stillwatch.trace.verdicts.data import verdict_data, verdict_of

SOON = time.time() + 3600


@pytest.fixture(scope="module")
def made(tmp_path_factory, authority):
    """A sealed and stamped bundle about a suspect that knows 35 of 40 canaries."""
    work = tmp_path_factory.mktemp("made")
    canaries = [
        Canary(f"c{i}", f"Who wrote the tale of the {i}th lamp?", (f"Aldo{i}", f"Bruno{i}"))
        for i in range(40)
    ]
    assignment = draw_assignment(canaries, key=b"a key of this assignment")
    answers = [
        SuspectOutput(answer=one.variants[drawn ^ (i % 8 == 3)], question=one.probe)
        for i, (one, drawn) in enumerate(zip(canaries, assignment.served, strict=True))
    ]
    plan = AnalysisPlan(
        title="One suspect",
        suspects=("suspect",),
        tests=(PlannedTest(test="canary", randomisation=assignment.randomisation),),
        prompts_sha256=hash_prompts(one.probe for one in canaries),
        commitments={assignment.randomisation: assignment.commitment},
        audit=AuditPlan(innocents=0, decoys=99),
    )
    secret = {
        "assignment.json": Secret("assignment", msgspec.json.encode(assignment)),
        "plan.json": Secret("plan", msgspec.json.encode(plan)),
        "other-campaign.key": Secret("key", bytes(range(32))),
    }
    write_commitments(work / "commit", secret)
    answer = authority.answer((work / "commit" / REQUEST).read_bytes())
    (work / "commit" / "test-time.tsr").write_bytes(answer)
    picks = picks_of(canaries, answers)
    decoys = redrawn_log10_p(assignment, picks, draws=99, rng=np.random.default_rng(1))
    audit = audit_decoys(prove_canaries(assignment, picks), decoys, suspect="suspect")
    outputs = b"".join(msgspec.json.encode(one) + b"\n" for one in answers)
    open_plan, open_draw = "commitment:plan.json", "commitment:assignment.json"
    contents = Contents(
        case=Case(
            title="Is `suspect` a copy?", made_by="A. Tester", permission="own model",
            claim="It learned from our answers.", suspect="suspect", asked_from=SOON,
        ),
        files={"data/outputs.jsonl": outputs, "data/decoys.json": msgspec.json.encode([audit])},
        steps=[
            Step(
                name="asked", test="prompts",
                inputs={"plan": open_plan, "outputs": "data/outputs.jsonl"},
            ),
            Step(
                name="draws", test="draws",
                inputs={"plan": open_plan, "assignment/1": open_draw},
            ),
            Step(
                name="canaries", test="canary",
                inputs={"assignment": open_draw, "outputs": "data/outputs.jsonl"},
            ),
            Step(
                name="verdict", test="verdict",
                inputs={
                    "plan": open_plan, "finding/suspect/1": "results/canaries.json",
                    "decoys": "data/decoys.json",
                },
            ),
        ],
        commitments=[work / "commit"],
        disclose=["assignment.json", "plan.json"],
    )  # fmt: skip
    make_bundle(work / "bundle", contents)
    add_stamp(work / "bundle", "test-time", authority.answer(request_seal(work / "bundle")))
    return work / "bundle"


@pytest.fixture
def bundle(made, tmp_path):
    """A copy of it to tamper with."""
    return Path(shutil.copytree(made, tmp_path / "bundle"))


def _files(bundle):
    return sorted(p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file())


def test_an_honest_bundle_verifies(made, authority):
    """It is sound, the authority is believed, and the commitments came before the questions."""
    found = verify_bundle(made, trusted=authority.root)
    assert ([], True, True) == (found.problems, found.is_sound, found.is_timely)
    assert {"seal.json"} < {one.about for one in found.witnesses}
    assert {True} == {one.stamp.is_trusted for one in found.witnesses}
    opened = {one.name: bool(one.file) for one in found.commitments}
    assert {"assignment.json": True, "plan.json": True, "other-campaign.key": False} == opened
    assert ("full", 0, 0) == (found.variant, found.n_withheld, found.n_lines_withheld)


def test_every_file_counts(made, authority, tmp_path):
    """One altered byte anywhere, first, middle or last of any file, is refused by its name."""
    names, seen = _files(made), []
    assert len(names) >= 14
    for name in names:
        content = (made / name).read_bytes()
        for at in sorted({0, len(content) // 2, len(content) - 1}):
            bundle = Path(shutil.copytree(made, tmp_path / "b"))
            altered = bytearray(content)
            altered[at] ^= 1
            (bundle / name).write_bytes(altered)
            found = verify_bundle(bundle)
            assert name in {one.path for one in found.problems}, (name, at)
            seen.append(found.is_sound)
            shutil.rmtree(bundle)
    assert {False} == set(seen)


def test_no_byte_of_the_manifest_or_the_stamp_is_free(bundle):
    """Every single byte of the manifest, the seal and the stamps is held."""
    for name in ("manifest.json", "seal.json", "stamps/test-time.tsr"):
        content = (bundle / name).read_bytes()
        for at in range(0, len(content), max(1, len(content) // 60)):
            altered = bytearray(content)
            altered[at] ^= 4
            (bundle / name).write_bytes(altered)
            assert name in {one.path for one in verify_bundle(bundle).problems}, (name, at)
        (bundle / name).write_bytes(content)
    assert verify_bundle(bundle).is_sound


def test_no_byte_of_the_archive_is_free(made, tmp_path):
    """A packed bundle verifies, and any altered byte of the archive is refused, headers too."""
    archive = tmp_path / "bundle.tar"
    pack_files(made, archive)
    assert verify_bundle(archive).is_sound
    content = archive.read_bytes()
    for at in [*range(0, 600, 7), *range(600, len(content), len(content) // 60)]:
        altered = bytearray(content)
        altered[at] ^= 2
        archive.write_bytes(altered)
        found = verify_bundle(archive)
        assert not found.is_sound, at
        assert all(one.path for one in found.problems)
    archive.write_bytes(content[:-1])
    assert "bundle.tar: damaged: it is cut short" in map(str, verify_bundle(archive).problems)
    archive.write_bytes(content + b"\0")
    assert not verify_bundle(archive).is_sound


def test_any_tar_unpacks_it(made, tmp_path):
    """The archive is an ordinary tar, and packing is repeatable byte for byte."""
    for name in ("one.tar", "two.tar"):
        pack_files(made, tmp_path / name)
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-xf", tmp_path / "one.tar", "-C", tmp_path / "out"], check=True)
    assert verify_bundle(tmp_path / "out").is_sound
    with pytest.raises(RecordError, match="stands already"):
        pack_files(made, tmp_path / "one.tar")


def test_files_come_and_go(bundle):
    """A lost file, an added one and a link are named."""
    (bundle / "case.json").rename(bundle / "data" / "case 2.json")
    told = {(one.path, one.kind) for one in verify_bundle(bundle).problems}
    assert {("case.json", "missing"), ("data/case 2.json", "added")} <= told
    (bundle / "data" / "link").symlink_to("outputs.jsonl")
    assert "data/link: damaged" in str(verify_bundle(bundle).problems[-1])


def test_a_bundle_rewritten_throughout_has_another_root(bundle, made, authority):
    """Who rewrites file, manifest and seal gets another root, to which no stamp belongs."""
    root = verify_bundle(made).root
    content = (bundle / "data/outputs.jsonl").read_bytes().replace(b"Aldo1", b"Bruno1", 1)
    (bundle / "data/outputs.jsonl").write_bytes(content)
    told = json.loads((bundle / "manifest.json").read_bytes())
    entry = next(one for one in told["files"] if one["path"] == "data/outputs.jsonl")
    entry |= {"sha256": hashlib.sha256(content).hexdigest(), "n_bytes": len(content)}
    _rewrite(bundle, told)
    assert "manifest.json: altered: its files do not lead to its root" in map(
        str, verify_bundle(bundle).problems
    )
    assert not verify_bundle(made, root="0" * 64).is_sound
    assert verify_bundle(made, root=root.upper()).is_sound


def _rewrite(bundle, told):
    told["digest"] = ""
    body = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    told["digest"] = hashlib.sha256(body.encode()).hexdigest()
    body = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    (bundle / "manifest.json").write_text(f"{body}\n")


def test_a_forged_manifest_is_no_crash(bundle):
    """Salts that are none, a billion lines and a name that leads outside are refused in words."""
    honest = json.loads((bundle / "manifest.json").read_bytes())
    for key, value in (("salt", "xyz"), ("n", 10**12), ("path", "../../x")):
        told = json.loads(json.dumps(honest))
        entry = next(one for one in told["files"] if one.get("lines"))
        place = {"salt": told, "n": entry["lines"], "path": entry}[key]
        place[key] = value
        _rewrite(bundle, told)
        assert not verify_bundle(bundle).is_sound


def test_a_step_reads_nothing_outside(tmp_path):
    """A step that names a file outside of the bundle is refused, and never run."""
    step = Step(name="s", test="identity", inputs={"suspect": "../../outside"})
    case = Case(title="t", made_by="m", permission="p")
    with pytest.raises(InvalidInputError, match="a file's name must be"):
        make_bundle(tmp_path / "b", Contents(case, steps=[step]))
    files = {"results/s.json": b"{}"}
    inside = Step(name="s", test="identity", inputs={"suspect": "results/s.json"})
    make_bundle(tmp_path / "b", Contents(case, files, [inside]))
    steps = (tmp_path / "b/steps.json").read_text()
    assert '"results/s.json"' in steps
    (tmp_path / "b/steps.json").write_text(
        steps.replace('"suspect": "results/s.json"', '"suspect": "../../outside"')
    )
    (again,) = recompute_bundle(tmp_path / "b")
    assert ("not here", ("../../outside is not here in full",)) == (again.outcome, again.details)


def test_every_number_comes_out_again(made, tmp_path):
    """One call runs every step from the bundle's files, packed or not, and finds the same."""
    pack_files(made, tmp_path / "b.tar")
    for path in (made, tmp_path / "b.tar"):
        again = recompute_bundle(path)
        assert ["asked", "draws", "canaries", "verdict"] == [one.step for one in again]
        assert {"same"} == {one.outcome for one in again}
    finding = again[2].result
    assert (35.0, 40) == (finding["statistic"], finding["n"])
    assert "proved" == again[3].result["accusations"][0]["level"]


def test_a_wrong_number_is_named(made, tmp_path):
    """A result that does not come out is told with both numbers."""
    step = Step(name="n", test="count", inputs={"file": "data.txt"}, settings={"add": 1})
    case = Case(title="t", made_by="m", permission="p")
    runners = {"count": lambda inputs, settings: {"n": 3 + settings["add"], "x": [0.1 + 0.2]}}
    told = Contents(case, {"data.txt": b"x", "results/n.json": b'{"n":5,"x":[0.3,1]}'}, [step])
    make_bundle(tmp_path / "b", told)
    (again,) = recompute_bundle(tmp_path / "b", runners=runners)
    assert "different" == again.outcome
    assert ("n: 5 was sealed, 4 came out", "x: 2 entries were sealed, 1 came out") == again.details
    (unknown,) = recompute_bundle(tmp_path / "b")
    assert "failed" == unknown.outcome
    assert "test must be one of" in unknown.details[0]


def test_the_page_of_a_bundle(made, authority, tmp_path):
    """From a bundle alone comes the page: verdict, witnesses, and that every number came again."""
    found = verify_bundle(made, trusted=authority.root)
    data = verdict_data(*verdict_of(made), verification=found, recomputed=recompute_bundle(made))
    page = render_verdict(msgspec.json.decode(msgspec.json.encode(data)))
    assert "Proved: suspect learned from our answers" in page
    for words in ("Yes, witnessed", "4 of 4 came out again", found.root, "99 draws that nobody"):
        assert words in page
    redact_bundle(made, tmp_path / "r", Redaction(files={"results/verdict.json": "x"}))
    with pytest.raises(RecordError, match="the bundle shows no verdict"):
        verdict_of(tmp_path / "r")


def test_a_bundle_file(tmp_path):
    """A bundle is described in TOML; its paths are relative to it, unknown keys are refused."""
    (tmp_path / "out.jsonl").write_text("{}\n")
    path = tmp_path / "bundle.toml"
    text = """
        [case]
        title = "t"
        made_by = "m"
        permission = "p"
        [files]
        "data/outputs.jsonl" = "out.jsonl"
        [[steps]]
        name = "n"
        test = "identity"
        inputs = { suspect = "data/outputs.jsonl" }
    """
    path.write_text(text)
    contents = read_bundle_file(path)
    assert {"data/outputs.jsonl": tmp_path / "out.jsonl"} == contents.files
    assert ["identity"] == [step.test for step in contents.steps]
    for changed, told in (("[cases]", "title|cases"), ("[case]\nx = 1", "unknown field `x`")):
        path.write_text(text.replace("[case]", changed))
        with pytest.raises(ConfigError, match=told):
            read_bundle_file(path)
    path.write_text(text.replace('out.jsonl"', 'gone.jsonl"'))
    with pytest.raises(ConfigError, match=r"files.data/outputs\.jsonl must be a file"):
        read_bundle_file(path)


def test_redaction_keeps_root_and_stamp(made, authority, tmp_path):
    """Files and lines are kept back, root and stamps hold, and what is shown still counts."""
    lines = lines_with(made, "data/outputs.jsonl", r"the [37]th lamp")
    assert [4, 8] == lines
    redaction = Redaction(
        files={"data/decoys.json": "not needed"}, lines={"data/outputs.jsonl": lines}, why="private"
    )
    redact_bundle(made, tmp_path / "r", redaction)
    full = verify_bundle(made, trusted=authority.root)
    found = verify_bundle(tmp_path / "r", trusted=authority.root, root=full.root)
    assert ([], True) == (found.problems, found.is_timely)
    assert ("redacted", 1, 2) == (found.variant, found.n_withheld, found.n_lines_withheld)
    shown = (tmp_path / "r/data/outputs.jsonl").read_text()
    assert ("the 3th lamp" in shown, "the 4th lamp" in shown) == (False, True)
    assert {
        "asked": "not here", "draws": "same", "canaries": "not here", "verdict": "not here",
    } == {one.step: one.outcome for one in recompute_bundle(tmp_path / "r")}  # fmt: skip


def test_a_redacted_bundle_hides_its_salts(made, tmp_path):
    """Nothing in the copy lets a guess be tried against what is kept back."""
    redact_bundle(made, tmp_path / "r", Redaction(lines={"data/outputs.jsonl": [1]}))
    manifest = json.loads((tmp_path / "r/manifest.json").read_bytes())
    entry = next(one for one in manifest["files"] if one["path"] == "data/outputs.jsonl")
    assert ("", "") == (manifest["salt"], entry["lines"]["salts"][0])
    full = json.loads((made / "manifest.json").read_bytes())
    told = (tmp_path / "r/manifest.json").read_text()
    listed = {one["path"]: one["sha256"] for one in full["files"]}
    assert listed["data/outputs.jsonl"] not in told
    assert full["salt"] not in told


def test_redacting_twice(made, tmp_path):
    """A redacted bundle can be redacted further, and the root still holds."""
    redact_bundle(made, tmp_path / "1", Redaction(lines={"data/outputs.jsonl": [1, 2]}))
    more = Redaction(lines={"data/outputs.jsonl": [2, 5]})
    redact_bundle(tmp_path / "1", tmp_path / "2", more)
    found = verify_bundle(tmp_path / "2", root=verify_bundle(made).root)
    assert ([], 3) == (found.problems, found.n_lines_withheld)
    last = Redaction(files={"data/*": "all of it", "results/*": "and what came out"})
    redact_bundle(tmp_path / "2", tmp_path / "3", last)
    found = verify_bundle(tmp_path / "3", root=found.root)
    assert ([], 6) == (found.problems, found.n_withheld)


def test_a_redacted_line_cannot_be_exchanged(made, tmp_path):
    """Neither a shown line nor the note of a hidden one can be altered, even with the manifest."""
    redact_bundle(made, tmp_path / "r", Redaction(lines={"data/outputs.jsonl": [1]}))
    path = tmp_path / "r/data/outputs.jsonl"
    lines = path.read_bytes().split(b"\n")
    note = lines[0]
    for content in (
        [note.replace(b'"', b" ", 1), *lines[1:]],
        [note, lines[2], lines[1], *lines[3:]],
        [lines[1], *lines[1:]],
        [*lines, b"{}"],
    ):
        body = b"\n".join(content)
        told = json.loads((tmp_path / "r/manifest.json").read_bytes())
        entry = next(one for one in told["files"] if one["path"] == "data/outputs.jsonl")
        entry |= {"sha256": hashlib.sha256(body).hexdigest(), "n_bytes": len(body)}
        path.write_bytes(body)
        _rewrite(tmp_path / "r", told)
        assert not verify_bundle(tmp_path / "r").is_sound


@pytest.mark.parametrize(
    ("redaction", "told"),
    [
        (Redaction(files={"nothing*": "x"}), "something that the bundle has"),
        (Redaction(files={"case.json": "x"}), "what must be shown"),
        (Redaction(files={"commitments/*": "x"}), "what must be shown"),
        (Redaction(lines={"case.json": [1]}), "a shown file of JSON lines"),
        (Redaction(lines={"data/outputs.jsonl": [99]}), "lines from 1 to 41"),
    ],
)
def test_what_cannot_be_redacted(made, tmp_path, redaction, told):
    """Nothing, what must be shown, and lines that are not there are refused; no copy is left."""
    with pytest.raises(InvalidInputError, match=told):
        redact_bundle(made, tmp_path / "r", redaction)
    assert [] == list(tmp_path.iterdir())


def test_late_commitments_are_told(made, authority, tmp_path, bundle):
    """Commitments that were witnessed after the first question make a bundle untimely."""
    case = msgspec.json.decode((made / "case.json").read_bytes(), type=Case)
    early = msgspec.structs.replace(case, asked_from=1.0)
    commit = next((made / "commitments").iterdir())
    again = tmp_path / "commit"
    again.mkdir()
    for name in (BOOK, "test-time.tsr"):
        shutil.copyfile(commit / name, again / name)
    make_bundle(tmp_path / "late", Contents(early, commitments=[again]))
    add_stamp(tmp_path / "late", "t", authority.answer(request_seal(tmp_path / "late")))
    found = verify_bundle(tmp_path / "late", trusted=authority.root)
    assert (True, False) == (found.is_sound, found.is_timely)
    assert any("time-stamped after the suspect was first asked" in note for note in found.notes)


def test_without_a_trusted_root_it_is_sound_and_not_timely(made, other_authority):
    """Stamps are not believed without a root, and a wrong root refuses them by name."""
    found = verify_bundle(made)
    assert (True, False) == (found.is_sound, found.is_timely)
    found = verify_bundle(made, trusted=read_roots(other_authority().root))
    assert "stamps/test-time.tsr" in {one.path for one in found.problems}


def test_a_stamp_of_another_bundle_is_refused(bundle, authority):
    """A stamp must be about this seal, and takes a name once."""
    from stillwatch.trace.bundle.timestamp import request_stamp

    with pytest.raises(RecordError, match="about another file"):
        add_stamp(bundle, "x", authority.answer(request_stamp(b"something else")))
    with pytest.raises(RecordError, match="stands already"):
        add_stamp(bundle, "test-time", authority.answer(request_seal(bundle)))
    add_stamp(bundle, "second", authority.answer(request_seal(bundle)))
    assert 3 == len(verify_bundle(bundle, trusted=authority.root).witnesses)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"files": {"seal.json": b""}}, "named unlike the bundle's own"),
        ({"files": {"stamps/x": b""}}, "named unlike the bundle's own"),
        ({"files": {"../x": b""}}, "a file's name must be"),
        ({"files": {"a": b"", "A": b""}}, "unlike A in more than case"),
        ({"files": {"a": b"", "a/b": b""}}, "no folder's name"),
        ({"disclose": ["nothing"]}, "names of commitments"),
        ({"steps": [Step(name="s", test="canary", inputs={"x": "none"})]}, "a file of the bundle"),
        ({"steps": [Step(name="s", test="t", inputs={"x": "commitment:k"})]}, "disclosed commit"),
        ({"case": Case(title="t", made_by="m", permission=" ")}, "case.permission must be stated"),
    ],
)
def test_what_makes_no_bundle(tmp_path, changes, told):
    """Names, steps and cases that cannot be so are refused, and nothing is left behind."""
    fields = {"case": Case(title="t", made_by="m", permission="p"), **changes}
    with pytest.raises(InvalidInputError, match=told):
        make_bundle(tmp_path / "b", Contents(**fields))
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content",
    [
        b'{"headers": {"Authorization": "Bearer 0123456789"}}',
        b'{"x-api-key": ["a-callers-own-key"]}',
        b"mark key " + bytes(range(32)),
        b"mark key " + bytes(range(32)).hex().encode(),
        b"x" * (1 << 22) + b"base64 of it " + base64.b64encode(bytes(range(32))),
        b'{"mark": "a master key in a mark file"}',
    ],
)
def test_secrets_stay_out(tmp_path, authority, content):
    """A caller's key, and a committed key that is not disclosed, are refused, and never shown."""
    mark = {"scheme": "green", "master_key": "a master key in a mark file"}
    secret = {
        "raw": Secret("key", bytes(range(32))),
        "mark.json": Secret("key", json.dumps(mark).encode()),
    }
    write_commitments(tmp_path / "c", secret)
    case = Case(title="t", made_by="m", permission="p")
    told = Contents(case, {"data/x.json": content}, commitments=[tmp_path / "c"])
    with pytest.raises(InvalidInputError, match=r"data/x\.json: content must be free of") as error:
        make_bundle(tmp_path / "b", told)
    assert all(word not in str(error.value) for word in ("012345", "callers-own", "in a mark"))
    masked = {"data/x.json": b'{"authorization": "***"}'}
    make_bundle(tmp_path / "b", Contents(case, masked, commitments=[tmp_path / "c"]))
    assert verify_bundle(tmp_path / "b").is_sound


def test_a_bundle_is_never_overwritten(made):
    """A folder that stands is left as it is."""
    with pytest.raises(RecordError, match="stands already"):
        make_bundle(made, Contents(Case(title="t", made_by="m", permission="p")))


def test_no_bundle_there(tmp_path):
    """Nothing, an empty folder and a file that is no archive are told apart from a crash."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.tar").write_text("hello")
    for name, told in (("none", "no bundle"), ("empty", "missing"), ("note.tar", "cut short")):
        found = verify_bundle(tmp_path / name)
        assert not found.is_sound
        assert told in str(found.problems[0])


def test_it_verifies_elsewhere_without_a_network(made, authority, tmp_path):
    """Moved away and read by another process that may open no socket, all of it still holds."""
    pack_files(made, tmp_path / "moved.tar")
    shutil.copyfile(authority.root, tmp_path / "root.pem")
    code = """
import sys
def no_network(event, arguments):
    if event in ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto"):
        raise RuntimeError(event)
sys.addaudithook(no_network)
from pathlib import Path
from stillwatch.trace.bundle.making import recompute_bundle, verify_bundle
found = verify_bundle(Path("moved.tar"), trusted=Path("root.pem"))
again = recompute_bundle(Path("moved.tar"))
print(found.is_sound, found.is_timely, {one.outcome for one in again})
"""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TZ": "Asia/Tokyo"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "True True {'same'}\n" == done.stdout, done.stderr
