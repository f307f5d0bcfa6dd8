"""Training: what counts in the loss, what order, and that it repeats."""

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stillwatch.distill.training.batches import Batch, Row, batch_order, pad_rows, row_of
from stillwatch.distill.training.loop import LoopPlan, batch_nats
from stillwatch.distill.training.train import (
    Pair,
    Recipe,
    StudentShape,
    rate_at,
    train_on_text,
    train_student,
)
from stillwatch.errors import InvalidInputError
from stillwatch.model.folder import load_weights, write_character_tokenizer
from stillwatch.model.local import GenerationRow, LocalModel

SHAPE = StudentShape(32, 2, heads=2, context=32)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """One token a character."""
    return write_character_tokenizer("abcd: ", tmp_path / "tokenizer.json")


def letters(n: int) -> list[Pair]:
    """A rule that is learned in a few steps: the letter asked for, and a colon."""
    rng = np.random.default_rng(0)
    return [Pair(f"a: {letter}", f"{letter}:") for letter in rng.choice(list("abcd"), size=n)]


def batches_of(rows: list[Row], *, n: int, seed: int = 0) -> list[Batch]:
    """The first batches of eight rows."""
    lengths = np.array([len(row.token_ids) for row in rows])
    order = itertools.islice(batch_order(lengths, batch_size=8, seed=seed), n)
    return [pad_rows([rows[i] for i in chosen], pad_id=0) for chosen in order]


def test_mask_of_a_batch() -> None:
    """Targets are every token but the first; answer targets run from the answer to its end."""
    batch = pad_rows([row_of([1, 3, 9, 4, 8, 2], 4), row_of([1, 3, 4, 2], 3)], pad_id=0)
    assert [[1, 3, 9, 4, 8, 2], [1, 3, 4, 2, 0, 0]] == batch.token_ids.tolist()
    assert [[0, 1, 1, 1, 1, 1], [0, 1, 1, 1, 0, 0]] == batch.is_token.astype(int).tolist()
    assert [[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 0, 0]] == batch.is_answer.astype(int).tolist()


def test_the_losses_of_a_batch(tokenizer: Path, tmp_path: Path) -> None:
    """The losses of a padded batch are those summed up row by row without padding."""
    import torch

    recipe = Recipe(1)
    folder = train_student(
        letters(8), tokenizer=tokenizer, shape=SHAPE, recipe=recipe, out=tmp_path / "m"
    ).folder
    model = load_weights(folder)
    pairs = [([1, 3, 9, 7, 6, 4, 8, 8, 2], 6), ([1, 3, 4, 7, 2], 3)]
    answers, every = [], []
    for ids, n_prompt in pairs:
        logits = model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
        nats = [-float(logits[i - 1, ids[i]]) for i in range(1, len(ids))]
        every += nats
        answers += nats[n_prompt - 1 :]
    plan = LoopPlan(steps=1, rate=lambda _: 0.0, batch_size=2, pad_id=0, prompt_loss=0.3)
    batch = pad_rows([row_of(*pair) for pair in pairs], pad_id=0)
    found = [float(part) for part in batch_nats(model, batch, plan)]
    assert [np.mean(answers), np.mean(every)] == pytest.approx(found, rel=1e-5)
    alone = replace(plan, prompt_loss=0.0)
    found = [float(part) for part in batch_nats(model, batch, alone)]
    assert [np.mean(answers), 0.0] == pytest.approx(found, rel=1e-5)


def test_every_pair_is_shown_once_an_epoch() -> None:
    """Epochs are permutations, batches are full, and rows of a batch are of like length."""
    rng = np.random.default_rng(0)
    rows = [row_of([1, 3, 4, *[6] * int(rng.integers(1, 40)), 7 + i], 3) for i in range(960)]
    batches = batches_of(rows, n=240)
    assert {8} == {len(batch.token_ids) for batch in batches}
    for epoch in (batches[:120], batches[120:]):
        ends = Counter(int(batch.token_ids.max(axis=1)[i]) for batch in epoch for i in range(8))
        assert {1} == set(ends.values())
        assert 960 == len(ends)
    padding = 1 - sum(b.is_token.sum() + 8 for b in batches) / sum(
        b.token_ids.size for b in batches
    )
    assert padding < 0.08
    [again], [other] = batches_of(rows, n=1), batches_of(rows, n=1, seed=1)
    assert np.array_equal(batches[0].token_ids, again.token_ids)
    assert not np.array_equal(batches[0].token_ids, other.token_ids)


