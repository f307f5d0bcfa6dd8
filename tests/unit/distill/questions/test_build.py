"""From the table to the items: everything is counted once, and the order repeats."""

import asyncio
import json
import tomllib
from pathlib import Path

import msgspec
import pytest

from stillwatch.distill.items import Item, item_id_of, read_items, write_items
from stillwatch.distill.questions import (
    FileTable,
    QuestionSet,
    QuestionsTable,
    build_questions,
    file_items,
)
from stillwatch.errors import InvalidInputError
from stillwatch.model.fake import FakeModel
from stillwatch.record.exchange import Answer, Exchange, Message
from stillwatch.record.journal import Journal
from stillwatch.record.store import write_store

TOML = """
order = "stratified"
samples = 2
near_duplicates = 0.8
files = ["a.jsonl", {path = "b.csv", columns = {question = "ask", capability = "kind"}}]
[[templates]]
text = "Write {n} in Roman numerals."
slots = {n = {range = [1, 50]}}
capability = "roman"
count = 10
[contamination]
ngram = 13
"""


def _table(text: str) -> QuestionsTable:
    return msgspec.convert(tomllib.loads(text), QuestionsTable)


def _item(text: str) -> Item:
    messages = (Message("user", text),)
    return Item(item_id=item_id_of(messages), messages=messages)


def _folder(base: Path) -> Path:
    rows = ["What is a cat?", "What is a dog?", "what is a dog", "What is a cat?", "Name a prime."]
    (base / "a.jsonl").write_text("".join(json.dumps({"question": r}) + "\n" for r in rows))
    (base / "b.csv").write_text("ask,kind\nWho was Numa?,rome\nWrite 99 in Roman numerals.,rome\n")
    return base


def _ids(found: QuestionSet) -> list[str]:
    return [item.item_id for item in found.items]


def test_every_question_is_in_one_place(tmp_path: Path) -> None:
    """Read = repeated + alike + seen + asked, and samples multiply what is asked."""
    held_out = [_item("name a prime"), _item("Something else entirely?")]
    found = build_questions(_table(TOML), base=_folder(tmp_path), seed=0, held_out=held_out)
    counts = found.counts
    assert {"a.jsonl": 5, "b.csv": 2, "template 1": 10} == counts.sources
    assert (17, 1, 1, {"normalised": 1}, 2) == (
        counts.questions, counts.duplicates, counts.near_duplicates, counts.contaminated,
        counts.held_out,
    )  # fmt: skip
    left_out = counts.duplicates + counts.near_duplicates + sum(counts.contaminated.values())
    assert counts.questions == left_out + counts.pool
    assert 2 * counts.pool == counts.items == len(found.items)
    assert {"all": 4, "rome": 4, "roman": 20} == counts.capabilities
    assert "normalised" in msgspec.json.encode(counts).decode()


