"""Any causal language model's folder: its answers, seeds, log-probabilities and kinds."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stillwatch.errors import InvalidInputError, RecordError
from stillwatch.model.decode import GenerationRow
from stillwatch.model.folder import write_character_tokenizer
from stillwatch.model.huggingface import HuggingFaceModel, is_house_folder, open_folder
from stillwatch.model.local import LocalModel
from stillwatch.model.protocol import Model, Question
from stillwatch.record.exchange import Message


@pytest.fixture
def model(tiny_folder: Callable[..., Path]) -> HuggingFaceModel:
    """A tiny model with grouped attention."""
    return HuggingFaceModel.load(tiny_folder(), device="cpu")


def question(text: str, **parameters: object) -> Question:
    """A question of one user turn."""
    return Question(messages=(Message("user", text),), parameters=parameters)


def ask(model: Model, *questions: Question) -> list[str]:
    """The texts of the first choices."""
    return [reply.answers[0].text for reply in asyncio.run(model.answer(questions))]


def next_logits(model: HuggingFaceModel, ids: list[int]) -> np.ndarray:
    """The logits after `ids`, by the plainest route: one row, no cache."""
    import torch

    with torch.inference_mode():
        return model._model(input_ids=torch.tensor([ids])).logits[0, -1].numpy()


@pytest.mark.parametrize("kind", ["qwen2", "gpt2", "gemma2"])
def test_greedy_is_the_likeliest_token_each_time(
    tiny_folder: Callable[..., Path], kind: str
) -> None:
    """Batched, padded and cached answers of several architectures are those of one plain row."""
    model = HuggingFaceModel.load(tiny_folder(kind=kind), device="cpu")
    rows = [
        GenerationRow(prompt_ids=model.encode_question(question("hello " * n)), max_new_tokens=m)
        for n, m in ((1, 4), (5, 2), (2, 6))
    ]
    for row, found in zip(rows, model.generate(rows), strict=True):
        ids = list(row.prompt_ids)
        for token in found.token_ids:
            assert next_logits(model, ids).argmax() == token
            ids.append(token)
        ended = next_logits(model, ids).argmax() in model.template.eos_ids
        assert ("stop" if ended else "length") == found.finish_reason
        assert found.finish_reason == "stop" or len(found.token_ids) == row.max_new_tokens


def test_a_row_does_not_see_its_neighbours(model: HuggingFaceModel) -> None:
    """Sampled answers are the same alone, in any order and beside longer ones."""
    asked = [
        question("count " * (i % 4 + 1), temperature=1.0, top_p=0.9, seed=i, max_tokens=3 + i % 3)
        for i in range(12)
    ]
    together = ask(model, *asked)
    assert together == ask(model, *asked[::-1])[::-1]
    assert together == [ask(model, one)[0] for one in asked]
    assert len(set(together)) > 6


def test_draws_follow_the_model(model: HuggingFaceModel) -> None:
    """First tokens of many seeds have the softened, cut distribution that was asked for."""
    prompt = model.encode_question(question("hello"))
    scores = next_logits(model, prompt).astype(float) / 0.5
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    order = np.argsort(-shares, kind="stable")
    inside = order[np.cumsum(shares[order]) - shares[order] < 0.3]
    wanted = np.zeros_like(shares)
    wanted[inside] = shares[inside] / shares[inside].sum()
    row = {"prompt_ids": prompt, "max_new_tokens": 1, "temperature": 0.5, "top_p": 0.3}
    found = model.generate([GenerationRow(**row, seed=seed) for seed in range(600)])
    tokens = [f.token_ids[0] if f.token_ids else model.template.eos_ids[0] for f in found]
    assert set(tokens) <= set(inside.tolist())
    counts = np.bincount(tokens, minlength=len(wanted))
    deviation = (counts - 600 * wanted)[inside] / np.sqrt(600 * wanted[inside])
    assert abs(deviation).max() < 5


def test_log_probabilities_are_the_models_own(model: HuggingFaceModel) -> None:
    """They come in the Chat Completions shape, at temperature 1 whatever was sampled at."""
    asked = question("hello", logprobs=True, top_logprobs=3, temperature=2.0, seed=4, max_tokens=3)
    [reply] = asyncio.run(model.answer([asked]))
    content = json.loads(reply.answers[0].extra or "")["logprobs"]["content"]
    ids = model.encode_question(asked)
    words = {tuple(entry["bytes"]) for entry in content[0]["top_logprobs"]}
    logits = next_logits(model, ids).astype(float)
    logprobs = logits - np.logaddexp.reduce(logits)
    likeliest = [entry["logprob"] for entry in content[0]["top_logprobs"]]
    assert np.sort(logprobs)[::-1][:3] == pytest.approx(likeliest, abs=1e-5)
    assert 3 == len(words)
    said = b"".join(bytes(entry["bytes"]) for entry in content)
    assert reply.answers[0].text == said.decode("utf-8", "replace")
    assert reply.output_tokens in {len(content), len(content) + 1}
    assert len(ids) == reply.input_tokens


def test_choices_and_stops(model: HuggingFaceModel) -> None:
    """Several choices differ, the first is the one that is given alone, and a stop text cuts."""
    many = question("hello", temperature=1.0, seed=7, n=3, max_tokens=8)
    one = question("hello", temperature=1.0, seed=7, max_tokens=8)
    [reply] = asyncio.run(model.answer([many]))
    texts = [answer.text for answer in reply.answers]
    assert 3 == len(set(texts))
    assert ask(model, one) == texts[:1]
    cut = question("hello", temperature=1.0, seed=7, max_tokens=8, stop=texts[0][2])
    [reply] = asyncio.run(model.answer([cut]))
    assert (texts[0].split(texts[0][2])[0], "stop") == (
        reply.answers[0].text, reply.answers[0].finish_reason,
    )  # fmt: skip


def test_folders_of_both_kinds(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    """A house folder is opened by the house's format, any other by its template."""
    write_character_tokenizer("ab", tmp_path / "tokenizer.json")
    assert is_house_folder(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    assert not is_house_folder(tmp_path)
    folder = tiny_folder("other")
    found = open_folder(folder, name="given", device="cpu")
    assert ("given", False) == (found.name, isinstance(found, LocalModel))
    assert isinstance(found, Model)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"temperature": 3}, "temperature must be between 0 and 2, got 3.0"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1, got 0.0"),
        ({"n": -1}, "n must be at least 1, got -1"),
    ],
)
def test_bad_questions_are_refused(
    model: HuggingFaceModel, parameters: dict[str, object], message: str
) -> None:
    """A parameter that cannot be is refused in one sentence."""
    with pytest.raises(InvalidInputError, match=message):
        ask(model, question("hello", **parameters))


def test_too_long_a_question_is_refused(model: HuggingFaceModel) -> None:
    """A prompt that leaves no room for an answer is refused, not cut."""
    with pytest.raises(InvalidInputError, match="prompt must be 1 to 127 tokens long"):
        ask(model, question("hello " * 400))


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    """What is not a model folder is named with what it lacks."""
    with pytest.raises(RecordError, match="is not a causal language model") as caught:
        HuggingFaceModel.load(tmp_path, device="cpu")
    assert "config.json" in str(caught.value.hint)
