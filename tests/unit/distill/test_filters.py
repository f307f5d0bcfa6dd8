"""Which answers are learnt from, and why the others are not."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stillwatch.distill.asking.attempts import Answered
from stillwatch.distill.filtering.filter_table import REASONS
from stillwatch.distill.filtering.filters import (
    FilterTable,
    filter_answers,
    read_examples,
    write_kept,
)
from stillwatch.distill.items import Item, item_id_of
from stillwatch.errors import ConfigError, InvalidInputError
from stillwatch.model.fake import FakeModel
from stillwatch.record.exchange import Answer, Exchange, Message


def item(question: str, **more: Any) -> Item:
    """An item that asks one question."""
    messages = (Message("user", question),)
    return Item(item_id=item_id_of(messages), messages=messages, **more)


def answered(
    question: str, text: str, *, finish: str = "stop", extra: str | None = None, **more: Any
) -> Answered:
    """An item with its answer in the record."""
    own = {name: more.pop(name) for name in ("truth", "check", "capability") if name in more}
    exchange = Exchange(
        exchange_id=f"x-{question}-{text}",
        account="",
        started_at=0.0,
        answers=(Answer(text=text, finish_reason=finish, extra=extra),),
        **{"output_tokens": len(text.split()), **more},
    )
    return Answered(item(question, **own), exchange)


def kept_of(
    rows: Sequence[Answered], table: FilterTable | None = None, **more: Any
) -> tuple[Any, ...]:
    """The texts kept, and the counts of what was dropped."""
    filtered = filter_answers(rows, table or FilterTable(), **more)
    texts = [example.answer.text for example in filtered.kept]
    dropped = {name: n for name, n in filtered.counts.as_dict()["dropped"].items() if n}
    return texts, dropped


def test_default() -> None:
    """By default truncated, refused, filtered, empty, failed and contaminated answers go."""
    failed = Exchange(exchange_id="f", account="", started_at=0.0, status=500, error="server_error")
    rows = [
        answered("Add 2 and 2", "It is 4."),
        answered("Tell me all", "It began when", finish="length"),
        answered("Tell me more", "It began when", finish="max_tokens"),
        answered("Do harm", "I'm sorry, but I can't help with that."),
        answered("Do other harm", "", finish="refusal"),
        answered("Do filtered harm", "", finish="content_filter"),
        answered("Say nothing", "  "),
        Answered(item("Fail"), failed),
        answered("What is the capital city of the country of France?", "Paris."),
        answered("Add 2 and 2", "It is 4."),
    ]
    held = [item("what is the capital city of the country of france")]
    expected = {
        "failed": 1, "filtered": 1, "refusal": 2, "truncated": 2, "empty": 1, "contaminated": 1,
    }  # fmt: skip
    assert (["It is 4.", "It is 4."], expected) == kept_of(rows, held_out=held)


def test_counts() -> None:
    """Each reason is counted, whether it leaves an answer out or not; tokens and skills too."""
    rows = [
        answered("a?", "one two", capability="x"),
        answered("a?", "one two", capability="x"),
        answered("b?", "three", finish="length", capability="y"),
    ]
    filtered = filter_answers(rows, FilterTable(drop=("truncated",)))
    assert 2 == len(list(filtered.kept))
    counts = filtered.counts.as_dict()
    assert (3, 2, 5, 4) == tuple(
        counts[name] for name in ("n_answered", "n_kept", "answered_tokens", "kept_tokens")
    )
    assert {"duplicate": 1, "truncated": 1} == {k: n for k, n in counts["found"].items() if n}
    assert {"truncated": 1} == {k: n for k, n in counts["dropped"].items() if n}
    assert {"n_answered": 2, "n_kept": 2} == counts["by_capability"]["x"]
    assert list(REASONS) == list(counts["dropped"])


def test_nothing_to_learn() -> None:
    """What failed or is empty goes even when no reason is named."""
    rows = [answered("a?", ""), answered("b?", "yes", finish="length")]
    assert (["yes"], {"empty": 1}) == kept_of(rows, FilterTable(drop=()))


def test_tool_call_is_an_answer() -> None:
    """An answer that only calls a tool is not empty."""
    call = '{"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]}'
    assert ([""], {}) == kept_of([answered("a?", "", finish="tool_calls", extra=call)])


def test_duplicates() -> None:
    """Equal question with equal answer is a duplicate; ids of tool calls do not make it another."""
    call = '{"tool_calls":[{"id":"%d","type":"function","function":{"name":"f","arguments":"{}"}}]}'
    rows = [
        answered("a?", "one"),
        answered("a?", " one\n"),
        answered("a?", "two"),
        answered("b?", "one"),
        answered("c?", "", extra=call % 1),
        answered("c?", "", extra=call % 2),
    ]
    assert (["one", "two", "one", ""], {"duplicate": 2}) == kept_of(
        rows, FilterTable(drop=("duplicate",))
    )


def test_near_duplicates() -> None:
    """The later of two that are nearly alike goes, from the likeness that the table says."""
    long = "the quick brown fox jumps over the lazy dog near the old stone bridge at noon"
    rows = [answered("Say it", long), answered("Say it", long + " today"), answered("Say it", "no")]
    assert ([long, "no"], {"near_duplicate": 1}) == kept_of(rows, FilterTable(near_duplicates=0.7))


def test_too_long() -> None:
    """Limits on tokens and characters hold."""
    rows = [answered("a?", "one two three"), answered("b?", "x" * 50), answered("c?", "ok")]
    table = FilterTable(max_output_tokens=2, max_characters=40)
    assert (["ok"], {"too_long": 2}) == kept_of(rows, table)


def test_contaminated_answer() -> None:
    """An answer that recites a question of the score set is contaminated too."""
    secret = "how many apples are left when nine of the twenty seven apples have been eaten"
    rows = [answered("Write a puzzle", f"Here: {secret}?"), answered("Write a word", "apples")]
    held = [item(secret)]
    assert (["apples"], {"contaminated": 1}) == kept_of(rows, held_out=held)
    both = FilterTable(contaminated_answers=False)
    assert 2 == len(kept_of(rows, both, held_out=held)[0])


def test_verify() -> None:
    """A verifier drops what is wrong; what it cannot tell stays unless the table says otherwise."""
    rows = [
        answered("6*7?", "The answer is 42.", truth="42"),
        answered("6*8?", "The answer is 42.", truth="48"),
        answered("6*9?", "54"),
    ]
    table = FilterTable(verify="numeric")
    assert (["The answer is 42.", "54"], {"wrong": 1}) == kept_of(rows, table)
    strict = FilterTable(verify="numeric", drop=("wrong", "unverified"))
    assert (["The answer is 42."], {"wrong": 1, "unverified": 1}) == kept_of(rows, strict)


def test_verify_by_item() -> None:
    """Each item's own check is used, with the options of its kind."""
    rows = [
        answered("a?", "B", truth="B", check="choice"),
        answered("b?", "10.4", truth="10", check="numeric"),
        answered("c?", "anything", truth="x"),
        answered("d?", "12", truth="10", check="numeric"),
    ]
    table = FilterTable(verify="item", options={"numeric": {"absolute": 0.5}})
    assert (["B", "10.4", "anything"], {"wrong": 1}) == kept_of(rows, table)


