"""Batched generation: a row's answer is its own."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stillwatch.distill.training.train import Pair, Recipe, StudentShape, train_student
from stillwatch.errors import InvalidInputError
from stillwatch.model.decode import CLOSE, choose_token
from stillwatch.model.folder import GenerationDefaults, write_character_tokenizer
from stillwatch.model.local import GenerationRow, LocalModel
from stillwatch.model.protocol import Model, Question
from stillwatch.record.exchange import Message

LETTERS = "abcdefgh"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    """A model that has seen a little: it ends answers, and is unsure of every letter."""
    folder = tmp_path_factory.mktemp("model")
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list(LETTERS), size=rng.integers(1, 9))) for _ in range(300)]
    result = train_student(
        [Pair(f"say {word}", word) for word in words],
        tokenizer=write_character_tokenizer("say " + LETTERS, folder / "tokenizer.json"),
        shape=StudentShape(16, 1, heads=2, context=40),
        recipe=Recipe(40, defaults=GenerationDefaults(0.0, 9)),
        out=folder / "m",
    )
    return LocalModel.load(result.folder, name="tiny")


def rows_of(model: LocalModel, n: int, **changes: object) -> list[GenerationRow]:
    """Rows of prompts of many lengths."""
    rng = np.random.default_rng(1)
    words = ["".join(rng.choice(list(LETTERS), size=rng.integers(1, 12))) for _ in range(n)]
    row = GenerationRow(prompt_ids=(), max_new_tokens=12)
    return [
        replace(row, prompt_ids=model.encode_question(f"say {word}"), seed=i, **changes)
        for i, word in enumerate(words)
    ]


def forward(model: LocalModel, ids: Sequence[int]) -> np.ndarray:
    """The model's logits after `ids`, by the plainest route: one row, no cache."""
    import torch

    with torch.inference_mode():
        return model._model(input_ids=torch.tensor([list(ids)])).logits[0, -1].numpy()


def test_greedy_is_the_likeliest_token_each_time(model: LocalModel) -> None:
    """Batching, padding and caching give what one row alone without a cache gives."""
    for found in model.generate(rows_of(model, 40)):
        ids = list(found.prompt_ids)
        for token in found.token_ids:
            logits = forward(model, ids)
            logits[[0, 1, 3, 4, 5]] = -np.inf
            assert logits.argmax() == token
            ids.append(token)
        ended = forward(model, ids)[2] == np.delete(forward(model, ids), [0, 1, 3, 4, 5]).max()
        assert ("stop" if ended else "length") == found.finish_reason or len(found.token_ids) == 12


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_does_not_see_its_neighbours(model: LocalModel, temperature: float) -> None:
    """Alone, in any order, or among 200 rows, a row's answer is the same."""
    rows = rows_of(model, 200, temperature=temperature)
    together = [found.token_ids for found in model.generate(rows)]
    backwards = [found.token_ids for found in model.generate(rows[::-1])][::-1]
    alone = [model.generate([row])[0].token_ids for row in rows[:30]]
    assert together == backwards
    assert together[:30] == alone


def test_log_probabilities_come_with_an_answer(model: LocalModel) -> None:
    """They are in the Chat Completions shape, by the bytes of the tokens, the end included."""
    asked = Question(
        messages=(Message("user", "say ab"),), parameters={"logprobs": True, "top_logprobs": 2}
    )
    [reply] = asyncio.run(model.answer([asked]))
    content = json.loads(reply.answers[0].extra or "")["logprobs"]["content"]
    said = b"".join(bytes(token["bytes"]) for token in content).decode()
    assert reply.answers[0].text + "<eos>" == said
    assert 1 + (reply.output_tokens or 0) == len(content)
    likeliest = [token["top_logprobs"][0]["logprob"] for token in content]
    assert [token["logprob"] for token in content] == pytest.approx(likeliest)


def test_the_seed_decides_the_draws(model: LocalModel) -> None:
    """One seed gives one answer; many seeds give many."""
    row = rows_of(model, 1, temperature=1.0)[0]
    same = model.generate([replace(row, seed=7)] * 20)
    other = model.generate([replace(row, seed=i) for i in range(20)])
    assert 1 == len({found.token_ids for found in same})
    assert len({found.token_ids for found in other}) > 10


