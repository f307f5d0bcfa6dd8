"""Blocks read ahead by others give what one process reading everything in order gives."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.logs.order import Order, read_apart
from stillwatch.logs.read import Converted
from stillwatch.logs.reader import ReadOptions
from stillwatch.logs.readers import otel
from stillwatch.logs.readers.registry import LOOSE, SEPARATE
from stillwatch.logs.reading import Reading, ReadRequest
from stillwatch.logs.unit import Block, Fault
from stillwatch.record.exchange import Exchange, from_batch
from stillwatch.record.privacy import KeyedHash

OPTIONS = ReadOptions(KeyedHash(bytes(32)))
_CHAT = {"model": "m", "messages": [{"role": "user", "content": "q"}]}


def _span(n: int) -> dict[str, Any]:
    return {
        "traceId": "ab", "spanId": f"c{n}", "startTimeUnixNano": 1_793_620_800_000_000_000 + n,
        "attributes": {"gen_ai.request.model": "m"},
    }  # fmt: skip


def _event(n: int) -> dict[str, Any]:
    return {
        "traceId": "ab", "spanId": f"c{n}", "timeUnixNano": "1793620801000000000",
        "eventName": "gen_ai.user.message", "body": {"content": f"q{n}"}, "attributes": {},
    }  # fmt: skip


def _observation(n: int, **more: Any) -> dict[str, Any]:
    return {
        "id": f"o{n}", "trace_id": f"t{n % 5}", "type": "GENERATION",
        "start_time": "2026-01-01T00:00:00Z", "input": f"q{n}", **more,
    }  # fmt: skip


def _trace(n: int) -> dict[str, Any]:
    return {"id": f"t{n % 5}", "timestamp": "2026-01-01T00:00:00Z", "user_id": f"u{n % 5}"}


def _pair(n: int, **response: Any) -> dict[str, Any]:
    reply = {"id": f"r{n}", "object": "chat.completion", "created": 1_767_000_000, "choices": []}
    return {"request": _CHAT, "response": {**reply, **response}}


def _response(n: int) -> dict[str, Any]:
    body = {"id": f"r{n}", "object": "response", "created_at": 1_767_000_000, "output": []}
    asked = {"model": "m", "input": "q", "previous_response_id": f"r{n - 2}"}
    return {"request": asked, "response": body}


def _chunk(n: int) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": f"{n}"}, "finish_reason": None}
    return {"id": f"s{n % 3}", "object": "chat.completion.chunk", "created": 1_767_000_000,
            "model": "m", "choices": [choice]}  # fmt: skip


#: Format -> what a record of it may be, by a number.
_RECORDS: dict[str, list[Any]] = {
    "otel": [_span, _event, lambda n: _span(n % 7), lambda _: 7],
    "langfuse": [_observation, lambda n: _observation(n, user_id="u"), _trace, lambda _: {}],
    "openai_raw": [_pair, _response, _chunk, lambda _: {"type": "error"}],
}


def _blocks(name: str, kinds: list[list[int]]) -> Iterator[Block]:
    line = 1
    for numbers in kinds:
        records = [_RECORDS[name][kind](line + at) for at, kind in enumerate(numbers)]
        yield Block("f", line, "lines", [json.dumps(record).encode() for record in records])
        line += len(numbers)


def _all(name: str, blocks: list[Block], *, ahead: bool) -> tuple[list[Exchange], Any]:
    order = Order(name, OPTIONS)
    found: list[Converted] = []
    for block in blocks:
        is_read = ahead and order.is_worth_it
        found += order.take(block, read_apart(name, OPTIONS, block) if is_read else None)
    found += order.finish()
    exchanges = [exchange for one in found for exchange in from_batch(one.batch)]
    faults = [fault for one in found for fault in one.faults]
    sums = [
        (one.n_records, one.n_joined, one.n_split, sum(one.not_asked.values())) for one in found
    ]
    return exchanges, (faults, *map(sum, zip(*sums, strict=True)))


@pytest.mark.parametrize("name", sorted(_RECORDS))
@given(kinds=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=12), min_size=1))
def test_reading_ahead_changes_nothing(name: str, kinds: list[list[int]]) -> None:
    """Exchanges, their order, faults and counts are those of reading in order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(otel, "WINDOW", 10)
        blocks = list(_blocks(name, kinds))
        assert _all(name, blocks, ahead=False) == _all(name, blocks, ahead=True)


def test_far_parts_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event blocks behind its span is joined to it, as long as the span would have waited."""
    monkeypatch.setattr(otel, "WINDOW", 10)
    for apart, n_expected in ((8, 9), (14, 16)):
        records = [*map(_span, range(apart)), _event(0), _span(99)]
        blocks = [
            Block("f", n + 1, "lines", [json.dumps(record).encode()])
            for n, record in enumerate(records)
        ]
        found, _ = _all("otel", blocks, ahead=True)
        assert (n_expected, "q0") == (len(found), "".join(one.question for one in found))


@pytest.mark.parametrize("name", ["langfuse", "openai_raw", "otel"])
def test_processes_change_nothing(tmp_path: Path, name: str) -> None:
    """Two processes give what one does, of logs whose records stand apart and of others."""
    draw = random.Random(3)
    path = tmp_path / "log.jsonl"
    with path.open("w") as file:
        for n in range(1500):
            kind = 0 if name == "openai_raw" else draw.choice([0, 1]) if n > 1200 else 0
            record = _RECORDS[name][kind](n)
            if name == "langfuse" and n % 400:
                record["user_id"] = "u"
            file.write(json.dumps({**record, "padding": "x" * 4000}) + "\n")
        file.write("{broken\n")
    ended = []
    for processes in (1, 2):
        faults: list[Fault] = []
        request = ReadRequest((str(path),), OPTIONS, format=name, processes=processes)
        reading = Reading(request, on_fault=faults.append)
        found = [exchange for batch in reading.batches() for exchange in from_batch(batch)]
        ended.append((found, faults, reading.counts))
    assert ended[0] == ended[1]
    assert 1 == len(ended[0][1])
    assert len(ended[0][0]) > 1000


def test_what_does_not_stand_apart_is_no_longer_tried() -> None:
    """A log whose blocks all need each other is read ahead a few times only."""
    blocks = list(_blocks("langfuse", [[0]] * 40))
    order = Order("langfuse", OPTIONS)
    tried = 0
    for block in blocks:
        if order.is_worth_it:
            tried += 1
            assert read_apart("langfuse", OPTIONS, block) is None
        list(order.take(block, None))
    assert 4 == tried


def test_loose_and_separate() -> None:
    """No format is both."""
    assert not LOOSE & SEPARATE