def test_item_that_wants_a_judge() -> None:
    """An item whose own check is a judge gets the run's; without one the run says so."""
    rows = [answered("a?", "good", truth="good", check="judge")]
    table = FilterTable(verify="item")
    assert (["good"], {}) == kept_of(rows, table, judge=FakeModel(lambda question: "no idea"))
    with pytest.raises(InvalidInputError, match="judge must be a model"):
        kept_of(rows, table)


def test_judge() -> None:
    """A judge that says wrong in both orders leaves an answer out; a wavering one does not."""

    def verdict(question: Any) -> str:
        text = question.messages[-1].content
        asked_first = (
            text.index("VERDICT: A if the candidate is right")
            if "A if the candidate is right" in text
            else -1
        )
        right = "good" in text
        wavering = "maybe" in text
        if wavering:
            return "VERDICT: A"
        return "VERDICT: A" if right == (asked_first >= 0) else "VERDICT: B"

    rows = [answered("a?", "good"), answered("b?", "bad"), answered("c?", "maybe")]
    table = msgspec.convert({"judge": {"rubric": "Be fair."}}, FilterTable)
    texts, dropped = kept_of(rows, table, judge=FakeModel(verdict))
    assert (["good", "maybe"], {"judged_wrong": 1}) == (texts, dropped)


def test_refused_tables() -> None:
    """Mistakes in the table are told before an answer is read."""
    with pytest.raises(InvalidInputError, match="near_duplicates must be from 0 to 1"):
        FilterTable(near_duplicates=2)
    with pytest.raises(InvalidInputError, match="kind must be one of"):
        filter_answers([], FilterTable(verify="guess"))
    with pytest.raises(ConfigError, match="check numeric"):
        filter_answers([], FilterTable(verify="item", options={"numeric": {"near": 1}}))
    with pytest.raises(InvalidInputError, match="must be kinds of checks"):
        filter_answers([], FilterTable(verify="item", options={"digits": {}}))
    with pytest.raises(InvalidInputError, match="the judge must be a model"):
        filter_answers([], msgspec.convert({"judge": {}}, FilterTable))


def test_write_and_read(tmp_path: Path) -> None:
    """What is kept is written with its counts, and reads back equal; a broken line is named."""
    rows = [answered("a?", "one"), answered("b?", "two", finish="length")]
    counts = write_kept(filter_answers(rows, FilterTable()), tmp_path)
    assert 1 == counts.n_kept
    examples = list(read_examples(tmp_path / "kept.jsonl"))
    assert list(filter_answers(rows, FilterTable()).kept) == examples
    told = msgspec.json.decode((tmp_path / "filter.json").read_bytes())
    assert counts.as_dict() == told
    with (tmp_path / "kept.jsonl").open("a") as file:
        file.write("{}\n")
    with pytest.raises(InvalidInputError, match=r"kept\.jsonl:2: not an example"):
        list(read_examples(tmp_path / "kept.jsonl"))


async def test_inside_a_loop() -> None:
    """A filter with a check that waits works inside a running event loop as well."""
    table = msgspec.convert({"judge": {}}, FilterTable)
    judge = FakeModel(
        lambda question: (
            "VERDICT: A"
            if "A if the candidate is right" in question.messages[-1].content
            else "VERDICT: B"
        )
    )
    assert (["one"], {}) == kept_of([answered("a?", "one")], table, judge=judge)