def test_items_are_items(tmp_path: Path) -> None:
    """Ids are hashes of what is asked, samples differ by it, and the file reads back."""
    found = build_questions(_table(TOML), base=_folder(tmp_path), seed=0)
    items = list(found.items)
    assert len(items) == len({item.item_id for item in items})
    for item in items:
        assert item_id_of(item.messages, item.tools, sample=item.sample) == item.item_id
    assert [0, 1] * (len(items) // 2) == [item.sample for item in items]
    write_items(tmp_path / "questions.jsonl", found.items)
    assert items == list(read_items(tmp_path / "questions.jsonl"))
    assert items[3:5] == list(found.items[3:5])
    assert items[-1] == found.items[-1]


def test_the_same_run_gives_the_same_order(tmp_path: Path) -> None:
    """The seed decides the order and the draw, a limit cuts the end off."""
    base = _folder(tmp_path)
    whole = _ids(build_questions(_table(TOML), base=base, seed=0))
    assert whole == _ids(build_questions(_table(TOML), base=base, seed=0))
    assert whole != _ids(build_questions(_table(TOML), base=base, seed=1))
    assert whole[:7] == _ids(build_questions(_table("limit = 7\n" + TOML), base=base, seed=0))


def test_its_own_questions_can_be_read_again(tmp_path: Path) -> None:
    """questions.jsonl is a source like others; several samples of one are one question."""
    found = build_questions(_table(TOML), base=_folder(tmp_path), seed=0)
    write_items(tmp_path / "questions.jsonl", found.items)
    again = build_questions(_table('files = ["questions.jsonl"]\norder = "given"'), base=tmp_path,
                            seed=0)  # fmt: skip
    assert [item for item in found.items if item.sample == 0] == list(again.items)


def test_bad_rows_stop_or_are_counted(tmp_path: Path) -> None:
    """The first row that is no question stops the run, unless it may be skipped."""
    (tmp_path / "a.jsonl").write_text('{"question": "Yes?"}\n{"id": 3}\n')
    with pytest.raises(InvalidInputError, match=r"a\.jsonl:2: the row must have a question"):
        build_questions(_table('files = ["a.jsonl"]'), base=tmp_path, seed=0)
    table = _table('files = ["a.jsonl"]\nbad_rows = "skip"')
    counts = build_questions(table, base=tmp_path, seed=0).counts
    assert (1, 1, {"a.jsonl": {"bad": 1}}) == (counts.questions, counts.bad_rows, counts.notes)


def test_nothing_left_is_an_error_that_says_why(tmp_path: Path) -> None:
    """A pool that the score set has seen whole cannot be asked."""
    (tmp_path / "a.jsonl").write_text('{"question": "Why?"}\n' * 2)
    with pytest.raises(InvalidInputError, match="at least one question") as caught:
        build_questions(
            _table('files = ["a.jsonl"]'), base=tmp_path, seed=0, held_out=[_item("Why?")]
        )
    assert "2 read, 2 in the score set, 0 repeated" == caught.value.hint


def _exchange(n: int, text: str, **more: object) -> Exchange:
    messages = (Message("system", "Be brief."), Message("user", text))
    return Exchange(
        exchange_id=f"x{n}",
        account="a",
        started_at=1e9 + n,
        messages=messages,
        answers=(Answer("An answer.", "stop"),),
        **more,  # type: ignore[arg-type]
    )


def test_questions_of_a_log_a_store_and_a_journal(tmp_path: Path) -> None:
    """What was asked before can be asked again; calls with tools that no log tells cannot."""
    exchanges = [_exchange(1, "One?"), _exchange(2, "Two?", session="s"), _exchange(3, " "),
                 _exchange(4, "Four?", tools_hash="0123456789abcdef")]  # fmt: skip
    write_store(tmp_path / "store", exchanges)
    with Journal.open(tmp_path / "journal") as journal:
        for exchange in exchanges:
            asyncio.run(journal.append(exchange))
    lines = [msgspec.json.encode(exchange).decode() for exchange in exchanges]
    (tmp_path / "log.jsonl").write_text("\n".join(lines) + "\n")
    for name in ("store", "journal", "log.jsonl"):
        table = _table(f'logs = ["{name}"]\norder = "given"')
        found = build_questions(table, base=tmp_path, seed=0)
        assert [("One?", ""), ("Two?", "s")] == [(i.question, i.cluster) for i in found.items]
        assert "Be brief." == found.items[0].messages[0].content
        assert {name: {"no question": 1, "tools not in the log": 1}} == found.counts.notes


def test_written_questions_join_the_others(tmp_path: Path) -> None:
    """What a model wrote after the run's questions is asked with them, under its topic."""
    table = _table(TOML + '[generate]\ncount = 2\ntopics = ["rome"]\nnear_duplicates = 1.0\n')
    model = FakeModel.scripted(["1. Who founded Rome?\n2. Who was Nero?"])
    found = build_questions(table, base=_folder(tmp_path), seed=0, model=model)
    assert 2 == found.counts.sources["generated.jsonl"]
    assert 8 == found.counts.capabilities["rome"]
    again = build_questions(table, base=tmp_path, seed=0)
    assert _ids(found) == _ids(again)


def test_the_hardest_first(tmp_path: Path) -> None:
    """A mapped score decides the order by difficulty."""
    rows = [{"question": f"q{n}?", "hard": n} for n in (2, 9, 5)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = _table('order = "difficulty"\nfiles = [{path = "a.jsonl", columns = {score = "hard"}}]')
    found = build_questions(table, base=tmp_path, seed=0)
    assert ["q9?", "q5?", "q2?"] == [item.question for item in found.items]


def test_conversations_turn_by_turn(tmp_path: Path) -> None:
    """`every` makes an item of each place where an answer is due; they share a cluster."""
    turns = [("user", "Hi"), ("assistant", "Hello"), ("user", "Bye"), ("assistant", "Bye!")]
    row = {"messages": [{"role": role, "content": text} for role, text in turns]}
    (tmp_path / "c.jsonl").write_text(json.dumps(row) + "\n")
    table = _table('order = "given"\nfiles = [{path = "c.jsonl", turns = "every", system = "S"}]')
    items = list(build_questions(table, base=tmp_path, seed=0).items)
    assert [["system", "user"], ["system", "user", "assistant", "user"]] == [
        [turn.role for turn in item.messages] for item in items
    ]
    assert {"c.jsonl:1"} == {item.cluster for item in items}


def test_alike_words_after_other_talk_are_other_questions(tmp_path: Path) -> None:
    """Likeness counts only between equal conversations with equal tools."""
    asked = "Tell me about the weather in the city of Rome today"
    tool = {"name": "weather", "parameters": {"type": "object"}}
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": asked}]  # fmt: skip
    rows = [{"prompt": asked}, {"prompt": asked + "!"}, {"prompt": asked + ".", "tools": [tool]},
            {"messages": talk},
            {"messages": [*talk[:2], {"role": "user", "content": asked + "."}]}]  # fmt: skip
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = _table('files = ["a.jsonl"]\norder = "given"\nnear_duplicates = 0.9')
    found = build_questions(table, base=tmp_path, seed=0)
    assert ["a.jsonl:1", "a.jsonl:3", "a.jsonl:4"] == [item.origin for item in found.items]


def test_a_misspelt_column_is_told(tmp_path: Path) -> None:
    """A mapped column that no row has is an error, one that some rows lack is not."""
    (tmp_path / "a.jsonl").write_text('{"question": "a?"}\n{"question": "b?", "answer": "B"}\n')
    source = msgspec.convert({"path": "a.jsonl", "columns": {"truth": "answer"}}, FileTable)
    assert [None, "B"] == [item.truth for item in file_items(source, base=tmp_path)]
    source = msgspec.convert({"path": "a.jsonl", "columns": {"truth": "anwser"}}, FileTable)
    with pytest.raises(InvalidInputError, match="no row has the column 'anwser' that truth"):
        list(file_items(source, base=tmp_path))


def test_a_score_set_is_read_in_order(tmp_path: Path) -> None:
    """`file_items` gives every row, repeated ones too."""
    _folder(tmp_path)
    assert 5 == len(list(file_items("a.jsonl", base=tmp_path)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("samples = 1", "sources must be files, logs, templates or generate"),
        ('files = ["a"]\nsamples = 0', "samples must be at least 1"),
        ('files = ["a"]\nnear_duplicates = 2.0', "near_duplicates must be from 0.3 to 1"),
        ('files = ["a"]\nshuffle = true', "unknown field `shuffle`"),
        ('files = ["a"]\norder = "best"', "Invalid enum value 'best'"),
        ('files = ["a"]\n[contamination]\nngram = 2', "ngram must be 0 or at least 3"),
        ('files = [{path = ""}]', "path must be a file, a folder or a pattern"),
    ],
)
def test_rules_of_the_table(text: str, message: str) -> None:
    """Wrong values and unknown keys are told when the file is read."""
    with pytest.raises((InvalidInputError, msgspec.ValidationError), match=message):
        _table(text)
