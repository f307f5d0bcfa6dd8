"""Data sets of the `datasets` library are read from disk without it."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stillwatch.distill.questions import FileTable, file_items
from stillwatch.distill.questions.table import Columns
from stillwatch.errors import InvalidInputError


def _saved(folder: Path, texts: list[str]) -> None:
    """Write what `Dataset.save_to_disk` writes, two shards of Arrow streams."""
    folder.mkdir(parents=True)
    names = [f"data-{n:05d}-of-00002.arrow" for n in range(2)]
    for n, name in enumerate(names):
        rows = [{"text": text, "label": len(text) % 2} for text in texts[n::2]]
        table = pa.Table.from_pylist(rows)
        with pa.ipc.new_stream(folder / name, table.schema) as writer:
            writer.write_table(table)
    state = {"_data_files": [{"filename": name} for name in names], "_indices_files": None}
    features = {
        "text": {"dtype": "string", "_type": "Value"},
        "label": {"names": ["even", "odd"], "_type": "ClassLabel"},
    }
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))


def test_a_saved_data_set(tmp_path: Path) -> None:
    """Shards in order, labels by their names."""
    _saved(tmp_path / "set", ["aa", "b", "cc", "d"])
    source = FileTable(path="set", columns=Columns(question="text", capability="label"))
    assert [("aa", "even"), ("cc", "even"), ("b", "odd"), ("d", "odd")] == [
        (item.question, item.capability) for item in file_items(source, base=tmp_path)
    ]


def test_the_split_is_chosen(tmp_path: Path) -> None:
    """Of several splits `train` is read unless another is named; a wrong one lists them."""
    for split in ("train", "test"):
        _saved(tmp_path / "set" / split, [f"{split} 1", f"{split} 2"])
    (tmp_path / "set/dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    for split, expected in (("", "train 1"), ("test", "test 1")):
        items = list(file_items(FileTable(path="set", split=split), base=tmp_path))
        assert (2, expected) == (len(items), items[0].question)
    with pytest.raises(InvalidInputError, match="split must be one of test, train, got 'dev'"):
        list(file_items(FileTable(path="set", split="dev"), base=tmp_path))


@pytest.mark.parametrize("layout", ["data/{}-00000-of-00001.parquet", "default/{}/0000.parquet"])
def test_a_snapshot_of_a_repository(tmp_path: Path, layout: str) -> None:
    """Parquet files are told apart by the split in their names or folders."""
    for split in ("train", "validation"):
        path = tmp_path / "repo" / layout.format(split)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist([{"question": f"{split}?"}]), path)
    source = FileTable(path="repo", split="validation")
    assert ["validation?"] == [item.question for item in file_items(source, base=tmp_path)]


def test_a_plain_folder_of_parquet(tmp_path: Path) -> None:
    """Files whose names tell no split are read one after the other."""
    for name in ("b", "a"):
        pq.write_table(
            pa.Table.from_pylist([{"question": f"{name}?"}]), tmp_path / f"{name}.parquet"
        )
    assert ["a?", "b?"] == [item.question for item in file_items(".", base=tmp_path)]


def test_fields_that_only_other_rows_have(tmp_path: Path) -> None:
    """A column's common type adds nulls to every row; they are not sent."""
    tools = [{"name": "f", "parameters": {"type": "object", "properties": {n: {"type": "string"}}}}
             for n in "ab"]  # fmt: skip
    calls = [None, [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]]
    rows = [
        {"messages": [{"role": "user", "content": "x", "tool_calls": None}], "tools": [tools[n]],
         "extra": calls[n]} for n in range(2)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "q.parquet")
    items = list(file_items("q.parquet", base=tmp_path))
    assert [None, None] == [item.messages[0].extra for item in items]
    assert [["a"], ["b"]] == [
        list(item.tools[0]["function"]["parameters"]["properties"]) for item in items
    ]


def test_labels_in_the_schema(tmp_path: Path) -> None:
    """Parquet that the library wrote carries its labels' names."""
    features = {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.Table.from_pylist([{"text": "a?", "label": 1}]).replace_schema_metadata(metadata)
    pq.write_table(table, tmp_path / "q.parquet")
    source = FileTable(path="q.parquet", columns=Columns(capability="label"))
    assert ["yes"] == [item.capability for item in file_items(source, base=tmp_path)]


def test_a_selection_must_be_flattened(tmp_path: Path) -> None:
    """Rows that were selected or shuffled but not rewritten are not read in the wrong order."""
    _saved(tmp_path / "set", ["aa", "b"])
    state = json.loads((tmp_path / "set/state.json").read_text())
    state["_indices_files"] = [{"filename": "indices.arrow"}]
    (tmp_path / "set/state.json").write_text(json.dumps(state))
    with pytest.raises(InvalidInputError, match="not flattened"):
        list(file_items("set", base=tmp_path))
