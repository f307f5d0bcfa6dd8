"""Streams and failures over real sockets: bytes as they come, nothing left running."""

import asyncio
import gzip
import json
from collections.abc import Callable

import pytest
from starlette.types import Message
from tests.unit.guard.conftest import ANSWER, ScriptedUpstream, Seen, Served, served, whole

from stillwatch.guard.config import GuardConfig, Limits
from stillwatch.guard.gateway import Gateway
from stillwatch.guard.state import GuardState
from stillwatch.record.journal import read_journal

Make = Callable[..., GuardConfig]
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
EVENTS = [
    b'data: {"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"X"}}]}\n\n',
    b'data: {"choices":[{"index":0,"delta":{"content":"\xc3',
    b'\xa9V"}}],  "obfuscation":"aZ"}\n',
    b"\n: a comment\r\n\r\n",
    b'data: {"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":2}}\n\n',
    b"data: [DONE]\n\n",
]


async def _send_chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%b\r\n" % (len(data), data))
    await writer.drain()


def _question(**more: object) -> bytes:
    body = {"model": "m", "messages": [{"role": "user", "content": "q"}], **more}
    return json.dumps(body).encode()


async def _connect(
    gateway: Served, body: bytes
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer key-ann\r\n"
        b"content-length: %d\r\n\r\n" % len(body) + body
    )
    return reader, writer


async def _read_chunk(reader: asyncio.StreamReader) -> bytes:
    size = int(await reader.readuntil(b"\r\n"), 16)
    data = await reader.readexactly(size + 2)
    return data[:-2]


