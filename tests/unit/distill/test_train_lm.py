"""Training any student: what repeats, what resumes, what is left out, what is learnt."""

import asyncio
import json
import math
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from stillwatch.distill.items import Example
from stillwatch.distill.training import loop
from stillwatch.distill.training.batches import Row, pad_rows
from stillwatch.distill.training.checkpoints import checkpoint_path
from stillwatch.distill.training.loop import LoopPlan, batch_nats
from stillwatch.distill.training.signals import Vocabulary, align, recorded_positions
from stillwatch.distill.training.train import Pair, Recipe, StudentShape, train_student
from stillwatch.distill.training.train_lm import (
    LoraTable,
    StudentTable,
    TopKTable,
    TrainTable,
    rate_of,
    train_lm,
)
from stillwatch.errors import InvalidInputError
from stillwatch.model.decode import GenerationRow
from stillwatch.model.folder import GenerationDefaults
from stillwatch.model.huggingface import HuggingFaceModel, load_causal, open_folder
from stillwatch.model.local import LocalModel
from stillwatch.model.protocol import Question
from stillwatch.record.exchange import Answer, Message, canonical_json

HOUSE = StudentTable(width=16, layers=1, heads=2, context=32)


@pytest.fixture
def examples(example_of: Callable[..., Example]) -> list[Example]:
    """A rule that a tiny model learns: repeat the digit."""
    return [example_of(("user", f"twice {i % 10}"), answer=f"{i % 10}{i % 10}") for i in range(20)]


class KilledError(Exception):
    """Stands for a process that ends in the middle."""


def killed_at(step: int) -> Callable[[int, float], None]:
    """End the run after so many steps."""

    def stop(done: int, _: float) -> None:
        if done == step:
            raise KilledError

    return stop


def weights(folder: Path) -> bytes:
    """The bytes of the weights."""
    return (folder / "model.safetensors").read_bytes()


def test_a_house_student_is_that_of_train_student(examples: list[Example], tmp_path: Path) -> None:
    """The general way and the siege's way to the same small model give the same bytes."""
    table = TrainTable(steps=5, batch_size=8, student=HOUSE, max_new_tokens=9)
    one = train_lm(examples, table, seed=3, out=tmp_path / "one")
    pairs = [Pair(e.item.question, e.answer.text) for e in examples]
    recipe = Recipe(5, batch_size=8, seed=3, defaults=GenerationDefaults(0.0, 9))
    two = train_student(
        pairs, tokenizer=one.folder, shape=StudentShape(16, 1, 2, 32), recipe=recipe,
        out=tmp_path / "two",
    )  # fmt: skip
    assert np.array_equal(one.losses, two.losses)
    for name in ("model.safetensors", "config.json", "tokenizer.json", "generation_config.json"):
        assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes()
    assert isinstance(open_folder(one.folder), LocalModel)


@pytest.mark.parametrize("kind", ["house", "muon", "adamw", "lora"])
def test_a_killed_run_ends_in_the_same_bytes(
    examples: list[Example], tiny_folder: Callable[..., Path], tmp_path: Path, kind: str
) -> None:
    """With checkpoints, a run that was stopped goes on and gives the bytes of one that was not."""
    folder = str(tiny_folder(kind="gpt2")) if kind != "house" else ""  # GPT-2: with dropout
    table = TrainTable(
        steps=7, batch_size=4, accumulate=2, learning_rate=1e-2, device="cpu",
        student=HOUSE if kind == "house" else StudentTable(folder=folder),
        optimizer="muon" if kind == "muon" else "auto",
        lora=LoraTable(rank=2, dropout=0.1) if kind == "lora" else None,
    )  # fmt: skip
    whole = train_lm(examples, table, seed=1, out=tmp_path / "whole")
    often = msgspec.structs.replace(table, save_every=3)
    out = tmp_path / "killed"
    with pytest.raises(KilledError):
        train_lm(examples, often, seed=1, out=out, on_step=killed_at(5))
    assert not out.exists()
    assert checkpoint_path(out).is_file()
    resumed = train_lm(examples, often, seed=1, out=out)
    assert (3, 0) == (resumed.resumed_at, whole.resumed_at)
    assert weights(whole.folder) == weights(resumed.folder)
    assert np.array_equal(whole.losses, resumed.losses)
    assert whole.n_tokens == resumed.n_tokens
    assert not checkpoint_path(out).exists()