def test_fewer_pairs_than_a_batch_fill_it() -> None:
    """Three pairs are repeated evenly to fill batches of eight."""
    batches = batches_of([row_of([1, 3, 4, 7 + i, 2], 3) for i in range(3)], n=24)
    shown = Counter(int(token) for batch in batches for token in batch.token_ids[:, 3])
    assert {7: 64, 8: 64, 9: 64} == shown


def test_rate_rises_and_falls() -> None:
    """The learning rate peaks once and ends near zero."""
    recipe = Recipe(200, learning_rate=1.0)
    rates = [rate_at(step, recipe) for step in range(200)]
    assert 1.0 == max(rates) == rates[10]
    assert sorted(rates[:10]) == rates[:10]
    assert sorted(rates[10:], reverse=True) == rates[10:]
    assert 0 < rates[-1] < 0.01
    assert 1.0 == rate_at(0, Recipe(1, learning_rate=1.0))


def test_training_repeats_and_learns(tokenizer: Path, tmp_path: Path) -> None:
    """Two runs give the same bytes, another seed gives others, and the rule is learned."""
    import torch

    state = torch.random.get_rng_state()
    seen: list[tuple[int, float]] = []
    runs = [
        train_student(
            letters(64), tokenizer=tokenizer, shape=SHAPE, out=tmp_path / name,
            recipe=Recipe(120, seed=seed), on_step=lambda step, loss: seen.append((step, loss)),
        )
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]  # fmt: skip
    files = [(run.folder / "model.safetensors").read_bytes() for run in runs]
    assert files[0] == files[1] != files[2]
    assert np.array_equal(runs[0].losses, runs[1].losses)
    assert list(zip(range(1, 121), runs[0].losses, strict=True)) == seen[:120]
    assert torch.equal(state, torch.random.get_rng_state())
    model = LocalModel.load(runs[0].folder)
    rows = [GenerationRow(prompt_ids=model.encode_question(f"a: {x}")) for x in "abcd"]
    assert ["a:", "b:", "c:", "d:"] == [found.text for found in model.generate(rows)]
    assert (64, model.n_parameters) == (runs[0].n_pairs, runs[0].n_parameters)


def test_text_is_an_answer_to_nothing(tokenizer: Path, tmp_path: Path) -> None:
    """Plain-text training equals pairs with empty questions."""
    texts = ["abc abc", "abd", "ddd: a"]
    one = train_on_text(
        texts, tokenizer=tokenizer, shape=SHAPE, recipe=Recipe(3), out=tmp_path / "t"
    )
    other = train_student(
        [Pair("", text) for text in texts], tokenizer=one.folder, shape=SHAPE,
        recipe=Recipe(3), out=tmp_path / "p",
    )  # fmt: skip
    assert np.array_equal(one.losses, other.losses)
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (one.folder / name).read_bytes() == (other.folder / name).read_bytes()


@pytest.mark.parametrize(
    ("pairs", "shape", "steps", "message"),
    [
        ([], SHAPE, 1, "pairs must be at least one, got 0"),
        ([Pair("a", "b" * 40)], SHAPE, 1, "pairs must be at most 32 tokens long, got 45"),
        ([Pair("a", "b")], SHAPE, 0, "steps must be at least 1, got 0"),
        ([Pair("a", "b")], StudentShape(30, 2), 1, "width must be a multiple of 8, got 30"),
    ],
)
def test_bad_runs_are_refused(  # the cases are the parameters
    tokenizer: Path, tmp_path: Path, pairs: list[Pair], shape: StudentShape, steps: int,
    message: str,
) -> None:  # fmt: skip
    """A run that cannot work is refused in one sentence and writes nothing."""
    with pytest.raises(InvalidInputError, match=message):
        train_student(
            pairs, tokenizer=tokenizer, shape=shape, recipe=Recipe(steps), out=tmp_path / "m"
        )
    assert not (tmp_path / "m").exists()
