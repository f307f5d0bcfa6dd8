"""Requests that two servers could read in two ways, over raw sockets."""

import asyncio
import json
from collections.abc import Callable

import pytest
from tests.unit.guard.conftest import ANSWER, ScriptedUpstream, Served, served

from stillwatch.guard.config import GuardConfig
from stillwatch.guard.connections.framing import ServerConfig

Make = Callable[..., GuardConfig]
BODY = b'{"model":"m","messages":[{"role":"user","content":"q"}]}'
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nx-api-key: key-ann\r\n"
SIZED = b"content-length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
SECOND = b"GET /v1/smuggled HTTP/1.1\r\nhost: h\r\nx-api-key: key-bob\r\n\r\n"


def _chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)


async def _say(gateway: Served, data: bytes) -> tuple[int, bytes]:
    """Send bytes, close our side of nothing, and read until the gateway closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(data)
    answer = await reader.read()
    writer.close()
    return int(answer[9:12] or b"0"), answer.partition(b"\r\n\r\n")[2]


BAD_HEADS = {
    "length and chunked": (400, HEAD + b"transfer-encoding: chunked\r\n" + SIZED),
    "chunked and length": (400, HEAD + b"content-length: 5\r\n" + CHUNKED + b"0\r\n\r\n"),
    "two lengths": (400, HEAD + b"content-length: 3\r\n" + SIZED),
    "equal lengths": (400, HEAD + b"content-length: %d\r\n" % len(BODY) + SIZED),
    "list of lengths": (400, HEAD + b"content-length: 3, 3\r\n\r\nabc"),
    "signed length": (400, HEAD + b"content-length: +3\r\n\r\nabc"),
    "hex length": (400, HEAD + b"content-length: 0x3\r\n\r\nabc"),
    "endless length": (400, HEAD + b"content-length: 99999999999999999999999\r\n\r\nabc"),
    "bare LF in the head": (400, HEAD.replace(b"\r\n", b"\n") + b"content-length: 0\n\n"),
    "bare LF after a header": (400, HEAD + b"x: y\n" + SIZED),
    "bare CR": (400, HEAD + b"x: y\rz: 1\r\n" + SIZED),
    "folded header": (400, HEAD + b"x: y\r\n z\r\n" + SIZED),
    "folded coding": (400, HEAD + b"transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    "space before colon": (400, HEAD + b"content-length : 3\r\n\r\nabc"),
    "space before first header": (400, b"POST / HTTP/1.1\r\n host: h\r\n\r\n"),
    "NUL in a value": (400, HEAD + b"x: a\0b\r\n" + SIZED),
    "NUL in a name": (400, HEAD + b"x\0: a\r\n" + SIZED),
    "coding xchunked": (501, HEAD + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
    "identity, chunked": (501, HEAD + b"transfer-encoding: identity, chunked\r\n\r\n0\r\n\r\n"),
    "gzip, chunked": (501, HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "chunked, identity": (400, HEAD + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    "two coding lines": (501, HEAD + b"transfer-encoding: identity\r\n" + CHUNKED + b"0\r\n\r\n"),
    "vertical tab": (400, HEAD + b"transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    "chunked in 1.0": (501, HEAD.replace(b"1.1", b"1.0") + CHUNKED + b"0\r\n\r\n"),
    "no host": (400, b"GET /v1/models HTTP/1.1\r\nx-api-key: key-ann\r\n\r\n"),
    "two hosts": (400, b"GET /v1/models HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"),
    "two keys": (400, HEAD + b"x-api-key: key-bob\r\n" + SIZED),
    "HTTP/0.9": (505, b"GET /v1/models\r\n\r\n"),
    "HTTP/2 in clear": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "another protocol": (501, b"SOURCE /v1/models ICE/1.0\r\n\r\n"),
    "CONNECT": (501, b"CONNECT a:1 HTTP/1.1\r\nhost: h\r\n\r\n" + SECOND),
    "TRACE": (501, b"TRACE / HTTP/1.1\r\nhost: h\r\n\r\n"),
    "absolute target": (400, b"GET http://evil/v1/models HTTP/1.1\r\nhost: h\r\n\r\n"),
    "target with a fragment": (400, b"GET /v1/models#x HTTP/1.1\r\nhost: h\r\n\r\n"),
    "target with a space": (400, b"GET /v1/mo dels HTTP/1.1\r\nhost: h\r\n\r\n"),
    "target beyond ASCII": (400, b"GET /v1/\xff HTTP/1.1\r\nhost: h\r\n\r\n"),
    "upgrade with a body": (501, HEAD + b"connection: upgrade\r\nupgrade: h2c\r\n" + SIZED),
    "websocket": (501, HEAD + b"connection: upgrade\r\nupgrade: websocket\r\n\r\n"),
    "not HTTP": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
}  # fmt: skip


async def test_ambiguous_heads(make_config: Make, upstream: ScriptedUpstream) -> None:
    """What could be read in two ways is refused, nothing of it reaches the model server."""
    async with served(make_config()) as gateway, asyncio.timeout(10):
        found = {name: await _say(gateway, data + SECOND) for name, (_, data) in BAD_HEADS.items()}
        refused = gateway.state.metrics.text({})
    assert {name: status for name, (status, _) in BAD_HEADS.items()} == {
        name: status for name, (status, _) in found.items()
    }
    assert all("code" in json.loads(body)["error"] for _, body in found.values())
    assert [] == upstream.seen
    assert 'stillwatch_refused_at_door_total{code="bad_transfer_coding"}' in refused


BAD_PATHS = [
    "/v1/chat/./completions", "/v1/chat/completions/.",
    "/v1/models/../chat/completions", "/v1/chat/completions/..", "/v1/chat%2f%2e%2e/completions",
    "/v1/chat/completions/%2e", "/v1%5cchat%5ccompletions", "/v1/chat/completions;x=1",
    "/v1/chat/completions%00", "/v1/chat/%2e%2E/models",
]  # fmt: skip


async def test_other_spellings_of_a_route(make_config: Make, upstream: ScriptedUpstream) -> None:
    """A path that the model server could take for another one than the gateway does is refused."""
    async with served(make_config()) as gateway, asyncio.timeout(10):
        for path in BAD_PATHS:
            head = HEAD.replace(b"/v1/chat/completions", path.encode())
            status, _ = await _say(gateway, head + SIZED)
            assert (path, 400) == (path, status)
        # Another spelling that all servers read alike is read and recorded as what it is.
        head = HEAD.replace(b"/chat/", b"/%63hat/") + b"connection: close\r\n"
        assert (200, ANSWER) == await _say(gateway, head + SIZED)
        (exchange,) = await gateway.record()
    assert "q" == exchange.question
    assert ["POST /v1/%63hat/completions HTTP/1.1"] == [seen.line for seen in upstream.seen]


BAD_CHUNKS = {
    "0x": b"0x3\r\nabc\r\n0\r\n\r\n",
    "space": b"3 \r\nabc\r\n0\r\n\r\n",
    "bare LF": b"3\nabc\n0\n\n",
    "sign": b"-3\r\nabc\r\n0\r\n\r\n",
    "overflow": b"ffffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "longer than said": b"3\r\nabcdef\r\n0\r\n\r\n",
    "LF in an extension": b"3;a\nb\r\nabc\r\n0\r\n\r\n",
    "CRLF in a quoted extension": b'3;a="x\r\ny"\r\nabc\r\n0\r\n\r\n',
    "length in a trailer": b"3\r\nabc\r\n0\r\ncontent-length: 5\r\n\r\n",
}


async def test_bad_chunks(make_config: Make, upstream: ScriptedUpstream) -> None:
    """A body whose chunks are malformed is never forwarded as if it were whole."""
    async with served(make_config()) as gateway, asyncio.timeout(10):
        found = {
            name: (await _say(gateway, HEAD + CHUNKED + chunks + SECOND))[0]
            for name, chunks in BAD_CHUNKS.items()
        }
        assert [] == await gateway.record()
    assert dict.fromkeys(BAD_CHUNKS, 400) == found
    assert [] == upstream.seen


async def test_same_framing_upstream(make_config: Make, upstream: ScriptedUpstream) -> None:
    """Chunks, their extensions and trailers end here; the question goes on with one length."""
    chunks = _chunk(BODY[:9], b';ext="v"') + _chunk(BODY[9:], b";a=b;c")
    trailers = b"0\r\nx-api-key: key-bob\r\nx-stillwatch-mark: forged\r\nx-late: 1\r\n\r\n"
    head = HEAD + b"connection: close\r\n" + CHUNKED
    async with served(make_config()) as gateway, asyncio.timeout(10):
        assert (200, ANSWER) == await _say(gateway, head + chunks + trailers)
        (exchange,) = await gateway.record()
    (seen,) = upstream.seen
    assert (BODY, str(len(BODY))) == (seen.body, seen.header("content-length"))
    assert (None, None) == (seen.header("transfer-encoding"), seen.header("x-late"))
    assert ("ann", None) == (exchange.account, seen.header("x-stillwatch-mark"))


async def test_underscores_forge_nothing(make_config: Make, upstream: ScriptedUpstream) -> None:
    """A header that a server would read as a checked one, `_` for `-`, does not go on."""
    forged = b"x_stillwatch_mark: f\r\nX_Forwarded_For: 9.9.9.9\r\nX_API_KEY: k\r\nx_mine: 1\r\n"
    async with served(make_config()) as gateway, asyncio.timeout(10):
        status, _ = await _say(gateway, HEAD + forged + b"connection: close\r\n" + SIZED)
    assert 200 == status
    names = {name for name, _ in upstream.seen[0].headers}
    assert {"x_mine"} == {name for name in names if "_" in name}


async def test_pipelined(make_config: Make, upstream: ScriptedUpstream) -> None:
    """A second request before the first one's answer is not served: the connection ends."""
    async with served(make_config()) as gateway, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(HEAD + SIZED + SECOND)
        answer = await reader.read()
        writer.close()
    assert answer.endswith(ANSWER)
    assert 1 == answer.count(b"HTTP/1.1 ")
    assert ["POST /v1/chat/completions HTTP/1.1"] == [seen.line for seen in upstream.seen]


async def test_kept_connection(make_config: Make, upstream: ScriptedUpstream) -> None:
    """Requests after one another share a connection, also after one refused before its body."""
    wrong = HEAD.replace(b"key-ann", b"nobody")
    async with served(make_config()) as gateway, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        statuses = []
        for data in (HEAD + SIZED, wrong + SIZED, HEAD + SIZED):
            writer.write(data[:-20])
            await asyncio.sleep(0.02)
            writer.write(data[-20:])
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            statuses.append(int(head[9:12]))
        writer.close()
    assert [200, 401, 200] == statuses
    assert 2 == len(upstream.seen)


async def test_old_http(make_config: Make) -> None:
    """HTTP/1.0, as proxies speak it by default, gets an answer without chunks."""
    async with served(make_config()) as gateway, asyncio.timeout(10):
        old = HEAD.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"host: h\r\n", b"")
        assert (200, ANSWER) == await _say(gateway, old + SIZED)


def test_settings_are_checked() -> None:
    """A bound of nothing is refused by its name."""
    with pytest.raises(ValueError, match="header_s"):
        ServerConfig(header_s=0)
