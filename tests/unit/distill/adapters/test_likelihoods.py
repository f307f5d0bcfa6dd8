"""Log-likelihoods of continuations by a model folder's weights."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from stillwatch.model.decode import GenerationRow
from stillwatch.model.huggingface import HuggingFaceModel
from stillwatch.model.local import LocalModel
from stillwatch.model.protocol import Question
from stillwatch.record.exchange import Message

torch = pytest.importorskip("torch")

from stillwatch.distill.adapters.likelihoods import Likelihoods  # noqa: E402 - after the skip
from stillwatch.distill.training.train import StudentShape, new_model  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A house model of random weights."""
    from stillwatch.model.folder import (
        ChatTokenizer,
        GenerationDefaults,
        save_model,
        write_character_tokenizer,
    )

    made = tmp_path_factory.mktemp("likelihoods")
    tokenizer = ChatTokenizer(write_character_tokenizer("abcdef 123", made / "tokenizer.json"))
    model = new_model(tokenizer, StudentShape(width=16, layers=1, heads=2, context=64), 0).eval()
    out = made / "model"
    save_model(model, tokenizer=tokenizer, defaults=GenerationDefaults(max_new_tokens=4), out=out)
    return out


def test_continuations_share_all_probability(folder):
    """Over every possible next token the likelihoods sum to one."""
    scorer = Likelihoods.load(folder, batch_size=3)
    tokenizer = LocalModel.load(folder).tokenizer
    before = tokenizer.encode_question("abc")
    rows = [([*before], [token]) for token in range(tokenizer.vocab_size)]
    scorer._encoder = _Ready(dict(enumerate(rows)))
    found = scorer.score([(str(n), "") for n in range(len(rows))])
    assert pytest.approx(1.0, abs=1e-5) == sum(math.exp(value) for value, _ in found)
    assert 1 == sum(is_greedy for _, is_greedy in found)


class _Ready:
    """Token ids as given."""

    def __init__(self, rows):
        self.rows = rows

    def encode(self, context, continuation):
        return self.rows[int(context)]


def test_two_tokens_are_one_after_the_other(folder):
    """The likelihood of two tokens is that of each in its turn, in any batch and order."""
    scorer = Likelihoods.load(folder, batch_size=7)
    tokenizer = LocalModel.load(folder).tokenizer
    before = tokenizer.encode_question("b c")
    rows = [(before, [token]) for token in range(tokenizer.vocab_size)]
    scorer._encoder = _Ready(dict(enumerate(rows)))
    first = scorer.score([(str(n), "") for n in range(len(rows))])
    likeliest = next(n for n, (_, is_greedy) in enumerate(first) if is_greedy)
    second = {n: ([*before, likeliest], [n]) for n in range(tokenizer.vocab_size)}
    scorer._encoder = _Ready(second)
    then = scorer.score([(str(n), "") for n in second])
    both = {n: (before, [likeliest, n]) for n in second}
    both[-1] = (before, [])
    scorer._encoder = _Ready(both)
    found = scorer.score([(str(n), "") for n in both])
    assert (0.0, True) == found.pop()
    expected = [first[likeliest][0] + value for value, _ in then]
    assert pytest.approx(expected, abs=1e-5) == [value for value, _ in found]
    assert [is_greedy for _, is_greedy in then] == [is_greedy for _, is_greedy in found]


def test_house_models_read_the_last_line(folder):
    """A conversation is its last question's last line, as the model itself reads it."""
    scorer = Likelihoods.load(folder)
    turns = (Message(role="system", content="x"), Message(role="user", content="hm\nabc"))
    bare, talked = scorer.score([("abc", "def"), (turns, " def")])
    assert bare == pytest.approx(talked)


def test_what_is_too_long_loses_its_beginning(folder):
    """A context beyond the model's length is cut at its beginning; nothing breaks."""
    scorer = Likelihoods.load(folder)
    value, _ = scorer.score([("abc " * 500, "def")])[0]
    assert math.isfinite(value)


def test_any_causal_model_reads_by_its_template(tiny_folder: Callable[..., Path]):
    """A conversation is scored after the template's header, a bare text as one piece."""
    folder = tiny_folder()
    scorer = Likelihoods.load(folder, device="cpu", batch_size=2)
    model = HuggingFaceModel.load(folder, device="cpu")
    turns = (Message(role="user", content="hello"),)
    row = GenerationRow(
        prompt_ids=model.encode_question(Question(messages=turns)), max_new_tokens=1
    )
    token = model.generate([row])[0].token_ids[:1]
    others = [model.template.decode([n]) for n in range(5, 25)]
    found = scorer.score([(turns, model.template.decode(token)), *((turns, t) for t in others)])
    assert found[0][0] >= max(value for value, _ in found) - 1e-5
    bare = scorer.score([("count one", " two"), ("", "one")])
    assert all(value < 0 for value, _ in bare)
