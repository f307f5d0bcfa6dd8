"""Beside TRL: the same run gives the same student, and our divergence is its divergence."""

import math
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from stillwatch.distill.items import Example
from stillwatch.distill.training.losses import topk_divergence
from stillwatch.distill.training.train_lm import (
    LoraTable,
    StudentTable,
    TopKTable,
    TrainTable,
    train_lm,
)
from stillwatch.errors import InvalidInputError

STUDENT = StudentTable(folder="x")


BETAS = [0.0, 0.1, 0.5, 0.9, 1.0]


class KilledError(Exception):
    """Stands for a process that ends in the middle."""


@pytest.fixture
def examples(example_of: Callable[..., Example]) -> list[Example]:
    """Answers of unequal length."""
    return [example_of(("user", f"count {i}"), answer=str(i) * (1 + i % 4)) for i in range(24)]


def tensors(folder: Path) -> dict[str, np.ndarray]:
    """The weights by name."""
    from safetensors.numpy import load_file

    return load_file(str(folder / "model.safetensors"))


@pytest.mark.parametrize("lora", [None, LoraTable(rank=2)])
def test_both_trainers_give_the_same_student(
    examples: list[Example], tiny_folder: Callable[..., Path], tmp_path: Path,
    lora: LoraTable | None,
) -> None:  # fmt: skip
    """Rows, order, rates and accumulation are the same, so losses and weights agree."""
    pytest.importorskip("trl", reason="trl is not installed")
    table = TrainTable(
        steps=6, batch_size=4, accumulate=2, learning_rate=1e-2, warmup=0.3, device="cpu",
        student=StudentTable(folder=str(tiny_folder())), lora=lora,
    )  # fmt: skip
    steps: list[tuple[int, float]] = []
    own = train_lm(examples, table, seed=2, out=tmp_path / "own")
    by_trl = msgspec.structs.replace(table, trainer="trl")
    trl = train_lm(
        examples, by_trl, seed=2, out=tmp_path / "trl", on_step=lambda *at: steps.append(at)
    )
    assert own.losses == pytest.approx(trl.losses, abs=2e-5)
    assert [*range(1, 7)] == [step for step, _ in steps]
    assert list(trl.losses) == pytest.approx([loss for _, loss in steps])
    left, right = tensors(own.folder), tensors(trl.folder)
    assert left.keys() == right.keys()
    for name, weights in left.items():
        assert weights == pytest.approx(right[name], abs=1e-4)
    for name in ("n_tokens", "n_answer_tokens", "n_pairs", "n_parameters", "template_sha256"):
        assert getattr(own, name) == getattr(trl, name)
    assert ["own", "tiny", "trl"] == sorted(path.name for path in tmp_path.iterdir())


def test_a_killed_run_goes_on(
    examples: list[Example], tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """TRL's own checkpoints are kept beside the student and gone on from."""
    pytest.importorskip("trl", reason="trl is not installed")
    table = TrainTable(
        steps=6, batch_size=4, learning_rate=1e-2, device="cpu", trainer="trl",
        student=StudentTable(folder=str(tiny_folder())),
    )  # fmt: skip
    whole = train_lm(examples, table, seed=0, out=tmp_path / "whole")

    def stop(done: int, _: float) -> None:
        if done == 5:
            raise KilledError

    often = msgspec.structs.replace(table, save_every=2)
    with pytest.raises(KilledError):
        train_lm(examples, often, seed=0, out=tmp_path / "s", on_step=stop)
    resumed = train_lm(examples, often, seed=0, out=tmp_path / "s")
    assert 4 == resumed.resumed_at
    assert whole.losses == pytest.approx(resumed.losses, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student": StudentTable()}, "trainer must be own for a house student"),
        ({"method": "topk"}, "method must be sequence with trainer = 'trl'"),
        ({"prompt_loss": 0.3}, "prompt_loss must be 0 with trainer = 'trl'"),
        ({"optimizer": "muon"}, "optimizer must be adamw with trainer = 'trl'"),
    ],
)
def test_what_trl_does_not_do_is_refused(
    examples: list[Example], tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    """A table that TRL would silently train otherwise is refused."""
    table = msgspec.structs.replace(TrainTable(trainer="trl", student=STUDENT), **changes)
    with pytest.raises(InvalidInputError, match=message):
        train_lm(examples, table, seed=0, out=tmp_path / "s")


def test_processes_share_a_steps_batches(
    examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number of processes that the accumulated batches cannot be dealt to is refused."""
    monkeypatch.setenv("WORLD_SIZE", "4")
    table = TrainTable(trainer="trl", student=STUDENT, accumulate=6)
    with pytest.raises(InvalidInputError, match="accumulate must be a multiple of the 4 processes"):
        train_lm(examples, table, seed=0, out=tmp_path / "s")


def logits(seed: int, *shape: int) -> object:
    """Draw logits, float64."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64) * 3


def close(found: object, wanted: object, of: object) -> bool:
    """Whether values and gradients agree within 1e-6."""
    import torch

    values = torch.allclose(found, wanted, atol=1e-6, rtol=0)
    ours, theirs = (
        torch.autograd.grad(total.sum(), of, retain_graph=True)[0] for total in (found, wanted)
    )
    return values and torch.allclose(ours, theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0])
@pytest.mark.parametrize("beta", BETAS)
def test_whole_vocabularies_as_trl(
    monkeypatch: pytest.MonkeyPatch, beta: float, temperature: float
) -> None:
    """Over all tokens, value and gradient are those of TRL's generalised JSD."""
    import torch

    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    theirs = pytest.importorskip(
        "trl.experimental.gkd.gkd_trainer", reason="trl is not installed", exc_type=ImportError
    ).GKDTrainer.generalized_jsd_loss
    student, teacher = logits(0, 6, 40).requires_grad_(), logits(1, 6, 40)
    wanted = theirs(
        student[None], teacher[None], beta=beta, temperature=temperature, reduction="none"
    )[0].sum(-1)
    table = TopKTable(beta=beta, temperature=temperature, tail=False)
    support = torch.arange(40).expand(6, 40)
    found = topk_divergence(student, support, teacher.log_softmax(-1), table=table)
    assert close(found, wanted, student)


@pytest.mark.parametrize("tail", [True, False])
@pytest.mark.parametrize("beta", BETAS)
def test_a_few_tokens_and_the_tail_as_trl(
    monkeypatch: pytest.MonkeyPatch, beta: float, tail: bool
) -> None:
    """Over the top tokens, rows of unequal number, value and gradient are TRL's."""
    import torch

    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    theirs = pytest.importorskip(
        "trl.experimental.server_distillation.server_distillation_trainer",
        reason="trl is not installed", exc_type=ImportError,
    )  # fmt: skip
    student = logits(0, 6, 40).requires_grad_()
    teacher, support = logits(1, 6, 40).log_softmax(-1).topk(5)
    held = torch.ones(6, 5, dtype=torch.bool)
    held[2, 3:] = False
    infinite = torch.tensor(-math.inf, dtype=torch.float64)
    teacher = torch.where(held, teacher, infinite)
    known = torch.where(held, student.log_softmax(-1).gather(-1, support), infinite)
    if tail:
        left, mask = theirs._add_tail_bucket(known, held)
        right, _ = theirs._add_tail_bucket(teacher, held)
    else:
        left, right, mask = known.log_softmax(-1), teacher.log_softmax(-1), held
    wanted = theirs._jsd_divergence(left, right, beta, mask).sum(-1)
    found = topk_divergence(student, support, teacher, table=TopKTable(beta=beta, tail=tail))
    assert close(found, wanted, student)
