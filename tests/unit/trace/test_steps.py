"""Every step of a bundle gives what the test itself gives, from files and plain settings alone."""

import json
import shutil

import msgspec
import numpy as np
import pytest
from style_world import WORDS

from stillwatch.errors import InvalidInputError
from stillwatch.siege.teachers import house_teacher
from stillwatch.trace.bundle.manifest import Step
from stillwatch.trace.bundle.recompute import run_step
from stillwatch.trace.bundle.steps import RUNNERS
from stillwatch.trace.canaries.withheld import draw_split, prove_withheld
from stillwatch.trace.marks.markfile import open_mark
from stillwatch.trace.outputs import SuspectOutput, encode_outputs, open_tokens
from stillwatch.trace.radioactivity.excess_file import read_excess_file, write_excess
from stillwatch.trace.radioactivity.on_files import (
    RadioactivityFiles,
    find_radioactivity,
    find_served,
)
from stillwatch.trace.radioactivity.weights import Excess
from stillwatch.trace.similarity.exam import Exam, sit_exam
from stillwatch.trace.verdicts.finding import Finding
from stillwatch.trace.watermark import GreenListMark, distinct_windows, mark_key_id

KEY = bytes(range(32))


def write_outputs(path, outputs):
    """Write outputs as JSON lines."""
    path.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in outputs))
    return path.name


def babble(seed, n=24, samples=1):
    """Answers of a model that says words at random."""
    rng = np.random.default_rng(seed)
    return [
        SuspectOutput(answer=" ".join(rng.choice(WORDS, 30)), question=f"q{number}")
        for number in range(n)
        for _ in range(samples)
    ]


def run(folder, test, inputs, **settings):
    """Run one step on files of a folder and read its finding."""
    step = Step(name="s", test=test, inputs=inputs, settings=settings)
    return msgspec.convert(run_step(step, folder), type=Finding)


def test_every_kind_of_draw_has_a_step():
    """Each test that a verdict counts on closed evidence, each similarity, and the verdict."""
    assert {
        "radioactivity-closed", "radioactivity-weighted", "radioactivity-open",
        "radioactivity-supervised", "canary", "withheld", "lineage", "shared-errors", "identity",
        "equality", "prompts", "draws", "verdict",
    } == set(RUNNERS)  # fmt: skip


