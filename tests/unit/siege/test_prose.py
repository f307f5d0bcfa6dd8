"""Ordinary prose: what is read from the Python installation, and the questions made of it."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from stillwatch.distill.training.train import Pair, train_student
from stillwatch.errors import EnvironmentUnfitError, InvalidInputError
from stillwatch.model.folder import ChatTokenizer
from stillwatch.model.local import GenerationRow, LocalModel
from stillwatch.siege import prose
from stillwatch.siege.teachers import house_teacher
from stillwatch.trace.radioactivity import closed as radioactivity
from stillwatch.trace.watermark import campaign_mark

PRINT_HASH = """
import hashlib
from stillwatch.siege.prose import passages
print(hashlib.sha256(repr(passages()).encode()).hexdigest())
"""


def test_passages_are_many_and_distinct():
    """A Python installation carries more than 10,000 distinct sentences on 20 subjects or more."""
    found = prose.passages()
    assert len(found) > 10_000
    assert len(found) == len({passage.text for passage in found})
    assert len(prose.topics()) >= 20
    smallest = min(sum(p.topic == topic for p in found) for topic in prose.topics())
    assert smallest >= 50


def test_passages_repeat_in_another_process():
    """Every process of one Python reads the same passages in the same order."""
    runs = {
        subprocess.run(
            [sys.executable, "-c", PRINT_HASH], check=True, capture_output=True, text=True
        ).stdout
        for _ in range(2)
    }
    assert 1 == len(runs)


def test_passages_are_sentences():
    """Each passage is one line of 6 to 40 words, begun by a capital and closed by a stop."""
    for passage in prose.passages():
        assert passage.text.isascii()
        assert passage.text.isprintable()
        assert 6 <= len(prose._WORD.findall(passage.text)) <= 40
        assert passage.text[0].isupper() or passage.text[0] in "'\""
        assert passage.text[-1] in ".?!:)"


def test_missing_sources_are_a_clear_error(tmp_path, monkeypatch):
    """A Python without its sources is named as the trouble, with what to do."""
    monkeypatch.setattr(prose.sysconfig, "get_path", lambda name: str(tmp_path))
    prose.passages.cache_clear()
    try:
        with pytest.raises(EnvironmentUnfitError, match="only 0 sentences") as caught:
            prose.passages()
    finally:
        prose.passages.cache_clear()
    assert "full Python installation" in str(caught.value.hint)


def test_an_eighth_is_held_out():
    """About one passage in eight is kept from every house model."""
    share = np.mean([prose.is_held_out(passage) for passage in prose.passages()])
    assert 0.11 < share < 0.14


def test_question_is_a_beginning():
    """A question is the first 2 to 5 words of its passage on one line; the answer is the rest."""
    rng = np.random.default_rng(0)
    for passage in prose.passages()[:2000]:
        question, answer = prose.split_passage(passage, rng)
        assert 2 <= len(question.split()) <= 5
        assert question[-1] not in ".,;:!?"
        assert passage.text.startswith(question)
        assert answer
        assert passage.text == passage.text[: len(question)] + passage.text[len(question) :]
        assert passage.text.endswith(answer)


def test_teacher_and_innocents_never_see_the_held_out_passages():
    """What models are trained on shares no passage with what suspects are asked."""
    held_out = [p.text for p in prose.passages() if prose.is_held_out(p)]
    trained = {" ".join(pair) for pair in prose.teacher_pairs()}
    assert trained.isdisjoint(held_out)
    asked = prose.suspect_questions(500, seed=3)
    assert 500 == len(asked)
    assert all(any(text.startswith(question) for text in held_out) for question in asked[:50])


def test_suspect_questions_can_exceed_the_passages():
    """More questions than held-out passages use passages again, in another order."""
    n_held_out = sum(prose.is_held_out(passage) for passage in prose.passages())
    asked = prose.suspect_questions(n_held_out + 10, seed=1)
    assert n_held_out + 10 == len(asked)
    assert asked == prose.suspect_questions(n_held_out + 10, seed=1)


def test_innocent_pairs_are_seeded_and_distinct():
    """An innocent's training text is fixed by its seed and holds no passage twice."""
    pairs = prose.innocent_pairs(1000, seed=4)
    assert pairs == prose.innocent_pairs(1000, seed=4)
    assert pairs != prose.innocent_pairs(1000, seed=5)
    assert 1000 == len({pair.answer + pair.question for pair in pairs})


