"""Whatever a log holds is in one count, the counts add up, and one bad part costs itself only."""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest

from stillwatch.logs.convert import describe_logs
from stillwatch.logs.fields import malformed
from stillwatch.logs.reader import Origin, ReadOptions
from stillwatch.logs.readers.registry import FORMATS
from stillwatch.logs.reading import ReadCounts, Reading, ReadRequest
from stillwatch.logs.tally import Tally
from stillwatch.logs.unit import Fault
from stillwatch.record.exchange import Exchange, from_batch
from stillwatch.record.privacy import KeyedHash

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures/logs"
FILES = sorted(path for path in FIXTURES.rglob("*") if path.is_file())
FOLDERS = sorted(path for path in FIXTURES.iterdir() if path.is_dir())
OPTIONS = ReadOptions(KeyedHash(bytes(32)))


def _read(path: Path, **how: Any) -> tuple[list[Exchange], list[Fault], ReadCounts]:
    faults: list[Fault] = []
    reading = Reading(ReadRequest((str(path),), OPTIONS, **how), on_fault=faults.append)
    found = [exchange for batch in reading.batches() for exchange in from_batch(batch)]
    return found, faults, reading.counts


def _written(folder: Path, *records: Any) -> Path:
    path = folder / "log.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def _balance(counts: ReadCounts) -> tuple[int, int]:
    met = counts.records + counts.split + counts.broken
    gone = counts.repeated + counts.quarantined + counts.not_asked + counts.joined
    return met, counts.exchanges + gone


@pytest.mark.parametrize("path", [*FILES, *FOLDERS], ids=lambda p: f"{p.parent.name}/{p.name}")
def test_counts_add_up(path: Path) -> None:
    """Of every fixture, alone and with the others of its format, each part is in one count."""
    name = path.name if path.is_dir() else path.parent.name
    found, faults, counts = _read(path, format=name)
    met, gone = _balance(counts)
    assert met == gone
    assert (len(found), len(faults)) == (counts.exchanges, counts.quarantined)
    assert counts.not_asked == sum(counts.reasons.values())
    assert counts.records > 0


@pytest.mark.parametrize(("name", "expected"), [
    ("otel", {
        "other span": 1, "other event": 1, "span of embeddings": 1, "span of invoke_agent": 1,
        "span sent twice": 1,
    }),
    ("azure_apim", {"call of another API": 1}),
    ("envoy_ai", {"tool call (MCP)": 1, "request of another path": 1}),
    ("nginx", {"request of another path or method": 2}),
    ("langfuse", {"observation of type span": 2, "observation of type embedding": 1}),
    ("bedrock", {}),
])  # fmt: skip
def test_reasons_are_told(name: str, expected: dict[str, int]) -> None:
    """What asks no model is told with what it is, to people and to programs."""
    report = describe_logs(ReadRequest((str(FIXTURES / name),), OPTIONS, format=name))
    assert expected == report.counts.reasons
    assert sum(expected.values()) == report.counts.not_asked


def test_counts_come_back_from_processes() -> None:
    """Two processes count what asks no model as one does."""
    alone, together = (_read(FIXTURES / "nginx", format="nginx", processes=n) for n in (1, 2))
    assert alone[2] == together[2]
    assert 2 == together[2].not_asked


def test_reasons_are_few(tmp_path: Path) -> None:
    """What a log calls its records does not become a reason: reasons are ours, and no content."""
    row = {"trace_id": "t", "start_time": "2026-01-01T00:00:00Z"}
    path = _written(tmp_path, *({"id": f"{n}", "type": f"kim-{n}", **row} for n in range(50)))
    assert {"observation of another type": 50} == _read(path, format="langfuse")[2].reasons


def test_joined_halves_and_shared_rows(tmp_path: Path) -> None:
    """A pair is two records and one exchange; a wrapping record is one record of many parts."""
    asked = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "q"}]}
    questions = [{"custom_id": name, "params": asked} for name in "ab"]
    answer = {"custom_id": "a", "result": {"type": "canceled"}}
    path = _written(tmp_path, {"requests": questions}, answer)
    found, _, counts = _read(path, format="anthropic_batch")
    assert (2, 2, 1, 1) == (len(found), counts.records, counts.split, counts.joined)


def test_a_broken_file_is_no_record(tmp_path: Path) -> None:
    """A place where a file broke is put aside and counted, and told from records."""
    path = tmp_path / "log.jsonl"
    path.write_bytes("no UTF-8".encode("utf-16"))
    good = tmp_path / "other.jsonl"
    good.write_text('{"exchange_id":"x","account":"u","started_at":5}\n')
    counts = _read(tmp_path)[2]
    assert (1, 1, 1) == (counts.records, counts.quarantined, counts.broken)
    assert len(set(_balance(counts))) == 1


