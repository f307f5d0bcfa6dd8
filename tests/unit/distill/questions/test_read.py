"""Files of questions are read whatever their form, and errors name the place."""

import gzip
import json
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stillwatch.distill.questions import FileTable, file_items
from stillwatch.distill.questions.read import read_records
from stillwatch.distill.questions.table import Columns
from stillwatch.errors import InvalidInputError

ROWS = [{"question": "What is 1+1?", "answer": "2"}, {"question": "And 2+2?", "answer": "4"}]


def _lines(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _asked(base: Path, **table: object) -> list[tuple[str, str | None, str]]:
    source = msgspec.convert(table, FileTable)
    return [(i.question, i.truth, i.origin) for i in file_items(source, base=base)]


@pytest.mark.parametrize("name", ["q.jsonl", "q.jsonl.gz", "q.jsonl.zst", "q.json", "q.csv",
                                  "q.tsv", "q.parquet", "q.arrow"])  # fmt: skip
def test_every_form_gives_the_same_questions(tmp_path: Path, name: str) -> None:
    """Lines, arrays, tables, columns, plain or packed: the same rows."""
    path = tmp_path / name
    table = pa.Table.from_pylist(ROWS)
    sep = "\t" if name.endswith(".tsv") else ","
    text = {"q.json": json.dumps(ROWS, indent=1)}.get(name, _lines(ROWS))
    if name in {"q.csv", "q.tsv"}:
        rows = [sep.join(row.values()) for row in ROWS]
        text = "\n".join([sep.join(ROWS[0]), *rows]) + "\n"
    if name.endswith(".parquet"):
        pq.write_table(table, path)
    elif name.endswith(".arrow"):
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)
    elif name.endswith(".zst"):
        with pa.CompressedOutputStream(str(path), "zstd") as file:
            file.write(text.encode())
    else:
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    found = _asked(tmp_path, path=name, columns={"truth": "answer"})
    assert [("What is 1+1?", "2"), ("And 2+2?", "4")] == [row[:2] for row in found]
    first = 2 if name in {"q.csv", "q.tsv"} else 1
    assert [f"{name}:{first}", f"{name}:{first + 1}"] == [row[2] for row in found]


def test_arrow_files_of_both_kinds(tmp_path: Path) -> None:
    """The file form of Arrow is read as the stream form is."""
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_file(tmp_path / "q.arrow", table.schema) as writer:
        writer.write_table(table)
    assert ["What is 1+1?", "And 2+2?"] == [row[0] for row in _asked(tmp_path, path="q.arrow")]


def test_a_list_inside_a_document(tmp_path: Path) -> None:
    """`at` leads to the rows; rows that are lists have numbers for columns."""
    document = {"train": [["turn it on", "light"], ["play jazz", "music"]], "test": []}
    (tmp_path / "d.json").write_text(json.dumps(document))
    columns = {"question": "0", "capability": "1"}
    source = msgspec.convert({"path": "d.json", "at": "train", "columns": columns}, FileTable)
    items = list(file_items(source, base=tmp_path))
    assert [("turn it on", "light"), ("play jazz", "music")] == [
        (item.question, item.capability) for item in items
    ]


def test_the_only_list_of_a_document_is_its_rows(tmp_path: Path) -> None:
    """A canary or a version beside the rows is no row."""
    (tmp_path / "d.json").write_text(json.dumps({"canary": "x", "examples": [{"input": "2*3"}]}))
    assert [("2*3", None, "d.json:1")] == _asked(tmp_path, path="d.json")


def test_several_lists_must_be_told_apart(tmp_path: Path) -> None:
    """A document with several lists is an error that names them."""
    (tmp_path / "d.json").write_text(json.dumps({"train": [["a", "b"]], "test": [["c", "d"]]}))
    with pytest.raises(InvalidInputError, match=r"d\.json: the document holds several") as caught:
        _asked(tmp_path, path="d.json")
    assert 'say which: at = "..." (train, test)' == caught.value.hint


def test_lines_with_named_parts(tmp_path: Path) -> None:
    """A pattern makes columns of lines, and `truth` among them is the truth."""
    (tmp_path / "t.txt").write_text("IN: jump twice OUT: J J\n\nIN: walk OUT: W\n")
    found = _asked(tmp_path, path="t.txt", pattern=r"^IN: (?P<question>.*) OUT: (?P<truth>.*)$")
    assert [("jump twice", "J J", "t.txt:1"), ("walk", "W", "t.txt:3")] == found


def test_columns_from_a_file_beside(tmp_path: Path) -> None:
    """Two files line by line are one table."""
    (tmp_path / "src.txt").write_text("words with a dog\nlines ending in 7\n")
    (tmp_path / "targ.txt").write_text(".*dog.*\n.*7$\n")
    found = _asked(
        tmp_path, path="src.txt", beside={"truth": "targ.txt"}, text="As a regex: {text}"
    )
    assert [("As a regex: words with a dog", ".*dog.*", "src.txt:1"),
            ("As a regex: lines ending in 7", ".*7$", "src.txt:2")] == found  # fmt: skip


