"""Outputs are read from every shape they come in, and nothing is left out in silence."""

import csv
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stillwatch.errors import InvalidInputError
from stillwatch.record.exchange import Answer, Exchange, Message
from stillwatch.record.journal import Journal
from stillwatch.record.store import write_store
from stillwatch.trace.outputs import SuspectOutput, read_outputs, write_outputs

ROWS = [
    {"question": "a?", "answer": "1", "question_id": "q1", "sample": 0},
    {"question": "b?", "answer": "2", "question_id": "q2", "sample": 3},
]
EXPECTED = [SuspectOutput("1", "a?", "q1", 0), SuspectOutput("2", "b?", "q2", 3)]


def _exchange(number: int, *answers: str) -> Exchange:
    return Exchange(
        exchange_id=f"e{number}",
        account="",
        started_at=1.7e9 + number,
        messages=(Message("user", f"q{number}?"),),
        answers=tuple(Answer(text) for text in answers),
        tags={"sample": "2"},
    )


def test_json_lines_csv_and_parquet_say_the_same(tmp_path):
    """One table gives the same outputs as JSON lines, packed or not, CSV and Parquet."""
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (tmp_path / "o.jsonl").write_text(lines)
    (tmp_path / "o.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    with (tmp_path / "o.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(ROWS[0]))
        writer.writeheader()
        writer.writerows(ROWS)
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "o.parquet")
    for name in ("o.jsonl", "o.jsonl.gz", "o.csv", "o.parquet"):
        assert EXPECTED == read_outputs(tmp_path / name), name


def test_what_is_written_is_read(tmp_path):
    """Writing and reading give the same; a folder of `trace ask` is read by its outputs."""
    assert 2 == write_outputs(tmp_path / "outputs.jsonl", EXPECTED)
    assert EXPECTED == read_outputs(tmp_path / "outputs.jsonl") == read_outputs(tmp_path)


def test_journal_and_store(tmp_path):
    """Our own record is a suspect's outputs, too: every answer, none for failed attempts."""
    exchanges = [_exchange(1, "x", "y"), _exchange(2), _exchange(3, "z")]
    with Journal.open(tmp_path / "journal") as journal:
        for one in exchanges:
            journal.append_sync(one)
    write_store(tmp_path / "store", exchanges)
    expected = [
        SuspectOutput("x", "q1?", "", 2),
        SuspectOutput("y", "q1?", "", 3),
        SuspectOutput("z", "q3?", "", 2),
    ]
    assert expected == read_outputs(tmp_path / "journal")
    assert expected == read_outputs(tmp_path / "store")


def test_a_log_of_another_format(tmp_path):
    """A log that `stillwatch logs` reads needs no conversion."""
    body = {
        "request": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
        "response": {
            "id": "r", "object": "chat.completion", "created": 1_700_000_000, "model": "m",
            "choices": [{"index": 0, "finish_reason": "stop",
                         "message": {"role": "assistant", "content": "ho"}}],
        },
    }  # fmt: skip
    (tmp_path / "log.jsonl").write_text(json.dumps(body) + "\n")
    assert [("hi", "ho")] == [
        (one.question, one.answer) for one in read_outputs(tmp_path / "log.jsonl")
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no outputs"),
        ('{"answer": "a"}\n{"question": "b"}\n', "o.jsonl:2: the line must be an object"),
        ('{"answer": "a"}\n[1]\n', "o.jsonl:2: the line must be a JSON object"),
        ('{"answer": ["a"]}\n', "o.jsonl:1"),
    ],
)
def test_a_bad_line_is_named(tmp_path, text, told):
    """A line that is no output stops the reading, with its file and line."""
    (tmp_path / "o.jsonl").write_text(text)
    with pytest.raises(InvalidInputError, match=told):
        read_outputs(tmp_path / "o.jsonl")
