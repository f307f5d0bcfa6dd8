"""What is on record when, and what gives way when there is no room."""

import asyncio
import json
import os
import resource
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.guard.conftest import ANSWER, SECRETS, ScriptedUpstream, served, whole

from stillwatch.errors import ConfigError, InvalidInputError
from stillwatch.guard.config import GuardConfig, Limits, load_config
from stillwatch.guard.gateway import Gateway
from stillwatch.guard.recording.keeping import RecordConfig
from stillwatch.guard.state import GuardState
from stillwatch.record.journal import read_journal

Make = Callable[..., GuardConfig]
STREAM = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    b"a\r\ndata: {}\n\n\r\n0\r\n\r\n"
)


async def _told(config: GuardConfig) -> list[int]:
    """Ask by hand as an ASGI server; gives the exchanges on record when the answer's end came."""
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}]}).encode()
    n_recorded: list[int] = []

    async def receive() -> dict[str, Any]:
        if not n_asked:
            n_asked.append(1)
            return {"type": "http.request", "body": body, "more_body": False}
        await asyncio.sleep(3600)
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        found = sum(1 for _ in read_journal(config.journal_path))
        for name, value in message.get("headers", ()):
            if name == b"content-length":
                due.append(int(value))
        sent.append(len(message.get("body", b"")))
        # A client that knows the length has its end with the last byte.
        has_all = bool(due) and sum(sent) >= due[0]
        if not n_recorded and (has_all or not message.get("more_body", True)):
            n_recorded.append(found)

    due: list[int] = []
    sent: list[int] = []

    n_asked: list[int] = []
    scope = {
        "type": "http", "method": "POST", "path": "/v1/chat/completions", "query_string": b"",
        "headers": [(b"authorization", b"Bearer key-ann")], "client": ("127.0.0.1", 1),
    }  # fmt: skip
    async with GuardState(config) as state:
        await asyncio.create_task(Gateway(state)(scope, receive, send))  # type: ignore[arg-type]
    assert 1 == sum(1 for _ in read_journal(config.journal_path))
    return n_recorded


@pytest.mark.parametrize("kind", ["small", "large", "streamed"])
@pytest.mark.parametrize(("acknowledge", "n"), [("written", 1), ("synced", 1), ("sent", 0)])
async def test_before_the_end(
    make_config: Make, upstream: ScriptedUpstream, acknowledge: Any, n: int, kind: str
) -> None:
    """When the end of an answer leaves, its exchange is on record, unless it was told otherwise."""
    if kind == "large":
        upstream.script = whole(ANSWER + b" " * 600_000)
    if kind == "streamed":

        async def script(_: object, __: object, writer: asyncio.StreamWriter) -> None:
            writer.write(STREAM)
            await writer.drain()

        upstream.script = script
    config = make_config(record=RecordConfig(acknowledge=acknowledge))
    assert [n] == await _told(config)


async def test_refusals_too(make_config: Make, upstream: ScriptedUpstream) -> None:
    """A failure that the gateway tells itself is on record before it is told."""
    upstream.script = whole(ANSWER, status="500 Oh no")
    assert [1] == await _told(make_config())
    config = make_config(upstream="http://127.0.0.1:9", state=make_config().state / "other")
    assert [1] == await _told(config)


