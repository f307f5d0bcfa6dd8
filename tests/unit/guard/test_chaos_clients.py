"""Clients that are slow, greedy, or gone."""

import asyncio
import json
from collections.abc import Callable

import pytest
from tests.unit.guard.conftest import ANSWER, ScriptedUpstream, Seen, Served, served

from stillwatch.guard.config import GuardConfig, Limits
from stillwatch.guard.connections.framing import ServerConfig

Make = Callable[..., GuardConfig]
BODY = b'{"model":"m","messages":[{"role":"user","content":"q"}]}'
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nx-api-key: key-ann\r\n"
SIZED = b"content-length: %d\r\n\r\n" % len(BODY) + BODY
QUICK = ServerConfig(
    header_s=0.2, body_s=0.2, body_bytes_per_s=10_000, idle_s=0.4, stall_s=0.2, connections=3
)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"


async def _open(gateway: Served) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", gateway.port)


def _code(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head[9:12]), json.loads(body)["error"]["code"]


async def _drip(writer: asyncio.StreamWriter, byte: bytes, pause_s: float) -> None:
    while True:
        writer.write(byte)
        await asyncio.sleep(pause_s)


async def test_slow_head(make_config: Make) -> None:
    """A head that comes byte by byte is ended at its deadline, however steadily it comes."""
    async with served(make_config(server=QUICK)) as gateway, asyncio.timeout(5):
        reader, writer = await _open(gateway)
        writer.write(HEAD + b"x: ")
        dripping = asyncio.create_task(_drip(writer, b"a", 0.02))
        assert (408, "header_timeout") == _code(await reader.read())
        dripping.cancel()
        writer.close()
        # A connection on which nothing was ever said is closed without a word.
        reader, writer = await _open(gateway)
        assert b"" == await reader.read()
        writer.close()


@pytest.mark.parametrize("pause_s", [0.02, 9.0], ids=["dripping", "silent"])
async def test_slow_body(make_config: Make, upstream: ScriptedUpstream, pause_s: float) -> None:
    """A body that stops, or drips below the slowest pace, is ended and goes nowhere."""
    async with served(make_config(server=QUICK)) as gateway, asyncio.timeout(5):
        reader, writer = await _open(gateway)
        writer.write(HEAD + b"content-length: 100000\r\n\r\n{")
        dripping = asyncio.create_task(_drip(writer, b"a", pause_s))
        assert (408, "body_timeout") == _code(await reader.read())
        dripping.cancel()
        writer.close()
    assert [] == upstream.seen


async def test_slow_upload_in_time(make_config: Make, upstream: ScriptedUpstream) -> None:
    """An upload that is slow, but not below the slowest pace, is waited for."""
    body = BODY + b" " * 16_000
    async with served(make_config(server=QUICK)) as gateway, asyncio.timeout(5):
        reader, writer = await _open(gateway)
        writer.write(HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body))
        for start in range(0, len(body), 1600):
            writer.write(body[start : start + 1600])
            await asyncio.sleep(0.05)  # 32,000 bytes a second
        assert (await reader.read()).endswith(ANSWER)
        writer.close()
    assert body == upstream.seen[0].body


async def test_long_heads(make_config: Make, upstream: ScriptedUpstream) -> None:
    """Heads and targets beyond their bounds are refused, whole or never ending."""
    heads = {
        "one line": HEAD + b"x: " + b"a" * 33_000 + b"\r\n\r\n",
        "many lines": HEAD + b"x: a\r\n" * 6_000 + b"\r\n",
        "no end": HEAD + b"x: " + b"a" * 300_000,
        "name without end": HEAD + b"a" * 300_000,
        "target": b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nhost: h\r\n\r\n",
        "target without end": b"GET /" + b"a" * 300_000,
    }
    found = {}
    async with served(make_config()) as gateway, asyncio.timeout(5):
        for name, head in heads.items():
            reader, writer = await _open(gateway)
            writer.write(head)
            found[name] = _code(await reader.read())[0]
            writer.close()
    expected = dict.fromkeys(heads, 431) | {"target": 414}
    assert expected == found
    assert [] == upstream.seen


async def test_long_body(make_config: Make, upstream: ScriptedUpstream) -> None:
    """A body beyond the bound is refused, and the refusal is read although more is on its way."""
    async with (
        served(make_config(limits=Limits(body_bytes=1000))) as gateway,
        asyncio.timeout(5),
    ):
        for framing in (b"content-length: 3000000\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n"):
            reader, writer = await _open(gateway)
            piece = (
                b"10000\r\n" + b"a" * 65_536 + b"\r\n" if b"chunked" in framing else b"a" * 65_536
            )
            writer.write(HEAD + framing + piece * 40)
            assert (413, "request_too_large") == _code(await reader.read())
            writer.close()
    assert [] == upstream.seen


