"""What the model server says arrives as it said it: streams, statuses, headers, byte for byte."""

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.guard.conftest import ScriptedUpstream, Seen, served

from stillwatch.guard.config import GuardConfig

Make = Callable[..., GuardConfig]
ROOT = Path(__file__).resolve().parents[3]
ROUTES = {
    "/v1/chat/completions": b'{"model":"m","messages":[{"role":"user","content":"q"}]}',
    "/v1/responses": b'{"model":"m","input":"q"}',
    "/v1/messages": b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"q"}]}',
    "/v1/completions": b'{"model":"m","prompt":"q"}',
    "/v1/audio/speech": b'{"model":"m","input":"q"}',
}
#: Shapes that parsers of event streams stumble over; none may be mended on the way.
ODD_STREAMS = {
    "line ends of three kinds": b"data: {}\n\ndata: {}\r\n\r\ndata: {}\r\rdata: [DONE]\n\n",
    "comments, ids, retries": b": ping\n\nid: 7\nretry: 10\nevent: x\ndata: 1\n\n:\n\n",
    "data on several lines": b'data: {"a":\ndata: 1}\n\ndata:{}\n\ndata\n\n',
    "byte order mark": b"\xef\xbb\xbfdata: {}\n\n",
    "bytes that are no UTF-8": b"data: \xff\xfe\x00\x80\n\n",
    "half a character a frame": 'data: {"t":"\u00e9\U0001f600"}\n\n'.encode(),
    "no end": b'data: {"choices":[{"index":0,"delta":{"content":"X"',
    "nothing": b"",
    "one long line": b"data: " + b"x" * 300_000 + b"\n\n",
    "an error in the midst": b'data: {}\n\nevent: error\ndata: {"error":{"code":"overloaded"}}\n\n',
    "unknown events": b'event: brand_new\ndata: {"type":"brand_new","x":[1.0,1e5,"\\u00e9"]}\n\n',
    "bytes after the end": b"data: [DONE]\n\ndata: {}\n\n",
}


async def _say(writer: asyncio.StreamWriter, stream: bytes, draw: random.Random) -> None:
    """Send a stream cut at random."""
    at = 0
    while at < len(stream):
        longest = 7 if len(stream) < 1000 else 40_000
        piece = stream[at : at + draw.randint(1, longest)]
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await asyncio.sleep(0)
        at += len(piece)
    writer.write(b"0\r\n\r\n")