async def test_hung_disk(
    make_config: Make, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk hangs texts give way first and rows after them; everybody is served."""
    hung = threading.Event()
    monkeypatch.setattr(os, "fdatasync", lambda _: hung.wait())
    limits = Limits(record_queue_bytes=20_000)
    async with served(make_config(limits=limits)) as gateway:
        for _ in range(60):
            assert 200 == (await gateway.ask("word " * 400))[0]
        metrics, recorder = gateway.state.metrics, gateway.state.recorder
        assert 60 == metrics.value("recorded") + metrics.value("record_rows_dropped")
        assert 0 < metrics.value("record_bodies_dropped") < 60
        assert 0 < metrics.value("record_rows_dropped") < 60
        assert recorder.queued_bytes <= 20_000
        assert recorder.is_failing
        hung.set()
        await recorder.flush()
        assert 200 == (await gateway.ask("word " * 400))[0]
        assert not recorder.is_failing
        record = await gateway.record()
    texts = [bool(exchange.question) for exchange in record]
    assert [True, False, True] == [texts[0], texts[-2], texts[-1]]
    assert "dropped" == record[-2].tags["bodies"]
    assert (12, "ann", "house-skills") == (
        (record[-2].input_tokens or 0) + (record[-2].output_tokens or 0),
        record[-2].account,
        record[-2].model,
    )


async def test_full_disk(make_config: Make, upstream: ScriptedUpstream) -> None:
    """On a full disk a row without its texts is kept where one with them finds no room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with served(make_config()) as gateway:
        await gateway.ask("first")
        await gateway.state.recorder.flush()
        used = (gateway.state.config.journal_path / "journal-00000001.jsonl").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (used + 2_000, hard))
        try:
            statuses = [(await gateway.ask("word " * 1000))[0] for _ in range(10)]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert {200} == set(statuses)
        metrics = gateway.state.metrics
        n_thin, n_lost = metrics.value("record_bodies_dropped"), metrics.value("record_failures")
        assert (10, True, True) == (n_thin + n_lost, n_thin > 0, n_lost > 0)
        await gateway.ask("last")
        record = await gateway.record()
    questions = [exchange.question for exchange in record]
    assert ["first", *[""] * int(n_thin), "last"] == questions


async def test_disk_that_is_waited_for(
    make_config: Make, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `synced`, an answer waits for the disk, but not for ever."""
    hung = threading.Event()
    monkeypatch.setattr(os, "fdatasync", lambda _: hung.wait())
    record = RecordConfig(acknowledge="synced", wait_s=0.05)
    async with served(make_config(record=record)) as gateway:
        assert 200 == (await gateway.ask())[0]
        metrics = gateway.state.metrics
        assert (1, 0) == (metrics.value("record_late"), metrics.value("recorded"))
        hung.set()
        await gateway.state.recorder.flush()
        assert 1 == metrics.value("recorded")


async def test_record_that_cannot_be_made(
    make_config: Make, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault in the making of a record costs the record, not the answer, and quotes nothing."""

    def fault(*_: object) -> None:
        text = "roman 14"
        raise KeyError(text)

    async with served(make_config()) as gateway:
        gateway.state.recorder.noticed = fault
        assert (200, ANSWER) == (await gateway.ask("roman 14"))[::2]
        assert 1 == gateway.state.metrics.value("record_failures")
        assert ["KeyError"] == [r.getMessage().split(": ")[-1] for r in caplog.records]


@pytest.mark.parametrize("bodies", ["hash", "drop"])
async def test_bodies(make_config: Make, upstream: ScriptedUpstream, bodies: Any) -> None:
    """Texts that are not to be kept are not on the disk; who asked, when and how much is."""
    async with served(make_config(record=RecordConfig(bodies=bodies))) as gateway:
        await gateway.ask("confidential confidential roman 14")
        (exchange,) = await gateway.record()
        journal = (gateway.state.config.journal_path / "journal-00000001.jsonl").read_bytes()
    assert (b"confidential" in journal, b"XIV" in journal) == (False, False)
    assert ("ann", "house-skills", 3) == (exchange.account, exchange.model, exchange.output_tokens)
    words = exchange.question.split()
    assert words == [] if bodies == "drop" else words[0] == words[1] != words[2]


async def test_settings(tmp_path: Path) -> None:
    """The file's `[record]` table is read, and a wrong word in it refused by its name."""
    path = tmp_path / "guard.toml"
    path.write_text(
        'upstream = "http://127.0.0.1:1"\nstate = "s"\n[record]\nbodies = "drop"\n'
        'acknowledge = "synced"\n[limits]\nrecord_queue_bytes = 1000\n'
    )
    config = load_config(path, secrets=SECRETS)
    assert (RecordConfig("drop", "synced"), 1000) == (
        config.record,
        config.limits.record_queue_bytes,
    )
    path.write_text('upstream = "http://127.0.0.1:1"\nstate = "s"\n[record]\nbodies = "some"\n')
    with pytest.raises(ConfigError, match="bodies"):
        load_config(path, secrets=SECRETS)
    with pytest.raises(InvalidInputError, match="acknowledge must be one of written"):
        RecordConfig(acknowledge="soon")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="wait_s"):
        RecordConfig(wait_s=-1)
