"""Questions are written after seeds, nothing is bought twice, and a killed run goes on."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from stillwatch.distill.items import Item, item_id_of
from stillwatch.distill.money.budget import BudgetTable, Ledger
from stillwatch.distill.questions.contamination import HeldOut
from stillwatch.distill.questions.generate import GenerateTask, Written, write_questions
from stillwatch.distill.questions.table import ContaminationTable, GenerateTable
from stillwatch.distill.questions.written import written_questions
from stillwatch.errors import BudgetReachedError, InvalidInputError, ModelError, StillwatchError
from stillwatch.model.fake import FakeModel
from stillwatch.model.protocol import Question, Reply
from stillwatch.record.exchange import Answer, Message


def _item(text: str, topic: str = "all") -> Item:
    messages = (Message("user", text),)
    return Item(item_id=item_id_of(messages), messages=messages, capability=topic)


SEEDS = [
    _item(f"Seed number {n}: how does thing {n * 31} work in place {n * 17}?", topic)
    for n in range(8)
    for topic in ("math", "law")
]


def _fresh(question: Question, *, n: int = 4) -> str:
    """Write questions that depend on the request alone, as a model at a fixed seed does."""
    text = question.messages[-1].content + str(question.parameters["seed"])
    rng = np.random.Generator(np.random.PCG64(list(text.encode())))
    words = rng.choice([f"w{n}" for n in range(900)], (n, 9))
    return "\n".join(f"<question>What about {' '.join(row)}?</question>" for row in words)


def _write(base: Path, model: FakeModel | None, **more: Any) -> Written:
    ledger = more.pop("ledger", None)
    held_out = more.pop("held_out", ())
    seeds = more.pop("pool", SEEDS)
    settings = {"count": 20, "each": 4, "at_once": 2, "topics": ("math", "law"), **more}
    table = msgspec.convert(settings, GenerateTable, strict=False)
    task = GenerateTask(table, base, 0, HeldOut(held_out, ContaminationTable()))
    return write_questions(task, pool=seeds, model=model, ledger=ledger)


def test_topics_are_filled_evenly_and_seeds_are_shown(tmp_path: Path) -> None:
    """Each topic gets its share, and is shown seeds of its own and what was written for it."""
    model = FakeModel(_fresh)
    found = _write(tmp_path, model)
    assert 20 == len(found.items)
    topics = [item.capability for item in found.items]
    assert abs(topics.count("math") - topics.count("law")) <= 4
    shown = model.questions[-1].messages[0].content
    assert "Write 4 new questions" in shown
    assert 8 == shown.count("</question>") - 1  # the request names the tag once
    topic = "math" if "about: math" in shown else "law"
    own = [item.question for item in SEEDS if item.capability == topic]
    assert 6 == sum(text in shown for text in own)
    assert 2 == sum(item.question in shown for item in found.items if item.capability == topic)


def test_what_rests_is_not_bought_again(tmp_path: Path) -> None:
    """A second call needs no model; a larger count buys only what is missing."""
    first = _write(tmp_path, FakeModel(_fresh))
    assert first.items == _write(tmp_path, None).items
    model = FakeModel(_fresh)
    more = _write(tmp_path, model, count=24)
    assert first.items == more.items[:20]
    assert 1 == len(model.questions)


@pytest.mark.parametrize("n_rounds", [1, 2])
def test_a_killed_run_ends_like_one_that_was_not(tmp_path: Path, n_rounds: int) -> None:
    """The file is the same, byte for byte, even when the kill tore its last line."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "torn").mkdir()
    _write(tmp_path / "whole", FakeModel(_fresh))
    whole = (tmp_path / "whole/generated.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    kept = b"".join(lines[: n_rounds + 1]) + lines[n_rounds + 1][:40]
    (tmp_path / "torn/generated.jsonl").write_bytes(kept)
    _write(tmp_path / "torn", FakeModel(_fresh))
    assert whole == (tmp_path / "torn/generated.jsonl").read_bytes()


def test_a_failure_keeps_the_rounds_before_it(tmp_path: Path) -> None:
    """A model that fails costs the round it fails in, and nothing else."""
    calls = iter(range(100))

    def failing(question: Question) -> str | StillwatchError:
        return _fresh(question) if next(calls) < 4 else ModelError("the endpoint is gone")

    with pytest.raises(ModelError, match="gone"):
        _write(tmp_path, FakeModel(failing))
    model = FakeModel(_fresh)
    assert 20 == len(_write(tmp_path, model).items)
    assert 1 == len(model.questions)


def test_all_rounds_share_one_event_loop(tmp_path: Path) -> None:
    """A client's connections belong to a loop: the second round must not come in another."""
    loops = []

    def answer(question: Question) -> str:
        loops.append(asyncio.get_running_loop())
        return _fresh(question)

    _write(tmp_path, FakeModel(answer))
    assert len(loops) > 2
    assert 1 == len(set(loops))


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    """Refusals, lengths, avoided words, the score set, and what is like a seed or another."""
    texts = [
        "I'm sorry, but I can't write that one for you.",
        "Why?",
        "word " * 30,
        "Draw me an image of a fish in a bowl.",
        "When does the train from Rome to Milan arrive at the station, roughly speaking, today?",
        SEEDS[0].question.upper(),
        "What is the best way to learn to swim fast?",
        "What is the best way to learn to swim fast??",
    ]
    reply = "".join(f"<question>{text}</question>" for text in texts)
    held_out = [_item(texts[4])]
    found = _write(
        tmp_path, FakeModel.scripted([reply, "I cannot help with that.", "Fine!", *[reply] * 9]),
        held_out=held_out, count=3, at_once=1, patience=3, most_words=25, avoid=("image",),
        topics=("math",), near_duplicates=0.9,
    )  # fmt: skip
    assert [texts[6]] == [item.question for item in found.items]
    expected = {
        "avoided word": 2, "contaminated": 2, "near-duplicate": 5, "not found": 2, "refusal": 2,
        "refused reply": 1, "reply without questions": 1, "too long": 2, "too short": 2,
    }  # fmt: skip
    assert expected == found.counts


def test_the_score_set_is_never_shown(tmp_path: Path) -> None:
    """A seed that the score set holds teaches the writer nothing."""
    model = FakeModel(_fresh)
    _write(tmp_path, model, held_out=SEEDS[:3])
    for question in model.questions:
        assert not any(item.question in question.messages[0].content for item in SEEDS[:3])
    with pytest.raises(InvalidInputError, match="seeds must hold at least one question"):
        _write(tmp_path, model, held_out=SEEDS, path="other.jsonl")


def test_a_budget_stops_it_and_holds_across_restarts(tmp_path: Path) -> None:
    """What was bought is kept, and is charged again to the next process's ledger."""
    ledger = Ledger(BudgetTable(questions=3))
    with pytest.raises(BudgetReachedError):
        _write(tmp_path, FakeModel(_fresh), ledger=ledger)
    assert 2 == ledger.spent.questions
    again = Ledger(BudgetTable(questions=3))
    with pytest.raises(BudgetReachedError):
        _write(tmp_path, FakeModel(_fresh), ledger=again)
    assert ledger.spent == again.spent
    enough = Ledger(BudgetTable(questions=9))
    assert 20 == len(_write(tmp_path, FakeModel(_fresh), ledger=enough).items)


def test_other_settings_do_not_use_its_questions(tmp_path: Path) -> None:
    """A file made with other seeds is refused with what to do."""
    _write(tmp_path, FakeModel(_fresh))
    with pytest.raises(InvalidInputError, match="made with other settings") as caught:
        _write(tmp_path, FakeModel(_fresh), pool=SEEDS[:5])
    assert "set another `path`" in (caught.value.hint or "")


def test_without_a_model_it_says_what_is_missing(tmp_path: Path) -> None:
    """No model and too few questions is an error that counts them."""
    with pytest.raises(StillwatchError, match="generate needs a model") as caught:
        _write(tmp_path, None)
    assert "generated.jsonl holds 0 of 20" == caught.value.hint


async def test_it_works_inside_a_running_loop(tmp_path: Path) -> None:
    """A caller that is itself asynchronous gets the same questions."""
    assert 20 == len(_write(tmp_path, FakeModel(_fresh)).items)
    await asyncio.sleep(0)


def test_words_of_ones_own(tmp_path: Path) -> None:
    """Own instructions are filled in, and no request is like another."""
    model = FakeModel(_fresh)
    _write(
        tmp_path, model, instructions="{count} on {topic}:\n{examples}",
        topic_words={"math": "numbers"}, pool=SEEDS[:1],
    )  # fmt: skip
    assert any(q.messages[0].content.startswith("4 on numbers:\n<q") for q in model.questions)
    seeds = [question.parameters["seed"] for question in model.questions]
    assert list(range(len(seeds))) == seeds


def test_a_cut_reply_loses_its_last_question(tmp_path: Path) -> None:
    """Half a question is no question."""
    text = "1. What is a noun in grammar?\n2. What is a verb in grammar?\n3. What is an ad"
    reply = Reply(answers=(Answer(text=text, finish_reason="length"),))
    found = _write(tmp_path, FakeModel(lambda _: reply), patience=1, near_duplicates=1.0)
    assert [f"What is a {word} in grammar?" for word in ("noun", "verb")] == [
        item.question for item in found.items
    ]


@pytest.mark.parametrize(
    "text",
    [
        "<question>What is A?</question>\n<question> Name B. </question>",
        json.dumps(["What is A?", "Name B."]),
        "```json\n" + json.dumps({"questions": [{"question": "What is A?"}, "Name B."]}) + "\n```",
        "Here you are:\n\n1. What is A?\n2. Name B.\n\nTell me if you need more!",
        "1) **What is A?**\n2) Name B.",
        "- What is A?\n- \"Name B.\"",
        "### Question 1: What is A?\n### Question 2: Name B.",
    ],
)  # fmt: skip
def test_lists_of_every_kind_are_read(text: str) -> None:
    """Tags, JSON, numbers and bullets give the same questions."""
    assert ["What is A?", "Name B."] == written_questions(text)


def test_questions_of_several_lines_stay_whole() -> None:
    """What stands between two tags or numbers is one question."""
    text = "1. Sort this:\n   b, a\n2. Name B."
    assert ["Sort this:\n   b, a", "Name B."] == written_questions(text)
    assert ["Sort:\n1. b\n2. a"] == written_questions("<question>Sort:\n1. b\n2. a</question>")
    assert [] == written_questions("I have thought about it.")