def test_a_file_beside_that_is_too_short_is_named(tmp_path: Path) -> None:
    """A missing partner is an error at its line."""
    (tmp_path / "src.txt").write_text("a\nb\n")
    (tmp_path / "targ.txt").write_text("x\n")
    with pytest.raises(InvalidInputError, match=r"targ\.txt:2: the file beside ends"):
        _asked(tmp_path, path="src.txt", beside={"truth": "targ.txt"})


def test_a_part_of_the_rows(tmp_path: Path) -> None:
    """`where` chooses rows, `skip` and `limit` count before it does."""
    rows = [{"text": f"q{n}", "role": "prompter" if n % 2 else "bot"} for n in range(10)]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = _asked(tmp_path, path="r.jsonl", where={"role": "prompter"}, skip=2, limit=4)
    assert ["q3", "q5"] == [row[0] for row in found]


def test_whole_files_and_their_names(tmp_path: Path) -> None:
    """A file may be one question, and its name the capability."""
    for name in ("bob", "leap"):
        (tmp_path / f"{name}.md").write_text(f"# {name}\n\nWrite it.\n")
    source = FileTable(path="*.md", format="whole", capability="{stem}")
    assert [("# bob\n\nWrite it.", "bob"), ("# leap\n\nWrite it.", "leap")] == [
        (item.question, item.capability) for item in file_items(source, base=tmp_path)
    ]


def test_the_truth_is_taken_out_of_a_solution(tmp_path: Path) -> None:
    """The first group of the pattern is the truth; a row without it is an error."""
    rows = [{"question": "q", "answer": "4+4=8\n#### 8"}, {"question": "r", "answer": "none"}]
    (tmp_path / "g.jsonl").write_text(_lines(rows))
    table = {"path": "g.jsonl", "columns": {"truth": "answer"}, "truth_pattern": "#### (.*)$"}
    assert [("q", "8", "g.jsonl:1")] == _asked(tmp_path, **table, limit=1)
    with pytest.raises(InvalidInputError, match=r"g\.jsonl:2: the truth must match"):
        _asked(tmp_path, **table)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"question": "x"}\n{"question": \n', r"a\.jsonl:2: the line is no JSON"),
        ("b.csv", "question,x\nhello,1\nwhat, ever,2\n", r"b\.csv:3: the row has 3 cells"),
        ("c.jsonl", '{"id": 1}\n', r"c\.jsonl:1: the row must have a question"),
        ("d.jsonl", '{"question": "  "}\n', r"d\.jsonl:1: the question must not be empty"),
        ("e.parquet", "no parquet", r"e\.parquet:1: the file cannot be read on"),
        ("f.jsonl", '{"messages": [{"role": "user"}, 5]}\n', r"f\.jsonl:1: turn 2: a turn must"),
        ("g.jsonl", '{"messages": [{"role": "x"}]}\n', r"g\.jsonl:1: turn 1: the role must"),
    ],
)  # fmt: skip
def test_errors_name_file_line_and_rule(tmp_path: Path, name: str, text: str, message: str) -> None:
    """What cannot be read is said with its place, and never with its text."""
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidInputError, match=message):
        _asked(tmp_path, path=name)


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    """Text in another encoding stops at its line."""
    (tmp_path / "l.txt").write_bytes("gut\nschön\n".encode("latin-1"))
    with pytest.raises(InvalidInputError, match=r"l\.txt:2: the line is not UTF-8"):
        _asked(tmp_path, path="l.txt")


def test_cells_with_line_breaks_keep_their_line_numbers(tmp_path: Path) -> None:
    """A row of a table is named by the line that it begins at."""
    (tmp_path / "c.csv").write_text('question,n\n"two\nlines",1\nthree,2\n')
    assert [("two\nlines", "c.csv:2"), ("three", "c.csv:4")] == [
        (row[0], row[2]) for row in _asked(tmp_path, path="c.csv")
    ]


def test_tabs_know_no_quotes(tmp_path: Path) -> None:
    """A cell of a tab-separated table may begin with a quote."""
    (tmp_path / "c.tsv").write_text('"tis\tT IH Z\n"twas\tT W AA Z\n')
    source = FileTable(path="c.tsv", header=False, columns=Columns(question="0", truth="1"))
    assert ['"tis', '"twas'] == [item.question for item in file_items(source, base=tmp_path)]


def test_nothing_there_is_said(tmp_path: Path) -> None:
    """A path that fits nothing is an error with what is searched for."""
    with pytest.raises(InvalidInputError, match=r"none/\*: no file of questions there"):
        list(read_records(FileTable(path="none/*"), tmp_path))