async def test_chunk_overhead(make_config: Make, upstream: ScriptedUpstream) -> None:
    """Chunk extensions and trailers without end are cut off; a body in single bytes is not."""
    chunked = HEAD + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    small = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY + b" " * 20_000) + b"0\r\n\r\n"
    async with served(make_config()) as gateway, asyncio.timeout(5):
        for rest in (b"1;" + b"e" * 400_000, b"0\r\nx: " + b"t" * 400_000):
            reader, writer = await _open(gateway)
            writer.write(chunked + rest)
            assert (400, "bad_body") == _code(await reader.read())
            writer.close()
        assert [] == upstream.seen
        reader, writer = await _open(gateway)
        writer.write(chunked + small)
        assert (await reader.read()).endswith(ANSWER)
        writer.close()


async def test_idle_and_too_many(make_config: Make) -> None:
    """Idle connections are closed, and beyond the most at once new ones are told so."""
    async with served(make_config(server=QUICK)) as gateway, asyncio.timeout(5):
        kept = [await _open(gateway) for _ in range(3)]
        for reader, writer in kept:
            writer.write(HEAD + SIZED)
            await reader.readuntil(ANSWER)
        reader, writer = await _open(gateway)
        assert (503, "too_many_connections") == _code(await reader.read())
        writer.close()
        for reader, writer in kept:
            assert b"" == await reader.read()
            writer.close()


async def test_client_never_reads(make_config: Make, upstream: ScriptedUpstream) -> None:
    """A client that leaves its answer unread is left, its memory bounded, the model server too."""
    written = 0

    async def script(_: Seen, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(STREAM_HEAD + b"\r\n")
        while True:
            writer.write(b"data: " + b"x" * 65_536 + b"\n\n")
            written += 65_536
            await writer.drain()

    upstream.script = script
    async with served(make_config(server=QUICK)) as gateway, asyncio.timeout(5):
        _, writer = await _open(gateway)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(HEAD + SIZED)
        await upstream.left.wait()
        writer.transport.abort()
        (exchange,) = await gateway.record()
    assert "client_gone" == exchange.error
    assert written < 64 * 2**20


ROUTES = {
    "/v1/chat/completions": BODY,
    "/v1/responses": b'{"model":"m","input":"q"}',
    "/v1/messages": b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"q"}]}',
    "/v1/completions": b'{"model":"m","prompt":"q"}',
    "/v1/embeddings": b'{"model":"m","input":"q"}',
}


def _question(path: str, *, streamed: bool) -> bytes:
    body = ROUTES[path][:-1] + (b',"stream":true}' if streamed else b"}")
    head = f"POST {path} HTTP/1.1\r\nhost: h\r\nx-api-key: key-ann\r\n".encode()
    return head + b"content-length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("path", ROUTES)
async def test_client_vanishes(
    make_config: Make, upstream: ScriptedUpstream, path: str, streamed: bool
) -> None:
    """On every route, streaming or not yet, a client that leaves takes its question along."""
    asked = asyncio.Event()

    async def script(_: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if streamed:
            writer.write(STREAM_HEAD + b"\r\ndata: {}\n\n")
        asked.set()
        await reader.readexactly(1)  # ends when the gateway closes the connection

    upstream.script = script
    async with served(make_config()) as gateway, asyncio.timeout(5):
        reader, writer = await _open(gateway)
        writer.write(_question(path, streamed=streamed))
        await asked.wait()
        if streamed:
            await reader.readuntil(b"data: {}\n\n")
        writer.close()
        await upstream.left.wait()
        if path != "/v1/embeddings":
            await asyncio.sleep(0.05)
            found = await gateway.record()
            assert ["client_gone"] == [exchange.error for exchange in found]


@pytest.mark.parametrize("sends_more", [b"", HEAD + SIZED, b"\x00garbage"])
async def test_client_vanishes_after_more(
    make_config: Make, upstream: ScriptedUpstream, sends_more: bytes
) -> None:
    """A client that sent more before it left is noticed as well."""
    asked = asyncio.Event()

    async def script(_: Seen, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.readexactly(1)

    upstream.script = script
    async with served(make_config()) as gateway, asyncio.timeout(5):
        _, writer = await _open(gateway)
        writer.write(HEAD + SIZED)
        await asked.wait()
        writer.write(sends_more)
        await asyncio.sleep(0.02)
        writer.close()
        await upstream.left.wait()
    assert 1 == len(upstream.seen)


async def test_upload_abandoned(make_config: Make, upstream: ScriptedUpstream) -> None:
    """A client that leaves an upload which the model server does not take is noticed too."""
    came = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        came.set()
        await asyncio.sleep(0.3)  # takes no more, and then looks whether anybody is there
        while await reader.read(65_536):
            pass
        upstream.left.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1024)
    port = server.sockets[0].getsockname()[1]
    settings = ServerConfig(header_s=0.2)
    config = make_config(upstream=f"http://127.0.0.1:{port}", server=settings)
    async with served(config) as gateway, asyncio.timeout(5):
        _, writer = await _open(gateway)
        head = HEAD.replace(b"/chat/completions", b"/audio/transcriptions")
        writer.write(head + b"content-length: 90000000\r\n\r\n" + b"a" * 20_000_000)
        await came.wait()
        writer.transport.abort()
        await upstream.left.wait()
    server.close()