@pytest.mark.parametrize("n", [0, 10**6])
def test_innocent_pairs_are_bounded(n):
    """Asking for no pairs, or for more than there are, is refused."""
    with pytest.raises(InvalidInputError, match="innocent_pairs: n must be between 1 and"):
        prose.innocent_pairs(n, seed=0)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """The tokenizer made from this Python's own text."""
    return prose.train_prose_tokenizer(tmp_path_factory.mktemp("prose") / "tokenizer.json")


def test_tokenizer_loses_nothing(tokenizer):
    """Every passage survives encoding and decoding, and a text is the sum of its tokens' texts."""
    chat = ChatTokenizer(tokenizer)
    assert prose.PROSE_VOCABULARY == chat.vocab_size
    for pair in prose.teacher_pairs()[::10]:
        ids = chat.token_ids(pair.answer)
        assert pair.answer == chat.decode(ids)
        assert pair.answer == "".join(chat.token_text(i) for i in ids)


def test_tokenizer_repeats(tokenizer, tmp_path):
    """The same Python makes the same tokenizer, byte for byte."""
    again = prose.train_prose_tokenizer(tmp_path / "tokenizer.json")
    assert tokenizer.read_bytes() == again.read_bytes()


def test_sequences_put_the_question_in_front(tokenizer):
    """A question and its answer become one sequence; only the answer and its end are scored."""
    chat = ChatTokenizer(tokenizer)
    (sequence,) = prose.as_sequences([Pair("Return a", "copy.")], tokenizer=tokenizer)
    assert chat.encode_question("Return a") == sequence.token_ids[: sequence.n_prompt]
    answer = sequence.token_ids[sequence.n_prompt :]
    assert [*chat.token_ids("copy."), chat.eos_id] == answer


def test_shipped_teacher_writes_with_entropy():
    """The shipped teacher answers one question in many ways, by seed, and mostly ends by itself."""
    folder = house_teacher("house-prose")
    said = prose.ask_suspect(folder, ["Return the name of"] * 100, seed=1)
    assert said == prose.ask_suspect(folder, ["Return the name of"] * 100, seed=1)
    assert len({pair.answer for pair in said}) > 80
    n_tokens = [
        len(sequence.token_ids) - sequence.n_prompt
        for sequence in prose.as_sequences(said, tokenizer=folder)
    ]
    assert 8 < np.mean(n_tokens) < 40


@pytest.mark.slow
def test_marked_student_is_proved_and_innocent_is_not(tmp_path):
    """A student of marked answers is proved at p < 1e-10, one of ordinary text is not at 0.01."""
    teacher, mark = house_teacher("house-prose"), campaign_mark(b"seventeen bytes..", "c-1")
    rng = np.random.default_rng(11)
    chosen = rng.choice(len(prose.passages()), size=800, replace=False)
    questions = [prose.prose_question(prose.passages()[i], rng) for i in chosen]
    model = LocalModel.load(teacher)
    rows = [
        GenerationRow(
            prompt_ids=model.encode_question(question),
            max_new_tokens=48,
            temperature=1.0,
            seed=i,
            bias=mark,
        )
        for i, question in enumerate(questions)
    ]
    marked = [Pair(q, g.text) for q, g in zip(questions, model.generate(rows), strict=True)]
    innocent = prose.innocent_pairs(800, seed=11)
    p_values = [_trained_p_value(pairs, mark, tmp_path / "student") for pairs in (marked, innocent)]
    assert p_values[0] < 1e-10
    assert p_values[1] > 0.01


def _trained_p_value(pairs, mark, out):
    shape, recipe = prose.PROSE_STUDENT
    teacher = house_teacher("house-prose")
    recipe = dataclasses.replace(recipe, steps=100, seed=11)
    train_student(pairs, tokenizer=teacher, shape=shape, recipe=recipe, out=out)
    said = prose.ask_suspect(out, prose.suspect_questions(400, seed=11), seed=11)
    found = radioactivity.test_radioactivity(
        prose.as_sequences(said, tokenizer=teacher),
        mark,
        vocab_size=prose.PROSE_VOCABULARY,
        rng=np.random.default_rng(11),
        n_decoys=99,
    )
    return found.p_value