@pytest.mark.parametrize(("name", "record", "kept"), [
    ("openai_batch", {"requests": [
        {"custom_id": "a", "body": {"model": "m", "messages": []}}, {"custom_id": "b"},
        {"custom_id": "c", "body": {"model": "m", "messages": []}},
    ]}, 2),
    ("anthropic_batch", {"requests": [7, {"custom_id": "c", "params": {"model": "m"}}]}, 1),
    ("bedrock", {"Records": [
        {"schemaType": "ModelInvocationLog", "modelId": "m"},
        {"schemaType": "ModelInvocationLog", "modelId": "m", "timestamp": "2026-01-01T00:00:00Z"},
    ]}, 1),
])  # fmt: skip
def test_one_bad_part_of_a_record(tmp_path: Path, name: str, record: Any, kept: int) -> None:
    """Of many parts in one record, one that cannot be read is put aside and the others stay."""
    found, faults, counts = _read(_written(tmp_path, record), format=name)
    assert (kept, [1]) == (len(found), [fault.line for fault in faults])
    assert len(set(_balance(counts))) == 1


class _Waiting(Tally):
    """Holds records back; some fail when their turn comes, in the way that they name."""

    def __init__(self) -> None:
        super().__init__()
        self._held: list[tuple[dict[str, Any], Origin]] = []

    def convert(self, record: Any, origin: Origin) -> Iterable[Exchange]:
        self._held.append((record, origin))
        return ()

    def finish(self) -> Iterator[Exchange]:
        while self._held:
            if self._held[0][0].get("fails") == "always":
                raise KeyError
            record, origin = self._held.pop(0)
            if record.get("fails") == "in finish":
                raise TypeError
            yield from self.built(partial(_built, record, origin), origin)


def _built(record: dict[str, Any], origin: Origin) -> Exchange:
    if record.get("fails") == "rule":
        malformed(origin, "better", got="this")
    return Exchange(
        exchange_id=str({record["id"]: 1}), account="u", started_at=5.0, origin=str(origin)
    )


class _WaitingReader:
    name, title = "waiting", "Waits"
    shape: Literal["json", "text", "rows"] = "json"

    def recognise(self, record: Any) -> str | None:
        return "waits" if isinstance(record, dict) and "waits" in record else None

    def decode(self, line: bytes) -> Any:
        return json.loads(line)

    def begin(self, options: ReadOptions) -> _Waiting:
        del options
        return _Waiting()


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> str:
    """A format of somebody's own, whose records all wait for the end."""
    module = ModuleType("waiting_reader")
    module.READER = _WaitingReader()
    monkeypatch.setitem(sys.modules, "waiting_reader", module)
    monkeypatch.setitem(FORMATS, "waiting", "waiting_reader")
    return "waiting"


def test_a_failure_at_the_end_costs_one_record(tmp_path: Path, waiting: str) -> None:
    """What fails in `finish` is put aside, with its place if the reader says it; the rest stays."""
    path = _written(
        tmp_path, {"id": 1}, {"id": []}, {"id": 2, "fails": "in finish"}, {"id": 3},
        {"id": 4, "fails": "rule"}, {"id": 5},
    )  # fmt: skip
    found, faults, counts = _read(path, format=waiting)
    assert [1, 4, 6] == [int(exchange.origin.rpartition(":")[2]) for exchange in found]
    assert Counter({
        Fault(str(path), 2, "the reader failed on it (TypeError)"): 1,
        Fault("(records that waited)", 0, "the reader failed on it (TypeError)"): 1,
        Fault(str(path), 5, "record must be better, got this"): 1,
    }) == Counter(faults)  # fmt: skip
    assert len(set(_balance(counts))) == 1


def test_a_reader_that_fails_for_ever_ends(tmp_path: Path, waiting: str) -> None:
    """A reader that never gets past a record is left in the end; nothing before it is lost."""
    path = _written(tmp_path, {"id": 1}, {"id": 2, "fails": "always"}, {"id": 3})
    found, faults, _ = _read(path, format=waiting)
    assert (1, {"the reader failed on it (KeyError)"}) == (len(found), {f.reason for f in faults})


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_odd_types_cost_their_record(tmp_path: Path, name: str) -> None:
    """Lists and objects where names are expected: every other record is read as without them."""
    path = next(p for p in FILES if p.parent.name == name and p.suffix in {".jsonl", ".log"})
    odd = [{"type": ["text"], "custom_id": {}, "id": [[]], "object": ["batch"]}, {"records": [[]]}]
    lines = path.read_bytes().splitlines()
    mixed = tmp_path / path.name
    mixed.write_bytes(b"\n".join([*lines, *(json.dumps(one).encode() for one in odd)]))
    before, with_odd = _read(path, format=name), _read(mixed, format=name)
    assert [e.account for e in before[0]] == [e.account for e in with_odd[0]]
    assert before[2].exchanges == with_odd[2].exchanges
    assert len(set(_balance(with_odd[2]))) == 1