def test_another_runs_checkpoint_is_not_continued(examples: list[Example], tmp_path: Path) -> None:
    """Other examples, another seed or a damaged file begin anew."""
    table = TrainTable(steps=4, batch_size=4, save_every=2, student=HOUSE)
    out = tmp_path / "s"

    def stop() -> None:
        with pytest.raises(KilledError):
            train_lm(examples, table, seed=0, out=out, on_step=killed_at(3))

    stop()
    assert 0 == train_lm(examples, table, seed=1, out=out).resumed_at
    stop()
    assert 0 == train_lm(examples[:9], table, seed=0, out=out).resumed_at
    stop()
    path = checkpoint_path(out)
    path.write_bytes(path.read_bytes()[:-9])
    assert 0 == train_lm(examples, table, seed=0, out=out).resumed_at


@pytest.mark.parametrize("merge", [True, False])
def test_a_folder_is_trained_and_answers(
    examples: list[Example], tiny_folder: Callable[..., Path], tmp_path: Path, merge: bool
) -> None:
    """A trained folder, merged or an adapter, opens and has learnt the rule and its end."""
    lora = None if merge else LoraTable(rank=8, merge=False)
    folder = str(tiny_folder())
    table = TrainTable(
        steps=100 if merge else 15, batch_size=10, learning_rate=2e-2, device="cpu", lora=lora,
        student=StudentTable(folder=folder),
    )  # fmt: skip
    result = train_lm(examples, table, seed=0, out=tmp_path / "s")
    model = open_folder(result.folder, device="cpu")
    assert isinstance(model, HuggingFaceModel)
    asked = [Question(messages=(Message("user", f"twice {i}"),)) for i in range(10)]
    said = [reply.answers[0] for reply in asyncio.run(model.answer(asked))]
    assert result.losses[-1] < result.losses[0]
    if merge:
        assert [f"{i}{i}" for i in range(10)] == [answer.text for answer in said]
        assert {"stop"} == {answer.finish_reason for answer in said}
    assert model.template.sha256 == result.template_sha256
    assert 6 == model.max_new_tokens
    if not merge:
        again = train_lm(examples, table, seed=0, out=tmp_path / "t")
        for path in sorted(result.folder.iterdir()):
            assert path.read_bytes() == (again.folder / path.name).read_bytes()


def test_new_weights_from_a_config(
    examples: list[Example], tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """A config and a tokenizer make a student of that architecture; the seed makes its weights."""
    folder = str(tiny_folder(kind="llama"))
    table = TrainTable(
        steps=2, batch_size=4, student=StudentTable(config=folder, tokenizer=folder), device="cpu"
    )
    runs = [train_lm(examples, table, seed=s, out=tmp_path / f"s{s}") for s in (0, 1)]
    assert weights(runs[0].folder) != weights(runs[1].folder)
    settings = json.loads((runs[0].folder / "config.json").read_text())
    assert ["LlamaForCausalLM"] == settings["architectures"]
    assert folder not in (runs[0].folder / "config.json").read_text()


def test_accumulated_batches_are_one(examples: list[Example], tmp_path: Path) -> None:
    """Two batches of four are one of eight: the loss is a mean over tokens, not over batches."""
    rows = [
        Row(np.array([1, 3, *range(6, 7 + n), 2]), np.arange(n + 4) >= 2) for n in range(1, 9)
    ]  # fmt: skip
    folder = train_lm(
        examples, TrainTable(steps=1, student=HOUSE), seed=0, out=tmp_path / "s"
    ).folder
    model = load_causal(folder, precision="float32").train()
    plan = LoopPlan(steps=1, rate=lambda _: 0.0, batch_size=8, pad_id=0, prompt_loss=0.5)

    class Looking:
        """Reads the gradients in the place of a step."""

        def __init__(self) -> None:
            self.grads: list[np.ndarray] = []

        def step(self, _: float) -> None:
            """Keep and forget them."""
            self.grads = [p.grad.numpy().copy() for p in model.parameters()]
            model.zero_grad()

    losses = []
    for parts in ([rows], [rows[:4], rows[4:]]):
        looking = Looking()
        batches = [pad_rows(part, pad_id=0) for part in parts]
        total = loop._take_step(model, batches, looking, plan=plan, step=0)
        losses.append((total, looking.grads))
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-5)
    for one, two in zip(losses[0][1], losses[1][1], strict=True):
        assert one == pytest.approx(two, abs=1e-5)