def test_draws_follow_the_model(model: LocalModel) -> None:
    """At temperature 1 the first token is drawn with the model's own probabilities."""
    row = rows_of(model, 1, temperature=1.0, max_new_tokens=1)[0]
    n = 3000
    found = model.generate([replace(row, seed=i) for i in range(n)])
    counts = np.bincount(
        [f.token_ids[0] if f.token_ids else 2 for f in found], minlength=model.vocab_size
    )
    logits = forward(model, row.prompt_ids).astype(float)
    logits[[0, 1, 3, 4, 5]] = -np.inf
    expected = n * np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    chi2 = ((counts - expected) ** 2)[expected > 0] / expected[expected > 0]
    # 99.9th percentile of chi-squared with the vocabulary's degrees of freedom is below 3 a degree.
    assert chi2.sum() < 3 * (expected > 0).sum()


def test_top_p_keeps_the_likeliest() -> None:
    """Nucleus sampling draws from the smallest set that holds the share."""
    logits = np.log(np.array([0.1, 0.5, 0.15, 0.25], dtype=np.float32))
    noise = np.random.default_rng(0).gumbel(size=(500, 4))
    row = GenerationRow(prompt_ids=(), temperature=1.0)
    for top_p, expected in ((0.7, {1, 3}), (0.01, {1}), (1.0, {0, 1, 2, 3})):
        narrowed = replace(row, top_p=top_p)
        assert expected == {choose_token(logits, narrowed, n).token_id for n in noise}


def test_draws_follow_the_shares() -> None:
    """Tokens come up as often as the model says."""
    logits = np.log(np.array([0.2, 0.5, 0.3], dtype=np.float32))
    noise = np.random.default_rng(0).gumbel(size=(10_000, 3))
    row = GenerationRow(prompt_ids=(), temperature=1.0)
    found = [choose_token(logits, row, n).token_id for n in noise]
    np.testing.assert_allclose(np.bincount(found) / 1e4, [0.2, 0.5, 0.3], atol=0.015)


def test_a_close_call_is_known() -> None:
    """Two candidates within float noise, or one on the edge of the nucleus, are a close call."""
    row, quiet = GenerationRow(prompt_ids=(), temperature=1.0), np.zeros(3)
    near = np.array([1.0, 1.0 + CLOSE / 2, 0.0], dtype=np.float32)
    far = np.array([1.0, 1.0 + CLOSE * 2, 0.0], dtype=np.float32)
    assert choose_token(near, row, quiet).is_close
    assert choose_token(near, replace(row, temperature=0.0), None).is_close
    assert not choose_token(far, row, quiet).is_close
    shares = np.log(np.array([0.6, 0.3, 0.1], dtype=np.float32))
    noise = np.array([0.0, 5.0, 0.0])
    for top_p, expected in ((0.59, (0, False)), (0.61, (1, False)), (0.6 + CLOSE / 2, (1, True))):
        assert expected == choose_token(shares, replace(row, top_p=top_p), noise)
    assert (0, True) == choose_token(shares, replace(row, top_p=0.6 - CLOSE / 2), noise)


def test_sampled_answers_do_not_depend_on_the_batch(model: LocalModel) -> None:
    """A sampled answer is the same alone, in any order, and in batches of any size."""
    rows = rows_of(model, 60, temperature=1.5)
    whole = [found.token_ids for found in model.generate(rows)]
    order = np.random.default_rng(2).permutation(len(rows))
    for size in (1, 7, 25):
        for start in range(0, len(rows), size):
            chosen = order[start : start + size]
            found = model.generate([rows[i] for i in chosen])
            assert [whole[i] for i in chosen] == [f.token_ids for f in found]


def test_each_row_has_its_own_length(model: LocalModel) -> None:
    """An answer is cut at its row's limit and at the model's context, never a row's neighbour's."""
    rows = [replace(row, max_new_tokens=1 + i % 3) for i, row in enumerate(rows_of(model, 12))]
    for row, found in zip(rows, model.generate(rows), strict=True):
        assert len(found.token_ids) <= row.max_new_tokens
        if found.finish_reason == "length":
            assert len(found.token_ids) == row.max_new_tokens
    long = GenerationRow(prompt_ids=[1, 3, *[10] * 33, 4], max_new_tokens=50)
    assert len(model.generate([long])[0].token_ids) <= 40 - 36