def test_closed_radioactivity(tmp_path):
    """The step's p-value is the exact one of the mark's own count, beside its decoys."""
    tokenizer = house_teacher("house-prose") / "tokenizer.json"
    (tmp_path / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    (tmp_path / "mark.json").write_text(json.dumps({"scheme": "green", "key": KEY.hex()}))
    outputs = [SuspectOutput(answer=f"The lamp of house {i} is lit.") for i in range(40)]
    inputs = {"outputs": write_outputs(tmp_path / "o.jsonl", outputs), "mark": "mark.json",
              "tokenizer": "tokenizer.json"}  # fmt: skip
    found = run(tmp_path, "radioactivity-closed", inputs, decoys=19, seed=1)
    mark = GreenListMark(KEY, mark_key_id(KEY))
    sequences = encode_outputs(outputs, tokenizer)
    vocab_size = 1 + max(int(max(one.token_ids)) for one in sequences)
    counts = mark.count(distinct_windows(sequences, vocab_size=vocab_size))
    assert (counts.n_windows, float(counts.n_green)) == (found.n, found.statistic)
    assert pytest.approx(counts.p_value().log10_p) == found.log10_p
    assert f"key:{mark.key_id}" == found.randomisation
    assert 1 / 20 <= found.details["decoy_rank_p"] <= 1
    fewer = run(tmp_path, "radioactivity-closed", inputs, repeated=10)
    assert 10 <= fewer.n < found.n


@pytest.mark.parametrize("how", ["weighted", "open"])
def test_weighted_radioactivity_needs_no_model(tmp_path, how):
    """From the excess that the test wrote, the step computes the same number without weights."""
    folder = house_teacher("house-prose")
    (tmp_path / "mark.json").write_text(json.dumps({"scheme": "green", "key": KEY.hex()}))
    mark = open_mark(tmp_path / "mark.json", vocab_size=open_tokens(folder).vocab_size)
    outputs = [SuspectOutput(answer=f"The lamp of house {i} is lit.") for i in range(20)]
    write_outputs(tmp_path / "o.jsonl", outputs)
    files = RadioactivityFiles(tmp_path / "o.jsonl", folder, {"": mark}, suspect=folder)
    rng = np.random.default_rng(1)
    told = find_radioactivity(files, how, rng=rng, n_decoys=19, excess=tmp_path / "excess.json")
    inputs = {"excess": "excess.json", "mark": "mark.json"}
    again = run(tmp_path, f"radioactivity-{how}", inputs, decoys=19, seed=1)
    assert told[0].finding == again


def test_supervised_radioactivity(tmp_path):
    """The step opens the marked model's folder from the bundle and gives what the test gives."""
    folder = house_teacher("house-prose")
    shutil.copytree(folder, tmp_path / "model")
    outputs = [SuspectOutput(answer=f"The lamp of house {i} is lit.") for i in range(12)]
    name = write_outputs(tmp_path / "o.jsonl", outputs)
    files = RadioactivityFiles(tmp_path / name, folder, {}, served=tmp_path / name)
    inputs = {"outputs": name, "served": name}
    inputs |= {f"model/{file.name}": f"model/{file.name}" for file in folder.iterdir()}
    assert find_served(files, draw_id="d") == run(
        tmp_path, "radioactivity-supervised", inputs, draw="d"
    )


@pytest.mark.parametrize(
    "change",
    [{"kind": "other"}, {"tokens": [1]}, {"context_width": 2}, {"vocab_size": 3}, {"more": 1}],
)
def test_a_damaged_excess_is_refused(tmp_path, change):
    """Columns that do not fit together, tokens beyond the vocabulary, unknown fields: refused."""
    excess = Excess(
        np.array([[1], [2]]), np.array([3, 4]), np.array([1.0, 0.0]), np.array([0.1, 0.2])
    )
    write_excess(tmp_path / "e.json", excess, vocab_size=5)
    held = json.loads((tmp_path / "e.json").read_text())
    read, vocab_size = read_excess_file(tmp_path / "e.json")
    assert 5 == vocab_size
    assert all(np.array_equal(a, b) for a, b in zip(excess, read, strict=True))
    (tmp_path / "e.json").write_text(json.dumps(held | change))
    with pytest.raises(InvalidInputError, match=r"e\.json"):
        read_excess_file(tmp_path / "e.json")


def test_withheld(tmp_path):
    """A split and its scores from files give what the test gives."""
    split = draw_split([f"i{n}" for n in range(40)], key=KEY)
    scores = {
        name: float(n % 5) + served
        for n, (name, served) in enumerate(zip(split.item_ids, split.served, strict=True))
    }
    (tmp_path / "split.json").write_bytes(msgspec.json.encode(split))
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    inputs = {"split": "split.json", "scores": "scores.json"}
    assert prove_withheld(split, scores).log10_p == run(tmp_path, "withheld", inputs).log10_p


def test_likeness(tmp_path):
    """Lineage, identity and equality run from outputs, a file a model, and repeat by their seed."""
    names = [f"m{i}" for i in range(6)]
    files = {name: write_outputs(tmp_path / f"{name}.jsonl", babble(i)) for i, name in
             enumerate(names)}  # fmt: skip
    every = {f"outputs/{name}": file for name, file in files.items()}
    settings = {"suspect": "m0", "candidate": "m1", "references": names[2:], "seed": 3, "draws": 50}
    lineage = [run(tmp_path, "lineage", every, **settings) for _ in range(2)]
    assert lineage[0] == lineage[1]
    assert 4 == lineage[0].rank[1]
    apart = {"suspect": files["m0"], "reference/m1": files["m1"], "reference/m2": files["m2"]}
    assert (0, 24) == (
        run(tmp_path, "identity", apart, models=["Clara"]).statistic,
        run(tmp_path, "identity", apart, models=["Clara"]).n,
    )
    sampled = {
        role: write_outputs(tmp_path / f"{role}.jsonl", babble(9, n=6, samples=4))
        for role in ("mine", "endpoint")
    }
    found = run(tmp_path, "equality", sampled, identity="today", seed=1, exchanges=99)
    assert "samples:today" == found.randomisation
    assert found.p_value > 0.01


def test_shared_errors(tmp_path):
    """Choices from a file give a rank among the references."""
    sheet = sit_exam(Exam(n_models=6, n_items=120, n_copies=1), rng=np.random.default_rng(0))
    told = {
        "models": sheet.models, "choices": sheet.choices.tolist(),
        "right": sheet.right.tolist(), "n_options": sheet.n_options.tolist(),
    }  # fmt: skip
    (tmp_path / "sheet.json").write_text(json.dumps(told))
    mine, *others, copied = sheet.models
    found = run(tmp_path, "shared-errors", {"sheet": "sheet.json"}, mine=mine, suspect=copied,
                references=others)  # fmt: skip
    assert (0, 5) == found.rank


@pytest.mark.parametrize(
    ("test", "inputs", "settings", "told"),
    [
        ("withheld", {}, {}, "inputs must be complete: split is missing"),
        ("equality", {"mine": "o", "endpoint": "o"}, {"identity": "x"}, "seed must be given"),
        ("shared-errors", {"sheet": "o"}, {}, "o: not what the step reads from it"),
    ],
)
def test_what_a_step_lacks_is_told(tmp_path, test, inputs, settings, told):
    """A missing file, a missing seed and a file of another kind are named."""
    write_outputs(tmp_path / "o", babble(0, n=2))
    with pytest.raises(InvalidInputError, match=told):
        run(tmp_path, test, inputs, **settings)
