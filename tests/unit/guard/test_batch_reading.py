"""How forms, arrays and lines are read while they pass, whatever pieces they come in."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.guard.batch.elements import elements
from stillwatch.guard.batch.lines import Line, LineReader, Pieces
from stillwatch.guard.batch.multipart import FormReader, boundary_of
from stillwatch.guard.batch.routes import route_of
from stillwatch.guard.batch.rows import read_result, read_row, row_facts, with_body

FORM = (
    b"preamble\r\n--cut\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n"
    b"--cut\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a b.jsonl\"\r\n"
    b"content-type: application/jsonl\r\n\r\n"
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def cut(text: bytes, places: list[int]) -> list[bytes]:
    """Cut bytes into pieces."""
    ends = sorted(place % (len(text) + 1) for place in places)
    return [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]


@given(st.binary(max_size=200), st.lists(st.integers(0, 10**6), max_size=8))
def test_a_form_is_read_in_any_pieces(content: bytes, places: list[int]) -> None:
    """The file of a form comes out as it went in, boundary-like bytes and all."""
    content = content.replace(b"\r\n--cut", b"\r\n--cu")
    reader = FormReader(b"cut")
    found = b"".join(map(reader.feed, cut(FORM + content + b"\r\n--cut--\r\nmore", places)))
    assert (content, {"purpose": "batch"}, True, False) == (
        found, reader.fields, reader.has_ended, reader.is_doubtful
    )  # fmt: skip


END = b"\r\n--cut--"
FIELD = b'\r\n--cut\r\ncontent-disposition: form-data; name="%b"\r\n\r\ny'


@pytest.mark.parametrize(
    "form",
    [
        FORM + FIELD % b"file" + END,
        FORM + FIELD % b"purpose" + END,
        FORM + b"x\r\n--cutter\r\n\r\n" + END,
        FORM.replace(b"application/jsonl", b"x" * 20_000) + b"x" + END,
    ],
    ids=["two files", "two purposes", "longer boundary", "long head"],
)
def test_a_form_that_others_may_read_differently_is_doubtful(form: bytes) -> None:
    """Nothing is decided by a form that has two meanings."""
    reader = FormReader(b"cut")
    reader.feed(form)
    assert reader.is_doubtful


def test_boundaries() -> None:
    """A boundary is found bare and quoted, and only in a form's content type."""
    assert b"a1" == boundary_of(b"multipart/form-data; boundary=a1")
    assert b"a b" == boundary_of(b'Multipart/Form-Data; charset=x; Boundary="a b"')
    assert None is boundary_of(b"application/json; boundary=a1")


@given(st.lists(JSON, max_size=6), JSON, st.booleans())
def test_elements_are_found_in_any_body(rows: list, other: object, indented: bool) -> None:
    """The objects of an array are found whatever stands around and within them."""
    body = {"first": other, "requests": rows, "last": {"requests": [{"not": "one"}]}}
    text = json.dumps(body, indent=2 if indented else None, ensure_ascii=indented).encode()
    found = [json.loads(text[place : place + n]) for place, n in elements(text, "requests")]
    assert [row for row in rows if isinstance(row, dict)] == found


@pytest.mark.parametrize(
    "text", [b"", b'"', b'{"requests":[{"a":"', b"]}]}", b'{"requests":[' * 3, b'\\"{[']
)
def test_what_is_no_json_ends(text: bytes) -> None:
    """A body that breaks off has no elements, and reading it comes to an end."""
    assert [] == list(elements(text, "requests"))


def test_a_string_of_any_length_is_one_step_after_another() -> None:
    """A string longer than one step hides no bracket and holds none up."""
    row = {"text": '"}]{[' * 50_000 + "\\"}
    text = json.dumps({"requests": [row, {"b": 1}]}).encode()
    assert [row, {"b": 1}] == [json.loads(text[p : p + n]) for p, n in elements(text, "requests")]


@given(st.binary(max_size=60), st.lists(st.integers(0, 100), max_size=6))
def test_lines_are_cut_in_any_pieces(text: bytes, places: list[int]) -> None:
    """Lines come out with their places; longer ones than the limit without their bytes."""
    reader = LineReader(10)
    found = [line for piece in cut(text, places) for line in reader.feed(piece)]
    found.append(reader.rest())
    place, expected = 0, []
    for line in text.split(b"\n"):
        expected.append(Line(place, line if len(line) <= 10 else None, len(line)))
        place += len(line) + 1
    assert expected == found