@pytest.mark.parametrize("prompt_loss", [0.0, 0.3])
def test_logits_at_the_targets_alone(
    monkeypatch: pytest.MonkeyPatch, tiny_folder: Callable[..., Path], prompt_loss: float
) -> None:
    """A large vocabulary's logits are computed where they count, with the same loss and signal."""
    model = load_causal(tiny_folder(kind="gemma2"), precision="float32")
    answer = Answer("ab", extra=canonical_json({"logprobs": {"content": [
        {"token": "a", "logprob": -0.2, "bytes": [97]},
        {"token": "b", "logprob": -0.4, "bytes": [98]},
    ]}}))  # fmt: skip
    words = [b""] * 300
    words[10], words[11] = b"a", b"b"
    signal = align(
        recorded_positions(answer), [5, 6, 10, 11, 2], n_prompt=2, text="ab",
        vocabulary=Vocabulary(words),
    )  # fmt: skip
    rows = [
        Row(np.array([5, 6, 10, 11, 2]), np.array([0, 0, 1, 1, 1], bool), signal),
        Row(np.array([5, 9, 2]), np.array([0, 0, 1], bool)),
    ]
    plan = LoopPlan(
        steps=1, rate=lambda _: 0.0, batch_size=2, pad_id=0, prompt_loss=prompt_loss,
        topk=TopKTable(weight=0.7),
    )  # fmt: skip
    batch = pad_rows(rows, pad_id=0)
    narrow = [part.item() for part in batch_nats(model, batch, plan)]
    monkeypatch.setattr(loop, "_WIDE_VOCABULARY", 1)
    wide = [part.item() for part in batch_nats(model, batch, plan)]
    assert narrow == pytest.approx(wide, rel=1e-5)
    assert narrow[0] > 0


def test_a_teachers_distribution_is_learnt(
    example_of: Callable[..., Example], tmp_path: Path
) -> None:
    """From one recorded answer with its distribution the student takes the shares, not the text."""
    content = [{
        "token": "a", "logprob": math.log(0.3), "bytes": [97],
        "top_logprobs": [{"token": "b", "logprob": math.log(0.7), "bytes": [98]}],
    }]  # fmt: skip
    extra = canonical_json({"logprobs": {"content": content}})
    example = example_of(("user", "x"), answer=Answer("a", "stop", extra=extra))
    table = TrainTable(
        method="topk", steps=100, batch_size=2, learning_rate=2e-2, student=HOUSE, prompt_loss=0
    )
    result = train_lm([example], table, seed=0, out=tmp_path / "s")
    assert 1 == result.n_signal
    model = LocalModel.load(result.folder)
    asked = Question(messages=(Message("user", "x"),))
    ids = model.encode_question(asked.messages[0].content)
    [found] = model.generate([GenerationRow(prompt_ids=ids, max_new_tokens=1, n_top=2)])
    assert found.choices is not None
    shares = {model.tokenizer.token_text(i): np.exp(p) for i, p in found.choices[0].top}
    assert {"b": 0.7, "a": 0.3} == pytest.approx(shares, abs=0.05)


