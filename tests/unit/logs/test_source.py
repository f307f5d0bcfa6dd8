"""Files become records, packed or not, whole or broken."""

import gzip
import io
import json
import os
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.errors import InvalidInputError
from stillwatch.logs.pieces import Pieces, is_nested
from stillwatch.logs.source import Source, blocks, find_sources, records_of
from stillwatch.logs.unit import LONGEST, Block, Fault
from stillwatch.record.store import write_store

RECORDS = [
    {"n": i, "text": 'a "quoted" \\ [{ brace\n', "in": {"x": [1, {"y": None}]}} for i in range(5)
]
LINES = "\n".join(map(json.dumps, RECORDS)).encode()


def _read(data: bytes, name: str = "log.jsonl") -> list[Block | Fault]:
    return list(blocks(Source(name), stream=io.BytesIO(data)))


def _records(found: list[Block | Fault]) -> list[object]:
    assert all(isinstance(block, Block) for block in found)
    return [json.loads(line) for block in found for line in block[3] if line]


@pytest.mark.parametrize("pack", [
    bytes,
    gzip.compress,
    lambda data: gzip.compress(data[:100]) + gzip.compress(data[100:]) + bytes(512),
    lambda data: pa.compress(data, "zstd", asbytes=True),
    lambda data: pa.compress(data[:9], "zstd", asbytes=True) + pa.compress(data[9:], "zstd", asbytes=True),  # noqa: E501
    lambda data: b"\xef\xbb\xbf" + data,
    lambda data: data + b"\n",
    lambda data: data.replace(b"\n", b"\r\n"),
], ids=["plain", "gzip", "members", "zstd", "frames", "bom", "newline", "crlf"])  # fmt: skip
def test_packing_does_not_matter(pack) -> None:
    """Packed by whatever tool, the records are the same; the name's ending is not asked."""
    assert RECORDS == _records(_read(pack(LINES)))


@pytest.mark.parametrize("data", [
    json.dumps(RECORDS), json.dumps(RECORDS, indent=2), "\n " + json.dumps(RECORDS),
    "[\n" + ",\n".join(map(json.dumps, RECORDS)) + "\n]\n",
    "\n".join(json.dumps(r, indent=2) for r in RECORDS),
], ids=["array", "indented", "blank first", "line each", "documents"])  # fmt: skip
def test_arrays_and_documents(data: str) -> None:
    """An array, or indented documents one after the other, hold the same records as lines."""
    assert RECORDS == _records(_read(data.encode()))


@given(
    st.lists(st.recursive(
        st.none() | st.text(max_size=6) | st.integers(),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    ).map(lambda value: {"v": value}), min_size=1, max_size=5),
    st.integers(1, 30),
    st.sampled_from([None, 1]),
)  # fmt: skip
def test_array_split_anywhere(records: list[object], size: int, indent: int | None) -> None:
    """However an array's bytes are cut into chunks, its elements come out whole."""
    data = json.dumps(records, indent=indent, ensure_ascii=False).encode()
    chunks = [data[i : i + size] for i in range(0, len(data), size)]
    assert records == _records(list(Pieces("a.json", data).blocks(chunks)))


def test_what_stands_between_elements_is_given_out() -> None:
    """Bare values in an array are no records; they are handed on to be refused, not skipped."""
    data = b'[{"a":1}, 7, "x", {"b":2}, null]'
    (block,) = _read(data)
    assert [b'{"a":1}', b'7, "x"', b'{"b":2}', b"null"] == block[3]


def test_lines_keep_their_numbers() -> None:
    """Empty lines count, so that a fault's line is the file's."""
    (block,) = _read(b'{"a":1}\n\n{"b":2}\n')
    assert (1, [b'{"a":1}', b"", b'{"b":2}']) == (block[1], block[3][:3])


@pytest.mark.parametrize("head", [
    b'{"a":1}\n{"b":2}', b'{"a": "cut off\n{"b":2}', b'[31/Jan/2025:10:00:00 +0000] GET', b"",
    b"text", b'{"a":1}',
])  # fmt: skip
def test_lines_are_not_taken_for_documents(head: bytes) -> None:
    """A broken first line, or an access log's bracket, does not turn lines into one document."""
    assert not is_nested(head)


def test_truncated_gzip_gives_what_it_holds() -> None:
    """A gzip file that is cut off gives its records and one fault at its end."""
    *head, fault = _read(gzip.compress(LINES * 50)[:-9])
    assert Fault("log.jsonl", 0, "the gzip file is cut off") == fault
    assert b"".join(head[0][3]) == LINES.replace(b"\n", b"") * 50 or len(head[0][3]) > 150


