"""The on-policy method as a whole: what repeats, what it needs, what it writes."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from stillwatch.distill.game.gad import TRACE, train_gad
from stillwatch.distill.game.gad_table import GadTable
from stillwatch.distill.items import Example
from stillwatch.distill.training.train_lm import train_lm
from stillwatch.distill.training.train_table import LoraTable, StudentTable, TrainTable
from stillwatch.errors import InvalidInputError
from stillwatch.model.huggingface import open_folder
from stillwatch.model.protocol import Question
from stillwatch.record.exchange import Message

HOUSE = StudentTable(width=16, layers=1, heads=2, context=32)
GAME = GadTable(warmup=0.5, samples=2, discriminator_steps=2)


@pytest.fixture
def examples(example_of: Callable[..., Example]) -> list[Example]:
    """A rule that a tiny model learns: repeat the digit."""
    return [example_of(("user", f"twice {i % 10}"), answer=f"{i % 10}{i % 10}") for i in range(20)]


def weights(folder: Path) -> bytes:
    """The bytes of the weights."""
    return (folder / "model.safetensors").read_bytes()


class KilledError(Exception):
    """Stands for a process that ends in the middle."""


def test_equal_seeds_give_equal_bytes_and_others_do_not(
    examples: list[Example], tmp_path: Path
) -> None:
    """Student and trace repeat from the seed, whatever the caller's random state is."""
    import torch

    table = TrainTable(steps=6, batch_size=4, student=HOUSE)
    one = train_gad(examples, table, GAME, seed=3, out=tmp_path / "one")
    torch.manual_seed(99)
    state = torch.get_rng_state()
    two = train_gad(examples, table, GAME, seed=3, out=tmp_path / "two")
    other = train_gad(examples, table, GAME, seed=4, out=tmp_path / "other")
    assert weights(one.folder) == weights(two.folder) != weights(other.folder)
    assert (one.folder / TRACE).read_bytes() == (two.folder / TRACE).read_bytes()
    assert np.array_equal(one.losses, two.losses)
    assert torch.equal(state, torch.get_rng_state())


def test_a_whole_warm_up_is_sequence_level_training(
    examples: list[Example], tmp_path: Path
) -> None:
    """With warmup = 1 the student is the very one of sequence-level training."""
    table = TrainTable(steps=4, batch_size=4, student=HOUSE)
    plain = train_lm(examples, table, seed=0, out=tmp_path / "plain")
    found = train_gad(examples, table, GadTable(warmup=1.0), seed=0, out=tmp_path / "found")
    assert weights(plain.folder) == weights(found.folder)
    assert [] == found.trace.told_apart


def test_the_trace_covers_every_adversarial_step(examples: list[Example], tmp_path: Path) -> None:
    """Steps, counts and losses are those of warm-up and game together; the trace is on disk."""
    seen: list[int] = []
    table = TrainTable(steps=7, batch_size=4, accumulate=2, student=HOUSE)
    gad = msgspec.structs.replace(GAME, updates=2, kl=0.1, anchor=0.5, score_at="mean")
    found = train_gad(
        examples, table, gad, seed=0, out=tmp_path / "s", on_step=lambda n, _: seen.append(n)
    )
    assert [1, 2, 3, 4, 5, 6, 7] == seen
    assert (7,) == found.losses.shape
    assert (found.losses > 0).all()
    assert found.n_tokens > found.n_answer_tokens > 0
    on_disk = json.loads((found.folder / TRACE).read_text())
    assert msgspec.to_builtins(found.trace) == on_disk
    assert 2 == len(on_disk.pop("opening"))
    assert {3} == {len(column) for column in on_disk.values()}
    assert 0.0 == pytest.approx(on_disk["kl"][0], abs=1e-6)
    assert np.log(2) == pytest.approx(found.trace.opening[0])


def test_the_game_alone_brings_the_student_to_the_teacher(
    example_of: Callable[..., Example], tmp_path: Path
) -> None:
    """Without ever being shown an answer as a target, the student learns to give it."""
    examples = [example_of(("user", f"say {i}"), answer="7") for i in range(10)]
    table = TrainTable(steps=40, batch_size=16, schedule="constant", student=HOUSE)
    gad = GadTable(warmup=0.0, learning_rate=1e-2, discriminator_rate=1e-2, discriminator_steps=5)
    found = train_gad(examples, table, gad, seed=2, out=tmp_path / "s")
    assert found.losses[-5:].mean() < found.losses[:5].mean() / 2


