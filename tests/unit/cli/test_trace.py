"""`stillwatch trace` from end to end on small files: every sub-verb, its files and exit codes."""

import json
import os
from pathlib import Path

import msgspec
import numpy as np
import pytest

from stillwatch.cli.main import main
from stillwatch.siege.teachers import house_teacher
from stillwatch.trace.canaries.canary import Assignment, picks_of
from stillwatch.trace.canaries.withheld import Split
from stillwatch.trace.outputs import SuspectOutput, open_tokens, write_outputs
from stillwatch.trace.verdicts.finding import Finding
from stillwatch.trace.watermark import campaign_mark

KEY = "ab" * 32


def _stillwatch(*words: object) -> int:
    with pytest.raises(SystemExit) as left:
        main(["trace", *map(str, words)])
    return int(left.value.code or 0)


def _json(capsys: pytest.CaptureFixture[str]) -> object:
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def key_file(tmp_path):
    """A key that only its owner may read."""
    path = tmp_path / "key.hex"
    path.write_text(KEY + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def drawn(tmp_path, key_file, capsys):
    """Sixty canaries of four variants, drawn; and a suspect that knows most of the draw."""
    rows = [
        {"canary_id": f"c{n}", "probe": f"Which colour has lamp {n}?",
         "variants": [f"red{n}", f"blue{n}", f"green{n}", f"grey{n}"]}
        for n in range(60)
    ]  # fmt: skip
    (tmp_path / "canaries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("canary", "draw", tmp_path / "canaries.jsonl", "--out", tmp_path / "a.json")
    assert 0 == _stillwatch(*words, "--key-file", key_file)
    assignment = msgspec.json.decode((tmp_path / "a.json").read_bytes(), type=Assignment)
    told = [
        SuspectOutput(one.variants[(drawn + (n % 4 == 0)) % 4], one.probe)
        for n, (one, drawn) in enumerate(zip(assignment.canaries, assignment.served, strict=True))
    ]
    write_outputs(tmp_path / "knows.jsonl", told)
    blind = [SuspectOutput(one.variants[0], one.probe) for one in assignment.canaries]
    write_outputs(tmp_path / "blind.jsonl", blind)
    capsys.readouterr()
    return assignment


def _marked_outputs(path: Path, key: bytes) -> None:
    """Write answers in which words follow the green list of a campaign's key."""
    tokens = open_tokens(house_teacher("house-prose"))
    mark, rng = campaign_mark(key, "web-1"), np.random.default_rng(0)
    words = ["river", "lamp", "stone", "window", "garden", "letter", "winter", "morning", "the",
             "old", "a", "was", "and", "in", "of"]  # fmt: skip
    rows = []
    for _ in range(60):
        said = "The"
        for _ in range(20):
            tries = [f"{said} {word}" for word in rng.permutation(words)[:6]]
            ids = [
                np.array(one.token_ids) for one in tokens.encode(list(map(SuspectOutput, tries)))
            ]
            shares = [mark.is_green(one[:-1, None], one[1:]).mean() for one in ids]
            said = tries[int(np.argmax(shares))]
        rows.append(SuspectOutput(said))
    write_outputs(path, rows)


def test_canaries_are_planned_drawn_and_tested(tmp_path, drawn, capsys):
    """A suspect that knows the draw is found, one that does not is not; the draw stays private."""
    assert 0 == _stillwatch("canary", "plan", "--adoption", "0.3", "--json")
    assert 79 == _json(capsys)["n"]
    assert 0o600 == (tmp_path / "a.json").stat().st_mode & 0o777
    assert KEY not in (tmp_path / "a.json").read_text()
    assert 0 == _stillwatch(
        "canary", "test", tmp_path / "a.json", tmp_path / "knows.jsonl", "--json",
        "--out", tmp_path / "f.json", "--decoys", "200", "--audit", tmp_path / "d.json",
    )  # fmt: skip
    (found,) = _json(capsys)
    assert found["log10_p"] < -10
    assert [found] == json.loads((tmp_path / "f.json").read_text())
    assert 200 == json.loads((tmp_path / "d.json").read_text())[0]["n"]
    assert 0 == _stillwatch(
        "canary", "test", tmp_path / "a.json", tmp_path / "blind.jsonl", "--void", "c1"
    )
    assert f"our draw: {drawn.randomisation}" in capsys.readouterr().out


def test_a_split_is_planned_drawn_and_tested(tmp_path, key_file, monkeypatch, capsys):
    """Scores that favour what was served are found; the key may come from the environment."""
    (tmp_path / "items").write_text("".join(f"i{n}\n" for n in range(80)))
    monkeypatch.setenv("STILLWATCH_WITHHELD_KEY", KEY)
    words = ("withheld", "draw", tmp_path / "items", "--out", tmp_path / "s.json")
    assert 0 == _stillwatch(*words, "--json")
    told = _json(capsys)
    split = msgspec.json.decode((tmp_path / "s.json").read_bytes(), type=Split)
    assert split.commitment == told["commitment"]
    assert 2 == _stillwatch(*words)
    scores = {
        i: float(s) + n % 7 / 10 for n, (i, s) in enumerate(zip(*split_of(split), strict=True))
    }
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    capsys.readouterr()
    words = ("withheld", "test", tmp_path / "s.json", tmp_path / "scores.json")
    assert 0 == _stillwatch(*words, "--json", "--decoys", "50")
    assert _json(capsys)[0]["log10_p"] < -10
    assert 0 == _stillwatch("withheld", "plan", "--effect", "0.2", "--json")
    assert 3643 == _json(capsys)["n"]


def split_of(split: Split) -> tuple[tuple[str, ...], tuple[bool, ...]]:
    """Items and their draws."""
    return split.item_ids, split.served


def test_keys_that_others_may_read_are_refused(tmp_path, key_file, capsys):
    """A key file with open permissions, a short key and no key at all end with exit code 2."""
    (tmp_path / "items").write_text("a\n")
    words = ("withheld", "draw", tmp_path / "items", "--out", tmp_path / "s.json")
    assert 2 == _stillwatch(*words)
    assert "STILLWATCH_WITHHELD_KEY" in capsys.readouterr().err
    key_file.chmod(0o644)
    assert 2 == _stillwatch(*words, "--key-file", key_file)
    told = capsys.readouterr().err
    assert "chmod 600" in told
    assert KEY not in told
    key_file.chmod(0o600)
    key_file.write_text("abcd")
    assert 2 == _stillwatch(*words, "--key-file", key_file)
    assert "abcd" not in capsys.readouterr().err
    assert not (tmp_path / "s.json").exists()


def test_radioactivity_and_watermark(tmp_path, key_file, capsys):
    """Both tests find the campaign whose key chose the words, and no other."""
    _marked_outputs(tmp_path / "o.jsonl", bytes.fromhex(KEY))
    words = ("radioactivity", tmp_path / "o.jsonl", "--campaign", "web-2", "--campaign", "web-1")
    assert 0 == _stillwatch(
        *words, "--key-file", key_file, "--decoys", "49", "--json",
        "--out", tmp_path / "f.json", "--audit", tmp_path / "d.json",
    )  # fmt: skip
    told = _json(capsys)
    assert ["web-1", "web-2"] == [one["campaign_id"] for one in told["campaigns"]]
    assert told["campaigns"][0]["holm_log10_p"] < -6
    assert told["campaigns"][1]["holm_log10_p"] > -2
    assert 0.02 == told["decoys"]["rank_p"]
    assert told["findings"] == json.loads((tmp_path / "f.json").read_text())
    mark = tmp_path / "mark.toml"
    mark.write_text(f'scheme = "green"\nmaster_key = "{KEY}"\n')
    mark.chmod(0o600)
    for verb in (("watermark", "test"), ("radioactivity",)):
        assert 0 == _stillwatch(
            *verb, *words[1:], "--mark", mark, "--decoys", "19", "--json"
        )  # fmt: skip
        first, second = _json(capsys)["marks"]
        assert ("web-1", "web-2") == (first["name"], second["name"])
        assert first["holm_log10_p"] < -6 < -2 < second["holm_log10_p"]
    mark.chmod(0o640)
    assert 2 == _stillwatch("watermark", "test", tmp_path / "o.jsonl", "--mark", mark)
    assert 2 == _stillwatch("radioactivity", tmp_path / "o.jsonl")


def test_a_mark_is_tried_on_a_model(tmp_path, capsys):
    """The prose teacher with a Gumbel mark is found under its key, without the mark it is not."""
    mark = tmp_path / "mark.json"
    mark.write_text(json.dumps({"scheme": "gumbel", "key": KEY}))
    mark.chmod(0o600)
    (tmp_path / "q").write_text("".join(f"Tell me about lamp {n}\n" for n in range(4)))
    words = ("watermark", "check", tmp_path / "q", "--mark", mark, "--tokens", "40", "--json")
    assert 0 == _stillwatch(*words)
    marked, unmarked = _json(capsys)
    assert marked["log10_p"] < -6
    assert unmarked["log10_p"] > -3


@pytest.mark.parametrize("how", ["weighted", "open", "supervised"])
def test_tests_that_read_weights(tmp_path, key_file, capsys, how):
    """The tests with the marked model's weights run on its folder, and do not accuse itself."""
    folder = house_teacher("house-prose")
    rows = [SuspectOutput(f"The lamp of the house was old. {n}", f"lamp {n}") for n in range(12)]
    write_outputs(tmp_path / "o.jsonl", rows)
    words = ["radioactivity", tmp_path / "o.jsonl", "--key-file", key_file, "--how", how, "--json",
             "--decoys", "9", "--suspect-folder", folder]  # fmt: skip
    words += ["--served", tmp_path / "o.jsonl"] if how == "supervised" else ["--campaign", "web-1"]
    assert 0 == _stillwatch(*words)
    told = _json(capsys)
    found = told[0] if how == "supervised" else told["marks"][0]["finding"]
    assert f"radioactivity-{how}" == found["test"]
    assert found["log10_p"] > -3


def _panel(folder: Path) -> dict[str, Path]:
    """Answers of a teacher, its copy, and independent models, to twenty questions."""
    rng = np.random.default_rng(3)
    words = [f"w{n}" for n in range(60)]
    paths = {}
    base = {q: list(rng.choice(words, 12)) for q in range(20)}
    for name in ("mine", "copy", *(f"r{n}" for n in range(6))):
        rows = []
        for q in range(20):
            own = list(rng.choice(words, 12))
            said = base[q] if name == "mine" else base[q][:9] + own[:3] if name == "copy" else own
            rows.append(SuspectOutput(" ".join(said), f"question {q}"))
        paths[name] = folder / f"{name}.jsonl"
        write_outputs(paths[name], rows)
    return paths


def test_lineage_finds_the_copy(tmp_path, capsys):
    """A copy is closer to its teacher than every reference; that is a rank and no p-value."""
    paths = _panel(tmp_path)
    words = [
        "lineage",
        "--suspect",
        f"copy={paths['copy']}",
        "--candidate",
        f"mine={paths['mine']}",
    ]
    for n in range(6):
        words += ["--reference", f"r{n}={paths[f'r{n}']}"]
    cards = tmp_path / "cards.json"
    cards.write_text(json.dumps({"copy": {"released": "2026-01-01"}}))
    assert 0 == _stillwatch(*words, "--cards", cards, "--resamples", "20", "--json")
    (found,) = _json(capsys)
    assert [0, 6] == found["rank"]
    assert "p_value" not in found
    assert 2 == _stillwatch("lineage", "--suspect", "copy", "--candidate", "mine=x")


def test_identity_and_equality(tmp_path, capsys):
    """Claims of the brand are counted beside references; the same samples are indistinguishable."""
    rows = [SuspectOutput("I am Clara, made by Acme.", f"who {n}?") for n in range(4)]
    write_outputs(tmp_path / "s.jsonl", rows)
    plain = [SuspectOutput("I am a model.", f"who {n}?") for n in range(4)]
    write_outputs(tmp_path / "r.jsonl", plain)
    words = ("--model", "Clara", "--maker", "Acme", "--reference", f"r={tmp_path / 'r.jsonl'}")
    assert 0 == _stillwatch("identity", tmp_path / "s.jsonl", *words, "--json")
    (found,) = _json(capsys)
    assert (1.0, [0, 1]) == (found["statistic"], found["rank"])
    samples = [SuspectOutput(f"say {n % 3}", f"q{n % 5}") for n in range(40)]
    write_outputs(tmp_path / "e.jsonl", samples)
    words = ("equality", tmp_path / "e.jsonl", tmp_path / "e.jsonl", "--exchanges", "99")
    assert 0 == _stillwatch(*words, "--json")
    assert _json(capsys)[0]["p_value"] > 0.5


def test_shared_errors(tmp_path, capsys):
    """A copy's wrong answers agree with mine beyond what the references' do."""
    rng = np.random.default_rng(5)
    mine = rng.integers(0, 4, 200)
    choices = [mine, np.where(rng.random(200) < 0.9, mine, rng.integers(0, 4, 200))]
    choices += [rng.integers(0, 4, 200) for _ in range(5)]
    sheet = {
        "models": ["mine", "copy", "a", "b", "c", "d", "e"],
        "choices": [row.tolist() for row in choices],
        "right": [0] * 200,
        "n_options": [4] * 200,
    }
    (tmp_path / "sheet.json").write_text(json.dumps(sheet))
    words = ("errors", tmp_path / "sheet.json", "--mine", "mine", "--suspect", "copy")
    assert 0 == _stillwatch(*words, "--json")
    (found,) = _json(capsys)
    assert [0, 5] == found["rank"]
    assert 2 == _stillwatch(*words[:-1], "nobody")


def test_from_plan_to_verified_bundle(tmp_path, drawn, capsys):
    """Plan, test, verdict, bundle, verify; one altered byte is refused by its name."""
    draft = tmp_path / "PLAN.toml"
    draft.write_text(
        'title = "Is m ours?"\nsuspects = ["m"]\naudit = {innocents = 1, decoys = 100}\n'
        f'[[tests]]\ntest = "canary"\nrandomisation = "{drawn.randomisation}"\n'
    )
    plan = tmp_path / "plan.json"
    words = ("plan", draft, "--out", plan, "--prompts", tmp_path / "canaries.jsonl",
             "--assignment", tmp_path / "a.json", "--commit", tmp_path / "book")  # fmt: skip
    assert 0 == _stillwatch(*words, "--json")
    told = _json(capsys)
    assert {drawn.randomisation: drawn.commitment} == told["plan"]["commitments"]
    assert (tmp_path / "book" / "commitments.tsq").exists()
    assert 2 == _stillwatch(*words)
    for name in ("knows", "blind"):
        assert 0 == _stillwatch(
            "canary", "test", tmp_path / "a.json", tmp_path / f"{name}.jsonl", "--suspect", "m",
            "--decoys", "100", "--audit", tmp_path / f"{name}-d.json",
            "--out", tmp_path / f"{name}-f.json",
        )  # fmt: skip
    capsys.readouterr()
    words = ("verdict", plan, "--finding", f"m={tmp_path / 'knows-f.json'}",
             "--innocent", f"blind={tmp_path / 'blind-f.json'}",
             "--decoys", tmp_path / "knows-d.json")  # fmt: skip
    assert 0 == _stillwatch(*words, "--json", "--out", tmp_path / "v.json")
    assert "proved" == _json(capsys)["accusations"][0]["level"]
    assert 0 == _stillwatch(*words)
    assert "proved" in capsys.readouterr().out
    _bundle_is_verified(tmp_path, capsys)


def _bundle_is_verified(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "BUNDLE.toml").write_text(
        'commitments = ["book"]\ndisclose = ["plan.json", "a.json"]\n'
        '[case]\ntitle = "Is m ours?"\nmade_by = "us"\npermission = "our own evidence"\n'
        '[files]\n"data/outputs.jsonl" = "knows.jsonl"\n"data/blind.jsonl" = "blind.jsonl"\n'
        '"data/decoys.json" = "knows-d.json"\n'
        '[[steps]]\nname = "canary"\ntest = "canary"\n'
        'inputs = {assignment = "commitment:a.json", outputs = "data/outputs.jsonl"}\n'
        '[[steps]]\nname = "blind"\ntest = "canary"\n'
        'inputs = {assignment = "commitment:a.json", outputs = "data/blind.jsonl"}\n'
        '[[steps]]\nname = "verdict"\ntest = "verdict"\n'
        'inputs = {plan = "commitment:plan.json", "finding/m/1" = "results/canary.json", '
        '"innocent/blind/1" = "results/blind.json", decoys = "data/decoys.json"}\n'
    )
    made = folder / "bundle"
    assert 0 == _stillwatch("bundle", "make", folder / "BUNDLE.toml", "--out", made)
    assert 0 == _stillwatch("bundle", "request", made, "--out", folder / "r.tsq")
    assert 0 == _stillwatch("bundle", "pack", made, folder / "b.tar")
    capsys.readouterr()
    page = folder / "v.html"
    assert 0 == _stillwatch("verify", folder / "b.tar", "--recompute", "--json", "--html", page)
    told = _json(capsys)
    assert ["same"] * 3 == [one["outcome"] for one in told["recomputed"]]
    assert "Is m ours?" in page.read_text()
    redacted = folder / "redacted"
    assert 0 == _stillwatch(
        "bundle", "redact", made, "--out", redacted, "--lines", "data/outputs.jsonl=lamp 7"
    )
    capsys.readouterr()
    assert 0 == _stillwatch("verify", redacted, "--root", told["root"], "--json")
    assert told["root"] == _json(capsys)["root"]
    path = made / "data" / "outputs.jsonl"
    path.write_bytes(path.read_bytes().replace(b"lamp 7", b"lamp 8", 1))
    assert 1 == _stillwatch("verify", made)
    assert "data/outputs.jsonl: altered" in capsys.readouterr().out


def test_findings_are_read_back(tmp_path, drawn):
    """What --out writes decodes as findings, with the picks that the answers show."""
    out = tmp_path / "f.json"
    assert 0 == _stillwatch(
        "canary", "test", tmp_path / "a.json", tmp_path / "knows.jsonl", "--out", out
    )
    (found,) = msgspec.json.decode(out.read_bytes(), type=list[Finding])
    assert 60 == found.n == len(picks_of(drawn.canaries, [])) == len(drawn.served)
    assert os.access(out, os.R_OK)