class Nudge:
    """Forces the letter after the one before it, and notes what it was asked."""

    def __init__(self, context_width: int) -> None:
        self.context_width = context_width
        self.asked: list[np.ndarray] = []

    def bias(self, context_ids: np.ndarray, vocab_size: int) -> np.ndarray:
        """Add 100 to one letter."""
        self.asked.append(context_ids.copy())
        shift = np.zeros((len(context_ids), vocab_size), dtype=np.float32)
        shift[np.arange(len(context_ids)), 8 + context_ids[:, -1] % 4] = 100.0
        return shift


def test_a_bias_acts_on_its_own_rows(model: LocalModel) -> None:
    """A bias sees the tokens before, moves its rows, and leaves the others as they were."""
    plain = rows_of(model, 6)
    nudge = Nudge(context_width=2)
    mixed = [replace(row, bias=nudge if i % 2 else None) for i, row in enumerate(plain)]
    before, after = model.generate(plain), model.generate(mixed)
    for i, found in enumerate(after):
        if i % 2 == 0:
            assert before[i].token_ids == found.token_ids
            continue
        chain = [*found.prompt_ids, *found.token_ids]
        start = len(found.prompt_ids)
        assert [8 + chain[j - 1] % 4 for j in range(start, len(chain))] == list(found.token_ids)
        assert "length" == found.finish_reason
    assert all(asked.shape == (3, 2) for asked in nudge.asked)
    assert {4} == set(nudge.asked[0][:, 1].tolist())


def test_special_tokens_are_never_said(model: LocalModel) -> None:
    """At the highest temperature no answer holds a special token."""
    found = model.generate(rows_of(model, 60, temperature=2.0))
    assert min(min(f.token_ids, default=9) for f in found) >= 6


def test_log_probabilities(model: LocalModel) -> None:
    """They are the model's own: before temperature, before any bias, likeliest first."""
    rows = rows_of(model, 3, n_top=4, temperature=1.3, bias=Nudge(1))
    for found in model.generate(rows):
        assert found.choices is not None
        ids = list(found.prompt_ids)
        for choice, token in zip(found.choices, found.token_ids, strict=True):
            logits = forward(model, ids).astype(float)
            logits[[0, 1, 3, 4, 5]] = -np.inf
            expected = logits - np.log(np.exp(logits).sum())
            assert token == choice.token_id
            assert expected[token] == pytest.approx(choice.logprob, abs=1e-4)
            assert [i for i, _ in choice.top] == np.argsort(-expected)[:4].tolist()
            ids.append(token)
    assert model.generate(rows_of(model, 1))[0].choices is None


def test_no_rows(model: LocalModel) -> None:
    """Nothing asked, nothing answered."""
    assert [] == model.generate([])


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("prompt", {"prompt_ids": ()}),
        ("prompt", {"prompt_ids": (7,) * 40}),
        ("max_new_tokens", {"max_new_tokens": 0}),
        ("temperature", {"temperature": 2.5}),
        ("temperature", {"temperature": -0.1}),
        ("top_p", {"top_p": 0.0}),
    ],
)
def test_bad_rows_are_refused(model: LocalModel, name: str, changes: dict[str, object]) -> None:
    """A value that breaks a rule is named, before anything is computed."""
    row = replace(rows_of(model, 1)[0], **changes)
    with pytest.raises(InvalidInputError, match=f"{name} must be"):
        model.generate([row])


async def test_it_is_a_model(model: LocalModel) -> None:
    """Behind the protocol: the last user turn's last line is answered, tokens are counted."""
    assert isinstance(model, Model)
    plain = Question(messages=(Message("user", "say abc"),))
    wrapped = Question(
        messages=(
            Message("system", "be kind"), Message("user", "x"), Message("assistant", "y"),
            Message("user", "good morning\nsay abc\n"),
        ),
        parameters={"temperature": 0, "max_tokens": 5},
    )  # fmt: skip
    first, second = await model.answer([plain, wrapped])
    assert first.answers[0].text[:5] == second.answers[0].text
    assert ("tiny", len("say abc") + 3) == (first.model_returned, first.input_tokens)
    assert len(second.answers[0].text) == second.output_tokens


def test_what_reports_print(model: LocalModel) -> None:
    """Name, size, vocabulary and context are those of the folder."""
    assert ("tiny", 40) == (model.name, model.context)
    assert len(set("say " + LETTERS)) + 6 == model.vocab_size
    assert sum(p.numel() for p in model._model.parameters()) == model.n_parameters
    assert Path("m") == Path(LocalModel.load(model.tokenizer.file.parent).name)
