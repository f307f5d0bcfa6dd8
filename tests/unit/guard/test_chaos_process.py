"""The gateway as a process, under load: killed, told to end, told to reread, out of disk."""

import asyncio
import json
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path

import aiohttp
import pytest
from tests.unit.guard.conftest import ANSWER, SECRETS, ScriptedUpstream, Seen, whole

from stillwatch.guard.config import GuardConfig, load_config
from stillwatch.guard.connections.framing import ServerConfig
from stillwatch.guard.gateway import run_gateway
from stillwatch.guard.keys import Issued, write_key_table
from stillwatch.record.journal import read_journal, verify_journal
from stillwatch.record.privacy import KeyedHash
from stillwatch.siege.processes import ProcessGroup

Make = Callable[..., GuardConfig]
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"X"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


def _frame(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def _answer(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer whole or streamed, as asked."""
    if b'"stream": true' not in seen.body:
        await whole(ANSWER)(seen, reader, writer)
        return
    writer.write(STREAM)
    for piece in (EVENT, EVENT, DONE):
        writer.write(_frame(piece))
        await asyncio.sleep(0.002)
    writer.write(b"0\r\n\r\n")


class Load:
    """Clients that ask one question after another, each its own."""

    def __init__(self, client: aiohttp.ClientSession, port: int) -> None:
        self._client, self._port = client, port
        self._numbers = count()
        self._moved = asyncio.Condition()
        self.acknowledged: list[str] = []
        self.statuses: list[int] = []

    async def ask(self, key: str = "key-ann") -> int:
        """Ask; what was answered to the end is acknowledged."""
        number = next(self._numbers)
        question = f"question {number}"
        body = {"model": "m", "stream": number % 2 == 0, "messages": [
            {"role": "user", "content": question}
        ]}  # fmt: skip
        async with self._client.post(
            f"http://127.0.0.1:{self._port}/v1/chat/completions",
            data=json.dumps(body),
            headers={"x-api-key": key},
        ) as response:
            await response.read()
            if response.status == 200:
                self.acknowledged.append(question)
                async with self._moved:
                    self._moved.notify_all()
            return response.status

    async def _go_on(self) -> None:
        while True:
            self.statuses.append(await self.ask())

    @asynccontextmanager
    async def running(self, n_clients: int = 8) -> AsyncIterator[None]:
        """Keep clients asking."""
        tasks = [asyncio.create_task(self._go_on()) for _ in range(n_clients)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def reach(self, n_answers: int) -> None:
        """Wait until so many more questions are answered."""
        goal = len(self.acknowledged) + n_answers
        async with self._moved:
            await self._moved.wait_for(lambda: len(self.acknowledged) >= goal)


async def test_killed_under_load(make_config: Make, upstream: ScriptedUpstream) -> None:
    """`kill -9` under load loses no exchange whose answer a client got to its end."""
    upstream.script = _answer
    config = make_config()
    async with asyncio.timeout(20), aiohttp.ClientSession() as client:
        with ProcessGroup() as processes:
            port = await asyncio.to_thread(processes.start, "gateway", run_gateway, config)
            load = Load(client, port)
            async with load.running():
                await load.reach(150)
                os.kill(processes.pids["gateway"], signal.SIGKILL)
                await asyncio.sleep(0.1)
    recorded = {exchange.question for _, exchange in read_journal(config.journal_path)}
    assert set() == set(load.acknowledged) - recorded
    assert len(load.acknowledged) >= 150
    check = verify_journal(config.journal_path)
    assert ((), True) == (check.broken_links, check.damaged_lines <= 1)


async def test_disk_full_under_load(make_config: Make, upstream: ScriptedUpstream) -> None:
    """With no room left to write, every question is answered; with room again, all is recorded."""
    upstream.script = _answer
    config = make_config()
    async with asyncio.timeout(20), aiohttp.ClientSession() as client:
        with ProcessGroup() as processes:
            port = await asyncio.to_thread(processes.start, "gateway", run_gateway, config)
            load = Load(client, port)
            pid = processes.pids["gateway"]
            assert 200 == await load.ask()
            used = max(path.stat().st_size for path in config.journal_path.iterdir())
            _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (used + 2000, most))
            async with load.running():
                await load.reach(60)
            headers = {"authorization": "Bearer admin-token"}
            async with client.get(f"http://127.0.0.1:{port}/metrics", headers=headers) as response:
                metrics = await response.text()
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))
            asked_again = [await load.ask() for _ in range(3)]
            last = load.acknowledged[-1]
    assert {200} == {*load.statuses, *asked_again}
    assert "stillwatch_record_failures_total 0\n" not in metrics
    kept = [exchange.question for _, exchange in read_journal(config.journal_path)]
    assert last in kept
    assert len(kept) < len(load.acknowledged)


FILE = """\
upstream = "{upstream}"
state = "state"
port = 0
keys = "{keys}"
[learner]
enabled = false
[limits]
body_bytes = {body_bytes}
"""


async def test_reload_under_load(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """A reload under load fails no question; a broken file is refused, with its reason."""
    upstream.script = _answer
    path = tmp_path / "guard.toml"
    hasher = KeyedHash(SECRETS.hash_key)
    ann, eve = Issued("ann", "key-ann"), Issued("eve", "key-eve")
    write_key_table(tmp_path / "one.jsonl", [ann], hasher)
    write_key_table(tmp_path / "two.jsonl", [ann, eve], hasher)

    def say(keys: str, body_bytes: int = 10_000, **more: str) -> None:
        text = FILE.format(upstream=upstream.url, keys=keys, body_bytes=body_bytes)
        path.write_text(more.get("begin", "") + text)

    say("one.jsonl")
    async with asyncio.timeout(20), aiohttp.ClientSession() as client:
        with ProcessGroup() as processes:
            serve = partial(run_gateway, reread=partial(load_config, path, secrets=SECRETS))
            config = load_config(path, secrets=SECRETS)
            port = await asyncio.to_thread(processes.start, "gateway", serve, config)
            pid = processes.pids["gateway"]
            load = Load(client, port)
            async with load.running(4):
                await load.reach(20)
                assert 401 == await load.ask("key-eve")
                say("two.jsonl", body_bytes=9_999)
                os.kill(pid, signal.SIGHUP)
                while await load.ask("key-eve") != 200:  # noqa: ASYNC110 - another process decides
                    await asyncio.sleep(0.01)
                for broken in ("colour = 1\n", 'host = "::1"\n', "port = \n"):
                    say("one.jsonl", begin=broken)
                    os.kill(pid, signal.SIGHUP)
                    await load.reach(15)
                say("absent.jsonl")
                os.kill(pid, signal.SIGHUP)
                await load.reach(15)
                assert 200 == await load.ask("key-eve")
    assert {200} == set(load.statuses)
    lines = map(json.loads, (tmp_path / "state" / "audit.jsonl").read_text().splitlines())
    events = [line for line in lines if line["kind"].startswith("reload")]
    assert ["reloaded", *["reload-refused"] * 4] == [event["kind"] for event in events]
    reasons = [event["detail"]["reason"] for event in events[1:]]
    for part, reason in zip(
        ("unknown key 'colour'", "host cannot change", "not TOML", "key table"),
        reasons,
        strict=True,
    ):
        assert part in reason


async def _knock(port: int) -> None:
    """Connect again and again: another process stops listening in its own time."""
    while True:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        await asyncio.sleep(0.02)


async def test_told_to_end(make_config: Make, upstream: ScriptedUpstream) -> None:
    """Told to end, a stream that ends in time ends whole, another is cut; both are recorded."""
    enough = asyncio.Event()

    async def script(
        seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(STREAM + _frame(EVENT))
        if b"short" in seen.body:
            await enough.wait()
            writer.write(_frame(DONE) + b"0\r\n\r\n")
        else:
            await reader.readexactly(1)

    async def stream(port: int, text: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"%b"}]}'
        body %= text.encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nx-api-key: key-ann\r\n"
        writer.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        await reader.readuntil(EVENT)
        return reader, writer

    upstream.script = script
    config = make_config(server=ServerConfig(drain_s=1))
    async with asyncio.timeout(20):
        with ProcessGroup() as processes:
            port = await asyncio.to_thread(processes.start, "gateway", run_gateway, config)
            (short, one), (endless, other) = await stream(port, "short"), await stream(port, "long")
            _, idle = await asyncio.open_connection("127.0.0.1", port)
            os.kill(processes.pids["gateway"], signal.SIGTERM)
            with pytest.raises(ConnectionRefusedError):
                await _knock(port)
            enough.set()
            assert (await short.read()).endswith(b"\r\n0\r\n\r\n")
            assert not (await endless.read()).endswith(b"0\r\n\r\n")
            await upstream.left.wait()
            for writer in (one, other, idle):
                writer.close()
            journal = config.journal_path
            while verify_journal(journal).n_exchanges < 2:  # noqa: ASYNC110 - another process writes
                await asyncio.sleep(0.02)
    found = {e.question: e.error for _, e in read_journal(config.journal_path)}
    assert {"short": None, "long": "gateway_stopped"} == found