def test_damaged_packing_is_a_fault() -> None:
    """Damage in packed data is told, never raised, and what came before is kept."""
    lines = b"".join(
        b'{"n":%d,"r":"%s"}\n' % (i, os.urandom(40).hex().encode()) for i in range(3000)
    )
    for pack, word in (
        (gzip.compress, "gzip"),
        (lambda d: pa.compress(d, "zstd", asbytes=True), "zstd"),
    ):
        packed = bytearray(pack(lines))
        packed[len(packed) * 3 // 4 :] = bytes(len(packed) // 8)
        *head, fault = _read(bytes(packed))
        assert isinstance(fault, Fault)
        assert word in fault.reason
        if word == "gzip":
            assert len(head[0][3]) > 1000


def test_utf16_is_named() -> None:
    """A UTF-16 file is one fault that says so."""
    (fault,) = _read('{"a":1}'.encode("utf-16"))
    assert "UTF-16" in fault[2]


def test_csv() -> None:
    """Quoted line ends are inside a cell; rows that do not fit or are not UTF-8 are faults."""
    data = b'id,text,n\n1,"two\nlines",3\n2,short\n\n3,"a ""b""",\n4,\xff,8\n5,x,y\n'
    assert [
        Block("t", 1, "rows", [{"id": "1", "text": "two\nlines", "n": "3"}]),
        Fault("t", 2, "the row has 2 cells, the header 3"),
        Block("t", 3, "rows", [{"id": "3", "text": 'a "b"'}]),
        Fault("t", 4, "the row is not UTF-8"),
        Block("t", 5, "rows", [{"id": "5", "text": "x", "n": "y"}]),
    ] == _read(data, "t")


def test_parquet(tmp_path: Path) -> None:
    """Parquet rows come as records; a broken file is a fault."""
    path = tmp_path / "log.parquet"
    pq.write_table(pa.Table.from_pylist([{"a": 1, "b": [None, "x"]}, {"a": None, "b": None}]), path)
    (block,) = blocks(Source(str(path)))
    assert isinstance(block, Block)
    assert [{"a": 1, "b": [None, "x"]}, {"a": None, "b": None}] == records_of(block.records)
    path.write_bytes(path.read_bytes()[:-20])
    (fault,) = blocks(Source(str(path)))
    assert "the Parquet file cannot be read" in fault[2]


def test_a_line_too_long_is_skipped_without_being_held(tmp_path: Path) -> None:
    """A line beyond the limit is one fault, its neighbours are read, and memory stays bounded."""
    path = tmp_path / "long.jsonl"
    with path.open("wb") as file:
        file.write(b'{"a":1}\n')
        for _ in range(2 * LONGEST // 2**20):
            file.write(bytes([120]) * 2**20)
        file.write(b'\n{"b":2}\n')
    tracemalloc.start()
    found = list(blocks(Source(str(path))))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [1, 2, 3] == [item[1] for item in found]
    assert isinstance(found[1], Fault)
    assert peak < 3 * LONGEST


def test_finds_files(tmp_path: Path) -> None:
    """Folders are searched, patterns expanded, each file read once; nothing fitting is an error."""
    for name in ("b.jsonl", "a.json.gz", "deep/c.csv.zst", "deep/picture.png", ".hidden.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    names = [Path(s.name).name for s in find_sources([str(tmp_path), str(tmp_path / "*.jsonl")])]
    assert ["a.json.gz", "b.jsonl", "c.csv.zst"] == sorted(names)
    write_store(tmp_path / "deep/store", [])
    (tmp_path / "deep/store/quarantine.jsonl").write_bytes(b"")
    assert ["c.csv.zst"] == [Path(s.name).name for s in find_sources([str(tmp_path / "deep")])]
    assert [Source("-")] == find_sources(["-"])
    with pytest.raises(InvalidInputError, match="no log there"):
        find_sources([str(tmp_path / "*.parquet")])


def test_folders_are_searched_for_archives(tmp_path: Path) -> None:
    """Archives that browsers and proxies save are logs of a folder."""
    for name in ("a.har", "b.har.gz", "c.md"):
        (tmp_path / name).write_bytes(LINES)
    found = [Path(source.name).name for source in find_sources([str(tmp_path)])]
    assert ["a.har", "b.har.gz"] == found
