"""Formats are recognised, each from its own fixture."""

from itertools import chain
from pathlib import Path

import pytest

from stillwatch.errors import InvalidInputError
from stillwatch.logs.read import Converter
from stillwatch.logs.reader import ReadOptions
from stillwatch.logs.readers.registry import FORMATS, SEPARATE, reader_of, recognise
from stillwatch.logs.reading import Reading, ReadRequest
from stillwatch.logs.source import Source, blocks
from stillwatch.logs.unit import Block
from stillwatch.record.exchange import from_batch
from stillwatch.record.privacy import KeyedHash

FIXTURES = Path(__file__).resolve().parents[3] / "fixtures/logs"
FILES = sorted(path for path in FIXTURES.rglob("*") if path.is_file())
OPTIONS = ReadOptions(KeyedHash(bytes(32)))


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_each_fixture_is_recognised(path: Path) -> None:
    """A file in a format's true shape is recognised as that format, and no other."""
    reading = Reading(ReadRequest((str(path),), OPTIONS))
    for _ in reading.batches():
        pass
    (file,) = reading.files
    assert path.parent.name == file.format
    assert file.ground


@pytest.mark.parametrize("name", sorted(SEPARATE))
def test_separate_formats_hold_nothing_back(name: str) -> None:
    """Formats that any process may read give the same when each record is read alone."""
    found = list(chain.from_iterable(
        blocks(Source(str(path))) for path in FILES if path.parent.name == name
    ))  # fmt: skip
    whole = Converter(name, OPTIONS)
    for block in found:
        if not isinstance(block, Block) or block.kind == "batch":
            continue
        together = from_batch(whole.convert(block).batch)
        alone = []
        for place in range(len(block.records)):
            one = Block(
                block.file, block.first + place, block.kind, block.records[place : place + 1]
            )
            converter = Converter(name, OPTIONS)
            alone += from_batch(converter.convert(one).batch)
            assert 0 == converter.finish().batch.num_rows
        assert together == alone


def test_every_format_has_a_fixture() -> None:
    """No format without a fixture, no fixture without a format."""
    assert set(FORMATS) == {path.parent.name for path in FILES}
    assert list(FORMATS) == [reader_of(name).name for name in FORMATS]


def test_nothing_is_recognised_in_nothing() -> None:
    """Unknown records and empty files are of no format; an unknown name lists the known ones."""
    assert recognise([]) is None
    assert recognise([{"colour": "blue"}, {}], ["blue"]) is None
    with pytest.raises(InvalidInputError, match=r"auto or one of own, litellm"):
        reader_of("telepathy")
    assert reader_of("openai-batch") is reader_of("openai_batch")