@pytest.mark.parametrize("kind", ["qwen2", "gpt2", "lora"])
def test_any_causal_folder_can_play(
    examples: list[Example], tiny_folder: Callable[..., Path], tmp_path: Path, kind: str
) -> None:
    """Folders with a chat template, dropout or adapters are trained, moved and answer."""
    source = tiny_folder(kind="gpt2" if kind == "gpt2" else "qwen2")
    table = TrainTable(
        steps=4, batch_size=4, learning_rate=1e-2, device="cpu",
        student=StudentTable(folder=str(source)),
        lora=LoraTable(rank=2, dropout=0.1) if kind == "lora" else None,
    )  # fmt: skip
    found = train_gad(examples, table, GAME, seed=0, out=tmp_path / "s")
    warm = msgspec.structs.replace(GAME, warmup=1.0)
    only = msgspec.structs.replace(table, steps=2)
    before = train_gad(examples, only, warm, seed=0, out=tmp_path / "w")
    assert weights(before.folder) != weights(found.folder)
    assert 2 == len(found.trace.told_apart)
    model = open_folder(found.folder, device="cpu")
    [reply] = asyncio.run(model.answer([Question(messages=(Message("user", "twice 4"),))]))
    assert 1 == len(reply.answers)


@pytest.mark.parametrize(
    ("kind", "fields", "killed_at", "resumed_at"),
    [
        ("house", {}, 2, 0),  # in the warm-up, before its first checkpoint
        ("house", {}, 4, 3),  # in the game: the discriminator's own two steps are kept
        ("house", {}, 7, 5),
        ("house", {"kl": 0.1, "anchor": 0.5}, 7, 5),
        ("house", {"updates": 2}, 7, 5),
        ("house", {"warmup": 0.0, "discriminator_steps": 0}, 5, 4),
        ("lora", {"kl": 0.1}, 7, 5),
    ],
)
def test_a_killed_run_ends_in_the_same_bytes(
    kind: str, fields: dict[str, Any], killed_at: int, resumed_at: int,
    *, examples: list[Example], tiny_folder: Callable[..., Path], tmp_path: Path,
) -> None:  # fmt: skip
    """Killed anywhere, a run goes on from its last checkpoint to the same student and trace."""
    done: list[int] = []

    def stop(step: int, _: float) -> None:
        if step == killed_at:
            raise KilledError

    gad = GadTable(**{"warmup": 0.375, "samples": 2, "discriminator_steps": 2, **fields})
    table = TrainTable(steps=8, batch_size=4, student=HOUSE)
    if kind == "lora":  # with dropout: its random numbers go on too
        table = TrainTable(
            steps=8, batch_size=4, learning_rate=1e-2, device="cpu", gradient_checkpointing=True,
            student=StudentTable(folder=str(tiny_folder())),
            lora=LoraTable(rank=2, dropout=0.3),
        )  # fmt: skip
    whole = train_gad(examples, table, gad, seed=1, out=tmp_path / "whole")
    often = msgspec.structs.replace(table, save_every=2)
    with pytest.raises(KilledError):
        train_gad(examples, often, gad, seed=1, out=tmp_path / "s", on_step=stop)
    resumed = train_gad(
        examples, often, gad, seed=1, out=tmp_path / "s", on_step=lambda step, _: done.append(step)
    )
    assert resumed_at == resumed.resumed_at
    assert list(range(resumed_at + 1, 9)) == done
    assert weights(whole.folder) == weights(resumed.folder)
    assert whole.trace == resumed.trace
    assert whole.losses.tolist() == resumed.losses.tolist()
    assert (whole.n_tokens, whole.n_parameters) == (resumed.n_tokens, resumed.n_parameters)
    assert [] == list(tmp_path.glob(".*checkpoint*"))


def test_a_checkpoint_of_another_game_is_not_continued(
    examples: list[Example], tmp_path: Path
) -> None:
    """Other settings of the game begin anew, and end where they end without a checkpoint."""

    def stop(step: int, _: float) -> None:
        if step == 5:
            raise KilledError

    table = TrainTable(steps=6, batch_size=4, student=HOUSE, save_every=1)
    other = msgspec.structs.replace(GAME, temperature=0.7)
    with pytest.raises(KilledError):
        train_gad(examples, table, GAME, seed=1, out=tmp_path / "s", on_step=stop)
    resumed = train_gad(examples, table, other, seed=1, out=tmp_path / "s")
    whole = train_gad(examples, table, other, seed=1, out=tmp_path / "whole")
    assert 3 == resumed.resumed_at  # the warm-up is the same
    assert weights(whole.folder) == weights(resumed.folder)


def test_what_it_refuses(examples: list[Example], tmp_path: Path) -> None:
    """No examples, another trainer, and settings that mean nothing are errors that say so."""
    table = TrainTable(steps=2, student=HOUSE)
    with pytest.raises(InvalidInputError, match="examples must be at least one"):
        train_gad([], table, GAME, seed=0, out=tmp_path / "s")
    by_trl = msgspec.structs.replace(table, trainer="trl")
    with pytest.raises(InvalidInputError, match="trainer must be own"):
        train_gad(examples, by_trl, GAME, seed=0, out=tmp_path / "s")
    for bad in (
        {"warmup": 1.5}, {"samples": 1}, {"temperature": 0.0}, {"clip": 0.0}, {"updates": 0},
        {"kl": -0.1}, {"discriminator_steps": -2},
    ):  # fmt: skip
        with pytest.raises(InvalidInputError, match=next(iter(bad))):
            GadTable(**bad)