@pytest.mark.parametrize("path", ROUTES)
async def test_odd_streams(make_config: Make, upstream: ScriptedUpstream, path: str) -> None:
    """No stream is mended, cut elsewhere or swallowed, and none stops the record."""
    draw, streams = random.Random(3), iter(ODD_STREAMS.values())
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )

    async def script(_: Seen, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        await _say(writer, next(streams), draw)

    upstream.script = script
    found = {}
    async with served(make_config()) as gateway, asyncio.timeout(10):
        for name in ODD_STREAMS:
            async with gateway.client.post(
                gateway.url + path, data=ROUTES[path], headers={"x-api-key": "key-ann"}
            ) as response:
                found[name] = await response.read()
        n_recorded = len(await gateway.record())
    assert ODD_STREAMS == found
    assert (0 if path == "/v1/audio/speech" else len(ODD_STREAMS)) == n_recorded


JSON = b"content-type: application/json\r\n"
ANSWERS = {
    "own error": (400, JSON, b'{"error": {"message" : "caf\xc3\xa9"}}'),
    "overloaded": (529, JSON + b"retry-after: 7\r\n", b'{"type":"error"}'),
    "rate limit": (429, b"retry-after-ms: 12\r\nx-ratelimit-remaining-tokens: 0\r\n", b"{}"),
    "no JSON": (500, b"content-type: text/html\r\n", b"<h1>oops</h1>"),
    "nothing": (200, b"", b""),
    "odd numbers": (200, JSON, b'{"a": 1.0, "b": 1E400, "a": 2}'),
    "cookies": (200, b"set-cookie: a=1\r\nset-cookie: b=2\r\nX-Odd-Case: V\r\n", b"{}"),
    "beyond ASCII": (200, b"x-name: caf\xe9\r\n", b"{}"),
    "redirect": (307, b"location: /elsewhere\r\n", b""),
}  # fmt: skip


@pytest.mark.parametrize("path", ROUTES)
async def test_answers(make_config: Make, upstream: ScriptedUpstream, path: str) -> None:
    """Status, header lines in their order, and body are the model server's own."""
    answers = iter(ANSWERS.values())

    async def script(_: Seen, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        status, lines, body = next(answers)
        head = b"HTTP/1.1 %d x\r\n%bcontent-length: %d\r\n\r\n" % (status, lines, len(body))
        writer.write(head + body)

    upstream.script = script
    body = ROUTES[path]
    ask = f"POST {path} HTTP/1.1\r\nhost: h\r\nx-api-key: key-ann\r\n".encode()
    async with served(make_config()) as gateway, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        for status, lines, expected in ANSWERS.values():
            writer.write(ask + b"content-length: %d\r\n\r\n" % len(body) + body)
            head = await reader.readuntil(b"\r\n\r\n")
            assert status == int(head[9:12])
            kept = b"".join(
                row + b"\r\n" for row in head.split(b"\r\n")[1:]
                if row and not row.lower().startswith(b"content-length")
            )  # fmt: skip
            assert lines.lower() == kept.lower()
            assert expected == await reader.readexactly(len(expected))
        writer.close()


async def test_question_as_sent(make_config: Make, upstream: ScriptedUpstream) -> None:
    """A question reaches the model server as sent: its bytes, its header lines, its target."""
    body = (
        b'{ "model":"m",\n "messages":[{"role":"user","content":"caf\\u00e9 \xc3\xa9"}], "n":1.0}'
    )
    lines = b"Anthropic-Version: 2023-06-01\r\nX-Twice: 1\r\nX-Twice: 2\r\nx-name: caf\xe9\r\n"
    for path in ROUTES:
        head = f"POST {path}?beta=true&x=%2Fy HTTP/1.1\r\nhost: h\r\nx-api-key: key-ann\r\n"
        async with served(make_config()) as gateway, asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(head.encode() + lines + b"content-length: %d\r\n\r\n" % len(body) + body)
            assert b"200" in await reader.readline()
            writer.close()
        seen = upstream.seen[-1]
        assert (f"POST {path}?beta=true&x=%2Fy HTTP/1.1", body) == (seen.line, seen.body)
        own = [
            (name, value) for name, value in seen.headers if name.lower() in {"x-twice", "x-name"}
        ]
        assert [("x-twice", "1"), ("x-twice", "2"), ("x-name", "caf\xe9")] == own
        assert "2023-06-01" == seen.header("anthropic-version")


async def test_recorded_streams(make_config: Make, upstream: ScriptedUpstream) -> None:
    """What the Anthropic library's own tests recorded passes byte by byte, and is read."""
    tests = ROOT / "build/conformance/anthropic-2.12.0/tests"
    paths = sorted([*tests.glob("lib/streaming/fixtures/*.txt"), *tests.rglob("*.sse")])
    if not paths:
        pytest.skip("bench/guard_conformance.py fetches them")
    draw, streams = random.Random(5), iter([path.read_bytes() for path in paths])
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )

    async def script(_: Seen, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        await _say(writer, next(streams), draw)

    upstream.script = script
    async with served(make_config()) as gateway, asyncio.timeout(10):
        for path in paths:
            body = json.dumps({
                "model": "m", "max_tokens": 9, "stream": True,
                "messages": [{"role": "user", "content": path.name}],
            })  # fmt: skip
            async with gateway.client.post(
                gateway.url + "/v1/messages", data=body, headers={"x-api-key": "key-ann"}
            ) as response:
                assert path.read_bytes() == await response.read()
        record = await gateway.record()
    assert [(path.name, None) for path in paths] == [(e.question, e.error) for e in record]