async def test_byte_exact(make_config: Make, upstream: ScriptedUpstream) -> None:
    """Every piece of a stream arrives as it was sent, before the next one is."""
    arrived = [asyncio.Event() for _ in EVENTS]

    async def script(_: Seen, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        for event, has_arrived in zip(EVENTS, arrived, strict=True):
            await _send_chunk(writer, event)
            await has_arrived.wait()
        writer.write(b"0\r\n\r\n")

    upstream.script = script
    async with served(make_config()) as gateway, asyncio.timeout(10):
        reader, writer = await _connect(gateway, _question(stream=True))
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"x-accel-buffering: no" in head
        for event, has_arrived in zip(EVENTS, arrived, strict=True):
            assert event == await _read_chunk(reader)
            has_arrived.set()
        assert b"" == await _read_chunk(reader)
        writer.close()
        (exchange,) = await gateway.record()
    assert ("XéV", 4, 2, True, None) == (
        exchange.answer, exchange.input_tokens, exchange.output_tokens, exchange.streamed,
        exchange.error,
    )  # fmt: skip


async def test_client_leaves_stream(make_config: Make, upstream: ScriptedUpstream) -> None:
    """When the client leaves a stream the model server is left too, and what was sent is kept."""

    async def script(_: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        await _send_chunk(writer, EVENTS[0])
        await reader.readexactly(1)  # ends when the gateway closes the connection

    upstream.script = script
    async with served(make_config()) as gateway, asyncio.timeout(10):
        reader, writer = await _connect(gateway, _question(stream=True))
        await reader.readuntil(b"\r\n\r\n")
        assert EVENTS[0] == await _read_chunk(reader)
        writer.close()
        await upstream.left.wait()
        await asyncio.sleep(0.05)
        (exchange,) = await gateway.record()
        assert 1 == gateway.state.metrics.value("client_gone")
    assert ("X", 200, "client_gone", True) == (
        exchange.answer, exchange.status, exchange.error, exchange.streamed
    )  # fmt: skip


async def test_client_leaves_before_answer(make_config: Make, upstream: ScriptedUpstream) -> None:
    """When the client leaves while the model still thinks, the model server is left too."""
    asked = asyncio.Event()

    async def script(_: Seen, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.readexactly(1)

    upstream.script = script
    async with served(make_config()) as gateway, asyncio.timeout(10):
        _, writer = await _connect(gateway, _question())
        await asked.wait()
        writer.close()
        await upstream.left.wait()
        await asyncio.sleep(0.05)
        (exchange,) = await gateway.record()
    assert (0, "client_gone", ()) == (exchange.status, exchange.error, exchange.answers)


async def test_gateway_stops(make_config: Make, upstream: ScriptedUpstream) -> None:
    """A stream that the gateway's own end cuts off is recorded as far as it was given out."""

    async def script(_: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        await _send_chunk(writer, EVENTS[0])
        await reader.readexactly(1)

    upstream.script = script
    async with asyncio.timeout(10), GuardState(make_config()) as state:
        sent: list[Message] = []
        is_sent = asyncio.Event()
        body = iter([{"type": "http.request", "body": _question(stream=True)}])

        async def receive() -> Message:
            found = next(body, None)
            return found if found is not None else await asyncio.Future()

        async def send(message: Message) -> None:
            sent.append(message)
            is_sent.set() if message.get("body") else None

        scope = {
            "type": "http", "method": "POST", "path": "/v1/chat/completions",
            "headers": [(b"x-api-key", b"key-ann")], "client": ("127.0.0.1", 1),
        }  # fmt: skip
        task = asyncio.create_task(Gateway(state)(scope, receive, send))
        await is_sent.wait()
        task.cancel()
    ((_, exchange),) = read_journal(state.config.journal_path)
    assert ("X", "gateway_stopped") == (exchange.answer, exchange.error)


async def test_stream_breaks_off(make_config: Make, upstream: ScriptedUpstream) -> None:
    """A stream that the model server breaks off ends broken for the client, not as if complete."""

    async def script(_: Seen, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        await _send_chunk(writer, EVENTS[0])
        writer.close()

    upstream.script = script
    async with served(make_config()) as gateway, asyncio.timeout(10):
        reader, writer = await _connect(gateway, _question(stream=True))
        await reader.readuntil(b"\r\n\r\n")
        assert EVENTS[0] == await _read_chunk(reader)
        assert b"" == await reader.read()  # no closing chunk of size 0
        writer.close()
        (exchange,) = await gateway.record()
    assert ("X", "upstream_broken") == (exchange.answer, exchange.error)


async def test_unreachable(make_config: Make) -> None:
    """A model server that is not there is a 502 in the wire's shape, and recorded."""
    async with served(make_config(upstream="http://127.0.0.1:9")) as gateway:
        status, lines, body = await gateway.ask()
        (exchange,) = await gateway.record()
    assert (502, "upstream_unreachable") == (status, json.loads(body)["error"]["code"])
    assert "x-should-retry" not in lines
    assert (502, "upstream_unreachable") == (exchange.status, exchange.error)


async def test_silent(make_config: Make, upstream: ScriptedUpstream) -> None:
    """A model server that falls silent is a 504."""

    async def script(_: Seen, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)

    upstream.script = script
    async with served(make_config(limits=Limits(read_s=0.05))) as gateway:
        status, _, body = await gateway.ask()
    assert (504, "upstream_timeout") == (status, json.loads(body)["error"]["code"])


async def test_model_errors_pass(make_config: Make, upstream: ScriptedUpstream) -> None:
    """The model server's own refusals pass as they are, with their retry headers."""
    said = b'{"error":{"message":"busy","type":"server_error","code":"overloaded"}}'
    upstream.script = whole(said, status="503 Busy", extra="retry-after: 7\r\n")
    async with served(make_config()) as gateway:
        status, lines, body = await gateway.ask()
        (exchange,) = await gateway.record()
    assert (503, "7", said) == (status, lines["retry-after"], body)
    assert (503, "overloaded", ()) == (exchange.status, exchange.error, exchange.answers)


async def test_long_answer(make_config: Make, upstream: ScriptedUpstream) -> None:
    """An answer longer than the record keeps is still delivered whole."""
    text = "y" * 500_000
    upstream.script = whole(json.dumps({"choices": [{"message": {"content": text}}]}).encode())
    async with served(make_config(limits=Limits(record_bytes=1000))) as gateway:
        _, _, body = await gateway.ask()
        (exchange,) = await gateway.record()
    assert text == json.loads(body)["choices"][0]["message"]["content"]
    assert ("cut in the record", ()) == (exchange.tags["answer"], exchange.answers)


@pytest.mark.parametrize("how", ["gzip", "br"])
async def test_compressed(make_config: Make, upstream: ScriptedUpstream, how: str) -> None:
    """A server that compresses unasked is passed as it is, and recorded where it can be read."""
    packed = gzip.compress(ANSWER)
    upstream.script = whole(packed, extra=f"content-encoding: {how}\r\n")
    async with served(make_config()) as gateway:
        status, lines, body = await gateway.ask()
        (exchange,) = await gateway.record()
    assert (200, how, packed) == (status, lines["content-encoding"], body)
    assert exchange.answer == ("XIV" if how == "gzip" else "")
    assert exchange.error == (None if how == "gzip" else "unreadable_answer")


async def test_not_an_answer(make_config: Make, upstream: ScriptedUpstream) -> None:
    """A 200 that is no chat reply passes, and is recorded as unreadable."""
    upstream.script = whole(b"<html>")
    async with served(make_config()) as gateway:
        status, _, body = await gateway.ask()
        (exchange,) = await gateway.record()
    assert (200, b"<html>", "unreadable_answer") == (status, body, exchange.error)


async def test_upload_client_leaves(make_config: Make, upstream: ScriptedUpstream) -> None:
    """A client that leaves in the midst of an upload leaves no connection behind."""
    async with served(make_config()) as gateway, asyncio.timeout(10):
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(
            b"POST /v1/files HTTP/1.1\r\nhost: h\r\nx-api-key: key-ann\r\n"
            b"content-length: 1000\r\n\r\nabc"
        )
        await asyncio.sleep(0.05)
        writer.close()
        await upstream.left.wait()
    assert [] == upstream.seen


async def test_keeps_connections(make_config: Make, upstream: ScriptedUpstream) -> None:
    """Questions in a row share connections, and a closed idle one fails none of them."""
    opened = 0
    inner = upstream.script

    async def script(
        seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        nonlocal opened
        opened = len({*ports, writer.get_extra_info("peername")[1]})
        ports.add(writer.get_extra_info("peername")[1])
        await inner(seen, reader, writer)

    ports: set[int] = set()
    upstream.script = script
    async with served(make_config()) as gateway:
        statuses = [(await gateway.ask())[0] for _ in range(5)]
    assert [200] * 5 == statuses
    assert 1 == len(ports)