def test_what_cannot_be_learnt_is_counted(
    example_of: Callable[..., Example], tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """Empty, too long and token-spelling examples are left out by reason; none left is an error."""
    good = example_of(("user", "one"), answer="two")
    bad = [
        example_of(("user", "one"), answer=" "), example_of(("user", "one"), answer="two " * 99),
        example_of(("user", "<|im_end|>"), answer="two"),
    ]  # fmt: skip
    student = StudentTable(folder=str(tiny_folder()))
    table = TrainTable(steps=1, batch_size=2, student=student, device="cpu")
    result = train_lm([good, *bad], table, seed=0, out=tmp_path / "s")
    assert {"empty": 1, "too_long": 1, "spells_special_token": 1} == result.left_out
    assert 1 == result.n_pairs
    with pytest.raises(InvalidInputError, match="at least one that fits, got none of 3") as caught:
        train_lm(bad, table, seed=0, out=tmp_path / "t")
    assert "left out: empty 1" in str(caught.value.hint)


def test_byte_pairs_are_learnt_from_the_examples(examples: list[Example], tmp_path: Path) -> None:
    """A small student may have byte pairs instead of characters, and then reads any character."""
    student = msgspec.structs.replace(HOUSE, vocabulary=300)
    result = train_lm(examples, TrainTable(steps=1, student=student), seed=0, out=tmp_path / "s")
    model = LocalModel.load(result.folder)
    assert "twice é" == model.tokenizer.decode(model.token_ids("twice é"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"student": {"folder": "a", "config": "b"}}, "folder must be given without config"),
        ({"student": {"config": "b"}}, "tokenizer must be given beside config"),
        ({"student": {"layers": 0}}, "layers must be at least 1, got 0"),
        ({"lora": {"rank": 4}}, "lora must be used with student.folder"),
        ({"student": {"folder": "a"}, "lora": {"rank": 0}}, "rank must be at least 1, got 0"),
        ({"at": [100, 50]}, "at must be rising numbers of questions"),
        ({"seeds": [1, 1]}, "seeds must be at least one, all different"),
        ({"topk": {"beta": 2}}, "beta must be between 0 and 1, got 2"),
        ({"topk": {"temperature": 0}}, "temperature must be above 0"),
        ({"device": "tpu"}, "device must be auto, cpu, cuda or cuda:N, got 'tpu'"),
        ({"warmup": 2}, "warmup must be between 0 and 1, got 2"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"prompt_loss": -0.5}, "prompt_loss must be at least 0, or -1"),
        ({"stepps": 1}, "unknown field `stepps`"),
    ],
)
def test_bad_tables_are_refused(settings: dict[str, object], message: str) -> None:
    """A table that cannot be is refused with the field and the rule."""
    with pytest.raises((InvalidInputError, msgspec.ValidationError), match=message):
        msgspec.convert(settings, TrainTable)


def test_defaults_fit_the_student() -> None:
    """Rates, prompt share and steps follow what is trained, unless they are given."""
    house, folder = TrainTable(), TrainTable(student=StudentTable(folder="x"))
    lora = msgspec.structs.replace(folder, lora=LoraTable())
    assert [4e-3, 2e-5, 2e-4] == [table.peak_rate for table in (house, folder, lora)]
    assert [0.3, 0.0] == [table.prompt_share for table in (house, folder)]
    assert [900, 3, 94] == [
        house.steps_for(10), TrainTable(epochs=10).steps_for(10), folder.steps_for(1000),
    ]  # fmt: skip


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_rates_rise_and_fall(schedule: str) -> None:
    """No step is taken at rate 0; after the rise the rate never rises again."""
    table = TrainTable(schedule=schedule, learning_rate=1.0, warmup=0.1)
    rates = [rate_of(step, table, steps=50) for step in range(50)]
    assert [0.2, 0.4, 0.6, 0.8, 1.0] == pytest.approx(rates[:5])
    assert sorted(rates[5:], reverse=True) == rates[5:]
    assert min(rates) > 0
    assert (1.0 if schedule == "constant" else pytest.approx(0, abs=0.03)) == rates[-1]


def test_nothing_to_learn_from(tmp_path: Path) -> None:
    """No examples, and a method that is another function's, are refused."""
    with pytest.raises(InvalidInputError, match="examples must be at least one, got 0"):
        train_lm([], TrainTable(), seed=0, out=tmp_path / "s")


@pytest.mark.parametrize("lora", [None, LoraTable(rank=2)])
def test_memory_and_precision_settings_train_the_same(
    examples: list[Example], tiny_folder: Callable[..., Path], tmp_path: Path, lora: object
) -> None:
    """Recomputed activations change nothing; bfloat16 changes the losses by its rounding alone."""
    student = StudentTable(folder=str(tiny_folder()))
    plain = TrainTable(
        steps=3, batch_size=4, learning_rate=1e-2, device="cpu", student=student, lora=lora
    )
    wanted = train_lm(examples, plain, seed=0, out=tmp_path / "plain").losses
    frugal = msgspec.structs.replace(plain, gradient_checkpointing=True)
    found = train_lm(examples, frugal, seed=0, out=tmp_path / "frugal").losses
    assert wanted == pytest.approx(found, rel=1e-6)
    half = msgspec.structs.replace(plain, precision="bfloat16")
    found = train_lm(examples, half, seed=0, out=tmp_path / "half").losses
    assert wanted == pytest.approx(found, rel=0.02)
    assert list(wanted) != list(found)