@given(
    st.lists(st.binary(max_size=9).map(lambda b: b.replace(b"\n", b".")), min_size=1, max_size=5),
    st.permutations(range(6)),
    st.lists(st.integers(0, 60), min_size=5, max_size=5),
    st.integers(0, 7),
)
def test_ranges_give_every_line_once(
    lines: list[bytes], order: list[int], places: list[int], overlap: int
) -> None:
    """Whatever ranges a file is fetched in, every line that a range cut comes out whole, once."""
    text = b"\n".join(lines)
    ends = sorted(place % (len(text) + 1) for place in places)
    ranges = list(zip([0, *ends], [*ends, len(text)], strict=True))
    pieces, whole = Pieces(), {}
    for number in order:
        start, end = max(0, ranges[number][0] - overlap), ranges[number][1]
        if start == end:
            continue
        reader = LineReader(100, place=start)
        cut_lines = [(line, True) for line in reader.feed(text[start:end])]
        cut_lines.append((reader.rest(), end == len(text)))
        for n, (line, is_end) in enumerate(cut_lines):
            is_begin = n > 0 or line.place == 0
            if is_begin and is_end:
                whole[line.place] = line.text
            elif (found := pieces.add("f", line, is_begin=is_begin, is_end=is_end)) is not None:
                whole[found.place] = found.text
    place, expected = 0, {}
    for line in lines:
        expected[place] = line
        place += len(line) + 1
    assert {p: t for p, t in expected.items() if t} == {p: t for p, t in whole.items() if t}


def test_pieces_are_bounded() -> None:
    """The oldest file's pieces go when there are too many bytes of them."""
    pieces = Pieces(most=10)
    for file in ("a", "b"):
        assert None is pieces.add(file, Line(0, b"12345678", 8), is_begin=True, is_end=False)
    assert None is pieces.add("a", Line(8, b"9", 1), is_begin=False, is_end=True)
    assert Line(0, b"123456789", 9) == pieces.add(
        "b", Line(8, b"9", 1), is_begin=False, is_end=True
    )
    assert 1 == pieces.n_dropped


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/files", ("files", "openai", None, "", "/v1")),
        ("/v1//files/./file-1/content", ("files", "openai", "file-1", "content", "/v1")),
        ("/x/v1/batches/b/cancel", ("batches", "openai", "b", "cancel", "/x/v1")),
        (
            "/v1/Messages/Batches/b/Results",
            ("batches", "anthropic", "b", "results", "/v1/Messages"),
        ),
        ("/v1/vector_stores/vs/files", None),
        ("/v1/models/files-1", None),
        ("/", None),
    ],
)
def test_routes(path: str, expected: tuple | None) -> None:
    """Paths are read in every spelling, and those of other things are left alone."""
    found = route_of(path)
    assert expected == (found and found[:5])


def test_rows() -> None:
    """Rows of both vendors are read, and what is none is not."""
    body = {"model": "m", "messages": [{"role": "user", "content": "q"}], "n": 2}
    line = json.dumps({"custom_id": "a", "url": "/v1/chat/completions", "body": body}).encode()
    row = read_row("openai", line)
    assert (body, "openai.chat") == (json.loads(row.body), row.wire.name)
    assert ("m", {"many"}, True) == (lambda f: (f.model, f.asks, f.is_question))(row_facts(row))
    assert {**body, "n": 1} == json.loads(
        with_body("openai", line, json.dumps({**body, "n": 1}).encode())
    )["body"]
    embedding = json.dumps({"custom_id": "a", "url": "/v1/embeddings", "body": {"input": "x"}})
    assert False is row_facts(read_row("openai", embedding.encode())).is_question
    assert None is row_facts(read_row("anthropic", b'{"custom_id": "a", "params": {}}'))
    assert [None] * 3 == [read_row("openai", b) for b in (b"", b"[]", b'{"custom_id": 3}')]
    assert [None] * 3 == [read_result("openai", b) for b in (b"x", line, b'{"custom_id": "a"}')]
